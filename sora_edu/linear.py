"""A linear layer whose products take the faster of the two libraries that torch multiplies with on a CPU.

torch sends ``nn.Linear`` in fp32 to MKL and convolutions to oneDNN. MKL keeps its 512-bit instructions for Intel's
processors, oneDNN uses them wherever they exist: on an AMD processor with AVX-512 one library reaches twice the other's
speed. A linear layer is a convolution that sees one pixel, so it may take either way.
"""

import platform
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LEAST_WORK = 2**24  # multiply-adds; below, starting a convolution costs more than it saves


def onednn_is_faster(processor: str | None = None) -> bool:
    """Whether fp32 products gain from oneDNN: AVX-512 on an AMD ``processor`` (this one), in a torch built with MKL."""
    if processor is None:
        told = Path("/proc/cpuinfo")  # Linux; elsewhere Python knows the maker
        processor = told.read_text() if told.exists() else platform.processor()
    both = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
    return both and "AuthenticAMD" in processor and torch.backends.cpu.get_cpu_capability() == "AVX512"


ONEDNN_IS_FASTER = onednn_is_faster()


class Linear(nn.Linear):
    """``nn.Linear``: the same weights and the same sum up to rounding, as a convolution where that is faster."""

    def forward(self, x: Tensor) -> Tensor:
        plain = x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        if not (ONEDNN_IS_FASTER and plain and x.numel() * self.out_features >= LEAST_WORK):
            return super().forward(x)
        column = x.reshape(1, -1, 1, x.shape[-1]).permute(0, 3, 1, 2)  # 1 d n 1, channels last: no copy
        y = F.conv2d(column, self.weight[:, :, None, None], self.bias)
        return y.permute(0, 2, 3, 1).reshape(*x.shape[:-1], self.out_features)
