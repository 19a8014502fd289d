"""The world read back from pixels, without a network: what is there, where it is, and how it moves.

A pixel of the toy world is a mixture, ``ground + alpha (colour - ground)``. So a clip is read by undoing the mixing:
find the ground, name the colours, solve for alpha; its centre of mass is the position, its area the size, its
outline the shape, and its path the motion. Nothing here was fitted to what a model draws.
"""

import math
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sora_edu.config import BACKGROUNDS, COLOURS, MOTIONS, SCENES, SHAPES, SIZES
from sora_edu.errors import InputError
from sora_edu.motions import NOTHING, UNCLEAR, fit_collision, fit_motion, growth
from sora_edu.render import BACKGROUND_RGB, STRIPE_DEPTH, coverage
from sora_edu.segment import name_colours, read_bar, read_ground, read_pan, unmix
from sora_edu.world import RADIUS, TICKS

CHUNK = 64  # clips read at a time
# The area that each shape covers at radius 1, and so the radius that it must have to cover a measured area.
AREA = {
    "circle": math.pi,
    "square": 1.8**2,
    "triangle": 3 * math.sqrt(3) * 0.625**2,
    "star": 5 * 1.25**2 * math.cos(0.4 * math.pi) / math.cos(0.2 * math.pi) * math.sin(0.2 * math.pi),
    "ring": math.pi * (1.05**2 - 0.55**2),
}


