"""The whole training, from nothing to a model that draws: VAE, cached latents, transformer, one file of weights.

sora-edu train --preset tiny --out runs/mine
torchrun --nproc-per-node 8 -m sora_edu.cli train --preset compact --out runs/mine

Both stages go through one loop (lesson 10).
"""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor, nn

from sora_edu.checked import checked
from sora_edu.checkpoint import find_checkpoint, load_tensors, load_weights, save_tensors
from sora_edu.compute import LONG, compile_blocks, should_compile
from sora_edu.config import PRESETS, Preset
from sora_edu.diffusion.editing import sample_known, times_of_frames
from sora_edu.diffusion.flow import flow_loss, sample_times
from sora_edu.errors import CheckpointError, InputError
from sora_edu.model.dit import TextToVideo, VideoDiTBlock
from sora_edu.model.text import TextBlock
from sora_edu.model.tokenizer import Tokenizer
from sora_edu.model.vae import ResBlock, VideoVAE, object_weights, vae_loss
from sora_edu.pipeline import Pipeline, model_metadata, preset_from_json
from sora_edu.seeds import Stream, coin
from sora_edu.shapes import Latent, Video
from sora_edu.train.distributed import ALONE, Ranks, started
from sora_edu.train.latents import (
    by_size,
    cache_captions,
    cache_latents,
    clip_source,
    count_latents,
    held_out_clips,
    vae_digest,
)
from sora_edu.train.loop import Stage, fit
from sora_edu.train.options import TrainOptions
from sora_edu.train.run_folder import RunFolder
from sora_edu.train.watching import watch_transformer, watch_vae
from sora_edu.world.scenes import MOST_FRAMES

