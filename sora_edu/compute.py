"""Where tensors are computed and how: the device, its precision, compiled blocks, and memory that ran out.

Nothing here knows of training: a clip is drawn with the same helpers (lesson 10).
"""

import os
import shutil
import warnings
from functools import cache

import torch
from torch import nn

from sora_edu.errors import InputError, RunWarning

LONG = 1000  # steps from which a training earns back the minute that compiling takes


# --- the device -------------------------------------------------------------------------------------------------------


def choose_device(device: str | None, *, world: int = 1, local: int = 0) -> torch.device:
    """The device of a process: the GPU of its number on this machine, or the processor.

    world: processes that train together; local: this one's number on its machine. Raises InputError where there is
    no such device, or where so many processes cannot share it.
    """
    try:
        chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:
        raise InputError(f"--device {device!r} is unknown; use cpu, cuda or mps") from error
    if chosen.type == "meta":
        raise InputError("--device meta holds no numbers; use cpu, or leave it out")
    if world == 1:
        try:
            torch.empty(1, device=chosen)
        except (RuntimeError, AssertionError) as error:
            why = str(error).splitlines()[0].rstrip(".")
            raise InputError(f"--device {chosen} cannot be used here ({why}); use cpu, or leave it out") from error
        return chosen
    if chosen.type not in ("cpu", "cuda") or chosen.index is not None:
        raise InputError(f"--device {chosen} cannot be used by several processes; use cpu, or cuda for a GPU each")
    if chosen.type == "cpu":
        return chosen
    if local >= (found := torch.cuda.device_count()):
        raise InputError(f"process {local + 1} of this machine has no GPU: there are {found}; use that many processes")
    return torch.device("cuda", local)


def out_of_memory(error: RuntimeError) -> bool:
    """Whether a RuntimeError is the CPU's or the GPU's way to say that memory ran out."""
    words = ("not enough memory", "can't allocate memory")  # Windows and the rest
    return isinstance(error, torch.cuda.OutOfMemoryError) or any(part in str(error) for part in words)


# --- precision --------------------------------------------------------------------------------------------------------


def fast_bf16(device: torch.device) -> bool:
    """Whether bf16 pays: on GPUs, and on CPUs that multiply in bf16."""
    check = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return device.type == "cuda" or bool(check())


def autocast(device: torch.device) -> torch.autocast:
    """Mixed precision where it pays: matrix products in bf16, weights and sums in fp32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=fast_bf16(device))


# --- compilation ------------------------------------------------------------------------------------------------------


def can_compile() -> bool:
    """Whether torch.compile has a C++ compiler to call; ``compiler_works`` tells whether it can use it."""
    return any(shutil.which(name) for name in (os.environ.get("CXX", "c++"), "g++", "clang++"))


@cache
def compiler_works() -> bool:
    """Whether torch.compile makes code that runs here: tried once, on a small layer; where it fails, a note says so.

    A compiler may be there and useless: CXX names another one, headers are missing, a path has a space in it.
    """
    if not can_compile():
        return False
    layer = nn.Sequential(nn.Linear(8, 8), nn.GELU())
    try:
        with torch.no_grad():
            torch.compile(layer, dynamic=False)(torch.zeros(2, 8))
    except Exception as error:  # whatever a broken tool chain raises
        torch._dynamo.reset()
        why = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        mend = "; it takes an environment whose path has no space" if " " in torch.__file__ else ""
        warnings.warn(f"torch.compile fails here ({why[:200]}); going on without it, more slowly{mend}", RunWarning, 2)
        return False
    return True


def should_compile(steps: int, wish: bool | None) -> bool:
    """As wished; else where so many steps earn back the minute that compiling takes. Never where compiling fails."""
    return (steps >= LONG if wish is None else wish) and compiler_works()


def compile_blocks(module: nn.Module, block_types: tuple[type, ...], *, mode: str | None = None) -> None:
    """Compile every block of these types in place.

    mode is torch.compile's: "reduce-overhead" records CUDA graphs, one launch for all kernels of a block.
    """
    compile_each([block for block in module.modules() if isinstance(block, block_types)], mode=mode)


def compile_each(blocks: list[nn.Module], *, mode: str | None = None) -> None:
    """Compile blocks in place; each has static shapes, so each compiles once per batch shape."""
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 64)
    for block in blocks:
        block.compile(dynamic=False, mode=mode)
