"""One training loop for the VAE and the transformer: warm-up, EMA, mixed precision, exact resume.

Every step draws its randomness from a generator seeded by (seed, stage, step), so a run that was killed and
resumed goes on bit by bit as if nothing had happened.
"""

import contextlib
import copy
import json
import math
import os
import shutil
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from sora_edu.checkpoint import load_tensors, save_tensors
from sora_edu.config import TrainConfig
from sora_edu.errors import CheckpointError, TrainingError
from sora_edu.optimiser import make_optimisers, pack_optimisers, set_rates, unpack_optimisers

BAD_STEPS = 5  # steps in a row that may be skipped because loss or gradient are not finite


@dataclass(frozen=True)
class Stage:
    """What the loop trains: a module, and a function from (module, generator) to a dict of scalars with "loss"."""

    name: str  # names the files in the run's folder
    number: int  # keeps the stages' random numbers apart
    module: nn.Module
    losses: Callable[[nn.Module, torch.Generator], dict[str, Tensor]]
    config: TrainConfig
    look: Callable[[nn.Module, int], dict] | None = None  # samples of the EMA and figures for the log
    look_every: int = 1000  # steps between looks


def rate_share(step: int, config: TrainConfig) -> float:
    """Share of the peak rate at a step: linear warm-up, 1, then linear to zero over the last share ``decay``."""
    up = min(1.0, (step + 1) / max(1, config.warmup))
    down = min(1.0, (config.steps - step) / max(1.0, config.decay * config.steps))
    return min(up, down)


def mixed_seed(*numbers: int) -> int:
    """32 bits that change with every one of the numbers (each at least 0)."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def step_generator(seed: int, stage: int, step: int, device: torch.device | str = "cpu") -> torch.Generator:
    """The randomness of one step, and of nothing else. Mixed to 32 bits: torch's CPU generator ignores the rest."""
    return torch.Generator(device).manual_seed(mixed_seed(seed, stage, step))


@torch.no_grad()
def update_ema(ema: nn.Module, module: nn.Module, decay: float) -> None:
    """ema = decay * ema + (1 - decay) * module, for all parameters in one call; buffers are copied."""
    torch._foreach_lerp_(list(ema.parameters()), list(module.parameters()), 1 - decay)
    for kept, new in zip(ema.buffers(), module.buffers(), strict=True):
        kept.copy_(new)


def fast_bf16(device: torch.device) -> bool:
    """Whether bf16 pays: on GPUs, and on CPUs that multiply in bf16."""
    check = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return device.type == "cuda" or bool(check())


def autocast(device: torch.device) -> torch.autocast:
    """Mixed precision where it pays: matrix products in bf16, weights and sums in fp32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=fast_bf16(device))


def can_compile() -> bool:
    """Whether torch.compile has a C++ compiler to call."""
    return any(shutil.which(name) for name in (os.environ.get("CXX", "c++"), "g++", "clang++"))


@contextlib.contextmanager
def locked(folder: Path):
    """Hold the run's folder against a second run; the lock falls with the process, kill -9 included."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / ".lock", "w")
    except OSError as error:
        raise TrainingError(f"cannot write to {folder}: {error.strerror}; choose another --out") from error
    with file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # Windows: no lock, and nothing else that depends on one
            pass
        except OSError as error:
            raise TrainingError(f"{folder} is in use by another run; wait for it or choose another --out") from error
        yield


class Interrupt:
    """Defers Ctrl-C and SIGTERM to the end of a step, so that weights are never half updated."""

    def __enter__(self) -> "Interrupt":
        self.received = None
        self.previous = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self.previous[number] = signal.signal(number, self._receive)
        return self

    def _receive(self, number, frame) -> None:
        self.received = number

    def __exit__(self, *_) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def act(self) -> None:
        """Raise what was deferred: KeyboardInterrupt, or exit status 143 after SIGTERM."""
        if self.received == signal.SIGTERM:
            sys.exit(128 + signal.SIGTERM)
        if self.received is not None:
            raise KeyboardInterrupt