@dataclass(frozen=True)
class Track:
    """What was read from a batch of clips. Indices are as in ``State``, or NOTHING, or UNCLEAR; lengths are in units.

    The objects stand from left to right, but in a collision the one that hits comes first, as in ``State``.
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


def track(video: Tensor, *, objects: int = 2) -> Track:
    """Read every clip of ``b 3 f h w`` in [-1, 1]; look for ``objects`` (1 or 2) of different colours in each.

    The clip is taken to last 16 ticks and the shorter side to measure 32 units, as in ``world``. An object that is
    not there reads NOTHING in every attribute. With fewer than 5 frames (an image has one) the motion of what is
    there reads UNCLEAR. Raises InputError for another rank, type or range, for NaN, and for other counts of objects.
    """
    _check(video, objects)
    with torch.no_grad():
        parts = [_track(clips.float().clamp(-1, 1), objects) for clips in video.split(CHUNK)]
    return Track(**{f.name: torch.cat([getattr(part, f.name) for part in parts]) for f in fields(Track)})


def velocity_error(tracked: Track) -> Float[Tensor, "b"]:
    """RMS difference, in units a tick, between the velocity of the centres and that of the law they follow.

    Velocities are differences of neighbouring frames in which the object is visible; the law is that of the motion
    read (facts.md: physics). NaN where no motion was read.
    """
    frames = tracked.centre.shape[2]
    step = (tracked.centre - tracked.path).diff(dim=2) * (frames - 1) / TICKS  # b k f-1 2
    return step.square().sum(-1).flatten(1).nanmean(1).sqrt()


# --- what one object is ----------------------------------------------------------------------------------------------


def measure(alpha: Float[Tensor, "n f h w"]) -> tuple[Float[Tensor, "n f 2"], Float[Tensor, "n f"]]:
    """Centre of mass (x, y in pixels) and area (square pixels) of the coverage in each frame."""
    area = alpha.sum((2, 3))
    x, y = (torch.arange(size, device=alpha.device) + 0.5 for size in (alpha.shape[3], alpha.shape[2]))
    moment = torch.stack((alpha.sum(2) @ x, alpha.sum(3) @ y), -1)
    return moment / area.clamp(min=1e-6)[..., None], area


def draw(
    shape: str, centre: Float[Tensor, "n f 2"], radius: Float[Tensor, "n f"], h: int, w: int
) -> Float[Tensor, "n f h w"]:
    """The coverage that a shape would have there, as the renderer draws it (pixels)."""
    x = torch.arange(w, device=centre.device) + 0.5 - centre[..., 0, None, None]
    y = (torch.arange(h, device=centre.device) + 0.5)[:, None] - centre[..., 1, None, None]
    return coverage(shape, x, y, radius[..., None, None])


def read_shape(
    alpha: Float[Tensor, "n f h w"], centre: Float[Tensor, "n f 2"], area: Float[Tensor, "n f"]
) -> tuple[Int[Tensor, "n"], Float[Tensor, "n"]]:
    """The shape whose coverage fits best, in squares, and its misfit as a share of the area; UNCLEAR if none does.

    The measured area fixes the radius that each shape would have, so there is nothing to search.
    """
    misfits = []
    for shape in SHAPES:
        drawn = draw(shape, centre, (area / AREA[shape]).sqrt(), *alpha.shape[2:])
        misfits.append((drawn - alpha).square().sum((1, 2, 3)) / area.sum(1).clamp(min=1))
    least, order = torch.stack(misfits, 1).sort(1)
    clear = (least[:, 0] < 0.12) & (least[:, 0] < 0.85 * least[:, 1])
    return torch.where(clear, order[:, 0], UNCLEAR), least[:, 0]


def read_size(start: Float[Tensor, "n"]) -> Int[Tensor, "n"]:
    """The size whose radius is nearest to that at the start of the clip; UNCLEAR between two of them and beyond."""
    classes = torch.tensor([RADIUS[name] for name in SIZES], device=start.device, dtype=start.dtype)
    distance, index = (start[:, None].clamp(min=0.1) / classes).log().abs().min(1)
    return torch.where(distance < 0.15, index, UNCLEAR)


def behind_bar(
    alpha: Float[Tensor, "n f h w"], columns: Bool[Tensor, "n w"], shape: Int[Tensor, "n"], y: Tensor, radius: Tensor
) -> tuple[Float[Tensor, "n f"], Float[Tensor, "n f"]]:
    """Where an object is that a bar hides in part: slide its shape along x, keep the place whose rest in sight fits.

    ``y`` and ``radius`` (pixels) are those of the frames that show it best. Returns x and the share in sight.
    """
    h, w = alpha.shape[2:]
    seen = (~columns).float()[:, None]  # n 1 w
    tries = torch.arange(0, w, 0.25, device=alpha.device)
    at = torch.stack((tries.expand(len(y), -1), y[:, None].expand(-1, len(tries))), -1)  # n tries 2
    profile = torch.zeros(*at.shape[:2], w, device=alpha.device)
    for index, name in enumerate(SHAPES):
        for row in (shape == index).nonzero()[:, 0].split(8):
            profile[row] = draw(name, at[row], radius[row, None].expand(-1, len(tries)), h, w).sum(2)
    whole = profile.sum(2)
    profile = profile * seen
    mismatch = torch.cdist(alpha.sum(2) * seen, profile)  # n f tries
    best = mismatch.argmin(2)
    return tries[best], (profile.sum(2) / whole.clamp(min=1e-6)).gather(1, best)


# --- the whole clip --------------------------------------------------------------------------------------------------


def _check(video: Tensor, objects: int):
    if objects not in (1, 2):
        raise InputError(f"objects={objects!r}: this tracker tells one object or two apart; use 1 or 2")
    if not video.is_floating_point():
        raise InputError(
            f"the clips are {video.dtype}; give a tensor of floats in [-1, 1], such as x.float() / 127.5 - 1"
        )
    if video.ndim != 5 or video.shape[1] != 3 or min(video.shape) < 1 or min(video.shape[3:]) < 16:
        raise InputError(
            f"the clips have shape {tuple(video.shape)}, not b 3 f h w with sides of 16 or more; use x[None] for one clip"
        )
    if not video.isfinite().all():
        raise InputError("the clips hold NaN or infinite values; look for them in what made the clips")
    if video.abs().max() > 2:
        raise InputError(f"the clips reach {video.abs().max():.3g}, not [-1, 1]; from 0..255 use x / 127.5 - 1")


def _track(video: Float[Tensor, "b 3 f h w"], objects: int) -> Track:
    b, _, f, h, w = video.shape
    unit = min(h, w) / 32  # pixels
    ticks = torch.linspace(0, TICKS, f, device=video.device)
    ground, plain = read_ground(video)
    columns = read_bar(video)
    difference = (video - ground[:, :, None, None, None]) * ~columns[:, None, None, None]
    solid = difference.norm(dim=1) > 0.5
    near = torch.nn.functional.max_pool2d(solid.float(), 5, 1, 2) > 0
    pan, stripes = read_pan(difference, ~near & ~columns[:, None, None], unit)
    difference = difference - stripes[:, None, :, None] * ~columns[:, None, None, None]
    grounds = torch.tensor([BACKGROUND_RGB[name] for name in BACKGROUNDS], device=video.device) * 2 - 1
    base = ground - STRIPE_DEPTH * (stripes.abs().amax((1, 2)) > 0)[:, None]
    distance, background = (base[:, None] - grounds).norm(dim=2).min(1)
    background = torch.where(plain & (distance < 0.25), background, UNCLEAR)

    colour, paint = name_colours(difference, solid, ground, objects)
    alpha = unmix(difference, paint).flatten(0, 1)  # n = b k
    centre, area = measure(alpha)
    peak = alpha.flatten(2).amax(2)
    visible = (area > 2 * unit**2) & (peak > 0.6) & (colour.flatten() != NOTHING)[:, None]

    rows = torch.arange(len(alpha), device=video.device)[:, None]
    barred = columns.any(1).repeat_interleave(objects)
    edge = torch.stack((alpha[..., 0], alpha[..., -1]), -1).amax((2, 3)) + torch.maximum(
        alpha[..., 0, :], alpha[..., -1, :]
    ).amax(2)
    clearest = (area * visible * torch.where(edge > 0.7, 0.1, 1.0)).topk(min(5, f), dim=1).indices
    clearest = torch.where(barred[:, None], clearest[:, :1], clearest)  # a bar hides some of the others
    shape, shape_error = read_shape(alpha[rows, clearest], centre[rows, clearest], area[rows, clearest])
    covers = torch.tensor([AREA[name] for name in SHAPES], device=video.device)[shape.clamp(min=0)]
    radius = (area / covers[:, None]).sqrt()

    row = (barred & (shape >= 0) & visible.any(1)).nonzero()[:, 0]
    if len(row):
        best = clearest[row, 0]
        radius[row] = radius[row, best][:, None].expand(-1, f)
        y = centre[row, best, 1]
        x, share = behind_bar(alpha[row], columns[row // objects], shape[row], y, radius[row, 0])
        centre[row] = torch.stack((x, centre[row, :, 1]), -1)
        visible[row] &= share > 0.25

    centre, radius, area = centre / unit, radius / unit, area / unit**2
    centre = torch.where(visible[..., None], centre, torch.nan)
    camera = torch.stack(
        (pan.repeat_interleave(objects)[:, None] * ticks, torch.zeros(len(alpha), f, device=video.device)), -1
    )
    motion, path, path_error = fit_motion(centre + camera, radius, visible)
    path = path - camera
    start, _ = growth(radius, visible)
    size = torch.where(shape >= 0, read_size(start), UNCLEAR)
    # What comes, goes or flickers is no object of this world: it is seen at both ends, and most of the time.
    third = max(f // 3, 1)
    lasting = visible[:, :third].any(1) & visible[:, -third:].any(1)
    lasting &= visible.float().mean(1) > torch.where(barred, 0.5, 0.75)
    motion = torch.where(lasting, motion, UNCLEAR)

    def grid(x):
        return x.view(b, objects, *x.shape[1:])

    there = colour != NOTHING
    shape, size, motion = (torch.where(there, grid(x), NOTHING) for x in (shape, size, motion))
    scene = torch.where(there.any(1), SCENES.index("single"), NOTHING)
    scene = torch.where(columns.any(1) & there[:, 0], SCENES.index("behind"), scene)
    bar = torch.stack((columns.float().argmax(1) + 1.0, w - 1.0 - columns.flip(1).float().argmax(1)), 1) / unit
    bar = torch.where(columns.any(1)[:, None], bar, torch.nan)
    read = Track(scene, shape, colour, size, motion, background, pan, bar, *map(grid, (centre, radius, area, visible)),
                 *map(grid, (path, path_error, shape_error)))  # fmt: skip
    if objects == 2:
        read = _read_pairs(read)
    return _forget_unclear(read, plain)


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


def describe(tracked: Track, i: int) -> str:
    """One clip in words: "a red circle falls", "nothing there", "unclear"; what is unclear stands in brackets."""
    scene, objects = (
        int(tracked.scene[i]),
        [k for k in range(tracked.shape.shape[1]) if tracked.colour[i, k] != NOTHING],
    )
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