TRANSFORMER = (VideoDiTBlock, TextBlock)  # the blocks that are compiled, and sharded under FSDP2
LossFn = Callable[[nn.Module, torch.Generator], dict[str, Tensor]]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One training, as both of its stages see it: what was asked for, and who does it where."""

    options: TrainOptions
    preset: Preset
    ranks: Ranks
    device: torch.device
    deadline: float

    def fit(self, stage: Stage) -> nn.Module:
        """Train a stage, or go on with it; returns its EMA."""
        asked = self.options
        return fit(stage, asked.out, seed=asked.seed, resume=asked.resume, ranks=self.ranks, deadline=self.deadline)


@checked
def vae_losses(preset: Preset, draw: Callable[[torch.Generator], Video], *, ranks: Ranks = ALONE) -> LossFn:
    """What a step of the VAE's training minimises; ``draw`` gives this rank's clips."""
    batch, mine = preset.vae_train.batch, ranks.rows(preset.vae_train.batch)

    def loss_fn(module: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
        video = draw(generator)
        noise = torch.randn(batch, *preset.latent_shape, generator=generator, device=generator.device)
        weights = object_weights(video) if preset.weigh_objects else None
        return vae_loss(module, video, kl_weight=preset.kl_weight, weights=weights, noise=noise[mine])

    return loss_fn


def in_turn(preset: Preset, losses: list[LossFn]) -> LossFn:
    """The losses of one size of clips at each step, drawn as the preset's shares say; all ranks draw the same."""
    if len(losses) == 1:
        return losses[0]
    share, others = preset.other_share, len(preset.other_sizes)

    def loss_fn(module: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
        number = coin(generator, place=1)
        size = min(1 + int(number / share * others), others) if number < share else 0
        return losses[size](module, generator)

    return loss_fn


def with_more_pairs(preset: Preset) -> Preset:
    """The preset with the world that its VAE learns from: two objects in more clips, where ``vae_pairs`` says so."""
    pairs = max(preset.world.pair_fraction, preset.vae_pairs)
    return replace(preset, world=replace(preset.world, pair_fraction=pairs))


def train_vae(job: Job) -> VideoVAE:
    """Stage one: the video VAE, on clips drawn as they are used or from pools of them; returns its EMA."""
    preset, seed, settings = job.preset, job.options.seed, job.preset.vae_train
    torch.manual_seed(seed)
    vae = VideoVAE(preset.vae).to(job.device)
    if should_compile(settings.steps, job.options.compile):
        compile_blocks(vae, (ResBlock,))
    drawn = {"seed": seed, "device": job.device, "ranks": job.ranks}
    losses = [
        vae_losses(one, clip_source(one, **drawn, size=size), ranks=job.ranks)
        for size, one in enumerate(by_size(with_more_pairs(preset), ranks=job.ranks))
    ]
    stage = Stage(
        "vae",
        Stream.VAE,
        vae,
        in_turn(preset, losses),
        settings,
        watch_vae(held_out_clips(preset, seed=seed), job.options.out, device=job.device),
        max(500, settings.steps // 20),
        (ResBlock,),
    )
    return job.fit(stage)


def given_weights(module: nn.Module, part: str, name_or_path: str, *, preset: Preset) -> nn.Module:
    """A module with the weights of a checkpoint's ``part``, "vae" or "model", in place of new ones.

    CheckpointError where there are none, or those of another shape.
    """
    path = find_checkpoint(name_or_path)
    tensors, meta = load_tensors(path)
    if "preset" in meta:
        kept = preset_from_json(meta["preset"])
        for name in ("vae",) if part == "vae" else ("dit", "text"):
            if (found := getattr(kept, name)) != (asked := getattr(preset, name)):
                raise CheckpointError(f"{path} is of {found}, but the preset asks for {asked}; leave it out")
    weights = {name.removeprefix(f"{part}."): w.float() for name, w in tensors.items() if name.startswith(f"{part}.")}
    if not weights:
        raise CheckpointError(f"{path} holds no weights of a {part}; give a checkpoint that has them, such as tiny")
    load_weights(module, weights, source=str(path))
    return module


@checked
def captioned_losses(
    preset: Preset, latents: Latent, ids: Int[Tensor, "n 2 l"], *, ranks: Ranks = ALONE
) -> Callable[[nn.Module, torch.Generator], dict[str, Tensor]]:
    """What a step of the transformer's training minimises: a function of (module, generator), as a Stage wants it.

    ids are a short and a full caption of each latent. All ranks draw the same batch, and each keeps its own rows.
    """
    batch, mine, device = preset.dit_train.batch, ranks.rows(preset.dit_train.batch), latents.device
    empty = Tokenizer().encode([""], max_tokens=ids.shape[-1])[0].to(device)

    def loss_fn(module: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
        def rand(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=generator, device=device)

        rows = (rand(batch) * len(latents)).long()  # clips in random order
        words = ids[rows, (rand(batch) * 2).long()]  # the short caption or the full one
        words = torch.where(rand(batch, 1) < preset.caption_dropout, empty, words)  # now and then none
        x_0 = latents[rows].float()
        if coin(generator) < preset.dit_train.image_fraction:
            x_0 = x_0[:, :, :1]  # an image: the VAE is causal, so its first latent frame is the first frame's
        t = sample_times(batch, generator=generator, device=device, kind=preset.times, shift=preset.shift)
        eps = torch.randn(x_0.shape, generator=generator, device=device)
        if preset.known_frames:
            share, frames = preset.known_frames, x_0.shape[2]
            t = times_of_frames(t, sample_known(batch, frames, share=share, generator=generator, device=device))
        x_0, t, eps, words = (drawn[mine] for drawn in (x_0, t, eps, words))
        return {"loss": flow_loss(lambda x_t, t: module(x_t, t, words, words != 0), x_0, t=t, eps=eps)}

    return loss_fn


def recorded_as_graphs(loss_fn: LossFn) -> LossFn:
    """The same losses, for blocks that are recorded as CUDA graphs."""

    def graphed(module: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
        torch.compiler.cudagraph_mark_step_begin()  # what the last step's graphs gave may be overwritten
        return loss_fn(module, generator)

    return graphed


@checked
def train_dit(job: Job, vae: VideoVAE, latents: list[Tensor], ids: list[Tensor]) -> TextToVideo:
    """Stage two: text encoder and VideoDiT on cached latents, captions dropped at times, images among the videos.

    latents and the ids of their captions, as ``captioned_losses`` takes them, are those of each size (``by_size``).
    """
    preset, asked, settings = job.preset, job.options, job.preset.dit_train
    tokenizer = Tokenizer()
    torch.manual_seed(asked.seed)
    model = TextToVideo(preset.dit, preset.text, len(tokenizer))
    if asked.init is not None:
        given_weights(model, "model", asked.init, preset=preset)
    model = model.to(job.device)
    sampler = Pipeline(preset, vae, copy.deepcopy(model), tokenizer)
    if should_compile(settings.steps, asked.compile):
        compile_blocks(model, TRANSFORMER, mode="reduce-overhead" if asked.graphs else None)
    sizes = by_size(preset, ranks=job.ranks)
    losses = [captioned_losses(*size, ranks=job.ranks) for size in zip(sizes, latents, ids, strict=True)]
    loss_fn = in_turn(preset, losses)
    stage = Stage(
        "dit",
        Stream.DIT,
        model,
        recorded_as_graphs(loss_fn) if asked.graphs else loss_fn,
        settings,
        watch_transformer(sampler, asked.out, seed=asked.seed, measured=settings.steps >= LONG),
        max(1000, settings.steps // 5),
        TRANSFORMER,
        data=vae_digest(vae),
    )
    return job.fit(stage)


def choose_preset(
    name: str,
    *,
    vae_steps: int | None = None,
    dit_steps: int | None = None,
    clips: int | None = None,
    batch: int | None = None,
    frames: int | None = None,
) -> Preset:
    """A preset by name, with lengths, batch and frames replaced where given; InputError names frames that fit."""
    if name not in PRESETS:
        raise InputError(f"preset {name!r} is unknown; use one of {', '.join(PRESETS)}")
    preset = PRESETS[name]
    for stage, steps in (("vae_train", vae_steps), ("dit_train", dit_steps)):
        config = getattr(preset, stage)
        config = replace(config, steps=steps or config.steps, batch=batch or config.batch)
        preset = replace(preset, **{stage: config})
    if frames is not None:
        preset = replace(preset, world=replace(preset.world, frames=frames))
    return replace(preset, clips=clips or preset.clips)


def train(options: TrainOptions) -> Path:
    """Train a preset from nothing and return the file of weights, ready for ``sora-edu sample --checkpoint``.

    Under torchrun the processes share each batch; with ``fsdp`` they share the model's memory too.

    Raises InputError where the folder holds a run and ``resume`` is not given, or options do not fit; TrainingError
    where another run uses the folder; Stopped, once the state is saved, after SIGTERM or so many ``minutes``.
    """
    out, seed = options.out, options.seed
    deadline = math.inf if options.minutes is None else time.monotonic() + 60 * options.minutes
    lengths = {name: getattr(options, name) for name in ("vae_steps", "dit_steps", "clips", "batch", "frames")}

    with started(options.device, sharded=options.fsdp) as (ranks, device):
        preset = choose_preset(options.preset, **lengths)
        job = Job(options=options, preset=preset, ranks=ranks, device=device, deadline=deadline)
        check_job(job)
        taken, vae = options.vae or options.init, None
        if taken is not None:
            vae = given_weights(VideoVAE(preset.vae), "vae", taken, preset=preset).to(device).eval()
        run = RunFolder(out, writes=ranks.first)
        with run.claimed(resume=options.resume, needed=written(preset)):
            check_run(run, options, preset)
            ranks.wait()  # for the first to have refused or claimed the folder
            vae = vae or train_vae(job)
            latents, ids = [], []
            for size, one in enumerate(by_size(preset)):
                latents.append(cache_latents(one, vae, out, seed=seed, device=device, ranks=ranks, size=size))
                ids.append(cache_captions(one, Tokenizer(), out, seed=seed, ranks=ranks, size=size).to(device))
            model = train_dit(job, vae, latents, ids)
            if ranks.first:
                export(preset, vae, model, out / "model.safetensors")
            ranks.wait()
    return out / "model.safetensors"


def check_job(job: Job) -> None:
    """InputError where something would fail only after the first stage."""
    if job.options.graphs:
        compiled = job.device.type == "cuda" and should_compile(job.preset.dit_train.steps, job.options.compile)
        if not compiled:
            raise InputError(f"--graphs needs cuda and {LONG} steps or more, not {job.device}; leave it out")
    frames = job.preset.world.frames
    for config in (job.preset.vae_train, job.preset.dit_train):
        job.ranks.rows(config.batch)  # refuses a batch that cannot be shared
        if config.batch > MOST_FRAMES // frames:
            raise InputError(f"a batch of {config.batch} clips of {frames} frames; use {MOST_FRAMES // frames} at most")


def check_run(run: RunFolder, options: TrainOptions, preset: Preset) -> None:
    """InputError where a run goes on with other settings than it was begun with, or with a longer training of the VAE.

    The transformer learns the latents of one VAE, and shows clips of no other.
    """
    if not run.writes:
        return
    vae, dit = preset.vae_train, preset.dit_train
    settings = {"preset": options.preset, "seed": options.seed, "clips": preset.clips, "frames": preset.world.frames}
    settings |= {"vae_batch": vae.batch, "dit_batch": dit.batch, "vae_steps": vae.steps, "dit_steps": dit.steps}
    settings |= {"vae": options.vae, "init": options.init}
    grown = ("dit_steps",) if run.has_state("dit") else ("vae_steps", "dit_steps")
    run.begun_with(settings, growing=grown)


def written(preset: Preset) -> int:
    """Bytes that a run writes: the cached latents, and room for weights, states and samples."""
    return 2 * count_latents(preset) + 500_000_000


def export(preset: Preset, vae: VideoVAE, model: TextToVideo, path: Path) -> Path:
    """Write the weights that sampling needs, and the configuration they belong to, into one file."""
    tensors = {f"vae.{k}": v for k, v in vae.state_dict().items()} | {
        f"model.{k}": v for k, v in model.state_dict().items()
    }
    if preset.half:
        exact = ("vae.latent_mean", "vae.latent_scale")
        tensors = {k: v if k in exact else v.bfloat16() for k, v in tensors.items()}
    save_tensors(path, tensors, model_metadata(preset, Tokenizer()))
    Pipeline.load(path)  # what was written is what will be read, or this says what is wrong with it
    return path
