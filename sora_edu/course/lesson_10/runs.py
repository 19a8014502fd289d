"""Trainings of growing length for lesson 10: one VAE, the same clips and first weights, 1, 4 and 32 times the steps.

    python -m sora_edu.course.lesson_10.runs     about twenty minutes on two CPU cores; stop it at any time, start again

The recipe is the tiny preset's, at half its batch. Along the way the weights as they are ("raw") and their average
("ema") draw the same prompts from the same noise, and are measured. Kept: a sheet of strips, and a JSON file with
losses and accuracies.
"""

import argparse
import copy
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int
from PIL import Image as Pillow
from torch import Tensor, nn

from sora_edu.checkpoint import verify, write_atomically
from sora_edu.compute import autocast, compile_blocks, should_compile
from sora_edu.diffusion.flow import interpolate, shift_times, velocity_target
from sora_edu.errors import InputError, Stopped
from sora_edu.evaluate import prompts_of, rounded, shares_right
from sora_edu.media import to_uint8
from sora_edu.model.dit import TextToVideo
from sora_edu.model.vae import VideoVAE
from sora_edu.pipeline import Pipeline
from sora_edu.seeds import Stream, step_generator
from sora_edu.shapes import Latent, Video
from sora_edu.train.latents import cache_captions, cache_latents
from sora_edu.train.loop import Stage, fit
from sora_edu.train.recipe import TRANSFORMER, captioned_losses
from sora_edu.train.run_folder import locked, read_metrics, same_settings
from sora_edu.world.captions import caption
from sora_edu.world.render import render
from sora_edu.world.scenes import sample_state
from sora_edu.world.tracker.track import track

RECORD = Path(__file__).resolve().parents[3] / "data" / "lessons" / "runs_10.json"
SHEET = RECORD.with_suffix(".png")
RUNS = {"base": 1, "4x": 4, "32x": 32, "4x, AdamW alone": 4}  # lengths over the base's
PROMPTS = (
    "a red circle falls",
    "a large blue star moves left",
    "a yellow ring bounces",
    "a small purple triangle grows",
)
EVERY = 4  # of the frames, one in so many is kept
HELD = 128  # clips that no run trains on; their loss is measured at two times each
COLOURS = 160  # of the sheet, which makes it a third as large
Ids = Int[Tensor, "n l"]


# --- what is trained on, and how it is measured -----------------------------------------------------------------------


def held_times(n: int, *, shift: float) -> Float[Tensor, "{n}"]:
    """n times spread evenly over those that training draws: the quantiles of logit-normal times, shifted."""
    u = (torch.arange(n) + 0.5) / n
    return shift_times(torch.special.ndtri(u).sigmoid(), shift)


@torch.no_grad()
def held_loss(model: nn.Module, x_0: Latent, words: Ids, *, shift: float) -> float:
    """The training's loss on clips, times and noise that stay the same from look to look."""
    n, device = len(x_0), x_0.device
    t = held_times(2 * n, shift=shift)[torch.randperm(2 * n, generator=torch.Generator().manual_seed(1))].to(device)
    eps = torch.randn(2 * n, *x_0.shape[1:], generator=torch.Generator().manual_seed(2)).to(device)
    total = 0.0
    for part in torch.arange(2 * n, device=device).split(64):
        x, e, w = x_0[part % n].float(), eps[part], words[part % n]
        with autocast(device):
            velocity = model(interpolate(x, e, t[part]), t[part], w, w != 0)
        total += float((velocity.float() - velocity_target(x, e, t[part])).square().mean()) * len(part)
    return total / (2 * n)


def vae_digest(vae: VideoVAE) -> str:
    """A checksum of the VAE alone: runs on its latents stay true while it does not change."""
    digest = hashlib.sha256()
    for name, tensor in sorted(vae.state_dict().items()):
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def folder_of(out: Path, name: str) -> Path:
    """Where a run keeps its states, metrics and strips."""
    return out / name.replace(", ", "_").replace(" ", "_")


# --- a run ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Material:
    """What all runs share: the model whose VAE is used, its latents and captions, and clips held out."""

    pipe: Pipeline
    latents: Latent
    ids: Int[Tensor, "n 2 l"]
    held: Float[Tensor, "held z lf lh lw"]
    held_words: Int[Tensor, "held l"]
    seed: int


