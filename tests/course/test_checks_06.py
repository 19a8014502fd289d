"""The checks of lesson 06 accept every right form, and tell the planted mistakes apart."""

import math

import numpy as np
import pytest
import torch
from verdicts import says

from sora_edu.course.lesson_06 import checks
from sora_edu.diffusion.noising import alpha_bars, linear_betas, q_sample as package_q_sample

LINEAR = alpha_bars(linear_betas())


@pytest.mark.parametrize(
    "result",
    [
        lambda: checks.one_shot(..., ..., ...),
        lambda: checks.one_shot(0.224, 0.921, ...),
        lambda: checks.q_sample(lambda x_0, s, eps, alpha_bar: ...),
        lambda: checks.is_noised(lambda before, after: ...),
        lambda: checks.equal_steps(..., 497),
        lambda: checks.last_step(..., ...),
        lambda: checks.unscaled(..., ...),
        lambda: checks.mended_noising(...),
        lambda: checks.mended_noising(lambda x_0, s, alpha_bar, generator: ...),
    ],
)
def test_an_unfilled_exercise_is_not_answered_yet(result):
    assert result().verdict == "not answered yet"


# --- one shot ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        (LINEAR[499].sqrt() * 0.8, 1 - LINEAR[499], 1),
        (0.224, 0.921, 1),
        (np.float64(0.2243), [0.9214], torch.tensor(1)),
    ],
)
def test_one_shot_in_any_right_form(answer):
    assert checks.one_shot(*answer)


@pytest.mark.parametrize(
    ("answer", "parts"),
    [
        ((0.224, 0.921, 500), ["misconception 9"]),
        ((0.224, 0.921, 1000), ["misconception 9"]),
        ((0.0, 1.0, 1), ["mean", "misconception 11"]),
        ((0.224, 1.0, 1), ["variance", "misconception 11"]),
        ((LINEAR[499] * 0.8, 0.921, 1), ["root"]),
        ((LINEAR[500].sqrt() * 0.8, 0.921, 1), ["alpha_bar[500]"]),
        ((0.8, 0.921, 1), ["scaled down"]),
        ((0.224, (1 - LINEAR[499]).sqrt(), 1), ["standard deviation"]),
        ((0.224, linear_betas()[:500].sum(), 1), ["sums the betas"]),
        ((0.224, 0.921, 2), ["draws"]),
        ((0.5, 0.921, 1), ["mean"]),
    ],
)
def test_one_shot_names_the_mistake(answer, parts):
    assert says(checks.one_shot(*answer), *parts)


# --- q_sample ---------------------------------------------------------------------------------------------------------


def with_view(x_0, s, eps, alpha_bar):
    """New axes by indexing."""
    alpha_bar_s = alpha_bar[s - 1][(...,) + (None,) * (x_0.ndim - 1)]
    return alpha_bar_s.sqrt() * x_0 + (1 - alpha_bar_s).sqrt() * eps


def with_a_loop(x_0, s, eps, alpha_bar):
    """A sample at a time, in plain Python."""
    rows = []
    for x, step, noise in zip(x_0, s.tolist(), eps, strict=True):
        alpha_bar_s = alpha_bar[step - 1].item()
        rows.append(math.sqrt(alpha_bar_s) * x + math.sqrt(1 - alpha_bar_s) * noise)
    return torch.stack(rows)


def in_numpy(x_0, s, eps, alpha_bar):
    """The same in NumPy."""
    alpha_bar_s = alpha_bar.double().numpy()[s.numpy() - 1].reshape(-1, *[1] * (x_0.ndim - 1))
    return np.sqrt(alpha_bar_s) * x_0.numpy() + np.sqrt(1 - alpha_bar_s) * eps.numpy()


@pytest.mark.parametrize("function", [package_q_sample, with_view, with_a_loop, in_numpy])
def test_q_sample_in_any_right_form(function):
    assert checks.q_sample(function)


def walk_with_fresh_noise(x_0, s, eps, alpha_bar):
    """Walks, and draws its own noise."""
    alpha = alpha_bar / torch.cat((alpha_bar.new_ones(1), alpha_bar[:-1]))
    rows = []
    for x, last in zip(x_0, s.tolist(), strict=True):
        for a in alpha[:last]:
            x = a.sqrt() * x + (1 - a).sqrt() * torch.randn(x.shape)
        rows.append(x)
    return torch.stack(rows)


