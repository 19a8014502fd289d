"""The VideoDiT: a transformer that sees noisy spacetime patches, a time and a text, and predicts their velocity.

DiT (Peebles and Xie 2212.09748) on a latent video, with adaLN-single and cross-attention to the words as in
PixArt (2310.00426), rotary positions, and the mean of the words added to the time so that they steer early (lesson 08).
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from sora_edu.checked import checked
from sora_edu.config import DiTConfig, TextConfig
from sora_edu.errors import InputError
from sora_edu.model.attention import CrossAttention, SelfAttention
from sora_edu.model.layers import start_at_zero
from sora_edu.model.positions import Rope, rope_nd, sincos_nd
from sora_edu.model.spacetime import patchify_video, token_grid, unpatchify_video
from sora_edu.model.text import TextEncoder, TextState
from sora_edu.shapes import Grid, Latent, Times


@checked
def timestep_embedding(t: Times, d: int, *, max_period: float = 10_000.0) -> Float[Tensor, "*times d"]:
    """cos and sin of 1000 t at d/2 frequencies: neighbouring times look alike, distant ones do not (DDPM, DiT)."""
    frequency = torch.exp(-math.log(max_period) * torch.arange(d // 2, device=t.device) / (d // 2))
    angle = 1000 * t.float()[..., None] * frequency
    return torch.cat((angle.cos(), angle.sin()), -1)


@checked
def modulate(
    x: Float[Tensor, "b *n d"], shift: Float[Tensor, "b *#n d"], scale: Float[Tensor, "b *#n d"]
) -> Float[Tensor, "b *n d"]:
    """``x * (1 + scale) + shift``; after a norm without own weights it is adaptive layer norm (DiT, section 3.2)."""
    return x * (1 + scale) + shift


class VideoDiTBlock(nn.Module):
    """Self-attention over spacetime, cross-attention to the words, MLP; shift, scale and gate from time and text.

    adaLN-single: one network, shared by all blocks, gives six vectors; each block adds its own table to them.
    Tables and networks start at zero, so a new block is the identity. Tokens come in g groups of p that share their
    six: all of a clip in one group, or those of each frame in one.
    """

    def __init__(self, config: DiTConfig):
        super().__init__()
        d = config.width
        hidden = int(config.mlp_ratio * d)
        self.norm_1 = nn.LayerNorm(d, elementwise_affine=False)
        self.norm_2 = nn.LayerNorm(d, elementwise_affine=False)
        self.attention = SelfAttention(d, config.heads)
        self.cross = CrossAttention(d, config.heads, config.text_width)
        self.mlp = nn.Sequential(nn.Linear(d, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, d))
        self.norm_cross = nn.LayerNorm(d)
        self.scale_shift_table = nn.Parameter(torch.zeros(6, d))
        start_at_zero(self.cross.out)

    @checked
    def forward(
        self, x: Float[Tensor, "b g p d"], modulation: Float[Tensor, "b g 6 d"], text: TextState, rope: Rope
    ) -> Float[Tensor, "b g p d"]:
        six = (modulation + self.scale_shift_table)[:, :, :, None].unbind(2)  #          b g 1 d each
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = six
        y = modulate(self.norm_1(x), shift_1, scale_1).flatten(1, 2)  #                  b n d
        x = x + gate_1 * self.attention(y, rope=rope).view_as(x)
        y = self.norm_cross(x).flatten(1, 2)  #                                          b n d
        x = x + self.cross(y, text.words, mask=text.mask).view_as(x)
        return x + gate_2 * self.mlp(modulate(self.norm_2(x), shift_2, scale_2))


class VideoDiT(nn.Module):
    """Velocity of a noisy latent video, given the time and the text; any grid that the patch divides.

    A time of its own for each latent frame lets some be known, at t = 0, while others are still noise
    (Diffusion Forcing, 2407.01392). With ``config.side``, places are measured so that the shorter side of any canvas
    is as long, and a vector tells by how much it was scaled.
    """

    def __init__(self, config: DiTConfig | None = None):
        super().__init__()
        self.config = config = config or DiTConfig()
        d = config.width
        patch_dim = math.prod(config.patch) * config.channels
        self.embed = nn.Linear(patch_dim, d)
        self.time = nn.Sequential(nn.Linear(256, d), nn.SiLU(), nn.Linear(d, d))
        self.text = nn.Linear(config.text_width, d)
        self.modulation = nn.Linear(d, 6 * d)
        self.blocks = nn.ModuleList(VideoDiTBlock(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(d, elementwise_affine=False)
        self.final_modulation = nn.Linear(d, 2 * d)
        self.head = nn.Linear(d, patch_dim)
        self.canvas = nn.Parameter(torch.randn(d)) if config.side else None
        for layer in (self.modulation, self.final_modulation, self.head):
            start_at_zero(layer)

    @checked
    def grid(self, x_t: Latent) -> Grid:
        """Tokens along frames, height and width for a latent of this shape."""
        pf, ph, pw = self.config.patch
        return token_grid(tuple(x_t.shape[2:]), pf=pf, ph=ph, pw=pw)

    @checked
    def forward(self, x_t: Float[Tensor, "b {self.config.channels} lf lh lw"], t: Times, text: TextState) -> Latent:
        d, heads = self.config.width, self.config.heads
        pf, ph, pw = self.config.patch
        grid = self.grid(x_t)
        if x_t.dtype != self.embed.weight.dtype and not torch.is_autocast_enabled(x_t.device.type):
            raise InputError(f"x_t is {x_t.dtype}, the weights are {self.embed.weight.dtype}; give both one type")
        if t.ndim == 2 and pf > 1:
            raise InputError(f"t has a time for each latent frame, but a token spans {pf}; give one time for each clip")
        zoom = self.config.side / min(x_t.shape[3:]) if self.config.side else 1.0
        at = {"spacing": (1.0, zoom, zoom), "device": x_t.device}
        rope = rope_nd(grid, d // heads, **at)  #                                        n dh/2 each
        places = sincos_nd(grid, d, theta=100.0, **at)  #                                n d
        x = self.embed(patchify_video(x_t, pf=pf, ph=ph, pw=pw))  #                      b n d
        x = x + places.to(x.dtype)  # rotary knows distances alone: it cannot see the walls
        t = t.reshape(len(t), -1)  #                                                     b g, g is 1 or lf
        x = x.unflatten(1, (t.shape[1], -1))  #                                          b g p d
        c = self.time(timestep_embedding(t, 256)) + self.text(text.pooled)[:, None]  #   b g d
        if self.canvas is not None:
            c = c + math.log2(zoom) * self.canvas  # the size of a thing in tokens depends on it
        c = F.silu(c)
        modulation = self.modulation(c).unflatten(2, (6, d))  #                          b g 6 d
        for block in self.blocks:
            x = block(x, modulation, text, rope)  #                                      b g p d
        shift, scale = self.final_modulation(c)[:, :, None].chunk(2, -1)  #              b g 1 d each
        x = self.head(modulate(self.norm(x), shift, scale)).flatten(1, 2)  #             b n (pf ph pw c)
        return unpatchify_video(x, grid=grid, pf=pf, ph=ph, pw=pw)  #                    b c f h w


class TextToVideo(nn.Module):
    """Text encoder and VideoDiT, trained as one: word ids in, velocity out."""

    def __init__(self, dit: DiTConfig, text: TextConfig, vocabulary: int):
        super().__init__()
        self.text = TextEncoder(text, vocabulary)
        self.dit = VideoDiT(dit)

    @checked
    def forward(self, x_t: Latent, t: Times, ids: Int[Tensor, "b l"], mask: Bool[Tensor, "b l"]) -> Latent:
        return self.dit(x_t, t, self.text(ids, mask))
