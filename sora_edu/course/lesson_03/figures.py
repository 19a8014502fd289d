"""Pictures of lesson 03: a video as a cube of film frames, cut apart, and one place of it followed through time.

A cube is drawn as its frames lie behind one another: later frames further to the right and up.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sora_edu.course import plotting
from sora_edu.course.plotting import Picture
from sora_edu.model.spacetime import uniform_indices

Boxes = tuple[int, int, int]  # pf, ph, pw
EDGE, GHOST, PAPER = 0.6, 0.86, 1.0  # shades of a box's outline, of one that is not drawn, and of the ground
SIDE = 0.75  # sides are darker than fronts
THICK = 6  # pixels of the drawing from one frame to the next


def outline(canvas: np.ndarray, corner: tuple[int, int], size: tuple[int, int], shade: float) -> None:
    """Draw the edges of a tile, one pixel wide."""
    top, left = corner
    h, w = size
    canvas[[top, top + h - 1], left : left + w] = shade
    canvas[top : top + h, [left, left + w - 1]] = shade


def paint(canvas: np.ndarray, tile: np.ndarray, corner: tuple[int, int], *, frame: bool) -> None:
    """Lay a tile on the drawing, outlined where a frame starts, with dark corners where a side is drawn."""
    top, left = corner
    h, w = tile.shape[:2]
    canvas[top : top + h, left : left + w] = tile
    if frame:
        outline(canvas, corner, (h, w), EDGE)
    else:
        for y, x in ((0, 0), (0, w - 1), (h - 1, w - 1)):
            canvas[top + y, left + x] = EDGE


def explode(
    clip: Float[Tensor, "c f h w"],
    boxes: Boxes,
    *,
    gap: int = 9,
    pause: int = 60,
    kept: Sequence[int] | None = None,
    only: Sequence[int] | None = None,
    zoom: int = 2,
) -> Float[Tensor, "3 y x"]:
    """Draw a clip as boxes pulled apart: ``gap`` pixels between places, ``pause`` between layers of time.

    kept: draw these frames only, thin as paper, each where it belongs in time.
    only: draw the boxes of these places, and of the others no more than the outline of the front.
    """
    pf, ph, pw = boxes
    film = np.stack([plotting.colours(frame) for frame in clip.unbind(1)]) / 255  # f h w 3
    film = film.repeat(zoom, axis=1).repeat(zoom, axis=2)
    frames = len(film)
    nh = clip.shape[2] // ph
    nw = clip.shape[3] // pw
    h = ph * zoom
    w = pw * zoom
    thick = THICK if kept is None else 1
    depth = frames * THICK + (frames // pf - 1) * pause
    canvas = np.full((nh * (h + gap) - gap + depth // 2, nw * (w + gap) - gap + depth, 3), PAPER)

    def corner(place: int, back: int) -> tuple[int, int]:
        return (depth - back) // 2 + place // nw * (h + gap), back + place % nw * (w + gap)

    for layer in range(frames // pf) if only is not None else ():
        for place in range(nh * nw):
            outline(canvas, corner(place, layer * (pf * THICK + pause)), (h, w), GHOST)
    for f in reversed(range(frames) if kept is None else sorted(kept)):
        for step in reversed(range(thick)):
            front = step == 0 and (f % pf == 0 or kept is not None)
            for place in range(nh * nw) if only is None else only:
                y, x = place // nw * h, place % nw * w
                tile = film[f, y : y + h, x : x + w] * (1.0 if front else SIDE)
                paint(canvas, tile, corner(place, f * THICK + f // pf * pause + step), frame=step == 0)
    return torch.from_numpy(canvas).permute(2, 0, 1).float() * 2 - 1


def show_cubes(cubes: dict[str, Float[Tensor, "3 _ _"]], *, width: float = 7.5) -> Picture:
    """Drawings of ``explode`` side by side at one scale, their feet on one line."""
    sizes = [cube.shape[1:] for cube in cubes.values()]
    wide = [size[1] for size in sizes]
    tall = max(size[0] for size in sizes)
    figure = Picture(figsize=(width, width * tall / sum(wide) + 0.3), layout="constrained")
    axes = figure.subplots(1, len(cubes), squeeze=False, width_ratios=wide)[0]
    for ax, (title, cube) in zip(axes, cubes.items(), strict=True):
        plotting.draw(ax, cube, title)
        ax.set(ylim=(cube.shape[1], cube.shape[1] - tall))
    return figure


def show_sampled(clip: Float[Tensor, "c f h w"], kept: Sequence[int], title: str = "", *, columns: int = 8) -> Picture:
    """All frames of a clip with their numbers; those that were not kept are pale."""
    frames = clip.shape[1]
    h, w = clip.shape[2:]
    rows = -(-frames // columns)
    figure, axes = plotting.panels(rows, columns, aspect=h / w, head=0.22)
    figure.suptitle(title, fontsize=9)
    for index, ax in enumerate(axes.flat):
        if index >= frames:
            ax.set_axis_off()
            continue
        pale = index not in kept
        plotting.draw(ax, 0.15 * clip[:, index] + 0.85 if pale else clip[:, index])
        ax.set_title(f"{index}", fontsize=8, color="#8c959f" if pale else "black", weight=None if pale else "bold")
    return figure


def show_tower(clip: Float[Tensor, "c f h w"], place: int, boxes: Boxes, *, count: int = 4) -> Picture:
    """One place through time: in the first frame, in the cube, and as a film whose frames are grouped to tubelets.

    A dot marks the frames that flat tokens see when ``count`` frames are sampled.
    """
    pf, ph, pw = boxes
    frames = clip.shape[1]
    nw = clip.shape[3] // pw
    places = clip.shape[2] // ph * nw
    figure = Picture(figsize=(7.5, 3.7), layout="constrained")
    above, below = figure.add_gridspec(2, 1, height_ratios=(2.6, 1))
    left, right = (figure.add_subplot(cell) for cell in above.subgridspec(1, 2, width_ratios=(1, 2)))
    plotting.draw(left, clip[:, 0], f"frame 0, place {place}: row {place // nw}, column {place % nw}")
    plotting.frame_pixels(left, place // nw * ph, place % nw * pw, ph, pw, linewidth=1.5)
    cube = explode(clip, boxes, only=[place], pause=24 if pf < frames else 0, gap=5, zoom=3)
    plotting.draw(right, cube, "its tower among the others")
    draw_film(figure.add_subplot(below), clip, place, boxes, places, uniform_indices(frames, count))
    return figure


def draw_film(ax, clip: Float[Tensor, "c f h w"], place: int, boxes: Boxes, places: int, seen: Sequence[int]) -> None:
    """The film of one place from left to right, a bracket under the frames of each tubelet."""
    pf, ph, pw = boxes
    nw = clip.shape[3] // boxes[2]
    gap = 0.55
    top, left = place // nw * ph, place % nw * pw
    for f in range(clip.shape[1]):
        x = f * 1.06 + f // pf * gap
        patch = clip[:, f, top : top + ph, left : left + pw]
        ax.imshow(plotting.colours(patch), extent=(x, x + 1, 0, 1), interpolation="nearest")
        ax.text(x + 0.5, 1.1, f, fontsize=7, ha="center", va="bottom")
        if f in seen:
            ax.plot([x + 0.5], [1.72], marker="o", markersize=5, color="#d62828")
        if f % pf == 0:
            end = x + 1 + (pf - 1) * 1.06
            ax.plot([x, x, end, end], [-0.12, -0.25, -0.25, -0.12], color="black", linewidth=1)
            ax.text((x + end) / 2, -0.35, f"{f // pf * places + place}", fontsize=7.5, ha="center", va="top")
    ax.set(xlim=(-0.1, x + 1.1), ylim=(-0.9, 2.0))
    ax.set_aspect("equal")
    ax.set_axis_off()
    n = clip.shape[1] // pf
    title = (
        f"its film; under it the numbers of its {n} token{'s' if n > 1 else ''} of {pf} frame{'s' if pf > 1 else ''}"
    )
    ax.set_title(f"{title}; red: frames that flat tokens see", fontsize=9)


def tower_of(clip: Float[Tensor, "c f h w"], ph: int, pw: int, *, count: int = 4) -> Callable[[int, int], Picture]:
    """What the sliders of the film tower draw: a function of the place and the length of a tubelet."""

    def draw(place: int, frames_in_a_tubelet: int) -> Picture:
        return show_tower(clip, place, (frames_in_a_tubelet, ph, pw), count=count)

    return draw
