"""A few-step student: the teacher's long guided walk from noise to clip, learned in four straight strides.

Why this way. A walk of 25 guided steps costs 50 passes, because the path bends and because guidance asks the model
twice. Both are facts about one fixed path: with the noise and the prompt given, the ODE has one end. So the student
learns the path itself: from where it is, the mean velocity to where the teacher is one stride later, with the
teacher's guidance already in it. That is distillation of a guided model (Meng et al. 2210.03142), with the walk
recorded once, as in knowledge distillation (Luhman and Luhman 2101.02388), and cut into strides, as in progressive
distillation (Salimans and Ho 2202.00512). Consistency and shortcut models do without recorded walks; here the
recording is cheap, and what is regressed is plain: no second network, no derivative of the model in time.

sora-edu distill --teacher tiny --out runs/student

(lesson 09)
"""

import copy
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from sora_edu.checked import checked
from sora_edu.checkpoint import save_tensors, verify
from sora_edu.compute import autocast, choose_device, compile_blocks, should_compile
from sora_edu.config import Preset, TrainConfig
from sora_edu.diffusion.flow import VelocityFn
from sora_edu.diffusion.guidance import guided
from sora_edu.diffusion.sampling import euler, time_grid
from sora_edu.errors import InputError
from sora_edu.model.dit import TextToVideo
from sora_edu.pipeline import Pipeline, model_metadata
from sora_edu.seeds import Stream, step_generator
from sora_edu.train.latents import kept_or_made
from sora_edu.train.loop import Stage, fit
from sora_edu.train.options import DistillOptions
from sora_edu.train.recipe import TRANSFORMER
from sora_edu.train.run_folder import RunFolder
from sora_edu.train.watching import quick_accuracy
from sora_edu.world.captions import caption
from sora_edu.world.scenes import sample_state

STRIDES = 4  # steps of the student
STEPS = 24  # steps of the teacher's walk, six a stride
SHARD = 256  # walks recorded at a time
STUDENT_TRAIN = TrainConfig(steps=8000, batch=16, lr=3e-4, muon_lr=1e-3, warmup=50, decay=0.8, ema=0.995)


