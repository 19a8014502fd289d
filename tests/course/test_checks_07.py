"""The checks of lesson 07 accept every right form, and tell the planted mistakes apart."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from verdicts import says

from sora_edu.course.lesson_07 import checks
from sora_edu.diffusion import flow, sampling
from sora_edu.diffusion.noising import alpha_bars, linear_betas


@pytest.mark.parametrize(
    "result",
    [
        lambda: checks.convert(lambda x_t, eps, t: ...),
        lambda: checks.convert(lambda x_t, eps, t: (..., ...)),
        lambda: checks.one_answer(2, ...),
        lambda: checks.euler(lambda velocity_fn, noise, times: ...),
        lambda: checks.from_theirs(lambda their_velocity, x_t, t: ...),
        lambda: checks.steps_and_quality((1, 0.5), 0.25, ..., 16),
        lambda: checks.loss_and_samples(lambda x_0_error, t: ..., "cannot tell"),
        lambda: checks.loss_and_samples(lambda e, t: (e, e), ...),
        lambda: checks.loss_and_samples(..., "A"),
        lambda: checks.ddim_step(lambda x_s, eps, alpha_bar_s, alpha_bar_prev: ...),
        lambda: checks.mended_step(lambda velocity_fn, x_t, t, t_next: ...),
    ],
)
def test_an_unfilled_exercise_is_not_answered_yet(result):
    assert result().verdict == "not answered yet"


# --- conversions ------------------------------------------------------------------------------------------------------


def ones(t, x):
    return t.reshape(len(t), *[1] * (x.ndim - 1))


def solved(x_t, eps, t):
    t = ones(t, x_t)
    x_0 = (x_t - t * eps) / (1 - t)
    return x_0, eps - x_0


def by_velocity(x_t, eps, t):
    velocity = flow.velocity_from_eps(x_t, eps, t)
    return [flow.x_0_from_velocity(x_t, velocity, t), velocity]


def by_numpy(x_t, eps, t):
    x, e, t = x_t.numpy(), eps.numpy(), ones(t, x_t).numpy()
    return np.stack([(x - t * e) / (1 - t), (e - x) / (1 - t)])


@pytest.mark.parametrize("function", [solved, by_velocity, by_numpy])
def test_conversions_in_any_right_form(function):
    assert checks.convert(function)


def half(x_0=None, velocity=None):
    """A learner's function with one of its two lines changed."""

    def function(x_t, eps, t):
        t = ones(t, x_t)
        first = x_0(x_t, eps, t) if x_0 else (x_t - t * eps) / (1 - t)
        return first, velocity(x_t, eps, first) if velocity else eps - first

    return function


@pytest.mark.parametrize(
    ("function", "part"),
    [
        (half(velocity=lambda x, e, x_0: x_0 - e), "misconception 14"),
        (half(x_0=lambda x, e, t: (x - (1 - t) * e) / t), "misconception 14"),
        (half(lambda x, e, t: (x - (1 - t) * e) / t, lambda x, e, x_0: x_0 - e), "other convention"),
        (half(velocity=lambda x, e, x_0: e), "misconception 13"),
        (half(x_0=lambda x, e, t: (x - t**0.5 * e) / (1 - t) ** 0.5), "square roots are DDPM's"),
        (half(x_0=lambda x, e, t: x - t * e), "divide"),
        (half(x_0=lambda x, e, t: x - e), "not simply added"),
        (lambda x, e, t: solved(x, e, t)[::-1], "other order"),
        (lambda x, e, t: solved(x, e, t)[0], "shape"),
        (lambda x, e, t: (torch.zeros_like(x), torch.zeros_like(x)), "only 0%"),  # shape alone is not enough
        (lambda x, e, t: solved(x, e, t[:1]), "only"),
        (lambda x, e, t: (x - t * e, x), "raised RuntimeError"),
    ],
)
def test_conversions_name_the_mistake(function, part):
    assert says(checks.convert(function), part)


# --- one answer -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [(2, 3), (torch.tensor(2.0), np.float64(3)), (8 / 4, [3.0])])
def test_one_answer_in_any_right_form(answer):
    assert checks.one_answer(*answer)


