"""From noise to data: ODE and SDE samplers for a velocity, ancestral and implicit ones for a noise prediction.

Every sampler is a plain function ``sampler(fn, noise, *, steps, callback=None, generator=None)``. Before each step it
calls ``callback(step, t, x_t, x_0_hat)``: where the sample is now, and the clean data that the model sees in it. Of a
velocity x_0_hat is right on the line; a velocity of another path is walked to its end all the same.

An answer of another shape than x is refused, as PyTorch would broadcast it. Its values are not looked at, which would
make a GPU wait at every step: where a model answers NaN, the sample is NaN (lesson 07).
"""

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from sora_edu.checked import checked
from sora_edu.diffusion.flow import EpsFn, VelocityFn, score_from_velocity, shift_times
from sora_edu.errors import InputError

Callback = Callable[[int, float, Tensor, Tensor], object]  # (step, t, x_t, x_0_hat)


MOST_STEPS = 1000  # of Euler, they differ from 500 by a quarter of a grey level (rms, a clip of tiny): more buy nothing


def time_grid(steps: int, *, shift: float = 1.0) -> Float[Tensor, "{steps}+1"]:
    """Return steps + 1 times from 1 (noise) to 0 (data), evenly spaced, then shifted towards noise (SD3 eq. 23).

    Raises InputError unless steps is a whole number from 1 to MOST_STEPS and shift positive.
    """
    if type(steps) is not int or not 1 <= steps <= MOST_STEPS:
        got = f"steps={steps!r} is not a whole number in 1..{MOST_STEPS}"
        raise InputError(f"{got}; use 25 for a first try; from a few hundred on a clip hardly changes")
    return shift_times(torch.linspace(1, 0, steps + 1), shift)


@torch.no_grad()
@checked
def euler(
    velocity_fn: VelocityFn,
    noise: Float[Tensor, "b *rest"],
    *,
    steps: int,
    shift: float = 1.0,
    callback: Callback | None = None,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "b *rest"]:
    """Walk the probability-flow ODE ``dx/dt = velocity`` (SiT section 2) from t = 1 to 0 in straight steps.

    One pass a step; the error falls as 1 / steps. The generator is not used: all randomness is in the noise.
    Returns the sample; raises InputError as time_grid does.
    """
    x_t = noise
    for step, (t, t_next) in enumerate(pairwise(time_grid(steps, shift=shift).tolist())):
        velocity = velocity_fn(x_t, x_t.new_full(x_t.shape[:1], t))
        if callback is not None:
            callback(step, t, x_t, x_t - t * velocity)
        x_t = x_t - (t - t_next) * velocity
    return x_t


@torch.no_grad()
@checked
def heun(
    velocity_fn: VelocityFn,
    noise: Float[Tensor, "b *rest"],
    *,
    steps: int,
    shift: float = 1.0,
    callback: Callback | None = None,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "b *rest"]:
    """Walk the same ODE as euler, each step with the mean of the velocities at its two ends (EDM, 2206.00364, alg. 1).

    Two passes a step, one in the last; the error falls as 1 / steps^2. The generator is not used.
    Returns the sample; raises InputError as time_grid does.
    """
    x_t = noise
    for step, (t, t_next) in enumerate(pairwise(time_grid(steps, shift=shift).tolist())):
        velocity = velocity_fn(x_t, x_t.new_full(x_t.shape[:1], t))
        if callback is not None:
            callback(step, t, x_t, x_t - t * velocity)
        if t_next > 0:  # a single Euler step at the end keeps the order, and spares the model t = 0
            x_next = x_t - (t - t_next) * velocity
            velocity = (velocity + velocity_fn(x_next, x_t.new_full(x_t.shape[:1], t_next))) / 2
        x_t = x_t - (t - t_next) * velocity
    return x_t


@torch.no_grad()
@checked
def sde(
    velocity_fn: VelocityFn,
    noise: Float[Tensor, "b *rest"],
    *,
    steps: int,
    shift: float = 1.0,
    callback: Callback | None = None,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "b *rest"]:
    """Walk SiT's reverse SDE ``dx = velocity dt - w/2 score dt + sqrt(w) dW`` by Euler-Maruyama, with w = t.

    It passes through the same marginals as the ODE: fresh noise is added, and the score takes as much away.
    w = t cancels the 1 / t of the score; the last step adds no noise. Returns the sample; raises as time_grid does.
    """
    x_t = noise
    for step, (t, t_next) in enumerate(pairwise(time_grid(steps, shift=shift).tolist())):
        t_b = x_t.new_full(x_t.shape[:1], t)
        dt = t - t_next
        w = t
        velocity = velocity_fn(x_t, t_b)
        if callback is not None:
            callback(step, t, x_t, x_t - t * velocity)
        if t_next > 0:
            fresh = torch.randn(x_t.shape, generator=generator, device=x_t.device, dtype=x_t.dtype)
            x_t = x_t + dt * w / 2 * score_from_velocity(x_t, velocity, t_b) + math.sqrt(w * dt) * fresh
        x_t = x_t - dt * velocity
    return x_t


