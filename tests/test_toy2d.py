"""The playground in the plane: its perfect answers against brute force, its field against its own density."""

import math
from functools import partial

import pytest
import torch

from sora_edu.course import toy2d as points
from sora_edu.diffusion import flow, noising, sampling
from sora_edu.errors import InputError

ALPHA_BAR = noising.alpha_bars(noising.linear_betas())
UNEVEN = points.Mixture(torch.tensor([[1.0, 0.5], [-0.5, 1.0], [0.2, -1.5]]), 0.3)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def test_ring_has_unit_variance_and_an_empty_middle():
    x_0 = points.ring().sample(20_000, generator=seeded(0))
    assert x_0.shape == (20_000, 2)
    torch.testing.assert_close(x_0.var(0), torch.ones(2), atol=0.05, rtol=0)
    torch.testing.assert_close(x_0.mean(0), torch.zeros(2), atol=0.05, rtol=0)
    assert (x_0.norm(dim=1) < 0.4).float().mean() < 1e-3


@pytest.mark.parametrize(("alpha", "sigma"), [(0.6, 0.4), (0.9, 0.435), (0.2, 0.98)])
def test_predictions_are_the_averages_over_all_pairs_that_meet(alpha, sigma):
    n, place = 400_000, torch.tensor([[0.3, -0.2]])
    x_0, eps = UNEVEN.sample(n, generator=seeded(1)), torch.randn(n, 2, generator=seeded(2))
    near = (alpha * x_0 + sigma * eps - place).norm(dim=1) < 0.06
    expected = UNEVEN.predict(place, torch.tensor([alpha]), torch.tensor([sigma]))
    for values, answer in zip((x_0[near], eps[near]), expected, strict=True):
        error = values.std(0) / math.sqrt(len(values))
        assert len(values) > 300 and ((values.mean(0) - answer[0]).abs() < 4 * error + 0.01).all()


def test_predictions_mix_to_the_point_they_were_made_for():
    x = torch.randn(7, 2, generator=seeded(3), dtype=torch.float64)
    t = torch.linspace(0, 1, 7, dtype=torch.float64)
    for path in (flow.linear, flow.gvp):
        x_0, eps = UNEVEN.predict(x, path(t).alpha, path(t).sigma)
        velocity = UNEVEN.velocity(x, t, path=path)
        torch.testing.assert_close(flow.interpolate(x_0, eps, t, path=path), x)
        torch.testing.assert_close(flow.x_0_from_velocity(x, velocity, t, path=path), x_0)
        torch.testing.assert_close(flow.eps_from_velocity(x, velocity, t, path=path), eps)


def test_velocity_gives_the_score_of_the_mixtures_own_density():
    x = torch.randn(6, 2, generator=seeded(4), dtype=torch.float64).requires_grad_()
    t = torch.linspace(0.1, 1, 6, dtype=torch.float64)
    variance = ((1 - t) ** 2 * UNEVEN.std**2 + t**2)[:, None]
    offset = x[:, None] - (1 - t)[:, None, None] * UNEVEN.means.double()
    log_p = (-offset.square().sum(-1) / (2 * variance)).logsumexp(1) - variance.log().squeeze(1)
    score = flow.score_from_velocity(x.detach(), UNEVEN.velocity(x.detach(), t), t)
    torch.testing.assert_close(score, torch.autograd.grad(log_p.sum(), x)[0])


def test_eps_is_the_prediction_under_the_schedule():
    x, s = torch.randn(4, 2, generator=seeded(5)), torch.tensor([1, 260, 500, 1000])
    alpha_bar_s = ALPHA_BAR[s - 1]
    torch.testing.assert_close(
        UNEVEN.eps(x, s, ALPHA_BAR), UNEVEN.predict(x, alpha_bar_s.sqrt(), (1 - alpha_bar_s).sqrt())[1]
    )


