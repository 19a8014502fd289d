"""Axis letters and shape checks, once for the whole package.

b batch, c channels, f frames, h height, w width, n tokens, d width of a token,
pf ph pw patch size in frames, height and width. An image is a video with f = 1 (lesson 02).
"""

from numbers import Integral

from jaxtyping import Float
from torch import Tensor

from sora_edu.errors import InputError

Image = Float[Tensor, "b c h w"]  # pixels in [-1, 1]
Video = Float[Tensor, "b c f h w"]  # pixels in [-1, 1]
Latent = Float[Tensor, "b z lf lh lw"]  # scaled latents, about unit variance per channel
Tokens = Float[Tensor, "b n d"]
Times = Float[Tensor, "b"] | Float[Tensor, "b lf"]  # diffusion time, 0 data and 1 noise: of a clip, or of each frame
Rope = tuple[Float[Tensor, "n half"], Float[Tensor, "n half"]]  # cos and sin of each token's angles

Grid = tuple[int, int, int]  # tokens along frames, height and width: (nf, nh, nw)


def is_whole(value: object, low: int, high: int) -> bool:
    """Whether a value is a whole number from ``low`` to ``high``, both included; True and 3.0 are none."""
    return isinstance(value, Integral) and not isinstance(value, bool) and low <= value <= high


def check_divisible(name: str, size: int, patch: int) -> int:
    """Return ``size // patch``; raise InputError naming the nearest sizes that fit where it is not whole."""
    if patch < 1:
        raise InputError(f"{name}={size} cannot be cut by a patch of {patch}; use a patch of at least 1")
    if size > 0 and size % patch == 0:
        return size // patch
    below, above = size // patch * patch, (size // patch + 1) * patch
    fits = f"{below} or {above}" if below > 0 else f"{above}"
    raise InputError(f"{name}={size} is not a positive multiple of {patch}; use {fits}, or crop or pad to it")


def head_width(d: int, heads: int) -> int:
    """Return the channels of one attention head, ``d // heads``; raise InputError where it is not whole."""
    if heads < 1:
        raise InputError(f"heads={heads} share nothing among them; use at least 1")
    if d % heads:
        raise InputError(f"d={d} is not a multiple of heads={heads}; use d={max(1, d // heads) * heads} or other heads")
    return d // heads


def check_frames(frames: int, stride: int) -> int:
    """Return the latent frames ``1 + k`` of a causal VAE for ``1 + k * stride`` frames, or raise InputError."""
    if frames > 0 and (frames - 1) % stride == 0:
        return 1 + (frames - 1) // stride
    below = 1 + (max(frames, 1) - 1) // stride * stride
    fits = f"{below} or {below + stride}" if frames > 1 else "1"
    raise InputError(f"frames={frames} is not 1 + a multiple of {stride}; use {fits}")