@torch.no_grad()
@checked
def record_walk(
    velocity_fn: VelocityFn, noise: Float[Tensor, "b *rest"], *, strides: int, steps: int, shift: float
) -> Float[Tensor, "b {strides}+1 *rest"]:
    """Where a walk of ``steps`` Euler steps is at its start and after each of ``strides`` equal parts.

    The parts end where ``time_grid(strides)`` says, since every strides-th time of the finer grid is one of the
    coarser. Raises InputError where the strides do not divide the steps.
    """
    if strides < 1 or steps % strides:
        raise InputError(f"steps={steps} cannot be cut into strides={strides}; use a multiple of it, such as 24 and 4")
    places = []

    def keep(step, t, x_t, x_0_hat):
        if step % (steps // strides) == 0:
            places.append(x_t)

    end = euler(velocity_fn, noise, steps=steps, shift=shift, callback=keep)
    return torch.stack([*places, end], 1)


@checked
def stride_loss(velocity_fn: VelocityFn, walk: Float[Tensor, "b places *rest"], *, shift: float) -> Float[Tensor, ""]:
    """Mean square between the student's velocity and the one that reaches the teacher's next place, over all strides.

    walk: record_walk's. Each stride starts where the student's own last one ended, not where the teacher was, so
    the student learns to correct its own errors; no gradient flows from one stride into the one before.
    """
    times = time_grid(walk.shape[1] - 1, shift=shift).tolist()
    x_t = walk[:, 0]
    losses = []
    for (t, t_next), goal in zip(pairwise(times), walk[:, 1:].unbind(1), strict=True):
        velocity = velocity_fn(x_t, x_t.new_full(x_t.shape[:1], t))
        needed = (x_t - goal) / (t - t_next)
        losses.append((velocity - needed).square().mean())
        x_t = (x_t - (t - t_next) * velocity).detach()
    return torch.stack(losses).mean()


@torch.no_grad()
def record_shard(teacher: Pipeline, shard: int, *, seed: int) -> dict[str, Tensor]:
    """SHARD walks of the teacher for captions of trained combinations: "walk" n places c f h w (half), "ids" n l."""
    preset = teacher.preset
    generator = step_generator(seed, Stream.WALKS, shard)
    state = sample_state(SHARD, preset.world, orbit_weight=preset.orbit_weight, generator=generator)
    short, full = (caption(state, style=style, generator=generator) for style in ("short", "full"))
    prompts = [full[i] if i % 2 else short[i] for i in range(SHARD)]
    noise = torch.randn(SHARD, *preset.latent_shape, generator=generator)
    walks = []
    for part, said in zip(noise.split(64), (prompts[i : i + 64] for i in range(0, SHARD, 64)), strict=True):
        with autocast(teacher.device):
            text, null_text = teacher.encode_text(said), teacher.encode_text([""])
            velocity = guided(teacher.velocity, text=text, null_text=null_text, cfg_scale=preset.cfg_scale)
            walk = record_walk(velocity, part.to(teacher.device), strides=STRIDES, steps=STEPS, shift=preset.shift)
        walks.append(walk.half().cpu())
    ids = teacher.tokenizer.encode(prompts, max_tokens=preset.text.max_tokens)[0]
    return {"walk": torch.cat(walks), "ids": ids}


def record_walks(teacher: Pipeline, source: str, out: Path, *, walks: int, seed: int) -> dict[str, Tensor]:
    """All walks, from the shards on disk and, where one is missing, from the teacher; a killed run loses one shard."""
    made_by = {"teacher": source, "seed": seed}

    def recorded(shard: int) -> dict[str, Tensor]:
        path = out / f"walks_{shard:04d}.safetensors"
        return kept_or_made(path, made_by, lambda: record_shard(teacher, shard, seed=seed), "walk", "ids")

    parts = [recorded(shard) for shard in tqdm(range(-(-walks // SHARD)), desc="walks")]
    return {name: torch.cat([part[name] for part in parts])[:walks] for name in ("walk", "ids")}


def train_student(
    student: TextToVideo,
    teacher: Pipeline,
    walks: dict[str, Tensor],
    out: Path,
    *,
    config: TrainConfig,
    seed: int,
    compiled: bool,
) -> TextToVideo:
    """Train the student, as yet the teacher's copy, on the walks; returns its EMA."""
    preset = student_preset(teacher.preset)
    device = teacher.device
    walk, ids = walks["walk"].to(device), walks["ids"].to(device)
    student.train()
    sampler = Pipeline(preset, teacher.vae, copy.deepcopy(student), teacher.tokenizer)
    if compiled:
        compile_blocks(student, TRANSFORMER)

    def loss_fn(module, generator):
        rows = (torch.rand(config.batch, generator=generator, device=device) * len(ids)).long()
        text = module.text(ids[rows], ids[rows] != 0)
        velocity = lambda x_t, t: module.dit(x_t, t, text).float()  # noqa: E731
        return {"loss": stride_loss(velocity, walk[rows].float(), shift=preset.shift)}

    def evaluate(ema, step):
        sampler.model.load_state_dict(ema.state_dict())
        return quick_accuracy(sampler, seed, n=128)

    return fit(Stage("student", Stream.STUDENT, student, loss_fn, config, evaluate, 500), out, seed=seed, resume=True)


def student_preset(preset: Preset) -> Preset:
    """The teacher's preset with the student's way of sampling: STRIDES steps, no guidance, and one size of clips."""
    walked = replace(preset, other_sizes=(), other_share=0.0, known_frames=0.0)  # what the recorded walks show
    return replace(
        walked, steps=STRIDES, cfg_scale=1.0, description=f"{preset.description}; {STRIDES} steps without guidance"
    )


def distill(options: DistillOptions) -> Path:
    """Record the teacher's walks, train the student on them, and return the file of its weights, in half precision.

    A killed run goes on where it was with ``resume``. Raises InputError where the folder holds a run and ``resume``
    is not given, or walks of another teacher; TrainingError where another run uses it; Stopped after SIGTERM.
    """
    out = options.out
    walks = options.walks
    seed = options.seed
    lengths = {"steps": options.steps or STUDENT_TRAIN.steps, "batch": options.batch or STUDENT_TRAIN.batch}
    config = replace(STUDENT_TRAIN, **lengths)
    pipe = Pipeline.load(options.teacher, device=str(choose_device(options.device)))
    needed = 2 * (STRIDES + 1) * walks * math.prod(pipe.preset.latent_shape) + 500_000_000
    run = RunFolder(out)
    source = verify(options.teacher)
    with run.claimed(resume=options.resume, needed=needed):
        settings = {"teacher": source, "seed": seed, "walks": walks} | lengths
        run.begun_with(settings, growing=("steps",))
        compiled = should_compile(STRIDES * config.steps, options.compile)
        student = copy.deepcopy(pipe.model)  # before it is compiled: a compiled model does not copy
        if compiled:
            compile_blocks(pipe.model, TRANSFORMER)
        recorded = record_walks(pipe, source, out, walks=walks, seed=seed)
        student = train_student(student, pipe, recorded, out, config=config, seed=seed, compiled=compiled)
        return export_student(pipe, student, out / "model.safetensors")


def export_student(teacher: Pipeline, student: TextToVideo, path: Path) -> Path:
    """Write the student's weights beside the teacher's VAE, in half precision, and read them back once."""
    tensors = {f"vae.{k}": v.half() for k, v in teacher.vae.state_dict().items()}
    tensors |= {f"model.{k}": v.half() for k, v in student.state_dict().items()}
    save_tensors(path, tensors, model_metadata(student_preset(teacher.preset), teacher.tokenizer))
    Pipeline.load(path)
    return path
