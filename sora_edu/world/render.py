"""Pictures of the toy world: signed distances turned into anti-aliased coverage, for a whole batch at once.

(lesson 01)
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from sora_edu.checked import checked
from sora_edu.config import WorldConfig, world_or_default
from sora_edu.world.paths import pixels_per_unit, tick_times
from sora_edu.world.state import State, check_state
from sora_edu.world.vocabulary import SHAPES, check_name

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


@checked(empty=True)
def half_plane(x: Tensor, y: Tensor, angle: float, distance: Tensor) -> Tensor:
    """Signed distance to a line: negative inside, the outward normal at ``angle`` (0 right, pi/2 down)."""
    return x * math.cos(angle) + (y * math.sin(angle) - distance)


@checked(empty=True)
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
        largest = torch.maximum(sides[0], sides[1])
        distance = torch.minimum(sides[0], sides[1])
        for side in sides[2:]:
            distance = torch.maximum(distance, torch.minimum(largest, side))
            largest = torch.maximum(largest, side)
    elif shape == "circle":
        distance = (x * x + y * y).sqrt_().sub_(r)
    else:  # a ring: the distance to a circle line, less half of its thickness
        check_name(shape, SHAPES)
        distance = (x * x + y * y).sqrt_().sub_(0.8 * r).abs_().sub_(0.25 * r)
    return distance.neg_().add_(0.5).clamp_(0, 1)


def colours_of(table: dict[str, tuple[float, float, float]], device: torch.device) -> Float[Tensor, "n 3"]:
    """The colours of a table in [-1, 1], in the table's order."""
    return torch.tensor(list(table.values()), device=device) * 2 - 1


@checked
def draw_ground(state: State, config: WorldConfig) -> Float[Tensor, "b 3 _ 1 _"]:
    """What lies behind the objects: plain colours, ``b 3 1 1 1``, or ``b 3 f 1 w`` with stripes where a camera pans."""
    device = state.centre.device
    frames = state.centre.shape[2]
    ground = colours_of(BACKGROUND_RGB, device)[state.background][:, :, None, None, None]
    panning = state.pan.nonzero()[:, 0]
    if len(panning) == 0:
        return ground
    x = (torch.arange(config.width, device=device) + 0.5) / pixels_per_unit(config.height, config.width)
    moved = state.pan[panning, None] * tick_times(frames, config.duration, device=device)  # n f, units
    phase = 2 * math.pi * (x + moved[:, :, None, None]) / STRIPE_PERIOD  # n f 1 w
    ground = ground.expand(-1, -1, frames, 1, config.width).clone()
    ground[panning] += STRIPE_DEPTH * (1 + phase.sin()[:, None])
    return ground


@checked(empty=True)
def draw_objects(video: Float[Tensor, "b 3 f h w"], state: State, ground: Float[Tensor, "b 3 _ 1 _"]) -> None:
    """Paint the objects into the video: the first over the ground, the second over what is there already."""
    device = video.device
    height, width = video.shape[3:]
    unit = pixels_per_unit(height, width)
    xs = torch.arange(width, device=device) + 0.5
    ys = (torch.arange(height, device=device) + 0.5)[:, None]
    palette = colours_of(COLOUR_RGB, device)
    for k in range(state.shape.shape[1]):
        for s, shape in enumerate(SHAPES):
            for rows in (state.shape[:, k] == s).nonzero()[:, 0].split(CHUNK):
                x, y = (state.centre[rows, k] * unit)[..., None, None].unbind(2)  # n f 1 1, pixels
                r = state.radius[rows, k, :, None, None] * unit
                alpha = coverage(shape, xs - x, ys - y, r)[:, None]  # n 1 f h w
                colour = palette[state.colour[rows, k]][:, :, None, None, None]
                under = ground[rows] if k == 0 else video[rows]
                video[rows] = torch.addcmul(under, alpha, colour - under)


@checked
def draw_bars(video: Float[Tensor, "b 3 f h w"], state: State) -> None:
    """Paint the bars into the video, over everything."""
    rows = (~state.bar[:, 0].isnan()).nonzero()[:, 0]
    if len(rows) == 0:
        return
    xs = torch.arange(video.shape[4], device=video.device) + 0.5
    left, right = (state.bar[rows] * pixels_per_unit(*video.shape[3:]))[..., None].unbind(1)  # n 1, pixels
    alpha = (xs + 0.5 - left).clamp(0, 1) * (right - xs + 0.5).clamp(0, 1)  # n w
    colour = (torch.tensor(BAR_RGB, device=video.device) * 2 - 1)[:, None, None, None]
    video[rows] = video[rows] + alpha[:, None, None, None] * (colour - video[rows])


@checked
def render(state: State, config: WorldConfig | None = None) -> Float[Tensor, "b 3 f h w"]:
    """Draw the clips of a state, on the state's device: pixels in [-1, 1], edges anti-aliased over one pixel.

    The later object lies over the earlier one, and a bar over both. Raises InputError for indices that name nothing.
    """
    config = world_or_default(config)
    check_state(state, "colour")
    ground = draw_ground(state, config)
    frames = state.centre.shape[2]
    video = torch.empty(len(state), 3, frames, config.height, config.width, device=ground.device)
    empty = state.shape[:, 0] < 0
    video[empty] = ground[empty]
    draw_objects(video, state, ground)
    draw_bars(video, state)
    return video
