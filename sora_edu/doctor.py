"""`sora-edu doctor`: what this machine offers, what is wrong with it, and how to mend each fault."""

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sora_edu.errors import printable

GIB = 2**30


@dataclass(frozen=True)
class Finding:
    """One line of the report. A problem stops something from working; a note is only worth knowing."""

    name: str
    detail: str
    state: str = "ok"  # "ok", "note" or "problem"
    mend: str = ""  # what to do about it


def check_python() -> Iterator[Finding]:
    detail = f"{platform.python_version()} at {sys.prefix}, {platform.system()} {platform.machine()}"
    yield Finding("Python", detail)  # pip has refused an older one already


def check_torch() -> Iterator[Finding]:
    import torch

    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU only" if not torch.version.hip else "ROCm"
    yield Finding("torch", f"{torch.__version__}, build: {build}, {torch.get_num_threads()} threads")
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    devices += ["Apple GPU (mps)"] if torch.backends.mps.is_available() else []
    if not devices and shutil.which("nvidia-smi"):
        mend = "there seems to be an NVIDIA card: update its driver, or install the CUDA build of torch"
        yield Finding("devices", f"CPU with {os.cpu_count()} cores; no GPU that torch can use", "note", mend)
    else:
        yield Finding("devices", ", ".join([f"CPU with {os.cpu_count()} cores", *devices]))


def check_torchvision() -> Iterator[Finding]:
    from sora_edu import torchvision_repair

    version = importlib.metadata.version("torchvision")
    try:
        from torchvision import transforms  # noqa: F401
    except Exception as error:
        mend = "install the torch and torchvision of constraints.txt; they are released in pairs"
        yield Finding("torchvision", f"{version} does not import: {error}", "problem", mend)
        return
    if torchvision_repair.repaired():
        detail = f"{version}, repaired: its compiled operators do not load beside this torch"
        mend = "nothing to do: transforms work once sora_edu is imported; nms and the detection models do not"
        yield Finding("torchvision", detail, "note", mend)
    else:
        yield Finding("torchvision", f"{version}, as built")


def check_pyav() -> Iterator[Finding]:
    import av

    missing = sorted({"libx264", "libvpx-vp9"} - set(av.codecs_available))
    if missing:
        mend = "mp4 cannot be written; install PyAV from a wheel (pip install av), or write .gif, .png or .webp"
        yield Finding("PyAV", f"{av.__version__}, without {', '.join(missing)}", "note", mend)
    else:
        yield Finding("PyAV", f"{av.__version__}, FFmpeg's libraries included")


def check_kernel() -> Iterator[Finding]:
    mend = 'for the lessons: pip install -c constraints.txt -e ".[lab]"'
    try:
        version = importlib.metadata.version("ipykernel")
        from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
    except ImportError as error:
        yield Finding("Jupyter kernel", f"not installed ({error.name or error})", "note", mend)
        return
    try:
        spec = KernelSpecManager().get_kernel_spec("python3")
    except NoSuchKernel:
        yield Finding("Jupyter kernel", f"ipykernel {version}, but no kernel named python3", "problem", mend)
        return
    python = shutil.which(spec.argv[0]) if os.path.isabs(spec.argv[0]) else sys.executable
    if python is None or not os.path.samefile(os.path.dirname(python), os.path.dirname(sys.executable)):
        mend = f"remove the kernel found before this one: jupyter kernelspec remove python3 ({spec.resource_dir})"
        yield Finding("Jupyter kernel", f"python3 starts another Python: {spec.argv[0]}", "problem", mend)
    else:
        yield Finding("Jupyter kernel", f"ipykernel {version}, python3 at {spec.resource_dir}")


def check_disk() -> Iterator[Finding]:
    free = shutil.disk_usage(Path.cwd()).free / GIB
    few, least = free < 2, free < 0.2  # a training run keeps a few checkpoints with optimiser state
    mend = "free some space before training: old runs lie in runs/" if few else ""
    yield Finding("free disk", f"{free:.1f} GiB here", "problem" if least else "note" if few else "ok", mend)


def available_memory() -> float:
    """Memory in GiB that a new process may take, within the limit of a container where there is one."""
    import psutil

    memory = psutil.virtual_memory().available
    with suppress(OSError, ValueError):  # no container, or one without a limit ("max"); psutil does not look
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        memory = min(memory, limit - int(Path("/sys/fs/cgroup/memory.current").read_text()))
    return memory / GIB


def check_memory() -> Iterator[Finding]:
    memory = available_memory()
    if memory < 2:
        mend = "close other programs (each open notebook keeps its kernel); lessons need about 2 GiB"
        yield Finding("free memory", f"{memory:.1f} GiB", "note", mend)
    else:
        yield Finding("free memory", f"{memory:.1f} GiB")


def check_checkpoints() -> Iterator[Finding]:
    from sora_edu.checkpoint import shipped_checkpoints, verify

    shipped = shipped_checkpoints()
    if not shipped:
        mend = "work from a clone of the repository (pip install -e), or train one: sora-edu train --out runs/mine"
        yield Finding("checkpoints", "none found", "problem", mend)
    for name, path in shipped.items():
        try:
            checksum = verify(path)
        except Exception as error:
            mend = f"fetch it again: git checkout -- data/checkpoints/{name}"
            yield Finding(f"checkpoint {name}", str(error), "problem", mend)
        else:
            yield Finding(
                f"checkpoint {name}", f"SHA-256 {checksum[:12]}... right, {path.stat().st_size / 1e6:.1f} MB at {path}"
            )


CHECKS: dict[str, Callable[[], Iterator[Finding]]] = {
    "Python": check_python,
    "torch": check_torch,
    "torchvision": check_torchvision,
    "PyAV": check_pyav,
    "Jupyter kernel": check_kernel,
    "free disk": check_disk,
    "free memory": check_memory,
    "checkpoints": check_checkpoints,
}


def examine() -> list[Finding]:
    """Run every check; a check that fails to run is itself a finding."""
    findings = []
    for name, check in CHECKS.items():
        try:
            findings += check()
        except Exception as error:
            mend = 'install the packages again: pip install -c constraints.txt -e ".[lab,dev]"'
            findings.append(Finding(name, f"{type(error).__name__}: {error}", "problem", mend))
    return findings


def report(findings: list[Finding]) -> str:
    """The findings as aligned lines, each mend below its finding, and a last line that sums up."""
    width = max((len(finding.name) for finding in findings), default=0)
    lines = []
    for finding in findings:
        lines.append(f"{finding.state:<8}{finding.name:<{width}}  {printable(' '.join(finding.detail.split()))}")
        if finding.mend:
            lines.append(f"{'':<8}{'':<{width}}  -> {printable(finding.mend)}")
    problems = sum(finding.state == "problem" for finding in findings)
    lines.append(f"{problems} problem{'s' * (problems != 1)}" if problems else "all is well")
    return "\n".join(lines)
