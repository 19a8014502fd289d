"""Figures of lesson 00: the map from a prompt to a clip, the board of claims, and the paper slips."""

from collections.abc import Sequence

from sora_edu.course.claims import ROLES, SLIPS, Claim, Slip
from sora_edu.course.plotting import Picture, box, canvas, panels

BADGE_COLOURS = {"stated": "#1a7f37", "inferred": "#b35900", "unknown": "#6e7781"}
VERDICT_COLOURS = {"holds": "#1a7f37", "half right": "#b35900", "wrong": "#c1121f", "not known": "#6e7781"}
PILE_COLOURS = ("#f4a6a6", "#f8cf8a", "#efe98f", "#b5dfa0", "#a5cdf0", "#cfb5ea")


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
