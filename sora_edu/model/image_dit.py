"""The original DiT: a transformer that denoises one latent image of a known class (Peebles and Xie, 2212.09748).

Patches, a time and a label go in; every block is steered by adaLN-Zero. ``sora_edu.model.dit`` is what this course's
video model makes of it (lesson 08).
"""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from sora_edu.checked import checked
from sora_edu.errors import InputError
from sora_edu.model.attention import attend
from sora_edu.model.dit import modulate, timestep_embedding
from sora_edu.model.layers import start_at_zero
from sora_edu.model.patches import PatchEmbed, unpatchify
from sora_edu.model.positions import sincos_nd
from sora_edu.shapes import Tokens, check_divisible, head_width

DIT_SIZES = {  # depth, width, heads (DiT, table 1)
    "S": (12, 384, 6),
    "B": (12, 768, 12),
    "L": (24, 1024, 16),
    "XL": (28, 1152, 16),
}
DIT_PATCHES = (2, 4, 8)


@dataclass(frozen=True, kw_only=True)
class ImageDiTConfig:
    """One DiT; the defaults are the paper's, for latents of 256 x 256 images and 1000 classes."""

    depth: int = 12  # blocks
    width: int = 384  # d, width of a token
    heads: int = 6
    patch: int = 2  # side of a patch in latent cells
    size: tuple[int, int] = (32, 32)  # height and width of the latent
    channels: int = 4  # of the latent
    classes: int = 1000  # one more label, the last, means "no label"
    mlp_ratio: float = 4.0
    learn_sigma: bool = True  # twice the channels out: a variance beside the prediction

    def __post_init__(self):
        if self.heads < 1 or self.width % self.heads or self.width % 4:
            raise InputError(f"width={self.width} must be a multiple of heads={self.heads}, and of 4 for the positions")
        check_divisible("height of the latent", self.size[0], self.patch)
        check_divisible("width of the latent", self.size[1], self.patch)

    @property
    def grid(self) -> tuple[int, int]:
        """Tokens along height and width."""
        return self.size[0] // self.patch, self.size[1] // self.patch

    @property
    def channels_out(self) -> int:
        """Channels of the prediction."""
        return self.channels * (2 if self.learn_sigma else 1)


def dit_config(name: str, **changes) -> ImageDiTConfig:
    """The configuration of one of the twelve models, "S/8" to "XL/2"; ``changes`` replaces fields such as size."""
    size, _, patch = name.partition("/")
    if size not in DIT_SIZES or patch not in map(str, DIT_PATCHES):
        raise InputError(f"name={name!r} is none of the twelve; use S, B, L or XL with /2, /4 or /8, such as 'B/2'")
    depth, width, heads = DIT_SIZES[size]
    return ImageDiTConfig(**({"depth": depth, "width": width, "heads": heads, "patch": int(patch)} | changes))


class TimeEmbed(nn.Module):
    """A time becomes 256 waves, then d numbers by two linear layers (DiT, Appendix A)."""

    def __init__(self, width: int):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))

    @checked
    def forward(self, t: Float[Tensor, "b"]) -> Float[Tensor, "b d"]:
        return self.mlp(timestep_embedding(t, 256))


@checked
def drop_labels(
    labels: Int[Tensor, "b"], *, null: int, rate: float, generator: torch.Generator | None = None
) -> Int[Tensor, "b"]:
    """Replace a random share of the labels by ``null``, so that one model learns with and without them (2207.12598).

    rate in [0, 1], 0.1 in the paper. Raises InputError for another rate. For training only.
    """
    if not 0 <= rate <= 1:
        raise InputError(f"rate={rate} is no share of the labels; use 0.1, or another number from 0 to 1")
    dropped = torch.rand(labels.shape, generator=generator, device=labels.device) < rate
    return labels.masked_fill(dropped, null)


class LabelEmbed(nn.Module):
    """A vector for each class, and a last one, number ``classes``, for "no label"."""

    def __init__(self, classes: int, width: int):
        super().__init__()
        self.classes = classes
        self.embed = nn.Embedding(classes + 1, width)
        nn.init.normal_(self.embed.weight, std=0.02)

    @checked
    def forward(self, labels: Int[Tensor, "b"]) -> Float[Tensor, "b d"]:
        if not labels.is_meta and not ((labels >= 0) & (labels <= self.classes)).all():
            got = f"{labels.min()} to {labels.max()}"
            raise InputError(f"labels from {got}; use 0 to {self.classes - 1}, or {self.classes} for no label")
        return self.embed(labels)


