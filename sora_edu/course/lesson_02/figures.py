"""Figures of lesson 02: a picture's patches on their grid, as tokens, and where reshape puts each number."""

from collections.abc import Sequence

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from sora_edu.course.plotting import LINE, Picture, draw, frame_pixels, panels, show_image


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
    ax = figure.axes[0]
    _, height, wide = image.shape
    columns = wide // pw
    for y in range(0, height + 1, ph):
        ax.plot([-0.5, wide - 0.5], [y - 0.5] * 2, color=LINE, linewidth=0.5)
    for x in range(0, wide + 1, pw):
        ax.plot([x - 0.5] * 2, [-0.5, height - 0.5], color=LINE, linewidth=0.5)
    for index in range(height // ph * columns) if numbers else ():
        y, x = index // columns * ph + ph / 2, index % columns * pw + pw / 2
        ax.text(x, y, index, fontsize=6, ha="center", va="center")
    for index in highlight:
        frame_pixels(ax, index // columns * ph, index % columns * pw, ph, pw, colour="#e5383b", linewidth=2.5)
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
    frame_pixels(axes[0, 0], row * ph, column * pw, ph, pw)
    rows, columns = f"{row * ph}-{(row + 1) * ph - 1}", f"{column * pw}-{(column + 1) * pw - 1}"
    draw(axes[0, 1], patch, f"pixel rows {rows}, columns {columns}")
    ax = axes[0, 2]
    for channel, colour in enumerate(("#d62828", "#2a9d3a", "#3066be")[: len(patch)]):
        ax.plot(token[channel :: len(patch)].cpu().numpy(), color=colour, linewidth=0.8)
    ax.set(ylim=(-1.05, 1.05), xlabel="position in the patch, row by row", yticks=[-1, 0, 1])
    ax.set_title(f"its token: {ph * pw} numbers a colour", fontsize=9)
    return figure
