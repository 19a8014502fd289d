"""Five trainings of one small network, four of them with a planted bug: the patients of lesson 10.

Points in the plane stand for latents (see ``points``), so each training takes a second and its samples can be seen.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from sora_edu.course.toy2d import PointNet, Points, energy_distance, ring
from sora_edu.diffusion.flow import flow_loss, interpolate, sample_times, velocity_target
from sora_edu.diffusion.sampling import euler

BUGS = {  # what a learner may answer, and what it means
    "healthy": "no bug",
    "rate too high": "a learning rate a hundred times too high",
    "no latent scale": "data with a standard deviation of 0.1, as latents that nobody multiplied by latent_scale",
    "swapped target": "trained towards x_0 - eps in place of eps - x_0",
    "not shuffled": "data sorted by kind: first all of one blob, then all of the next",
}
PATIENTS = {
    "A": "not shuffled",
    "B": "swapped target",
    "C": "no latent scale",
    "D": "healthy",
    "E": "rate too high",
}
DATA = ring()
RATE, TOO_HIGH, TOO_SMALL = 3e-3, 0.3, 0.1
STRETCH = 30  # steps on one blob before the next comes, where the data are not shuffled


@dataclass(frozen=True)
class Patient:
    """A training's loss at each step, its samples on the data's own scale, and their distance to fresh data."""

    losses: list[float]
    samples: Points
    distance: float


def draw_batch(step: int, batch: int, bug: str, generator: torch.Generator) -> Points:
    """A batch of the ring, with the bugs that sit in the data."""
    blob = torch.randint(len(DATA.means), (batch,), generator=generator)
    if bug == "not shuffled":
        blob = torch.full_like(blob, step // STRETCH % len(DATA.means))
    x_0 = DATA.means[blob] + DATA.std * torch.randn(batch, 2, generator=generator)
    return x_0 * TOO_SMALL if bug == "no latent scale" else x_0


def swapped_loss(net: PointNet, x_0: Points, generator: torch.Generator) -> Tensor:
    """The loss with its target turned round."""
    t, eps = sample_times(len(x_0), generator=generator), torch.randn(x_0.shape, generator=generator)
    return (net(interpolate(x_0, eps, t), t) + velocity_target(x_0, eps, t)).square().mean()


def train_patient(bug: str, *, steps: int = 900, batch: int = 256, seed: int = 0) -> Patient:
    """Train with a bug (a key of BUGS), and sample with the ordinary, right sampler."""
    torch.manual_seed(seed)
    net, generator, losses = PointNet(), torch.Generator().manual_seed(seed), []
    optimiser = torch.optim.Adam(net.parameters(), TOO_HIGH if bug == "rate too high" else RATE)
    for step in range(steps):
        x_0 = draw_batch(step, batch, bug, generator)
        if bug == "swapped target":
            loss = swapped_loss(net, x_0, generator)
        else:
            loss = flow_loss(net, x_0, generator=generator)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    samples = euler(net, torch.randn(800, 2, generator=torch.Generator().manual_seed(7)), steps=40).detach()
    samples = samples / TOO_SMALL if bug == "no latent scale" else samples
    return Patient(losses, samples, energy_distance(samples, fresh()))


def fresh(n: int = 800) -> Points:
    """Real points, to compare with."""
    return DATA.sample(n, generator=torch.Generator().manual_seed(8))


def perfect_loss(n: int = 50_000) -> float:
    """The loss of the best possible answer, by Bayes' rule: what a healthy training comes down to."""
    generator = torch.Generator().manual_seed(9)
    return flow_loss(DATA.velocity, DATA.sample(n, generator=generator), generator=generator).item()


def all_patients(*, steps: int = 900) -> dict[str, Patient]:
    """Letter to patient."""
    return {letter: train_patient(bug, steps=steps) for letter, bug in PATIENTS.items()}
