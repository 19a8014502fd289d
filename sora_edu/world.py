"""The toy world: objects with a shape, a colour, a size and a motion, and their exact state at every frame.

Lengths are in units of which a square canvas measures 32, x to the right and y down; a clip lasts 16 ticks,
however many frames sample them. So at 17x32x32 a unit is a pixel and a tick is a frame.
"""

import math
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sora_edu.config import WorldConfig
from sora_edu.errors import InputError
from sora_edu.paths import TICKS, collide, move_alone, pass_behind
from sora_edu.vocabulary import (
    BACKGROUNDS,
    COLOURS,
    HELD_OUT_COLOUR_MOTION,
    HELD_OUT_SHAPE_COLOUR,
    MOTIONS,
    SCENES,
    SHAPES,
    SIZES,
)

PAIR_MOTIONS = ("still", "up", "down", "falls", "bounces", "grows", "shrinks")  # those that keep to half a canvas
PAN_MOTIONS = ("still", "up", "down", "falls", "bounces")


@dataclass(frozen=True)
class State:
    """What a batch of clips shows, exactly. Names are indices into the tuples of ``vocabulary``; -1 is "no object"."""

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
    draw = _Draws(combinations(split), orbit_weight, generator)
    scenes, pans = _scenes(draw.rand(n), config, scene)
    clips = _blank(scenes, pans, config.frames, draw)
    canvas = _canvas(config)
    u = draw.rand(n, 2, 7)
    for motions, rows in ((MOTIONS, (scenes == 0) & ~pans), (PAN_MOTIONS, (scenes == 0) & pans)):
        _put_singles(clips, rows.nonzero()[:, 0], motions, canvas, draw, u)
    _put_pairs(clips, (scenes == SCENES.index("pair")).nonzero()[:, 0], canvas, draw, u)
    collides = scenes == SCENES.index("collides")
    for direction, side in (("left", u[:, 0, 4] < 0.5), ("right", u[:, 0, 4] >= 0.5)):  # both move that way in turn
        _put_collisions(clips, (collides & side).nonzero()[:, 0], direction, canvas, draw, u)
    _put_behind(clips, (scenes == SCENES.index("behind")).nonzero()[:, 0], canvas, draw, u)
    return clips


class _Draws:
    """The random numbers of one call of sample_state, and the objects chosen by them."""

    def __init__(self, table: Int[Tensor, "m 3"], orbit_weight: float, generator: torch.Generator | None):
        self.generator, self.device = generator, generator.device if generator is not None else torch.device("cpu")
        self.table = table.to(self.device)
        self.weight = torch.where(self.table[:, 2] == MOTIONS.index("orbits"), orbit_weight, 1.0)

    def rand(self, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=self.generator, device=self.device)

    def objects(self, motions: tuple[str, ...], n: int) -> list[Tensor]:
        """Shape, colour and motion of n objects that move in one of these ways."""
        allowed = torch.tensor([MOTIONS.index(m) for m in motions], device=self.device)
        kept = torch.isin(self.table[:, 2], allowed)
        table, weight = self.table[kept], self.weight[kept].cumsum(0)
        rows = torch.searchsorted(weight, self.rand(n) * weight[-1], right=True).clamp(max=len(table) - 1)
        return list(table[rows].unbind(1))

    def two_colours(self, motions: tuple[str, ...], n: int) -> list[list[Tensor]]:
        """Two objects a clip whose colours differ: the second is drawn again until they do."""
        first, second = self.objects(motions, n), self.objects(motions, n)
        while (same := (first[1] == second[1]).nonzero()[:, 0]).numel():
            for old, new in zip(second, self.objects(motions, len(same)), strict=True):
                old[same] = new
        return [first, second]


def _scenes(kind: Float[Tensor, "n"], config: WorldConfig, scene: str | None) -> tuple[Tensor, Tensor]:
    """Which of SCENES each clip shows, and in which the camera pans, from one uniform number a clip."""
    two = config.pair_fraction
    scenes = torch.where(kind < two, 1 + (3 * kind / max(two, 1e-9)).long().clamp(max=2), 0)
    pans = (kind >= two) & (kind < two + config.pan_fraction)
    if scene is not None:
        scenes, pans = torch.full_like(scenes, SCENES.index(scene)), pans & (scene == "single")
    return scenes, pans


def _canvas(config: WorldConfig) -> tuple[float, float]:
    """Width and height in units."""
    unit = min(config.height, config.width) / 32
    return config.width / unit, config.height / unit


