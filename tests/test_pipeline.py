import warnings

import pytest
import torch

from sora_edu.checkpoint import save_tensors, shipped_checkpoints
from sora_edu.config import TINY
from sora_edu.errors import CheckpointError, InputError, PromptError, UnknownWordWarning
from sora_edu.pipeline import Pipeline, model_metadata, preset_from_json
from sora_edu.sampling import heun
from sora_edu.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def pipe() -> Pipeline:
    return Pipeline.load("tiny")


def test_shapes_range_and_type(pipe):
    clips = pipe(["a red circle falls", "a blue star grows"], steps=2)
    assert clips.shape == (2, 3, 17, 32, 32) and clips.dtype == torch.float32
    assert clips.min() >= -1 and clips.max() <= 1


def test_same_seed_same_clip_other_seed_other_clip(pipe):
    first, again, other = (pipe("a red circle falls", steps=2, seed=s) for s in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_a_clip_starts_from_its_own_noise_whatever_its_neighbours(pipe):
    seen = {}
    for prompts in (["a red circle falls"], ["a red circle falls", "a blue star grows"]):
        pipe(prompts, steps=1, callback=lambda step, t, x_t, x_0: seen.setdefault(len(x_t), x_t[0].clone()))
    assert torch.equal(seen[1], seen[2])


@pytest.mark.parametrize(("frames", "size"), [(1, (32, 32)), (9, (32, 48)), (21, (40, 24))])
def test_any_grid_can_be_sampled(pipe, frames, size):
    assert pipe("a red circle falls", frames=frames, size=size, steps=1).shape == (1, 3, frames, *size)


def test_a_prompt_steers_and_scale_zero_does_not(pipe):
    a, b = (pipe(p, steps=2, cfg_scale=3.0) for p in ("a red circle falls", "a blue square grows"))
    assert (a - b).abs().mean() > 0.01
    a, b = (pipe(p, steps=2, cfg_scale=0.0) for p in ("a red circle falls", "a blue square grows"))
    torch.testing.assert_close(a, b)


def test_another_sampler_fits_in(pipe):
    passes = []
    pipe("a red circle falls", steps=3, sampler=heun, callback=lambda step, *rest: passes.append(step))
    assert passes == [0, 1, 2]


def test_reconstruct_keeps_the_shape(pipe):
    video = torch.rand(2, 3, 9, 32, 40) * 2 - 1
    assert pipe.reconstruct(video).shape == video.shape


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": 16}, "frames=16 is not 1 . a multiple of 4; use 13 or 17"),
        ({"frames": 0}, "0 pixels"),
        ({"size": (30, 32)}, "height=30 is not a positive multiple of 8; use 24 or 32"),
        ({"size": (32, 4)}, "width=4 is not a positive multiple of 8; use 8"),
        ({"size": (1 << 12, 1 << 12)}, "use 1 to 4,194,304"),
        ({"steps": 0}, "steps=0"),
        ({"cfg_scale": -1.0}, "cfg_scale=-1.0"),
    ],
)
def test_sizes_and_options_that_do_not_fit_are_refused(pipe, options, message):
    with pytest.raises(InputError, match=message):
        pipe("a red circle falls", **options)


def test_prompts_are_checked_and_unknown_words_named(pipe):
    with pytest.raises(PromptError, match="empty"):
        pipe(["a red circle falls", " "], steps=1)
    with pytest.warns(UnknownWordWarning, match="'wombat'"):
        pipe("a red wombat circle falls", steps=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pipe("please show a red circle falling", steps=1)


def test_the_configuration_survives_the_file():
    meta = model_metadata(TINY, Tokenizer())
    assert preset_from_json(meta["preset"]) == TINY


@pytest.mark.parametrize(
    "change", [lambda p: p.pop("dit"), lambda p: p["dit"].update(wings=2), lambda p: p["vae"].update(ft=8)]
)
def test_a_configuration_that_does_not_fit_is_refused(change):
    values = model_metadata(TINY, Tokenizer())["preset"]
    change(values)
    with pytest.raises(CheckpointError, match="does not fit this version"):
        preset_from_json(values)


def test_a_file_without_a_model_is_refused(tmp_path):
    save_tensors(tmp_path / "x.safetensors", {"a": torch.ones(1)}, {"step": 1})
    with pytest.raises(CheckpointError, match="holds no model"):
        Pipeline.load(tmp_path / "x.safetensors")


def test_shipped_checkpoints_are_small_enough_to_ship():
    sizes = {name: path.stat().st_size for name, path in shipped_checkpoints().items()}
    assert "tiny" in sizes and all(size <= 48e6 for size in sizes.values())
