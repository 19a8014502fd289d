"""What a transformer costs: its parameters and its multiply-adds (MACs), in closed form and counted while it runs.

One forward pass of DiT-XL/2 is 118.6 GMACs, which the paper calls 118.6 Gflops; a FLOP count is twice that, and a
step of training costs about three forwards. Norms, activations and softmax are left out: below 0.1 % here (lesson 08).
"""

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sora_edu.config import DiTConfig
from sora_edu.errors import InputError
from sora_edu.model.image_dit import ImageDiTConfig

Config = ImageDiTConfig | DiTConfig
PARTS = ("attention", "pairs", "mlp", "modulation", "cross-attention", "rest")
WAVES = 256  # numbers that a time is turned into before its two linear layers


def linear_size(d_in: int, d_out: int) -> int:
    """Parameters of a linear layer with a bias."""
    return d_in * d_out + d_out


def count_parameters(model: nn.Module, *, trained_only: bool = False) -> int:
    """Numbers that a model holds; ``trained_only`` leaves out those without gradient, such as fixed positions."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trained_only)


def parameters_by_part(config: Config) -> dict[str, int]:
    """Parameters of an ImageDiT or VideoDiT by what they are for, in closed form, summing to count_parameters."""
    d = config.width
    depth = config.depth
    hidden = int(config.mlp_ratio * d)
    parts = dict.fromkeys(PARTS, 0)
    parts["attention"] = depth * (linear_size(d, 3 * d) + linear_size(d, d))
    parts["mlp"] = depth * (linear_size(d, hidden) + linear_size(hidden, d))
    parts["rest"] = (
        linear_size(patch_numbers(config), d) + linear_size(WAVES, d) + linear_size(d, d) + linear_size(d, 2 * d)
    )
    if isinstance(config, ImageDiTConfig):  # adaLN-Zero: a layer in every block
        parts["modulation"] = depth * linear_size(d, 6 * d)
        parts["rest"] += (config.classes + 1) * d + math.prod(config.grid) * d
        parts["rest"] += linear_size(d, config.patch**2 * config.channels_out)
    else:  # adaLN-single: one layer for all blocks, and a table of six rows in each
        parts["modulation"] = linear_size(d, 6 * d) + depth * 6 * d
        parts["attention"] += depth * 2 * d // config.heads  # QK-norm
        parts["cross-attention"] = depth * (
            2 * linear_size(d, d) + linear_size(config.text_width, 2 * d) + 2 * d + 2 * d // config.heads
        )
        parts["rest"] += linear_size(config.text_width, d) + linear_size(d, patch_numbers(config))
        parts["rest"] += d * bool(config.side)  # the canvas' scale
    return parts


def macs_by_part(config: Config, grid: tuple[int, ...] | None = None, *, words: int = 1) -> dict[str, int]:
    """Multiply-adds of one forward pass for one sample, by what they are for.

    A linear layer costs its weights once a token. Attention has ``2 n^2 d`` beside, the "pairs", which own no
    parameter: every token meets every other, for the scores and again for the sum. grid: tokens along each axis; an
    ImageDiT knows its own. words: the length of the prompt that a VideoDiT looks at. Raises InputError where the
    grid is missing or not positive.
    """
    n = token_count(config, grid)
    d = config.width
    depth = config.depth
    parts = dict.fromkeys(PARTS, 0)
    parts["attention"] = depth * 4 * n * d**2
    parts["pairs"] = depth * 2 * n**2 * d
    parts["mlp"] = depth * 2 * n * d * int(config.mlp_ratio * d)
    parts["rest"] = n * patch_numbers(config) * d + WAVES * d + d**2 + 2 * d**2
    if isinstance(config, ImageDiTConfig):
        parts["modulation"] = depth * 6 * d**2  # once a sample, not once a token
        parts["rest"] += n * d * config.patch**2 * config.channels_out
    else:
        parts["modulation"] = 6 * d**2
        parts["cross-attention"] = depth * (2 * n * d**2 + 2 * words * config.text_width * d + 2 * n * words * d)
        parts["rest"] += config.text_width * d + n * d * patch_numbers(config)
    return parts


def patch_numbers(config: Config) -> int:
    """Latent numbers in one patch."""
    patch = (config.patch, config.patch) if isinstance(config, ImageDiTConfig) else config.patch
    return math.prod(patch) * config.channels


def token_count(config: Config, grid: tuple[int, ...] | None) -> int:
    """Tokens of a grid, or of an ImageDiT's own; InputError where there is none."""
    if grid is None and isinstance(config, ImageDiTConfig):
        grid = config.grid
    if grid is None or len(grid) == 0 or min(grid) < 1:
        raise InputError(f"grid={grid} says no number of tokens; pass (nf, nh, nw), such as model.grid(x_t)")
    return math.prod(grid)


def count_macs(model: nn.Module | Config, grid: tuple[int, ...] | None = None, *, words: int = 1) -> int:
    """Multiply-adds of one forward pass for one sample, in closed form; arguments as macs_by_part's."""
    return sum(macs_by_part(getattr(model, "config", model), grid, words=words).values())


def measure_macs(model: Callable[..., object], *inputs: object) -> int:
    """Run a model, or any function, and count the multiply-adds of every matrix product that really happens.

    On the "meta" device shapes are worked out and nothing is multiplied, so that XL takes no memory and no time.
    Counts the whole batch. Attention is done as plain products: inside a fused kernel the counter sees none.
    """
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(*inputs)
    return counter.get_total_flops() // 2


def flops(macs: int, *, training: bool = False) -> int:
    """FLOPs of so many multiply-adds: a multiplication and an addition each; training is three forwards.

    The backward pass costs two: one for the gradient of the inputs, one for that of the weights.
    """
    return 2 * macs * (3 if training else 1)
