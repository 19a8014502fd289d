"""Pictures of the toy world: signed distances turned into anti-aliased coverage, for a whole batch at once."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from sora_edu.config import WorldConfig
from sora_edu.vocabulary import SHAPES
from sora_edu.world import State

COLOUR_RGB = {
    "red": (0.90, 0.10, 0.10),
    "green": (0.10, 0.75, 0.15),
    "blue": (0.15, 0.30, 0.95),
    "yellow": (0.95, 0.90, 0.10),
    "purple": (0.60, 0.15, 0.85),
    "cyan": (0.10, 0.85, 0.90),
    "orange": (1.00, 0.50, 0.05),
    "white": (0.97, 0.97, 0.97),
}
BACKGROUND_RGB = {"black": (0.02, 0.02, 0.02), "grey": (0.30, 0.30, 0.30), "navy": (0.04, 0.06, 0.22)}
BAR_RGB = (0.55, 0.42, 0.30)
STRIPE_PERIOD = 16.0  # units; stripes show only where the camera pans: on a plain ground a pan cannot be seen
STRIPE_DEPTH = 0.08
CHUNK = 16  # clips drawn at a time, so that a chunk stays in the processor's cache


def half_plane(x: Tensor, y: Tensor, angle: float, distance: Tensor) -> Tensor:
    """Signed distance to a line: negative inside, the outward normal at ``angle`` (0 right, pi/2 down)."""
    return x * math.cos(angle) + (y * math.sin(angle) - distance)


def coverage(
    shape: str, x: Float[Tensor, "n f 1 w"], y: Float[Tensor, "n f h 1"], r: Float[Tensor, "n f 1 1"]
) -> Float[Tensor, "n f h w"]:
    """Share of each pixel that a shape of radius ``r`` (pixels) covers, x and y measured from its centroid."""
    if shape == "square":  # the product of two intervals
        return (0.5 + 0.9 * r - x.abs()).clamp(0, 1) * (0.5 + 0.9 * r - y.abs()).clamp(0, 1)
    if shape == "triangle":  # inside three half planes at a third of the circumradius' double
        sides = [half_plane(x, y, math.pi * (0.5 + 2 * k / 3), 0.625 * r) for k in range(3)]
        distance = torch.maximum(torch.maximum(sides[0], sides[1]), sides[2])
    elif shape == "star":  # a pentagram: inside at least four of five half planes, so the second largest decides
        sides = [half_plane(x, y, math.pi * (2 * k / 5 - 0.5), 1.25 * math.cos(0.4 * math.pi) * r) for k in range(5)]
        largest, distance = torch.maximum(sides[0], sides[1]), torch.minimum(sides[0], sides[1])
        for side in sides[2:]:
            distance = torch.maximum(distance, torch.minimum(largest, side))
            largest = torch.maximum(largest, side)
    else:
        distance = (x * x + y * y).sqrt_()
        distance = distance.sub_(r) if shape == "circle" else distance.sub_(0.8 * r).abs_().sub_(0.25 * r)
    return distance.neg_().add_(0.5).clamp_(0, 1)


def render(state: State, config: WorldConfig | None = None) -> Float[Tensor, "b 3 f h w"]:
    """Draw the clips of a state, on the state's device: pixels in [-1, 1], edges anti-aliased over one pixel.

    The later object lies over the earlier one, and a bar over both.
    """
    config = config or WorldConfig()
    device, b, f = state.centre.device, len(state), state.centre.shape[2]
    unit = min(config.height, config.width) / 32
    xs = (torch.arange(config.width, device=device) + 0.5)[None, None, None, :]
    ys = (torch.arange(config.height, device=device) + 0.5)[None, None, :, None]
    palette = torch.tensor(list(COLOUR_RGB.values()), device=device) * 2 - 1
    grounds = torch.tensor(list(BACKGROUND_RGB.values()), device=device) * 2 - 1

    ground = grounds[state.background][:, :, None, None, None]  # b 3 1 1 1
    panning = state.pan.nonzero()[:, 0]
    if len(panning):
        moved = state.pan[panning, None] * torch.linspace(0, 16, f, device=device)  # units
        phase = 2 * math.pi * (xs / unit + moved[:, :, None, None]) / STRIPE_PERIOD
        ground = ground.expand(b, 3, f, 1, config.width).clone()
        ground[panning] += STRIPE_DEPTH * (1 + phase.sin()[:, None])
    video = torch.empty(b, 3, f, config.height, config.width, device=device)
    video[state.shape[:, 0] < 0] = ground[state.shape[:, 0] < 0]

    for k in range(state.shape.shape[1]):
        for s, shape in enumerate(SHAPES):
            for rows in (state.shape[:, k] == s).nonzero()[:, 0].split(CHUNK):
                at = state.centre[rows, k] * unit  # n f 2, pixels
                r = state.radius[rows, k, :, None, None] * unit
                alpha = coverage(shape, xs - at[:, :, 0, None, None], ys - at[:, :, 1, None, None], r)[:, None]
                colour = palette[state.colour[rows, k]][:, :, None, None, None]
                under = ground[rows] if k == 0 else video[rows]
                video[rows] = torch.addcmul(under, alpha, colour - under)

    barred = (~state.bar[:, 0].isnan()).nonzero()[:, 0]
    if len(barred):
        edge = state.bar[barred] * unit
        alpha = (
            (xs + 0.5 - edge[:, 0, None, None, None]).clamp(0, 1)
            * (edge[:, 1, None, None, None] - xs + 0.5).clamp(0, 1)
        )[:, None]
        colour = (torch.tensor(BAR_RGB, device=device) * 2 - 1)[None, :, None, None, None]
        video[barred] = video[barred] + alpha * (colour - video[barred])
    return video
