"""Several processes that train one model: who is who, which rows are whose, and who speaks for all.

torchrun --nproc-per-node 2 -m sora_edu.cli train --preset tiny --out runs/mine

PyTorch's DDP averages the gradients of whole copies of the model, and its FSDP2 (``fully_shard``, after ZeRO,
1910.02054) also cuts weights, gradients, EMA and AdamW's memory into a piece a rank. By hand are only the sharing of
a batch, the agreement on when to stop, and the gathering of states, a tensor at a time (``optimiser`` says why)
(lesson 10).
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sora_edu.compute import choose_device
from sora_edu.errors import InputError, OtherFailed, Stopped, TrainingError

PATIENCE = timedelta(hours=1)  # the others wait this long while the first rank encodes clips or draws samples


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together; alone it is rank 0 of 1, and nothing here communicates."""

    rank: int = 0
    world: int = 1
    sharded: bool = False  # FSDP2, a piece of the model on each rank; otherwise DDP, the whole model on each

    @property
    def first(self) -> bool:
        """Whether this rank writes the files and shows the progress."""
        return self.rank == 0

    def rows(self, batch: int) -> slice:
        """This rank's share of a batch that all ranks draw alike; InputError names the nearest batch that divides."""
        if batch % self.world:
            below, above = batch // self.world * self.world, -(-batch // self.world) * self.world
            fits = f"{below} or {above}" if below else f"{above}"
            raise InputError(f"a batch of {batch} cannot be shared evenly by {self.world} processes; use {fits}")
        share = batch // self.world
        return slice(self.rank * share, (self.rank + 1) * share)

    def mean(self, scalars: dict[str, Tensor]) -> dict[str, float]:
        """Means of scalars over the ranks, as plain numbers, the same everywhere.

        One small exchange; the processor waits for the device to have them ready.
        """
        values = torch.stack([value.detach().float() for value in scalars.values()])
        columns = zip(*self._table(values), strict=True)
        return {name: sum(column) / self.world for name, column in zip(scalars, columns, strict=True)}

    def largest(self, number: int, device: torch.device) -> int:
        """The largest of the numbers that the ranks hold, such as a signal that one of them received."""
        return int(max(row[0] for row in self._table(torch.tensor([float(number)], device=device))))

    def _table(self, own: Tensor) -> list[list[float]]:
        """The ranks' vectors, a row each."""
        table = [own]
        if self.world > 1:
            table = [torch.empty_like(own) for _ in range(self.world)]
            dist.all_gather(table, own)
        return torch.stack(table).tolist()

    def check_same(self, name: str, value: int, device: torch.device) -> None:
        """Raise InputError where a number is not the same on all ranks, as when they do not see the same files."""
        if {row[0] for row in self._table(torch.tensor([float(value)], device=device))} != {value}:
            raise InputError(
                f"{name} is {value} here and another elsewhere; --out must be a folder that all ranks share"
            )

    def wait(self) -> None:
        """Wait until all ranks have come this far."""
        if self.world > 1:
            dist.barrier()


ALONE = Ranks()


def environment() -> tuple[int, int, int]:
    """Rank, number of processes, and rank on this machine, as torchrun tells them; (0, 1, 0) without torchrun."""
    if "WORLD_SIZE" not in os.environ:
        return 0, 1, 0
    try:
        rank, world, local = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    except (KeyError, ValueError) as error:
        raise InputError(f"WORLD_SIZE is set, but torchrun's environment is broken ({error}); start it anew") from error
    if not 0 <= rank < world or local < 0:
        raise InputError(f"RANK={rank}, WORLD_SIZE={world}, LOCAL_RANK={local} do not fit each other; use torchrun")
    return rank, world, local


@contextlib.contextmanager
def started(device: str | None = None, *, sharded: bool = False) -> Iterator[tuple[Ranks, torch.device]]:
    """Join the processes that torchrun started, over nccl on GPUs and gloo on CPUs; yield this rank and its device.

    One process needs no group. An error in one rank ends all: the first rank that fails raises it, and the others,
    which fail because of that or in the same way, raise OtherFailed. Raises InputError where environment, device
    and ``sharded`` do not fit.
    """
    rank, world, local = environment()
    if world == 1:
        if sharded:
            raise InputError("--fsdp cuts a model into pieces for several processes; start them with torchrun")
        yield ALONE, choose_device(device)
        return
    store, *_ = next(dist.rendezvous("env://"))
    try:
        chosen = choose_device(device, world=world, local=local)
        join(chosen, store, rank, world)
        yield Ranks(rank, world, sharded), chosen
    except Stopped:  # all ranks were asked, and all have saved
        raise
    except (Exception, KeyboardInterrupt) as error:
        if not first_to_fail(store):
            raise OtherFailed(f"process {rank} ends because another one failed") from error
        if lost(error):
            raise TrainingError(
                f"process {rank} lost another one; go on from the last saved state with --resume"
            ) from error
        raise
    dist.destroy_process_group()  # not after an error: it might wait for ranks that are gone


