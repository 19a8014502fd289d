"""The whole training, from nothing to a model that draws: VAE, cached latents, transformer, one file of weights.

sora-edu train --preset tiny --out runs/mine
torchrun --nproc-per-node 8 -m sora_edu.cli train --preset compact --out runs/mine
"""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor, nn

from sora_edu.cached import cache_captions, cache_latents, draw_pool, vae_digest
from sora_edu.checkpoint import save_tensors
from sora_edu.compute import LONG, autocast, compile_blocks, should_compile
from sora_edu.config import PRESETS, Preset
from sora_edu.distributed import ALONE, Ranks, started
from sora_edu.dit import TextToVideo, VideoDiTBlock
from sora_edu.errors import InputError
from sora_edu.flow import flow_loss, sample_times
from sora_edu.options import TrainOptions
from sora_edu.pipeline import Pipeline, model_metadata
from sora_edu.render import render
from sora_edu.run_folder import RunFolder
from sora_edu.seeds import Stream, coin, step_generator
from sora_edu.shapes import Latent, check_frames
from sora_edu.text import TextBlock
from sora_edu.tokenizer import Tokenizer
from sora_edu.training import Stage, fit
from sora_edu.vae import ResBlock, VideoVAE, psnr, vae_loss
from sora_edu.world import sample_state

TRANSFORMER = (VideoDiTBlock, TextBlock)  # the blocks that are compiled, and sharded under FSDP2
LOOK_PROMPTS = (
    "a red circle falls",
    "a large blue star moves left",
    "a green square orbits",
    "a yellow ring bounces",
    "a small purple triangle grows",
    "a white circle moves up and a red square stays still",
)


