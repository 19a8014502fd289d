"""The checks of lesson 05 accept every right form, and tell the planted mistakes apart."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from verdicts import says

from sora_edu.config import WorldConfig
from sora_edu.course.lesson_05 import checks
from sora_edu.world.render import render
from sora_edu.world.scenes import sample_state

TABLE = {
    1e-5: {"psnr": 21.0, "reach": 14.0, "nats": 30.0},
    1e-4: {"psnr": 20.9, "reach": 15.0, "nats": 20.0},
    1e-2: {"psnr": 19.5, "reach": 18.5, "nats": 5.3},
    1e-1: {"psnr": 12.5, "reach": 13.0, "nats": 0.9},
    1.0: {"psnr": 11.1, "reach": 11.2, "nats": 0.0},
}
SILENT = torch.full((6, 3, 5, 16, 16), -0.9)


@pytest.mark.parametrize(
    "result",
    [
        lambda: checks.counts(52_224, 5_120, ..., 1),
        lambda: checks.kl(lambda mean, logvar: ...),
        lambda: checks.trade(..., ..., ..., TABLE),
        lambda: checks.causal_pad(lambda x, size: ...),
        lambda: checks.mended_double(...),
        lambda: checks.mended_double(lambda y: ...),
        lambda: checks.standardise(lambda z: ...),
        lambda: checks.noise(..., ..., SILENT),
    ],
)
def test_an_unfilled_exercise_is_not_answered_yet(result):
    assert result().verdict == "not answered yet"


# --- 05.1 compression -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer", [(52_224, 5_120, 10.2, 1), (torch.tensor(52_224), np.int64(5_120), 52_224 / 5_120, 5_120 / 5_120)]
)
def test_counts_in_any_form(answer):
    assert checks.counts(*answer)


@pytest.mark.parametrize(
    ("answer", "part"),
    [
        ((52_224, 5_120, 10.2, 4), "misconception 3"),
        ((52_224, 5_120, 10.2, 0.25), "misconception 3"),
        ((52_224, 5_120, 10.2, 10.2), "misconception 3"),
        ((17_408, 5_120, 3.4, 1), "each holds three numbers"),
        ((52_224, 320, 163.2, 1), "16 channels"),
        ((52_224, 5_120, 163.2, 1), "16 channels"),
        ((52_224, 5_120, 64, 1), "share a place"),
        ((52_224, 5_120, 5_120 / 52_224, 1), "upside down"),
        ((52_224, 5_120, "ten", 1), "expected one number"),
    ],
)
def test_counts_name_the_mistake(answer, part):
    assert says(checks.counts(*answer), part)


# --- 05.2 KL ----------------------------------------------------------------------------------------------------------


def by_torch(mean, logvar):
    """The library's own."""
    cloud = torch.distributions.Normal(mean, (logvar / 2).exp())
    return torch.distributions.kl_divergence(cloud, torch.distributions.Normal(0.0, 1.0))


@pytest.mark.parametrize(
    "function",
    [
        lambda m, v: 0.5 * (m**2 + v.exp() - 1 - v),
        by_torch,
        lambda m, v: (m.numpy() ** 2 + np.exp(v.numpy()) - 1 - v.numpy()) / 2,
    ],
)
def test_kl_in_any_right_form(function):
    assert checks.kl(function)


@pytest.mark.parametrize(
    ("function", "part"),
    [
        (lambda m, v: m**2 + v.exp() - 1 - v, "Twice"),
        (lambda m, v: 0.5 * (1 + v - m**2 - v.exp()), "never negative"),
        (lambda m, v: 0.5 * (m**2 + (2 * v).exp() - 1 - 2 * v), "log of the variance"),
        (lambda m, v: 0.5 * (m**2 + (v / 2).exp() - 1 - v), "standard deviation where"),
        (lambda m, v: 0.5 * (m**2 + v.exp() - v), "-1 is missing"),
        (lambda m, v: 0.5 * (v.exp() - 1 - v), "mean is missing"),
        (lambda m, v: 0.5 * ((1 + m**2) / v.exp() - 1 + v), "other way round"),
        (lambda m, v: 0.5 * (m**2 + v.exp() - 1 - v).mean(), "shape"),
        (lambda m, v: torch.zeros_like(m), "values are"),
        (lambda m: m, "raised TypeError"),
    ],
)
def test_kl_names_the_mistake(function, part):
    assert says(checks.kl(function), part)