def join(device: torch.device, store: dist.Store, rank: int, world: int) -> None:
    """Start the process group."""
    options = dict(store=store, rank=rank, world_size=world, timeout=PATIENCE)
    if device.type == "cuda":
        torch.cuda.set_device(device)
        dist.init_process_group("nccl", device_id=device, **options)
    else:
        dist.init_process_group("gloo", **options)


def first_to_fail(store: dist.Store) -> bool:
    """Whether no rank failed before this one. Under torchrun the store, through which they met, outlives them all."""
    try:
        return store.add("sora_edu/failed", 1) == 1
    except RuntimeError:  # it went with the rank that held it, and that one has told
        return False


def lost(error: BaseException) -> bool:
    """Whether an error says that another process is gone, killed perhaps; gloo raises no kind of its own."""
    return isinstance(error, dist.DistError) or any(
        f"onnection {end} by peer" in str(error) for end in ("closed", "reset")
    )


class Losses(nn.Module):
    """A module and its losses as one forward pass, which is what DDP and FSDP2 put their hooks around."""

    def __init__(self, module: nn.Module, loss_fn: Callable[[nn.Module, torch.Generator], dict[str, Tensor]]):
        super().__init__()
        self.module, self.loss_fn = module, loss_fn

    def forward(self, generator: torch.Generator) -> dict[str, Tensor]:
        return self.loss_fn(self.module, generator)


def spread(losses: Losses, ranks: Ranks, *, blocks: tuple[type, ...] = ()) -> nn.Module:
    """The same forward pass over all ranks; gradients become means over them. ``blocks`` are sharded one by one."""
    if ranks.world == 1:
        return losses
    if ranks.sharded:
        return shard(losses, blocks=blocks)
    return DistributedDataParallel(losses, gradient_as_bucket_view=True)


def shard(module: nn.Module, *, blocks: tuple[type, ...] = ()) -> nn.Module:
    """Leave each rank its piece of every parameter, in place; a block's are gathered while that block computes."""
    from torch.distributed.device_mesh import init_device_mesh  # slow to import, and few need it
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(next(module.parameters()).device.type, (dist.get_world_size(),))
    for block in module.modules():
        if isinstance(block, blocks):
            fully_shard(block, mesh=mesh)
    return fully_shard(module, mesh=mesh)


def is_sharded(tensor: Tensor) -> bool:
    """Whether this is FSDP2's kind of tensor (a DTensor), of which each rank holds a piece or a copy."""
    return hasattr(tensor, "full_tensor")


def full(tensor: Tensor) -> Tensor:
    """The whole of a sharded tensor, on every rank; any other tensor as it is."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor


def local(tensor: Tensor) -> Tensor:
    """This rank's piece of a sharded tensor, in place; any other tensor as it is."""
    return tensor.to_local() if is_sharded(tensor) else tensor


def whole(tensors: dict[str, Tensor], *, keep: bool = True) -> dict[str, Tensor]:
    """Gather what is sharded, one tensor after another, and keep it on the CPU, so that no device must hold all.

    A rank with ``keep`` False helps the others, and gets an empty dict.
    """
    gathered = {}
    for name, tensor in tensors.items():
        value = full(tensor).cpu() if is_sharded(tensor) else tensor
        if keep:
            gathered[name] = value
    return gathered


def sharded_like(tensor: Tensor, like: Tensor, *, copies: bool = False) -> Tensor:
    """A whole tensor cut into pieces as ``like`` is, or with a copy on each rank; as it came where ``like`` is whole.

    So does one of another shape, such as an optimiser's count of steps.
    """
    if not is_sharded(like) or tensor.shape != like.shape:
        return tensor
    from torch.distributed.tensor import Replicate, distribute_tensor

    placements = [Replicate()] if copies else like.placements
    return distribute_tensor(tensor.to(like.device), like.device_mesh, placements)
