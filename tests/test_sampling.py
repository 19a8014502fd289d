"""Samplers against Gaussian data, for which velocity, noise prediction and the whole path are known in closed form."""

import math
from itertools import pairwise

import jaxtyping
import numpy as np
import pytest
import torch

from sora_edu.diffusion import flow, noising, sampling
from sora_edu.errors import InputError

MEAN, STD = 0.7, 0.4  # data: N(MEAN, STD^2) in every element
ALPHA_BAR = noising.alpha_bars(noising.linear_betas())
FLOW, DDPM = [sampling.euler, sampling.heun, sampling.sde], [sampling.ddpm, sampling.ddim]


@pytest.fixture
def unchecked():
    """Switch the shape hook off, so that the library's own message is seen, as a user sees it."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def velocity_fn(x_t, t):
    """E[eps - x_0 | x_t]: joint normality makes it a line in x_t."""
    t = t.view(-1, *[1] * (x_t.ndim - 1))
    variance = (1 - t) ** 2 * STD**2 + t**2
    return (t - (1 - t) * STD**2) / variance * (x_t - (1 - t) * MEAN) - MEAN


def eps_fn(x_s, s):
    """E[eps | x_s] for the same data under the DDPM schedule."""
    alpha_bar_s = ALPHA_BAR.to(x_s)[s - 1].view(-1, *[1] * (x_s.ndim - 1))
    variance = alpha_bar_s * STD**2 + 1 - alpha_bar_s
    return (1 - alpha_bar_s).sqrt() * (x_s - alpha_bar_s.sqrt() * MEAN) / variance


def run(sampler, noise, steps, **options):
    if sampler in DDPM:
        return sampler(eps_fn, noise, alpha_bar=ALPHA_BAR, steps=steps, **options)
    return sampler(velocity_fn, noise, steps=steps, **options)


def fitted_order(sampler):
    """Fit the exponent p of error ~ steps^-p. The ODE carries N(0, 1) to N(MEAN, STD^2) by x_0 = MEAN + STD noise."""
    noise = torch.randn(500, 1, generator=seeded(0), dtype=torch.float64)
    counts = [40, 80, 160, 320]
    errors = [(run(sampler, noise, n) - (MEAN + STD * noise)).abs().max().item() for n in counts]
    return -np.polyfit(np.log(counts), np.log(errors), 1)[0]


def test_time_grid_goes_from_noise_to_data():
    torch.testing.assert_close(sampling.time_grid(4), torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0]))
    t = torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0])
    torch.testing.assert_close(sampling.time_grid(4, shift=3.0), 3 * t / (1 + 2 * t))
    assert len(sampling.time_grid(1)) == 2


def test_euler_is_of_first_order():
    assert fitted_order(sampling.euler) == pytest.approx(1, abs=0.1)


def test_heun_is_of_second_order():
    assert fitted_order(sampling.heun) == pytest.approx(2, abs=0.15)


def test_ddim_without_noise_is_of_first_order():
    assert fitted_order(sampling.ddim) == pytest.approx(1, abs=0.2)


# The bias of these steps, at most 0.004 by propagating the two moments, comes on top of five standard errors.
@pytest.mark.parametrize(
    ("sampler", "steps", "n"),
    [
        (sampling.euler, 400, 100_000),
        (sampling.heun, 50, 100_000),
        (sampling.sde, 400, 100_000),
        (sampling.ddpm, 1000, 40_000),
        (sampling.ddim, 1000, 40_000),
    ],
)
def test_samples_have_the_mean_and_spread_of_the_data(sampler, steps, n):
    x_0 = run(sampler, torch.randn(n, 1, generator=seeded(1)), steps, generator=seeded(2))
    assert x_0.mean().item() == pytest.approx(MEAN, abs=5 * STD / math.sqrt(n) + 0.004)
    assert x_0.std().item() == pytest.approx(STD, abs=5 * STD / math.sqrt(2 * n) + 0.004)


def test_sde_passes_through_the_marginals_of_the_interpolant():
    seen = {}
    noise = torch.randn(50_000, 1, generator=seeded(3))
    run(sampling.sde, noise, 200, generator=seeded(4), callback=lambda step, t, x_t, _: seen.update({step: (t, x_t)}))
    for step in (50, 100, 150, 190):
        t, x_t = seen[step]
        assert x_t.mean().item() == pytest.approx((1 - t) * MEAN, abs=0.025)
        assert x_t.std().item() == pytest.approx(math.sqrt((1 - t) ** 2 * STD**2 + t**2), abs=0.025)


def test_sde_forgets_its_noise_where_the_ode_keeps_it():
    noise = torch.randn(20_000, 1, generator=seeded(5))
    likeness = {f: torch.corrcoef(torch.cat([noise, run(f, noise, 100, generator=seeded(6))], 1).T)[0, 1] for f in FLOW}
    assert likeness[sampling.euler] > 0.999 and likeness[sampling.heun] > 0.999
    assert likeness[sampling.sde] < 0.9


@pytest.mark.parametrize("sampler", FLOW)
def test_one_flow_step_is_the_jump_to_the_predicted_data(sampler):
    noise = torch.randn(3, 2, 4, 5, generator=seeded(7))
    torch.testing.assert_close(run(sampler, noise, 1), noise - velocity_fn(noise, torch.ones(3)))


@pytest.mark.parametrize("sampler", DDPM)
def test_one_diffusion_step_is_the_jump_to_the_predicted_data(sampler):
    noise = torch.randn(3, 2, 4, 5, generator=seeded(7))
    eps = eps_fn(noise, torch.full((3,), 1000))
    alpha_bar_s = ALPHA_BAR[-1]
    jump = (noise - (1 - alpha_bar_s).sqrt() * eps) / alpha_bar_s.sqrt()
    torch.testing.assert_close(run(sampler, noise, 1), jump, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("sampler", [sampling.euler, sampling.heun, sampling.ddim])
def test_ode_samplers_use_no_randomness(sampler):
    noise = torch.randn(4, 3, generator=seeded(8))
    before = torch.get_rng_state()
    assert torch.equal(run(sampler, noise, 10, generator=seeded(1)), run(sampler, noise, 10, generator=seeded(2)))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("sampler", "options"), [(sampling.sde, {}), (sampling.ddpm, {}), (sampling.ddim, {"eta": 0.5})]
)
def test_random_samplers_follow_their_generator(sampler, options):
    noise = torch.randn(4, 3, generator=seeded(9))
    first, again, other = (run(sampler, noise, 10, generator=seeded(seed), **options) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.allclose(first, other)


def test_ddim_with_eta_1_is_ddpm():
    noise = torch.randn(64, 3, generator=seeded(10), dtype=torch.float64)
    ddim = run(sampling.ddim, noise, 50, eta=1.0, generator=seeded(11))
    torch.testing.assert_close(ddim, run(sampling.ddpm, noise, 50, generator=seeded(11)))


@pytest.mark.parametrize("sampler", FLOW + DDPM)
def test_callback_sees_every_step_and_steers_nothing(sampler):
    seen = []
    noise = torch.randn(4, 3, generator=seeded(12))
    x_0 = run(sampler, noise, 5, generator=seeded(13), callback=lambda *seen_now: seen.append(seen_now))
    assert [(step, round(t, 6)) for step, t, _, _ in seen] == [(0, 1.0), (1, 0.8), (2, 0.6), (3, 0.4), (4, 0.2)]
    assert torch.equal(seen[0][2], noise)
    torch.testing.assert_close(seen[-1][3], x_0)  # the last step lands on what the model predicts there
    assert torch.equal(x_0, run(sampler, noise, 5, generator=seeded(13)))


@pytest.mark.parametrize("sampler", FLOW + DDPM)
def test_sampling_records_no_gradient_and_leaves_the_noise_alone(sampler):
    noise = torch.randn(4, 3, generator=seeded(14))
    copy, gain = noise.clone(), torch.ones((), requires_grad=True)
    options = {"alpha_bar": ALPHA_BAR} if sampler in DDPM else {}
    x_0 = sampler(lambda x, t: gain * x, noise, steps=3, **options)
    assert not x_0.requires_grad and torch.equal(noise, copy)


@pytest.mark.parametrize(("sampler", "passes"), [(sampling.euler, 8), (sampling.heun, 15), (sampling.sde, 8)])
def test_passes_of_the_model(sampler, passes):
    calls = []
    sampler(lambda x, t: calls.append(t) or x, torch.zeros(2, 1), steps=8)
    assert len(calls) == passes
    assert all(t.shape == (2,) and t.min() > 0 for t in calls)


def test_step_grid_spans_the_schedule():
    assert sampling.step_grid(4, 1000) == [1000, 750, 500, 250, 0]
    assert sampling.step_grid(1000, 1000) == list(range(1000, -1, -1))
    assert len(set(sampling.step_grid(7, 1000))) == 8


@pytest.mark.parametrize("steps", [0, -3])
@pytest.mark.parametrize("sampler", FLOW + DDPM)
def test_fewer_than_one_step_is_refused(sampler, steps):
    with pytest.raises(InputError, match=rf"steps={steps} is not .*; use "):
        run(sampler, torch.zeros(1, 1), steps)


@pytest.mark.parametrize("steps", [2.5, True, "4"])
def test_steps_that_are_not_whole_are_refused(unchecked, steps):
    with pytest.raises(InputError, match=rf"steps={steps!r} is not"):
        sampling.time_grid(steps)
    with pytest.raises(InputError, match=rf"steps={steps!r} is not in 1..9"):
        sampling.step_grid(steps, 9)


@pytest.mark.parametrize("steps", [1001, 10**7, 10**9, 2**63])
@pytest.mark.parametrize("sampler", FLOW + DDPM)
def test_more_steps_than_change_anything_are_refused_at_once(sampler, steps):
    with pytest.raises(InputError, match=rf"steps={steps} is not (a whole number )?in 1..1000"):
        run(sampler, torch.zeros(1, 1), steps)


def test_as_many_steps_as_the_limit_are_taken():
    assert len(sampling.time_grid(sampling.MOST_STEPS)) == 1001 and (sampling.time_grid(1000).diff() < 0).all()


@pytest.mark.parametrize("alpha_bar", [[0.5, 0.9], [0.9, 0.9], [1.0, 0.5], [0.5, 0.0], [0.5, -0.1], [math.nan, 0.1]])
@pytest.mark.parametrize("sampler", DDPM)
def test_a_schedule_that_does_not_fall_is_refused(sampler, alpha_bar):
    with pytest.raises(InputError, match=r"alpha_bar does not fall .* use alpha_bars\(linear_betas\(\)\)"):
        sampler(lambda x, s: x, torch.zeros(1, 1), alpha_bar=torch.tensor(alpha_bar), steps=2)


def test_the_table_by_step_begins_with_clean_data():
    assert sampling.alpha_bar_by_step(torch.tensor([0.5, 0.25])) == [1.0, 0.5, 0.25]


@pytest.mark.parametrize(
    "answer", [lambda x: x[:, :1], lambda x: x[:1], lambda x: x.mean(), lambda x: 0.0, lambda x: None]
)
@pytest.mark.parametrize("sampler", FLOW + DDPM)
def test_a_model_whose_answer_is_not_shaped_as_its_input_is_refused(unchecked, sampler, answer):
    name, options = ("eps_fn", {"alpha_bar": ALPHA_BAR}) if sampler in DDPM else ("velocity_fn", {})
    with pytest.raises(InputError, match=f"{sampler.__name__}: what {name} returned is "):
        sampler(lambda x, t: answer(x), torch.zeros(4, 3, 2), steps=3, **options)


@pytest.mark.parametrize("sampler", FLOW + DDPM)
def test_noise_of_whole_numbers_is_refused(unchecked, sampler):
    with pytest.raises(InputError, match=f"{sampler.__name__}: noise is int64 .* floating-point numbers are needed"):
        run(sampler, torch.zeros(4, 3, dtype=torch.int64), 3)


@pytest.mark.parametrize("sampler", FLOW + DDPM)
def test_where_a_model_answers_nan_the_sample_is_nan(sampler):
    options = {"alpha_bar": ALPHA_BAR} if sampler in DDPM else {}
    assert sampler(lambda x, t: x * math.nan, torch.ones(2, 3), steps=3, **options).isnan().all()


def test_more_steps_than_the_schedule_holds_are_refused():
    with pytest.raises(InputError, match=r"steps=1001 is not in 1..1000"):
        run(sampling.ddim, torch.zeros(1, 1), 1001)


@pytest.mark.parametrize("eta", [-0.1, 1.1, math.nan])
def test_eta_outside_its_range_is_refused(eta):
    with pytest.raises(InputError, match=r"eta=.* is not in \[0, 1\]; use 0"):
        run(sampling.ddim, torch.zeros(1, 1), 5, eta=eta)


@pytest.mark.parametrize("shift", [0.0, -2.0, math.nan])
def test_a_shift_that_is_not_positive_is_refused(shift):
    with pytest.raises(InputError, match="shift="):
        run(sampling.euler, torch.zeros(1, 1), 5, shift=shift)


def test_ddim_is_euler_on_the_line_at_the_same_steps():
    """Divided by its scale, every DDIM iterate is Euler's: the two samplers are one, in two coordinates."""
    alpha_bar = ALPHA_BAR.double()
    times, scale = flow.line_times(alpha_bar)
    x_s = torch.randn(20, 2, generator=seeded(15), dtype=torch.float64)
    steps = sampling.step_grid(8, 1000)
    x_t, as_velocity = x_s / scale[-1], flow.velocity_fn_from_eps_fn(eps_fn, alpha_bar)
    grid = [*(times[s - 1].item() for s in steps[:-1]), 0.0]
    for t, t_next in pairwise(grid):
        x_t = x_t - (t - t_next) * as_velocity(x_t, x_t.new_full((20,), t))
    torch.testing.assert_close(x_t, sampling.ddim(eps_fn, x_s, alpha_bar=alpha_bar, steps=8))
