"""One training loop for the VAE and the transformer: warm-up, EMA, mixed precision, exact resume, several processes.

Every step draws its randomness from a generator seeded by (seed, stage, step), so a run that was killed and
resumed goes on bit by bit as if nothing had happened. Every rank draws the same whole batch and keeps its own rows,
so that the mean over the ranks is what one process would have found.
"""

import copy
import json
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from sora_edu.checkpoint import load_tensors, save_tensors
from sora_edu.compute import autocast, out_of_memory
from sora_edu.config import TrainConfig
from sora_edu.distributed import ALONE, Losses, Ranks, full, local, shard, spread, whole
from sora_edu.errors import CheckpointError, TrainingError
from sora_edu.guards import Interrupt
from sora_edu.optimiser import make_optimisers, pack_optimisers, set_rates, unpack_optimisers
from sora_edu.seeds import step_generator

BAD_STEPS = 5  # steps in a row that may be skipped because loss or gradient are not finite


@dataclass(frozen=True)
class Stage:
    """What the loop trains: a module, and a function from (module, generator) to a dict of scalars with "loss"."""

    name: str  # names the files in the run's folder
    stream: int  # keeps the stages' random numbers apart
    module: nn.Module
    losses: Callable[[nn.Module, torch.Generator], dict[str, Tensor]]
    config: TrainConfig
    look: Callable[[nn.Module, int], dict] | None = None  # samples of the EMA and figures for the log
    look_every: int = 1000  # steps between looks
    blocks: tuple[type, ...] = ()  # types of modules that FSDP2 gathers one at a time


def rate_share(step: int, config: TrainConfig) -> float:
    """Share of the peak rate at a step: linear warm-up, 1, then linear to zero over the last share ``decay``."""
    up = min(1.0, (step + 1) / max(1, config.warmup))
    down = min(1.0, (config.steps - step) / max(1.0, config.decay * config.steps))
    return min(up, down)


@torch.no_grad()
def update_ema(ema: nn.Module, module: nn.Module, decay: float) -> None:
    """ema = decay * ema + (1 - decay) * module, for all parameters in one call; buffers are copied."""
    torch._foreach_lerp_(list(ema.parameters()), list(module.parameters()), 1 - decay)
    for kept, new in zip(ema.buffers(), module.buffers(), strict=True):
        kept.copy_(new)


def answers_every(device: torch.device, config: TrainConfig) -> int:
    """Steps from one look at the numbers to the next: a GPU falls idle whenever the processor waits for its answer."""
    return 1 if device.type == "cpu" else config.log_every


@torch.no_grad()
def zero_where(bad: Tensor, tensors: list[Tensor]) -> None:
    """Set the tensors to zero where the scalar ``bad`` holds, which the processor need not know."""
    for tensor in tensors:
        local(tensor).masked_fill_(bad, 0)


