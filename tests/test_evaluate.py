"""Evaluation counts what the tracker reads, with honest intervals, and refuses what cannot be evaluated."""

import json
from dataclasses import replace

import pytest
import torch
from scipy.stats import binomtest

from sora_edu.checkpoint import shipped_checkpoints
from sora_edu.config import TINY, WorldConfig
from sora_edu.errors import InputError
from sora_edu.evaluate import (
    animated,
    compare,
    evaluate_checkpoint,
    evaluate_pipeline,
    mean_interval,
    median_interval,
    prompts_of,
    seam_ratio,
    wilson,
)
from sora_edu.pipeline import Pipeline
from sora_edu.world.captions import parse_caption
from sora_edu.world.render import render
from sora_edu.world.scenes import sample_state
from sora_edu.world.tracker.track import track
from sora_edu.world.vocabulary import SCENES


class Oracle(Pipeline):
    """Draws what the prompts say with the renderer, after a change to the state; its VAE is perfect."""

    preset = TINY

    def __init__(self, change=lambda state: state):
        self.change = change

    def __call__(self, prompts, *, frames, size, steps, cfg_scale, seed):
        return render(self.change(self.state), self.preset.world_at(frames, *size))

    def reconstruct(self, video):
        return video


def evaluate_oracle(split: str, change=lambda state: state, n: int = 60) -> dict:
    oracle = Oracle(change)
    oracle.state = prompts_of(split, n, oracle.preset.world, seed=0)[0]
    return evaluate_pipeline(oracle, split=split, n=n)


@pytest.mark.parametrize("split", ["seen", "heldout", "pairs"])
def test_right_clips_are_right(split):
    result = evaluate_oracle(split)
    assert result["all"]["value"] >= 0.95
    assert result["velocity_error"]["value"] == pytest.approx(result["velocity_error"]["tracker_floor"]["value"])
    assert result["psnr"]["value"] >= 99


def test_right_clips_of_another_size_and_length_are_right_in_their_own_time():
    oracle = Oracle()
    oracle.state = prompts_of("pairs", 60, oracle.preset.world_at(33, 24, 40), seed=0)[0]
    result = evaluate_pipeline(oracle, split="pairs", n=60, frames=33, size=(24, 40))
    assert result["all"]["value"] >= 0.95 and (result["frames"], result["pixels"]) == (33, "24x40")
    with pytest.raises(InputError, match="width=41 "):
        evaluate_pipeline(oracle, split="pairs", n=60, frames=33, size=(24, 41))


def test_the_seam_of_a_clip_is_the_first_change_over_the_usual_one():
    steady = torch.linspace(-1, 1, 9)[None, None, :, None, None].expand(2, 3, 9, 4, 4).clone()
    assert seam_ratio(steady).tolist() == pytest.approx([1, 1])
    steady[1, :, 1:] += 0.5  # a jump of 0.75 in place of 0.25
    assert seam_ratio(steady).tolist() == pytest.approx([1, 3])
    assert seam_ratio(steady, known=4).tolist() == pytest.approx([1, 1])


@pytest.mark.parametrize("known", [0, 8, 1.0, None])
def test_a_seam_needs_known_frames_and_two_others(known, as_a_user):
    with pytest.raises(InputError, match="known=.* of 9 frames leaves no two to compare"):
        seam_ratio(torch.zeros(1, 3, 9, 4, 4), known=known)


def test_a_median_interval_holds_the_median_in_95_of_100_draws():
    draws = torch.randn(2000, 101, generator=torch.Generator().manual_seed(0)).exp()
    found = [median_interval(row) for row in draws]
    assert found[0]["value"] == pytest.approx(float(draws[0].median())) and found[0]["n"] == 101
    assert 0.94 < sum(one["low"] <= 1 <= one["high"] for one in found) / 2000 < 0.975
    assert median_interval(torch.tensor([torch.nan, torch.inf])) == {"value": None, "low": None, "high": None, "n": 0}
    assert median_interval(torch.tensor([3.0])) == {"value": 3.0, "low": 3.0, "high": 3.0, "n": 1}


def test_clips_begin_with_the_pictures_that_are_given():
    pipe = Pipeline.load("tiny")
    state, _, prompts = prompts_of("seen", 3, pipe.preset.world, seed=0)
    first = render(state, pipe.preset.world)[:, :, :1]
    clips = animated(pipe, prompts, first, frames=9, size=(32, 32), seed=5, steps=2)
    assert clips.shape == (3, 3, 9, 32, 32)
    assert (clips[:, :, :1] - pipe.reconstruct(first)).abs().max() < 0.1  # bf16 may round otherwise


def test_an_unknown_beginning_is_refused(as_a_user):
    with pytest.raises(InputError, match="given='last' is unknown; use one of nothing, first"):
        evaluate_checkpoint("tiny", split="seen", n=4, given="last")


@pytest.mark.parametrize(("name", "count"), [("shape", 5), ("colour", 8), ("motion", 10)])
def test_an_attribute_drawn_wrong_costs_itself_and_all(name, count):
    def change(state):
        wrong = torch.where(getattr(state, name) >= 0, (getattr(state, name) + 1) % count, -1)
        if name != "motion":
            return replace(state, **{name: wrong})
        other = sample_state(len(state), TINY.world, generator=torch.Generator().manual_seed(9))
        return replace(state, centre=other.centre, radius=other.radius)

    result = evaluate_oracle("seen", change)
    assert result[name]["value"] < (0.3 if name == "motion" else 0.05)
    assert result["all"]["value"] <= result[name]["value"]
    others = {"shape", "colour"} - {name}
    assert all(result[other]["value"] > 0.9 for other in others if name != "motion")