def changed(signal, spread):
    """The closed form with other powers."""

    def function(x_0, s, eps, alpha_bar):
        alpha_bar_s = alpha_bar[s - 1].reshape(-1, *[1] * (x_0.ndim - 1))
        return alpha_bar_s**signal * x_0 + (1 - alpha_bar_s) ** spread * eps

    return function


@pytest.mark.parametrize(
    ("function", "parts"),
    [
        (walk_with_fresh_noise, ["draw no other", "misconception 9"]),
        (checks.same_noise_again, ["misconception 9"]),
        (
            lambda x_0, s, eps, ab: ab[s - 1].sqrt() * x_0 + (1 - ab[s - 1]).sqrt() * eps,
            ["each sample needs its own"],
        ),
        (
            lambda x_0, s, eps, ab: with_view(x_0, (s + 1).clamp(max=len(ab)), eps, ab),
            ["One step off"],
        ),
        (changed(1, 1), ["variances"]),
        (changed(1, 0.5), ["x_0's factor"]),
        (changed(0.5, 1), ["eps' factor"]),
        (changed(0, 0.5), ["has to shrink"]),
        (lambda x_0, s, eps, ab: with_view(eps, s, x_0, ab), ["changed places"]),
        (checks.straight, ["lesson 07"]),
        (lambda x_0, s, eps, ab: with_view(x_0, s[:1], eps, ab), ["values are"]),  # one level for all
        (lambda x_0, s, eps, ab: torch.zeros_like(x_0), ["values are"]),
        (lambda x_0: x_0, ["raised TypeError"]),
        (3, ["expected a function"]),
    ],
)
def test_q_sample_names_the_mistake(function, parts):
    assert says(checks.q_sample(function), *parts)


def test_the_right_shape_alone_does_not_pass():
    assert not checks.q_sample(lambda x_0, s, eps, alpha_bar: torch.rand_like(x_0))


# --- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [(260, 497), (torch.tensor(260), np.int64(497)), (260.0, [497])])
def test_equal_steps_in_any_right_form(answer):
    assert checks.equal_steps(*answer)


@pytest.mark.parametrize(
    ("answer", "parts"),
    [
        ((259, 496), ["linear", "one early"]),
        ((260, 496), ["cosine", "one early"]),
        ((500, 500), ["half of the steps"]),
        ((1000, 1000), ["misconception 11"]),
        ((369, 665), ["compare variances"]),
        ((497, 260), ["changed places"]),
        ((300, 497), ["linear"]),
    ],
)
def test_equal_steps_names_the_mistake(answer, parts):
    assert says(checks.equal_steps(*answer), *parts)


@pytest.mark.parametrize(
    "answer",
    [(LINEAR[-1].sqrt(), LINEAR[-1].sqrt() * (3 * 224 * 224) ** 0.5), (0.0064, 2.47), (np.float32(0.00635), 2.46)],
)
def test_last_step_in_any_right_form(answer):
    assert checks.last_step(*answer)


@pytest.mark.parametrize(
    ("answer", "parts"),
    [
        ((0, 0), ["misconception 11"]),
        ((0.0064, 0.0), ["one number alone", "misconception 11"]),
        ((0.0064, 0.00635), ["one number alone", "misconception 11"]),
        ((1.0, 2.46), ["misconception 11"]),
        ((LINEAR[-1], 2.46), ["share of variance"]),
        ((0.0064, LINEAR[-1].sqrt() * 3 * 224 * 224), ["1 / sqrt(n)"]),
        ((0.0064, LINEAR[-1].sqrt() * 224), ["three colours"]),
        ((0.02, 2.46), ["factor"]),
    ],
)
def test_last_step_names_the_mistake(answer, parts):
    assert says(checks.last_step(*answer), *parts)


@pytest.mark.parametrize("answer", [(5.49**2, 582), (30.1, torch.tensor(582)), (30, 582.0), (1 / 0.18215**2, [582])])
def test_unscaled_in_any_right_form(answer):
    assert checks.unscaled(*answer)


