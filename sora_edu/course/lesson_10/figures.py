"""The figures of lesson 10: a live view of a training, runs of growing length, EMA and raw weights, five patients."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from IPython.display import display
from jaxtyping import Float
from torch import Tensor, nn

from sora_edu.course.lesson_10.bugs import Patient
from sora_edu.course.plotting import Picture, band, bare, draw, panels
from sora_edu.course.toy2d import Points
from sora_edu.pipeline import Pipeline
from sora_edu.shapes import Video
from sora_edu.train.run_folder import read_metrics

EMA, RAW, LONG = "#1f4e8c", "#b35900", "#1a7f37"
GAP = 2  # white pixels between the frames of a sheet


# --- pieces -----------------------------------------------------------------------------------------------------------


def sheet(video: Video) -> Float[Tensor, "c height width"]:
    """Clips as rows of frames in one picture, with white gaps."""
    padded = torch.nn.functional.pad(video, (0, GAP, 0, GAP), value=1.0)
    return rearrange(padded, "b c f h w -> c (b h) (f w)")[:, :-GAP, :-GAP]


def label_ticks(ax) -> None:
    """Plain numbers on a logarithmic axis of losses."""
    ax.minorticks_off()
    low, high = ax.get_ylim()
    ticks = [tick for tick in (0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.5, 2.0) if low <= tick <= high]
    ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])


def read_losses(folder: Path, name: str) -> list[tuple[int, float]]:
    """Step and loss of each line that a stage wrote into its metrics so far."""
    lines = read_metrics(folder / "metrics.jsonl")
    return [(line["step"], line["loss"]) for line in lines if line["stage"] == name and "loss" in line]


def show_loss(curves: dict[str, list[tuple[int, float]]], *, width: float = 5.5) -> Picture:
    """Losses over training steps, each curve with steps of its own; zero is on the axis."""
    figure, axes = panels(1, 1, width=width, aspect=0.5)
    ax = axes[0, 0]
    for number, (label, curve) in enumerate(curves.items()):
        ax.plot(*zip(*curve, strict=True), color=(EMA, RAW, LONG)[number % 3], label=label)
    ax.set(xlabel="training step", ylabel="loss of the step", ylim=(0, None))
    ax.legend(fontsize=8, frameon=False)
    bare(ax)
    return figure


# --- the optimisers ---------------------------------------------------------------------------------------------------


def show_directions(spectra: dict[str, Float[Tensor, "n"]], *, width: float = 5.5) -> Picture:
    """Singular values of several matrices of one shape, each over its largest: how many directions count?"""
    figure, axes = panels(1, 1, width=width, aspect=0.5)
    ax = axes[0, 0]
    for label, values in spectra.items():
        ax.plot((values / values.max()).cpu().numpy(), label=label)
    ax.set(xlabel="direction, strongest first", ylabel="singular value / largest", yscale="log", ylim=(1e-4, 1.6))
    ax.legend(fontsize=8, frameon=False)
    bare(ax)
    return figure


# --- live -------------------------------------------------------------------------------------------------------------


class Live:
    """A picture that follows a training: its losses, and one prompt from the same noise at each look.

    Give ``live.evaluate`` to a Stage. It looks after 4, 8, 16, ... steps, as most happens at first, and at the end.
    The picture in the notebook is drawn again at each look; the last one stays.
    """

    def __init__(self, pipe: Pipeline, prompt: str, folder: Path, *, name: str, steps: int, seed: int = 0):
        self.pipe = pipe
        self.prompt = prompt
        self.folder = folder
        self.name = name
        self.steps = steps
        self.seed = seed
        self.looks: dict[int, Video] = {}
        self.handle = None

    def evaluate(self, ema: nn.Module, step: int) -> dict:
        """Draw the prompt with the average so far, and the picture again; nothing goes into the log."""
        if step != self.steps and (step < 4 or step & (step - 1)):  # a power of two has one bit
            return {}
        pipe = Pipeline(self.pipe.preset, self.pipe.vae, ema, self.pipe.tokenizer)
        self.looks[step] = pipe([self.prompt], steps=8, seed=self.seed)[:, :, ::4]
        if self.handle is None:
            self.handle = display(self.picture(), display_id=True)
        else:
            self.handle.update(self.picture())
        return {}

    def picture(self) -> Picture:
        """Losses on the left; on the right a row a look, the newest at the bottom."""
        figure, axes = panels(1, 2, width=7.5, aspect=0.8)
        left, right = axes[0]
        losses = read_losses(self.folder, self.name)
        left.plot([step for step, _ in losses], [loss for _, loss in losses], color=EMA)
        left.set(xlim=(0, self.steps), ylim=(0, None), xlabel="training step", ylabel="loss")
        bare(left)
        draw(
            right,
            sheet(torch.cat(list(self.looks.values()))),
            f"'{self.prompt}' after {', '.join(map(str, self.looks))} steps",
        )
        return figure


# --- the recorded runs ------------------------------------------------------------------------------------------------


def show_growth(clips: dict[str, Video], *, width: float = 7.5) -> Picture:
    """The same prompts and noise after runs of growing length, side by side."""
    height, wide = sheet(next(iter(clips.values()))).shape[1:]
    figure, axes = panels(1, len(clips), width=width, aspect=height / wide)
    for ax, (title, video) in zip(axes[0], clips.items(), strict=True):
        draw(ax, sheet(video), title)
    return figure


def of_run(record: dict, name: str) -> dict:
    """One run of the record."""
    return next(entry for entry in record["runs"] if entry["name"] == name)


def show_runs(record: dict, names: Sequence[str], *, share: str = "all", width: float = 7.5) -> Picture:
    """Over clips seen. Left, losses of steps (pale) and of the EMA on held-out clips; right, a share of its clips.

    ``share``: all, shape, colour or motion, what must be as the prompt said.
    """
    figure, axes = panels(1, 2, width=width, aspect=0.8)
    left, right = axes[0]
    for number, name in enumerate(names):
        entry = of_run(record, name)
        colour = f"C{number}"
        steps, losses = zip(*entry["losses"], strict=True)
        left.plot(np.array(steps) * record["batch"], losses, color=colour, linewidth=0.7, alpha=0.3)
        x = [look["step"] * record["batch"] for look in entry["looks"]]
        held = [look["ema"]["loss"] for look in entry["looks"]]
        left.plot(x, held, color=colour, marker="o", markersize=3, label=name)
        band(right, x, [look["ema"]["right"][share] for look in entry["looks"]], name, colour)
    left.set(ylabel="loss (points: on held-out clips)", yscale="log", xscale="log")
    label_ticks(left)
    right.set(ylabel=f"share of clips with {share} as said", ylim=(-0.03, 1.03), xscale="log", xlim=left.get_xlim())
    for ax in (left, right):
        ax.set(xlabel="clips seen in training")
        ax.legend(fontsize=8, frameon=False)
        bare(ax)
    return figure


def show_ema(record: dict, name: str = "32x", *, width: float = 7.5) -> Picture:
    """The average against the weights as they are, along one run: held-out loss, and share of clips all right."""
    entry = of_run(record, name)
    x = [look["step"] for look in entry["looks"]]
    figure, axes = panels(1, 2, width=width, aspect=0.75)
    left, right = axes[0]
    for kind, colour, label in (("raw", RAW, "weights as they are"), ("ema", EMA, "their average (EMA)")):
        looks = [look[kind] for look in entry["looks"]]
        left.plot(x, [look["loss"] for look in looks], color=colour, marker="o", markersize=3, label=label)
        band(right, x, [look["right"]["all"] for look in looks], label, colour)
    left.set(ylabel="loss on held-out clips", yscale="log")
    label_ticks(left)
    right.set(ylabel="share of clips with all as said", ylim=(-0.03, 1.03))
    for ax in (left, right):
        ax.set(xlabel="training step")
        ax.legend(fontsize=8, frameon=False)
        bare(ax)
    return figure


def training_scrubber(record: dict, strips: dict[int, Video], name: str = "32x") -> Callable[[int], Picture]:
    """A function of the number of a look: its place on the curves, and its clips. For a slider."""
    entry = of_run(record, name)
    steps = sorted(strips)
    looks = {look["step"]: look["ema"] for look in entry["looks"]}
    x = [step for step in steps if step in looks]

    def show(look: int) -> Picture:
        step = steps[look]
        figure, axes = panels(1, 2, width=7.5, aspect=0.85)
        left, right = axes[0]
        band(left, x, [looks[s]["right"]["all"] for s in x], "all as said", EMA)
        for what, colour in (("colour", LONG), ("shape", "#8250df"), ("motion", RAW)):
            left.plot(x, [looks[s]["right"][what]["value"] for s in x], color=colour, linewidth=1, label=what)
        left.axvline(step, color="#e5383b", linewidth=1.5)
        left.set(
            ylim=(-0.03, 1.03), xlim=(-0.02 * x[-1], 1.02 * x[-1]), xlabel="training step", ylabel="share of clips"
        )
        left.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(0, 0.6))
        bare(left)
        draw(right, sheet(strips[step]), f"after {step} steps of {record['batch']} clips")
        return figure

    return show


def show_two_rankings(record: dict, *, width: float = 5.5) -> Picture:
    """Every recorded checkpoint: its held-out loss against its share of clips all right, with intervals."""
    figure, axes = panels(1, 1, width=width, aspect=0.65)
    ax = axes[0, 0]
    for kind, colour, label in (("raw", RAW, "weights as they are"), ("ema", EMA, "their average (EMA)")):
        looks = [look[kind] for entry in record["runs"] for look in entry["looks"]]
        x = [look["loss"] for look in looks]
        shares = [look["right"]["all"] for look in looks]
        value = np.array([share["value"] for share in shares])
        ends = np.array([[share["value"] - share["low"], share["high"] - share["value"]] for share in shares]).T
        ax.errorbar(x, value, yerr=ends, fmt="o", markersize=3, linewidth=0.6, color=colour, label=label)
    ax.set(xlabel="loss on held-out clips", ylabel="share of clips with all as said", ylim=(-0.03, 1.03))
    ax.legend(fontsize=8, frameon=False)
    bare(ax)
    return figure


# --- patients ---------------------------------------------------------------------------------------------------------


def show_patients(patients: dict[str, Patient], data: Points, floor: float, *, width: float = 7.5) -> Picture:
    """Above, each training's loss at every step; below, its samples (orange) over the data (grey)."""
    figure, axes = panels(2, len(patients), width=width, aspect=0.95)
    for column, (letter, patient) in enumerate(patients.items()):
        above, below = axes[:, column]
        above.plot(patient.losses, color=EMA, linewidth=0.7)
        above.axhline(floor, color="#57606a", linestyle="--", linewidth=0.9)
        above.set(ylim=(0, 3), xticks=[0, len(patient.losses)])
        above.set_title(f"{letter}: loss", fontsize=9)
        below.scatter(*data.T.numpy(), s=1.5, color="#d0d7de", linewidths=0)
        below.scatter(*patient.samples.T.numpy(), s=1.5, color="#d9480f", linewidths=0)
        below.set(xlim=(-4.2, 4.2), ylim=(-4.2, 4.2), xticks=[], yticks=[], aspect="equal")
        below.set_title(f"{letter}: samples", fontsize=9)
        for ax in (above, below):
            ax.tick_params(labelsize=7, length=2)
        if column:
            above.set_yticklabels([])
        bare(above)
    return figure
