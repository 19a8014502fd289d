"""What a device multiplies at most, and what share of that a training reaches: from datasheets, or measured here.

(lesson 10)
"""

import math
import time
from dataclasses import dataclass, replace

import torch

from sora_edu.compute import fast_bf16
from sora_edu.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Device:
    """One device to train on, and where its figures come from."""

    memory: float = math.inf  # bytes
    peak: float  # FLOP/s of matrix products, at most
    peak_from: str = "its datasheet, dense bf16"
    share: float = 0.2  # of that peak, over a whole training step
    share_from: str = "assumed for small models"
    bandwidth: float = 50e9  # bytes a second that one device sends to the next
    bandwidth_from: str = "assumed, a fraction of its links"
    least: float = 0.01  # seconds that a step takes however small it is: launches, drawing, optimiser
    least_from: str = "assumed"


DEVICES = {
    "h200": Device(memory=141e9, peak=989e12, bandwidth=200e9),
    "h100": Device(memory=80e9, peak=989e12, bandwidth=200e9),
    "a100": Device(memory=80e9, peak=312e12, bandwidth=150e9),
    "rtx4090": Device(memory=24e9, peak=165e12, bandwidth=10e9),
    "l4": Device(memory=24e9, peak=121e12, bandwidth=10e9),
}
CPU_SHARES = {torch.float32: 0.57, torch.bfloat16: 0.33}  # whole steps on two cores; bf16: the tiny preset, compiled


def measured_cpu(sides: tuple[int, ...] = (512, 1024)) -> Device:
    """This machine's processor, by the best of several products of two matrices; let it rest meanwhile."""
    dtype = torch.bfloat16 if fast_bf16(torch.device("cpu")) else torch.float32
    name = str(dtype).removeprefix("torch.")
    return Device(
        peak=max(product_rate(side, dtype) for side in sides),
        peak_from=f"measured just now, {name}",
        share=CPU_SHARES[dtype],
        share_from=f"measured on two cores, {name}",
        least=0.0,
        least_from="nothing assumed",
    )


def product_rate(side: int, dtype: torch.dtype, *, rounds: int = 12) -> float:
    """FLOP/s of the fastest of several products of two square matrices, into memory that is already there."""
    a, b = (torch.full((side, side), 0.5, dtype=dtype) for _ in range(2))
    out, times = torch.empty_like(a), []
    for _ in range(rounds):
        started = time.perf_counter()
        torch.mm(a, b, out=out)
        times.append(time.perf_counter() - started)
    return 2 * side**3 / min(times)


def find_device(name: str, *, peak: float | None = None, share: float | None = None) -> Device:
    """A device by name, with its peak (FLOP/s) and share replaced where given; InputError where they cannot be."""
    if name != "cpu" and name not in DEVICES:
        raise InputError(f"device {name!r} is unknown; use cpu, {', '.join(DEVICES)}, or the nearest one with --tflops")
    if peak is not None and not 0 < peak < math.inf:
        raise InputError(f"a peak of {peak / 1e12:g} TFLOP/s is none; give a positive number")
    if share is not None and not 0 < share <= 1:
        raise InputError(f"share={share} of the peak must lie above 0 and up to 1, such as 0.3")
    device = measured_cpu() if name == "cpu" else DEVICES[name]
    if peak is not None:
        device = replace(device, peak=peak, peak_from="given")
    return device if share is None else replace(device, share=share, share_from="given")