def gather(pipe: Pipeline, out: Path, *, seed: int) -> Material:
    """Encode the preset's clips with the pipeline's VAE, once, and draw the held-out ones."""
    preset, device = pipe.preset, pipe.device
    vae = copy.deepcopy(pipe.vae)
    latents = cache_latents(preset, vae, out, seed=seed, device=device)
    ids = cache_captions(preset, pipe.tokenizer, out, seed=seed).to(device)
    generator = step_generator(seed, Stream.WALKS, 0)
    state = sample_state(HELD, preset.world, orbit_weight=preset.orbit_weight, generator=generator)
    words = pipe.tokenizer.encode(caption(state, generator=generator), max_tokens=preset.text.max_tokens)[0]
    with torch.no_grad():
        held = torch.cat([vae.encode(part.to(device)) for part in render(state, preset.world).split(32)])
    return Material(Pipeline(preset, vae, pipe.model, pipe.tokenizer), latents, ids, held, words.to(device), seed)


def look(material: Material, model: nn.Module, *, n: int) -> dict:
    """Held-out loss, and what the tracker reads of n clips of seen prompts: shares with 95 % intervals."""
    pipe = Pipeline(material.pipe.preset, material.pipe.vae, model, material.pipe.tokenizer)
    _, said, prompts = prompts_of("seen", n, pipe.preset.world, seed=material.seed)
    shares = shares_right(said, track(pipe(prompts, seed=material.seed)))
    right = {name: shares[name] for name in ("all", "shape", "colour", "motion") if name in shares}
    loss = held_loss(model, material.held, material.held_words, shift=pipe.preset.shift)
    return {"loss": loss, "right": right}


def strip(material: Material, model: nn.Module) -> np.ndarray:
    """The prompts, drawn by a model from the noise that every look starts from: prompts frames h w c, bytes."""
    pipe = Pipeline(material.pipe.preset, material.pipe.vae, model, material.pipe.tokenizer)
    video = pipe(list(PROMPTS), seed=material.seed)[:, :, ::EVERY]
    return rearrange(to_uint8(video), "b c f h w -> b f h w c").numpy()


