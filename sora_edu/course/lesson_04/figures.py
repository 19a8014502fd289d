"""Figures of lesson 04, attention over video: masks, maps of who looks at whom, turned pairs, and the cost curve."""

import math
import time
from collections.abc import Sequence
from functools import lru_cache

import torch
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from torch import Tensor

from sora_edu.course.plotting import LINE, Picture, bare, draw, frame_pixels, panels, row_title
from sora_edu.model.attention import attend
from sora_edu.model.sparse import cut_strides, cut_windows
from sora_edu.shapes import Grid

ASKING = "#e5383b"  # the frame of the token that looks
WINDOW, STRIDE = (2, 4, 4), (2, 2, 2)  # of the cost curve
SHADES = {  # one colour a kind of attention, in all figures of cost
    "full": "#c1121f",
    "space, then time": "#2a9d3a",
    "windows": "#3066be",
    "strides": "#b35900",
    "the weights": "#57606a",
}


def show_masks(masks: dict[str, Bool[Tensor, "n n"]], *, columns: int = 3, width: float = 7.5) -> Picture:
    """Masks as pictures, each with its count of pairs: a row a token that looks, dark where it may look."""
    rows = -(-len(masks) // columns)
    figure, axes = panels(rows, columns, width=width, head=0.3)
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, (name, mask) in zip(axes.flat, masks.items(), strict=False):
        ax.set_axis_on()
        ax.imshow(mask.cpu().numpy(), cmap="Blues", vmin=0, vmax=1.3, interpolation="nearest")
        ax.set(xticks=[], yticks=[], xlabel="looked at", ylabel="looks")
        ax.xaxis.label.set_size(8), ax.yaxis.label.set_size(8)
        ax.set_title(f"{name}: {int(mask.sum()):,} pairs", fontsize=9)
    return figure


def show_looks(
    clip: Float[Tensor, "c f h w"] | None,
    maps: dict[str, Float[Tensor, "n"]],
    *,
    grid: Grid,
    query: int,
    width: float = 7.5,
) -> Picture:
    """One token, framed in red, and how much it looks at each other: a row a map, a column a step in time.

    Each map is scaled by its own largest value. The clip, where there is one, is above them, with its patches' lines.
    """
    nf, nh, nw = grid
    figure, axes = panels(len(maps) + (clip is not None), nf, width=width, aspect=nh / nw, head=0.25)
    at = query // (nh * nw), query // nw % nh, query % nw
    rows = list(axes)
    if clip is not None:
        step = clip.shape[1] // nf
        ph = clip.shape[2] // nh
        pw = clip.shape[3] // nw
        for k, ax in enumerate(rows.pop(0)):
            draw(ax, clip[:, k * step], f"step {k}")
            for i in range(1, max(nh, nw)):
                ax.axhline(i * ph - 0.5, color=LINE, linewidth=0.4)
                ax.axvline(i * pw - 0.5, color=LINE, linewidth=0.4)
            if k == at[0]:
                frame_pixels(ax, at[1] * ph, at[2] * pw, ph, pw, colour=ASKING)
    for line, (name, values) in zip(rows, maps.items(), strict=True):
        cells = values.detach().float().cpu().view(nf, nh, nw).numpy()
        top = float(values.max()) or 1.0
        for k, ax in enumerate(line):
            ax.imshow(cells[k], cmap="magma", vmin=0, vmax=top, interpolation="nearest")
            ax.set(xticks=[], yticks=[])
            if k == at[0]:
                frame_pixels(ax, at[1], at[2], 1, 1, colour=ASKING)
        row_title(line[0], name)
    return figure


def show_matrices(
    matrices: dict[str, Float[Tensor, "_ _"]],
    *,
    xlabel: str | Sequence[str],
    ylabel: str | Sequence[str],
    aspect: float = 0.9,
    width: float = 7.5,
) -> Picture:
    """Matrices side by side, each scaled by its own largest absolute value; blue is below zero, red above."""
    figure, axes = panels(1, len(matrices), width=width, aspect=aspect, head=0.35)
    for index, (ax, (name, matrix)) in enumerate(zip(axes[0], matrices.items(), strict=True)):
        values = matrix.detach().float().cpu().numpy()
        top = abs(values).max() or 1.0
        ax.imshow(values, cmap="coolwarm", vmin=-top, vmax=top, aspect="auto", interpolation="nearest")
        words = [label if isinstance(label, str) else label[index] for label in (xlabel, ylabel)]
        ax.set_xlabel(words[0], fontsize=8)
        ax.set_ylabel(words[1], fontsize=8)
        ax.tick_params(labelsize=7)
        ax.set_title(name, fontsize=9)
    return figure


def show_turns(cases: Sequence[tuple[int, int]], *, frequency: float = 0.35, width: float = 7.5) -> Picture:
    """One pair of channels as an arrow: a query and a key at the places of each case, turned by their places."""
    figure, axes = panels(1, len(cases), width=width, head=0.4)
    for ax, (place_q, place_k) in zip(axes[0], cases, strict=True):
        ax.set(xlim=(-1.25, 1.25), ylim=(-1.25, 1.25), aspect="equal")
        ax.set_axis_off()
        circle = torch.linspace(0, 2 * math.pi, 100)
        ax.plot(circle.cos().numpy(), circle.sin().numpy(), color="#d0d7de", linewidth=0.8)
        for place, start, colour, name in ((place_q, 0.2, "#c1121f", "q"), (place_k, 0.9, "#3066be", "k")):
            angle = start + place * frequency
            tip = (math.cos(angle), math.sin(angle))
            ax.annotate("", xy=tip, xytext=(0, 0), arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 2})
            ax.text(1.14 * tip[0], 1.14 * tip[1], name, color=colour, fontsize=10, ha="center", va="center")
        score = math.cos(0.9 - 0.2 + (place_k - place_q) * frequency)
        ax.set_title(f"q at {place_q}, k at {place_k}\nq . k = {score:.2f}", fontsize=9)
    return figure