def test_a_missing_second_object_is_not_right():
    result = evaluate_oracle(
        "pairs", lambda s: replace(s, shape=torch.stack((s.shape[:, 0], torch.full_like(s.shape[:, 1], -1)), 1))
    )
    assert result["count"]["value"] < 0.4  # those behind a bar are single anyway


def test_swapped_colours_of_a_pair_are_not_right():
    result = evaluate_oracle(
        "pairs", lambda s: replace(s, colour=torch.where(s.colour[:, 1:] >= 0, s.colour.flip(1), s.colour))
    )
    assert result["all"]["value"] < 0.5


def test_only_what_a_caption_names_counts():
    state = sample_state(1, TINY.world, scene="single", generator=torch.Generator().manual_seed(3))
    tracked = track(render(state, TINY.world))
    assert "size" not in compare(parse_caption("a red circle falls"), tracked, 0)
    assert "size" in compare(parse_caption("a large red circle falls"), tracked, 0)


def test_a_pan_counts_as_right_only_to_the_side_that_was_named():
    world = WorldConfig(pan_fraction=1.0)
    video = render(sample_state(6, world, generator=torch.Generator().manual_seed(0)), world)
    for clips in (video, video.flip(-1)):
        read = track(clips)
        for i in range(len(clips)):
            to = "right" if read.pan[i] > 0 else "left"
            other = "left" if to == "right" else "right"
            assert compare(parse_caption(f"a red circle falls, the camera pans {to}"), read, i)["pan"]
            assert not compare(parse_caption(f"a red circle falls, the camera pans {other}"), read, i)["pan"]
    assert "pan" not in compare(parse_caption("a red circle falls"), read, 0)
    still = track(video[:, :, :1].expand(-1, -1, 17, -1, -1))
    assert not compare(parse_caption("a red circle falls, the camera pans left"), still, 0)["pan"]


def test_prompts_say_what_the_states_show():
    for split in ("seen", "heldout", "pairs"):
        state, said, prompts = prompts_of(split, 30, TINY.world, seed=1)
        assert [parse_caption(prompt) for prompt in prompts] == said
        assert [meaning.scene for meaning in said] == [SCENES[i] for i in state.scene.tolist()]


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (5, 10), (500, 512), (512, 512)])
def test_wilson_equals_scipy(hits, n):
    reference = binomtest(hits, n).proportion_ci(method="wilson")
    got = wilson(hits, n)
    assert got["value"] == hits / n
    assert (got["low"], got["high"]) == pytest.approx((reference.low, reference.high), abs=1e-4)


def test_mean_interval_ignores_what_could_not_be_read():
    values = torch.tensor([1.0, 2.0, 3.0, float("nan")])
    got = mean_interval(values)
    assert got["n"] == 3 and got["value"] == 2
    assert got["high"] - got["value"] == pytest.approx(1.96 * (2 / 3) ** 0.5 / 3**0.5)
    assert mean_interval(torch.tensor([float("nan")]))["value"] is None and wilson(0, 0)["value"] is None


@pytest.mark.parametrize(
    ("split", "n", "message"),
    [
        ("train", 4, "split='train' is unknown; use one of seen, heldout, pairs"),
        *(("seen", n, f"n={n} prompts cannot be evaluated; .* from 1 to 10,000") for n in (0, -3, 10**9, 2.5, True)),
    ],
)
def test_requests_that_cannot_be_met_are_refused_before_a_checkpoint_is_read(split, n, message, as_a_user):
    with pytest.raises(InputError, match=message):
        prompts_of(split, n, TINY.world, seed=0)
    with pytest.raises(InputError, match=message):
        evaluate_checkpoint("no such checkpoint", split=split, n=n)


@pytest.mark.parametrize(("hits", "n"), [(3, 2), (-1, 5), (0, -1)])
def test_more_hits_than_tries_are_no_share(hits, n):
    with pytest.raises(InputError, match=f"{hits} of {n} is no share; give whole numbers, successes from 0 to n"):
        wilson(hits, n)


def test_the_shipped_model_draws_what_is_asked_within_its_recorded_interval():
    """A sample of 48, against the lower end of the interval recorded beside the weights less four standard errors."""
    recorded = json.loads(shipped_checkpoints()["tiny"].with_name("results.json").read_text())["seen"]["all"]
    result = evaluate_pipeline(Pipeline.load("tiny"), split="seen", n=48, seed=5, floors=False)
    error = (recorded["low"] * (1 - recorded["low"]) / 48) ** 0.5
    assert result["all"]["value"] >= recorded["low"] - 4 * error
    assert json.dumps(result)


@pytest.mark.parametrize(("hits", "n"), [("x", 3), (None, 3), (1, "x"), (4, 3), (-1, 3), (1.5, 3), (True, 3), (0, -1)])
def test_what_is_no_share_of_whole_numbers_has_no_interval(as_a_user, hits, n):
    with pytest.raises(InputError, match="is no share; give whole numbers, successes from 0 to n"):
        wilson(hits, n)


@pytest.mark.parametrize("seed", [None, "x", -1, 1.5, 2**32])
def test_a_seed_that_is_none_draws_no_prompts(as_a_user, seed):
    with pytest.raises(InputError, match="seed=.* must be a whole number from 0 to"):
        prompts_of("seen", 3, TINY.world, seed=seed)
