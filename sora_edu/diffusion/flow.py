"""Flow matching as SiT writes it: an interpolant between data and noise, its velocity, and the loss that learns it.

Time runs from data to noise: t = 0 is data, t = 1 is noise (SiT, Ma et al., arXiv 2401.08740). SiT's own code,
rectified flow and much of the literature put data at t = 1: ``flip_time`` goes from one convention to the other
(lesson 07).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sora_edu.checked import checked
from sora_edu.errors import InputError, shown
from sora_edu.shapes import Times, is_whole

VelocityFn = Callable[[Float[Tensor, "b *rest"], Times], Float[Tensor, "b *rest"]]  # (x_t, t) -> velocity
EpsFn = Callable[[Float[Tensor, "b *rest"], Int[Tensor, " b"]], Float[Tensor, "b *rest"]]  # (x_s, s in 1..) -> eps


@checked
def over_batch(t: Times, x: Float[Tensor, "b *rest"]) -> Float[Tensor, "b *ones"]:
    """Reshape times to multiply ``x``: ``b``, of samples, to ``b 1 1 ...``, and ``b lf``, of frames, to ``b 1 lf 1 1``.

    Raises InputError where they do not fit; frames are the third axis of five.
    """
    if t.shape == x.shape[:1]:
        return t.view(-1, *[1] * (x.ndim - 1))
    if x.ndim == 5 and t.shape == (x.shape[0], x.shape[2]):
        return t[:, None, :, None, None]
    shapes = f"t has shape {tuple(t.shape)}, but x {tuple(x.shape)}"
    per_frame = f", or one per frame, {x.shape[0]} x {x.shape[2]}" if x.ndim == 5 else ""
    raise InputError(f"{shapes} needs one time per sample{per_frame}; use t.expand({x.shape[0]})")


# --- paths: the four numbers that everything else is made of ---------------------------------------------------------


class Coefficients(NamedTuple):
    """A path at one time: ``x_t = alpha x_0 + sigma eps``, and its derivative ``d_alpha x_0 + d_sigma eps``."""

    alpha: Float[Tensor, "*shape"]  # weight of the data
    sigma: Float[Tensor, "*shape"]  # weight of the noise
    d_alpha: Float[Tensor, "*shape"]  # how fast alpha changes with t
    d_sigma: Float[Tensor, "*shape"]  # how fast sigma changes with t

    @property
    def det(self) -> Float[Tensor, "*shape"]:
        """The determinant of these two equations in x_0 and eps: 1 on the line, pi/2 on the quarter circle."""
        return self.alpha * self.d_sigma - self.sigma * self.d_alpha


PathFn = Callable[[Float[Tensor, "*shape"]], Coefficients]  # t of any shape -> four numbers for each t


@checked
def linear(t: Float[Tensor, "*shape"]) -> Coefficients:
    """Go from data to noise on a straight line (SiT's linear interpolant): ``alpha = 1 - t``, ``sigma = t``."""
    one = torch.ones_like(t)
    return Coefficients(alpha=1 - t, sigma=t, d_alpha=-one, d_sigma=one)


@checked
def gvp(t: Float[Tensor, "*shape"]) -> Coefficients:
    """Go on a quarter circle (SiT's GVP): ``alpha = cos(pi t / 2)``, ``sigma = sin(pi t / 2)``.

    cos^2 + sin^2 = 1: where the data have variance 1, so has every x_t.
    """
    angle = t * math.pi / 2
    speed = math.pi / 2  # of the angle
    return Coefficients(alpha=angle.cos(), sigma=angle.sin(), d_alpha=-speed * angle.sin(), d_sigma=speed * angle.cos())


# --- mixing, and the conversions -------------------------------------------------------------------------------------


@checked
def interpolate(
    x_0: Float[Tensor, "b *rest"], eps: Float[Tensor, "b *rest"], t: Times, *, path: PathFn = linear
) -> Float[Tensor, "b *rest"]:
    """Mix data and noise: ``x_t = alpha x_0 + sigma eps`` (SiT eq. 1); on the line ``(1 - t) x_0 + t eps``.

    x_0 data, eps standard normal noise, t in [0, 1]. Returns x_t; raises InputError unless t holds one time per sample.
    """
    at = path(over_batch(t, x_0))
    return at.alpha * x_0 + at.sigma * eps


@checked
def velocity_target(
    x_0: Float[Tensor, "b *rest"], eps: Float[Tensor, "b *rest"], t: Times, *, path: PathFn = linear
) -> Float[Tensor, "b *rest"]:
    """Return the derivative of x_t by t, ``d_alpha x_0 + d_sigma eps``; on the line ``eps - x_0``, at every t.

    It points from data to noise. Raises InputError as interpolate does.
    """
    at = path(over_batch(t, x_0))
    return at.d_alpha * x_0 + at.d_sigma * eps


@checked
def x_0_from_velocity(
    x_t: Float[Tensor, "b *rest"], velocity: Float[Tensor, "b *rest"], t: Times, *, path: PathFn = linear
) -> Float[Tensor, "b *rest"]:
    """Go back to the data: ``(d_sigma x_t - sigma velocity) / det``; on the line ``x_t - t velocity``.

    Raises InputError as interpolate does.
    """
    at = path(over_batch(t, x_t))
    return (at.d_sigma * x_t - at.sigma * velocity) / at.det


@checked
def eps_from_velocity(
    x_t: Float[Tensor, "b *rest"], velocity: Float[Tensor, "b *rest"], t: Times, *, path: PathFn = linear
) -> Float[Tensor, "b *rest"]:
    """Go on to the noise: ``(alpha velocity - d_alpha x_t) / det``; on the line ``x_t + (1 - t) velocity``.

    Raises InputError as interpolate does.
    """
    at = path(over_batch(t, x_t))
    return (at.alpha * velocity - at.d_alpha * x_t) / at.det


@checked
def velocity_from_x_0(
    x_t: Float[Tensor, "b *rest"], x_0: Float[Tensor, "b *rest"], t: Times, *, path: PathFn = linear
) -> Float[Tensor, "b *rest"]:
    """Turn a prediction of the data into a velocity: ``(d_sigma x_t - det x_0) / sigma``.

    On the line this is ``(x_t - x_0) / t``. t in (0, 1]: at t = 0 it is 0 / 0. Raises as interpolate does.
    """
    at = path(over_batch(t, x_t))
    return (at.d_sigma * x_t - at.det * x_0) / at.sigma


@checked
def velocity_from_eps(
    x_t: Float[Tensor, "b *rest"], eps: Float[Tensor, "b *rest"], t: Times, *, path: PathFn = linear
) -> Float[Tensor, "b *rest"]:
    """Turn a prediction of the noise into a velocity: ``(d_alpha x_t + det eps) / alpha``.

    On the line this is ``(eps - x_t) / (1 - t)``. t in [0, 1): at t = 1 it is 0 / 0. Raises as interpolate does.
    """
    at = path(over_batch(t, x_t))
    return (at.d_alpha * x_t + at.det * eps) / at.alpha


@checked
def score_from_velocity(
    x_t: Float[Tensor, "b *rest"], velocity: Float[Tensor, "b *rest"], t: Times, *, path: PathFn = linear
) -> Float[Tensor, "b *rest"]:
    """Turn a velocity into the score, the gradient of log p_t: ``-E[eps | x_t] / sigma`` (SiT section 2); t in (0, 1].

    Raises InputError as interpolate does.
    """
    at = path(over_batch(t, x_t))
    return -eps_from_velocity(x_t, velocity, t, path=path) / at.sigma


# --- which times to train on, and the loss ---------------------------------------------------------------------------


@checked
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
    Raises InputError for another kind or count. The generator must live on the device.
    """
    if not is_whole(n, 0, 10**9):
        raise InputError(f"n={shown(n)} is no number of times; use the number of samples in a batch")
    if kind == "uniform":
        t = torch.rand(n, generator=generator, device=device)
    elif kind == "logit-normal":
        t = torch.randn(n, generator=generator, device=device).sigmoid()
    else:
        raise InputError(f"kind={kind!r} is not a distribution of times; use 'logit-normal' or 'uniform'")
    return shift_times(t, shift)


@checked
def flow_loss(
    model_fn: VelocityFn,
    x_0: Float[Tensor, "b *rest"],
    *,
    generator: torch.Generator | None = None,
    kind: str = "logit-normal",
    shift: float = 1.0,
    t: Times | None = None,
    eps: Float[Tensor, "b *rest"] | None = None,
    path: PathFn = linear,
) -> Float[Tensor, ""]:
    """Return ``E |model(x_t, t) - velocity_target|^2``, the mean over batch and elements (SiT's velocity loss).

    It does not fall to zero: many (x_0, eps) share one x_t, and the variance of their velocities stays. Where t holds
    a time per frame, frames at t = 0 are known: the model sees them clean, and they do not count.
    kind and shift are sample_times'; t and eps are drawn where they are not given. Raises InputError as those do.
    """
    if t is None:
        t = sample_times(x_0.shape[0], generator=generator, device=x_0.device, kind=kind, shift=shift).to(x_0.dtype)
    if eps is None:
        eps = torch.randn(x_0.shape, generator=generator, device=x_0.device, dtype=x_0.dtype)
    velocity = model_fn(interpolate(x_0, eps, t, path=path), t)
    square = (velocity - velocity_target(x_0, eps, t, path=path)).square()
    if t.ndim == 1:
        return square.mean()
    counts = (over_batch(t, x_0) > 0).expand_as(square)
    return (square * counts).sum() / counts.sum().clamp(min=1)


@checked
def flip_time(velocity_fn: VelocityFn) -> VelocityFn:
    """Translate a velocity between "1 is noise" and "1 is data": ``u(x, tau) = -v(x, 1 - tau)``.

    The sign turns because the flipped clock runs the other way. Flipping twice gives the first function back.
    """

    def flipped(x: Float[Tensor, "b *rest"], tau: Times) -> Float[Tensor, "b *rest"]:
        return -velocity_fn(x, 1 - tau)

    return flipped


# --- the bridge to DDPM ----------------------------------------------------------------------------------------------


@checked
def line_times(
    alpha_bar: Float[Tensor, " steps"],
) -> tuple[Float[Tensor, " steps"], Float[Tensor, " steps"]]:
    """Return for every DDPM step s its time on the linear interpolant, and the scale between the two.

    ``x_s = scale x_t`` with ``scale = sqrt(alpha_bar) + sqrt(1 - alpha_bar)`` and ``t = sqrt(1 - alpha_bar) / scale``:
    the same mixture of data and noise, only longer. Element s - 1 belongs to step s.
    """
    signal = alpha_bar.sqrt()
    noise = (1 - alpha_bar).sqrt()
    scale = signal + noise
    return noise / scale, scale


@checked
def velocity_fn_from_eps_fn(eps_fn: EpsFn, alpha_bar: Float[Tensor, " steps"]) -> VelocityFn:
    """Make a DDPM noise prediction into a velocity for the linear interpolant, without training anything.

    Each t is taken at the DDPM step whose line_times is nearest; t = 1 is the schedule's last step, which still
    holds a trace of signal, so nothing is divided by zero.
    """
    times, scales = line_times(alpha_bar)

    def velocity_fn(x_t: Float[Tensor, "b *rest"], t: Float[Tensor, "b"]) -> Float[Tensor, "b *rest"]:
        nearest = (t[:, None] - times.to(t)).abs().argmin(dim=1)  # s - 1, one per sample
        scale = over_batch(scales.to(x_t)[nearest], x_t)
        return velocity_from_eps(x_t, eps_fn(scale * x_t, nearest + 1), times.to(x_t)[nearest])

    return velocity_fn
