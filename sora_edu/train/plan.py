"""What a training will need, before it starts: memory of each device, throughput and time.

sora-edu plan --preset compact --gpus 8 --device h100

Weights, multiply-adds and activations are counted on models without numbers in them ("meta"); how fast a device
multiplies, and which share of that a training reaches, comes from ``devices``, or is given (lesson 10).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sora_edu.checked import checked
from sora_edu.config import Preset, TrainConfig
from sora_edu.diffusion.flow import flow_loss
from sora_edu.errors import InputError
from sora_edu.model.dit import TextToVideo
from sora_edu.model.scaling import count_parameters, flops, measure_macs
from sora_edu.model.tokenizer import Tokenizer
from sora_edu.model.vae import VideoVAE, vae_loss
from sora_edu.train.devices import Device
from sora_edu.train.distributed import Ranks
from sora_edu.train.latents import by_size, count_latents
from sora_edu.train.optimiser import hidden_matrices

FP32, FP16 = 4, 2  # bytes a number
ADAMW, MUON = 8, 4  # bytes that an optimiser remembers of a weight: two averages, one average


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What one stage costs, whatever it runs on."""

    config: TrainConfig
    parameters: int
    muon: int  # parameters among them that Muon moves
    macs: int  # multiply-adds of one clip, forwards
    tokens: int  # latent patches of a clip, the transformer's tokens; latent cells in the VAE
    kept: int  # bytes of one clip that the backward pass needs, in fp32 and without compilation: an upper bound
    held: int = 0  # bytes that lie on every device besides


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One stage on so many devices: bytes on each of them, and seconds."""

    memory: dict[str, float]
    steps: int
    compute: float  # seconds a step
    exchange: float  # seconds a step, as if nothing were computed meanwhile
    clips: float  # a second, all devices together
    tokens: float  # a second, all devices together

    @property
    def seconds(self) -> float:
        return self.steps * (self.compute + self.exchange)


@checked
def saved_bytes(run: Callable[[], Tensor], module: nn.Module) -> int:
    """Bytes that autograd keeps for the backward pass of ``run``, each storage once, without the weights."""
    own = {parameter.untyped_storage()._cdata for parameter in module.parameters()}
    saved = {}

    def pack(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage()._cdata] = tensor  # held, so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = run()
    assert loss.requires_grad
    return sum(t.untyped_storage().nbytes() for address, t in saved.items() if address not in own)


def vae_costs(preset: Preset) -> Costs:
    """The first stage, counted on the real VAE; its pool of clips, a byte a number, lies by."""
    world = preset.world
    latent = preset.latent_shape
    with torch.device("meta"):
        vae = VideoVAE(preset.vae)
        video, z = torch.zeros(1, 3, world.frames, world.height, world.width), torch.zeros(1, *latent)
        return Costs(
            config=preset.vae_train,
            parameters=count_parameters(vae),
            muon=sum(matrix.numel() for matrix in hidden_matrices(vae)) if preset.vae_train.muon_lr else 0,
            macs=measure_macs(vae.encoder, video) + measure_macs(vae.decoder, z),
            tokens=math.prod(latent[1:]),
            kept=saved_bytes(lambda: vae_loss(vae, video, kl_weight=1.0, noise=z)["loss"], vae),
            held=sum(min(one.pool, one.clips) * 3 * one.world.pixels for one in by_size(preset)),
        )


def dit_costs(preset: Preset) -> Costs:
    """The second stage, text encoder included, counted on the real model; a copy for samples and all latents lie by."""
    latent = preset.latent_shape
    words = preset.text.max_tokens
    with torch.device("meta"):
        model = TextToVideo(preset.dit, preset.text, len(Tokenizer()))
        x_0, t = torch.zeros(1, *latent), torch.zeros(1)
        ids, mask = torch.zeros(1, words, dtype=torch.long), torch.ones(1, words, dtype=torch.bool)
        parameters = count_parameters(model)
        return Costs(
            config=preset.dit_train,
            parameters=parameters,
            muon=sum(matrix.numel() for matrix in hidden_matrices(model)) if preset.dit_train.muon_lr else 0,
            macs=measure_macs(model, x_0, t, ids, mask),
            tokens=math.prod(model.dit.grid(x_0)),
            kept=saved_bytes(lambda: flow_loss(lambda x, t: model(x, t, ids, mask), x_0, t=t, eps=x_0), model),
            held=FP32 * parameters + FP16 * count_latents(preset),
        )


def plan_stage(costs: Costs, device: Device, *, gpus: int = 1, fsdp: bool = False, steps: int | None = None) -> Plan:
    """Memory and time of one stage; InputError where the devices cannot share the batch.

    A step of training is three forwards of two FLOPs a multiply-add. Around a ring of N devices DDP sends
    ``2 (N - 1) / N`` of the gradients' bytes; FSDP2 cuts these once and gathers weights twice, ``3 (N - 1) / N``.
    """
    if gpus < 1:
        raise InputError(f"gpus={gpus} must be at least 1")
    batch, steps = costs.config.batch, steps or costs.config.steps
    share = Ranks(world=gpus).rows(batch).stop
    pieces = gpus if fsdp else 1
    memory = {
        "weights": FP32 * costs.parameters / pieces,
        "gradients": FP32 * costs.parameters / pieces,
        "optimiser": ADAMW * (costs.parameters - costs.muon) / pieces + MUON * costs.muon,  # Muon's stay whole
        "EMA": FP32 * costs.parameters / pieces + (FP32 * costs.parameters if fsdp and gpus > 1 else 0),
        "activations": costs.kept * share,
        "data and sampler": costs.held,
    }
    compute = max(device.least, flops(costs.macs * share, training=True) / (device.peak * device.share))
    sent = (3 if fsdp else 2) * (gpus - 1) / gpus * FP32 * costs.parameters
    exchange = sent / device.bandwidth
    rate = batch / (compute + exchange)
    return Plan(memory=memory, steps=steps, compute=compute, exchange=exchange, clips=rate, tokens=rate * costs.tokens)


def steps_for(tokens: float, costs: Costs) -> int:
    """Steps in which the transformer sees so many tokens; InputError where that is not even one token."""
    if not 1 <= tokens < math.inf:
        raise InputError(f"tokens={tokens:g} is no number of tokens to train on; use 1e9, for example")
    return math.ceil(tokens / (costs.tokens * costs.config.batch))


def make_plan(
    preset: Preset, device: Device, *, gpus: int = 1, fsdp: bool = False, tokens: float | None = None
) -> dict[str, Plan]:
    """Plans of both stages by name; ``tokens`` sets how long the transformer trains, in place of its steps."""
    vae, dit = vae_costs(preset), dit_costs(preset)
    steps = None if tokens is None else steps_for(tokens, dit)
    return {
        "VAE": plan_stage(vae, device, gpus=gpus, fsdp=fsdp),
        "transformer": plan_stage(dit, device, gpus=gpus, fsdp=fsdp, steps=steps),
    }


def duration(seconds: float) -> str:
    """Seconds as a reader says them."""
    for size, name in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {name}"
    return f"{seconds:.1f} s"


def report(plans: dict[str, Plan], device: Device) -> str:
    """A table of the plans, whether they fit, and where each figure comes from."""

    def row(name: str, values) -> str:
        return f"{name:<28}" + "".join(f"{value:>14}" for value in values)

    stages = list(plans.values())
    lines = [row("on each device, GB", plans)]
    for part in stages[0].memory:
        lines.append(row(f"  {part}", (f"{plan.memory[part] / 1e9:.3f}" for plan in stages)))
    totals = [sum(plan.memory.values()) for plan in stages]
    lines.append(row("  together", (f"{total / 1e9:.3f}" for total in totals)))
    lines += ["", row("all devices together", plans)]
    lines.append(row("  clips a second", (f"{plan.clips:,.0f}" for plan in stages)))
    lines.append(row("  tokens a second", (f"{plan.tokens:,.0f}" for plan in stages)))
    lines.append(row("  steps", (f"{plan.steps:,}" for plan in stages)))
    lines.append(row("  ms a step, computing", (f"{1e3 * plan.compute:.1f}" for plan in stages)))
    lines.append(row("  ms a step, exchanging", (f"{1e3 * plan.exchange:.1f}" for plan in stages)))
    lines.append(row("  time", (duration(plan.seconds) for plan in stages)))
    lines += ["", f"both stages: {duration(sum(plan.seconds for plan in stages))}", *fit_notes(max(totals), device)]
    return "\n".join(lines)


def fit_notes(needed: float, device: Device) -> list[str]:
    """Whether the memory suffices, and what the figures rest on."""
    notes = []
    if needed > device.memory:
        notes.append(
            f"DOES NOT FIT: {device.memory / 1e9:.0f} GB a device; take more devices, a smaller --batch, or --fsdp"
        )
    return [
        *notes,
        f"peak        {device.peak / 1e12:.3g} TFLOP/s: {device.peak_from}",
        f"share       {device.share:.0%} of it in training: {device.share_from}",
        f"least       {1e3 * device.least:g} ms a step, however small: {device.least_from}",
        f"links       {device.bandwidth / 1e9:.0f} GB/s: {device.bandwidth_from}; only where there are several devices",
        "counted     weights, multiply-adds, and activations that the backward pass needs: in fp32 and not compiled,",
        "            so an upper bound",
        "left out    drawing clips, encoding them once on the first device, samples, saving, and compilation",
    ]
