"""The figures of lesson 07: clouds of points, the answers that meet in one point, fields, and paths to the data."""

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from matplotlib import colormaps
from torch import Tensor

from sora_edu.course.plotting import Picture, bare, panels
from sora_edu.course.toy2d import Mixture, ring
from sora_edu.diffusion.flow import VelocityFn
from sora_edu.diffusion.sampling import euler, heun, sde

Cloud = Float[Tensor, "_ 2"]  # clouds of one picture may differ in size
LIMIT = 2.7  # how far the plane is drawn in each direction
DATA, NOISE, MEAN = "#1a7f37", "#8250df", "#e5383b"


def plane(ax, title: str = "") -> None:
    """Prepare axes for points: a square with ticks at whole numbers."""
    ax.set(xlim=(-LIMIT, LIMIT), ylim=(-LIMIT, LIMIT), xticks=[-2, 0, 2], yticks=[-2, 0, 2], aspect="equal")
    ax.tick_params(labelsize=7, length=2)
    ax.set_title(title, fontsize=9)


def hues(points: Cloud) -> np.ndarray:
    """A colour for each point by its direction from the middle, once round the colour circle."""
    angle = torch.atan2(points[:, 1], points[:, 0]) / (2 * torch.pi) % 1
    return colormaps["hsv"](angle.cpu().numpy())


