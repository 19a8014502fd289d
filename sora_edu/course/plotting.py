"""Figures that several lessons share; each function returns a matplotlib figure that draws the same bytes every time.

Pictures come in as tensors in [-1, 1] and become colours in one place, ``sora_edu.media.to_uint8``. Time runs from
left to right, the first row is at the top.
"""

import base64
import io
from collections.abc import Sequence

import numpy as np
from einops import rearrange
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.ticker import LogFormatter, ScalarFormatter
from PIL import Image as Pillow
from torch import Tensor

from sora_edu.errors import printable
from sora_edu.media import to_uint8

DPI = 72
LINE = "#ffd23f"  # grid lines and highlights, visible on dark and light pictures


class Picture(Figure):
    """A figure that shows itself in a notebook, without pyplot's hidden list of figures and its second display."""

    def png(self) -> bytes:
        """The figure as PNG of 256 colours (a third of the size), with no date or version inside."""
        self.disarm()
        self.draw_without_rendering()
        self.set_layout_engine("none")  # or a second drawing would move things by a pixel
        self.set_dpi(DPI)
        canvas = FigureCanvasAgg(self)
        buffer = io.BytesIO()
        canvas.draw()
        picture = Pillow.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
        picture = picture.quantize(256, Pillow.Quantize.MAXCOVERAGE, kmeans=1, dither=Pillow.Dither.NONE)
        picture.save(buffer, "PNG", optimize=True)
        return buffer.getvalue()

    def disarm(self) -> None:
        """Show whatever a reader typed as it is: a ``$`` starts no formula, and no character turns or hides the others.

        Numbers at the axes stay as matplotlib wrote them; its powers of ten are formulas.
        """
        axes = [axis for ax in self.axes for axis in (ax.xaxis, ax.yaxis)]
        counted = [axis for axis in axes if isinstance(axis.get_major_formatter(), ScalarFormatter | LogFormatter)]
        numbers = [text for axis in counted for text in axis.findobj(Text) if text is not axis.label]
        for text in set(self.findobj(Text)).difference(numbers):
            text.set_parse_math(False)
            text.set_text(printable(text.get_text(), keep="\n"))

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        return {"image/png": base64.b64encode(self.png()).decode(), "text/plain": repr(self)}

    def __repr__(self) -> str:
        titles = [title for ax in self.axes if (title := ax.get_title().strip())]
        return printable(f"<picture: {', '.join(titles)}>", keep="\n")