def train_vae(
    preset: Preset,
    out: Path,
    *,
    seed: int,
    resume: bool,
    device: torch.device,
    compiled: bool,
    ranks: Ranks = ALONE,
    deadline: float = math.inf,
) -> VideoVAE:
    """Stage one: the video VAE, on clips drawn as they are used or from a pool of them; returns its EMA."""
    torch.manual_seed(seed)
    vae = VideoVAE(preset.vae).to(device)
    generator = step_generator(seed, Stream.HELD_OUT, 0)
    held_out = render(sample_state(32, preset.world, split="heldout", generator=generator), preset.world)
    batch, mine = preset.vae_train.batch, ranks.rows(preset.vae_train.batch)
    pool = draw_pool(preset, seed=seed, device=device) if preset.pool else None
    blocks = (ResBlock,)
    if compiled:
        compile_blocks(vae, blocks)

    def draw(generator):
        if pool is not None:
            rows = (torch.rand(batch, generator=generator, device=device) * len(pool)).long()
            return pool[rows[mine]].float() / 127.5 - 1
        state = sample_state(batch, preset.world, orbit_weight=preset.orbit_weight, generator=generator)
        return render(state[mine], preset.world)

    def loss_fn(module, generator):
        video = draw(generator)
        noise = torch.randn(batch, *preset.latent_shape, generator=generator, device=device)
        return vae_loss(module, video, kl_weight=preset.kl_weight, noise=noise[mine])

    def evaluate(ema, step):
        with torch.no_grad(), autocast(device):
            decoded = ema.decode(ema.encode(held_out.to(device))).float().cpu()
        save_strips(torch.cat((held_out[:4], decoded[:4]), -2), out / "samples" / f"vae_{step:06d}.png")
        return {"psnr": float(psnr(decoded, held_out).mean())}

    stage = Stage(
        "vae", Stream.VAE, vae, loss_fn, preset.vae_train, evaluate, max(500, preset.vae_train.steps // 20), blocks
    )
    return fit(stage, out, seed=seed, resume=resume, ranks=ranks, deadline=deadline)


def save_strips(video, path: Path) -> None:
    """Every second frame of each clip, left to right, one clip a row."""
    from sora_edu.media import save_clip

    path.parent.mkdir(parents=True, exist_ok=True)
    rows = torch.cat(list(video.clamp(-1, 1)), -2)  # c f (b h) w
    save_clip(rows[:, ::2], path.with_suffix(".strip.png"), scale=2)


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
        t = sample_times(batch, generator=generator, device=device, shift=preset.shift)
        eps = torch.randn(x_0.shape, generator=generator, device=device)
        x_0, t, eps, words = (drawn[mine] for drawn in (x_0, t, eps, words))
        return {"loss": flow_loss(lambda x_t, t: module(x_t, t, words, words != 0), x_0, t=t, eps=eps)}

    return loss_fn


def train_dit(
    preset: Preset,
    vae: VideoVAE,
    out: Path,
    *,
    seed: int,
    resume: bool,
    device: torch.device,
    compiled: bool,
    graphs: bool = False,
    ranks: Ranks = ALONE,
    deadline: float = math.inf,
) -> TextToVideo:
    """Stage two: text encoder and VideoDiT on cached latents, captions dropped at times, images among the videos."""
    tokenizer = Tokenizer()
    latents = cache_latents(preset, vae, out, seed=seed, device=device, ranks=ranks)
    ids = cache_captions(preset, tokenizer, out, seed=seed, ranks=ranks).to(device)
    torch.manual_seed(seed)
    model = TextToVideo(preset.dit, preset.text, len(tokenizer)).to(device)
    sampler = Pipeline(preset, vae, copy.deepcopy(model), tokenizer)
    long = preset.dit_train.steps >= LONG  # a shorter run proves that everything works, and no more
    if compiled:
        compile_blocks(model, TRANSFORMER, mode="reduce-overhead" if graphs else None)

    loss_fn = captioned_losses(preset, latents, ids, ranks=ranks)

    def graphed(module, generator):
        torch.compiler.cudagraph_mark_step_begin()  # what the last step's graphs gave may be overwritten
        return loss_fn(module, generator)

    def evaluate(ema, step):
        sampler.model.load_state_dict(ema.state_dict())
        quick = {} if long else {"steps": 2}
        clips = sampler(list(LOOK_PROMPTS), frames=preset.world.frames, seed=seed, **quick)
        save_strips(clips, out / "samples" / f"dit_{step:06d}.png")
        return quick_accuracy(sampler, seed) if long else {}

    stage = Stage(
        "dit",
        Stream.DIT,
        model,
        graphed if graphs else loss_fn,
        preset.dit_train,
        evaluate,
        max(1000, preset.dit_train.steps // 10),
        TRANSFORMER,
        data=vae_digest(vae),
    )
    return fit(stage, out, seed=seed, resume=resume, ranks=ranks, deadline=deadline)


def quick_accuracy(sampler: Pipeline, seed: int, n: int = 64) -> dict:
    """Share of n seen prompts drawn with every attribute right: a rough figure to watch, not a result."""
    from sora_edu.evaluate import evaluate_pipeline

    result = evaluate_pipeline(sampler, split="seen", n=n, seed=seed, floors=False)
    return {name: result[name]["value"] for name in ("all", "shape", "colour", "motion")}


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
        check_frames(frames, preset.vae.ft)
        preset = replace(preset, world=replace(preset.world, frames=frames))
    return replace(preset, clips=clips or preset.clips)


def train(options: TrainOptions) -> Path:
    """Train a preset from nothing and return the file of weights, ready for ``sora-edu sample --checkpoint``.

    Under torchrun the processes share each batch; with ``fsdp`` they share the model's memory too.

    Raises InputError where the folder holds a run and ``resume`` is not given, or options do not fit; TrainingError
    where another run uses the folder; Stopped, once the state is saved, after SIGTERM or so many ``minutes``.
    """
    out, minutes = options.out, options.minutes
    deadline = math.inf if minutes is None else time.monotonic() + 60 * minutes
    lengths = {name: getattr(options, name) for name in ("vae_steps", "dit_steps", "clips", "batch", "frames")}

    with started(options.device, sharded=options.fsdp) as (ranks, where):
        chosen = choose_preset(options.preset, **lengths)
        compiled = should_compile(chosen.dit_train.steps, options.compile)
        if options.graphs and (where.type != "cuda" or not compiled):
            raise InputError(f"--graphs needs cuda and {LONG} steps or more, not {where}; leave it out")
        for config in (chosen.vae_train, chosen.dit_train):
            ranks.rows(config.batch)  # a batch that cannot be shared is refused now, not after the first stage
        more = dict(seed=options.seed, resume=options.resume, device=where, ranks=ranks, deadline=deadline)
        run = RunFolder(out, writes=ranks.first)
        with run.claimed(resume=options.resume, needed=written(chosen)):
            check_run(run, options, chosen)
            ranks.wait()  # for the first to have refused or claimed the folder
            vae = train_vae(chosen, out, compiled=should_compile(chosen.vae_train.steps, options.compile), **more)
            model = train_dit(chosen, vae, out, compiled=compiled, graphs=options.graphs, **more)
            if ranks.first:
                export(chosen, vae, model, out / "model.safetensors")
            ranks.wait()
    return out / "model.safetensors"


def check_run(run: RunFolder, options: TrainOptions, preset: Preset) -> None:
    """InputError where a run goes on with other settings than it was begun with, or with a longer training of the VAE.

    The transformer learns the latents of one VAE, and shows clips of no other.
    """
    if not run.writes:
        return
    vae, dit = preset.vae_train, preset.dit_train
    settings = {"preset": options.preset, "seed": options.seed, "clips": preset.clips, "frames": preset.world.frames}
    settings |= {"vae_batch": vae.batch, "dit_batch": dit.batch, "vae_steps": vae.steps, "dit_steps": dit.steps}
    grown = ("dit_steps",) if run.has_state("dit") else ("vae_steps", "dit_steps")
    run.begun_with(settings, growing=grown)


def written(preset: Preset) -> int:
    """Bytes that a run writes: the cached latents, and room for weights, states and samples."""
    return 2 * preset.clips * math.prod(preset.latent_shape) + 500_000_000


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