def _blank(scenes: Tensor, pans: Tensor, frames: int, draw: _Draws) -> State:
    """Clips without objects, to be filled in place; background and camera are drawn."""
    n, device = len(scenes), draw.device
    pan = torch.where(draw.rand(n) < 0.5, -1, 1) * (0.35 + 0.2 * draw.rand(n)) * pans
    background = (draw.rand(n) * len(BACKGROUNDS)).long()
    attributes = torch.full((4, n, 2), -1, device=device)  # shape, colour, size, motion
    bar = torch.full((n, 2), math.nan, device=device)
    centre, radius = torch.zeros(n, 2, frames, 2, device=device), torch.zeros(n, 2, frames, device=device)
    return State(scenes, *attributes, background, pan, bar, centre, radius)


def _put(clips: State, rows: Tensor, k: int, **attributes: Tensor) -> None:
    """Write attributes of object k into these rows."""
    for name, value in attributes.items():
        getattr(clips, name)[rows, k] = value


def _region(canvas: tuple[float, float], like: Tensor) -> Float[Tensor, "b 4"]:
    """The whole canvas as x0, y0, x1, y1, a row for each of ``like``."""
    return torch.tensor([0.0, 0.0, *canvas], device=like.device).expand(len(like), 4)


def _ticks(clips: State) -> Float[Tensor, "f"]:
    return torch.linspace(0, TICKS, clips.radius.shape[2], device=clips.radius.device)


def _put_singles(clips: State, rows: Tensor, motions: tuple[str, ...], canvas, draw: _Draws, u: Tensor) -> None:
    shape, colour, motion = draw.objects(motions, len(rows))
    size = (draw.rand(len(rows)) * len(SIZES)).long()
    centre, radius = move_alone(shape, motion, size, _region(canvas, rows), clips.pan[rows], _ticks(clips), u[rows, 0])
    _put(clips, rows, 0, shape=shape, colour=colour, size=size, motion=motion, centre=centre, radius=radius)


def _put_pairs(clips: State, rows: Tensor, canvas, draw: _Draws, u: Tensor) -> None:
    """Two objects, each in a half of its own."""
    w, h = canvas
    for k, (shape, colour, motion) in enumerate(draw.two_colours(PAIR_MOTIONS, len(rows))):
        size = torch.where(motion == MOTIONS.index("grows"), 0, (draw.rand(len(rows)) * 2).long())
        half = torch.tensor([k * w / 2, 0.0, (k + 1) * w / 2, h], device=rows.device).expand(len(rows), 4)
        centre, radius = move_alone(shape, motion, size, half, clips.pan[rows], _ticks(clips), u[rows, k])
        _put(clips, rows, k, shape=shape, colour=colour, size=size, motion=motion, centre=centre, radius=radius)


def _put_collisions(clips: State, rows: Tensor, direction: str, canvas, draw: _Draws, u: Tensor) -> None:
    """Two small objects; the first moves, the second waits for it."""
    pair = draw.two_colours((direction,), len(rows))
    shapes = torch.stack([shape for shape, _, _ in pair], 1)
    centre, radius = collide(shapes, u[rows, 0], _region(canvas, rows), _ticks(clips))
    for k, (shape, colour, motion) in enumerate(pair):
        small, still = torch.zeros_like(shape), torch.full_like(shape, MOTIONS.index("still"))
        does = motion if k == 0 else still
        _put(clips, rows, k, shape=shape, colour=colour, size=small, motion=does)
        _put(clips, rows, k, centre=centre[:, k], radius=radius[:, k])


def _put_behind(clips: State, rows: Tensor, canvas, draw: _Draws, u: Tensor) -> None:
    """One small object that passes behind a bar."""
    shape, colour, motion = draw.objects(("left", "right"), len(rows))
    centre, radius, bar = pass_behind(shape, motion, u[rows, 0], _region(canvas, rows), _ticks(clips))
    small = torch.zeros_like(shape)
    _put(clips, rows, 0, shape=shape, colour=colour, size=small, motion=motion, centre=centre, radius=radius)
    clips.bar[rows] = bar


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
    centre, radius = move_alone(index[0], index[3], index[2], region, torch.zeros(1), ticks, u)
    names = {
        name: torch.stack((i, torch.tensor([-1])), 1)
        for name, i in zip(("shape", "colour", "size", "motion"), index, strict=True)
    }
    paths = dict(
        centre=torch.stack((centre, torch.zeros_like(centre)), 1),
        radius=torch.stack((radius, torch.zeros_like(radius)), 1),
    )
    return replace(state, background=torch.tensor([BACKGROUNDS.index(background)]), **names, **paths)
