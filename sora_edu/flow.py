"""Flow matching as SiT writes it: an interpolant between data and noise, its velocity, and the loss that learns it.

Time runs from data to noise: t = 0 is data, t = 1 is noise (SiT, Ma et al., arXiv 2401.08740). SiT's own code,
rectified flow and much of the literature put data at t = 1: ``flip_time`` goes from one convention to the other.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from sora_edu.errors import InputError
from sora_edu.shapes import Times

VelocityFn = Callable[[Tensor, Tensor], Tensor]  # (x_t: b ..., t: b) -> velocity: b ...
EpsFn = Callable[[Tensor, Tensor], Tensor]  # (x_s: b ..., s: b whole numbers 1..1000) -> eps: b ...


def over_batch(t: Times, x: Float[Tensor, "b *rest"]) -> Float[Tensor, "b *ones"]:
    """Reshape one time per sample, ``b``, to ``b 1 1 ...``, to multiply ``x``; raise InputError if it cannot."""
    if t.ndim != 1 or t.shape[0] != x.shape[0]:
        got, b = tuple(t.shape), x.shape[0]
        raise InputError(f"t has shape {got}, but x {tuple(x.shape)} needs one time per sample; use t.expand({b})")
    return t.view(-1, *[1] * (x.ndim - 1))


# --- the linear interpolant ------------------------------------------------------------------------------------------


def interpolate(x_0: Float[Tensor, "b *rest"], eps: Float[Tensor, "b *rest"], t: Times) -> Float[Tensor, "b *rest"]:
    """Mix data and noise on a straight line: ``x_t = (1 - t) x_0 + t eps`` (SiT eq. 1 with alpha = 1 - t, sigma = t).

    x_0 data, eps standard normal noise, t in [0, 1]. Returns x_t; raises InputError unless t holds one time per sample.
    """
    t = over_batch(t, x_0)
    return (1 - t) * x_0 + t * eps


def velocity_target(x_0: Float[Tensor, "b *rest"], eps: Float[Tensor, "b *rest"]) -> Float[Tensor, "b *rest"]:
    """Return the derivative of ``x_t`` with respect to t, ``eps - x_0``: it points from data to noise, at every t."""
    return eps - x_0


def x_0_from_velocity(
    x_t: Float[Tensor, "b *rest"], velocity: Float[Tensor, "b *rest"], t: Times
) -> Float[Tensor, "b *rest"]:
    """Follow the straight line back to its start: ``x_0 = x_t - t velocity``. Raises InputError as interpolate does."""
    return x_t - over_batch(t, x_t) * velocity


def eps_from_velocity(
    x_t: Float[Tensor, "b *rest"], velocity: Float[Tensor, "b *rest"], t: Times
) -> Float[Tensor, "b *rest"]:
    """Follow the straight line to its end: ``eps = x_t + (1 - t) velocity``. Raises InputError as interpolate does."""
    return x_t + (1 - over_batch(t, x_t)) * velocity


def velocity_from_x_0(
    x_t: Float[Tensor, "b *rest"], x_0: Float[Tensor, "b *rest"], t: Times
) -> Float[Tensor, "b *rest"]:
    """Turn a prediction of the data into a velocity, ``(x_t - x_0) / t``; t in (0, 1]: at t = 0 it is 0 / 0."""
    return (x_t - x_0) / over_batch(t, x_t)


def velocity_from_eps(
    x_t: Float[Tensor, "b *rest"], eps: Float[Tensor, "b *rest"], t: Times
) -> Float[Tensor, "b *rest"]:
    """Turn a prediction of the noise into a velocity, ``(eps - x_t) / (1 - t)``; t in [0, 1): at t = 1 it is 0 / 0."""
    return (eps - x_t) / (1 - over_batch(t, x_t))


def score_from_velocity(
    x_t: Float[Tensor, "b *rest"], velocity: Float[Tensor, "b *rest"], t: Times
) -> Float[Tensor, "b *rest"]:
    """Turn a velocity into the score, the gradient of log p_t: ``-E[eps | x_t] / t`` (SiT section 2); t in (0, 1]."""
    return -eps_from_velocity(x_t, velocity, t) / over_batch(t, x_t)


# --- the variance-preserving interpolant (GVP): a quarter circle in place of the line -------------------------------


def interpolate_gvp(x_0: Float[Tensor, "b *rest"], eps: Float[Tensor, "b *rest"], t: Times) -> Float[Tensor, "b *rest"]:
    """Mix data and noise on a quarter circle: ``x_t = cos(pi t / 2) x_0 + sin(pi t / 2) eps`` (SiT's GVP).

    cos^2 + sin^2 = 1: where the data have variance 1, so has every x_t. Raises InputError as interpolate does.
    """
    angle = over_batch(t, x_0) * math.pi / 2
    return angle.cos() * x_0 + angle.sin() * eps


def velocity_target_gvp(
    x_0: Float[Tensor, "b *rest"], eps: Float[Tensor, "b *rest"], t: Times
) -> Float[Tensor, "b *rest"]:
    """Return GVP's derivative, ``pi/2 (cos(pi t / 2) eps - sin(pi t / 2) x_0)``; it turns with t."""
    angle = over_batch(t, x_0) * math.pi / 2
    return math.pi / 2 * (angle.cos() * eps - angle.sin() * x_0)


def x_0_from_velocity_gvp(
    x_t: Float[Tensor, "b *rest"], velocity: Float[Tensor, "b *rest"], t: Times
) -> Float[Tensor, "b *rest"]:
    """Rotate (x_t, velocity) back to the data: ``x_0 = cos(pi t / 2) x_t - 2/pi sin(pi t / 2) velocity``."""
    angle = over_batch(t, x_t) * math.pi / 2
    return angle.cos() * x_t - 2 / math.pi * angle.sin() * velocity


def eps_from_velocity_gvp(
    x_t: Float[Tensor, "b *rest"], velocity: Float[Tensor, "b *rest"], t: Times
) -> Float[Tensor, "b *rest"]:
    """Rotate (x_t, velocity) on to the noise: ``eps = sin(pi t / 2) x_t + 2/pi cos(pi t / 2) velocity``."""
    angle = over_batch(t, x_t) * math.pi / 2
    return angle.sin() * x_t + 2 / math.pi * angle.cos() * velocity


# --- which times to train on, and the loss ---------------------------------------------------------------------------


def shift_times(t: Float[Tensor, "*shape"], shift: float) -> Float[Tensor, "*shape"]:
    """Move times towards noise: ``t' = shift t / (1 + (shift - 1) t)`` (SD3, arXiv 2403.03206, eq. 23).

    t in [0, 1]; 0 and 1 stay where they are. Larger clips hide less under the same noise, so they want shift > 1.
    Raises InputError unless shift is positive and finite.
    """
    if not 0 < shift < math.inf:
        raise InputError(f"shift={shift} is not a positive number; use 1 for no shift, or about 3 for large latents")
    return shift * t / (1 + (shift - 1) * t)


def sample_times(
    n: int,
    *,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
    kind: str = "logit-normal",
    shift: float = 1.0,
) -> Float[Tensor, "{n}"]:
    """Draw n training times in [0, 1]: "uniform", or "logit-normal" (SD3 section 3.1), t = sigmoid(normal).

    Logit-normal draws the middle more often than the ends, where the answer is nearly given. shift as in shift_times.
    Raises InputError for another kind. The generator must live on the device.
    """
    if kind == "uniform":
        t = torch.rand(n, generator=generator, device=device)
    elif kind == "logit-normal":
        t = torch.randn(n, generator=generator, device=device).sigmoid()
    else:
        raise InputError(f"kind={kind!r} is not a distribution of times; use 'logit-normal' or 'uniform'")
    return shift_times(t, shift)


def flow_loss(
    model_fn: VelocityFn,
    x_0: Float[Tensor, "b *rest"],
    *,
    generator: torch.Generator | None = None,
    kind: str = "logit-normal",
    shift: float = 1.0,
    t: Times | None = None,
    eps: Float[Tensor, "b *rest"] | None = None,
) -> Float[Tensor, ""]:
    """Return ``E |model(x_t, t) - (eps - x_0)|^2``, the mean over batch and elements (SiT's velocity loss).

    It does not fall to zero: many (x_0, eps) share one x_t, and the variance of eps - x_0 among them stays.
    kind and shift are sample_times'; t and eps are drawn where they are not given. Raises InputError as those do.
    """
    if t is None:
        t = sample_times(x_0.shape[0], generator=generator, device=x_0.device, kind=kind, shift=shift).to(x_0.dtype)
    if eps is None:
        eps = torch.randn(x_0.shape, generator=generator, device=x_0.device, dtype=x_0.dtype)
    velocity = model_fn(interpolate(x_0, eps, t), t)
    return (velocity - velocity_target(x_0, eps)).square().mean()


def flip_time(velocity_fn: VelocityFn) -> VelocityFn:
    """Translate a velocity between "1 is noise" and "1 is data": ``u(x, tau) = -v(x, 1 - tau)``.

    The sign turns because the flipped clock runs the other way. Flipping twice gives the first function back.
    """

    def flipped(x: Tensor, tau: Tensor) -> Tensor:
        return -velocity_fn(x, 1 - tau)

    return flipped


# --- the bridge to DDPM ----------------------------------------------------------------------------------------------


def line_times(
    alpha_bar: Float[Tensor, " steps"],
) -> tuple[Float[Tensor, " steps"], Float[Tensor, " steps"]]:
    """Return for every DDPM step s its time on the linear interpolant, and the scale between the two.

    ``x_s = scale x_t`` with ``scale = sqrt(alpha_bar) + sqrt(1 - alpha_bar)`` and ``t = sqrt(1 - alpha_bar) / scale``:
    the same mixture of data and noise, only longer. Element s - 1 belongs to step s.
    """
    signal, noise = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    return noise / (signal + noise), signal + noise


def velocity_fn_from_eps_fn(eps_fn: EpsFn, alpha_bar: Float[Tensor, " steps"]) -> VelocityFn:
    """Make a DDPM noise prediction into a velocity for the linear interpolant, without training anything.

    Each t is taken at the DDPM step whose line_times is nearest; t = 1 is the schedule's last step, which still
    holds a trace of signal, so nothing is divided by zero.
    """
    times, scales = line_times(alpha_bar)

    def velocity_fn(x_t: Tensor, t: Tensor) -> Tensor:
        nearest = (t[:, None] - times.to(t)).abs().argmin(dim=1)  # s - 1, one per sample
        scale = over_batch(scales.to(x_t)[nearest], x_t)
        return velocity_from_eps(x_t, eps_fn(scale * x_t, nearest + 1), times.to(x_t)[nearest])

    return velocity_fn
