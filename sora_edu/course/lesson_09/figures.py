"""The figures of lesson 09: a toy of two classes under guidance, attention from words to regions, measured curves."""

import math
from collections.abc import Callable, Sequence

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from sora_edu.course.plotting import Picture, band, bare, draw, panels, show_strip
from sora_edu.model.text import TextState
from sora_edu.shapes import Grid, Latent, Times, Video

# --- a toy of two classes, solved exactly -----------------------------------------------------------------------------

MEANS = torch.tensor([[0.7, 1.0], [1.0, -1.0], [-0.7, 1.0], [-1.0, -1.0]])  # two blobs right, two left
BLOB = 0.6  # standard deviation of each
RIGHT, ALL = torch.tensor([[0.5, 0.5, 0.0, 0.0]]), torch.tensor([[0.25, 0.25, 0.25, 0.25]])  # shares of the blobs
TRUE, FLOOR = "#1f4e8c", "#b35900"


def toy_velocity(x_t: Float[Tensor, "b 2"], t: Times, shares: Float[Tensor, "b 4"]) -> Float[Tensor, "b 2"]:
    """The exact velocity E[eps - x_0 | x_t] of a mixture of four round Gaussians with these shares, for t in (0, 1].

    Each blob's mean of x_0 given x_t is linear in x_t; the blobs are weighed by how likely each made x_t.
    """
    t = t[:, None]
    middle = (1 - t)[..., None] * MEANS  #                                           b 4 2
    away = x_t[:, None] - middle
    variance = ((1 - t) * BLOB) ** 2 + t**2  #                                       b 1
    weight = (shares.log() - away.square().sum(-1) / (2 * variance)).softmax(-1)  #  b 4
    x_0 = MEANS + away * ((1 - t) * BLOB**2 / variance)[..., None]
    return (x_t - (weight[..., None] * x_0).sum(1)) / t


def toy_log_density(x: Float[Tensor, "n 2"], shares: Float[Tensor, "1 4"]) -> Float[Tensor, "n"]:
    """log p(x) of the mixture."""
    squares = (x[:, None] - MEANS).square().sum(-1) / (2 * BLOB**2)
    return (shares.log() - squares).logsumexp(-1) - math.log(2 * math.pi * BLOB**2)


def show_toy(points: dict[int, Float[Tensor, "n 2"]], *, width: float = 7.5) -> Picture:
    """For each cfg_scale, the samples over the density that is proportional to p(x) (p(x|right) / p(x))^cfg_scale."""
    axis = torch.linspace(-3.2, 3.2, 121)
    plane = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).reshape(-1, 2)
    free, asked = toy_log_density(plane, ALL), toy_log_density(plane, RIGHT)
    figure, axes = panels(1, len(points), width=width)
    for ax, (scale, sample) in zip(axes.flat, points.items(), strict=True):
        density = (free + scale * (asked - free)).softmax(0).reshape(121, 121).numpy()
        ax.contourf(axis.numpy(), axis.numpy(), density, levels=12, cmap="Blues")
        ax.contour(axis.numpy(), axis.numpy(), asked.exp().reshape(121, 121).numpy(), levels=[0.05], colors=FLOOR)
        ax.scatter(*sample.T.numpy(), s=1.5, color="black")
        ax.set(xlim=(-3.2, 3.2), ylim=(-3.2, 3.2), xticks=[], yticks=[], aspect="equal")
        ax.set_title(f"cfg_scale = {scale:g}", fontsize=9)
    return figure


# --- words ------------------------------------------------------------------------------------------------------------


def show_similarity(vectors: Float[Tensor, "l d"], words: Sequence[str], *, width: float = 4.6) -> Picture:
    """Cosine similarity of each pair of word vectors, once their common mean is taken away; the diagonal is 1."""
    unit = torch.nn.functional.normalize(vectors - vectors.mean(0), dim=-1)
    figure, axes = panels(1, 1, width=width, aspect=0.85)
    ax = axes[0, 0]
    shades = ax.imshow((unit @ unit.T).cpu().numpy(), cmap="magma", vmin=-0.6, vmax=1)
    ax.set_xticks(range(len(words)), words, rotation=60, ha="right", fontsize=8)
    ax.set_yticks(range(len(words)), words, fontsize=8)
    ax.set_title("cosine similarity of the words' vectors, less their mean", fontsize=9)
    figure.colorbar(shades, ax=ax, shrink=0.8)
    return figure