@pytest.mark.parametrize(
    ("answer", "part"),
    [
        ((1, 3), "commonest"),
        ((3, 4), "in the middle"),
        ((5, 12), "one pair in four"),
        ((2, 0), "misconception 15"),
        ((2, 12), "their mean"),
        ((2, 1.7320508), "square root"),
        ((2, 4), "divided by 3"),
        ((2, 1.5), "mean distance"),
        ((7, 3), "Try a few"),
        (("two", 3), "expected one number"),
    ],
)
def test_one_answer_names_the_mistake(answer, part):
    assert says(checks.one_answer(*answer), part)


def test_what_the_messages_say_of_the_other_guesses_is_true():
    values = np.array([1, 1, 1, 5])
    losses = {guess: ((values - guess) ** 2).mean() for guess in (1, 2, 3, 5)}
    assert losses == {1: 4, 2: 3, 3: 4, 5: 12} and abs(values - 2).mean() == 1.5


# --- Euler ------------------------------------------------------------------------------------------------------------


def plain(velocity_fn, noise, times):
    x_t = noise
    for t, t_next in pairwise(times):
        x_t = x_t - (t - t_next) * velocity_fn(x_t, t.expand(len(x_t)))
    return x_t


def by_index(velocity_fn, noise, times):
    x = noise.clone()
    for i in range(len(times) - 1):
        t = torch.full((x.shape[0],), float(times[i]), dtype=x.dtype)
        x += (times[i + 1] - times[i]) * velocity_fn(x, t)
    return x


def by_remixing(velocity_fn, noise, times):
    """DDIM's way to say it: predict both ends, mix them again for the next time."""
    x_t = noise
    for t, t_next in pairwise(times.tolist()):
        v = velocity_fn(x_t, torch.full(x_t.shape[:1], t))
        x_t = (1 - t_next) * (x_t - t * v) + t_next * (x_t + (1 - t) * v)
    return x_t


@pytest.mark.parametrize("function", [plain, by_index, by_remixing])
def test_euler_in_any_right_form(function):
    assert checks.euler(function)


def test_the_reference_is_the_packages_euler():
    field, noise = checks.Field("a velocity", 2.0), torch.randn(4, 3, 2, dtype=torch.float64)
    ours = checks.reference_euler(field, noise, sampling.time_grid(7, shift=3.0))
    torch.testing.assert_close(ours, sampling.euler(field, noise, steps=7, shift=3.0))


def stepper(step):
    def function(velocity_fn, noise, times):
        x = noise
        for t, t_next in pairwise(times.tolist()):
            x = step(lambda x, t: velocity_fn(x, torch.full(x.shape[:1], t)), x, t, t_next)
        return x

    return function


def reversed_times(velocity_fn, noise, times):
    x = noise
    for t, t_next in pairwise(times.flip(0).tolist()):
        x = x + (t_next - t) * velocity_fn(x, torch.full(x.shape[:1], t))
    return x


def never_again(velocity_fn, noise, times):
    v = velocity_fn(noise, times[:1].expand(len(noise)))
    return noise - (times[0] - times[-1]) * v


def stale(velocity_fn, noise, times):
    x = noise
    for t, t_next in pairwise(times.tolist()):
        x = x - (t - t_next) * velocity_fn(noise, torch.full(x.shape[:1], t))
    return x


def scalar_time(velocity_fn, noise, times):
    return velocity_fn(noise, times[0])


@pytest.mark.parametrize(
    ("function", "part"),
    [
        (stepper(lambda v, x, t, n: x + (t - n) * v(x, t)), "misconception 14"),
        (reversed_times, "misconception 14"),
        (stepper(lambda v, x, t, n: x - (t - n) * v(x, 1 - t)), "at 1 - t"),
        (stepper(lambda v, x, t, n: x - (t - n) * v(x, n)), "t_next"),
        (lambda fn, noise, times: checks.even(fn, noise, times), "one length"),
        (never_again, "misconception 12"),
        (stepper(lambda v, x, t, n: x - t * v(x, t)), "misconception 12"),
        (stale, "velocity of the noise"),
        (lambda fn, noise, times: plain(fn, noise, times[:-1]), "last step is missing"),
        (lambda fn, noise, times: plain(fn, noise, times[1:]), "first step is missing"),
        (stepper(checks.heun_step), "Heun"),
        (scalar_time, "one per sample"),
        (lambda fn, noise, times: noise, "only 0%"),
        (lambda fn, noise, times: plain(fn, noise.float().half().double(), times), "only"),
        (lambda fn, noise, times: sampling.euler(fn, noise, steps=4), "fn = a velocity"),  # its own, even times
    ],
)
def test_euler_names_the_mistake(function, part):
    assert says(checks.euler(function), part)


