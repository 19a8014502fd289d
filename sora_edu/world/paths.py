"""How objects move: paths over time in closed form, each fitted into the region that an object may use.

Lengths are in units of which a canvas' shorter side measures 32, x to the right and y down. A clip lasts so many
ticks, 16 where nothing else is asked for, however many frames sample them. So at 17x32x32 a unit is a pixel and a tick
is a frame. A shorter clip shows the same motions faster, and a longer one shows more of them: an orbit turns farther, a
ball bounces again, and what moves straight goes on to the edge (lesson 01).
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sora_edu.checked import checked
from sora_edu.world.vocabulary import MOTIONS, SHAPES, SIZES

TICKS = 16.0  # duration of a clip where no other is asked for
IMPACTS = 12  # after so many a bouncing object lies on the floor
RADIUS = {"small": 3.6, "medium": 5.2, "large": 7.2}
EXTENT = {"circle": 1.0, "square": 0.9, "triangle": 1.25, "star": 1.25, "ring": 1.05}  # half size over radius
MARGIN = 0.5  # free space kept to the edge of the canvas
FARTHEST = 14.0  # units that a motion covers at most in 16 ticks, however large the canvas is


def pixels_per_unit(height: int, width: int) -> float:
    """How many pixels a unit measures on a canvas of this size: its shorter side is 32 units."""
    return min(height, width) / 32


def tick_times(frames: int, duration: float = TICKS, *, device: torch.device | None = None) -> Float[Tensor, "f"]:
    """The time of each frame in ticks: the first is 0 and the last the clip's duration, however many there are."""
    return torch.linspace(0, duration, frames, device=device)


@checked(empty=True)
def bounce(
    ticks: Float[Tensor, "f"], drop: Float[Tensor, "b 1"], hit: Float[Tensor, "b 1"], rebound: Float[Tensor, "b 1"]
) -> Float[Tensor, "b f"]:
    """How far down an object is that falls by ``drop``, meets the floor at tick ``hit``, and rises again and again.

    Until then y = g t^2 / 2. Each impact leaves it the share ``rebound`` of its speed, and g pulls as before; so it is
    in the air for 2 rebound hit after the first, and for the share ``rebound`` of that after each other.
    """
    g = 2 * drop / hit**2
    fallen = g * ticks**2 / 2
    speed = rebound * g * hit  # upwards, after the impact
    for _ in range(IMPACTS):
        after = (ticks - hit).clamp(min=0)  # ticks since the impact
        fallen = torch.where(ticks < hit, fallen, drop - speed * after + g * after**2 / 2)
        hit = hit + 2 * speed / g
        speed = speed * rebound
    return torch.where(ticks < hit, fallen, drop)


