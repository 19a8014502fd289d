"""DDPM's forward process against the figures of its schedules and a loop over all thousand steps."""

import math

import jaxtyping
import pytest
import torch

from sora_edu.diffusion.flow import interpolate, velocity_from_eps, x_0_from_velocity
from sora_edu.diffusion.noising import (
    alpha_bars,
    at_step,
    cosine_betas,
    eps_from_x_0,
    linear_betas,
    q_sample,
    q_step,
    snr,
    x_0_from_eps,
)
from sora_edu.errors import InputError

LINEAR, COSINE = alpha_bars(linear_betas()), alpha_bars(cosine_betas())

CALLS = [  # all that take (x, s, y, schedule), in one order
    q_sample,
    q_step,
    lambda x, s, y, schedule: x_0_from_eps(x, y, s, schedule),
    lambda x, s, y, schedule: eps_from_x_0(x, y, s, schedule),
]


@pytest.fixture
def unchecked():
    """Switch the shape hook off, so that the library's own message is seen, as a user sees it."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize(("alpha_bar", "step"), [(LINEAR, 260), (COSINE, 497)])
def test_signal_and_noise_are_equal_at_the_known_step(alpha_bar, step):
    ratio = snr(alpha_bar)
    assert ratio[step - 2] > 1 > ratio[step - 1]  # s counts from 1: the first step at which noise is stronger


def test_the_linear_schedule_leaves_a_trace_of_signal():
    assert LINEAR[-1].item() == pytest.approx(4.04e-5, rel=2e-3)
    assert LINEAR[-1].sqrt().item() == pytest.approx(0.0064, abs=5e-5)
    assert LINEAR[0].item() == pytest.approx(1 - 1e-4)


def test_alpha_bar_is_the_product_by_hand():
    torch.testing.assert_close(alpha_bars(torch.tensor([0.1, 0.2, 0.5])), torch.tensor([0.9, 0.72, 0.36]))


def test_cosine_alpha_bar_is_its_closed_form():
    def share(u):
        return math.cos(math.pi / 2 * (u + 0.008) / 1.008) ** 2

    for s in (1, 250, 500, 900, 990):
        assert COSINE[s - 1].item() == pytest.approx(share(s / 1000) / share(0), rel=1e-4)
    assert cosine_betas().max().item() == pytest.approx(0.999)


@pytest.mark.parametrize("betas", [linear_betas, cosine_betas])
def test_schedules_only_add_noise(betas):
    for steps in (1, 10, 1000, 8000):
        beta = betas(steps)
        assert beta.shape == (steps,) and 0 < beta.min() and beta.max() < 1
        assert (alpha_bars(beta).diff() < 0).all() and alpha_bars(beta)[-1] > 0
        assert (beta.diff() >= 0).all()


def test_snr_by_hand():
    torch.testing.assert_close(snr(torch.tensor([0.5, 0.8, 0.2])), torch.tensor([1.0, 4.0, 0.25]))


def test_q_sample_by_hand():
    alpha_bar = torch.tensor([0.64, 0.36])
    x_s = q_sample(torch.full((2, 1), 10.0), torch.tensor([1, 2]), torch.full((2, 1), 5.0), alpha_bar)
    torch.testing.assert_close(x_s, torch.tensor([[0.8 * 10 + 0.6 * 5], [0.6 * 10 + 0.8 * 5]]))


def test_one_shot_equals_a_thousand_steps_in_mean_and_variance():
    n, data, betas = 40_000, 2.0, linear_betas()
    g = torch.Generator().manual_seed(0)
    walked = torch.full((1, n), data)
    for s in range(1, 1001):
        walked = q_step(walked, torch.tensor([s]), torch.randn(1, n, generator=g), betas)
        if s in (1, 100, 260, 500, 1000):
            shot = q_sample(torch.full((1, n), data), torch.tensor([s]), torch.randn(1, n, generator=g), LINEAR)
            alpha_bar_s = LINEAR[s - 1].item()
            spread = math.sqrt(1 - alpha_bar_s)
            for x in (walked, shot):  # both against the closed form, within five standard errors
                assert x.mean().item() == pytest.approx(math.sqrt(alpha_bar_s) * data, abs=5 * spread / math.sqrt(n))
                assert x.var().item() == pytest.approx(1 - alpha_bar_s, abs=5 * spread**2 * math.sqrt(2 / n))


def test_each_sample_has_a_step_of_its_own():
    x_0, eps = torch.randn(2, 3, 2, 4, 5, generator=torch.Generator().manual_seed(1))
    s = torch.tensor([1, 400, 1000])
    together = q_sample(x_0, s, eps, LINEAR)
    for i in range(3):
        torch.testing.assert_close(together[i : i + 1], q_sample(x_0[i : i + 1], s[i : i + 1], eps[i : i + 1], LINEAR))


def test_conversions_round_trip():
    g = torch.Generator().manual_seed(2)
    x_0, eps = torch.randn(2, 5, 3, 4, generator=g, dtype=torch.float64)
    s = torch.tensor([1, 10, 260, 700, 1000])
    alpha_bar = LINEAR.double()
    x_s = q_sample(x_0, s, eps, alpha_bar)
    torch.testing.assert_close(x_0_from_eps(x_s, eps, s, alpha_bar), x_0, atol=1e-5, rtol=0)
    torch.testing.assert_close(eps_from_x_0(x_s, x_0, s, alpha_bar), eps, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("s", "got"), [([0, 5], "s=0..5"), ([1, 1001], "s=1..1001"), ([-1, -1], "s=-1..-1")])
def test_steps_outside_the_schedule_are_refused(s, got):
    x = torch.zeros(2, 3)
    for call in CALLS:
        with pytest.raises(InputError, match=rf"{got} is not in 1..1000; the first step is 1"):
            call(x, torch.tensor(s), x, LINEAR)


def test_a_step_that_is_not_one_per_sample_is_refused(unchecked):
    x = torch.zeros(2, 3)
    for s in (torch.tensor(5), torch.tensor([5, 5, 5])):
        for call in CALLS:
            with pytest.raises(InputError, match=r": s is int64 .*; (add a missing axis|give both the same b)"):
                call(x, s, x, LINEAR)
        with pytest.raises(InputError, match=r"s has shape .* needs one step per sample"):
            at_step.__wrapped__(LINEAR, s, x)  # as the lesson's copy says it, which has no @checked


@pytest.mark.parametrize("other", [torch.zeros(3), torch.zeros(1, 3), torch.zeros(2, 1)])
def test_data_and_noise_of_two_shapes_are_not_broadcast(unchecked, other):
    x, s = torch.zeros(2, 3), torch.tensor([1, 2])
    for call in CALLS:
        with pytest.raises(InputError, match=r"give both the same"):
            call(x, s, other, LINEAR)


@pytest.mark.parametrize("s", [torch.tensor([1.0, 2.0]), torch.tensor([True, True])])
def test_a_step_that_is_not_a_whole_number_is_refused(unchecked, s):
    with pytest.raises(InputError, match="q_sample: s is .* but whole numbers are needed"):
        q_sample(torch.zeros(2, 3), s, torch.zeros(2, 3), LINEAR)


@pytest.mark.parametrize("betas", [linear_betas, cosine_betas])
@pytest.mark.parametrize("steps", [0, -1, 8001, 10**9, 2**63, 2.5, True])
def test_a_schedule_of_no_or_far_too_many_steps_is_refused(unchecked, betas, steps):
    with pytest.raises(InputError, match=f"steps={steps} is not a whole number in 1..8000; DDPM uses 1000"):
        betas(steps)


# --- what lesson 07 builds on: eps, x_0 and velocity are one prediction, and steps can be jumped ----------------------


def one_of_each(steps: list[int]):
    """Data, noise and steps, one sample for each, in double precision, with the schedule."""
    g, n = torch.Generator().manual_seed(7), len(steps)
    x_0, eps = torch.randn(2, n, 3, 2, 4, 5, generator=g, dtype=torch.float64)
    return x_0, torch.tensor(steps), eps, LINEAR.double()


def test_a_prediction_of_either_gives_the_other():
    x_0, s, eps, alpha_bar = one_of_each([1, 5, 260, 999, 1000])
    x_s = q_sample(x_0, s, eps, alpha_bar)
    guess = eps + 0.3 * x_0  # a wrong one: the two have to agree on what it means
    guessed_x_0 = x_0_from_eps(x_s, guess, s, alpha_bar)
    torch.testing.assert_close(eps_from_x_0(x_s, guessed_x_0, s, alpha_bar), guess)
    torch.testing.assert_close(q_sample(guessed_x_0, s, guess, alpha_bar), x_s)


def test_every_noised_sample_lies_on_the_linear_interpolant_but_for_its_scale():
    x_0, s, eps, alpha_bar = one_of_each([1, 5, 260, 999, 1000])
    alpha_bar_s = alpha_bar[s - 1]
    scale = alpha_bar_s.sqrt() + (1 - alpha_bar_s).sqrt()
    t = (1 - alpha_bar_s).sqrt() / scale
    torch.testing.assert_close(((1 - t) / t) ** 2, snr(alpha_bar_s))
    x_s = q_sample(x_0, s, eps, alpha_bar)
    x_t = x_s / scale.view(-1, 1, 1, 1, 1)
    torch.testing.assert_close(x_t, interpolate(x_0, eps, t))
    for guess in (eps, eps + 0.01):  # flow and DDPM read the same data out of the same guess
        by_velocity = x_0_from_velocity(x_t, velocity_from_eps(x_t, guess, t), t)
        torch.testing.assert_close(by_velocity, x_0_from_eps(x_s, guess, s, alpha_bar))


def test_with_the_true_noise_a_sample_jumps_between_any_two_steps():
    x_0, s, eps, alpha_bar = one_of_each([1000, 900, 260, 50])
    x_s, earlier = q_sample(x_0, s, eps, alpha_bar), torch.tensor([999, 1, 130, 49])
    jumped = q_sample(x_0_from_eps(x_s, eps, s, alpha_bar), earlier, eps, alpha_bar)
    torch.testing.assert_close(jumped, q_sample(x_0, earlier, eps, alpha_bar))


@pytest.mark.parametrize(("step", "grows"), [(260, 1.005), (1000, 157.4)])
def test_an_error_of_eps_grows_by_one_over_the_root_of_snr(step, grows):
    x_0, s, eps, alpha_bar = one_of_each([step])
    x_s = q_sample(x_0, s, eps, alpha_bar)
    off = (x_0_from_eps(x_s, eps - 0.01, s, alpha_bar) - x_0) / 0.01
    torch.testing.assert_close(off, torch.full_like(off, grows), rtol=1e-3, atol=0)
