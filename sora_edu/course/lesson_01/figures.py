"""Figures of lesson 01: where things are, frame after frame, and what their steps say about the motion."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from sora_edu.course.plotting import LINE, Picture, bare, draw, panels
from sora_edu.world.paths import pixels_per_unit


def stroboscope(clip: Float[Tensor, "c f h w"], *, every: int = 4) -> Float[Tensor, "c h w"]:
    """Several frames of a clip in one picture: each pixel from the frame that differs most from the ground."""
    frames = clip[:, ::every]
    distance = (frames - frames[:, :, :1, :1]).norm(dim=0)  # f h w
    return frames.gather(1, distance.argmax(0).expand(len(clip), 1, -1, -1))[:, 0]


def draw_path(ax, centre: Float[Tensor, "f 2"], unit: float, colour: str = LINE, marker: str = "o") -> None:
    """A path of centres (units of the toy world) over a picture whose pixels number ``unit`` to one of them."""
    x, y = (centre.cpu() * unit - 0.5).unbind(-1)  # a pixel's own centre is half a pixel from its corner
    ax.plot(x.numpy(), y.numpy(), color=colour, linewidth=0.8, marker=marker, markersize=3)


def show_paths(
    video: Float[Tensor, "b c f h w"],
    paths: Float[Tensor, "b f 2"],
    titles: Sequence[str] = (),
    *,
    every: int = 4,
    width: float = 7.5,
) -> Picture:
    """Each clip as one picture, some frames laid over each other, with a point for the centre in every frame."""
    h, w = video.shape[3:]
    figure, axes = panels(1, len(video), width=width, aspect=h / w)
    for index, (ax, clip, path) in enumerate(zip(axes.flat, video, paths, strict=True)):
        draw(ax, stroboscope(clip, every=every), titles[index] if index < len(titles) else "")
        draw_path(ax, path, pixels_per_unit(h, w))
        ax.set(xlim=(-0.5, w - 0.5), ylim=(h - 0.5, -0.5))
    return figure


def show_motion(clip: Float[Tensor, "c f h w"], centre: Float[Tensor, "f 2"], title: str = "") -> Picture:
    """One clip three times: as a strip, with its path drawn on it, and as what x and y gain from frame to frame."""
    figure = Picture(figsize=(7.5, 4.0), layout="constrained")
    figure.suptitle(title, fontsize=9)
    strip = clip[:, :: max(1, clip.shape[1] // 8)][:, :9]
    top, bottom = figure.add_gridspec(2, 1, height_ratios=(1, 3.2))
    above, below = top.subgridspec(1, strip.shape[1]), bottom.subgridspec(1, 9)
    for column in range(strip.shape[1]):
        draw(figure.add_subplot(above[0, column]), strip[:, column])
    ax = figure.add_subplot(below[0, :4])
    h, w = clip.shape[2:]
    draw(ax, stroboscope(clip), "path of the centre")
    draw_path(ax, centre, pixels_per_unit(h, w))
    ax.set(xlim=(-0.5, w - 0.5), ylim=(h - 0.5, -0.5))
    ax = figure.add_subplot(below[0, 5:])
    for label, values, colour in zip(
        ("x", "y (down)"), centre.diff(dim=0).unbind(-1), ("#3066be", "#d62828"), strict=True
    ):
        ax.plot(range(1, len(values) + 1), values.cpu().numpy(), label=label, color=colour, marker=".")
    ax.set(xlabel="frame", xticks=range(0, len(centre), max(1, len(centre) // 4)), ylim=(-3.5, 5.0))
    ax.set_title("change since the frame before, in units", fontsize=9)
    bare(ax)
    ax.legend(fontsize=8, frameon=False, loc="upper left")
    return figure