# --- the price --------------------------------------------------------------------------------------------------------


def pair_counts(grid: Grid, *, window: Grid = WINDOW, stride: Grid = STRIDE) -> dict[str, int]:
    """Pairs of tokens that each kind of attention scores on a grid."""
    nf, nh, nw = grid
    n = nf * nh * nw
    space = nh * nw
    return {
        "full": n * n,
        "space, then time": n * (space + nf),
        "windows": n * math.prod(window),
        "strides": n * n // math.prod(stride),
    }


@lru_cache
def time_attention(grid: Grid, width: int, *, heads: int = 4) -> dict[str, float]:
    """Milliseconds that the scores and the weighted sums take on this machine now, the best of up to three runs."""
    nf, nh, nw = grid
    x = torch.randn(1, nf * nh * nw, width, generator=torch.Generator().manual_seed(0))
    parts = {
        "full": [x],
        "space, then time": [
            cut_windows(x, grid=grid, window=(1, nh, nw)),
            cut_windows(x, grid=grid, window=(nf, 1, 1)),
        ],
        "windows": [cut_windows(x, grid=grid, window=WINDOW)],
        "strides": [cut_strides(x, grid=grid, stride=STRIDE)],
    }
    best = dict.fromkeys(parts, math.inf)
    begin = time.perf_counter()
    for run in range(3):
        if run and time.perf_counter() - begin > 0.2:  # a slider should answer at once
            break
        for name, groups in parts.items():
            start = time.perf_counter()
            for group in groups:
                q = group.unflatten(-1, (heads, width // heads)).transpose(1, 2)  # groups heads m dh
                attend(q, q, q)
            best[name] = min(best[name], 1000 * (time.perf_counter() - start))
    return best


def draw_curves(ax: Axes, frames: int, side: int, width: int) -> None:
    """Multiply-adds of one block against its tokens, as the clip gets longer; a dot for the chosen length."""
    lengths = [2**i for i in range(1, 12)]
    tokens = [f * side * side for f in lengths]
    curves = {name: [2 * pair_counts((f, side, side))[name] * width for f in lengths] for name in list(SHADES)[:4]}
    curves["the weights"] = [12 * n * width**2 for n in tokens]
    chosen = pair_counts((frames, side, side))
    for name, values in curves.items():
        style = {"color": SHADES[name], "linestyle": "--" if name == "the weights" else "-"}
        ax.plot(tokens, [v / 1e9 for v in values], label=name, linewidth=1.5, **style)
        if name in chosen:
            ax.plot(frames * side**2, 2 * chosen[name] * width / 1e9, "o", color=SHADES[name], markersize=5)
    ax.axvline(6 * width, color="#57606a", linewidth=0.7, linestyle=":")
    ax.set(xscale="log", yscale="log", xlim=(tokens[0], 1e5), ylim=(1e-4, 1e4))
    ax.minorticks_off()  # half of the drawing time
    ax.set_xlabel(f"tokens n (dotted: 6 d = {6 * width:,})", fontsize=8)
    ax.set_ylabel("billion multiply-adds a block", fontsize=8)
    ax.set_title(f"a longer clip of {side} x {side} tokens, d = {width}", fontsize=9)
    ax.tick_params(labelsize=7)
    ax.legend(fontsize=7, frameon=False)


def draw_costs(frames: int = 8, side: int = 4, width: int = 192, *, measured: bool = True) -> Picture:
    """The cost curve, and beside it one clip: milliseconds on this machine, or pairs where none are measured."""
    figure, axes = panels(1, 2, width=7.5, aspect=0.85, head=0.35)
    draw_curves(axes[0, 0], frames, side, width)
    ax = axes[0, 1]
    grid = (frames, side, side)
    bars = time_attention(grid, width) if measured else pair_counts(grid)
    names, values = list(bars), list(bars.values())
    ax.barh(names, values, color=[SHADES[name] for name in names], height=0.6)
    for row, value in enumerate(values):
        ax.text(value, row, f" {value:.2f}" if measured else f" {value:,}", va="center", fontsize=8)
    ax.invert_yaxis()
    ax.set_xlim(0, 1.35 * max(values))
    bare(ax)
    ax.tick_params(labelsize=8)
    ax.set_xlabel("milliseconds, measured here and now" if measured else "pairs of tokens", fontsize=8)
    ax.set_title(f"grid {frames} {side} {side}, n = {math.prod(grid):,}", fontsize=9)
    return figure
