"""What happens in the clips of the toy world: states drawn at random, or made to order.

Which objects may meet, and which combinations of shape, colour and motion training never shows (lesson 01).
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sora_edu.config import WorldConfig, world_or_default
from sora_edu.errors import InputError, shown
from sora_edu.shapes import is_whole
from sora_edu.world.paths import TICKS, collide, move_alone, pass_behind, pixels_per_unit, tick_times
from sora_edu.world.state import State
from sora_edu.world.vocabulary import (
    BACKGROUNDS,
    COLOURS,
    HELD_OUT_COLOUR_MOTION,
    HELD_OUT_SHAPE_COLOUR,
    MOTIONS,
    SCENES,
    SHAPES,
    SIZES,
    check_name,
)

MOST_FRAMES = 1 << 24  # frames drawn in one call, all clips together: about a gigabyte
PAIR_MOTIONS = ("still", "up", "down", "falls", "bounces", "grows", "shrinks")  # those that keep to half a canvas
PAN_MOTIONS = ("still", "up", "down", "falls", "bounces")


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
    decide. Raises InputError for an unknown split or scene, and for more clips than fit into memory.
    """
    config = world_or_default(config)
    if not isinstance(generator, torch.Generator | None):
        raise InputError(f"generator={shown(generator)} draws nothing; use torch.Generator().manual_seed(0)")
    if not is_whole(n, 1, MOST_FRAMES // config.frames):
        most = f"at least 1, and at most {MOST_FRAMES // config.frames:,} of {config.frames} frames at a time"
        raise InputError(f"n={shown(n)} clips cannot be drawn; ask for {most}")
    if scene is not None and scene not in SCENES:
        raise InputError(f"scene={scene!r} is unknown; use one of {', '.join(SCENES)}")
    if not isinstance(orbit_weight, int | float) or not 0 <= orbit_weight < math.inf:
        raise InputError(f"orbit_weight={orbit_weight} is no weight; use 0 or more, and 1 for all motions alike")
    draw = _Draws(combinations(split), orbit_weight, generator)
    scenes, pans = _scenes(draw.rand(n), config, scene)
    pan = draw.pan(n) * pans * min(1.0, TICKS / config.duration)  # so that it comes no farther in a longer clip
    clips = _empty(scenes, draw.background(n), pan, config.frames)
    film = _Film.of(config, draw.device)
    u = draw.rand(n, 2, 7)

    single = scenes == SCENES.index("single")
    _put_singles(clips, _rows(single & ~pans), MOTIONS, film, draw, u)
    _put_singles(clips, _rows(single & pans), PAN_MOTIONS, film, draw, u)
    _put_pairs(clips, _rows(scenes == SCENES.index("pair")), film, draw, u)
    collides = scenes == SCENES.index("collides")
    leftwards = u[:, 0, 4] < 0.5  # both objects of a collision move that way in turn
    _put_collisions(clips, _rows(collides & leftwards), "left", film, draw, u)
    _put_collisions(clips, _rows(collides & ~leftwards), "right", film, draw, u)
    _put_behind(clips, _rows(scenes == SCENES.index("behind")), film, draw, u)
    return clips


class _Draws:
    """The random numbers of one call of sample_state, and the objects chosen by them."""

    def __init__(self, table: Int[Tensor, "m 3"], orbit_weight: float, generator: torch.Generator | None):
        self.generator = generator
        self.device = torch.device("cpu") if generator is None else generator.device
        self.table = table.to(self.device)
        self.weight = torch.where(self.table[:, 2] == MOTIONS.index("orbits"), orbit_weight, 1.0)

    def rand(self, *shape: int) -> Float[Tensor, "..."]:
        return torch.rand(*shape, generator=self.generator, device=self.device)

    def pan(self, n: int) -> Float[Tensor, "n"]:
        """Speeds of a camera that pans, to the left or to the right."""
        direction = torch.where(self.rand(n) < 0.5, -1, 1)
        return direction * (0.35 + 0.2 * self.rand(n))

    def background(self, n: int) -> Int[Tensor, "n"]:
        return (self.rand(n) * len(BACKGROUNDS)).long()

    def objects(self, motions: tuple[str, ...], n: int) -> list[Int[Tensor, "n"]]:
        """Shape, colour and motion of n objects that move in one of these ways."""
        allowed = torch.tensor([MOTIONS.index(m) for m in motions], device=self.device)
        fits = torch.isin(self.table[:, 2], allowed)
        table = self.table[fits]
        total = self.weight[fits].cumsum(0)
        rows = torch.searchsorted(total, self.rand(n) * total[-1], right=True).clamp(max=len(table) - 1)
        return list(table[rows].unbind(1))

    def two_colours(self, motions: tuple[str, ...], n: int) -> list[list[Int[Tensor, "n"]]]:
        """Two objects a clip whose colours differ: the second is drawn again until they do."""
        first = self.objects(motions, n)
        second = self.objects(motions, n)
        while (same := _rows(first[1] == second[1])).numel():
            for old, new in zip(second, self.objects(motions, len(same)), strict=True):
                old[same] = new
        return [first, second]


def _rows(mask: Bool[Tensor, "b"]) -> Int[Tensor, "n"]:
    """The indices at which a mask holds."""
    return mask.nonzero()[:, 0]


def _scenes(
    kind: Float[Tensor, "n"], config: WorldConfig, scene: str | None
) -> tuple[Int[Tensor, "n"], Bool[Tensor, "n"]]:
    """Which of SCENES each clip shows, and in which the camera pans, from one uniform number a clip."""
    two = config.pair_fraction
    scenes = torch.where(kind < two, 1 + (3 * kind / max(two, 1e-9)).long().clamp(max=2), 0)
    pans = (kind >= two) & (kind < two + config.pan_fraction)
    if scene is not None:
        return torch.full_like(scenes, SCENES.index(scene)), pans & (scene == "single")
    return scenes, pans


@dataclass(frozen=True)
class _Film:
    """What is filmed of the world: a canvas, in units, and a stretch of time, in ticks."""

    width: float
    height: float
    duration: float
    ticks: Float[Tensor, "f"]  # of the frames

    @classmethod
    def of(cls, config: WorldConfig, device: torch.device) -> "_Film":
        unit = pixels_per_unit(config.height, config.width)
        ticks = tick_times(config.frames, config.duration, device=device)
        return cls(config.width / unit, config.height / unit, config.duration, ticks)

    def region(self, like: Tensor, *, part: int = 0, parts: int = 1) -> Float[Tensor, "b 4"]:
        """The canvas, or one of its parts from left to right, as x0, y0, x1, y1: a row for each of ``like``."""
        edges = [part * self.width / parts, 0.0, (part + 1) * self.width / parts, self.height]
        return torch.tensor(edges, device=like.device).expand(len(like), 4)


def _empty(scene: Int[Tensor, "b"], background: Int[Tensor, "b"], pan: Float[Tensor, "b"], frames: int) -> State:
    """Clips without objects, to be filled in place."""
    n = len(scene)
    device = scene.device
    shape, colour, size, motion = torch.full((4, n, 2), -1, device=device)
    return State(
        scene=scene,
        shape=shape,
        colour=colour,
        size=size,
        motion=motion,
        background=background,
        pan=pan,
        bar=torch.full((n, 2), math.nan, device=device),
        centre=torch.zeros(n, 2, frames, 2, device=device),
        radius=torch.zeros(n, 2, frames, device=device),
    )


def _put(clips: State, rows: Int[Tensor, "n"], k: int, **attributes: Tensor) -> None:
    """Write attributes of object k into these rows."""
    for name, value in attributes.items():
        getattr(clips, name)[rows, k] = value


def _put_singles(clips: State, rows: Tensor, motions: tuple[str, ...], film: _Film, draw: _Draws, u: Tensor) -> None:
    shape, colour, motion = draw.objects(motions, len(rows))
    size = (draw.rand(len(rows)) * len(SIZES)).long()
    centre, radius = move_alone(
        shape, motion, size, film.region(rows), clips.pan[rows], film.ticks, u[rows, 0], film.duration
    )
    _put(clips, rows, 0, shape=shape, colour=colour, size=size, motion=motion, centre=centre, radius=radius)


def _put_pairs(clips: State, rows: Tensor, film: _Film, draw: _Draws, u: Tensor) -> None:
    """Two objects, each in a half of its own."""
    for k, (shape, colour, motion) in enumerate(draw.two_colours(PAIR_MOTIONS, len(rows))):
        size = torch.where(motion == MOTIONS.index("grows"), 0, (draw.rand(len(rows)) * 2).long())
        half = film.region(rows, part=k, parts=2)
        centre, radius = move_alone(shape, motion, size, half, clips.pan[rows], film.ticks, u[rows, k], film.duration)
        _put(clips, rows, k, shape=shape, colour=colour, size=size, motion=motion, centre=centre, radius=radius)


def _put_collisions(clips: State, rows: Tensor, direction: str, film: _Film, draw: _Draws, u: Tensor) -> None:
    """Two small objects; the first moves, the second waits for it."""
    pair = draw.two_colours((direction,), len(rows))
    shapes = torch.stack([shape for shape, _, _ in pair], 1)
    centre, radius = collide(shapes, u[rows, 0], film.region(rows), film.ticks, film.duration)
    for k, (shape, colour, motion) in enumerate(pair):
        small = torch.full_like(shape, SIZES.index("small"))
        still = torch.full_like(shape, MOTIONS.index("still"))
        moves = motion if k == 0 else still
        _put(clips, rows, k, shape=shape, colour=colour, size=small, motion=moves)
        _put(clips, rows, k, centre=centre[:, k], radius=radius[:, k])


def _put_behind(clips: State, rows: Tensor, film: _Film, draw: _Draws, u: Tensor) -> None:
    """One small object that passes behind a bar."""
    shape, colour, motion = draw.objects(("left", "right"), len(rows))
    centre, radius, bar = pass_behind(shape, motion, u[rows, 0], film.region(rows), film.ticks, film.duration)
    small = torch.full_like(shape, SIZES.index("small"))
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
    config = world_or_default(config)
    if not is_whole(seed, 0, 2**63 - 1):
        raise InputError(f"seed={shown(seed)} must be a whole number from 0 to {2**63 - 1}")
    ground = torch.tensor([check_name(background, BACKGROUNDS)])
    named = {"shape": (shape, SHAPES), "colour": (colour, COLOURS), "size": (size, SIZES), "motion": (motion, MOTIONS)}
    thing = {kind: torch.tensor([check_name(name, names)]) for kind, (name, names) in named.items()}

    clip = _empty(torch.tensor([SCENES.index("single")]), ground, torch.zeros(1), config.frames)
    u = torch.rand(1, 7, generator=torch.Generator().manual_seed(seed))
    film = _Film.of(config, u.device)
    kind = (thing["shape"], thing["motion"], thing["size"])
    centre, radius = move_alone(*kind, film.region(u), clip.pan, film.ticks, u, film.duration)
    _put(clip, torch.tensor([0]), 0, **thing, centre=centre, radius=radius)
    return clip