# --- 05.3 the trade ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [(1e-5, 1e-2, 1.0), (0.0001, torch.tensor(0.01), 1), ([1e-5], np.float32(0.01), 1)])
def test_weights_in_any_form(answer):
    assert checks.trade(*answer, TABLE)


@pytest.mark.parametrize(
    ("answer", "part"),
    [
        ((1.0, 1e-2, 1.0), "misconception 21"),
        ((1e-5, 1.0, 1.0), "misconception 21"),
        ((1e-5, 1e-1, 1.0), "misconception 21"),
        ((1e-2, 1e-2, 1.0), "misconception 21"),
        ((1e-5, 1e-5, 1.0), "far outside the circle"),
        ((1e-5, 1e-4, 1.0), "highest point"),
        ((1e-5, 1e-2, 1e-5), "30.0 nats"),
        ((1e-5, 1e-2, 1e-1), "0.9 nats"),
        ((1e-5, 0.5, 1.0), "expected one of the trained weights"),
        ((21.0, 18.5, 0.0), "expected one of the trained weights"),
        (("small", 1e-2, 1.0), "expected one of the trained weights"),
    ],
)
def test_weights_name_the_mistake(answer, part):
    assert says(checks.trade(*answer, TABLE), part)


def test_the_answer_follows_the_table_and_not_a_list():
    turned = {w: row for w, row in zip(TABLE, reversed(TABLE.values()), strict=True)}
    assert checks.trade(1.0, 1e-2, 1e-5, turned)
    assert says(checks.trade(1e-5, 1e-2, 1.0, turned), "sharpest")


# --- 05.4 causal padding ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "function",
    [
        lambda x, size: torch.cat([x[:, :, :1]] * (size - 1) + [x], 2),
        lambda x, size: F.pad(x, (0, 0, 0, 0, size - 1, 0), mode="replicate"),
        lambda x, size: x[:, :, (torch.arange(x.shape[2] + size - 1) - size + 1).clamp(min=0)],
    ],
)
def test_causal_padding_in_any_right_form(function):
    assert checks.causal_pad(function)


def pad(left, right, mode="replicate"):
    """Time padded at both ends."""
    return lambda x, size: F.pad(x, (0, 0, 0, 0, left(size), right(size)), mode=mode)


