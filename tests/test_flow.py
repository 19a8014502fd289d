"""Flow matching against closed forms: ends, derivatives, conversions, times, and the loss of the best model."""

import math

import jaxtyping
import pytest
import torch

from sora_edu.diffusion import flow, noising
from sora_edu.errors import InputError

SHAPE = (6, 3, 2, 4, 5)  # b c f h w, all unequal
PATHS = [flow.linear, flow.gvp]
CONVERSIONS = [
    flow.x_0_from_velocity,
    flow.eps_from_velocity,
    flow.velocity_from_x_0,
    flow.velocity_from_eps,
    flow.score_from_velocity,
]
MEAN, STD = 0.7, 0.4  # the data of the closed forms: N(MEAN, STD^2) in every element


@pytest.fixture
def unchecked():
    """Switch the shape hook off, so that the library's own message is seen, as a user sees it."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def draw(seed, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    x_0, eps = torch.randn(2, *SHAPE, generator=g, dtype=dtype)
    return x_0, eps, torch.linspace(0.05, 0.95, SHAPE[0], dtype=dtype)


def exact_velocity(x_t, t):
    """E[eps - x_0 | x_t] for Gaussian data: joint normality makes it a line in x_t."""
    t = t.view(-1, *[1] * (x_t.ndim - 1))
    variance = (1 - t) ** 2 * STD**2 + t**2
    return (t - (1 - t) * STD**2) / variance * (x_t - (1 - t) * MEAN) - MEAN


@pytest.mark.parametrize("path", PATHS)
def test_paths_begin_at_the_data_and_end_at_the_noise(path):
    x_0, eps, _ = draw(0)
    torch.testing.assert_close(flow.interpolate(x_0, eps, torch.zeros(6, dtype=x_0.dtype), path=path), x_0)
    torch.testing.assert_close(flow.interpolate(x_0, eps, torch.ones(6, dtype=x_0.dtype), path=path), eps)


@pytest.mark.parametrize("path", PATHS)
def test_a_path_gives_the_derivatives_of_its_weights(path):
    t = torch.linspace(0, 1, 9, dtype=torch.float64)
    at = path(t)
    _, (d_alpha, d_sigma, *_) = torch.func.jvp(path, (t,), (torch.ones_like(t),))
    torch.testing.assert_close((at.d_alpha, at.d_sigma), (d_alpha, d_sigma))
    assert all(weight.shape == t.shape and weight.dtype == t.dtype for weight in at)


@pytest.mark.parametrize(("path", "det"), [(flow.linear, 1), (flow.gvp, math.pi / 2)])
def test_the_determinant_of_a_path_never_nears_zero(path, det):
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    torch.testing.assert_close(path(t).det, torch.full_like(t, det))


def test_linear_interpolant_by_hand():
    x_t = flow.interpolate(torch.tensor([[8.0], [8.0]]), torch.tensor([[4.0], [4.0]]), torch.tensor([0.25, 0.5]))
    assert x_t.tolist() == [[7.0], [6.0]]
    velocity = flow.velocity_target(
        torch.tensor([[8.0], [8.0]]), torch.tensor([[4.0], [4.0]]), torch.tensor([0.25, 0.5])
    )
    assert velocity.tolist() == [[-4.0], [-4.0]]


def test_quarter_circle_by_hand():
    x_0, eps, t = torch.tensor([[8.0]]), torch.tensor([[4.0]]), torch.tensor([1 / 3])  # 30 degrees
    half_root_3 = math.sqrt(3) / 2
    x_t, velocity = flow.interpolate(x_0, eps, t, path=flow.gvp), flow.velocity_target(x_0, eps, t, path=flow.gvp)
    torch.testing.assert_close(x_t, torch.tensor([[8 * half_root_3 + 4 * 0.5]]))
    torch.testing.assert_close(velocity, torch.tensor([[math.pi / 2 * (4 * half_root_3 - 8 * 0.5)]]))


@pytest.mark.parametrize("path", PATHS)
def test_velocity_is_the_derivative_of_the_interpolant(path):
    x_0, eps, t = draw(1)
    _, derivative = torch.func.jvp(lambda t: flow.interpolate(x_0, eps, t, path=path), (t,), (torch.ones_like(t),))
    torch.testing.assert_close(flow.velocity_target(x_0, eps, t, path=path), derivative)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_on_the_line_every_formula_gives_the_bits_of_its_short_form(dtype):
    """What was trained and drawn with ``eps - x_0`` and ``x_t - t velocity`` stays as it is, to the last bit."""
    a, b, t = draw(12, dtype)
    t_b = t.view(-1, 1, 1, 1, 1)
    assert torch.equal(flow.interpolate(a, b, t), (1 - t_b) * a + t_b * b)
    assert torch.equal(flow.velocity_target(a, b, t), b - a)
    assert torch.equal(flow.x_0_from_velocity(a, b, t), a - t_b * b)
    assert torch.equal(flow.eps_from_velocity(a, b, t), a + (1 - t_b) * b)
    assert torch.equal(flow.velocity_from_x_0(a, b, t), (a - b) / t_b)
    assert torch.equal(flow.velocity_from_eps(a, b, t), (b - a) / (1 - t_b))
    assert torch.equal(flow.score_from_velocity(a, b, t), -(a + (1 - t_b) * b) / t_b)


@pytest.mark.parametrize("path", PATHS)
def test_conversions_round_trip(path):
    x_0, eps, t = draw(2, torch.float32)
    x_t, velocity = flow.interpolate(x_0, eps, t, path=path), flow.velocity_target(x_0, eps, t, path=path)
    tight = {"atol": 1e-5, "rtol": 0}
    torch.testing.assert_close(flow.x_0_from_velocity(x_t, velocity, t, path=path), x_0, **tight)
    torch.testing.assert_close(flow.eps_from_velocity(x_t, velocity, t, path=path), eps, **tight)
    # Dividing by t (or 1 - t) of 0.05 magnifies float32's rounding twentyfold, hence a range away from the ends.
    middle = slice(1, -1)
    x_t, x_0, eps, velocity, t = x_t[middle], x_0[middle], eps[middle], velocity[middle], t[middle]
    torch.testing.assert_close(flow.velocity_from_x_0(x_t, x_0, t, path=path), velocity, **tight)
    torch.testing.assert_close(flow.velocity_from_eps(x_t, eps, t, path=path), velocity, **tight)


@pytest.mark.parametrize("path", PATHS)
def test_the_score_of_one_point_of_data_is_minus_eps_over_sigma(path):
    """Data without spread: log p_t is a Gaussian around alpha x_0 of spread sigma, so its slope is -eps / sigma."""
    x_0, eps, t = draw(3)
    x_t, velocity = flow.interpolate(x_0, eps, t, path=path), flow.velocity_target(x_0, eps, t, path=path)
    score = flow.score_from_velocity(x_t, velocity, t, path=path)
    torch.testing.assert_close(score, -eps / path(flow.over_batch(t, eps)).sigma)


def test_score_is_the_gradient_of_the_log_density():
    x = torch.linspace(-2, 2, 9, dtype=torch.float64).view(9, 1).requires_grad_()
    t = torch.linspace(0.1, 1, 9, dtype=torch.float64)
    spread = ((1 - t) ** 2 * STD**2 + t**2).sqrt().view(9, 1)
    log_p = torch.distributions.Normal((1 - t).view(9, 1) * MEAN, spread).log_prob(x).sum()
    score = flow.score_from_velocity(x.detach(), exact_velocity(x.detach(), t), t)
    torch.testing.assert_close(score, torch.autograd.grad(log_p, x)[0])


def test_gvp_keeps_the_variance_and_the_linear_interpolant_does_not():
    g = torch.Generator().manual_seed(4)
    x_0, eps = torch.randn(2, 5, 40_000, generator=g)
    t = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0])
    # The standard error of a variance of n unit normals is sqrt(2 / n) = 0.007; five of them.
    torch.testing.assert_close(flow.interpolate(x_0, eps, t, path=flow.gvp).var(1), torch.ones(5), atol=0.035, rtol=0)
    linear = flow.interpolate(x_0, eps, t).var(1)
    torch.testing.assert_close(linear, (1 - t) ** 2 + t**2, atol=0.035, rtol=0)
    assert linear[2] < 0.6


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("kind", ["logit-normal", "uniform"])
def test_sampled_times_have_the_quantiles_of_their_distribution(kind, shift):
    n = 100_000
    t = flow.sample_times(n, generator=torch.Generator().manual_seed(5), kind=kind, shift=shift)
    levels = torch.tensor([0.1, 0.25, 0.5, 0.75, 0.9])
    expected = levels if kind == "uniform" else torch.distributions.Normal(0.0, 1.0).icdf(levels).sigmoid()
    expected = shift * expected / (1 + (shift - 1) * expected)
    assert 0 <= t.min() and t.max() <= 1 and t.shape == (n,)
    torch.testing.assert_close(torch.quantile(t, levels), expected, atol=0.01, rtol=0)


def test_sampled_times_depend_on_the_generator_alone():
    times = [flow.sample_times(7, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(times[0], times[1]) and not torch.equal(times[0], times[2])


def test_shift_times_keeps_the_ends_and_moves_the_middle_to_noise():
    t = torch.tensor([0.0, 0.5, 1.0])
    torch.testing.assert_close(flow.shift_times(t, 3.0), torch.tensor([0.0, 0.75, 1.0]))
    assert torch.equal(flow.shift_times(t, 1.0), t)


def test_flow_loss_of_the_exact_velocity_is_the_variance_that_no_model_removes():
    n = 200_000
    g = torch.Generator().manual_seed(6)
    x_0 = MEAN + STD * torch.randn(n, 1, generator=g)
    loss = flow.flow_loss(exact_velocity, x_0, generator=g, kind="uniform")
    t = (torch.arange(2000) + 0.5) / 2000
    left = 1 + STD**2 - (t - (1 - t) * STD**2) ** 2 / ((1 - t) ** 2 * STD**2 + t**2)
    # Squares of normals have a spread of sqrt(2) times their mean: five standard errors.
    assert abs(loss - left.mean()) < 5 * math.sqrt(2) * left.mean() / math.sqrt(n)
    worse = flow.flow_loss(lambda x, t: exact_velocity(x, t) + 0.1, x_0, generator=g, kind="uniform")
    assert worse > loss


def test_flow_loss_of_a_path_asks_for_the_velocity_of_that_path():
    x_0, eps, t = draw(8)
    loss = flow.flow_loss(lambda x, t: torch.zeros_like(x), x_0, t=t, eps=eps, path=flow.gvp)
    torch.testing.assert_close(loss, flow.velocity_target(x_0, eps, t, path=flow.gvp).square().mean())
    seen = []
    flow.flow_loss(lambda x, t: seen.append(x) or x, x_0, t=t, eps=eps, path=flow.gvp)
    assert torch.equal(seen[0], flow.interpolate(x_0, eps, t, path=flow.gvp))


def test_flow_loss_repeats_with_its_seed_and_reaches_the_model():
    weight = torch.tensor(0.5, requires_grad=True)
    x_0 = draw(7, torch.float32)[0]
    losses = [
        flow.flow_loss(lambda x, t: weight * x, x_0, generator=torch.Generator().manual_seed(8)) for _ in range(2)
    ]
    assert losses[0] == losses[1] and losses[0].ndim == 0
    losses[0].backward()
    assert weight.grad.abs() > 0


def test_flip_time_turns_sign_and_clock():
    x, _, t = draw(9)
    flipped = flow.flip_time(exact_velocity)
    torch.testing.assert_close(flipped(x, t), -exact_velocity(x, 1 - t))
    torch.testing.assert_close(flow.flip_time(flipped)(x, t), exact_velocity(x, t))


def test_flipped_time_integrates_to_the_same_samples():
    noise = torch.randn(50, 1, generator=torch.Generator().manual_seed(10), dtype=torch.float64)
    down, up, flipped, steps = noise, noise, flow.flip_time(exact_velocity), 40
    for i in range(steps):
        down = down - exact_velocity(down, torch.full((50,), 1 - i / steps, dtype=noise.dtype)) / steps
        up = up + flipped(up, torch.full((50,), i / steps, dtype=noise.dtype)) / steps  # 1 is data: add
    torch.testing.assert_close(up, down)
    assert (up - noise).abs().mean() > 0.3


@pytest.mark.parametrize("t", [torch.tensor(0.5), torch.rand(5), torch.rand(6, 1)])
def test_a_time_that_is_not_one_per_sample_is_refused(unchecked, t):
    x_0, eps, _ = draw(11, torch.float32)
    for function in (flow.interpolate, flow.velocity_target, *CONVERSIONS):
        message = rf"{function.__name__}: t is float32 .*; (add|take|give both the same b)|one time per sample"
        with pytest.raises(InputError, match=message):
            function(x_0, eps, t, path=flow.gvp)
    with pytest.raises(InputError, match=r"t has shape .* one time per sample.*; use t.expand\(6\)"):
        flow.over_batch.__wrapped__(t, x_0)  # as the lesson's copy says it, which has no @checked


# Times of frames


def test_a_time_per_frame_mixes_each_frame_as_a_clip_of_that_time():
    x_0, eps, _ = draw(11, torch.float64)
    t = torch.rand(SHAPE[0], SHAPE[2], dtype=torch.float64)
    for path in (flow.linear, flow.gvp):
        for function in (flow.interpolate, flow.velocity_target, *CONVERSIONS):
            whole = function(x_0, eps, t, path=path)
            for f in range(SHAPE[2]):
                one = slice(f, f + 1)
                torch.testing.assert_close(
                    whole[:, :, one], function(x_0[:, :, one], eps[:, :, one], t[:, f], path=path)
                )


def test_known_frames_are_seen_clean_and_do_not_count():
    x_0, eps, t = draw(11, torch.float64)
    times = t[:, None].repeat(1, SHAPE[2])
    times[:2, 0] = 0
    seen = []

    def model(x_t, t):
        seen.append(x_t)
        wrong = torch.zeros_like(x_t)
        wrong[:2, :, 0] = 100  # in known frames alone
        return flow.velocity_target(x_0, eps, t) + 0.5 + wrong

    assert flow.flow_loss(model, x_0, t=times, eps=eps).item() == pytest.approx(0.25)
    assert torch.equal(seen[0][:2, :, 0], x_0[:2, :, 0])
    torch.testing.assert_close(seen[0][2:], flow.interpolate(x_0, eps, t)[2:])
    assert flow.flow_loss(model, x_0, t=torch.zeros_like(times), eps=eps) == 0  # nothing is asked


def test_equal_times_of_all_frames_are_the_time_of_the_clip():
    x_0, eps, t = draw(11, torch.float64)
    every = t[:, None].expand(-1, SHAPE[2])
    first, second = (flow.flow_loss(lambda x, t: x.cos(), x_0, t=times, eps=eps) for times in (t, every))
    torch.testing.assert_close(first, second)


@pytest.mark.parametrize("second", [torch.zeros(SHAPE[1:]), torch.zeros(6, 1, 2, 4, 5), torch.zeros(1, *SHAPE[1:])])
def test_data_and_noise_of_two_shapes_are_not_broadcast(unchecked, second):
    x_0, _, t = draw(11, torch.float32)
    for function in (flow.interpolate, flow.velocity_target, *CONVERSIONS):
        with pytest.raises(InputError, match=rf"{function.__name__}: .* is float32 .*give both the same"):
            function(x_0, second, t)
    with pytest.raises(InputError, match=r"flow_loss: eps is .*give both the same"):
        flow.flow_loss(lambda x, t: x, x_0, eps=second)


@pytest.mark.parametrize("bad", [torch.int64, torch.bool])
def test_whole_numbers_and_truths_are_not_times_or_data(unchecked, bad):
    x_0, eps, t = draw(11, torch.float32)
    for arguments in ((x_0.to(bad), eps, t), (x_0, eps.to(bad), t), (x_0, eps, t.to(bad))):
        with pytest.raises(InputError, match="but floating-point numbers are needed"):
            flow.interpolate(*arguments)


ANSWERS = {  # of a model, none of them shaped as its input
    "one channel": lambda x, t: x[:, :1],
    "one sample": lambda x, t: x[:1],
    "a scalar": lambda x, t: x.mean(),
    "a number": lambda x, t: 0.0,
    "nothing": lambda x, t: None,
    "whole numbers": lambda x, t: x.long(),
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_model_whose_answer_is_not_shaped_as_its_input_is_refused(unchecked, answer):
    x_0, _, t = draw(11, torch.float32)
    with pytest.raises(InputError, match="flow_loss: what model_fn returned is "):
        flow.flow_loss(ANSWERS[answer], x_0)
    with pytest.raises(InputError, match="flip_time: what velocity_fn returned is "):
        flow.flip_time(ANSWERS[answer])(x_0, t)
    with pytest.raises(InputError, match="velocity_fn_from_eps_fn: what eps_fn returned is "):
        flow.velocity_fn_from_eps_fn(ANSWERS[answer], ALPHA_BAR)(x_0, t)


def test_the_refusal_of_an_answer_names_both_shapes(unchecked):
    with pytest.raises(
        InputError, match=r"returned is float32 \[4, 1\]: .*\(1,\), but model_fn's argument 1 has .*\(3,\)"
    ):
        flow.flow_loss(lambda x, t: x[:, :1], torch.zeros(4, 3))


def test_a_path_whose_numbers_are_not_shaped_as_its_times_is_refused(unchecked):
    x_0, eps, t = draw(11, torch.float32)
    with pytest.raises(InputError, match="interpolate: what path returned.sigma is "):
        flow.interpolate(x_0, eps, t, path=lambda t: flow.linear(t)._replace(sigma=t[:1]))


@pytest.mark.parametrize("n", [-1, 2.0, None, True])
def test_no_number_of_times_is_refused(n, as_a_user):
    with pytest.raises(InputError, match=f"n={n} is no number of times; use the number of samples"):
        flow.sample_times(n)


def test_unknown_distribution_of_times_is_refused():
    with pytest.raises(InputError, match=r"kind='normal' .* use 'logit-normal' or 'uniform'"):
        flow.sample_times(4, kind="normal")


@pytest.mark.parametrize("shift", [0.0, -1.0, math.nan, math.inf])
def test_a_shift_that_is_not_positive_is_refused(shift):
    with pytest.raises(InputError, match=r"shift=.* is not a positive number; use 1"):
        flow.sample_times(4, shift=shift)


# --- the bridge to DDPM ----------------------------------------------------------------------------------------------

ALPHA_BAR = noising.alpha_bars(noising.linear_betas())


def eps_fn(x_s, s):
    """E[eps | x_s] of the Gaussian data under the DDPM schedule."""
    alpha_bar_s = ALPHA_BAR.to(x_s)[s - 1].view(-1, *[1] * (x_s.ndim - 1))
    variance = alpha_bar_s * STD**2 + 1 - alpha_bar_s
    return (1 - alpha_bar_s).sqrt() * (x_s - alpha_bar_s.sqrt() * MEAN) / variance


def test_a_noised_sample_of_ddpm_is_a_scaled_point_of_the_line():
    x_0, eps, _ = draw(12, torch.float32)
    s = torch.tensor([1, 2, 260, 500, 999, 1000])
    times, scale = flow.line_times(ALPHA_BAR)
    x_s = noising.q_sample(x_0, s, eps, ALPHA_BAR)
    line = flow.interpolate(x_0, eps, times[s - 1])
    torch.testing.assert_close(x_s, flow.over_batch(scale[s - 1], line) * line, atol=1e-5, rtol=0)


def test_line_times_rise_and_cross_the_middle_where_signal_equals_noise():
    times, scale = flow.line_times(ALPHA_BAR)
    assert (times.diff() > 0).all() and 0 < times[0] < 0.02 and 0.99 < times[-1] < 1
    assert times[258] < 0.5 < times[260] and scale.argmax() in (258, 259)  # the SNR crosses 1 at step 260


def test_an_eps_net_becomes_the_velocity_of_the_same_data():
    times, _ = flow.line_times(ALPHA_BAR.double())
    s = torch.tensor([1, 100, 260, 500, 700, 950])
    x_t = draw(13)[0]
    velocity = flow.velocity_fn_from_eps_fn(eps_fn, ALPHA_BAR.double())(x_t, times[s - 1])
    torch.testing.assert_close(velocity, exact_velocity(x_t, times[s - 1]), atol=1e-4, rtol=1e-4)


def test_an_eps_net_is_asked_at_the_nearest_step_also_at_the_ends():
    asked = []
    fn = flow.velocity_fn_from_eps_fn(lambda x, s: asked.append(s) or torch.zeros_like(x), ALPHA_BAR)
    velocity = fn(torch.ones(3, 2), torch.tensor([0.0, 0.5, 1.0]))
    assert asked[0].tolist()[0] == 1 and asked[0].tolist()[2] == 1000 and abs(asked[0].tolist()[1] - 260) <= 1
    assert velocity.isfinite().all() and not asked[0].is_floating_point()
