"""The world read back from pixels, without a network: what is there, where it is, and how it moves.

A pixel of the toy world is a mixture, ``ground + alpha (colour - ground)``. So a clip is read by undoing the mixing:
find the ground, name the colours, solve for alpha; its centre of mass is the position, its area the size, its
outline the shape, and its path the motion. Nothing here was fitted to what a model draws (lesson 01).
"""

from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sora_edu.checked import checked
from sora_edu.config import check_value
from sora_edu.errors import InputError, shown
from sora_edu.shapes import is_whole
from sora_edu.world.paths import TICKS, pixels_per_unit, tick_times
from sora_edu.world.tracker.motion import NOTHING, UNCLEAR, fit_collision, fit_motion, growth
from sora_edu.world.tracker.segment import segment
from sora_edu.world.tracker.shape import AREA, behind_bar, measure, read_shape, read_size
from sora_edu.world.vocabulary import COLOURS, MOTIONS, SCENES, SHAPES

BATCH = 64  # clips read at a time


@dataclass(frozen=True)
class Track:
    """What was read from a batch of clips. Indices are as in ``State``, or NOTHING, or UNCLEAR; lengths are in units.

    The objects are listed from left to right, but in a collision the one that hits comes first, as in ``State``.
    """

    scene: Int[Tensor, "b"]
    shape: Int[Tensor, "b k"]
    colour: Int[Tensor, "b k"]
    size: Int[Tensor, "b k"]  # at the start of the clip
    motion: Int[Tensor, "b k"]  # in the world's frame: what the camera's pan adds is taken away
    background: Int[Tensor, "b"]
    pan: Float[Tensor, "b"]  # units a tick that the camera moves to the right
    bar: Float[Tensor, "b 2"]  # NaN where there is none
    centre: Float[Tensor, "b k f 2"]  # on the canvas; NaN where the object is not visible
    radius: Float[Tensor, "b k f"]
    area: Float[Tensor, "b k f"]  # square units in sight
    visible: Bool[Tensor, "b k f"]
    path: Float[Tensor, "b k f 2"]  # on the canvas, of the law that the motion follows; NaN where it is unclear
    path_error: Float[Tensor, "b k"]  # RMS distance between centre and the best law, clear or not
    shape_error: Float[Tensor, "b k"]  # squared misfit of the best shape, as a share of its area

    def __len__(self) -> int:
        return len(self.scene)

    def __getitem__(self, rows) -> "Track":
        rows = [rows] if isinstance(rows, int) else rows
        return Track(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})


@checked
def track(video: Float[Tensor, "b 3 f h w"], *, objects: int = 2, duration: float = TICKS) -> Track:
    """Read every clip of ``b 3 f h w`` in [-1, 1]; look for ``objects`` (1 or 2) of different colours in each.

    The clip is taken to last ``duration`` ticks and the shorter side to measure 32 units, as in ``world``. An object
    that is not there reads NOTHING in every attribute. With fewer than 5 frames (an image has one) the motion of what
    is there reads UNCLEAR. Raises InputError for another rank, type or range, for NaN, and for other counts of objects
    and other durations than those of a WorldConfig.
    """
    _check(video, objects)
    check_value("duration", duration, float, (1, 64))
    with torch.no_grad():
        parts = [_track(clips.float().clamp(-1, 1), objects, duration) for clips in video.split(BATCH)]
    return Track(**{f.name: torch.cat([getattr(part, f.name) for part in parts]) for f in fields(Track)})


@checked
def velocity_error(tracked: Track, duration: float = TICKS) -> Float[Tensor, "b"]:
    """RMS difference, in units a tick, between the velocity of the centres and that of the law they follow.

    Velocities are differences of neighbouring frames in which the object is visible; the law is that of the motion
    read (facts.md: physics). NaN where no motion was read.
    """
    frames = tracked.centre.shape[2]
    step = (tracked.centre - tracked.path).diff(dim=2) * (frames - 1) / duration  # b k f-1 2
    return step.square().sum(-1).flatten(1).nanmean(1).sqrt()


# --- the whole clip --------------------------------------------------------------------------------------------------


def _check(video: Tensor, objects: int):
    if objects not in (1, 2):
        raise InputError(f"objects={shown(objects)}: this tracker tells one object or two apart; use 1 or 2")
    if not video.is_floating_point():
        raise InputError(
            f"the clips are {video.dtype}; give a tensor of floats in [-1, 1], such as x.float() / 127.5 - 1"
        )
    if video.ndim != 5 or video.shape[1] != 3 or min(video.shape) < 1 or min(video.shape[3:]) < 16:
        raise InputError(
            f"the clips have shape {tuple(video.shape)}, not b 3 f h w with sides of 16 or more; one clip is x[None]"
        )
    if not video.isfinite().all():
        raise InputError("the clips hold NaN or infinite values; look for them in what made the clips")
    if video.abs().max() > 2:
        raise InputError(f"the clips reach {video.abs().max():.3g}, not [-1, 1]; from 0..255 use x / 127.5 - 1")