def pack_state(module: nn.Module, ema: nn.Module, optimisers: list[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """All tensors of a training state under flat names: model.*, ema.*, optimiser.*."""
    tensors = {f"model.{k}": v for k, v in module.state_dict().items()}
    tensors |= {f"ema.{k}": v for k, v in ema.state_dict().items()}
    tensors |= pack_optimisers(optimisers)
    return {k: v.clone() if v.ndim == 0 else v for k, v in tensors.items()}


def unpack_weights(tensors: dict[str, Tensor], module: nn.Module, ema: nn.Module) -> None:
    """Put the packed weights back, before anything is sharded; a missing or foreign part is refused."""
    try:
        for prefix, target in (("model.", module), ("ema.", ema)):
            target.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
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


class Training:
    """What a stage changes from step to step: weights, their EMA, and what the optimisers remember."""

    def __init__(self, stage: Stage, ranks: Ranks, saved: dict[str, Tensor] | None = None):
        self.stage, self.ranks, self.module = stage, ranks, stage.module
        self.ema = copy.deepcopy(self.module).requires_grad_(False).eval()
        if saved:
            unpack_weights(saved, self.module, self.ema)
        self.shown = copy.deepcopy(self.ema) if ranks.sharded else self.ema  # whole, whatever becomes of the EMA
        self.forward = spread(Losses(self.module, stage.losses), ranks, blocks=stage.blocks)
        if ranks.sharded:
            shard(self.ema, blocks=stage.blocks)
        self.optimisers = make_optimisers(self.module, stage.config)
        if saved:
            unpack_optimisers(saved, self.optimisers)

    def backward(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Losses of this rank's rows, and the norm of the mean gradient over all rows, which is clipped."""
        config = self.stage.config
        try:
            with autocast(generator.device):
                losses = self.forward(generator)
            losses["loss"].backward()
        except RuntimeError as error:
            if out_of_memory(error):
                message = f"memory ran out at a batch of {config.batch}; try a batch of {max(1, config.batch // 2)}"
                raise TrainingError(message) from error
            raise
        norm = full(nn.utils.clip_grad_norm_(self.module.parameters(), config.clip))
        if answers_every(norm.device, config) > 1:  # nobody looks in time to skip this step
            zero_where(~norm.isfinite(), [p.grad for p in self.module.parameters() if p.grad is not None])
        return losses | {"norm": norm}

    def update(self, step: int) -> None:
        """Let the optimisers move the weights, and the EMA follow them."""
        for optimiser in self.optimisers:
            optimiser.step()
        update_ema(self.ema, self.module, min(self.stage.config.ema, (1 + step) / (10 + step)))

    def state(self) -> dict[str, Tensor]:
        """All that must be saved, whole, on the first rank; all ranks must ask for it."""
        return whole(pack_state(self.module, self.ema, self.optimisers), keep=self.ranks.first)

    def show(self) -> nn.Module:
        """The EMA as an ordinary module; all ranks must ask for it."""
        if self.ranks.sharded:
            self.shown.load_state_dict(whole(self.ema.state_dict()))
        return self.shown


def fit(
    stage: Stage,
    folder: Path,
    *,
    seed: int = 0,
    resume: bool = False,
    ranks: Ranks = ALONE,
    deadline: float = math.inf,
) -> nn.Module:
    """Train a stage to its last step and return the EMA of its module, on every rank.

    Saves to two files in turn, so that one whole state exists at any moment; they say nothing of ranks, so that
    another number may go on. After ``deadline``, in seconds of time.monotonic, it saves and exits with status 0.

    Raises InputError where the ranks cannot share the batch; TrainingError where loss or gradient stay not finite, or
    memory runs out; CheckpointError where nothing saved can be read or written.
    """
    config, device = stage.config, next(stage.module.parameters()).device
    ranks.rows(config.batch)  # refuses a batch that cannot be shared, before anything else
    tensors, meta = (resume and newest_state(folder, stage.name)) or (None, {"step": 0, "seconds": 0.0, "bad": 0})
    first, seconds, bad = meta["step"], meta["seconds"], meta["bad"]
    ranks.check_same("the saved step", first, device)
    training = Training(stage, ranks, tensors)
    if ranks.first:
        truncate_metrics(folder / "metrics.jsonl", stage.name, first)

    def log(line: dict) -> None:
        if ranks.first:
            append_metrics(folder / "metrics.jsonl", line | {"seconds": round(seconds, 2)})

    def save(step: int) -> None:
        state = training.state()
        if ranks.first:
            path = folder / f"{stage.name}.state{step // config.save_every % 2}.safetensors"
            save_tensors(path, state, {"step": step, "seconds": seconds, "bad": bad})

    steps, asks = range(first, config.steps), answers_every(device, config)
    hidden = {} if ranks.first else {"disable": True}  # on the first rank TQDM_DISABLE decides
    bar = tqdm(steps, initial=first, total=config.steps, desc=stage.name, mininterval=5, **hidden)
    with Interrupt(deadline) as interrupt:
        for step in bar:
            started = time.perf_counter()
            set_rates(training.optimisers, rate_share(step, config))
            done, stop = step + 1, 0
            numbers = training.backward(step_generator(seed, stage.stream, step, device))
            if done % asks == 0:  # on a CPU always
                scalars, stop = ranks.agree(numbers, interrupt.pending())
                bad = 0 if math.isfinite(scalars["norm"]) and math.isfinite(scalars["loss"]) else bad + 1
            if not bad:
                training.update(step)
            stage.module.zero_grad()
            if bad > BAD_STEPS:
                raise TrainingError(
                    f"{stage.name}: loss or gradient not finite for {bad} steps up to {step}; lower lr={config.lr:g}"
                )
            seconds += time.perf_counter() - started
            line = {"stage": stage.name, "step": done, "clips": done * config.batch}
            if done % config.log_every == 0:
                log(line | scalars)
                bar.set_postfix(loss=f"{scalars['loss']:.4f}", refresh=False)
            if stage.look and (done % stage.look_every == 0 or done == config.steps):
                shown = training.show()
                log(line | (stage.look(shown, done) if ranks.first else {}))
            if ranks.world == 1:
                stop = interrupt.pending()  # several stop at the next answer, when all have heard of it
            if done % config.save_every == 0 or done == config.steps or stop:
                save(done)
            interrupt.act(stop)
        interrupt.act(interrupt.received)  # it came in the last step, and all is saved
    return training.show()
