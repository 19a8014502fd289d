"""How objects move: paths over time in closed form, each fitted into the region that an object may use.

Lengths are in units of which a square canvas measures 32, x to the right and y down; a clip lasts 16 ticks,
however many frames sample them. So at 17x32x32 a unit is a pixel and a tick is a frame.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from sora_edu.vocabulary import MOTIONS, SHAPES, SIZES

TICKS = 16.0  # duration of a clip
RADIUS = {"small": 3.6, "medium": 5.2, "large": 7.2}
EXTENT = {"circle": 1.0, "square": 0.9, "triangle": 1.25, "star": 1.25, "ring": 1.05}  # half size over radius
MARGIN = 0.5  # free space kept to the edge of the canvas


def relative_paths(
    u: Float[Tensor, "b 4"], room: Float[Tensor, "b 2"], ticks: Float[Tensor, "f"]
) -> tuple[Float[Tensor, "b m f 2"], Float[Tensor, "b m f"], Float[Tensor, "b m 5"]]:
    """Displacement and relative radius over time for every motion of MOTIONS, from four uniform numbers a clip.

    ``room`` is how far an object can travel in x and y. Falling and bouncing obey y = g t^2 / 2 between impacts.
    The last result bounds the whole clip, whichever ticks are drawn: low x, low y, high x, high y, largest radius.
    """
    tau, zero = ticks[None], torch.zeros(len(u), len(ticks), device=u.device)
    u0, u1, u2, u3 = u[:, :, None].unbind(1)
    far_x, far_y = (room[:, i, None].clamp(max=14.0) for i in (0, 1))
    go_x, go_y = (far * (0.6 + 0.4 * u0) for far in (far_x, far_y))
    dx, dy = go_x * tau / TICKS, go_y * tau / TICKS
    drop, hit, rebound = far_y * (0.75 + 0.25 * u0), 6.5 + 2.5 * u1, 0.8 + 0.15 * u2
    fall = drop * (tau / TICKS) ** 2
    g = 2 * drop / hit**2
    after = (tau - hit).clamp(min=0)
    bounce = torch.where(tau < hit, g * tau**2 / 2, drop - rebound * g * hit * after + g * after**2 / 2)
    reach = 0.5 * torch.minimum(far_x, far_y) * (0.75 + 0.25 * u0)
    angle = 2 * math.pi * (u1 + torch.where(u3 < 0.5, -1, 1) * (0.65 + 0.35 * u2) * tau / TICKS)
    grow, shrink = 1 + (0.4 + 0.2 * u0) * tau / TICKS, 1 - (0.4 + 0.15 * u0) * tau / TICKS
    moves = {
        "still": (zero, zero),
        "left": (-dx, zero),
        "right": (dx, zero),
        "up": (zero, -dy),
        "down": (zero, dy),
        "falls": (zero, fall),
        "bounces": (zero, bounce),
        "orbits": (reach * angle.cos(), reach * angle.sin()),
        "grows": (zero, zero),
        "shrinks": (zero, zero),
    }
    paths = torch.stack([torch.stack(moves[name], -1) for name in MOTIONS], 1)
    scales = torch.stack([{"grows": grow, "shrinks": shrink}.get(name, zero + 1) for name in MOTIONS], 1)
    none, one = torch.zeros_like(u0), torch.ones_like(u0)
    spans = {
        "left": (-go_x, none, none, none, one),
        "right": (none, none, go_x, none, one),
        "up": (none, -go_y, none, none, one),
        "down": (none, none, none, go_y, one),
        "falls": (none, none, none, drop, one),
        "bounces": (none, none, none, drop, one),
        "orbits": (-reach, -reach, reach, reach, one),
        "grows": (none, none, none, none, 1.4 + 0.2 * u0),
    }
    still = (none, none, none, none, one)
    return paths, scales, torch.stack([torch.cat(spans.get(name, still), 1) for name in MOTIONS], 1)


def place(
    path: Float[Tensor, "b f 2"],
    low: Float[Tensor, "b 2"],
    high: Float[Tensor, "b 2"],
    region: Float[Tensor, "b 4"],
    u: Float[Tensor, "b 2"],
    on_floor: Tensor,
) -> Float[Tensor, "b f 2"]:
    """Shift paths that reach from ``low`` to ``high`` into the region (x0, y0, x1, y1); a bouncing one to its floor."""
    first, last = region[:, :2] + MARGIN - low, region[:, 2:] - MARGIN - high
    offset = first + u * (last - first)
    offset[:, 1] = torch.where(on_floor, last[:, 1], offset[:, 1])
    return path + offset[:, None]


def _lookup(table: dict, names: tuple, index: Tensor) -> Tensor:
    return torch.tensor([table[name] for name in names], device=index.device)[index]


def move_alone(shape, motion, size, region, pan, ticks, u) -> tuple[Tensor, Tensor]:
    """Centre and radius over time of one object a clip that moves by itself inside its region."""
    radius = _lookup(RADIUS, SIZES, size) * (0.96 + 0.08 * u[:, 0])
    extent = _lookup(EXTENT, SHAPES, shape)
    room = region[:, 2:] - region[:, :2] - 2 * (radius * extent)[:, None] - 2 * MARGIN
    paths, scales, spans = relative_paths(u[:, 1:5], room, ticks)
    rows = torch.arange(len(shape), device=u.device)
    path, span = paths[rows, motion].clone(), spans[rows, motion]
    path[..., 0] -= pan[:, None] * ticks
    drift = torch.stack((-pan * TICKS, torch.zeros_like(pan)), 1)
    half = (radius * extent * span[:, 4])[:, None]
    low, high = span[:, :2] + drift.clamp(max=0) - half, span[:, 2:4] + drift.clamp(min=0) + half
    centre = place(path, low, high, region, u[:, 5:7], motion == MOTIONS.index("bounces"))
    return centre, radius[:, None] * scales[rows, motion]


def collide(shape, u, region, ticks) -> tuple[Tensor, Tensor]:
    """Two equal masses on a line: the first comes in, hits the second, and hands its velocity over."""
    radius = RADIUS["small"] * (0.96 + 0.08 * u[:, :2])
    half = radius * _lookup(EXTENT, SHAPES, shape)
    room = region[:, 2] - region[:, 0] - 2 * MARGIN - 2 * half.sum(1)
    speed, hit = room * (0.8 + 0.2 * u[:, 2]) / TICKS, 6 + 3 * u[:, 3]
    first = speed[:, None] * torch.minimum(ticks, hit[:, None])
    second = (half.sum(1) + speed * hit)[:, None] + speed[:, None] * (ticks - hit[:, None]).clamp(min=0)
    x = torch.stack((first, second), 1) * torch.where(u[:, 4] < 0.5, -1, 1)[:, None, None]
    low, high = (x - half[..., None]).amin((1, 2)), (x + half[..., None]).amax((1, 2))
    left, right = region[:, 0] + MARGIN - low, region[:, 2] - MARGIN - high
    x = x + (left + u[:, 5] * (right - left))[:, None, None]
    top, bottom = region[:, 1] + MARGIN + half.amax(1), region[:, 3] - MARGIN - half.amax(1)
    y = (top + u[:, 6] * (bottom - top))[:, None, None].expand_as(x)
    return torch.stack((x, y), -1), radius[..., None].expand_as(x)


def pass_behind(shape, motion, u, region, ticks) -> tuple[Tensor, Tensor, Tensor]:
    """One object that crosses the canvas and is out of sight behind a bar on its way."""
    radius = RADIUS["small"] * (0.96 + 0.08 * u[:, 0])
    half = radius * _lookup(EXTENT, SHAPES, shape)
    left, right = region[:, 0] + MARGIN + half, region[:, 2] - MARGIN - half
    s = ticks[None] / TICKS
    s = torch.where((motion == MOTIONS.index("left"))[:, None], 1 - s, s)
    x = left[:, None] + (right - left)[:, None] * s
    y = (region[:, 1] + MARGIN + half + u[:, 1] * (region[:, 3] - region[:, 1] - 2 * MARGIN - 2 * half))[
        :, None
    ].expand_as(x)
    middle = (region[:, 0] + region[:, 2]) / 2 + 2 * u[:, 2] - 1
    return (
        torch.stack((x, y), -1),
        radius[:, None].expand_as(x),
        torch.stack((middle - half - 1.5, middle + half + 1.5), 1),
    )