@checked(empty=True)
def relative_paths(
    u: Float[Tensor, "b 4"], room: Float[Tensor, "b 2"], ticks: Float[Tensor, "f"], duration: float = TICKS
) -> tuple[Float[Tensor, "b m f 2"], Float[Tensor, "b m f"], Float[Tensor, "b m 5"]]:
    """Displacement and relative radius over time for every motion of MOTIONS, from four uniform numbers a clip.

    ``room`` is how far an object can travel in x and y. Falling and bouncing obey y = g t^2 / 2 between impacts.
    The last result bounds the whole clip, whichever ticks are drawn: low x, low y, high x, high y, largest radius.
    Speeds are those of a clip of 16 ticks, but a longer one keeps them where they would leave the room, and a shorter
    one shows all of a motion in its ``duration``.
    """
    far, when, strength, side = u[:, :, None].unbind(1)  # b 1
    edge_x, edge_y = room[:, :, None].unbind(1)  # b 1
    room_x, room_y = room.clamp(max=FARTHEST)[:, :, None].unbind(1)
    time = ticks[None] / duration  # from 0 to 1
    longer = max(duration / TICKS, 1.0)  # how much more of a motion there is to see
    go_x = torch.minimum(room_x * (0.6 + 0.4 * far) * longer, edge_x)
    go_y = torch.minimum(room_y * (0.6 + 0.4 * far) * longer, edge_y)
    drop = room_y * (0.75 + 0.25 * far)
    bounced = bounce(ticks * (TICKS * longer / duration), drop, 6.5 + 2.5 * when, 0.8 + 0.15 * strength)
    reach = 0.5 * torch.minimum(room_x, room_y) * (0.75 + 0.25 * far)
    turns = torch.where(side < 0.5, -1, 1) * (0.65 + 0.35 * strength)
    angle = 2 * math.pi * (when + turns * longer * time)

    none, one = torch.zeros_like(far), torch.ones_like(far)  # b 1
    rest, same = none.expand(-1, len(ticks)), one.expand(-1, len(ticks))  # b f

    def within(low_x=none, low_y=none, high_x=none, high_y=none, radius=one):
        return torch.cat((low_x, low_y, high_x, high_y, radius), 1)

    moves = {  # x, y, relative radius, and their bounds
        "still": (rest, rest, same, within()),
        "left": (-go_x * time, rest, same, within(low_x=-go_x)),
        "right": (go_x * time, rest, same, within(high_x=go_x)),
        "up": (rest, -go_y * time, same, within(low_y=-go_y)),
        "down": (rest, go_y * time, same, within(high_y=go_y)),
        "falls": (rest, drop * time**2, same, within(high_y=drop)),
        "bounces": (rest, bounced, same, within(high_y=drop)),
        "orbits": (reach * angle.cos(), reach * angle.sin(), same, within(-reach, -reach, reach, reach)),
        "grows": (rest, rest, 1 + (0.4 + 0.2 * far) * time, within(radius=1.4 + 0.2 * far)),
        "shrinks": (rest, rest, 1 - (0.4 + 0.15 * far) * time, within()),
    }
    x, y, scales, bounds = zip(*(moves[name] for name in MOTIONS), strict=True)
    paths = torch.stack((torch.stack(x, 1), torch.stack(y, 1)), -1)
    return paths, torch.stack(scales, 1), torch.stack(bounds, 1)


@checked(empty=True)
def place(
    path: Float[Tensor, "b f 2"],
    low: Float[Tensor, "b 2"],
    high: Float[Tensor, "b 2"],
    region: Float[Tensor, "b 4"],
    u: Float[Tensor, "b 2"],
    on_floor: Bool[Tensor, "b"],
) -> Float[Tensor, "b f 2"]:
    """Shift paths that reach from ``low`` to ``high`` into the region (x0, y0, x1, y1); a bouncing one to its floor."""
    first = region[:, :2] + MARGIN - low
    last = region[:, 2:] - MARGIN - high
    offset = first + u * (last - first)
    offset[:, 1] = torch.where(on_floor, last[:, 1], offset[:, 1])
    return path + offset[:, None]


