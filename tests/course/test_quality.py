"""README's figures of quality: misses are named by what is wrong, and the tables show what was measured."""

import json
from dataclasses import replace

import pytest
import torch

from sora_edu.checkpoint import verify
from sora_edu.course import quality
from sora_edu.evaluate import SPLITS, prompts_of
from sora_edu.pipeline import Pipeline
from sora_edu.world.captions import parse_caption
from sora_edu.world.render import render
from sora_edu.world.scenes import make_state, sample_state
from sora_edu.world.state import cat_states
from sora_edu.world.tracker.track import track


def pair(left: dict, right: dict):
    """A clip of two objects side by side, made of two clips of one."""
    videos = [render(make_state(**names, background="black", seed=2)) for names in (left, right)]
    return torch.cat([video[..., 8:24] for video in videos], -1)


@pytest.fixture(scope="module")
def pipe():
    return Pipeline.load("tiny")


@pytest.mark.parametrize(
    ("drawn", "kind"),
    [
        (({"colour": "red", "shape": "square"}, {"colour": "blue", "shape": "circle"}), "binding"),
        (({"colour": "red", "shape": "ring"}, {"colour": "blue", "shape": "square"}), "shape"),
        (({"colour": "red", "shape": "circle"}, {"colour": "green", "shape": "square"}), "colour"),
        (({"colour": "red", "shape": "circle"}, {"colour": "red", "shape": "circle"}), "count"),
    ],
)
def test_a_miss_is_named_by_what_is_wrong(drawn, kind):
    said = parse_caption("a red circle stays still and a blue square stays still")
    read = track(pair(*({"motion": "still", "size": "small"} | names for names in drawn)))
    assert quality.kind_of_miss(said, read, 0) == kind


def test_a_right_clip_misses_nothing_and_a_wrong_motion_is_one():
    state = cat_states([make_state(shape="circle", colour="red", motion="falls", seed=s) for s in range(2)])
    read = track(render(state))
    assert quality.kind_of_miss(parse_caption("a red circle falls"), read, 0) is None
    assert quality.kind_of_miss(parse_caption("a red circle bounces"), read, 1) == "motion"


def test_misses_are_counted_for_the_model_its_vae_and_the_tracker(pipe):
    class Rings(Pipeline):
        """Draws a ring whatever is asked for; its VAE forgets the second half of the clips."""

        preset = pipe.preset

        def __init__(self):
            pass

        def __call__(self, prompts, *, seed):
            state, _, _ = prompts_of("seen", len(prompts), self.preset.world, seed=seed)
            return render(replace(state, shape=torch.where(state.shape >= 0, 4, -1)))

        def reconstruct(self, video):
            return torch.cat((video[:10], torch.zeros_like(video[10:])))

    found = quality.misses(Rings(), "seen", n=20, seed=1)
    _, said, _ = prompts_of("seen", 20, pipe.preset.world, seed=1)
    others = sum(meaning.objects[0].shape != "ring" for meaning in said)
    assert found["model"]["wrong"]["value"] * 20 == others == found["model"]["shape"]
    assert found["VAE"]["wrong"]["value"] == 0.5 and found["tracker"]["wrong"]["value"] == 0


def test_the_command_keeps_each_part_and_shows_the_tables(pipe, tmp_path, monkeypatch):
    out, readme = tmp_path / "results.json", tmp_path / "README.md"
    begin, end = quality.marks("tiny")
    readme.write_text(f"before\n{begin}\nold\n{end}\nafter\n")
    quick = lambda self, prompts, **o: render(make_state()).expand(len(prompts), -1, -1, -1, -1)  # noqa: E731
    monkeypatch.setattr(Pipeline, "__call__", quick)
    monkeypatch.setattr(quality, "parts", lambda pipe, *, n, seed: few(pipe, n, seed))

    def few(pipe, n, seed):
        for split in SPLITS:
            yield split, lambda split=split: quality.evaluate_pipeline(pipe, split=split, n=n, seed=seed)
            yield f"misses_{split}", lambda split=split: quality.misses(pipe, split, n=n, seed=seed)
        yield "by_motion", lambda: quality.motions_right(pipe, n=2, seed=seed)

    quality.main(n=4, out=out)
    kept = json.loads(out.read_text())
    assert kept["sha256"] == verify("tiny") and "--n 4 --seed 0" in kept["command"]
    monkeypatch.setattr(quality, "evaluate_pipeline", lambda *a, **o: pytest.fail("measured again"))
    quality.main(n=4, out=out)
    assert json.loads(out.read_text()) == kept
    quality.into_readme("tiny", kept, readme)
    quality.into_readme("other", kept, readme)
    text = readme.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
    assert quality.percent(kept["seen"]["all"]) in text and "| orbits |" in text


def test_another_number_of_prompts_is_measured_anew(pipe, tmp_path, monkeypatch):
    monkeypatch.setattr(
        quality, "parts", lambda pipe, *, n, seed: [("seen", lambda: {"all": quality.wilson(n, n), "n": n})]
    )
    quality.main(n=4, out=tmp_path / "x.json")
    quality.main(n=5, out=tmp_path / "x.json")
    assert json.loads((tmp_path / "x.json").read_text())["seen"]["n"] == 5


def test_a_record_that_is_not_finished_is_shown_as_far_as_it_goes(pipe):
    found = {split: quality.evaluate_pipeline(pipe, split=split, n=2, steps=1) for split in SPLITS}
    shown = quality.tables(found)
    assert shown.count("\n") == 4 and all(row in shown for row in quality.ROWS.values())


def test_a_pan_the_other_way_is_wrong_and_one_with_the_wrong_object_is_half_right(pipe):
    class Mirrored(Pipeline):
        """Draws what was asked for, and mirrors the second half of the clips; its VAE changes all colours."""

        preset = pipe.preset

        def __init__(self):
            pass

        def drawn(self, n, **changes):
            world = replace(self.preset.world, pair_fraction=0.0, pan_fraction=1.0)
            state = sample_state(n, world, generator=torch.Generator().manual_seed(1_000_003))
            return render(replace(state, **{k: change(getattr(state, k)) for k, change in changes.items()}), world)

        def __call__(self, prompts, *, seed):
            video = self.drawn(len(prompts))
            return torch.cat((video[:10], video[10:].flip(-1)))

        def reconstruct(self, video):
            return self.drawn(len(video), colour=lambda c: torch.where(c >= 0, (c + 1) % 8, c))

    found = quality.pans_right(Mirrored(), n=20, seed=0)
    assert found["pan"]["value"] == found["all"]["value"] == 0.5
    assert found["reconstructed"]["pan"]["value"] == 1 and found["reconstructed"]["all"]["value"] == 0
    assert found["rendered"]["all"]["value"] == 1
    splits = {split: quality.evaluate_pipeline(pipe, split=split, n=2, steps=1) for split in SPLITS}
    assert "| one object, the camera pans | 50.0 (" in quality.tables(splits | {"pans": found})
