"""Figures of lesson 05: a VAE of two numbers at several KL weights, what a weight costs, and latent channels."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from sora_edu.course.plotting import Picture, bare, draw, panels

REACH = 2.0  # radius of the circle that holds 1 - exp(-2) = 86 % of two-dimensional standard noise


def tiles(images: Float[Tensor, "n c 1 h w"], columns: int, gap: int = 1) -> Float[Tensor, "c hh ww"]:
    """One-frame videos as one picture, in rows of ``columns``, with white gaps."""
    padded = torch.nn.functional.pad(images[:, :, 0], (0, gap, 0, gap), value=1.0)
    return rearrange(padded, "(r k) c h w -> c (r h) (k w)", k=columns)


def draw_codes(ax, codes: Float[Tensor, "n 2"], xy: Float[Tensor, "n 2"], title: str) -> None:
    """Each code as a point in the colour of its disc's place, and the circle into which noise mostly falls."""
    shades = torch.cat((xy / xy.max(), torch.full((len(xy), 1), 0.5)), 1).clamp(0, 1)
    ax.scatter(*codes.T.numpy(), c=shades.numpy(), s=5)
    turn = np.linspace(0, 2 * np.pi, 100)
    ax.plot(REACH * np.cos(turn), REACH * np.sin(turn), color="#24292f", linewidth=1.0)
    half = max(3.0, float(codes.abs().max()) * 1.1)
    ax.set(xlim=(-half, half), ylim=(-half, half), aspect="equal")
    ax.tick_params(labelsize=7)
    ax.set_title(title, fontsize=9)


def show_disc_vaes(
    studies: Sequence[Mapping], discs: Float[Tensor, "n c 1 h w"], xy: Float[Tensor, "n 2"], titles: Sequence[str]
) -> Picture:
    """A row for each model: where it puts the discs, what it makes of the first eight, and what of noise.

    A study has "codes" (n 2), "seen" (the discs decoded) and "made" (decoded noise), as the lesson computes them.
    """
    figure, axes = panels(len(studies), 3, width=7.5, aspect=0.92, head=0.2)
    for row, (study, title) in enumerate(zip(studies, titles, strict=True)):
        pairs = torch.stack((discs[:8], study["seen"][:8]), 1).flatten(0, 1)  # original, reconstruction, original, ...
        draw_codes(axes[row, 0], study["codes"], xy, title)
        draw(axes[row, 1], tiles(pairs, 4), "pairs: disc, then its copy")
        draw(axes[row, 2], tiles(study["made"][:16], 4), "noise, decoded")
    return figure


def show_trade(table: Mapping[float, Mapping[str, float]]) -> Picture:
    """What a KL weight buys and costs: decibels of copies and of noise on the left, nats a disc on the right."""
    weights = sorted(table)
    figure, axes = panels(1, 2, width=7.5, aspect=0.72)
    names = {"psnr": ("copy of a disc", "#3066be"), "reach": ("noise that comes closest to it", "#d62828")}
    for key, (label, colour) in names.items():
        axes[0, 0].plot(weights, [table[w][key] for w in weights], marker="o", label=label, color=colour)
    axes[0, 0].legend(fontsize=8, frameon=False, loc="lower left")
    axes[0, 0].set_title("PSNR in dB", fontsize=9)
    axes[0, 1].plot(weights, [table[w]["nats"] for w in weights], marker="o", color="#24292f")
    axes[0, 1].set_title("KL in nats a disc: what the code tells", fontsize=9)
    for ax in axes.flat:
        ax.set(xscale="log", xlabel="kl_weight")
        ax.set_ylim(bottom=0)
        bare(ax)
    return figure


def show_channels(
    video: Float[Tensor, "c f h w"], z: Float[Tensor, "z lf lh lw"], channels: Sequence[int], *, stride: int = 4
) -> Picture:
    """The frames 0, 4, 8, ... above the latent frames that close there, a row for each of some channels."""
    figure, axes = panels(1 + len(channels), z.shape[1], width=5.5, aspect=1.0, head=0.04)
    for column in range(z.shape[1]):
        draw(axes[0, column], video[:, column * stride], f"frame {column * stride}")
        for row, channel in enumerate(channels, 1):
            ax = axes[row, column]
            ax.imshow(z[channel, column].numpy(), cmap="coolwarm", vmin=-3, vmax=3, interpolation="nearest")
            ax.set(xticks=[], yticks=[])
            if column == 0:
                ax.set_ylabel(f"z[{channel}]", fontsize=8, rotation=0, ha="right", va="center")
    return figure