# --- attention from words to regions ----------------------------------------------------------------------------------


@torch.no_grad()
def word_attention(dit: nn.Module, x_t: Latent, t: Times, text: TextState) -> Float[Tensor, "b depth heads n l"]:
    """How much each token of the video looks at each word, in every block and head; over the words it adds up to 1.

    A hook on each cross-attention sees what comes in and works the softmax out once more; the model is not changed.
    """
    weights = []

    def look(module: nn.Module, given: tuple, named: dict, _output: Tensor) -> None:
        x, words = given
        q = rearrange(module.q(x), "b n (heads dh) -> b heads n dh", heads=module.heads)
        k, _ = rearrange(module.kv(words), "b l (two heads dh) -> two b heads l dh", two=2, heads=module.heads)
        scores = module.norm_q(q) @ module.norm_k(k).transpose(-1, -2) * q.shape[-1] ** -0.5
        weights.append(scores.masked_fill(~named["mask"][:, None, None], float("-inf")).softmax(-1))

    hooks = [block.cross.register_forward_hook(look, with_kwargs=True) for block in dit.blocks]
    try:
        dit(x_t, t, text)
    finally:
        for hook in hooks:
            hook.remove()
    return torch.stack(weights, 1)


def word_maps(weights: Float[Tensor, "b depth heads n l"], grid: Grid) -> Float[Tensor, "b l nf nh nw"]:
    """The weights laid out on the token grid, the mean over blocks and heads."""
    nf, nh, nw = grid
    return rearrange(weights.mean((1, 2)), "b (f h w) l -> b l f h w", f=nf, h=nh, w=nw)


