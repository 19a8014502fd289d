"""The toy world: objects with a shape, a colour, a size and a motion, and their exact state at every frame.

Lengths are in units of which a square canvas measures 32, x to the right and y down; a clip lasts 16 ticks,
however many frames sample them. So at 17x32x32 a unit is a pixel and a tick is a frame.
"""

import math
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sora_edu.config import (
    BACKGROUNDS,
    COLOURS,
    HELD_OUT_COLOUR_MOTION,
    HELD_OUT_SHAPE_COLOUR,
    MOTIONS,
    SCENES,
    SHAPES,
    SIZES,
    WorldConfig,
)
from sora_edu.errors import InputError

TICKS = 16.0  # duration of a clip
RADIUS = {"small": 3.6, "medium": 5.2, "large": 7.2}
EXTENT = {"circle": 1.0, "square": 0.9, "triangle": 1.25, "star": 1.25, "ring": 1.05}  # half size over radius
MARGIN = 0.5  # free space kept to the edge of the canvas

PAIR_MOTIONS = ("still", "up", "down", "falls", "bounces", "grows", "shrinks")  # those that keep to half a canvas
PAN_MOTIONS = ("still", "up", "down", "falls", "bounces")


@dataclass(frozen=True)
class State:
    """What a batch of clips shows, exactly. Names are indices into the tuples of ``config``; -1 is "no object"."""

    scene: Int[Tensor, "b"]
    shape: Int[Tensor, "b k"]
    colour: Int[Tensor, "b k"]
    size: Int[Tensor, "b k"]
    motion: Int[Tensor, "b k"]
    background: Int[Tensor, "b"]
    pan: Float[Tensor, "b"]  # units a tick that the camera moves to the right
    bar: Float[Tensor, "b 2"]  # left and right edge of the bar, NaN where there is none
    centre: Float[Tensor, "b k f 2"]  # x, y of each object's centroid on the canvas, in units
    radius: Float[Tensor, "b k f"]

    def __len__(self) -> int:
        return len(self.scene)

    def __getitem__(self, rows) -> "State":
        rows = [rows] if isinstance(rows, int) else rows
        return State(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def to(self, device) -> "State":
        return State(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


def cat_states(states: list[State]) -> State:
    """Join batches of states into one."""
    return State(**{f.name: torch.cat([getattr(s, f.name) for s in states]) for f in fields(State)})


def combinations(split: str) -> Int[Tensor, "m 3"]:
    """All (shape, colour, motion) of a split: ``train``, ``heldout`` (with a pair never trained on) or ``all``."""
    if split not in ("train", "heldout", "all"):
        raise InputError(f"split={split!r} is unknown; use train, heldout or all")
    rows = []
    for s, shape in enumerate(SHAPES):
        for c, colour in enumerate(COLOURS):
            for m, motion in enumerate(MOTIONS):
                held_out = (shape, colour) in HELD_OUT_SHAPE_COLOUR or (colour, motion) in HELD_OUT_COLOUR_MOTION
                if split == "all" or held_out == (split == "heldout"):
                    rows.append((s, c, m))
    return torch.tensor(rows)


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


def _move(shape, motion, size, region, pan, ticks, u) -> tuple[Tensor, Tensor]:
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


def _collide(shape, u, region, ticks) -> tuple[Tensor, Tensor]:
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


def _hide(shape, motion, u, region, ticks) -> tuple[Tensor, Tensor, Tensor]:
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


def sample_state(
    n: int,
    config: WorldConfig | None = None,
    *,
    split: str = "train",
    scene: str | None = None,
    orbit_weight: float = 1.0,
    generator: torch.Generator | None = None,
) -> State:
    """Draw the exact states of ``n`` clips: what each object is, and where it is at each frame.

    Every object of a clip is drawn from the combinations of the split (see ``combinations``), those that orbit
    ``orbit_weight`` times as often as the others. ``scene`` fixes one of SCENES; otherwise the shares of the config
    decide. Raises InputError for an unknown split or scene.
    """
    config = config or WorldConfig()
    if n < 1:
        raise InputError(f"n={n} clips cannot be drawn; ask for at least 1")
    if scene is not None and scene not in SCENES:
        raise InputError(f"scene={scene!r} is unknown; use one of {', '.join(SCENES)}")
    device = generator.device if generator is not None else "cpu"

    def rand(*shape):
        return torch.rand(*shape, generator=generator, device=device)

    def choose(mask_motions, count):
        table = combinations(split).to(device)
        allowed = torch.tensor([MOTIONS.index(m) for m in mask_motions], device=device)
        table = table[torch.isin(table[:, 2], allowed)]
        weight = torch.where(table[:, 2] == MOTIONS.index("orbits"), orbit_weight, 1.0).cumsum(0)
        rows = torch.searchsorted(weight, rand(count) * weight[-1], right=True).clamp(max=len(table) - 1)
        return table[rows].unbind(1)

    kind = rand(n)
    scenes = torch.where(
        kind < config.pair_fraction, 1 + (3 * kind / max(config.pair_fraction, 1e-9)).long().clamp(max=2), 0
    )
    pans = (kind >= config.pair_fraction) & (kind < config.pair_fraction + config.pan_fraction)
    if scene is not None:
        scenes, pans = torch.full_like(scenes, SCENES.index(scene)), pans & (scene == "single")

    unit = min(config.height, config.width) / 32
    w, h = config.width / unit, config.height / unit
    ticks = torch.linspace(0, TICKS, config.frames, device=device)
    canvas = torch.tensor([0.0, 0.0, w, h], device=device).expand(n, 4)

    attributes = torch.full((4, n, 2), -1, device=device)  # shape, colour, size, motion
    centre = torch.zeros(n, 2, config.frames, 2, device=device)
    radius = torch.zeros(n, 2, config.frames, device=device)
    bar = torch.full((n, 2), math.nan, device=device)
    pan = torch.where(rand(n) < 0.5, -1, 1) * (0.35 + 0.2 * rand(n)) * pans
    background = (rand(n) * len(BACKGROUNDS)).long()
    u = rand(n, 2, 7)

    def put(rows, k, shape, colour, size, motion):
        attributes[:, rows, k] = torch.stack((shape, colour, size, motion))

    for name, rows in (("single", (scenes == 0) & ~pans), ("pan", pans)):
        rows = rows.nonzero()[:, 0]
        shape, colour, motion = choose(MOTIONS if name == "single" else PAN_MOTIONS, len(rows))
        size = (rand(len(rows)) * len(SIZES)).long()
        put(rows, 0, shape, colour, size, motion)
        centre[rows, 0], radius[rows, 0] = _move(shape, motion, size, canvas[rows], pan[rows], ticks, u[rows, 0])

    rows = (scenes == SCENES.index("pair")).nonzero()[:, 0]
    for k, (shape, colour, motion) in enumerate(_two_colours(lambda count: choose(PAIR_MOTIONS, count), len(rows))):
        size = torch.where(motion == MOTIONS.index("grows"), 0, (rand(len(rows)) * 2).long())
        put(rows, k, shape, colour, size, motion)
        half = torch.tensor([k * w / 2, 0.0, (k + 1) * w / 2, h], device=device).expand(len(rows), 4)
        centre[rows, k], radius[rows, k] = _move(shape, motion, size, half, pan[rows], ticks, u[rows, k])

    for direction, side in (("left", u[:, 0, 4] < 0.5), ("right", u[:, 0, 4] >= 0.5)):  # both move that way in turn
        rows = ((scenes == SCENES.index("collides")) & side).nonzero()[:, 0]
        small = torch.zeros(len(rows), dtype=torch.long, device=device)
        pair = _two_colours(lambda count, direction=direction: choose((direction,), count), len(rows))
        centre[rows], radius[rows] = _collide(torch.stack([p[0] for p in pair], 1), u[rows, 0], canvas[rows], ticks)
        for k, (shape, colour, motion) in enumerate(pair):
            put(rows, k, shape, colour, small, motion if k == 0 else small + MOTIONS.index("still"))

    rows = (scenes == SCENES.index("behind")).nonzero()[:, 0]
    shape, colour, motion = choose(("left", "right"), len(rows))
    put(rows, 0, shape, colour, torch.zeros_like(shape), motion)
    centre[rows, 0], radius[rows, 0], bar[rows] = _hide(shape, motion, u[rows, 0], canvas[rows], ticks)

    return State(scenes, *attributes, background, pan, bar, centre, radius)


def _two_colours(choose, n: int) -> list:
    """Two objects a clip whose colours differ: the second is drawn again until they do."""
    first, second = choose(n), choose(n)
    while (same := (first[1] == second[1]).nonzero()[:, 0]).numel():
        for old, new in zip(second, choose(len(same)), strict=True):
            old[same] = new
    return [first, second]


def make_state(
    config: WorldConfig | None = None,
    *,
    shape: str = "circle",
    colour: str = "red",
    size: str = "medium",
    motion: str = "falls",
    background: str = "black",
    seed: int = 0,
) -> State:
    """One clip with one object of the given names, on a path drawn from the seed; any combination is allowed.

    Raises InputError naming the known words where a name is unknown.
    """
    for value, names in (
        (shape, SHAPES),
        (colour, COLOURS),
        (size, SIZES),
        (motion, MOTIONS),
        (background, BACKGROUNDS),
    ):
        if value not in names:
            raise InputError(f"{value!r} is not in this world; use one of {', '.join(names)}")
    config = config or WorldConfig()
    state = sample_state(
        1,
        replace(config, pair_fraction=0.0, pan_fraction=0.0),
        split="all",
        generator=torch.Generator().manual_seed(seed),
    )
    index = [
        torch.tensor([names.index(v)])
        for names, v in ((SHAPES, shape), (COLOURS, colour), (SIZES, size), (MOTIONS, motion))
    ]
    unit = min(config.height, config.width) / 32
    region = torch.tensor([[0.0, 0.0, config.width / unit, config.height / unit]])
    u = torch.rand(1, 7, generator=torch.Generator().manual_seed(seed))
    ticks = torch.linspace(0, TICKS, config.frames)
    centre, radius = _move(index[0], index[3], index[2], region, torch.zeros(1), ticks, u)
    names = {
        name: torch.stack((i, torch.tensor([-1])), 1)
        for name, i in zip(("shape", "colour", "size", "motion"), index, strict=True)
    }
    paths = dict(
        centre=torch.stack((centre, torch.zeros_like(centre)), 1),
        radius=torch.stack((radius, torch.zeros_like(radius)), 1),
    )
    return replace(state, background=torch.tensor([BACKGROUNDS.index(background)]), **names, **paths)
