"""The figures of lesson 10 draw what they are given, the same bytes every time."""

import json

import pytest
import torch

from sora_edu.config import TINY
from sora_edu.course.lesson_10 import bugs, figures
from sora_edu.pipeline import Pipeline

SHARE = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 64}


def entry(name: str, steps: int) -> dict:
    looks = [{"loss": 1 / step, "right": dict.fromkeys(("all", "shape", "colour", "motion"), SHARE)} for step in (2, 4)]
    both = [{"step": s * steps // 2, "raw": look, "ema": look} for s, look in zip((1, 2), looks, strict=True)]
    return {"name": name, "steps": steps, "losses": [[1, 2.0], [steps, 0.5]], "looks": both}


RECORD = {"batch": 4, "prompts": ["one", "two"], "runs": [entry("base", 10), entry("32x", 320)]}
CLIPS = {step: torch.full((2, 3, 5, 8, 8), step / 320 - 0.5) for step in (0, 160, 320)}
PATIENT = bugs.Patient([2.0, 1.0, 0.5], bugs.fresh(20), 0.1)


@pytest.mark.parametrize(
    "draw",
    [
        lambda: figures.show_loss({"one": [(1, 2.0), (3, 1.0)], "two": [(1, 1.0)]}),
        lambda: figures.show_directions({"a": torch.tensor([3.0, 1.0, 0.1]), "b": torch.ones(3)}),
        lambda: figures.show_growth({"base": CLIPS[0], "32x": CLIPS[320]}),
        lambda: figures.show_runs(RECORD, ["base", "32x"]),
        lambda: figures.show_ema(RECORD),
        lambda: figures.show_two_rankings(RECORD),
        lambda: figures.training_scrubber(RECORD, CLIPS)(1),
        lambda: figures.show_patients({"A": PATIENT, "B": PATIENT}, bugs.fresh(20), 0.4),
    ],
)
def test_each_figure_draws_the_same_bytes_twice(draw):
    png = draw().png()
    assert png == draw().png() and 1000 < len(png) < 90_000


def test_a_sheet_has_a_row_for_each_clip_and_a_column_for_each_frame():
    video = torch.zeros(2, 3, 5, 8, 6)
    video[1, :, 4] = 0.7
    sheet = figures.sheet(video)
    assert sheet.shape == (3, 2 * 8 + figures.GAP, 5 * 6 + 4 * figures.GAP)
    assert (sheet[:, -8:, -6:] == 0.7).all() and (sheet[:, 8 : 8 + figures.GAP] == 1).all()


def test_the_slider_shows_another_picture_at_each_look():
    show = figures.training_scrubber(RECORD, CLIPS)
    assert len({show(look).png() for look in range(3)}) == 3


class Stub(Pipeline):
    """A pipeline without weights."""

    preset, vae, tokenizer = TINY, None, None

    def __init__(self):
        pass


def test_the_live_picture_follows_the_log_and_keeps_one_row_a_look(tmp_path, monkeypatch):
    shown = []

    class Handle:
        update = staticmethod(lambda picture: shown.append(picture))

    monkeypatch.setattr(figures, "display", lambda picture, display_id: (shown.append(picture), Handle())[1])
    monkeypatch.setattr(figures, "Pipeline", lambda *parts: lambda prompts, steps, seed: torch.zeros(1, 3, 17, 8, 8))
    live = figures.Live(Stub(), "a red circle falls", tmp_path, name="dit", steps=20)
    for step in (2, 4, 12, 16, 20):
        with open(tmp_path / "metrics.jsonl", "a") as file:
            file.write(json.dumps({"stage": "dit", "step": step, "loss": 1 / step}) + "\n")
            file.write(json.dumps({"stage": "other", "step": step, "loss": 9}) + "\n")
        assert live.evaluate(torch.nn.Identity(), step) == {}
    assert list(live.looks) == [4, 16, 20] and len(shown) == 3
    assert figures.read_losses(tmp_path, "dit")[:2] == [(2, 0.5), (4, 0.25)]
    assert shown[0].png() != shown[1].png()
    assert figures.read_losses(tmp_path / "nowhere", "dit") == []
