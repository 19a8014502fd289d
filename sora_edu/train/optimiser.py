"""Which optimiser moves which weight: Muon for the matrices inside the blocks, AdamW for everything else.

AdamW scales every number by its own history. Muon (Jordan 2024; Liu et al. 2502.16982) looks at a matrix as a whole:
it replaces the averaged gradient by the nearest matrix whose singular values are all about 1, so that rare directions
learn as fast as common ones. Embeddings, norms and the first and last layers are not maps between hidden states. A
convolution is a matrix too: one row an output channel, and a column for every input that its window sees.

States are packed and unpacked by hand. torch.distributed.checkpoint.state_dict was tried on two processes under FSDP2
with Muon: it kept Muon's averages whole, but the step after loading was not the same bit for bit; and its names, by
parameter in place of by number, are not those of the runs that were begun before (lesson 10).
"""

import math
from collections import defaultdict

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sora_edu.checked import checked
from sora_edu.config import TrainConfig
from sora_edu.errors import CheckpointError
from sora_edu.model.vae import ResBlock
from sora_edu.train.distributed import is_sharded, sharded_like

KEPT = {"AdamW": ("step", "exp_avg", "exp_avg_sq"), "Muon": ("momentum_buffer",)}  # state of one parameter


def hidden_matrices(module: nn.Module) -> list[nn.Parameter]:
    """Weights of the linear layers in lists of blocks, and of the convolutions in residual blocks."""
    lists = [part for part in module.modules() if isinstance(part, nn.ModuleList)]
    layers = [layer for part in lists for layer in part.modules() if isinstance(layer, nn.Linear)]
    blocks = [part for part in module.modules() if isinstance(part, ResBlock)]
    layers += [layer for part in blocks for layer in part.modules() if isinstance(layer, nn.Conv3d)]
    return [layer.weight for layer in dict.fromkeys(layers)]


class Muon(torch.optim.Muon):
    """Muon for weights of two dimensions or more: each is moved as a matrix of its rows, in the weight's own memory.

    Of sharded weights every rank gets the whole gradients: singular values are those of a whole matrix. Newton and
    Schulz's products then need no exchange and round as in one process; the averages are kept whole too.

    On a GPU matrices of one shape are moved together. PyTorch's own step takes them one after another, and with small
    matrices a GPU waits for most of that time: launching a product takes longer than computing it.
    """

    def __init__(self, weights: list[nn.Parameter], *, lr: float, weight_decay: float):
        matrices = [weight if weight.ndim == 2 else nn.Parameter(weight.detach().flatten(1)) for weight in weights]
        super().__init__(matrices, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
        self.weights = weights

    def step(self, closure=None):
        for weight, matrix in zip(self.weights, self.param_groups[0]["params"], strict=True):
            if weight.grad is not None:
                matrix.grad = _gathered(weight.grad).flatten(1)
        if not self.param_groups[0]["params"][0].is_cuda:
            return super().step(closure)
        self.step_by_shape()

    @torch.no_grad()
    def step_by_shape(self) -> None:
        """One step as PyTorch's, but for the order of roundings; matrices of one shape are orthogonalised together."""
        [group] = self.param_groups
        matrices, gradients, averages = [], [], []
        self._init_group(group, matrices, gradients, averages)
        torch._foreach_lerp_(averages, gradients, 1 - group["momentum"])
        ahead = torch._foreach_lerp(gradients, averages, group["momentum"])  # Nesterov's look ahead
        torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
        alike = defaultdict(list)
        for matrix, update in zip(matrices, ahead, strict=True):
            alike[matrix.shape].append((matrix, update))
        for shape, pairs in alike.items():
            same, updates = zip(*pairs, strict=True)
            turned = orthogonalised(torch.stack(updates), group["ns_coefficients"], steps=group["ns_steps"])
            rate = 0.2 * math.sqrt(max(shape)) * group["lr"]  # 2502.16982, eq 4
            torch._foreach_add_(list(same), list(turned.to(same[0].dtype).unbind()), alpha=-rate)


@checked
def orthogonalised(
    matrices: Float[Tensor, "n rows columns"], coefficients: tuple[float, float, float], *, steps: int = 5
) -> Float[Tensor, "n rows columns"]:
    """Each matrix with its singular values brought to about 1, by Newton and Schulz's iteration in bf16 (Jordan 2024).

    Its polynomial a x + b x^3 + c x^5 acts on every singular value; that of the whole matrix is first at most 1.
    """
    a, b, c = coefficients
    x = matrices.bfloat16()
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def _gathered(gradient: Tensor) -> Tensor:
    """The whole of a gradient that is sharded, on every rank; any other as it is."""
    if not is_sharded(gradient):
        return gradient
    from torch.distributed.tensor import Replicate

    return gradient.redistribute(placements=[Replicate()])


def make_optimisers(module: nn.Module, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """AdamW, and before it Muon where the config gives it a rate; every parameter belongs to exactly one.

    Muon's steps are scaled to the size of AdamW's (2502.16982, section 2.2), so both use rates of the same order.
    """
    hidden = hidden_matrices(module) if config.muon_lr else []
    taken = set(map(id, hidden))
    optimisers = []
    if hidden:
        optimisers.append(Muon(hidden, lr=config.muon_lr, weight_decay=config.weight_decay))
    rest = [parameter for parameter in module.parameters() if id(parameter) not in taken and parameter.requires_grad]
    options = {"lr": config.lr, "betas": (0.9, 0.98), "weight_decay": config.weight_decay}
    optimisers.append(torch.optim.AdamW(rest, **options, fused=True))
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["initial_lr"] = group["lr"]  # the peak, by the name that schedules look for
    return optimisers


def pack_optimisers(optimisers: list[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """All their tensors under flat names: optimiser.muon.3.momentum_buffer."""
    return {
        f"optimiser.{type(optimiser).__name__.lower()}.{index}.{key}": value
        for optimiser in optimisers
        for index, values in optimiser.state_dict()["state"].items()
        for key, value in values.items()
    }


def unpack_optimisers(tensors: dict[str, Tensor], optimisers: list[torch.optim.Optimizer]) -> None:
    """Put the packed tensors back; raises CheckpointError where one is missing or there are others besides."""
    left = {name for name in tensors if name.startswith("optimiser.")}
    for optimiser in optimisers:
        kind = type(optimiser).__name__
        state = optimiser.state_dict()
        for index, parameter in enumerate(p for group in optimiser.param_groups for p in group["params"]):
            names = {key: f"optimiser.{kind.lower()}.{index}.{key}" for key in KEPT[kind]}
            if missing := [name for name in names.values() if name not in tensors]:
                raise CheckpointError(f"the saved training state does not fit this model: no {missing[0]}")
            for key, name in names.items():
                shape = torch.Size() if key == "step" else parameter.shape
                if tensors[name].shape != shape or tensors[name].dtype != torch.float32:
                    got = f"{tuple(tensors[name].shape)} of {tensors[name].dtype}"
                    raise CheckpointError(
                        f"the saved training state does not fit this model: {name} is {got}, "
                        f"expected {tuple(shape)} of torch.float32"
                    )
            state["state"][index] = {
                key: sharded_like(tensors[name], parameter, copies=kind == "Muon") for key, name in names.items()
            }
            left -= set(names.values())
        optimiser.load_state_dict(state)
    if left:
        raise CheckpointError(f"the saved training state does not fit this model: {min(left)} belongs to another")