def _locate(alpha: Float[Tensor, "n f h w"], columns: Bool[Tensor, "n w"]) -> tuple:
    """Shape, its misfit, centre, area and radius (pixels), and in which frames each object is visible."""
    f, h, w = alpha.shape[1:]
    unit = pixels_per_unit(h, w)
    centre, area = measure(alpha)
    visible = (area > 2 * unit**2) & (alpha.flatten(2).amax(2) > 0.6)
    # The shape is read from the frames that show most of it; those in which it leaves the canvas come last.
    border = (alpha[..., 0], alpha[..., -1], alpha[..., 0, :], alpha[..., -1, :])
    cut = torch.cat(border, -1).amax(2) > 0.7
    clearest = (area * visible * torch.where(cut, 0.1, 1.0)).topk(min(5, f), dim=1).indices
    barred = columns.any(1)
    clearest = torch.where(barred[:, None], clearest[:, :1], clearest)  # a bar hides part of the others
    rows = torch.arange(len(alpha), device=alpha.device)[:, None]
    shape, misfit = read_shape(alpha[rows, clearest], centre[rows, clearest], area[rows, clearest])
    covers = torch.tensor([AREA[name] for name in SHAPES], device=alpha.device)[shape.clamp(min=0)]
    radius = (area / covers[:, None]).sqrt()
    row = (barred & (shape >= 0)).nonzero()[:, 0]
    if len(row):
        best = clearest[row, 0]
        radius[row] = radius[row, best][:, None].expand(-1, f)
        x, share = behind_bar(alpha[row], columns[row], shape[row], centre[row, best, 1], radius[row, 0])
        centre[row] = torch.stack((x, centre[row, :, 1]), -1)
        visible[row] &= share > 0.25
    return shape, misfit, torch.where(visible[..., None], centre, torch.nan), area, radius, visible


def _track(video: Float[Tensor, "b 3 f h w"], objects: int, duration: float) -> Track:
    b, _, f, h, w = video.shape
    unit = pixels_per_unit(h, w)
    seen = segment(video, objects, duration)
    columns = seen.columns.repeat_interleave(objects, 0)  # n = b k
    shape, misfit, centre, area, radius, visible = _locate(seen.alpha.flatten(0, 1), columns)
    centre, area, radius = centre / unit, area / unit**2, radius / unit

    ticks = tick_times(f, duration, device=video.device)
    moved = seen.pan.repeat_interleave(objects)[:, None] * ticks
    camera = torch.stack((moved, torch.zeros_like(moved)), -1)
    motion, path, path_error = fit_motion(centre + camera, radius, visible, duration)
    motion = torch.where(_lasts(visible, columns.any(1)), motion, UNCLEAR)
    size = torch.where(shape >= 0, read_size(growth(radius, visible)[0]), UNCLEAR)

    def grid(x):
        return x.view(b, objects, *x.shape[1:])

    there = seen.colour != NOTHING
    shape, size, motion = (torch.where(there, grid(x), NOTHING) for x in (shape, size, motion))
    barred = seen.columns.any(1)
    scene = torch.where(there.any(1), SCENES.index("single"), NOTHING)
    scene = torch.where(barred & there.any(1), SCENES.index("behind"), scene)
    left, right = (x.float().argmax(1) + 1.0 for x in (seen.columns, seen.columns.flip(1)))  # one column to spare
    bar = torch.where(barred[:, None], torch.stack((left, w - right), 1) / unit, torch.nan)
    read = Track(
        scene=scene,
        shape=shape,
        colour=seen.colour,
        size=size,
        motion=motion,
        background=seen.background,
        pan=seen.pan,
        bar=bar,
        centre=grid(centre),
        radius=grid(radius),
        area=grid(area),
        visible=grid(visible),
        path=grid(path - camera),
        path_error=grid(path_error),
        shape_error=grid(misfit),
    )
    return _forget_unclear(_read_pairs(read) if objects == 2 else read, seen.plain)


