"""All figures of the course; each function returns a matplotlib figure that draws the same bytes every time.

Pictures come in as tensors in [-1, 1] and become colours in one place, ``sora_edu.media.to_uint8``. Time runs from
left to right, the first row is at the top.
"""

import base64
import io
import textwrap
from collections.abc import Sequence

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont
from torch import Tensor

from sora_edu.claims import ROLES, SLIPS, Claim, Slip
from sora_edu.media import to_uint8

DPI = 72
LINE = "#ffd23f"  # grid lines and highlights, visible on dark and light pictures


class Picture(Figure):
    """A figure that shows itself in a notebook, without pyplot's hidden list of figures and its second display."""

    def png(self) -> bytes:
        """The figure as PNG of 256 colours (a third of the size), with no date or version inside."""
        self.draw_without_rendering()
        self.set_layout_engine("none")  # or a second drawing would move things by a pixel
        self.set_dpi(DPI)
        canvas, buffer = FigureCanvasAgg(self), io.BytesIO()
        canvas.draw()
        picture = Pillow.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
        picture = picture.quantize(256, Pillow.Quantize.MAXCOVERAGE, kmeans=1, dither=Pillow.Dither.NONE)
        picture.save(buffer, "PNG", optimize=True)
        return buffer.getvalue()

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        return {"image/png": base64.b64encode(self.png()).decode(), "text/plain": repr(self)}

    def __repr__(self) -> str:
        return "<picture: " + ", ".join(t for ax in self.axes if (t := ax.get_title().strip())) + ">"


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
    """Draw one picture without axes; small ones keep their square pixels."""
    ax.imshow(colours(image), interpolation="nearest")
    ax.set_title(title, fontsize=9)
    ax.set_axis_off()


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
            axes[row, 0].set_title(" ", fontsize=9)  # keeps the height: a title this long would widen its frame
            place = {"xycoords": "axes fraction", "textcoords": "offset points", "xytext": (0, 4)}
            axes[row, 0].annotate(titles[row], (0, 1), fontsize=9, **place).set_in_layout(False)
    return figure


