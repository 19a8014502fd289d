"""One training loop for the VAE and the transformer: warm-up, EMA, mixed precision, exact resume, several processes.

Every step draws its randomness from a generator seeded by (seed, stage, step), so a run that was killed and
resumed goes on bit by bit as if nothing had happened. Every rank draws the same whole batch and keeps its own rows,
so that the mean over the ranks is what one process would have found (lesson 10).
"""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from sora_edu.compute import autocast, out_of_memory
from sora_edu.config import TrainConfig
from sora_edu.errors import CheckpointError, InputError, TrainingError
from sora_edu.seeds import step_generator
from sora_edu.train.distributed import ALONE, Losses, Ranks, full, local, shard, spread, whole
from sora_edu.train.interrupt import Interrupt
from sora_edu.train.optimiser import make_optimisers, pack_optimisers, unpack_optimisers
from sora_edu.train.run_folder import RunFolder

BAD_STEPS = 5  # steps in a row that may be skipped because loss or gradient are not finite
START = {"step": 0, "seconds": 0.0, "bad": 0}


@dataclass(frozen=True)
class Stage:
    """What the loop trains: a module, and a function from (module, generator) to a dict of scalars with "loss"."""

    name: str  # names the files in the run's folder
    stream: int  # keeps the stages' random numbers apart
    module: nn.Module
    loss_fn: Callable[[nn.Module, torch.Generator], dict[str, Tensor]]
    config: TrainConfig
    evaluate: Callable[[nn.Module, int], dict] | None = None  # given the EMA and the step: samples, figures to log
    evaluate_every: int = 1000  # steps
    blocks: tuple[type, ...] = ()  # types of modules that FSDP2 gathers one at a time
    data: str = ""  # a digest of what it is trained on, where that could change between two pieces of a run


def lr_factor(step: int, config: TrainConfig) -> float:
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


def sync_every(device: torch.device, config: TrainConfig) -> int:
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
    for prefix, target in (("model.", module), ("ema.", ema)):
        own = target.state_dict()
        given = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        if wrong := [k for k in given if k in own and given[k].dtype != own[k].dtype]:
            kinds = f"{given[wrong[0]].dtype}, expected {own[wrong[0]].dtype}"
            raise CheckpointError(f"the saved training state does not fit this model: {prefix}{wrong[0]} is {kinds}")
        try:
            target.load_state_dict(given)
        except RuntimeError as error:
            raise CheckpointError(f"the saved training state does not fit this model: {str(error)[:300]}") from error


def check_saved(counts: dict, stage: Stage) -> None:
    """InputError where a stage cannot go on from a saved state: it is further than asked for, or of other data."""
    if counts["step"] > stage.config.steps:
        raise InputError(
            f"the saved state of {stage.name} is of step {counts['step']}, but {stage.config.steps} are asked for; "
            f"ask for {counts['step']} or more"
        )
    if counts.get("data", stage.data) != stage.data:
        raise InputError(
            f"the saved state of {stage.name} was trained on the work of another VAE; choose another --out, "
            f"or delete the files {stage.name}.state* to train it anew"
        )