def _lasts(visible: Bool[Tensor, "n f"], barred: Bool[Tensor, "n"]) -> Bool[Tensor, "n"]:
    """Whether an object is seen early, late and most of the time: what comes, goes or flickers has no one motion."""
    third = max(visible.shape[1] // 3, 1)
    ends = visible[:, :third].any(1) & visible[:, -third:].any(1)
    return ends & (visible.float().mean(1) > torch.where(barred, 0.35, 0.75))


def _swap(read: Track, rows: Bool[Tensor, "b"]) -> Track:
    """Exchange the two objects of some clips."""
    return replace(read, **{
        f.name: torch.where(rows.view(-1, *[1] * (x.ndim - 1)), x.flip(1), x)
        for f in fields(Track)
        if f.name not in ("bar", "background", "pan", "scene")
        for x in [getattr(read, f.name)]
    })  # fmt: skip


def _read_pairs(read: Track) -> Track:
    """Put two objects in order and tell a collision from two that move side by side."""
    pair = (read.colour != NOTHING).all(1)
    place = read.centre[..., 0].nanmean(2).nan_to_num()
    read = _swap(read, pair & (place[:, 0] > place[:, 1]))
    alone = (read.motion >= 0).all(1)  # each follows a law of its own
    collides = torch.zeros_like(pair)
    for turn in (False, True):
        read = _swap(read, ~collides & turn & pair)
        found, motion, path, error = fit_collision(read.centre, read.visible)
        found &= pair & ~alone & ~collides
        collides |= found
        at = found[:, None]
        read = replace(
            read,
            motion=torch.where(at, motion, read.motion),
            path=torch.where(at[..., None, None], path, read.path),
            path_error=torch.where(at, error[:, None], read.path_error),
        )
    read = _swap(read, pair & ~collides)  # back to left and right
    scene = torch.where(pair, SCENES.index("pair"), read.scene)
    return replace(read, scene=torch.where(collides, SCENES.index("collides"), scene))


def _forget_unclear(read: Track, plain: Bool[Tensor, "b"]) -> Track:
    """Blank the paths that follow no law, and all of a clip that shows no plain ground."""
    path = torch.where((read.motion >= 0)[..., None, None], read.path, torch.nan)
    first = torch.arange(read.shape.shape[1], device=plain.device) == 0
    blank = torch.where(first, UNCLEAR, NOTHING).expand_as(read.shape)
    names = {n: torch.where(plain[:, None], getattr(read, n), blank) for n in ("shape", "colour", "size", "motion")}
    path = torch.where(plain[:, None, None, None], path, torch.nan)
    return replace(read, path=path, scene=torch.where(plain, read.scene, UNCLEAR), **names)


# --- in words --------------------------------------------------------------------------------------------------------


@checked
def describe(tracked: Track, i: int) -> str:
    """One clip in words: "a red circle falls", "nothing there", "unclear"; what is unclear is in brackets.

    Raises InputError where there is no clip ``i``.
    """
    if not is_whole(i, -len(tracked), len(tracked) - 1):
        raise InputError(f"i={shown(i)} is none of {len(tracked)} clips; count from 0")
    scene = int(tracked.scene[i])
    objects = [k for k in range(tracked.shape.shape[1]) if tracked.colour[i, k] != NOTHING]
    if scene == UNCLEAR or (len(objects) == 1 and tracked.shape[i, 0] == tracked.motion[i, 0] == UNCLEAR):
        return "unclear"
    if not objects:
        return "nothing there"
    nouns, verbs = [], []
    for k in objects:
        shape, colour, motion = (int(getattr(tracked, name)[i, k]) for name in ("shape", "colour", "motion"))
        noun = f"{COLOURS[colour]} " if colour >= 0 else ""
        noun += SHAPES[shape] if shape >= 0 else "object"
        doubts = [name for name in ("shape", "colour", "motion") if getattr(tracked, name)[i, k] == UNCLEAR]
        verb = _verb(MOTIONS[motion]) if motion >= 0 else "is there"
        nouns.append(("an " if noun[0] in "aeiou" else "a ") + noun)
        verbs.append(verb + (f" ({', '.join(doubts)} unclear)" if doubts else ""))
    if scene == SCENES.index("collides"):
        return f"{nouns[0]} {verbs[0]} and hits {nouns[1]}"
    words = " and ".join(f"{noun} {verb}" for noun, verb in zip(nouns, verbs, strict=True))
    words += " behind a bar" if scene == SCENES.index("behind") else ""
    pan = float(tracked.pan[i])
    return words + (f" while the camera pans {'right' if pan > 0 else 'left'}" if abs(pan) > 0.15 else "")


def _verb(motion: str) -> str:
    return {"still": "stays still"}.get(motion, motion if motion.endswith("s") else f"moves {motion}")
