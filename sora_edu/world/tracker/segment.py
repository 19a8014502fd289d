"""The mixing of colours undone: from pixels to the share of each that an object covers.

A pixel of the toy world is a mixture, ``ground + alpha (colour - ground)``. The ground is what the border shows; a bar
and the stripes of a panning camera are found and set aside; what is left names its colours, and is solved for alpha
(lesson 01).
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sora_edu.checked import checked
from sora_edu.errors import InputError, shown
from sora_edu.world.paths import TICKS, pixels_per_unit, tick_times
from sora_edu.world.render import BACKGROUND_RGB, BAR_RGB, COLOUR_RGB, STRIPE_DEPTH, STRIPE_PERIOD
from sora_edu.world.tracker.motion import NOTHING, UNCLEAR
from sora_edu.world.vocabulary import BACKGROUNDS, COLOURS


@dataclass(frozen=True)
class Segments:
    """What each pixel belongs to."""

    background: Int[Tensor, "b"]  # index into BACKGROUNDS, or UNCLEAR
    plain: Bool[Tensor, "b"]  # False where no plain ground is in sight
    pan: Float[Tensor, "b"]  # units a tick
    columns: Bool[Tensor, "b w"]  # covered by a bar
    colour: Int[Tensor, "b k"]  # index into COLOURS, UNCLEAR, or NOTHING
    alpha: Float[Tensor, "b k f h w"]  # share of each pixel that each object covers


@checked
def segment(video: Float[Tensor, "b 3 f h w"], objects: int, duration: float = TICKS) -> Segments:
    """Take away the ground, the bar and the stripes, and tell the objects apart by their colours.

    Raises InputError for other counts of objects than 1 and 2.
    """
    if objects not in (1, 2):
        raise InputError(f"objects={shown(objects)}: this tracker tells one object or two apart; use 1 or 2")
    ground, plain = read_ground(video)
    columns = read_bar(video)
    free = ~columns[:, None, None, None]
    difference = (video - ground[:, :, None, None, None]) * free
    solid = difference.norm(dim=1) > 0.5
    near = F.max_pool2d(solid.float(), 5, 1, 2) > 0
    pan, stripes = read_pan(difference, ~near & free[:, 0], pixels_per_unit(*video.shape[3:]), duration)
    difference = difference - stripes[:, None, :, None] * free
    palette = torch.tensor([BACKGROUND_RGB[name] for name in BACKGROUNDS], device=video.device) * 2 - 1
    base = ground - STRIPE_DEPTH * (stripes != 0).any(2).any(1)[:, None]  # stripes only ever brighten
    distance, background = (base[:, None] - palette).norm(dim=2).min(1)
    background = torch.where(plain & (distance < 0.25), background, UNCLEAR)
    colour, paint = name_colours(difference, solid, ground, objects)
    return Segments(background, plain, pan, columns, colour, unmix(difference, paint))


@checked
def read_ground(video: Float[Tensor, "b 3 f h w"]) -> tuple[Float[Tensor, "b 3"], Bool[Tensor, "b"]]:
    """The colour of the ground, the median of the outermost pixels over time; and whether it is one plain colour."""
    edges = (video[..., 0, :], video[..., -1, :], video[..., :, 0], video[..., :, -1])
    border = torch.cat([edge.flatten(2) for edge in edges], 2)
    ground = border.median(2).values
    return ground, (border - ground[..., None]).norm(dim=1).median(1).values < 0.3


@checked
def read_bar(video: Float[Tensor, "b 3 f h w"]) -> Bool[Tensor, "b w"]:
    """The columns that a bar fills from top to bottom through the whole clip, with a column to each side."""
    bar = torch.tensor(BAR_RGB, device=video.device) * 2 - 1
    near = (video - bar[:, None, None, None]).norm(dim=1) < 0.4
    column = near.float().mean((1, 2)) > 0.8
    column &= (column.sum(1) >= 3)[:, None]
    return F.max_pool1d(column.float()[:, None], 3, 1, 1)[:, 0] > 0


@checked
def read_pan(
    difference: Float[Tensor, "b 3 f h w"], clear: Bool[Tensor, "b f h w"], unit: float, duration: float = TICKS
) -> tuple[Float[Tensor, "b"], Float[Tensor, "b f w"]]:
    """The camera's speed in units a tick, and the stripes that show it, from the ground in sight (``clear``).

    The stripes are ``sin(k (x + pan t))``: a sine and a cosine are fitted to each frame, and the pan is the speed
    at which their phase advances. Fainter stripes than half the world's are none.
    """
    _, _, f, _, w = difference.shape
    k = 2 * math.pi / STRIPE_PERIOD
    x = (torch.arange(w, device=difference.device) + 0.5) / unit
    ticks = tick_times(f, duration, device=difference.device)
    wave = torch.stack((torch.ones_like(x), (k * x).sin(), (k * x).cos()), -1)  # w 3
    count = clear.float().sum(2)  # b f w
    total = (difference.mean(1) * clear).sum(2)
    normal = torch.einsum("bfw,wi,wj->bfij", count, wave, wave) + 1e-3 * torch.eye(3, device=x.device)
    right = torch.einsum("bfw,wi->bfi", total, wave)
    level, sine, cosine = torch.linalg.solve(normal, right[..., None])[..., 0].unbind(-1)
    speeds = torch.linspace(-1, 1, 201, device=x.device) if f > 1 else torch.zeros(1, device=x.device)
    turned = torch.complex(sine, cosine) @ torch.exp(-1j * k * ticks[:, None] * speeds) / f  # b speeds
    strength, best = turned.abs().max(1)
    striped = (strength > STRIPE_DEPTH / 2).float()
    pan = speeds[best] * striped
    phase = torch.exp(1j * k * (x + pan[:, None, None] * ticks[:, None]))  # b f w
    waves = (turned.gather(1, best[:, None])[..., None] * phase).imag
    return pan, (waves + level.mean(1)[:, None, None]) * striped[:, None, None]


@checked
def name_colours(
    difference: Float[Tensor, "b 3 f h w"], core: Bool[Tensor, "b f h w"], ground: Float[Tensor, "b 3"], objects: int
) -> tuple[Int[Tensor, "b k"], Float[Tensor, "b k 3"]]:
    """The colour of each object and its difference from the ground: each core pixel votes for the nearest direction.

    The most frequent colours win. One whose strongest pixels are far from any palette colour is UNCLEAR.
    """
    palette = torch.tensor([COLOUR_RGB[name] for name in COLOURS], device=ground.device) * 2 - 1
    towards = palette - ground[:, None]  # b 8 3
    length = towards.norm(dim=2)
    along = torch.einsum("bkc,bcfhw->bkfhw", towards / length[..., None], difference)
    label = torch.where(core, along.argmax(1), -1)
    votes = torch.stack([(label == c).flatten(1).sum(1) for c in range(len(COLOURS))], 1) / core.shape[1]  # a frame
    count, colour = votes.topk(objects, dim=1)
    second = (0.05 * count[:, :1]).clamp(min=4.0)  # a few stray pixels beside a large object are no object
    least = torch.cat((torch.full_like(second, 1.5), second), 1)[:, :objects]
    present = count >= least
    paint = torch.stack([strongest(difference, along, label, colour[:, k]) for k in range(objects)], 1)
    target = towards.gather(1, colour[..., None].expand(-1, -1, 3))
    share = (paint * target).sum(2) / target.square().sum(2)
    stray = (paint - share[..., None] * target).norm(dim=2)
    known = (stray < 0.35) & (share > 0.6) & (share < 1.25)
    paint = torch.where(known[..., None], target, paint) * present[..., None]
    return torch.where(present, torch.where(known, colour, UNCLEAR), NOTHING), paint


@checked
def strongest(
    difference: Float[Tensor, "b 3 f h w"],
    along: Float[Tensor, "b colours f h w"],
    label: Int[Tensor, "b f h w"],
    colour: Int[Tensor, "b"],
) -> Float[Tensor, "b 3"]:
    """The mean of the pixels of a colour that reach farthest in its direction: those that the object covers wholly."""
    own = along.gather(1, colour[:, None, None, None, None].expand(-1, 1, *along.shape[2:]))[:, 0]
    own = torch.where(label == colour[:, None, None, None], own, 0.0).flatten(1)
    top = own.topk(min(own.shape[1], 8 * label.shape[1]), dim=1)
    pixels = difference.flatten(2).gather(2, top.indices[:, None].expand(-1, 3, -1))
    weight = (top.values > 0.8 * top.values[:, :1]).float()[:, None]
    return (pixels * weight).sum(2) / weight.sum(2).clamp(min=1)


@checked
def unmix(difference: Float[Tensor, "b 3 f h w"], paint: Float[Tensor, "b k 3"]) -> Float[Tensor, "b k f h w"]:
    """Solve ``difference = sum_k alpha_k paint_k`` for the share of each pixel that each object covers.

    Least squares, clamped to [0, 1]; faint values far from any solid pixel are noise and become zero.
    """
    gram = paint @ paint.mT + 1e-4 * torch.eye(paint.shape[1], device=paint.device)
    alpha = torch.einsum("bkc,bcfhw->bkfhw", torch.linalg.solve(gram, paint), difference).clamp(0, 1)
    return alpha * (F.max_pool2d(alpha.flatten(1, 2), 3, 1, 1).view_as(alpha) > 0.4)
