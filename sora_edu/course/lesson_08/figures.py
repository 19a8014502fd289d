"""Figures of lesson 08: the block, the twelve models, what parameters and MACs are for, gates, and who sees whom."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from sora_edu.config import DiTConfig
from sora_edu.course.plotting import Picture, bare, box, canvas, panels
from sora_edu.model.image_dit import DIT_PATCHES, DIT_SIZES, ImageDiTConfig, dit_config
from sora_edu.model.scaling import PARTS, macs_by_part, parameters_by_part

PART_COLOURS = dict(zip(PARTS, ("#3066be", "#90b8f0", "#2a9d3a", "#d62828", "#8a5cc2", "#9aa0a6"), strict=True))
SIZE_COLOURS = dict(zip(DIT_SIZES, ("#3066be", "#2a9d3a", "#e08e0b", "#d62828"), strict=True))
ARROW = {"arrowstyle": "-|>", "color": "#24292f", "linewidth": 1.0, "shrinkA": 0, "shrinkB": 0}
STEERING = "#b35900"


def show_block(*, width: float = 7.5) -> Picture:
    """A DiT block: the tokens run along the top, and time and label reach in from below at six places."""
    figure, ax = canvas(width, 0.33 * width, 100, 33)
    ax.annotate("", xy=(100, 6), xytext=(0, 6), arrowprops=ARROW)
    ax.text(0.5, 4.5, "x", fontsize=10, weight="bold")
    ax.text(98, 4.5, "x", fontsize=10, weight="bold", ha="center")
    for start, name, number in ((4.0, "attention", 1), (51.0, "MLP", 2)):
        parts = (("norm", 0), ("scale,\nshift", 10), (name, 20), ("gate", 32))
        ax.annotate("", xy=(start, 14), xytext=(start, 6), arrowprops=ARROW)
        ax.plot([start, start + 39], [14, 14], color="#24292f", linewidth=1.0, zorder=0)
        for text, left in parts:
            wide = 10 if text == name else 8
            steered = text in ("gate", "scale,\nshift")
            box(ax, start + left, 11.0, (wide, 6), "#ffe3c2" if steered else "#cfe8d5" if text == name else "#eef1f4")
            ax.text(start + left + wide / 2, 14, text, fontsize=8, ha="center", va="center")
        ax.annotate("", xy=(start + 42, 7.4), xytext=(start + 40, 14), arrowprops=ARROW)
        ax.text(start + 42, 6, "+", fontsize=12, ha="center", va="center", bbox={"boxstyle": "circle", "fc": "white"})
        for left, text in ((14, f"shift_{number}, scale_{number}"), (36, f"gate_{number}")):
            ax.annotate("", xy=(start + left, 17), xytext=(start + left, 26), arrowprops=ARROW | {"color": STEERING})
            ax.text(start + left, 21.5, f" {text}", fontsize=7.5, color=STEERING, va="center")
    box(ax, 4.0, 26.0, (88, 5), "#ffe3c2")
    words = "c = time + label (b d), SiLU, one linear layer that starts at ZERO: six vectors of d numbers"
    ax.text(48, 28.5, words, fontsize=8, ha="center", va="center")
    ax.set_title("a DiT block: the tokens keep their shape, b n d, all the way", fontsize=9)
    return figure


def show_time_codes(codes: Float[Tensor, "b d"], times: Sequence[float], *, width: float = 7.5) -> Picture:
    """Codes of several times as rows of numbers, and how alike each two of them are."""
    figure, axes = panels(1, 2, width=width, aspect=0.75)
    left, right = axes[0]
    ticks = range(0, len(times), max(1, (len(times) - 1) // 4))
    names = [f"{times[i]:.2f}" for i in ticks]
    left.imshow(codes.numpy(), cmap="coolwarm", vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
    left.set(xlabel="element: cosines, then sines", ylabel="time t", yticks=ticks, yticklabels=names)
    left.set_title("one row a time", fontsize=9)
    alike = codes @ codes.T / codes.square().sum(-1).mean()
    shown = right.imshow(alike.numpy(), cmap="viridis", vmin=0, vmax=1, interpolation="nearest")
    right.set(xticks=ticks, xticklabels=names, yticks=ticks, yticklabels=names, xlabel="time t", ylabel="time t")
    right.set_title("how alike two rows are", fontsize=9)
    figure.colorbar(shown, ax=right, shrink=0.8)
    return figure


def show_twelve(*, width: float = 6.0) -> Picture:
    """Parameters and multiply-adds of the twelve models; a size is a column of three patch sizes."""
    figure, axes = panels(1, 1, width=width, aspect=0.6)
    ax = axes[0, 0]
    for size, colour in SIZE_COLOURS.items():
        configs = [dit_config(f"{size}/{patch}") for patch in DIT_PATCHES]
        x = [sum(parameters_by_part(config).values()) / 1e6 for config in configs]
        y = [sum(macs_by_part(config).values()) / 1e9 for config in configs]
        ax.plot(x, y, color=colour, marker="o", linewidth=1)
        for config, right, up in zip(configs, x, y, strict=True):
            ax.annotate(f"  {size}/{config.patch}", (right, up), fontsize=8, va="center")
    ax.set(xscale="log", yscale="log", xlabel="parameters, millions", ylabel="GMACs a forward pass")
    ax.set(xticks=[33, 130, 458, 675], xticklabels=["33", "130", "458", "675"], xlim=(25, 1100))
    ax.minorticks_off()
    ax.set_title("the twelve DiTs: four sizes, three patches", fontsize=9)
    bare(ax)
    return figure


def draw_bars(ax, rows: dict[str, dict[str, int]], unit: float, title: str, ends: str) -> None:
    """Stacked bars, one a row, coloured by part, each with its sum at the end."""
    largest = max(sum(parts.values()) for parts in rows.values()) / unit
    for y, parts in enumerate(rows.values()):
        left = 0.0
        for name, value in parts.items():
            ax.barh(y, value / unit, left=left, color=PART_COLOURS[name], height=0.65)
            left += value / unit
        ax.text(left + 0.02 * largest, y, ends.format(left), fontsize=8, va="center")
    ax.set(yticks=range(len(rows)), yticklabels=list(rows), xlim=(0, 1.3 * largest))
    ax.invert_yaxis()
    ax.set_title(title, fontsize=9)
    bare(ax)


def show_parts(
    configs: dict[str, ImageDiTConfig | DiTConfig],
    grids: dict[str, tuple[int, ...]] | None = None,
    *,
    words: int = 8,
    title: str = "",
    width: float = 7.5,
) -> Picture:
    """Parameters and multiply-adds of some models as stacked bars: what is each for?"""
    figure, axes = panels(1, 2, width=width, aspect=0.18 + 0.09 * len(configs))
    grids = grids or {}
    parameters = {name: parameters_by_part(config) for name, config in configs.items()}
    macs = {name: macs_by_part(config, grids.get(name), words=words) for name, config in configs.items()}
    small = max(sum(parts.values()) for parts in macs.values()) < 1e9
    draw_bars(axes[0, 0], parameters, 1e6, "parameters, millions", "{:.3g}" if small else "{:.1f}")
    draw_bars(axes[0, 1], macs, 1e6 if small else 1e9, f"{'MMACs' if small else 'GMACs'} a forward pass", "{:.2f}")
    axes[0, 1].set_yticklabels([])
    used = [part for part in PARTS if any(m[part] for m in macs.values())]
    marks = [axes[0, 0].barh(0, 0, color=PART_COLOURS[part]) for part in used]
    figure.legend(marks, used, loc="outside lower center", ncols=len(used), fontsize=8, frameon=False)
    figure.suptitle(title, fontsize=9)
    return figure


def draw_costs(depth: int, width: int, patch: int, frames: int) -> Picture:
    """The calculator: a model of your own beside four of the paper's, with sums for sampling and training."""
    yours = ImageDiTConfig(depth=depth, width=width, heads=width // 64, patch=patch)
    configs = {"yours": yours} | {f"{size}/2": dit_config(f"{size}/2") for size in DIT_SIZES}
    grids = {"yours": (frames, *yours.grid)}
    n = frames * yours.grid[0] * yours.grid[1]
    macs = sum(macs_by_part(yours, grids["yours"]).values())
    title = (
        f"yours: {n:,} tokens; 250 sampling steps {250 * macs / 1e12:,.2f} TMACs, "
        f"one training step of 256 samples {256 * 3 * macs / 1e12:,.2f} TMACs"
    )
    return show_parts(configs, grids, title=title)


def show_gates(
    records: dict[str, Float[Tensor, "x depth 2"]], xlabel: str, ends: tuple | None = None, *, width: float = 7.5
) -> Picture:
    """How far gates are open: blocks from top to bottom, steps or times from left to right, a row a model."""
    figure, axes = panels(len(records), 2, width=width, aspect=0.32, head=0.3)
    top = max(float(record.max()) for record in records.values())
    for row, (name, record) in zip(axes, records.items(), strict=True):
        for ax, gate, part in zip(row, record.unbind(-1), ("attention", "MLP"), strict=True):
            extent = (*(ends or (0, len(record))), record.shape[1] + 0.5, 0.5)
            style = {"cmap": "magma", "vmin": 0, "vmax": top, "aspect": "auto", "interpolation": "nearest"}
            shown = ax.imshow(gate.T.numpy(), extent=extent, **style)
            ax.set(xlabel=xlabel, ylabel="block", yticks=range(1, record.shape[1] + 1))
            ax.set_title(f"{name}: mean |gate|, {part}", fontsize=9)
    figure.colorbar(shown, ax=axes, shrink=0.9)
    return figure


def show_reach(changes: dict[str, Float[Tensor, "nf nh nw"]], *, width: float = 7.5) -> Picture:
    """Which outputs moved when the last token of the input was touched: a row a model, frames from left to right."""
    frames = max(len(change) for change in changes.values())
    figure, axes = panels(len(changes), frames, width=width, head=0.3)
    for row, (name, change) in zip(axes, changes.items(), strict=True):
        for f, ax in enumerate(row):
            share = (change[f] / change.max()).clamp_min(1e-4).log10()
            ax.imshow(share.numpy(), cmap="magma", vmin=-4, vmax=0, interpolation="nearest")
            ax.set(xticks=[], yticks=[])
            ax.set_title(f"{name}, frame 1" if f == 0 else f"{f + 1}", fontsize=8, loc="left" if f == 0 else "center")
    last = axes[0, -1]
    last.annotate("touched", (changes[next(iter(changes))].shape[2] - 1,) * 2, color="black", fontsize=7, ha="right")
    return figure
