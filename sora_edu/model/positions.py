"""Where a token sits: sin-cos embeddings that are added, and rotary ones that turn queries and keys.

Both are made for any grid (frames, height, width), so a model can be asked for a grid it never trained on (lesson 04).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from sora_edu.checked import checked
from sora_edu.errors import InputError

Rope = tuple[Float[Tensor, "n half"], Float[Tensor, "n half"]]  # cos and sin of a head's angles, half = dh / 2


def grid_positions(
    grid: tuple[int, ...], *, spacing: tuple[float, ...] | None = None, device=None
) -> Float[Tensor, "n axes"]:
    """Coordinates of every token of a grid, the last axis fastest, as ``patchify`` orders them: whole numbers.

    spacing: the size of a token along each axis, where it is not 1; the first then begins at -0.5 all the same.
    """
    axes = [torch.arange(size, device=device, dtype=torch.float32) for size in grid]
    axes = [(axis + 0.5) * step - 0.5 for axis, step in zip(axes, spacing or (1,) * len(grid), strict=True)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, -2)


@checked
def sincos_1d(position: Float[Tensor, "n"], d: int, *, theta: float = 10_000.0) -> Float[Tensor, "n d"]:
    """sin and cos of a position at d/2 frequencies theta^(-2i/d) (Vaswani et al. 1706.03762, section 3.5).

    The first half of the channels holds the sines, the second the cosines. Raises InputError for odd d.
    """
    if d < 2 or d % 2:
        raise InputError(f"d={d} must be even: each frequency takes a sine and a cosine; use {max(2, d + d % 2)}")
    frequency = theta ** (-torch.arange(0, d, 2, device=position.device) / d)
    angle = position[:, None] * frequency
    return torch.cat((angle.sin(), angle.cos()), -1)


def split_axes(d: int, axes: int) -> list[int]:
    """Share d channels among the axes in even parts; what does not divide goes to the last ones."""
    pairs, rest = divmod(d // 2, axes)
    return [2 * (pairs + (axis >= axes - rest)) for axis in range(axes)]


def sincos_nd(
    grid: tuple[int, ...], d: int, *, theta: float = 10_000.0, spacing: tuple[float, ...] | None = None, device=None
) -> Float[Tensor, "n d"]:
    """Sin-cos embedding of a grid of any rank: each axis gets its own share of the channels (DiT, 2212.09748).

    spacing: as in ``grid_positions``.
    """
    if d % 2 or d < 2 * len(grid):
        raise InputError(
            f"d={d} must be even and at least {2 * len(grid)}, a sine and a cosine for each of {len(grid)} axes"
        )
    position = grid_positions(grid, spacing=spacing, device=device)
    parts = [sincos_1d(position[:, i], share, theta=theta) for i, share in enumerate(split_axes(d, len(grid)))]
    return torch.cat(parts, -1)


def rope_nd(
    grid: tuple[int, ...],
    head_dim: int,
    *,
    theta: float = 100.0,
    spacing: tuple[float, ...] | None = None,
    device=None,
) -> Rope:
    """cos and sin, each (n, head_dim / 2), of the angles by which rotary embeddings turn pairs of channels.

    RoFormer (2104.09864, eq 15) in one dimension; here each axis of the grid turns its own share of the pairs.
    spacing: as in ``grid_positions``.
    """
    if head_dim % 2 or head_dim < 2 * len(grid):
        raise InputError(
            f"head_dim={head_dim} must be even and at least {2 * len(grid)}, a pair for each of {len(grid)} axes"
        )
    position = grid_positions(grid, spacing=spacing, device=device)
    angles = []
    for i, share in enumerate(split_axes(head_dim, len(grid))):
        frequency = theta ** (-torch.arange(0, share, 2, device=device) / share)
        angles.append(position[:, i, None] * frequency)
    angle = torch.cat(angles, -1)
    return angle.cos(), angle.sin()


@checked
def apply_rope(
    x: Float[Tensor, "b heads n dh"], cos: Float[Tensor, "n dh//2"], sin: Float[Tensor, "n dh//2"]
) -> Float[Tensor, "b heads n dh"]:
    """Turn each pair (x_i, x_(i + dh/2)) by its angle: the norm stays, and q . k depends on relative position only."""
    x_1, x_2 = x.chunk(2, -1)
    cos = cos.to(x.dtype)
    sin = sin.to(x.dtype)
    return torch.cat((x_1 * cos - x_2 * sin, x_1 * sin + x_2 * cos), -1)
