"""``nn.Linear`` by the other of the two libraries with which torch multiplies on a CPU: a benchmark's affair.

torch sends ``nn.Linear`` in fp32 to MKL and convolutions to oneDNN. MKL keeps its 512-bit instructions for Intel's
processors, oneDNN uses them wherever they exist: on an AMD processor with AVX-512 one library reaches twice the other's
speed. A linear layer is a convolution that sees one pixel, so it may go either way. No model of ours does it by itself:
the benchmark puts it into ours and others' alike, so that a table can show what it would change.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LEAST_WORK = 2**24  # multiply-adds; below, starting a convolution costs more than it saves


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``F.linear``, x weight^T + bias: the same sum up to rounding; as a convolution in fp32 on a CPU."""
    plain = x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    if not plain or x.numel() * len(weight) < LEAST_WORK:
        return F.linear(x, weight, bias)
    column = x.reshape(1, -1, 1, x.shape[-1]).permute(0, 3, 1, 2)  # 1 d n 1, channels last: no copy
    y = F.conv2d(column, weight[:, :, None, None], bias)  #           1 out n 1
    return y.permute(0, 2, 3, 1).reshape(*x.shape[:-1], len(weight))


class Linear(nn.Linear):
    """``nn.Linear`` with the same weights, multiplied by ``linear``."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


def swap_linear(module: nn.Module) -> None:
    """Let every plain ``nn.Linear`` of a model multiply by ``linear``; weights and all else stay."""
    for layer in module.modules():
        if type(layer) is nn.Linear:
            layer.__class__ = Linear