def test_no_other_field_has_a_lower_loss():
    x_0 = UNEVEN.sample(50_000, generator=seeded(6))
    best = flow.flow_loss(UNEVEN.velocity, x_0, generator=seeded(7), kind="uniform")
    for change in (lambda v: v + 0.1, lambda v: 0.9 * v, lambda v: v.roll(1, 0)):
        worse = flow.flow_loss(
            lambda x, t, f=change: f(UNEVEN.velocity(x, t)), x_0, generator=seeded(7), kind="uniform"
        )
        assert worse > best + 1e-3
    assert best > 0.5, "and it is far from zero"


def test_every_sampler_of_the_exact_field_reaches_the_data():
    real, noise = UNEVEN.sample(3000, generator=seeded(8)), torch.randn(3000, 2, generator=seeded(9))

    def eps_fn(x_s, s):
        return UNEVEN.eps(x_s, s, ALPHA_BAR)

    clouds = [
        sampling.euler(UNEVEN.velocity, noise, steps=100),
        sampling.heun(partial(UNEVEN.velocity, path=flow.gvp), noise, steps=50),
        sampling.sde(UNEVEN.velocity, noise, steps=100, generator=seeded(10)),
        sampling.ddim(eps_fn, noise, alpha_bar=ALPHA_BAR, steps=100),
        sampling.ddpm(eps_fn, noise, alpha_bar=ALPHA_BAR, steps=250, generator=seeded(11)),
        sampling.euler(flow.velocity_fn_from_eps_fn(eps_fn, ALPHA_BAR), noise, steps=100),
    ]
    assert max(points.energy_distance(cloud, real) for cloud in clouds) < 0.006
    assert points.energy_distance(noise, real) > 0.03, "the distance can tell"
    assert points.energy_distance(sampling.euler(UNEVEN.velocity, noise, steps=1), real) > 0.3


def test_the_best_first_step_from_noise_leads_to_the_mean():
    noise = torch.randn(50, 2, generator=seeded(12))
    landed = sampling.euler(UNEVEN.velocity, noise, steps=1)
    torch.testing.assert_close(landed, UNEVEN.means.mean(0).expand(50, 2), atol=1e-5, rtol=0)


def test_point_net_answers_in_the_plane_and_depends_on_both_inputs():
    torch.manual_seed(0)
    net, x, t = points.PointNet(16), torch.randn(5, 2), torch.rand(5)
    assert net(x, t).shape == (5, 2)
    assert not torch.allclose(net(x, t), net(x + 1, t)) and not torch.allclose(net(x, t), net(x, t / 2))


def test_fit_learns_a_line_and_repeats_with_its_seed():
    def loss_fn(net, x_0, generator):
        assert generator.initial_seed() == 3
        return (net(x_0) - 2 * x_0).square().mean()

    losses = []
    for _ in range(2):
        torch.manual_seed(0)
        losses.append(points.fit(torch.nn.Linear(2, 2), loss_fn, points.ring(), steps=200, batch=64, lr=0.1, seed=3))
    assert losses[0] == losses[1] and len(losses[0]) == 200 and losses[0][-1] < 1e-3 < losses[0][0]


def test_energy_distance_by_hand():
    a, b = torch.tensor([[0.0, 0.0], [2.0, 0.0]]), torch.tensor([[0.0, 0.0]])
    assert points.energy_distance(a, b) == pytest.approx(2 * 1 - 1 - 0)
    assert points.energy_distance(a, a) == pytest.approx(0)
    shifted = points.energy_distance(torch.zeros(3, 2), torch.zeros(4, 2) + torch.tensor([3.0, 4.0]))
    assert shifted == pytest.approx(10)


def test_energy_distance_of_an_empty_cloud_is_refused():
    with pytest.raises(InputError, match="clouds of 0 and 3 points; give at least one"):
        points.energy_distance(torch.zeros(0, 2), torch.zeros(3, 2))