@pytest.mark.parametrize(
    ("function", "part"),
    [
        (pad(lambda k: (k - 1) // 2, lambda k: k // 2), "both ends"),
        (pad(lambda k: k // 2, lambda k: (k - 1) // 2), "both ends"),
        (pad(lambda k: 0, lambda k: k - 1), "looks ahead"),
        (pad(lambda k: k - 1, lambda k: 0, "constant"), "zeros"),
        (pad(lambda k: k, lambda k: 0), "One frame too many"),
        (lambda x, size: x, "too short"),
        (lambda x, size: F.pad(x, (size - 1, 0, 0, 0, 0, 0), mode="replicate"), "width"),
        (lambda x, size: torch.cat([x[:, :, -1:]] * (size - 1) + [x], 2), "last frame in front"),
        (lambda x, size: torch.cat([x[:, :, :1]] * 2 + [x], 2), "expected"),  # three frames, hard-coded
        (lambda x, size: x[99], "raised IndexError"),
    ],
)
def test_causal_padding_names_the_mistake(function, part):
    assert says(checks.causal_pad(function), part)


# --- 05.5 scale -------------------------------------------------------------------------------------------------------

EACH = {"dim": (0, 2, 3, 4), "keepdim": True}


def in_a_loop(z):
    """One channel after the other, divided by n and not n - 1."""
    z = z.clone()
    for c in range(z.shape[1]):
        z[:, c] = (z[:, c] - z[:, c].mean()) / z[:, c].std(correction=0)
    return z


@pytest.mark.parametrize("function", [lambda z: (z - z.mean(**EACH)) / z.std(**EACH), in_a_loop])
def test_standardise_in_any_right_form(function):
    assert checks.standardise(function)


@pytest.mark.parametrize(
    ("function", "part"),
    [
        (lambda z: (z - z.mean(**EACH)) * z.std(**EACH), "Upside down"),
        (lambda z: (z - z.mean(**EACH)) / z.var(**EACH), "variance"),
        (lambda z: (z - z.mean()) / z.std(), "for all channels"),
        (lambda z: z / z.std(), "Stable Diffusion"),
        (lambda z: z * 0.18215, "values are"),
        (lambda z: z / z.std(**EACH), "the mean is not 0"),
        (lambda z: z - z.mean(**EACH), "spread is not 1"),
        (lambda z: (z - z.mean(0, keepdim=True)) / z.std(0, keepdim=True), "each place"),
        (
            lambda z: (z - z.mean((2, 3, 4), keepdim=True)) / z.std((2, 3, 4), keepdim=True),
            "Each clip got its own",
        ),
        (lambda z: 1 / z.std((0, 2, 3, 4)), "shape"),
    ],
)
def test_standardise_names_the_mistake(function, part):
    assert says(checks.standardise(function), part)


# --- 05.6 noise -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def seen() -> torch.Tensor:
    """Six clips, two of which hold an object."""
    state = sample_state(2, WorldConfig(), split="train", generator=torch.Generator().manual_seed(1))
    return torch.cat((render(state), torch.full((4, 3, 17, 32, 32), -0.9)))


@pytest.mark.parametrize("maker", ["VideoDiT", "the VideoDiT", "DiT", "diffusion transformer", " videodit "])
def test_the_maker_in_any_form(maker, seen):
    assert checks.noise(2, maker, seen)
    assert checks.noise(torch.tensor(0), maker, SILENT)


@pytest.mark.parametrize(
    ("count", "maker", "part"),
    [
        (6, "VideoDiT", "misconception 20"),
        (4, "VideoDiT", "misconception 20"),
        (1, "VideoDiT", "count the rows"),
        (2, "VAE decoder", "misconception 20"),
        (2, "the decoder", "misconception 20"),
        (2, "VAE", "misconception 20"),
        (2, "text encoder", "words into vectors"),
        (2, "noise", "a part of the map"),
        (2, 7, "expected the name"),
        ("none", "VideoDiT", "expected a count"),
    ],
)
def test_noise_names_the_mistake(count, maker, part, seen):
    assert says(checks.noise(count, maker, seen), part)


# --- 05.7 frames in pairs ---------------------------------------------------------------------------------------------


def by_stacking(y):
    first, second = y.chunk(2, 1)
    return torch.stack((first, second), 3).flatten(2, 3)[:, :, 1:]


def by_places(y):
    first, second = y.chunk(2, 1)
    video = torch.empty(len(y), first.shape[1], 2 * y.shape[2], *y.shape[3:])
    video[:, :, ::2], video[:, :, 1::2] = first, second
    return video[:, :, 1:]


@pytest.mark.parametrize(
    "double", [by_stacking, by_places, lambda y: by_places(y).tolist(), lambda y: by_stacking(y).numpy()]
)
def test_doubling_time_in_any_right_form(double):
    assert checks.mended_double(double)


@pytest.mark.parametrize(
    ("double", "told"),
    [
        (lambda y: torch.cat(y.chunk(2, 1), 2)[:, :, 1:], "still the line with the bug"),
        (lambda y: torch.stack((y[:, ::2], y[:, 1::2]), 3).flatten(2, 3)[:, :, 1:], "packed as (two c)"),
        (lambda y: torch.stack(y.chunk(2, 1), 3).flatten(2, 3), "One frame too many"),
        (lambda y: torch.stack(y.chunk(2, 1), 3).flatten(2, 3)[:, :, :-1], "dropped the last"),
        (lambda y: by_places(torch.cat(y.chunk(2, 1)[::-1], 1)), "turned round"),
        (lambda y: torch.cat(y.chunk(2, 1), 2), "One frame too many, and the order"),
        (lambda y: by_stacking(y)[:, :, 1:], "dropped a whole pair"),
        (lambda y: y.reshape(len(y), y.shape[1] // 2, -1, *y.shape[3:])[:, :, 1:], "reshape moves no number"),
        (lambda y: y.chunk(2, 1)[0].repeat_interleave(2, 2)[:, :, 1:], "shown twice"),
        (lambda y: torch.cat(y.chunk(2, 1), 2)[:, :, :-1], "only"),
        (lambda y: torch.stack(y.chunk(2, 1), 3).flatten(2, 3)[1:], "got shape"),
        (lambda y: torch.stack((y[:, :3], y[:, 3:]), 3).flatten(2, 3)[:, :, 1:], "raised RuntimeError"),
        (lambda y: by_places(y).flip(2), "only"),
    ],
)
def test_doubling_time_names_the_mistake(double, told):
    assert says(checks.mended_double(double), told)
