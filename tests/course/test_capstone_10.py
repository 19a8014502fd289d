"""Lesson 10's capstone does what it says when its switch is on: two arms are trained, and measured beside a floor."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from sora_edu import config
from sora_edu.config import TINY, TrainConfig
from sora_edu.train import watching

LESSON = Path(__file__).parents[2] / "notebooks" / "10_train_a_compact_sora.ipynb"


@pytest.mark.parametrize("again", [False, True], ids=["from nothing", "gone on with"])
def test_both_arms_are_trained_and_measured(again, tmp_path, monkeypatch, capsys):
    cells = ["".join(cell["source"]) for cell in json.loads(LESSON.read_text())["cells"] if cell["cell_type"] == "code"]
    arms, report, switch = (next(c for c in cells if mark in c) for mark in ("arms = {", "def report(", "go = False"))
    short = replace(TINY, dit_train=replace(TINY.dit_train, warmup=1))
    for text, fewer in (("clips=4000", "clips=8"), ("steps=400, batch=32", "steps=2, batch=4")):
        assert text in arms
        arms = arms.replace(text, fewer)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(watching, "quick_accuracy", lambda sampler, seed: {"all": 0.0})
    from sora_edu.pipeline import Pipeline

    names = {"TINY": short, "replace": replace, "Path": Path, "Pipeline": Pipeline, "TrainConfig": TrainConfig}
    for text in (arms, report.replace("asked_for=128", "asked_for=4")):
        exec(text, names)
    for name in names["arms"]:
        monkeypatch.setitem(config.PRESETS, name, names["arms"][name])
    for _ in range(1 + again):
        exec(switch.replace("go = False", "go = True"), names)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == (1 + again) * 5 and lines[-1] == "measured"
    assert lines[0].startswith("as_it_is     own prompts ") and lines[1].startswith("as_it_is     floor ")
    assert sorted(os.listdir("runs/capstone")) == ["as_it_is_0", "even_times_0"]
