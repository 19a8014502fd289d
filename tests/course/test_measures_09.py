"""The recorded effect of guidance belongs to the shipped checkpoint, and the rulers measure what they say."""

import json

import pytest
import torch

from sora_edu.checkpoint import verify
from sora_edu.course.lesson_09 import measures
from sora_edu.course.lesson_09.figures import show_guidance
from sora_edu.errors import InputError
from sora_edu.pipeline import Pipeline
from sora_edu.world.captions import Parsed, Thing


def test_the_record_is_of_the_shipped_checkpoint_with_n_intervals_and_command():
    record = measures.recorded()
    assert record["sha256"] == verify(record["checkpoint"]), f"measure again: {record['command']}"
    assert f"--n {record['n']}" in record["command"]
    assert [row["cfg_scale"] for row in record["accuracy"]] == list(measures.SCALES)
    for row in record["accuracy"]:
        for share in (row["right"]["all"], row["floor"]["all"]):
            assert share["n"] == record["n"] and 0 <= share["low"] <= share["value"] <= share["high"] <= 1
    for row in record["diversity"]:
        assert all(row[name]["low"] <= row[name]["value"] <= row[name]["high"] for name in measures.MEASURES)
    assert {(row["prompt"], row["how"]) for row in record["expansion"]} == {
        (prompt, how) for prompt in ("shape only", "short caption") for how in ("as typed", "expanded")
    }
    assert len(json.dumps(record)) < 50_000


def test_the_recorded_model_obeys_above_the_floor():
    rows = {row["cfg_scale"]: row for row in measures.recorded()["accuracy"]}
    assert rows[3.0]["right"]["all"]["low"] > rows[3.0]["floor"]["all"]["high"]


def test_the_record_can_be_drawn():
    assert show_guidance(measures.recorded()).png()


def test_spread_is_the_root_mean_square_distance_from_the_mean():
    assert measures.spread(torch.tensor([[0.0, 0.0], [6.0, 8.0]])) == pytest.approx(5.0)
    assert measures.spread(torch.full((4, 2), 9.0)) == 0 and measures.spread(torch.tensor([1.0, 3.0])) == 1


def test_kinds_counts_equal_shares():
    assert measures.kinds(torch.tensor([0, 1, 2, 0, 1, 2])) == pytest.approx(3)
    assert measures.kinds(torch.tensor([1, 1, 1])) == pytest.approx(1)
    assert 1 < measures.kinds(torch.tensor([0, 0, 0, 1])) < 2


def test_shuffling_gives_every_clip_another_prompt():
    said = [Parsed(objects=(Thing(shape),)) for shape in ("circle", "star", "ring")]
    assert sorted(said, key=str) == sorted(measures.shuffled(said), key=str)
    assert all(a != b for a, b in zip(said, measures.shuffled(said), strict=True))


def test_intervals_hold_the_value_and_narrow_with_more_clips():
    generator, widths = torch.Generator().manual_seed(0), []
    for n in (20, 500):
        group = (torch.randn(n, 2, generator=generator), torch.rand(n, generator=generator), torch.arange(n) % 3)
        found = measures.mean_diversity([group, group])
        assert all(part["low"] <= part["value"] <= part["high"] for part in found.values())
        assert found["start"]["value"] == pytest.approx(measures.spread(group[0]))
        widths.append(found["start"]["high"] - found["start"]["low"])
    assert widths[1] < widths[0] / 2


def test_one_prompt_has_no_neighbour_to_exchange_with():
    with pytest.raises(InputError, match="n=1 leaves no other prompt"):
        measures.accuracy_by_scale(object.__new__(Pipeline), [1.0], n=1)