def panels(
    rows: int, columns: int, *, width: float = 7.5, aspect: float = 1.0, head: float = 0.25
) -> tuple[Picture, np.ndarray]:
    """An empty picture of ``rows`` x ``columns`` axes; ``aspect`` is the height of one panel over its width."""
    cell = width / columns
    figure = Picture(figsize=(width, rows * (cell * aspect + head)), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def colours(image: Float[Tensor, "c h w"]) -> np.ndarray:
    """One picture in [-1, 1] as bytes ``h w 3``; one channel becomes grey."""
    return rearrange(to_uint8(image.expand(3, -1, -1)), "c h w -> h w c").cpu().numpy()


def draw(ax, image: Float[Tensor, "c h w"], title: str = "") -> None:
    """Draw one picture without axes, under a title of one line; small ones keep their square pixels."""
    ax.imshow(colours(image), interpolation="nearest")
    ax.set_title(printable(title), fontsize=9)
    ax.set_axis_off()


def frame_pixels(
    ax: Axes, y: int, x: int, height: int, width: int, *, colour: str = LINE, linewidth: float = 2.0
) -> None:
    """A line around a rectangle of pixels whose first pixel is (y, x)."""
    top, left = y - 0.5, x - 0.5  # a pixel's own place is its middle
    bottom, right = top + height, left + width
    ax.plot([left, right, right, left, left], [top, top, bottom, bottom, top], color=colour, linewidth=linewidth)


def row_title(ax: Axes, text: str) -> None:
    """A title over the first panel of a row, which may be longer than the panel is wide."""
    ax.set_title(" ", fontsize=9)  # keeps the height: a title this long would widen its panel
    place = {"xycoords": "axes fraction", "textcoords": "offset points", "xytext": (0, 4)}
    ax.annotate(printable(text), (0, 1), fontsize=9, **place).set_in_layout(False)


def bare(ax: Axes) -> None:
    """No frame on the right and above."""
    ax.spines[["top", "right"]].set_visible(False)


def band(ax: Axes, x: Sequence[float | int], shares: Sequence[dict], label: str, colour: str) -> None:
    """Values with their 95 % intervals over x; what was not measured (value None) leaves a gap."""
    value, low, high = (np.array([share[key] for share in shares], dtype=float) for key in ("value", "low", "high"))
    ax.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    ax.plot(x, value, label=label, color=colour, marker="o", markersize=3)


def show_image(image: Float[Tensor, "c h w"], title: str = "", *, width: float = 4.0) -> Picture:
    """One picture."""
    figure, axes = panels(1, 1, width=width, aspect=image.shape[1] / image.shape[2])
    draw(axes[0, 0], image, title)
    return figure


def show_grid(
    images: Float[Tensor, "n c h w"], titles: Sequence[str] = (), *, columns: int = 4, width: float = 7.5
) -> Picture:
    """Several pictures of one size in rows of ``columns``."""
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    head = 0.25 if any(titles) else 0.0
    figure, axes = panels(rows, columns, width=width, aspect=images.shape[2] / images.shape[3], head=head)
    for ax in axes.flat:
        ax.set_axis_off()
    for index, image in enumerate(images):
        draw(axes.flat[index], image, titles[index] if index < len(titles) else "")
    return figure


def show_strip(
    video: Float[Tensor, "b c f h w"], titles: Sequence[str] = (), *, every: int = 1, width: float = 7.5
) -> Picture:
    """Each clip as a row of its frames, time from left to right; ``titles`` has one entry a clip."""
    frames = video[:, :, ::every]
    head = 0.25 if any(titles) else 0.05
    aspect = frames.shape[3] / frames.shape[4]
    figure, axes = panels(len(frames), frames.shape[2], width=width, aspect=aspect, head=head)
    for row, clip in enumerate(frames):
        for column in range(clip.shape[1]):
            draw(axes[row, column], clip[:, column])
        if row < len(titles):
            row_title(axes[row, 0], titles[row])
    return figure


def show_curves(
    x: Sequence[float | int],
    curves: dict[str, Sequence[float | int]],
    *,
    xlabel: str,
    ylabel: str,
    title: str = "",
    log: bool = False,
    width: float = 5.5,
) -> Picture:
    """Lines over a common axis, each labelled; ``log`` makes both axes logarithmic."""
    figure, axes = panels(1, 1, width=width, aspect=0.55)
    ax = axes[0, 0]
    for label, y in curves.items():
        ax.plot(np.asarray(x), np.asarray(y), label=label)
    ax.set(xlabel=xlabel, ylabel=ylabel, **({"xscale": "log", "yscale": "log"} if log else {}))
    ax.set_title(title, fontsize=9)
    bare(ax)
    if len(curves) > 1:
        ax.legend(fontsize=8, frameon=False)
    return figure


class Clip:
    """A moving picture in a notebook: an animated PNG, exact and small."""

    def __init__(self, png: bytes, title: str):
        self._png = png
        self._title = title

    def png(self) -> bytes:
        """The animation as it is kept in a file."""
        return self._png

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        return {"image/png": base64.b64encode(self._png).decode(), "text/plain": repr(self)}

    def __repr__(self) -> str:
        return printable(f"<clip: {self._title}>")


def animate(video: Float[Tensor, "b c f h w"], title: str = "", *, fps: int = 8, zoom: int = 4) -> Clip:
    """Clips side by side as one animation that repeats; ``zoom`` enlarges each pixel to a square."""
    frames = rearrange(to_uint8(video), "b c f h w -> f h (b w) c").cpu().numpy()
    frames = frames.repeat(zoom, axis=1).repeat(zoom, axis=2)
    pictures = [Pillow.fromarray(frame) for frame in frames]
    buffer = io.BytesIO()
    pictures[0].save(buffer, "PNG", save_all=True, append_images=pictures[1:], duration=1000 // fps, loop=0)
    return Clip(buffer.getvalue(), title)


def canvas(width: float, height: float, right: int, top: int) -> tuple[Picture, Axes]:
    """An empty picture in inches, with coordinates from 0 to ``right`` and to ``top``, y downwards."""
    figure = Picture(figsize=(width, height), layout="constrained")
    ax = figure.subplots()
    ax.set(xlim=(0, right), ylim=(top, 0))
    ax.set_axis_off()
    return figure, ax


def box(ax: Axes, left: float, top: float, size: tuple, colour: str, *, edge: str = "#24292f") -> None:
    """A rectangle of (width, height) from its top left corner."""
    ax.add_patch(Rectangle((left, top), *size, facecolor=colour, edgecolor=edge, linewidth=0.8))


def show_tables(
    tables: Sequence[Int[Tensor, "_ _"]],
    rows: Sequence[Sequence[str]],
    columns: Sequence[Sequence[str]],
    titles: Sequence[str] = (),
    *,
    width: float = 7.5,
) -> Picture:
    """Tables of 0 and 1 with named rows and columns, side by side; a 1 is a filled cell."""
    figure, axes = panels(1, len(tables), width=width, aspect=0.75)
    for index, (ax, table) in enumerate(zip(axes.flat, tables, strict=True)):
        ax.pcolormesh(table.cpu().numpy(), cmap="Blues", vmin=0, vmax=1.4, edgecolors="#cccccc", linewidth=0.5)
        ax.invert_yaxis()
        ax.set_xticks([i + 0.5 for i in range(table.shape[1])], columns[index], rotation=60, ha="right", fontsize=8)
        ax.set_yticks([i + 0.5 for i in range(table.shape[0])], rows[index], fontsize=8)
        ax.set_title(titles[index] if index < len(titles) else "", fontsize=9)
        ax.tick_params(length=0)
    return figure