def show_clouds(
    clouds: Sequence[Cloud],
    titles: Sequence[str],
    *,
    start: Cloud | None = None,
    columns: int = 5,
    width: float = 7.5,
) -> Picture:
    """Clouds of points side by side; with ``start`` each point has the colour of the noise it came from."""
    columns = min(columns, len(clouds))
    figure, axes = panels(-(-len(clouds) // columns), columns, width=width)
    for ax in axes.flat[len(clouds) :]:
        ax.set_axis_off()
    for ax, cloud, title in zip(axes.flat, clouds, titles, strict=False):
        plane(ax, title)
        colour = "#0969da" if start is None else hues(start)
        ax.scatter(*cloud.T.cpu().numpy(), s=2.5, c=colour, linewidths=0)
    return figure


def show_answers(
    x_0: Cloud, eps: Cloud, place: Float[Tensor, "2"], mean: Float[Tensor, "2"], *, lines: int = 25
) -> Picture:
    """Left, the pairs of data and noise whose line passes one place at one time; right, all their velocities."""
    figure, axes = panels(1, 2, width=7.5, aspect=0.9)
    left, right = axes[0]
    plane(left, "pairs (x_0, eps) that meet in x_t")
    for a, b in zip(x_0[:lines].tolist(), eps[:lines].tolist(), strict=True):
        left.plot([a[0], b[0]], [a[1], b[1]], color="#afb8c1", linewidth=0.8, zorder=1)
    left.scatter(*x_0[:lines].T.numpy(), s=14, color=DATA, label="x_0", zorder=2)
    left.scatter(*eps[:lines].T.numpy(), s=14, color=NOISE, label="eps", zorder=2)
    left.scatter(*place.tolist(), s=70, color="black", marker="*", label="x_t", zorder=3)
    right.scatter(*(eps - x_0).T.numpy(), s=3, color="#0969da", linewidths=0, label="eps - x_0 of each pair")
    right.scatter(*mean.tolist(), s=80, color=MEAN, marker="X", edgecolor="white", label="their mean")
    right.set_title("their velocities", fontsize=9)
    right.set_aspect("equal", adjustable="datalim")
    right.tick_params(labelsize=7, length=2)
    for ax in (left, right):
        ax.legend(fontsize=7, loc="upper left", framealpha=0.9)
    return figure


def show_field(velocity_fn: VelocityFn, clouds: dict[float, Cloud], *, arrows: int = 13, width: float = 7.5) -> Picture:
    """Which way a sampler goes, -velocity, on a grid of places at several times, above the points of that time."""
    figure, axes = panels(1, len(clouds), width=width)
    side = torch.linspace(-LIMIT + 0.2, LIMIT - 0.2, arrows)
    place = torch.cartesian_prod(side, side)
    for ax, (t, cloud) in zip(axes[0], clouds.items(), strict=True):
        plane(ax, f"t = {t:g}")
        ax.scatter(*cloud.T.numpy(), s=1.5, color="#b6d4f5", linewidths=0)
        way = -velocity_fn(place, torch.full((len(place),), t)).detach()
        ax.quiver(*place.T.numpy(), *way.T.numpy(), angles="xy", scale=32, width=0.008, color="#24292f")
    return figure


def draw_paths(ax, path: Float[Tensor, "_ _ 2"], colours, *, dots: bool = False, linewidth: float = 1.0) -> None:
    """The way of each point as a line: a ring where it starts, a dot where it ends."""
    for number, colour in enumerate(colours):
        ax.plot(*path[:, number].T.numpy(), color=colour, linewidth=linewidth, marker="." if dots else None, zorder=2)
    ax.scatter(*path[0].T.numpy(), s=16, facecolor="white", edgecolor=colours, linewidths=1.2, zorder=3)
    ax.scatter(*path[-1].T.numpy(), s=16, color=colours, edgecolor="black", linewidths=0.6, zorder=4)


def show_paths(
    paths: Sequence[Float[Tensor, "_ _ 2"]], titles: Sequence[str], data: Cloud, *, width: float = 7.5
) -> Picture:
    """Several panels of ways from noise (rings) to data (dots), coloured by the noise, above the data in grey."""
    figure, axes = panels(1, len(paths), width=width)
    for ax, path, title in zip(axes[0], paths, titles, strict=True):
        plane(ax, title)
        ax.scatter(*data.T.numpy(), s=1.5, color="#d0d7de", linewidths=0)
        draw_paths(ax, path, hues(path[0]))
    return figure


def path_of(sampler: Callable, velocity_fn: VelocityFn, noise: Cloud, **options) -> Float[Tensor, "_ _ 2"]:
    """Every place that a sampler visits, the noise first and the sample last."""
    seen = []
    x_0 = sampler(velocity_fn, noise, callback=lambda step, t, x_t, x_0_hat: seen.append(x_t), **options)
    return torch.stack([*seen, x_0])


@cache
def backdrop() -> tuple[Mixture, Cloud]:
    """The ring and some of its points, once."""
    data = ring()
    return data, data.sample(600, generator=torch.Generator().manual_seed(7))


def draw_start(x: float, y: float, steps: int) -> Picture:
    """From one noise (x, y): Euler's path with its steps and the exact one on the left, four runs of the SDE right."""
    data, cloud = backdrop()
    start = torch.tensor([[x, y]])
    ode, exact = (path_of(sampler, data.velocity, start, steps=n) for sampler, n in ((euler, int(steps)), (heun, 100)))
    runs = path_of(sde, data.velocity, start.expand(4, 2), steps=int(steps), generator=torch.Generator().manual_seed(1))
    figure, axes = panels(1, 2, width=7.0)
    word = "step" if int(steps) == 1 else "steps"
    for ax, title in zip(
        axes[0], (f"ODE: Euler, {int(steps)} {word}", f"SDE: four runs, {int(steps)} {word}"), strict=True
    ):
        plane(ax, title)
        ax.scatter(*cloud.T.numpy(), s=1.5, color="#d0d7de", linewidths=0)
    axes[0, 0].plot(*exact[:, 0].T.numpy(), color="#1a7f37", linewidth=1, linestyle="--", label="exact path")
    draw_paths(axes[0, 0], ode, ["#e5383b"], dots=True, linewidth=1.4)
    axes[0, 0].legend(fontsize=7, loc="upper left")
    draw_paths(axes[0, 1], runs, ["#0969da", "#8250df", "#bf8700", "#1a7f37"])
    return figure


def show_training(losses: dict[str, Sequence[float | int]], floors: dict[str, float], *, smooth: int = 25) -> Picture:
    """Losses over training, averaged over a few steps, each with its floor as a dashed line of the same colour."""
    figure, axes = panels(1, 1, width=6.0, aspect=0.5)
    ax = axes[0, 0]
    for number, (name, values) in enumerate(losses.items()):
        means = np.asarray(values)[: len(values) // smooth * smooth].reshape(-1, smooth).mean(1)
        ax.plot(np.arange(len(means)) * smooth + smooth / 2, means, color=f"C{number}")
        ax.axhline(floors[name], color=f"C{number}", linestyle="--", linewidth=0.9)
        ax.text(len(values) * 1.06, floors[name], name, color=f"C{number}", fontsize=9, va="center")
    ax.set(xlabel="training step", ylabel="loss", ylim=(0, None))
    bare(ax)
    return figure


def show_errors(
    curves: dict[str, tuple[Sequence[float | int], Sequence[float | int]]],
    *,
    xlabel: str,
    ylabel: str,
    floor: float | None = None,
    width: float = 5.5,
) -> Picture:
    """Errors over passes, each curve with passes of its own, both axes logarithmic; the floor as a grey line."""
    figure, axes = panels(1, 1, width=width, aspect=0.55)
    ax = axes[0, 0]
    for name, (passes, values) in curves.items():
        ax.plot(passes, values, marker="o", markersize=4, label=name)
    if floor is not None:
        ax.axhline(floor, color="#57606a", linestyle="--", linewidth=1, label="floor: data against data")
    ax.set(xscale="log", yscale="log", xlabel=xlabel, ylabel=ylabel)
    ticks = sorted({n for passes, _ in curves.values() for n in passes if n in (1, 2, 4, 8, 16, 32, 64, 128, 256)})
    ax.set_xticks(ticks, [str(n) for n in ticks])
    ax.minorticks_off()
    bare(ax)
    ax.legend(fontsize=8, frameon=False)
    return figure