class PlainAttention(nn.Module):
    """Multi-head self-attention as in ViT: no norm of queries and keys, no rotary positions, no mask."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        head_width(width, heads)  # refuses what does not divide
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    @checked
    def forward(self, x: Tokens) -> Tokens:
        q, k, v = rearrange(self.qkv(x), "b n (three heads dh) -> three b heads n dh", three=3, heads=self.heads)
        return self.out(rearrange(attend(q, k, v), "b heads n dh -> b n (heads dh)"))


class DiTBlock(nn.Module):
    """Attention and MLP, each shifted, scaled and gated by what time and label say: adaLN-Zero (DiT, figure 3).

    The layer that makes shift, scale and gate starts at zero, so a new block is the identity.
    """

    def __init__(self, width: int, heads: int, *, mlp_ratio: float = 4.0):
        super().__init__()
        hidden = int(mlp_ratio * width)
        self.norm_1 = nn.LayerNorm(width, elementwise_affine=False)
        self.norm_2 = nn.LayerNorm(width, elementwise_affine=False)
        self.attention = PlainAttention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, width))
        self.modulation = nn.Linear(width, 6 * width)
        start_at_zero(self.modulation)

    @checked
    def forward(self, x: Tokens, c: Float[Tensor, "b d"]) -> Tokens:
        six = self.modulation(F.silu(c))[:, None].chunk(6, -1)  #                      b 1 d each
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = six
        x = x + gate_1 * self.attention(modulate(self.norm_1(x), shift_1, scale_1))  # b n d
        return x + gate_2 * self.mlp(modulate(self.norm_2(x), shift_2, scale_2))  #    b n d


class FinalLayer(nn.Module):
    """One more adaptive norm, then a linear layer back to the numbers of a patch; it starts at zero."""

    def __init__(self, width: int, patch_out: int):
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Linear(width, 2 * width)
        self.head = nn.Linear(width, patch_out)
        start_at_zero(self.modulation)
        start_at_zero(self.head)

    @checked
    def forward(self, x: Tokens, c: Float[Tensor, "b d"]) -> Float[Tensor, "b n out"]:
        shift, scale = self.modulation(F.silu(c))[:, None].chunk(2, -1)  #             b 1 d each
        return self.head(modulate(self.norm(x), shift, scale))  #                      b n (ph pw c)


class ImageDiT(nn.Module):
    """DiT: noisy latent image, time and label in; the prediction, and beside it a variance, out.

    The positions are fixed but kept as a parameter without gradient, as in the published code: 675.1M for XL/2
    counts them. Build large ones under ``torch.device("meta")`` where only their size matters.
    """

    def __init__(self, config: ImageDiTConfig | None = None):
        super().__init__()
        self.config = config = config or ImageDiTConfig()
        d = config.width
        p = config.patch
        self.embed = PatchEmbed(config.channels, d, ph=p, pw=p)
        self.positions = nn.Parameter(sincos_nd(config.grid, d), requires_grad=False)
        self.time = TimeEmbed(d)
        self.label = LabelEmbed(config.classes, d)
        self.blocks = nn.ModuleList(DiTBlock(d, config.heads, mlp_ratio=config.mlp_ratio) for _ in range(config.depth))
        self.final = FinalLayer(d, p * p * config.channels_out)

    @checked
    def forward(
        self, x_t: Float[Tensor, "b {self.config.channels} h w"], t: Float[Tensor, "b"], labels: Int[Tensor, "b"]
    ) -> Float[Tensor, "b out h w"]:
        if tuple(x_t.shape[2:]) != self.config.size:
            raise InputError(f"h w = {tuple(x_t.shape[2:])}, but this model's positions are for {self.config.size}")
        x = self.embed(x_t) + self.positions  #                                        b n d
        c = self.time(t) + self.label(labels)  #                                       b d
        for block in self.blocks:
            x = block(x, c)  #                                                         b n d
        x = self.final(x, c)  #                                                        b n (ph pw out)
        p = self.config.patch
        return unpatchify(x, grid=self.config.grid, ph=p, pw=p)  #                     b out h w