def step_grid(steps: int, total: int) -> list[int]:
    """Return steps + 1 DDPM step indices, evenly spaced from total (noise) to 0 (data): 1000, 900, ... 0 for 10.

    Raises InputError unless steps lies in 1..total.
    """
    if type(steps) is not int or not 1 <= steps <= total:
        raise InputError(f"steps={steps!r} is not in 1..{total}, the length of alpha_bar; use {total} or fewer")
    return torch.linspace(total, 0, steps + 1, dtype=torch.float64).round().int().tolist()


@checked
def alpha_bar_by_step(alpha_bar: Float[Tensor, " total"]) -> list[float]:
    """Return alpha_bar as numbers behind alpha_bar_0 = 1, clean data: element s belongs to step s.

    Raises InputError unless it falls from step to step and stays above 0.
    """
    table = [1.0, *alpha_bar.tolist()]
    if not all(before > after > 0 for before, after in pairwise(table)):
        raise InputError("alpha_bar does not fall from below 1 to above 0; use alpha_bars(linear_betas())")
    return table


@torch.no_grad()
@checked
def ddpm(
    eps_fn: EpsFn,
    noise: Float[Tensor, "b *rest"],
    *,
    alpha_bar: Float[Tensor, " total"],
    steps: int = 1000,
    callback: Callback | None = None,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "b *rest"]:
    """Sample step by step from DDPM's posterior (2006.11239, eqs 7 and 11, algorithm 2).

    ``x_prev = (x_s - beta / sqrt(1 - alpha_bar_s) eps) / sqrt(1 - beta) + sigma z`` with
    ``beta = 1 - alpha_bar_s / alpha_bar_prev``. Fewer steps than len(alpha_bar) visit an even subset of the s.
    Returns the sample; raises InputError as step_grid and alpha_bar_by_step do.
    """
    table = alpha_bar_by_step(alpha_bar)
    x_s = noise
    for step, (s, s_prev) in enumerate(pairwise(step_grid(steps, len(alpha_bar)))):
        alpha_bar_s, alpha_bar_prev = table[s], table[s_prev]
        eps = eps_fn(x_s, torch.full(x_s.shape[:1], s, device=x_s.device))
        if callback is not None:
            x_0_hat = (x_s - math.sqrt(1 - alpha_bar_s) * eps) / math.sqrt(alpha_bar_s)
            callback(step, s / len(alpha_bar), x_s, x_0_hat)
        beta = 1 - alpha_bar_s / alpha_bar_prev  # of all steps from s_prev to s together
        x_s = (x_s - beta / math.sqrt(1 - alpha_bar_s) * eps) / math.sqrt(1 - beta)
        if s_prev > 0:
            sigma = math.sqrt(beta * (1 - alpha_bar_prev) / (1 - alpha_bar_s))
            x_s = x_s + sigma * torch.randn(x_s.shape, generator=generator, device=x_s.device, dtype=x_s.dtype)
    return x_s


@torch.no_grad()
@checked
def ddim(
    eps_fn: EpsFn,
    noise: Float[Tensor, "b *rest"],
    *,
    alpha_bar: Float[Tensor, " total"],
    steps: int = 50,
    eta: float = 0.0,
    callback: Callback | None = None,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "b *rest"]:
    """Predict x_0, then noise it again to the step before (DDIM, 2010.02502, eqs 12 and 16).

    ``x_prev = sqrt(alpha_bar_prev) x_0 + sqrt(1 - alpha_bar_prev - sigma^2) eps + sigma z``; eta in [0, 1]
    scales sigma: 0 is deterministic, 1 is ddpm. Returns the sample; raises InputError for another eta, or as ddpm.
    """
    if not 0 <= eta <= 1:
        raise InputError(f"eta={eta} is not in [0, 1]; use 0 for the deterministic sampler, 1 for DDPM's noise")
    table = alpha_bar_by_step(alpha_bar)
    x_s = noise
    for step, (s, s_prev) in enumerate(pairwise(step_grid(steps, len(alpha_bar)))):
        alpha_bar_s, alpha_bar_prev = table[s], table[s_prev]
        eps = eps_fn(x_s, torch.full(x_s.shape[:1], s, device=x_s.device))
        x_0_hat = (x_s - math.sqrt(1 - alpha_bar_s) * eps) / math.sqrt(alpha_bar_s)
        if callback is not None:
            callback(step, s / len(alpha_bar), x_s, x_0_hat)
        sigma = eta * math.sqrt((1 - alpha_bar_prev) / (1 - alpha_bar_s) * (1 - alpha_bar_s / alpha_bar_prev))
        x_s = math.sqrt(alpha_bar_prev) * x_0_hat + math.sqrt(1 - alpha_bar_prev - sigma**2) * eps
        if sigma > 0:
            x_s = x_s + sigma * torch.randn(x_s.shape, generator=generator, device=x_s.device, dtype=x_s.dtype)
    return x_s