def pack_state(module: nn.Module, ema: nn.Module, optimisers: list[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """All tensors of a training state under flat names: model.*, ema.*, optimiser.*."""
    tensors = {f"model.{k}": v for k, v in module.state_dict().items()}
    tensors |= {f"ema.{k}": v for k, v in ema.state_dict().items()}
    tensors |= pack_optimisers(optimisers)
    return {k: v.clone() if v.ndim == 0 else v for k, v in tensors.items()}


def unpack_state(
    tensors: dict[str, Tensor], module: nn.Module, ema: nn.Module, optimisers: list[torch.optim.Optimizer]
) -> None:
    """Put a packed state back; a missing or foreign part is refused."""
    try:
        for prefix, target in (("model.", module), ("ema.", ema)):
            target.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
        unpack_optimisers(tensors, optimisers)
    except RuntimeError as error:
        raise CheckpointError(f"the saved training state does not fit this model: {str(error)[:300]}") from error


def newest_state(folder: Path, name: str) -> tuple[dict[str, Tensor], dict] | None:
    """The newer of a stage's two saved states; where that one is damaged, the other, with a warning."""
    found, errors = [], []
    for path in (folder / f"{name}.state{slot}.safetensors" for slot in (0, 1)):
        if path.exists():
            try:
                found.append(load_tensors(path))
            except CheckpointError as error:
                errors.append(str(error))
    if errors and not found:
        raise CheckpointError(f"no saved state of {name} can be read: {'; '.join(errors)}")
    for error in errors:
        warnings.warn(f"{error}; going on from the state saved before it", stacklevel=2)
    return max(found, key=lambda state: state[1]["step"], default=None)


def append_metrics(path: Path, line: dict) -> None:
    """Add one line of JSON to the metrics file."""
    with open(path, "a") as file:
        file.write(json.dumps(line) + "\n")


def truncate_metrics(path: Path, stage: str, step: int) -> None:
    """Drop the lines that a resumed run will write again."""
    if path.exists():
        lines = [line for line in path.read_text().splitlines() if line.endswith("}")]
        kept = [line for line in lines if (r := json.loads(line))["stage"] != stage or r["step"] <= step]
        path.write_text("".join(line + "\n" for line in kept))


def out_of_memory(error: RuntimeError) -> bool:
    """Whether a RuntimeError is the CPU's or the GPU's way to say that memory ran out."""
    words = ("not enough memory", "can't allocate memory")  # Windows and the rest
    return isinstance(error, torch.cuda.OutOfMemoryError) or any(part in str(error) for part in words)


def fit(stage: Stage, folder: Path, *, seed: int = 0, resume: bool = False) -> nn.Module:
    """Train a stage to its last step and return the EMA of its module.

    Saves to two files in turn, so that one whole state exists at any moment. Raises TrainingError where loss or
    gradient stay not finite, or memory runs out; CheckpointError where nothing saved can be read or written.
    """
    config, module = stage.config, stage.module
    device = next(module.parameters()).device
    ema = copy.deepcopy(module).requires_grad_(False).eval()
    parameters = list(module.parameters())
    optimisers = make_optimisers(module, config)
    metrics, first, seconds, bad = folder / "metrics.jsonl", 0, 0.0, 0
    if resume and (saved := newest_state(folder, stage.name)):
        tensors, meta = saved
        unpack_state(tensors, module, ema, optimisers)
        first, seconds, bad = meta["step"], meta["seconds"], meta["bad"]
    truncate_metrics(metrics, stage.name, first)

    def save(step: int) -> None:
        path = folder / f"{stage.name}.state{step // config.save_every % 2}.safetensors"
        save_tensors(path, pack_state(module, ema, optimisers), {"step": step, "seconds": seconds, "bad": bad})

    bar = tqdm(range(first, config.steps), initial=first, total=config.steps, desc=stage.name, mininterval=5)
    with Interrupt() as interrupt:
        for step in bar:
            started = time.perf_counter()
            set_rates(optimisers, rate_share(step, config))
            try:
                with autocast(device):
                    losses = stage.losses(module, step_generator(seed, stage.number, step, device))
                losses["loss"].backward()
            except RuntimeError as error:
                if out_of_memory(error):
                    message = f"memory ran out at a batch of {config.batch}; try a batch of {max(1, config.batch // 2)}"
                    raise TrainingError(message) from error
                raise
            norm = float(nn.utils.clip_grad_norm_(parameters, config.clip))
            if math.isfinite(norm) and math.isfinite(losses["loss"].detach()):
                for optimiser in optimisers:
                    optimiser.step()
                update_ema(ema, module, min(config.ema, (1 + step) / (10 + step)))
                bad = 0
            else:
                bad += 1
            module.zero_grad()
            if bad > BAD_STEPS:
                raise TrainingError(
                    f"{stage.name}: loss or gradient not finite for {bad} steps up to {step}; lower lr={config.lr:g}"
                )
            seconds += time.perf_counter() - started
            done = step + 1
            line = {"stage": stage.name, "step": done, "clips": done * config.batch}
            if done % config.log_every == 0:
                scalars = {k: float(v.detach()) for k, v in losses.items()}
                append_metrics(metrics, line | scalars | {"norm": norm, "seconds": round(seconds, 2)})
                bar.set_postfix(loss=f"{scalars['loss']:.4f}", refresh=False)
            if stage.look and (done % stage.look_every == 0 or done == config.steps):
                append_metrics(metrics, line | stage.look(ema, done) | {"seconds": round(seconds, 2)})
            if done % config.save_every == 0 or done == config.steps or interrupt.received:
                save(done)
            interrupt.act()
    return ema


def check_disk(folder: Path, needed: int) -> None:
    """Refuse early where the disk cannot hold what a run writes; ``needed`` in bytes."""
    parent = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    if (free := shutil.disk_usage(parent).free) < needed:
        raise TrainingError(
            f"{folder}: {free / 1e9:.2f} GB free, but the run writes about {needed / 1e9:.2f} GB; "
            "free some or choose another --out"
        )