def show_word_maps(
    clip: Float[Tensor, "c f h w"], maps: Float[Tensor, "k nf nh nw"], titles: Sequence[str], *, width: float = 6.0
) -> Picture:
    """The clip above, and below it a row for each word: bright where the video looks at that word.

    Each word has its own scale, from 0 to its largest weight. Columns are latent frames.
    """
    nf = maps.shape[1]
    figure, axes = panels(1 + len(maps), nf, width=width, head=0.1)
    for column in range(nf):
        draw(axes[0, column], clip[:, column * (clip.shape[1] - 1) // max(1, nf - 1)])
        for row, word in enumerate(maps, 1):
            ax = axes[row, column]
            ax.imshow(word[column].cpu().numpy(), cmap="magma", vmin=0, vmax=float(word.max()))
            ax.set(xticks=[], yticks=[])
    for row, title in enumerate(titles, 1):
        axes[row, 0].set_ylabel(title, fontsize=9)
    return figure


# --- guidance on clips ------------------------------------------------------------------------------------------------


def guidance_strips(clips: dict[int, Video], prompts: Sequence[str], *, every: int = 4) -> Callable[[int], Picture]:
    """A function of cfg_scale that shows the clips made before at that scale, a row a prompt: for a slider."""

    def show(scale: int) -> Picture:
        return show_strip(clips[scale], [f"'{p}', cfg_scale = {scale}" for p in prompts], every=every, width=5.0)

    return show


def show_scales(clips: dict[int, Video], scales: Sequence[int], row: int, prompt: str, *, every: int = 4) -> Picture:
    """One prompt at several scales from the same noise, a row a scale."""
    video = torch.stack([clips[scale][row] for scale in scales])
    return show_strip(video, [f"'{prompt}', cfg_scale = {scale}" for scale in scales], every=every, width=5.0)


def show_guidance(measured: dict, *, width: float = 7.5) -> Picture:
    """Accuracy with the shuffled-caption floor, and diversity over the world's own, against cfg_scale."""
    figure, axes = panels(1, 2, width=width, aspect=0.8)
    left, right = axes[0]
    rows = measured["accuracy"]
    x = [row["cfg_scale"] for row in rows]
    band(left, x, [row["right"]["all"] for row in rows], "its own prompt", TRUE)
    band(left, x, [row["floor"]["all"] for row in rows], "another prompt: the floor", FLOOR)
    left.set(ylim=(-0.03, 1.03), xlabel="cfg_scale", ylabel="share of clips with all as said")
    left.set_title(f"does the clip show what was asked? n = {measured['n']} a scale", fontsize=9)
    names = {"start": ("where it starts", TRUE), "radius": ("size", "#2a7f3f"), "backgrounds": ("backgrounds", FLOOR)}
    rows = measured["diversity"]
    world = measured["world"]
    for name, (label, colour) in names.items():
        base = world[name]["value"]
        values = [{k: row[name][k] / base for k in ("value", "low", "high")} for row in rows]
        band(right, [row["cfg_scale"] for row in rows], values, label, colour)
    right.axhline(1, color="#57606a", linewidth=0.8, linestyle="--")
    right.set(ylim=(0, None), xlabel="cfg_scale", ylabel="diversity / the world's own")
    right.set_title("how different are clips of one prompt?", fontsize=9)
    for ax in (left, right):
        bare(ax)
        ax.legend(fontsize=8, frameon=False)
    return figure


# --- appendix: a student in four steps --------------------------------------------------------------------------------


def show_walkers(ends: dict[str, Float[Tensor, "n 2"]], *, width: float = 7.5) -> Picture:
    """Where the walks of several walkers end, over the orange line around *right* as it really is; red, the first's."""
    axis = torch.linspace(-3.2, 3.2, 121)
    plane = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).reshape(-1, 2)
    density = toy_log_density(plane, RIGHT).exp().reshape(121, 121).numpy()
    figure, axes = panels(1, len(ends), width=width)
    goal = next(iter(ends.values()))
    for ax, (name, points) in zip(axes.flat, ends.items(), strict=True):
        ax.contour(axis.numpy(), axis.numpy(), density, levels=[0.05], colors=FLOOR)
        for here, there in zip(points[:60].tolist(), goal[:60].tolist(), strict=True):
            ax.plot(*zip(here, there, strict=True), color="#cf222e", linewidth=0.7)
        ax.scatter(*points.T.numpy(), s=1.5, color="black")
        ax.set(xlim=(-0.2, 3.4), ylim=(-3.2, 3.2), xticks=[], yticks=[])
        ax.set_title(name, fontsize=9)
    return figure


def show_steps(measured: dict, *, width: float = 6.0) -> Picture:
    """Share of clips with all as said against the passes through the transformer that a clip takes."""
    figure, axes = panels(1, 1, width=width, aspect=0.6)
    ax = axes[0, 0]
    bare(ax)
    for name, colour in (("teacher", TRUE), ("student", FLOOR)):
        rows = measured[name]
        band(ax, [float(row["passes"]) for row in rows], [row["right"] for row in rows], name, colour)
        for row in rows:
            ax.annotate(
                str(row["steps"]),
                (row["passes"], row["right"]["value"]),
                fontsize=7,
                xytext=(2, -9),
                textcoords="offset points",
                color=colour,
            )
    ax.set(xscale="log", ylim=(-0.03, 1.03), xlabel="passes through the transformer", ylabel="all as said")
    ax.set_xticks([1, 2, 4, 8, 16, 50], ["1", "2", "4", "8", "16", "50"])
    ax.set_title(f"accuracy against cost; small numbers: steps. n = {measured['n']} a point", fontsize=9)
    ax.legend(fontsize=8, frameon=False, loc="lower right")
    return figure


def live_strip(pipe: Callable[..., Video], *, every: int = 4) -> Callable[[int, str], Picture]:
    """A function of seed and prompt that draws a clip with this pipeline, now, and shows it: for a slider."""

    def show(seed: int, prompt: str) -> Picture:
        return show_strip(pipe(prompt, seed=seed), [f"'{prompt}', seed {seed}"], every=every, width=5.0)

    return show
