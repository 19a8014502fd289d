"""The figures of lesson 06, forward noising, and what its slider draws."""

from collections.abc import Callable, Mapping, Sequence

import torch
from einops import rearrange
from jaxtyping import Float
from matplotlib.axes import Axes
from torch import Tensor

from sora_edu.course.plotting import Picture, bare, draw, panels
from sora_edu.diffusion.noising import alpha_bars, cosine_betas, linear_betas, q_sample, snr
from sora_edu.errors import InputError

COLOURS = ("#3066be", "#d62828", "#2a9d3a", "#8a4fbf", "#b35900")
BETAS = {"linear": linear_betas, "cosine": cosine_betas}
Curve = Sequence[float | int] | Float[Tensor, " n"]


def tidy(ax: Axes, title: str, **labels) -> None:
    """Title, labels and no box: what all axes here share."""
    ax.set(**labels)
    ax.set_title(title, fontsize=9)
    bare(ax)


def draw_snr(ax: Axes, x: Curve, ratios: Mapping[str, Curve], xlabel: str) -> None:
    """Signal-to-noise ratios on a logarithmic axis, each with a dot at the first place where noise has caught up."""
    x = torch.as_tensor(x)
    for (name, ratio), colour in zip(ratios.items(), COLOURS, strict=False):
        ratio = torch.as_tensor(ratio)
        first = int((ratio <= 1).nonzero()[0])
        ax.plot(x.numpy(), ratio.numpy(), label=name, color=colour, linewidth=1.2)
        ax.plot([x[first].item()], [ratio[first].item()], "o", color=colour, markersize=4)
    ax.axhline(1, color="#6e7781", linewidth=0.7, linestyle="--")
    ax.set(yscale="log", ylim=(1e-5, 1e5))
    tidy(ax, "signal-to-noise ratio; dot: noise catches up", xlabel=xlabel, ylabel="SNR")
    ax.legend(fontsize=8, frameon=False)


def show_snr(x: Curve, ratios: Mapping[str, Curve], *, xlabel: str, width: float = 5.0) -> Picture:
    """Signal-to-noise ratios over a common axis."""
    figure, axes = panels(1, 1, width=width, aspect=0.55)
    draw_snr(axes[0, 0], x, ratios, xlabel)
    return figure


def show_schedules(schedules: Mapping[str, Float[Tensor, " steps"]], *, width: float = 7.5) -> Picture:
    """Schedules twice, over the step s: the share of signal variance left, and the signal-to-noise ratio."""
    figure, axes = panels(1, 2, width=width, aspect=0.7)
    steps = range(1, 1 + max(len(alpha_bar) for alpha_bar in schedules.values()))
    for (name, alpha_bar), colour in zip(schedules.items(), COLOURS, strict=False):
        axes[0, 0].plot(steps, alpha_bar.numpy(), label=name, color=colour, linewidth=1.2)
    tidy(axes[0, 0], "share of signal variance", xlabel="step s", ylabel="alpha_bar")
    axes[0, 0].legend(fontsize=8, frameon=False)
    draw_snr(axes[0, 1], steps, {name: snr(alpha_bar) for name, alpha_bar in schedules.items()}, "step s")
    return figure


def show_histograms(samples: Mapping[str, Mapping[str, Float[Tensor, " n"]]], *, width: float = 7.5) -> Picture:
    """How often each value occurs: a panel a title, an outline for each of its samples, on one common axis."""
    figure, axes = panels(1, len(samples), width=width, aspect=0.7)
    for ax, (title, sets) in zip(axes.flat, samples.items(), strict=True):
        for (name, values), colour in zip(sets.items(), COLOURS, strict=False):
            ax.hist(values.numpy(), bins=60, range=(-4, 4), density=True, histtype="step", label=name, color=colour)
        tidy(ax, title, xlabel="value of the pixel", yticks=[])
    axes.flat[0].legend(fontsize=7, frameon=False, loc="upper left")
    return figure


def show_spectra(
    pictures: Mapping[str, Float[Tensor, "c h w"]],
    groups: Mapping[str, Mapping[str, Float[Tensor, " n"]]],
    *,
    width: float = 7.5,
) -> Picture:
    """Pictures in a row, and below them power by frequency, both axes logarithmic: a panel a group of spectra."""
    figure = Picture(figsize=(width, 0.8 * width), layout="constrained")
    above, below = figure.add_gridspec(2, 1, height_ratios=(1, 1.1))
    above = above.subgridspec(1, len(pictures))
    below = below.subgridspec(1, len(groups))
    for column, (title, picture) in enumerate(pictures.items()):
        draw(figure.add_subplot(above[0, column]), picture, title)
    for column, (title, spectra) in enumerate(groups.items()):
        ax = figure.add_subplot(below[0, column])
        for (name, power), colour in zip(spectra.items(), COLOURS, strict=False):
            ax.plot(range(1, len(power) + 1), power.numpy(), label=name, color=colour, linewidth=1.2)
        ax.set(xscale="log", yscale="log", ylim=(1e-4, 1e4))
        tidy(ax, title, xlabel="frequency, waves across the picture", ylabel="" if column else "power")
        ax.legend(fontsize=7, frameon=False, loc="lower left")
    return figure


def scrubber(
    photo: Float[Tensor, "c h w"], clip: Float[Tensor, "c f nh nw"], *, seed: int = 0
) -> Callable[[int, str], Picture]:
    """Make ``draw(s, schedule)`` for a slider: photo and clip after s steps, with the same noise, and the SNR."""
    generator = torch.Generator().manual_seed(seed)
    data = {"photo": photo[None], "clip": clip[None]}
    noise = {name: torch.randn(x.shape, generator=generator) for name, x in data.items()}
    schedules = {name: alpha_bars(betas()) for name, betas in BETAS.items()}

    def draw_noised(s: int, schedule: str) -> Picture:
        if schedule not in schedules:
            raise InputError(f"schedule={schedule!r} is none of {', '.join(schedules)}")
        alpha_bar = schedules[schedule]
        step = torch.tensor([s])
        x_s = {name: q_sample(x, step, noise[name], alpha_bar)[0] for name, x in data.items()}
        figure = Picture(figsize=(7.5, 3.9), layout="constrained")
        top, bottom = figure.add_gridspec(2, 1, height_ratios=(2.4, 1))
        top = top.subgridspec(1, 2, width_ratios=(1, 1.6))
        frames = x_s["clip"][:, ::4]
        bottom = bottom.subgridspec(1, frames.shape[1])
        alpha_bar_s = alpha_bar[s - 1].item()
        root, rest = alpha_bar_s**0.5, (1 - alpha_bar_s) ** 0.5
        draw(figure.add_subplot(top[0, 0]), x_s["photo"], f"s = {s}: {root:.3f} x_0 + {rest:.3f} eps")
        ax = figure.add_subplot(top[0, 1])
        draw_snr(ax, range(1, 1001), {schedule: snr(alpha_bar)}, "step s")
        ax.axvline(s, color="#24292f", linewidth=0.8)
        ax.set_title(f"{schedule}: alpha_bar = {alpha_bar_s:.3g}, SNR = {snr(alpha_bar)[s - 1].item():.3g}", fontsize=9)
        for column, frame in enumerate(rearrange(frames, "c f h w -> f c h w")):
            draw(figure.add_subplot(bottom[0, column]), frame)
        return figure

    return draw_noised