def show_patch_grid(
    image: Float[Tensor, "c h w"],
    ph: int,
    pw: int,
    *,
    highlight: Sequence[int] = (),
    numbers: bool = False,
    title: str = "",
    width: float = 4.5,
) -> Picture:
    """A picture with the lines of its patch grid; ``highlight`` frames the patches with these numbers."""
    figure = show_image(image, title, width=width)
    ax, (_, height, wide) = figure.axes[0], image.shape
    columns = wide // pw
    for y in range(0, height + 1, ph):
        ax.plot([-0.5, wide - 0.5], [y - 0.5] * 2, color=LINE, linewidth=0.5)
    for x in range(0, wide + 1, pw):
        ax.plot([x - 0.5] * 2, [-0.5, height - 0.5], color=LINE, linewidth=0.5)
    for index in range(height // ph * columns) if numbers else ():
        y, x = index // columns * ph + ph / 2, index % columns * pw + pw / 2
        ax.text(x, y, index, fontsize=6, ha="center", va="center")
    for index in highlight:
        y, x = index // columns * ph - 0.5, index % columns * pw - 0.5
        ax.plot([x, x + pw, x + pw, x, x], [y, y, y + ph, y + ph, y], color="#e5383b", linewidth=2.5)
    return figure


def show_numbers(arrays: Sequence[Int[Tensor, "_ _"]], titles: Sequence[str] = (), *, width: float = 7.5) -> Picture:
    """Small tables of whole numbers, each cell coloured by its value, side by side: where did each element go?"""
    figure, axes = panels(1, len(arrays), width=width, aspect=max(a.shape[0] / a.shape[1] for a in arrays))
    top = max(int(array.max()) for array in arrays) or 1
    for index, array in enumerate(arrays):
        ax = axes[0, index]
        ax.imshow(array.cpu().numpy(), cmap="viridis", vmin=0, vmax=top)
        for (row, column), value in np.ndenumerate(array.cpu().numpy()):
            shade = "white" if value < 0.6 * top else "black"
            ax.text(column, row, int(value), ha="center", va="center", fontsize=8, color=shade)
        ax.set(xticks=[], yticks=[])
        ax.set_title(titles[index] if index < len(titles) else "", fontsize=9)
    return figure


def show_tokens(tokens: Float[Tensor, "n d"], title: str = "", *, width: float = 7.5) -> Picture:
    """A token matrix: one row a token, one column an element; blue is -1, red is 1."""
    figure, axes = panels(1, 1, width=width, aspect=0.35)
    ax = axes[0, 0]
    ax.imshow(tokens.detach().cpu().numpy(), cmap="coolwarm", vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
    ax.set(xlabel=f"element of a token, d = {tokens.shape[1]}", ylabel=f"token, n = {tokens.shape[0]}")
    ax.set_title(title, fontsize=9)
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
    ax.spines[["top", "right"]].set_visible(False)
    if len(curves) > 1:
        ax.legend(fontsize=8, frameon=False)
    return figure


class Clip:
    """A moving picture in a notebook: an animated PNG, exact and small."""

    def __init__(self, png: bytes, title: str):
        self._png, self._title = png, title

    def png(self) -> bytes:
        """The animation as it is kept in a file."""
        return self._png

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        return {"image/png": base64.b64encode(self._png).decode(), "text/plain": repr(self)}

    def __repr__(self) -> str:
        return f"<clip: {self._title}>"


def animate(video: Float[Tensor, "b c f h w"], title: str = "", *, fps: int = 8, zoom: int = 4) -> Clip:
    """Clips side by side as one animation that repeats; ``zoom`` enlarges each pixel to a square."""
    frames = rearrange(to_uint8(video), "b c f h w -> f h (b w) c").cpu().numpy()
    frames = frames.repeat(zoom, axis=1).repeat(zoom, axis=2)
    pictures = [Pillow.fromarray(frame) for frame in frames]
    buffer = io.BytesIO()
    pictures[0].save(buffer, "PNG", save_all=True, append_images=pictures[1:], duration=1000 // fps, loop=0)
    return Clip(buffer.getvalue(), title)


def show_mosaic(
    tokens: Float[Tensor, "n d"],
    grid: tuple[int, int],
    ph: int,
    pw: int,
    title: str = "",
    *,
    gap: int = 3,
    width: float = 4.5,
) -> Picture:
    """Tokens of the order (ph pw c) as small pictures with gaps, laid out in reading order on ``grid``."""
    nh, nw = grid
    tiles = rearrange(tokens, "n (ph pw c) -> n c ph pw", ph=ph, pw=pw)
    tiles = torch.nn.functional.pad(tiles, (0, gap, 0, gap), value=1.0)  # white
    return show_image(rearrange(tiles, "(nh nw) c h w -> c (nh h) (nw w)", nh=nh, nw=nw), title, width=width)


def show_patch_card(image: Float[Tensor, "c h w"], index: int, ph: int, pw: int, *, width: float = 7.5) -> Picture:
    """One patch three times: where it is, what it shows, and the first numbers of its token."""
    columns = image.shape[2] // pw
    row, column = divmod(index, columns)
    patch = image[:, row * ph : (row + 1) * ph, column * pw : (column + 1) * pw]
    token = rearrange(patch, "c ph pw -> (ph pw c)")
    figure, axes = panels(1, 3, width=width, head=0.35)
    draw(axes[0, 0], image, f"patches[{index}]: row {row}, column {column}")
    y, x = row * ph - 0.5, column * pw - 0.5
    axes[0, 0].plot([x, x + pw, x + pw, x, x], [y, y, y + ph, y + ph, y], color=LINE, linewidth=2)
    rows, columns = f"{row * ph}-{(row + 1) * ph - 1}", f"{column * pw}-{(column + 1) * pw - 1}"
    draw(axes[0, 1], patch, f"pixel rows {rows}, columns {columns}")
    ax = axes[0, 2]
    for channel, colour in enumerate(("#d62828", "#2a9d3a", "#3066be")[: len(patch)]):
        ax.plot(token[channel :: len(patch)].cpu().numpy(), color=colour, linewidth=0.8)
    ax.set(ylim=(-1.05, 1.05), xlabel="position in the patch, row by row", yticks=[-1, 0, 1])
    ax.set_title(f"its token: {ph * pw} numbers a colour", fontsize=9)
    return figure


# --- lesson 00 -------------------------------------------------------------------------------------------------------

BADGE_COLOURS = {"stated": "#1a7f37", "inferred": "#b35900", "unknown": "#6e7781"}
VERDICT_COLOURS = {"holds": "#1a7f37", "half right": "#b35900", "wrong": "#c1121f", "not known": "#6e7781"}
PILE_COLOURS = ("#f4a6a6", "#f8cf8a", "#efe98f", "#b5dfa0", "#a5cdf0", "#cfb5ea")


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


def show_pipeline_map(*, width: float = 7.5) -> Picture:
    """From a prompt to a clip: each part, its shape in the tiny model, and the lessons that build it."""
    parts = {  # name: x, y, shape, lessons
        "prompt": (0.0, 1.0, "text", "01, 09"),
        "tokens": (20.0, 1.0, "l", "09"),
        "text encoder": (40.0, 1.0, "l d", "09"),
        "noise": (0.0, 10.5, "16 5 8 8", "06"),
        "VideoDiT": (40.0, 10.5, "x 25 steps (07)", "02-04, 08"),
        "latent": (60.0, 10.5, "16 5 8 8", "05"),
        "VAE decoder": (80.0, 10.5, "causal, 3-D", "05"),
        "clip": (80.0, 1.0, "3 17 32 32", "01, 15"),
    }
    learned = {"text encoder": "#cfe8d5", "VideoDiT": "#cfe8d5", "VAE decoder": "#cfe8d5"}
    figure, ax = canvas(width, 0.29 * width, 97, 18)
    for name, (x, y, shape, lessons) in parts.items():
        box(ax, x, y, (15, 6.4), learned.get(name, "#eef1f4"))
        ax.text(x + 7.5, y + 1.5, name, fontsize=9, weight="bold", ha="center", va="center")
        ax.text(x + 7.5, y + 3.4, shape, fontsize=8, ha="center", va="center")
        ax.text(x + 7.5, y + 5.2, f"lesson {lessons}", fontsize=7.5, color="#0550ae", ha="center", va="center")
    style = {"arrowstyle": "-|>", "color": "#24292f", "linewidth": 1.2, "shrinkA": 0, "shrinkB": 0}
    for start, end in (
        ((15, 4.2), (20, 4.2)),
        ((35, 4.2), (40, 4.2)),
        ((47.5, 7.4), (47.5, 10.5)),
        ((15, 13.7), (40, 13.7)),
        ((55, 13.7), (60, 13.7)),
        ((75, 13.7), (80, 13.7)),
        ((87.5, 10.5), (87.5, 7.4)),
    ):
        ax.annotate("", xy=end, xytext=start, arrowprops=style)
    ax.text(49, 9.0, "words, read at every step", fontsize=7, va="center")
    ax.set_title("from a prompt to a clip; what is learned is green", fontsize=9)
    return figure


def show_claims(cards: Sequence[Claim], title: str = "the claim board", *, width: float = 7.5) -> Picture:
    """The board seen from above: each claim with its badge on the left and its verdict on the right."""
    figure, ax = canvas(width, 0.235 * len(cards) + 0.3, 100, len(cards))
    for row, card in enumerate(cards):
        box(ax, 0.0, row + 0.12, (9.5, 0.76), BADGE_COLOURS[card.badge], edge="none")
        ax.text(4.75, row + 0.5, card.badge, fontsize=7, color="white", ha="center", va="center")
        ax.text(10.5, row + 0.5, card.claim, fontsize=8, va="center")
        ax.text(100, row + 0.5, card.verdict, fontsize=8, color=VERDICT_COLOURS[card.verdict], ha="right", va="center")
    ax.set_title(title, fontsize=9)
    return figure


def show_slips(
    draws: Sequence[tuple[Slip, ...]], titles: Sequence[str] = (), *, colour: str, opened: int = 6, width: float = 7.5
) -> Picture:
    """Draws as rows of six slips in the colours of their piles; after the first ``opened`` they are still folded."""
    figure, axes = panels(len(draws), 1, width=width, aspect=0.085, head=0.25)
    for row, slips in enumerate(draws):
        ax = axes[row, 0]
        ax.set(xlim=(0, 60), ylim=(5, 0))
        ax.set_axis_off()
        ax.set_title(titles[row] if row < len(titles) else f"colour = {colour}", fontsize=8.5, loc="left")
        for pile, slip in enumerate(slips):
            x = 10 * pile + 0.3
            if pile < opened:
                box(ax, x, 0.3, (9.4, 4.4), PILE_COLOURS[pile])
                ax.text(x + 4.7, 1.9, SLIPS[slip.author][slip.role], fontsize=8, ha="center", va="center")
                ax.text(x + 4.7, 3.8, ROLES[slip.role], fontsize=7, style="italic", ha="center", va="center")
            else:
                box(ax, x + 2.2, 1.2, (5.0, 2.6), PILE_COLOURS[pile])
                ax.plot([x + 2.2, x + 4.7, x + 7.2], [1.2, 2.6, 1.2], color="#24292f", linewidth=0.8)
    return figure


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
        draw_path(ax, path, min(h, w) / 32)
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
    ax, (h, w) = figure.add_subplot(below[0, :4]), clip.shape[2:]
    draw(ax, stroboscope(clip), "path of the centre")
    draw_path(ax, centre, min(h, w) / 32)
    ax.set(xlim=(-0.5, w - 0.5), ylim=(h - 0.5, -0.5))
    ax = figure.add_subplot(below[0, 5:])
    for label, values, colour in zip(
        ("x", "y (down)"), centre.diff(dim=0).unbind(-1), ("#3066be", "#d62828"), strict=True
    ):
        ax.plot(range(1, len(values) + 1), values.cpu().numpy(), label=label, color=colour, marker=".")
    ax.set(xlabel="frame", xticks=range(0, len(centre), max(1, len(centre) // 4)), ylim=(-3.5, 5.0))
    ax.set_title("change since the frame before, in units", fontsize=9)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(fontsize=8, frameon=False, loc="upper left")
    return figure


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


def captioned_gif(
    video: Float[Tensor, "b c f h w"], captions: Sequence[str], *, columns: int = 4, zoom: int = 5, fps: int = 8
) -> bytes:
    """Clips on a grid, each over its caption, as one GIF that repeats: for pages that show nothing else."""
    tiles = to_uint8(video).cpu().repeat_interleave(zoom, 3).repeat_interleave(zoom, 4)
    h, w, gap, foot = tiles.shape[3], tiles.shape[4], 6, 48
    rows, font = -(-len(captions) // columns), ImageFont.load_default(size=12)
    pages = []
    for frame in range(video.shape[2]):
        page = Pillow.new("RGB", (columns * (w + gap) + gap, rows * (h + foot) + gap), "white")
        for i, caption in enumerate(captions):
            x, y = gap + i % columns * (w + gap), gap + i // columns * (h + foot)
            page.paste(Pillow.fromarray(tiles[i, :, frame].permute(1, 2, 0).numpy()), (x, y))
            text = "\n".join(textwrap.wrap(caption, w // 6))
            ImageDraw.Draw(page).multiline_text((x + w / 2, y + h + 1), text, "black", font, "ma", 1, "center")
        pages.append(page)
    film = Pillow.fromarray(np.concatenate([np.asarray(page) for page in pages[::8]]))
    palette = film.quantize(256, Pillow.Quantize.MAXCOVERAGE, kmeans=2)  # one for all frames, or grounds would flicker
    pages = [page.quantize(palette=palette, dither=Pillow.Dither.NONE) for page in pages]
    buffer = io.BytesIO()
    delays = [1000 // fps] * (len(pages) - 1) + [1000]  # a rest before it repeats
    pages[0].save(buffer, "GIF", save_all=True, append_images=pages[1:], duration=delays, loop=0, optimize=True)
    return buffer.getvalue()
