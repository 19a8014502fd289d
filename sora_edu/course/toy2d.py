"""Points in the plane in place of videos: data whose best prediction is known exactly, a small net, a distance.

Everything that is true of eps, x_0, velocity, ODE and SDE in two dimensions is true of videos in a million, and here
one can look at it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sora_edu.checked import checked
from sora_edu.diffusion.flow import PathFn, linear, over_batch, velocity_target
from sora_edu.diffusion.noising import at_step
from sora_edu.errors import InputError

Points = Float[Tensor, "n 2"]


@dataclass(frozen=True)
class Mixture:
    """Equally likely round blobs: centres ``means``, k 2, and one spread ``std`` in every direction.

    Gaussian data stay Gaussian under noise, so what a perfect network would answer can be written down.
    """

    means: Float[Tensor, "k 2"]
    std: float

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Points:
        """Draw n points of data, on the CPU."""
        blob = torch.randint(len(self.means), (n,), generator=generator)
        return self.means[blob] + self.std * torch.randn(n, 2, generator=generator)

    @checked
    def predict(self, x: Points, alpha: Float[Tensor, " n"], sigma: Float[Tensor, " n"]) -> tuple[Points, Points]:
        """Return E[x_0 | x] and E[eps | x] for ``x = alpha x_0 + sigma eps``.

        Bayes: blob k has weight N(x; alpha mean_k, variance), with variance = alpha^2 std^2 + sigma^2, and within it
        the offset x - alpha mean_k is shared out between data and noise as their variances are.
        """
        alpha, sigma = over_batch(alpha, x), over_batch(sigma, x)  # n 1
        means = self.means.to(x)
        variance = alpha**2 * self.std**2 + sigma**2  # n 1
        offset = x[:, None] - alpha[:, None] * means  # n k 2
        weight = (-offset.square().sum(-1) / (2 * variance)).softmax(dim=1)  # n k
        mean_offset = (weight[..., None] * offset).sum(1)  # n 2
        return weight @ means + alpha * self.std**2 / variance * mean_offset, sigma / variance * mean_offset

    @checked
    def velocity(self, x_t: Points, t: Float[Tensor, " n"], *, path: PathFn = linear) -> Points:
        """Return the best velocity for a path, ``d_alpha E[x_0 | x_t] + d_sigma E[eps | x_t]``."""
        at = path(t)
        x_0, eps = self.predict(x_t, at.alpha, at.sigma)
        return velocity_target(x_0, eps, t, path=path)

    @checked
    def eps(self, x_s: Points, s: Int[Tensor, " n"], alpha_bar: Float[Tensor, " steps"]) -> Points:
        """Return E[eps | x_s] under a DDPM schedule, s in 1..len(alpha_bar)."""
        alpha_bar_s = at_step(alpha_bar, s, x_s).flatten()
        return self.predict(x_s, alpha_bar_s.sqrt(), (1 - alpha_bar_s).sqrt())[1]


def ring(blobs: int = 6, *, radius: float = 1.4, std: float = 0.2) -> Mixture:
    """Blobs around a circle, about unit variance in each coordinate; nothing lies at their average, the middle."""
    angle = torch.arange(blobs) * 2 * math.pi / blobs
    return Mixture(radius * torch.stack([angle.cos(), angle.sin()], dim=1), std)


class PointNet(nn.Module):
    """Three hidden layers that answer (x_t, t) with two numbers: a noise, a velocity, whatever they are trained on."""

    def __init__(self, width: int = 128):
        super().__init__()
        self.register_buffer("frequencies", math.pi * torch.tensor([0.5, 1.0, 2.0, 4.0]))
        layers = [nn.Linear(2 + 8, width), nn.SiLU()]
        for _ in range(2):
            layers += [nn.Linear(width, width), nn.SiLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(width, 2))

    @checked
    def forward(self, x_t: Points, t: Float[Tensor, " n"]) -> Points:
        phase = t[:, None] * self.frequencies  # n 4
        return self.layers(torch.cat([x_t, phase.sin(), phase.cos()], dim=1))  # n 2


@checked
def fit(
    net: nn.Module,
    loss_fn: Callable[[nn.Module, Points, torch.Generator], Float[Tensor, ""]],
    data: Mixture,
    *,
    steps: int = 1500,
    batch: int = 512,
    lr: float = 1e-2,
    seed: int = 0,
) -> list[float]:
    """Train ``net`` in place on fresh points of ``data``; return the loss of every step.

    Adam, with a rate that rises over the first third and falls to nothing. Nothing but the net's first weights and
    the seed decides the result.
    """
    generator = torch.Generator().manual_seed(seed)
    losses = []
    optimiser = torch.optim.Adam(net.parameters(), lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=steps)
    for _ in range(steps):
        loss = loss_fn(net, data.sample(batch, generator=generator), generator)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
    return losses


@checked(empty=True)
def energy_distance(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> float:
    """Return ``2 E|a - b| - E|a - a'| - E|b - b'|``: 0 only where two clouds are of one distribution.

    Two finite clouds of the same distribution differ a little too: that is the floor, measure it beside every other.
    Raises InputError for an empty cloud. (Szekely and Rizzo, Energy statistics, 2013.)
    """
    if len(a) == 0 or len(b) == 0:
        raise InputError(f"got clouds of {len(a)} and {len(b)} points; give at least one point in each")
    between = torch.cdist(a, b).mean()
    within = torch.cdist(a, a).mean() + torch.cdist(b, b).mean()
    return (2 * between - within).item()