# --- the other clock --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "function",
    [
        lambda u, x, t: -u(x, 1 - t),
        lambda u, x, t: flow.flip_time(u)(x, t),
        lambda u, x, t: u(x, torch.ones_like(t) - t).neg().numpy(),
    ],
)
def test_the_other_clock_in_any_right_form(function):
    assert checks.from_theirs(function)


@pytest.mark.parametrize(
    ("function", "part"),
    [
        (lambda u, x, t: u(x, t), "unchanged"),
        (lambda u, x, t: u(x, 1 - t), "not the arrow"),
        (lambda u, x, t: -u(x, t), "not the clock"),
        (lambda u, x, t: 1 - u(x, 1 - t), "minus sign"),
        (lambda u, x, t: u(-x, 1 - t), "not the place"),
    ],
)
def test_the_other_clock_names_the_mistake(function, part):
    assert says(checks.from_theirs(function), part, "misconception 14")


def test_the_other_clock_is_not_passed_by_shape_alone():
    assert says(checks.from_theirs(lambda u, x, t: torch.zeros_like(x)), "only 0%")


# --- steps and quality ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer", [((1, 0.5), 0.25, 4, 16), (torch.tensor([1.0, 0.5]), 1 / 4, 4.0, 4**2), ([4 / 4, 2 / 4], 0.25, 4, 16)]
)
def test_steps_and_quality_in_any_right_form(answer):
    assert checks.steps_and_quality(*answer)


@pytest.mark.parametrize(
    ("answer", "part"),
    [
        (((0, 0), 0.25, 4, 16), "misconception 12"),
        (((2, 1), 0.25, 4, 16), "misconception 12"),
        (((4, 2), 0.25, 4, 16), "misconception 12"),
        (((3, 1.5), 0.25, 4, 16), "wrong way round"),
        ((1, 0.25, 4, 16), "shape"),
        (((1, 0.5), 0.0, 4, 16), "misconception 12"),
        (((1, 0.5), 0.5, 4, 16), "proportions"),
        (((1, 0.5), 0.25, 16, 16), "first"),
        (((1, 0.5), 0.25, 2, 16), "four times"),
        (((1, 0.5), 0.25, 1, 16), "misconception 12"),
        (((1, 0.5), 0.25, 4, 4), "second order"),
        (((1, 0.5), 0.25, 4, 8), "power"),
    ],
)
def test_steps_and_quality_names_the_mistake(answer, part):
    assert says(checks.steps_and_quality(*answer), part)


def test_one_step_of_a_perfect_net_lands_where_the_check_says():
    from sora_edu.course.toy2d import Mixture

    data = Mixture(torch.tensor([[0.0, 0.0]] * 3 + [[4.0, 2.0]]), 1e-3)
    noise = torch.randn(2000, 2, generator=torch.Generator().manual_seed(0))
    landed = sampling.euler(data.velocity, noise, steps=1)
    torch.testing.assert_close(landed, torch.tensor([1.0, 0.5]).expand(2000, 2), atol=1e-4, rtol=0)
    many = sampling.heun(data.velocity, noise, steps=100)
    assert abs((many[:, 0] > 2).float().mean() - 0.25) < 0.05


# --- losses -----------------------------------------------------------------------------------------------------------


def by_factors(x_0_error, t):
    return x_0_error * ((1 - t) / t) ** 2, x_0_error / t**2


