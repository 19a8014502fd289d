"""What a machine can do, and what else it is doing: its kind, matmul peak, load of other programs, memory."""

import contextlib
import ctypes
import platform
import re
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path

import psutil
import torch

from sora_edu.bench.linear import Linear
from sora_edu.bench.rounds import Contestant, do_nothing, time_calls
from sora_edu.compute import can_compile, fast_bf16

MATMUL_SIDES = (512, 1024, 1536, 2048)
PROC = Path("/proc")
BUSY = ("user", "nice", "system", "irq", "softirq", "steal")  # "steal": another guest of the same host had the core


def cores() -> list[int]:
    """The cores that this process may use."""
    process = psutil.Process()
    return process.cpu_affinity() if hasattr(process, "cpu_affinity") else list(range(psutil.cpu_count() or 1))


def other_cpu_seconds() -> float | None:
    """CPU seconds that everybody else has used since boot on the cores open to us; None where no system says it."""
    try:
        times = psutil.cpu_times(percpu=True)
        busy = sum(getattr(times[core], part, 0) for core in cores() for part in BUSY)
    except (OSError, IndexError, NotImplementedError, psutil.Error):
        return None
    return busy - time.process_time()


def describe(device: torch.device, *, fp32: bool = False) -> dict:
    """The machine, as it is told beside every figure."""
    return {
        "kind": kind_of(device, fp32=fp32),
        "processor": processor_name(),
        "cores": len(cores()),
        "threads": torch.get_num_threads(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "fast_bf16": fast_bf16(device),
        "compiler": can_compile(),
        "load_seen": other_cpu_seconds() is not None,
    }


def cpuinfo(field: str) -> str | None:
    """A field of the first processor in /proc/cpuinfo, which psutil does not read; None elsewhere than on Linux."""
    with contextlib.suppress(OSError):
        if found := re.search(rf"^{field}\s*:\s*(.*)$", (PROC / "cpuinfo").read_text(), re.MULTILINE):
            return found[1].strip()
    return None


def processor_name() -> str:
    """What the processor calls itself."""
    return cpuinfo("model name") or platform.processor() or platform.machine()


def kind_of(device: torch.device, *, fp32: bool = False) -> str:
    """The kind of processor that floors are set for, such as "AMD with avx512_bf16".

    fp32: bf16 products are there but were not used, which is said: another processor than this one would be built
    otherwise. Without a C++ compiler nothing is compiled, which makes another kind too.
    """
    if device.type == "cuda":
        kind = torch.cuda.get_device_name(device)
    elif not fast_bf16(device):
        kind = f"{platform.machine()} without bf16"
    else:
        vendor = cpuinfo("vendor_id") or platform.processor()
        maker = "AMD" if "AMD" in vendor else "Intel" if "Intel" in vendor else platform.machine()
        kind = f"{maker} with {'amx' if torch.cpu._is_amx_tile_supported() else 'avx512_bf16'}"
    kind += ", forced to fp32" if fp32 and fast_bf16(device) else ""
    return kind if can_compile() else f"{kind}, nothing compiled"


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
        before = psutil.Process().memory_info().rss
        run()
        status = (PROC / "self/status").read_text()
    except OSError:
        return None
    highest = 1024 * int(re.search(r"VmHWM:\s*(\d+) kB", status)[1])  # psutil knows no high-water mark of Linux
    return max(0, highest - before)