class TrainState:
    """What a stage changes from step to step: weights, their EMA, what the optimisers remember, and some counts."""

    def __init__(self, stage: Stage, *, seed: int = 0, ranks: Ranks = ALONE, saved: tuple[dict, dict] | None = None):
        self.stage = stage
        self.seed = seed
        self.ranks = ranks
        self.module = stage.module
        self.device = next(self.module.parameters()).device
        tensors, counts = saved or ({}, START)
        check_saved(counts, stage)
        self.done = counts["step"]
        self.seconds = counts["seconds"]
        self.bad = counts["bad"]
        ranks.check_same("the saved step", self.done, self.device)
        self.ema = copy.deepcopy(self.module).requires_grad_(False).eval()
        if saved:
            unpack_weights(tensors, self.module, self.ema)
        self.whole_ema = copy.deepcopy(self.ema) if ranks.sharded else self.ema
        self.forward = spread(Losses(self.module, stage.loss_fn), ranks, blocks=stage.blocks)
        if ranks.sharded:
            shard(self.ema, blocks=stage.blocks)
        self.optimisers = make_optimisers(self.module, stage.config)
        if saved:
            unpack_optimisers(tensors, self.optimisers)
        factor = partial(lr_factor, config=stage.config)
        self.schedules = [LambdaLR(optimiser, factor, last_epoch=self.done - 1) for optimiser in self.optimisers]

    def step(self) -> dict[str, float] | None:
        """Train one step. Returns losses and gradient norm, means over the ranks; None where nobody looks at them."""
        started = time.perf_counter()
        config = self.stage.config
        scalars = self.backward(step_generator(self.seed, self.stage.stream, self.done, self.device))
        metrics = self.ranks.mean(scalars) if self.synced else None
        if metrics:
            finite = math.isfinite(metrics["norm"]) and math.isfinite(metrics["loss"])
            self.bad = 0 if finite else self.bad + 1
        if not self.bad:
            self.update()
        self.module.zero_grad()
        if self.bad > BAD_STEPS:
            message = f"not finite for {self.bad} steps up to {self.done}; lower lr={config.lr:g}"
            raise TrainingError(f"{self.stage.name}: loss or gradient {message}")
        for schedule in self.schedules:
            schedule.step()
        self.done += 1
        self.seconds += time.perf_counter() - started
        return metrics

    @property
    def synced(self) -> bool:
        """Whether the processor waits in the step under way for the device's numbers: on a CPU always."""
        return (self.done + 1) % sync_every(self.device, self.stage.config) == 0

    def backward(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Losses of this rank's rows, and the norm of the mean gradient over all rows, which is clipped."""
        config = self.stage.config
        try:
            with autocast(self.device):
                losses = self.forward(generator)
            losses["loss"].backward()
        except RuntimeError as error:
            if out_of_memory(error):
                message = f"memory ran out at a batch of {config.batch}; try a batch of {max(1, config.batch // 2)}"
                raise TrainingError(message) from error
            raise
        norm = full(nn.utils.clip_grad_norm_(self.module.parameters(), config.clip))
        if sync_every(self.device, config) > 1:  # nobody looks in time to skip this step
            zero_where(~norm.isfinite(), [p.grad for p in self.module.parameters() if p.grad is not None])
        return losses | {"norm": norm}

    def update(self) -> None:
        """Let the optimisers move the weights, and the EMA follow them."""
        for optimiser in self.optimisers:
            optimiser.step()
        update_ema(self.ema, self.module, min(self.stage.config.ema, (1 + self.done) / (10 + self.done)))

    def tensors(self) -> dict[str, Tensor]:
        """All that must be saved, whole, on the first rank; all ranks must ask for it."""
        return whole(pack_state(self.module, self.ema, self.optimisers), keep=self.ranks.first)

    def counts(self) -> dict:
        """What must be saved besides."""
        return {"step": self.done, "seconds": self.seconds, "bad": self.bad, "data": self.stage.data}

    def ema_module(self) -> nn.Module:
        """The EMA as an ordinary module; all ranks must ask for it."""
        if self.ranks.sharded:
            self.whole_ema.load_state_dict(whole(self.ema.state_dict()))
        return self.whole_ema


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

    Raises Stopped, once the state is saved, after SIGTERM and after ``deadline`` (seconds of time.monotonic);
    KeyboardInterrupt likewise after Ctrl-C. InputError where the ranks cannot share the batch; TrainingError where
    loss or gradient stay not finite, or memory runs out; CheckpointError where nothing saved can be read or written.
    """
    config = stage.config
    ranks.rows(config.batch)  # refuses a batch that cannot be shared, before anything else
    run = RunFolder(folder, writes=ranks.first)
    state = TrainState(stage, seed=seed, ranks=ranks, saved=run.newest(stage.name) if resume else None)
    run.drop_metrics(stage.name, after=state.done)
    with Interrupt(deadline) as interrupt, progress(state) as bar:
        while state.done < config.steps:
            metrics = state.step()
            bar.update()
            line = {"stage": stage.name, "step": state.done, "clips": state.done * config.batch}
            line["seconds"] = round(state.seconds, 2)
            if state.done % config.log_every == 0:
                run.log(line | metrics)
                bar.set_postfix(loss=f"{metrics['loss']:.4f}", refresh=False)
            last = state.done == config.steps
            if stage.evaluate and (last or state.done % stage.evaluate_every == 0):
                ema = state.ema_module()
                run.log(line | (stage.evaluate(ema, state.done) if ranks.first else {}))
            stop = interrupt.pending()
            if ranks.world > 1:  # they stop together, at a step at which they speak to each other anyway
                stop = ranks.largest(stop, state.device) if metrics else 0
            if last or stop or state.done % config.save_every == 0:
                run.save(stage.name, state.tensors(), state.counts())
            interrupt.act(stop)
        interrupt.act(interrupt.received)  # it came in the last step, and all is saved
    return state.ema_module()


def progress(state: TrainState) -> tqdm:
    """A bar over all steps of a stage, on the first rank."""
    hidden = {} if state.ranks.first else {"disable": True}  # on the first rank TQDM_DISABLE decides
    stage = state.stage
    return tqdm(initial=state.done, total=stage.config.steps, desc=stage.name, mininterval=5, **hidden)
