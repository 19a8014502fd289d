"""Attention: who may look at whom. Self- and cross-attention, full over spacetime, or first space and then time."""

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from sora_edu.errors import InputError
from sora_edu.positions import apply_rope
from sora_edu.shapes import Grid, Tokens

Heads = Float[Tensor, "b heads n dh"]


def attend(
    q: Float[Tensor, "b heads n dh"],
    k: Float[Tensor, "b heads m dh"],
    v: Float[Tensor, "b heads m dh"],
    *,
    mask: Bool[Tensor, "..."] | None = None,
) -> Float[Tensor, "b heads n dh"]:
    """softmax(q k^T / sqrt(dh)) v (Vaswani et al. 1706.03762, eq 1); ``mask`` is True where looking is allowed.

    Short sequences on a CPU take the plain product: the fused kernel's bf16 backward is slower below 1,000 tokens.
    """
    if q.device.type != "cpu" or k.shape[-2] > 1000:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return scores.softmax(-1).to(v.dtype) @ v


class HeadNorm(nn.Module):
    """RMS norm over a head's channels: bounds q . k, so that attention stays stable in bf16 (QK-norm, 2302.05442)."""

    def __init__(self, head_dim: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(head_dim))

    def forward(self, x: Heads) -> Heads:
        return F.rms_norm(x, (x.shape[-1],), self.weight.to(x.dtype), eps=1e-6)


def apply_rotary(q: Heads, k: Heads, rope: tuple[Tensor, Tensor] | None) -> tuple[Heads, Heads]:
    """Turn queries and keys by their positions; None leaves them as they are."""
    return (q, k) if rope is None else (apply_rope(q, *rope), apply_rope(k, *rope))


class SelfAttention(nn.Module):
    """Multi-head self-attention with fused qkv, QK-norm and optional rotary positions."""

    def __init__(self, d: int, heads: int):
        super().__init__()
        if d % heads:
            raise InputError(
                f"d={d} is not a multiple of heads={heads}; use d={max(1, d // heads) * heads} or other heads"
            )
        self.heads = heads
        self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.norm_q, self.norm_k = HeadNorm(d // heads), HeadNorm(d // heads)

    def forward(
        self, x: Tokens, *, rope: tuple[Tensor, Tensor] | None = None, mask: Bool[Tensor, "..."] | None = None
    ) -> Tokens:
        q, k, v = rearrange(self.qkv(x), "b n (three heads dh) -> three b heads n dh", three=3, heads=self.heads)
        q, k = apply_rotary(self.norm_q(q), self.norm_k(k), rope)
        return self.out(rearrange(attend(q, k, v, mask=mask), "b heads n dh -> b n (heads dh)"))


class CrossAttention(nn.Module):
    """Tokens look at a context, such as the words of a prompt; ``mask`` marks the context tokens that count."""

    def __init__(self, d: int, heads: int, d_context: int):
        super().__init__()
        if d % heads:
            raise InputError(
                f"d={d} is not a multiple of heads={heads}; use d={max(1, d // heads) * heads} or other heads"
            )
        self.heads = heads
        self.q, self.kv, self.out = nn.Linear(d, d), nn.Linear(d_context, 2 * d), nn.Linear(d, d)
        self.norm_q, self.norm_k = HeadNorm(d // heads), HeadNorm(d // heads)

    def forward(
        self, x: Tokens, context: Float[Tensor, "b m dc"], *, mask: Bool[Tensor, "b m"] | None = None
    ) -> Tokens:
        q = rearrange(self.q(x), "b n (heads dh) -> b heads n dh", heads=self.heads)
        k, v = rearrange(self.kv(context), "b m (two heads dh) -> two b heads m dh", two=2, heads=self.heads)
        mask = None if mask is None else mask[:, None, None]
        y = attend(self.norm_q(q), self.norm_k(k), v, mask=mask)
        return self.out(rearrange(y, "b heads n dh -> b n (heads dh)"))


class FactorisedAttention(nn.Module):
    """Space, then time: tokens look within their frame, then along their column (ViViT 2103.15691, model 3)."""

    def __init__(self, d: int, heads: int):
        super().__init__()
        self.space, self.time = SelfAttention(d, heads), SelfAttention(d, heads)

    def forward(self, x: Tokens, *, grid: Grid) -> Tokens:
        nf, nh, nw = grid
        if nf * nh * nw != x.shape[1]:
            raise InputError(
                f"grid={grid} has {nf * nh * nw} cells, but there are n={x.shape[1]} tokens; pass the grid of these"
            )
        x = rearrange(x, "b (f s) d -> (b f) s d", f=nf)
        x = x + self.space(x)
        x = rearrange(x, "(b f) s d -> (b s) f d", f=nf)
        x = x + self.time(x)
        return rearrange(x, "(b s) f d -> b (f s) d", s=nh * nw)
