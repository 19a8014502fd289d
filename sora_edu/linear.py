"""Products that take the faster of the two libraries with which torch multiplies on a CPU.

torch sends ``nn.Linear`` in fp32 to MKL and convolutions to oneDNN. MKL keeps its 512-bit instructions for Intel's
processors, oneDNN uses them wherever they exist: on an AMD processor with AVX-512 one library reaches twice the other's
speed. A linear layer is a convolution that sees one pixel, so it may take either way.
"""

import itertools
import platform
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LEAST_WORK = 2**24  # multiply-adds; below, starting a convolution costs more than it saves
MOST_SCORES = 2**24  # 64 MiB of them; beyond, what holds no scores is worth more than speed


def onednn_is_faster(processor: str | None = None) -> bool:
    """Whether fp32 products gain from oneDNN: AVX-512 on an AMD ``processor`` (this one), in a torch built with MKL."""
    both = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
    if not (both and torch.backends.cpu.get_cpu_capability() == "AVX512"):
        return False
    if processor is None:
        told = Path("/proc/cpuinfo")  # Linux; elsewhere Python knows the maker
        processor = told.read_text() if told.exists() else platform.processor()
    return "AuthenticAMD" in processor


ONEDNN_IS_FASTER = onednn_is_faster()


def by_convolution(x: Tensor, work: int) -> bool:
    """Whether a product of x that takes so many multiply-adds had better be a convolution."""
    plain = x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return ONEDNN_IS_FASTER and plain and work >= LEAST_WORK


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``F.linear``, x weight^T + bias: the same sum up to rounding, as a convolution where that is faster."""
    if not by_convolution(x, x.numel() * len(weight)):
        return F.linear(x, weight, bias)
    column = x.reshape(1, -1, 1, x.shape[-1]).permute(0, 3, 1, 2)  # 1 d n 1, channels last: no copy
    y = F.conv2d(column, weight[:, :, None, None], bias)  #           1 out n 1
    return y.permute(0, 2, 3, 1).reshape(*x.shape[:-1], len(weight))


class Linear(nn.Linear):
    """``nn.Linear`` with the same weights, multiplied by ``linear``."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


def fused_attention(q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """PyTorch's attention, which writes no scores down; head by head where ``linear`` makes that faster."""
    (*heads, n, d), m = q.shape, k.shape[-2]
    if q[..., 0].numel() * m > MOST_SCORES or not by_convolution(q, n * m * d):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    masks = itertools.repeat(None) if mask is None else mask.expand(*heads, n, m).flatten(0, 1)
    outputs = []
    for q_1, k_1, v_1, mask_1 in zip(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), masks, strict=False):
        scores = linear(q_1 * d**-0.5, k_1)  # n m: the keys are the weights of a layer
        if mask_1 is not None:
            scores = scores.masked_fill(~mask_1, float("-inf"))
        outputs.append(linear(scores.softmax(-1), v_1.T))
    return torch.stack(outputs).unflatten(0, heads)
