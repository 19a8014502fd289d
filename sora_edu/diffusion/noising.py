"""Forward noising as DDPM writes it: a schedule of small steps s = 1..1000, and the closed form that skips to any s.

(lesson 06)
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sora_edu.checked import checked
from sora_edu.errors import InputError

LONGEST = 8000  # steps; with more, the linear schedule's last alpha_bar is smaller than any normal float32


def check_steps(steps: int) -> None:
    """Raise InputError unless a schedule of ``steps`` steps exists."""
    if type(steps) is not int or not 1 <= steps <= LONGEST:
        raise InputError(f"steps={steps!r} is not a whole number in 1..{LONGEST}; DDPM uses 1000")


def linear_betas(steps: int = 1000) -> Float[Tensor, "{steps}"]:
    """Return the noise variance that each step adds, on a line from 1e-4 to 2e-2 (DDPM, 2006.11239, section 4)."""
    check_steps(steps)
    return torch.linspace(1e-4, 2e-2, steps)


def cosine_betas(steps: int = 1000) -> Float[Tensor, "{steps}"]:
    """Return the variances whose alpha_bar falls as ``cos^2(pi/2 (u + .008) / 1.008)``, u = s / steps.

    From Improved DDPM (2102.09672, eq. 17): details are hidden later than in the linear schedule. Each beta is capped
    at 0.999, so that the last step leaves a trace of signal.
    """
    check_steps(steps)
    u = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    alpha_bar = (math.pi / 2 * (u + 0.008) / 1.008).cos() ** 2
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=0.999).float()


@checked
def alpha_bars(betas: Float[Tensor, " steps"]) -> Float[Tensor, " steps"]:
    """Return the share of signal variance left after each step, the running product of ``1 - beta`` (DDPM eq. 4).

    ``alpha_bar_s`` is element s - 1: the first step is s = 1, and clean data would be s = 0.
    """
    return (1 - betas.double()).cumprod(0).to(betas.dtype)


@checked
def snr(alpha_bar: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return the signal-to-noise ratio ``alpha_bar / (1 - alpha_bar)``; 1 where signal and noise are equally strong."""
    return alpha_bar / (1 - alpha_bar)


@checked
def at_step(
    schedule: Float[Tensor, " steps"], s: Int[Tensor, " b"], x: Float[Tensor, "b *rest"]
) -> Float[Tensor, "b *ones"]:
    """Look up each sample's step, shaped ``b 1 1 ...`` to multiply ``x``. Raises InputError unless s is in 1..steps."""
    if s.shape != x.shape[:1]:
        raise InputError(f"s has shape {tuple(s.shape)}, but x {tuple(x.shape)} needs one step per sample")
    if s.min() < 1 or s.max() > len(schedule):
        got = f"s={s.min()}..{s.max()}" if len(s) > 1 else f"s={s.item()}"
        raise InputError(f"{got} is not in 1..{len(schedule)}; the first step is 1, and clean data (0) is not a step")
    return schedule.to(x)[s.to(x.device) - 1].view(-1, *[1] * (x.ndim - 1))


@checked
def q_step(
    x_prev: Float[Tensor, "b *rest"],
    s: Int[Tensor, " b"],
    eps: Float[Tensor, "b *rest"],
    betas: Float[Tensor, " steps"],
) -> Float[Tensor, "b *rest"]:
    """Take the single noising step s: ``x_s = sqrt(1 - beta_s) x_prev + sqrt(beta_s) eps`` (DDPM eq. 2)."""
    beta_s = at_step(betas, s, x_prev)
    return (1 - beta_s).sqrt() * x_prev + beta_s.sqrt() * eps


@checked
def q_sample(
    x_0: Float[Tensor, "b *rest"],
    s: Int[Tensor, " b"],
    eps: Float[Tensor, "b *rest"],
    alpha_bar: Float[Tensor, " steps"],
) -> Float[Tensor, "b *rest"]:
    """Take all s noising steps at once: ``x_s = sqrt(alpha_bar_s) x_0 + sqrt(1 - alpha_bar_s) eps`` (DDPM eq. 4).

    s in 1..len(alpha_bar), one per sample; eps standard normal. Raises InputError for another s.
    """
    alpha_bar_s = at_step(alpha_bar, s, x_0)
    return alpha_bar_s.sqrt() * x_0 + (1 - alpha_bar_s).sqrt() * eps


@checked
def x_0_from_eps(
    x_s: Float[Tensor, "b *rest"],
    eps: Float[Tensor, "b *rest"],
    s: Int[Tensor, " b"],
    alpha_bar: Float[Tensor, " steps"],
) -> Float[Tensor, "b *rest"]:
    """Solve q_sample for the data: ``(x_s - sqrt(1 - alpha_bar_s) eps) / sqrt(alpha_bar_s)`` (DDPM eq. 15)."""
    alpha_bar_s = at_step(alpha_bar, s, x_s)
    return (x_s - (1 - alpha_bar_s).sqrt() * eps) / alpha_bar_s.sqrt()


@checked
def eps_from_x_0(
    x_s: Float[Tensor, "b *rest"],
    x_0: Float[Tensor, "b *rest"],
    s: Int[Tensor, " b"],
    alpha_bar: Float[Tensor, " steps"],
) -> Float[Tensor, "b *rest"]:
    """Solve q_sample for the noise: ``(x_s - sqrt(alpha_bar_s) x_0) / sqrt(1 - alpha_bar_s)``."""
    alpha_bar_s = at_step(alpha_bar, s, x_s)
    return (x_s - alpha_bar_s.sqrt() * x_0) / (1 - alpha_bar_s).sqrt()
