"""Attention: who may look at whom. Self- and cross-attention, full over spacetime, or first space and then time.

(lesson 04)
"""

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from sora_edu.checked import checked
from sora_edu.errors import InputError
from sora_edu.model.positions import Rope, apply_rope
from sora_edu.shapes import Grid, Tokens, head_width

Heads = Float[Tensor, "b heads n dh"]
Mask = Bool[Tensor, "#b #heads #n m"] | Bool[Tensor, "#heads #n m"] | Bool[Tensor, "#n m"]  # True: looking is allowed


@checked
def attend(
    q: Float[Tensor, "b heads n dh"],
    k: Float[Tensor, "b heads m dh"],
    v: Float[Tensor, "b heads m dh"],
    *,
    mask: Mask | None = None,
) -> Heads:
    """softmax(q k^T / sqrt(dh)) v (Vaswani et al. 1706.03762, eq 1); ``mask`` is True where looking is allowed.

    A query that may look at nobody gets zeros. Short sequences on a CPU take the plain product: forwards and backwards,
    the fused kernel is slower there, in bf16 up to five times.
    """
    short = 450 if v.dtype == torch.bfloat16 else 150  # tokens up to which the plain product won on two cores
    if q.device.type != "cpu" or k.shape[-2] > short:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    if mask is None:
        return scores.softmax(-1).to(v.dtype) @ v
    weights = scores.masked_fill(~mask, float("-inf")).softmax(-1)
    weights = weights.masked_fill(~mask, 0)  # where all of a row is masked, softmax is 0 / 0
    return weights.to(v.dtype) @ v


@checked
def apply_rotary(q: Heads, k: Heads, rope: Rope | None) -> tuple[Heads, Heads]:
    """Turn queries and keys by their positions; None leaves them as they are."""
    return (q, k) if rope is None else (apply_rope(q, *rope), apply_rope(k, *rope))


class SelfAttention(nn.Module):
    """Multi-head self-attention with fused qkv, QK-norm and optional rotary positions.

    QK-norm (2302.05442) bounds q . k by dh times learned gains, so that softmax stays soft while weights grow.
    """

    def __init__(self, d: int, heads: int):
        super().__init__()
        dh = head_width(d, heads)
        self.heads = heads
        self.qkv = nn.Linear(d, 3 * d)
        self.out = nn.Linear(d, d)
        self.norm_q = nn.RMSNorm(dh, eps=1e-6)
        self.norm_k = nn.RMSNorm(dh, eps=1e-6)

    @checked
    def forward(
        self, x: Float[Tensor, "b n {self.out.in_features}"], *, rope: Rope | None = None, mask: Mask | None = None
    ) -> Tokens:
        q, k, v = rearrange(self.qkv(x), "b n (three heads dh) -> three b heads n dh", three=3, heads=self.heads)
        q = self.norm_q(q.to(x.dtype))  # autocast made q and k bf16; the norm keeps to the precision of x
        k = self.norm_k(k.to(x.dtype))
        q, k = apply_rotary(q, k, rope)
        return self.out(rearrange(attend(q, k, v, mask=mask), "b heads n dh -> b n (heads dh)"))


class CrossAttention(nn.Module):
    """Tokens look at a context, such as the words of a prompt; ``mask`` marks the context tokens that count."""

    def __init__(self, d: int, heads: int, d_context: int):
        super().__init__()
        dh = head_width(d, heads)
        self.heads = heads
        self.q = nn.Linear(d, d)
        self.kv = nn.Linear(d_context, 2 * d)
        self.out = nn.Linear(d, d)
        self.norm_q = nn.RMSNorm(dh, eps=1e-6)
        self.norm_k = nn.RMSNorm(dh, eps=1e-6)

    @checked
    def forward(
        self,
        x: Float[Tensor, "b n {self.out.in_features}"],
        context: Float[Tensor, "b m {self.kv.in_features}"],  # what is looked at, such as the words of a prompt
        *,
        mask: Bool[Tensor, "b m"] | None = None,
    ) -> Tokens:
        q = rearrange(self.q(x), "b n (heads dh) -> b heads n dh", heads=self.heads)
        k, v = rearrange(self.kv(context), "b m (two heads dh) -> two b heads m dh", two=2, heads=self.heads)
        mask = None if mask is None else mask[:, None, None]  # b 1 1 m
        q = self.norm_q(q.to(x.dtype))
        k = self.norm_k(k.to(x.dtype))
        y = attend(q, k, v, mask=mask)
        return self.out(rearrange(y, "b heads n dh -> b n (heads dh)"))


class FactorisedAttention(nn.Module):
    """Space, then time: tokens look within their frame, then along their column (ViViT 2103.15691, model 3)."""

    def __init__(self, d: int, heads: int):
        super().__init__()
        self.space = SelfAttention(d, heads)
        self.time = SelfAttention(d, heads)

    @checked
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