def _lookup(table: dict[str, float], names: tuple[str, ...], index: Int[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """The table's entry for each index into ``names``."""
    return torch.tensor([table[name] for name in names], device=index.device)[index]


@checked(empty=True)
def move_alone(
    shape: Int[Tensor, "b"],
    motion: Int[Tensor, "b"],
    size: Int[Tensor, "b"],
    region: Float[Tensor, "b 4"],
    pan: Float[Tensor, "b"],
    ticks: Float[Tensor, "f"],
    u: Float[Tensor, "b 7"],
    duration: float = TICKS,
) -> tuple[Float[Tensor, "b f 2"], Float[Tensor, "b f"]]:
    """Centre and radius over time of one object a clip that moves by itself inside its region."""
    radius = _lookup(RADIUS, SIZES, size) * (0.96 + 0.08 * u[:, 0])
    half = radius * _lookup(EXTENT, SHAPES, shape)
    room = region[:, 2:] - region[:, :2] - 2 * half[:, None] - 2 * MARGIN
    paths, scales, bounds = relative_paths(u[:, 1:5], room, ticks, duration)
    rows = torch.arange(len(shape), device=u.device)
    path = paths[rows, motion].clone()
    path[..., 0] -= pan[:, None] * ticks  # what stays where it is drifts against the camera
    bound = bounds[rows, motion]
    drift = torch.stack((-pan * duration, torch.zeros_like(pan)), 1)
    largest = (half * bound[:, 4])[:, None]
    low = bound[:, :2] + drift.clamp(max=0) - largest
    high = bound[:, 2:4] + drift.clamp(min=0) + largest
    centre = place(path, low, high, region, u[:, 5:7], motion == MOTIONS.index("bounces"))
    return centre, radius[:, None] * scales[rows, motion]


@checked(empty=True)
def collide(
    shape: Int[Tensor, "b 2"],
    u: Float[Tensor, "b 7"],
    region: Float[Tensor, "b 4"],
    ticks: Float[Tensor, "f"],
    duration: float = TICKS,
) -> tuple[Float[Tensor, "b 2 f 2"], Float[Tensor, "b 2 f"]]:
    """Centres and radii of two equal masses on a line: the first hits the second, and hands its velocity over."""
    radius = RADIUS["small"] * (0.96 + 0.08 * u[:, :2])
    half = radius * _lookup(EXTENT, SHAPES, shape)
    room = region[:, 2] - region[:, 0] - 2 * MARGIN - 2 * half.sum(1)
    speed = room * (0.8 + 0.2 * u[:, 2]) / duration
    hit = (6 + 3 * u[:, 3]) * (duration / TICKS)
    first = speed[:, None] * torch.minimum(ticks, hit[:, None])
    second = (half.sum(1) + speed * hit)[:, None] + speed[:, None] * (ticks - hit[:, None]).clamp(min=0)
    x = torch.stack((first, second), 1) * torch.where(u[:, 4] < 0.5, -1, 1)[:, None, None]
    left = region[:, 0] + MARGIN - (x - half[..., None]).amin((1, 2))
    right = region[:, 2] - MARGIN - (x + half[..., None]).amax((1, 2))
    x = x + (left + u[:, 5] * (right - left))[:, None, None]
    top = region[:, 1] + MARGIN + half.amax(1)
    bottom = region[:, 3] - MARGIN - half.amax(1)
    y = (top + u[:, 6] * (bottom - top))[:, None, None].expand_as(x)
    return torch.stack((x, y), -1), radius[..., None].expand_as(x)


@checked(empty=True)
def pass_behind(
    shape: Int[Tensor, "b"],
    motion: Int[Tensor, "b"],
    u: Float[Tensor, "b 7"],
    region: Float[Tensor, "b 4"],
    ticks: Float[Tensor, "f"],
    duration: float = TICKS,
) -> tuple[Float[Tensor, "b f 2"], Float[Tensor, "b f"], Float[Tensor, "b 2"]]:
    """Centre and radius of an object that crosses the canvas, and the edges of a bar that hides it on its way."""
    radius = RADIUS["small"] * (0.96 + 0.08 * u[:, 0])
    half = radius * _lookup(EXTENT, SHAPES, shape)
    left = region[:, 0] + MARGIN + half
    right = region[:, 2] - MARGIN - half
    time = ticks[None] / duration
    time = torch.where((motion == MOTIONS.index("left"))[:, None], 1 - time, time)
    x = left[:, None] + (right - left)[:, None] * time
    free = region[:, 3] - region[:, 1] - 2 * MARGIN - 2 * half
    y = (region[:, 1] + MARGIN + half + u[:, 1] * free)[:, None].expand_as(x)
    middle = (region[:, 0] + region[:, 2]) / 2 + 2 * u[:, 2] - 1
    bar = torch.stack((middle - half - 1.5, middle + half + 1.5), 1)
    return torch.stack((x, y), -1), radius[:, None].expand_as(x), bar
