"""What a machine can do, and what else it is doing: matmul peak, load of other programs, memory."""

import contextlib
import ctypes
import os
import platform
import re
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path

import torch

from sora_edu.bench.linear import Linear
from sora_edu.bench.rounds import Contestant, do_nothing, time_calls
from sora_edu.compute import can_compile, fast_bf16

MATMUL_SIDES = (512, 1024, 1536, 2048)
PROC = Path("/proc")


def other_cpu_seconds() -> float | None:
    """CPU seconds that everybody else has used since boot on the cores open to us; None where no /proc says it."""
    try:
        lines = (PROC / "stat").read_text().splitlines()
        cores, tick = os.sched_getaffinity(0), os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, ValueError):
        return None
    own = time.process_time()
    busy = sum(busy_ticks(line) for line in lines if (m := re.match(r"cpu(\d+) ", line)) and int(m[1]) in cores)
    return busy / tick - own


def busy_ticks(line: str) -> int:
    """Ticks of one line of /proc/stat in which a core worked, or another guest of its host had it ("steal")."""
    user, nice, system, _idle, _wait, irq, softirq, steal = map(int, line.split()[1:9])
    return user + nice + system + irq + softirq + steal


def describe(device: torch.device) -> dict:
    """The machine, as it stands beside every figure."""
    try:
        text = (PROC / "cpuinfo").read_text()
        model = re.search(r"model name\s*:\s*(.*)", text)[1]
    except (OSError, TypeError):
        model = platform.processor() or platform.machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": model,
        "cores": cores,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "fast_bf16": fast_bf16(device),
        "compiler": can_compile(),
        "load_seen": other_cpu_seconds() is not None,
    }


def settler(device: torch.device) -> Callable[[], object]:
    """What to call so that all that was asked of a device is done."""
    return torch.cuda.synchronize if device.type == "cuda" else do_nothing


def matmul(side: int, dtype: torch.dtype, device: torch.device) -> Callable[[], torch.Tensor]:
    """A product of two square matrices, into memory that is already there."""
    generator = torch.Generator(device).manual_seed(0)
    a, b = (torch.randn(side, side, generator=generator, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    return lambda: torch.mm(a, b, out=out)


def layer_matmul(side: int, dtype: torch.dtype, device: torch.device) -> Callable[[], torch.Tensor]:
    """The same product as a convolution, which torch may hand to another library."""
    layer = Linear(side, side, bias=False, dtype=dtype, device=device).requires_grad_(False)
    x = torch.randn(side, side, device=device).to(dtype)
    return lambda: layer(x)


def matmul_peak(dtype: torch.dtype, device: torch.device, *, sides: tuple[int, ...] = MATMUL_SIDES) -> Contestant:
    """The square product with the most FLOP/s, a contestant as the others: the ceiling that shares refer to."""
    best, rate = None, 0.0
    for side, make in product(sides, (matmul, layer_matmul)):
        run, flops = make(side, dtype, device), 2 * side**3
        run()
        seconds = min(time_calls(run, 1, clock=time.perf_counter, settle=settler(device)) for _ in range(5))
        if flops / seconds > rate:
            rate = flops / seconds
            name = f"matmul {str(dtype).removeprefix('torch.').replace('float32', 'fp32').replace('bfloat16', 'bf16')}"
            best = Contestant(name, run, flops=flops, work=1, unit="product", peak=name)
    return best


def keep_memory() -> None:
    """Let glibc keep freed memory for the next step: else it may fetch thousands of fresh pages in each (no others)."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        for threshold in (-1, -3):  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
            libc.mallopt(threshold, 2**30)


def peak_memory(run: Callable[[], object], device: torch.device) -> int | None:
    """Bytes by which one call exceeds what is held before it; None where the system does not count them.

    On Linux the kernel's high-water mark is set back first, and memory freed earlier given back to it.
    """
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    try:
        with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
            ctypes.CDLL("libc.so.6").malloc_trim(0)
        (PROC / "self/clear_refs").write_text("5")
        before = resident("VmRSS")
        run()
        return max(0, resident("VmHWM") - before)
    except OSError:
        return None


def resident(field: str) -> int:
    """Bytes of memory of this process: VmRSS now, VmHWM at its highest."""
    return 1024 * int(re.search(rf"{field}:\s*(\d+) kB", (PROC / "self/status").read_text())[1])
