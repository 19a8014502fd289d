"""A step of training and a clip drawn, timed alike for every model, ours and others'."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sora_edu.bench.models import Model, Size, make_text, seeded
from sora_edu.bench.rounds import Contestant
from sora_edu.compute import can_compile, compile_each, fast_bf16
from sora_edu.config import TrainConfig
from sora_edu.diffusion.flow import flow_loss
from sora_edu.diffusion.guidance import guided
from sora_edu.diffusion.sampling import euler
from sora_edu.model.scaling import count_parameters, flops, measure_macs
from sora_edu.model.text import TextState
from sora_edu.train.optimiser import make_optimisers

RATE = 1e-4  # learning rate: no figure depends on it


@dataclass(frozen=True, kw_only=True)
class Switches:
    """What is turned on for a step. Without any it runs as a library comes: fp32, eager, default AdamW."""

    bf16: bool = False  # products in bf16, under autocast
    compiled: bool = False  # blocks compiled
    fused: bool | None = None  # fused AdamW

    @property
    def peak(self) -> str:
        """The product of two matrices that these switches are measured by."""
        return "matmul bf16" if self.bf16 else "matmul fp32"


AS_IT_COMES = Switches()


def shipped(device: torch.device, *, fp32: bool = False) -> Switches:
    """What our training turns on here: bf16 where it pays (unless fp32 is wished), compiled blocks, fused AdamW."""
    return Switches(bf16=fast_bf16(device) and not fp32, compiled=can_compile(), fused=True)


def adamw(module: nn.Module, fused: bool | None) -> list[torch.optim.Optimizer]:
    """AdamW as it comes (None), or fused."""
    return [torch.optim.AdamW(module.parameters(), lr=RATE, fused=fused)]


def muon(module: nn.Module, fused: bool | None) -> list[torch.optim.Optimizer]:
    """Muon and fused AdamW, as the tiny preset trains."""
    return make_optimisers(module, TrainConfig(steps=1, batch=1, lr=RATE, muon_lr=RATE))


def trained(
    module: nn.Module,
    loss: Callable[[], Tensor],
    *,
    optimisers: list[torch.optim.Optimizer],
    bf16: bool,
    device: torch.device,
) -> tuple[Callable[[], Tensor], Callable[[], int]]:
    """A step of training: forward, backward, clipped gradient, optimiser; and the bytes held between steps."""
    parameters = list(module.parameters())

    def step() -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            value = loss()
        value.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimiser in optimisers:
            optimiser.step()
        module.zero_grad()
        return value.detach()

    def held() -> int:
        states = [value for o in optimisers for state in o.state.values() for value in state.values()]
        return sum(x.numel() * x.element_size() for x in [*parameters, *filter(torch.is_tensor, states)])

    return step, held


def step_contestant(
    name: str,
    build: Callable[[Size], Model],
    size: Size,
    *,
    device: torch.device,
    switches: Switches = AS_IT_COMES,
    optimisers: Callable[[nn.Module, bool | None], list] = adamw,
) -> Contestant:
    """A training step on fixed latents."""
    with seeded(0, device):
        model = build(size)
        x_0, text = torch.randn(size.batch, *size.latent), make_text(size, size.batch, device)
        t = torch.full((size.batch,), 0.5)
    generator = torch.Generator(device).manual_seed(0)
    module = model.module
    macs = measure_macs(lambda: model.velocity(module, x_0, t, text))
    if switches.compiled:
        compile_each(model.blocks)

    def loss() -> Tensor:
        return flow_loss(lambda x_t, t: model.velocity(module, x_t, t, text), x_0, generator=generator)

    chosen = optimisers(module, switches.fused)
    step, held = trained(module, loss, optimisers=chosen, bf16=switches.bf16, device=device)
    return Contestant(
        name,
        step,
        work=size.batch * size.tokens,
        unit="token",
        flops=flops(macs, training=True),
        parameters=count_parameters(module, trained_only=True),
        peak=switches.peak,
        held=held,
    )


def clip_contestant(
    name: str,
    build: Callable[[Size], Model],
    size: Size,
    *,
    device: torch.device,
    steps: int = 25,
    cfg_scale: float = 3.0,
    switches: Switches = AS_IT_COMES,
    batched: bool = True,
) -> Contestant:
    """One clip's latent, sampled by Euler steps; ``batched``: both halves of the guidance in one pass."""
    with seeded(0, device):
        model = build(size)
        module, noise = model.module.eval(), torch.randn(1, *size.latent)
        text, null_text = make_text(size, 1, device), make_text(size, 1, device)
    passes = 1 if cfg_scale in (0, 1) else 2

    def predict(x_t: Tensor, t: Tensor, text: TextState) -> Tensor:
        return model.velocity(module, x_t, t, text).to(x_t.dtype)

    def in_two_passes(x_t: Tensor, t: Tensor) -> Tensor:
        uncond = predict(x_t, t, null_text)
        return uncond + cfg_scale * (predict(x_t, t, text) - uncond)

    velocity = guided(predict, text=text, null_text=null_text, cfg_scale=cfg_scale) if batched else in_two_passes

    def run() -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=switches.bf16):
            return euler(velocity, noise, steps=steps)

    macs = measure_macs(lambda: predict(noise, noise.new_full((1,), 0.5), text))
    return Contestant(
        name,
        run,
        unit="clip",
        flops=flops(macs * passes * steps),
        parameters=count_parameters(module, trained_only=True),
        peak=switches.peak,
        held=lambda: sum(p.numel() * p.element_size() for p in module.parameters()),
    )


def backward_contestant(name: str, build: Callable[[Size], Model], size: Size, **options) -> Contestant:
    """Forward and backward without the optimiser, whose cost does not depend on the tokens."""
    return step_contestant(name, build, size, optimisers=lambda module, fused: [], **options)