@pytest.mark.parametrize(
    ("answer", "parts"),
    [
        ((5.49, 582), ["square it"]),
        ((1, 260), ["larger signal"]),
        ((1 / 5.49**2, 582), ["upside down"]),
        ((30.1, 260), ["variance 1"]),
        ((30.1, 581), ["one early"]),
        ((30.1, checks.first_below(LINEAR, 5.49)), ["its square"]),
        ((30.1, checks.first_below(LINEAR, 5.49**-2)), ["upside down"]),
        ((30.1, 885), ["cosine"]),
    ],
)
def test_unscaled_names_the_mistake(answer, parts):
    assert says(checks.unscaled(*answer), *parts)


# --- noise or blur ----------------------------------------------------------------------------------------------------


def fine_waves(x):
    """Power beyond a quarter of the sampling rate."""
    power, f = torch.fft.fft2(x).abs().square(), torch.fft.fftfreq(x.shape[-1]).abs()
    return power[:, (f[:, None] > 0.25) | (f > 0.25)].sum()


def roughness(x):
    """Differences between neighbours."""
    return x.diff(dim=-1).square().sum() + x.diff(dim=-2).square().sum()


@pytest.mark.parametrize("measure", [fine_waves, roughness, lambda x: x.diff(dim=-1).abs().mean()])
@pytest.mark.parametrize("form", [bool, float, lambda value: value.numpy(), lambda value: value])
def test_is_noised_in_any_right_form(measure, form):
    assert checks.is_noised(lambda before, after: form(measure(after) > measure(before)))


@pytest.mark.parametrize(
    ("function", "parts"),
    [
        (lambda before, after: False, ["misconception 10"]),
        (lambda before, after: fine_waves(after) < fine_waves(before), ["wrong way round", "misconception 10"]),
        (lambda before, after: after.std() > before.std(), ["contrast"]),
        (lambda before, after: after.square().sum() > before.square().sum(), ["contrast"]),
        (lambda before, after: True, ["5 of 10"]),
        (lambda before, after: (after - before).abs().mean() > 0.3, ["of 10"]),
        (lambda before, after: "noise", ["returned str"]),
        (lambda before: True, ["raised TypeError"]),
        (True, ["expected a function"]),
    ],
)
def test_is_noised_names_the_mistake(function, parts):
    assert says(checks.is_noised(function), *parts)


def test_neither_contrast_nor_change_tells_noise_from_blur_in_the_hidden_pictures():
    pairs = checks.pairs()
    truth = [noise for _before, _after, noise in pairs]
    for measure in (torch.std, lambda x: x.abs().mean(), lambda x: x.mean()):
        assert [bool(measure(after) > measure(before)) for before, after, _noise in pairs] != truth
    for again, once in zip(checks.pairs(), pairs, strict=True):
        assert torch.equal(again[1], once[1]), "the same pictures every time"