def run(name: str, material: Material, out: Path, *, base: int, n: int, n_last: int, compiled: bool) -> dict:
    """Train one length by the recipe, looking every two base lengths; go on with what the folder holds."""
    preset, steps = material.pipe.preset, base * RUNS[name]
    config = replace(
        preset.dit_train,
        steps=steps,
        warmup=max(1, min(preset.dit_train.warmup, steps // 16)),  # a sixteenth, or the base would be all warm-up
        log_every=max(1, steps // 60),
        save_every=base,
        muon_lr=0.0 if "AdamW" in name else preset.dit_train.muon_lr,
    )
    preset = replace(preset, dit_train=config)
    torch.manual_seed(material.seed)
    model = TextToVideo(preset.dit, preset.text, len(material.pipe.tokenizer)).to(material.latents.device)
    plain = copy.deepcopy(model)  # not compiled, for the looks
    folder = folder_of(out, name)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / f"strip_{0:06d}.npy", strip(material, plain))
    if compiled:
        compile_blocks(model, TRANSFORMER)

    def see(ema: nn.Module, step: int) -> dict:
        found = {}
        for kind, weights in (("raw", model), ("ema", ema)):
            plain.load_state_dict(weights.state_dict())
            found[kind] = look(material, plain, n=n_last if step == steps else n)
        np.save(folder / f"strip_{step:06d}.npy", strip(material, plain))  # of the average, which came last
        return found

    loss_fn = captioned_losses(preset, material.latents, material.ids)
    stage = Stage("dit", Stream.DIT, model, loss_fn, config, see, 2 * base)
    fit(stage, folder, seed=material.seed, resume=True)
    lines = read_metrics(folder / "metrics.jsonl")
    return {
        "name": name,
        "steps": steps,
        "clips": steps * config.batch,
        "lr": config.lr,
        "muon_lr": config.muon_lr,
        "warmup": config.warmup,
        "losses": [[line["step"], line["loss"]] for line in lines if "loss" in line],
        "looks": [{k: line[k] for k in ("step", "raw", "ema")} for line in lines if "ema" in line],
    }


def agreement(losses: Sequence[float | int], shares: Sequence[float | int]) -> float:
    """Of the pairs that differ in both, the part in which the lower loss has the higher share."""
    pairs = [
        (losses[i] < losses[j]) == (shares[i] > shares[j])
        for i, j in combinations(range(len(losses)), 2)
        if losses[i] != losses[j] and shares[i] != shares[j]
    ]
    return sum(pairs) / len(pairs)


# --- the record -------------------------------------------------------------------------------------------------------


def sheet_of(runs: list[dict], out: Path) -> tuple[Pillow.Image, list[dict]]:
    """All strips below each other as one picture of few colours, and for each its run and step."""
    rows, strips = [], []
    for entry in runs:
        steps = [0, *(look["step"] for look in entry["looks"])]
        for step in steps if entry["name"] == "32x" else steps[-1:]:
            strips.append(np.load(folder_of(out, entry["name"]) / f"strip_{step:06d}.npy"))
            rows.append({"run": entry["name"], "step": step})
    picture = Pillow.fromarray(rearrange(np.stack(strips), "s b f h w c -> (s b h) (f w) c"))
    return picture.quantize(COLOURS, Pillow.Quantize.MAXCOVERAGE, kmeans=1, dither=Pillow.Dither.NONE), rows


@cache
def recorded() -> dict:
    """The recorded runs, with n, intervals, the command and the VAE's checksum."""
    return json.loads(RECORD.read_text())


def recorded_strips(run: str) -> dict[int, Video]:
    """Step to clips, prompts c f h w in [-1, 1], of one recorded run; InputError names the runs there are."""
    record = recorded()
    if run not in (names := [entry["name"] for entry in record["runs"]]):
        raise InputError(f"run={run!r} is not recorded; there are {', '.join(names)}")
    pixels = torch.from_numpy(np.array(Pillow.open(SHEET).convert("RGB"))) / 127.5 - 1
    strips = rearrange(
        pixels,
        "(s b h) (f w) c -> s b c f h w",
        s=len(record["strips"]),
        b=len(record["prompts"]),
        f=record["frames"],
    )
    return {row["step"]: strips[i] for i, row in enumerate(record["strips"]) if row["run"] == run}


def make(asked: argparse.Namespace) -> dict:
    """Train every length, or go on with what is there, and return the record; the sheet is written beside it."""
    pipe = Pipeline.load(asked.checkpoint, device=asked.device)
    train = replace(pipe.preset.dit_train, batch=asked.batch)
    pipe.preset = replace(pipe.preset, clips=asked.clips or pipe.preset.clips, dit_train=train)
    with locked(asked.out):
        same_settings(asked.out / "settings.json", {"base": asked.base, "batch": train.batch, "n": asked.n})
        material = gather(pipe, asked.out, seed=asked.seed)
        compiled = should_compile(asked.base, None)
        runs = [
            run(name, material, asked.out, base=asked.base, n=asked.n, n_last=4 * asked.n, compiled=compiled)
            for name in RUNS
        ]
        picture, strips = sheet_of(runs, asked.out)
    picture.save(asked.record.with_suffix(".png"), optimize=True)
    options = {k: getattr(asked, k) for k in ("checkpoint", "base", "batch", "clips", "n", "seed")}
    given = " ".join(f"--{name} {value}" for name, value in options.items() if value is not None)
    return {
        "command": f"python -m sora_edu.course.lesson_10.runs {given}",
        "checkpoint": verify(asked.checkpoint),
        "vae": vae_digest(pipe.vae),
        "base": asked.base,
        "batch": train.batch,
        "cached": pipe.preset.clips,
        "prompts": list(PROMPTS),
        "frames": len(range(0, pipe.preset.world.frames, EVERY)),
        "strips": strips,
        "runs": rounded(runs),
    }


def main() -> None:
    """Train, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default="tiny", help="whose VAE and preset to use")
    parser.add_argument("--base", type=int, default=64, help="steps of the shortest run")
    parser.add_argument("--batch", type=int, default=32, help="clips a step")
    parser.add_argument("--clips", type=int, default=None, help="cached clips, in place of the preset's")
    parser.add_argument("--n", type=int, default=40, help="prompts a look; four times as many at the end of a run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=Path("runs/lesson_10"), help="folder of the trainings")
    parser.add_argument("--record", type=Path, default=RECORD, help="where to write the record; its sheet beside it")
    asked = parser.parse_args()
    try:
        record = make(asked)
    except Stopped as stop:  # the run under way is saved
        sys.exit(128 + stop.signal if stop.signal else 0)
    write_atomically(asked.record, (json.dumps(record) + "\n").encode())
    print(asked.record)


if __name__ == "__main__":
    main()
