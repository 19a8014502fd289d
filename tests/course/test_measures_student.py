"""The recorded comparison belongs to the shipped teacher and student, and the rulers measure what they say."""

import json
import math
from dataclasses import replace

import pytest
import torch

from sora_edu.checkpoint import verify
from sora_edu.config import TINY
from sora_edu.course.lesson_09 import student as measures
from sora_edu.course.lesson_09.figures import show_steps
from sora_edu.errors import InputError
from sora_edu.pipeline import Pipeline
from sora_edu.world.render import render


class Fake(Pipeline):
    """A pipeline that shows the same clips, whatever it is asked for."""

    def __init__(self, clips=None, **preset):
        self.preset, self.clips = replace(TINY, **preset), clips

    def __call__(self, prompts, *, steps=None, seed=0):
        return self.clips


def test_the_record_is_of_the_shipped_checkpoints_with_n_intervals_and_command():
    record = measures.recorded()
    assert record["sha256"] == {"teacher": verify("tiny"), "student": verify("tiny-student")}, record["command"]
    assert f"--n {record['n']}" in record["command"]
    assert [row["steps"] for row in record["teacher"]] == list(measures.TEACHER_STEPS)
    assert [row["steps"] for row in record["student"]] == list(measures.STUDENT_STEPS)
    for row in (*record["teacher"], *record["student"]):
        assert row["right"]["n"] == record["n"] and row["right"]["low"] <= row["right"]["value"] <= row["right"]["high"]
    assert len(json.dumps(record)) < 20_000


def test_the_recorded_differences_are_those_of_the_recorded_shares():
    for row in measures.recorded()["splits"].values():
        gap = row["student"]["value"] - row["teacher"]["value"]
        assert row["difference"]["value"] == pytest.approx(gap, abs=1e-4)
        assert row["difference"]["low"] < row["difference"]["value"] < row["difference"]["high"]


def test_the_shipped_student_samples_in_four_passes_without_guidance():
    student = Pipeline.load("tiny-student")
    assert (student.preset.steps, student.preset.cfg_scale) == (4, 1.0)
    rows = {row["steps"]: row for row in measures.recorded()["student"]}
    assert rows[4]["passes"] == 4


def test_a_guided_step_counts_two_passes(monkeypatch):
    monkeypatch.setattr(measures, "rights", lambda pipe, prompts, said, steps, seed: [True] * steps + [False] * 4)
    for scale, passes in ((3.0, 6), (1.0, 3), (0.0, 3)):
        (row,) = measures.curve(Fake(cfg_scale=scale), (3,), n=7)
        assert (row["passes"], row["right"]["value"]) == (passes, pytest.approx(3 / 7))


def test_a_pipeline_that_draws_the_true_clips_is_right_every_time():
    state, said, prompts = measures.prompts_of("seen", 6, TINY.world, seed=0)
    truth = render(state, TINY.world)
    assert all(measures.rights(Fake(truth), prompts, said, steps=4))
    assert not all(measures.rights(Fake(truth.flip(0)), prompts, said, steps=4))


def test_the_paired_difference_is_narrower_than_that_of_strangers():
    first = [True] * 90 + [False] * 10
    same_but_two = [True] * 88 + [False] * 12
    found = measures.paired_difference(same_but_two, first)
    assert found["value"] == pytest.approx(-0.02)
    assert found["high"] - found["low"] == pytest.approx(2 * 1.96 * math.sqrt((0.02 - 0.02**2) / 100))
    apart = measures.paired_difference(torch.tensor(first).roll(50).tolist(), first)
    assert apart["high"] - apart["low"] > 2 * (found["high"] - found["low"])


def test_unequal_numbers_of_clips_are_no_pairs():
    with pytest.raises(InputError, match="3 and 2 clips are no pairs"):
        measures.paired_difference([True] * 3, [True] * 2)


def test_the_ratio_of_times_is_the_median_of_the_rounds(monkeypatch):
    turns = ((1.0, 1.0), (4.0, 1.0), (2.0, 1.0), (1.0, 9.0))  # teacher, student; the first only warms up
    clock = iter([now for turn in turns for taken in turn for now in (0.0, taken)])
    monkeypatch.setattr(measures.time, "perf_counter", lambda: next(clock))
    found = measures.seconds_a_clip({"teacher": Fake(), "student": Fake()}, batch=2, rounds=3)
    assert found == {"batch": 2, "rounds": 3, "teacher": 1.0, "student": 0.5, "ratio": 0.5}


def test_the_record_can_be_drawn():
    assert show_steps(measures.recorded()).png()