@pytest.mark.parametrize("least", [1e-4, 1e-3, 1e-2, 0.1, 1.0])
def test_fine_detail_afterwards_alone_does_not_tell_noise(least):
    def finest(image):
        return torch.fft.fft2(image)[:, image.shape[1] // 2].abs().square().mean() / image[0].numel()

    assert not checks.is_noised(lambda before, after: bool(finest(after) > least))


# --- 06.7 noise that is shared ----------------------------------------------------------------------------------------


def noised(draw, signal=torch.sqrt, spread=lambda kept: (1 - kept).sqrt(), level=lambda alpha_bar, s: alpha_bar[s - 1]):
    """A noising function with this noise, these two factors, and this way to look a step up."""

    def noising(x_0, s, alpha_bar, generator):
        kept = level(alpha_bar, s).view(-1, 1, 1, 1, 1)
        return signal(kept) * x_0 + spread(kept) * draw(x_0.shape, generator)

    return noising


def normal(shape, generator):
    return torch.randn(*shape, generator=generator)


def shared(*axes):
    """Noise that is the same all along these axes."""
    return lambda shape, g: normal([1 if i in axes else size for i, size in enumerate(shape)], g).expand(shape)


def by_clips(x_0, s, alpha_bar, generator):
    """One clip after the other."""
    one = noised(normal)
    return torch.cat([one(x[None], k[None], alpha_bar, generator) for x, k in zip(x_0, s, strict=True)])


@pytest.mark.parametrize(
    "noising",
    [
        noised(normal),
        by_clips,
        lambda *case: by_clips(*case).tolist(),
        lambda *case: by_clips(*case).double().numpy(),
        noised(lambda shape, generator: torch.randn(shape, generator=torch.Generator().manual_seed(generator.seed()))),
        noised(lambda shape, g: torch.stack([normal((*shape[:2], *shape[3:]), g) for _ in range(shape[2])], 2)),
        lambda x_0, s, alpha_bar, g: package_q_sample(x_0, s, normal(x_0.shape, g), alpha_bar),
    ],
)
def test_noising_in_any_right_form(noising):
    assert checks.mended_noising(noising)


@pytest.mark.parametrize("seed", range(20))
def test_no_right_noise_is_refused_by_chance(seed):
    generator = torch.Generator().manual_seed(seed)
    assert checks.mended_noising(lambda x_0, s, alpha_bar, _: by_clips(x_0, s, alpha_bar, generator))


@pytest.mark.parametrize(
    ("noising", "told"),
    [
        (noised(shared(2)), "correlates at 1.00, expected 0. This is still the bug"),
        (noised(shared(0)), "the clips share noise"),
        (noised(shared(1)), "the colours share noise"),
        (noised(shared(3)), "the rows share noise"),
        (noised(shared(4)), "the columns share noise"),
        (noised(lambda shape, g: 0.6 * shared(2)(shape, g) + 0.8 * normal(shape, g)), "the frames share noise"),
        (noised(lambda shape, g: normal(shape, g)[:, :, [0, 0, 1, 1, 2]]), "the frames share noise"),
        (noised(lambda shape, g: normal(shape, g)[[0, 0, 1, 1, 2, 2]]), "the clips share noise"),
        (
            noised(lambda shape, g: (e := normal(shape, g)) - e.roll(3, 0)),
            "the clips share noise: on average it correlates at -",
        ),
        (noised(lambda shape, g: ((e := normal(shape, g)) + e.roll(1, 3)) / 2**0.5), "the rows share noise"),
        (
            noised(
                lambda shape, g: torch.stack([e := normal((6, 3, 12, 10), g), *[e.roll(i, 3) for i in range(1, 5)]], 2)
            ),
            "the frames and columns share noise",
        ),
        (noised(normal, signal=lambda kept: kept), "came through"),
        (noised(normal, signal=lambda kept: 1), "came through times 0.99, where at its own step q_sample has 0.22"),
        (noised(normal, level=lambda alpha_bar, s: alpha_bar[s[0] - 1]), "clip 1 came through"),
        (noised(normal, level=lambda alpha_bar, s: alpha_bar[s - 2]), "came through"),
        (noised(normal, level=lambda alpha_bar, s: alpha_bar[s]), "raised IndexError"),
        (lambda x, s, a, g: x, "came through times 1.00"),
        (lambda x, s, a, g: normal(x.shape, g), "came through"),
        (noised(normal, spread=lambda kept: 1 - kept), "which is a variance"),
        (noised(normal, spread=lambda kept: 1), "should have a standard deviation of 1"),
        (noised(lambda shape, g: torch.zeros(shape)), "should have a standard deviation of 1"),
        (noised(lambda shape, g: normal(shape, g) + 0.5), "a mean of"),
        (noised(lambda shape, g: (torch.rand(shape, generator=g) - 0.5) * 12**0.5), "it is not normal"),
        (noised(lambda shape, g: normal(shape, g).sign()), "it is not normal"),
        (noised(lambda shape, g: normal(shape, g) * torch.nan), "came through times nan"),
        (noised(lambda shape, g: normal(shape, torch.Generator().manual_seed(1))), "the same noise"),
        (lambda x, s, a, g: x[:, :, 1:], "got shape"),
        (lambda x, s, a, g: "noise", "got str"),
    ],
)
def test_noising_names_the_mistake(noising, told):
    assert says(checks.mended_noising(noising), told)