def by_example(x_0_error, t):
    """Put an error of the right size into the package's own conversions."""
    d, t = torch.tensor([[x_0_error**0.5]], dtype=torch.float64), torch.tensor([t], dtype=torch.float64)
    x_t = torch.tensor([[0.7]], dtype=torch.float64)
    v = [flow.velocity_from_x_0(x_t, x_0, t) for x_0 in (d * 0, d)]
    eps = [flow.eps_from_velocity(x_t, one, t) for one in v]
    return [((a[1] - a[0]) ** 2).mean() for a in (eps, v)]


@pytest.mark.parametrize("function", [by_factors, by_example])
@pytest.mark.parametrize("better", ["cannot tell", "Neither", "one can't tell from this"])
def test_losses_in_any_right_form(function, better):
    assert checks.loss_and_samples(function, better)


@pytest.mark.parametrize(
    ("function", "better", "part"),
    [
        (lambda e, t: (e, e), "cannot tell", "misconception 15"),
        (lambda e, t: (e * (1 - t) / t, e / t), "cannot tell", "square"),
        (lambda e, t: (e * (t / (1 - t)) ** 2, e / (1 - t) ** 2), "cannot tell", "misconception 14"),
        (lambda e, t: (e * (t / (1 - t)) ** 2, e * t**2), "cannot tell", "eps_and_velocity_error: upside down"),
        (lambda e, t: by_factors(e, t)[::-1], "cannot tell", "other order"),
        (lambda e, t: (0.64, 1.0), "cannot tell", "on e = 0.5, t = 0.75"),  # the first case, copied
        (by_factors, "A", "misconception 15"),
        (by_factors, "b", "misconception 15"),
        (by_factors, 3, "answer 'A', 'B' or"),
    ],
)
def test_losses_name_the_mistake(function, better, part):
    assert says(checks.loss_and_samples(function, better), part)


@pytest.mark.parametrize("said", ["B, and nobody cannot tell", "you cannot tell that it is no A", "A or cannot tell"])
def test_more_than_an_answer_is_none(said):
    assert not checks.loss_and_samples(lambda e, t: (e * ((1 - t) / t) ** 2, e / t**2), said)


# --- 07.7 DDIM, 07.8 Heun ---------------------------------------------------------------------------------------------


def by_direction(x_s, eps, a, p):
    """x_0 and the direction that points to x_s, in NumPy's words."""
    x_0 = (x_s - torch.sqrt(1 - a) * eps) / torch.sqrt(a)
    return torch.stack([p**0.5 * x_0, (1 - p) ** 0.5 * eps]).sum(0)


def with_math(x_s, eps, a, p):
    """Plain numbers, as in the package."""
    x_0 = (x_s - math.sqrt(1 - a) * eps) / math.sqrt(a)
    return math.sqrt(p) * x_0 + math.sqrt(1 - p) * eps


def by_factors_of_x(x_s, eps, a, p):
    """All of it as two factors, of x_s and of eps."""
    return (p / a) ** 0.5 * x_s + ((1 - p) ** 0.5 - (p * (1 - a) / a) ** 0.5) * eps


@pytest.mark.parametrize(
    "step",
    [checks.reference_ddim, by_direction, by_factors_of_x, with_math, lambda *case: by_direction(*case).tolist()],
)
def test_a_ddim_step_in_any_right_form(step):
    assert checks.ddim_step(step)


@pytest.mark.parametrize(
    ("step", "told"),
    [
        (lambda x, e, a, p: checks.reference_ddim(x, e, p, a), "changed places"),
        (lambda x, e, a, p: (x - (1 - a) ** 0.5 * e) / a**0.5, "Noise it again"),
        (lambda x, e, a, p: p**0.5 * (x - (1 - a) ** 0.5 * e) / a**0.5 + (1 - a) ** 0.5 * e, "stayed at the old level"),
        (lambda x, e, a, p: p**0.5 * (x - (1 - a) ** 0.5 * e) / a**0.5, "noise of the step before is missing"),
        (lambda x, e, a, p: p**0.5 * (x - (1 - a) ** 0.5 * e) + (1 - p) ** 0.5 * e, "divided by sqrt(alpha_bar_s)"),
        (lambda x, e, a, p: p * (x - (1 - a) ** 0.5 * e) / a**0.5 + (1 - p) * e, "factors are their roots"),
        (lambda x, e, a, p: p**0.5 * (x - (1 - a) * e) / a + (1 - p) ** 0.5 * e, "takes roots as well"),
        (lambda x, e, a, p: p**0.5 * (x + (1 - a) ** 0.5 * e) / a**0.5 + (1 - p) ** 0.5 * e, "do not add it"),
        (lambda x, e, a, p: (x - (1 - a / p) / (1 - a) ** 0.5 * e) / (a / p) ** 0.5, "mean of DDPM's step"),
        (lambda x, e, a, p: e, "only"),
        (lambda x, e, a, p: checks.reference_ddim(x, 0.99 * e, a, p), "only"),
        (lambda x, e, a, p: x, "only"),
    ],
)
def test_a_ddim_step_names_the_mistake(step, told):
    assert says(checks.ddim_step(step), told)


def test_the_reference_is_the_packages_ddim():
    draw = {"generator": torch.Generator().manual_seed(1), "dtype": torch.float64}
    x_s, eps = torch.randn(4, 3, **draw), torch.randn(4, 3, **draw)
    table = alpha_bars(linear_betas()).double()
    theirs = sampling.ddim(lambda x, s: eps, x_s, alpha_bar=table, steps=2)
    for now, before in ((table[-1], table[499]), (table[499], torch.ones((), dtype=torch.float64))):
        x_s = checks.reference_ddim(x_s, eps, now, before)
    torch.testing.assert_close(x_s, theirs)


def at(v, x, t):
    return v(x, torch.full((len(x),), t, dtype=x.dtype))


def heun_by_average(v, x, t, n):
    return (x + (x - (t - n) * at(v, x, t)) - (t - n) * at(v, x - (t - n) * at(v, x, t), n)) / 2


def heun_by_increments(v, x, t, n):
    d = n - t
    k1 = d * at(v, x, t)
    return x + 0.5 * (k1 + d * at(v, x + k1, n))


def flow_at(v, x, t):
    """A velocity that takes its time as a number."""
    return lambda y, s: v(y, torch.tensor(s, dtype=y.dtype).repeat(len(y)))


def heun_with_two_halves(v, x, t, n):
    v = flow_at(v, x, t)
    here = v(x, t)
    return x - (t - n) / 2 * here - (t - n) / 2 * v(x - (t - n) * here, n)


@pytest.mark.parametrize(
    "step",
    [heun_by_average, heun_by_increments, heun_with_two_halves, lambda *case: heun_by_average(*case).numpy()],
)
def test_a_mended_heun_step_in_any_right_form(step):
    assert checks.mended_step(step)


@pytest.mark.parametrize(
    ("step", "told"),
    [
        (lambda v, x, t, n: x - (t - n) * (at(v, x, t) + at(v, x - (t - n) * at(v, x, t), t)) / 2, "still the step"),
        (lambda v, x, t, n: x - (t - n) * at(v, x, t), "That is Euler"),
        (lambda v, x, t, n: x - (t - n) * (at(v, x, t) + at(v, x, n)) / 2, "looks from x_t"),
        (lambda v, x, t, n: x - (t - n) * at(v, x - (t - n) * at(v, x, t), n), "first look is lost"),
        (lambda v, x, t, n: x - (t - n) * (at(v, x, t) + at(v, x - (t - n) * at(v, x, t), n)), "divide by 2"),
        (lambda v, x, t, n: x - (t - n) * at(v, x - (t - n) / 2 * at(v, x, t), (t + n) / 2), "midpoint"),
        (lambda v, x, t, n: heun_by_average(v, x, t, 2 * t - n), "only"),
        (lambda v, x, t, n: x + (t - n) * (at(v, x, t) + at(v, x + (t - n) * at(v, x, t), n)) / 2, "misconception 14"),
        (lambda v, x, t, n: x, "only"),
        (lambda v, x, t, n: 2 * x - heun_by_average(v, x, t, n), "only"),
    ],
)
def test_a_heun_step_names_the_mistake(step, told):
    assert says(checks.mended_step(step), told)
