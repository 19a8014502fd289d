"""Time to quality: how good is a recipe's model after so many minutes of training?

    python -m sora_edu.bench.quality --minutes 20      two recipes, two seeds: an hour and a half on two CPU cores

Every recipe trains a transformer and its text encoder from nothing for equal minutes, compilation included, on the same
latents of the same VAE, at one width and depth. What is drawn for prompts of held-out combinations is read by the
tracker as it goes; reading does not count as training.
"""

import copy
import json
import statistics
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
import tyro
from jaxtyping import Bool, Int
from torch import Tensor, nn

from sora_edu.bench.machine import describe
from sora_edu.bench.models import Size
from sora_edu.bench.peers import TextbookTextDiT, check_peers
from sora_edu.checkpoint import verify, write_atomically
from sora_edu.compute import can_compile, compile_blocks
from sora_edu.config import Preset
from sora_edu.errors import InputError
from sora_edu.evaluate import prompts_of, rounded, shares_right
from sora_edu.model.dit import TextToVideo
from sora_edu.model.scaling import count_parameters
from sora_edu.model.text import TextEncoder
from sora_edu.pipeline import Pipeline
from sora_edu.seeds import Stream
from sora_edu.shapes import Latent, Times
from sora_edu.train.latents import cache_captions, cache_latents, caption_ids
from sora_edu.train.loop import Stage, TrainState, fit
from sora_edu.train.recipe import TRANSFORMER, LossFn, captioned_losses
from sora_edu.train.run_folder import locked, read_metrics, same_settings
from sora_edu.world.render import render
from sora_edu.world.scenes import sample_state
from sora_edu.world.tracker.track import track

RECORD = Path(__file__).resolve().parents[2] / "data" / "benchmarks" / "quality.json"
LOOKS = 8  # times that a training is measured
PROBE = 24  # steps from which the time of a step is known
RIGHT = ("all", "shape", "colour", "motion")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One way to train. What is not said is as ``sora-edu train`` does it."""

    textbook: bool = False  # a DiT of timm's blocks, AdamW, fp32, eager, uniform times
    muon: bool = True
    ema: bool = True  # draw with the average of the weights
    orbit_weight: float | None = None  # how often an object orbits
    cached: bool = True  # latents encoded once, not at each step
    uniform: bool = False  # all times alike


OURS, TEXTBOOK = "ours", "textbook"
RECIPES = {
    OURS: Recipe(),
    TEXTBOOK: Recipe(textbook=True, muon=False, uniform=True),
    "ours with AdamW alone": Recipe(muon=False),
    "ours with uniform times": Recipe(uniform=True),
    "ours without the average": Recipe(ema=False),
    "ours, orbits as often as the rest": Recipe(orbit_weight=1.0),
    "ours, encoding at each step": Recipe(cached=False),
}


class TextbookModel(nn.Module):
    """Our text encoder and the textbook DiT, in the form of ``TextToVideo``."""

    def __init__(self, preset: Preset, vocabulary: int):
        super().__init__()
        dit = preset.dit
        channels, f, h, w = preset.latent_shape
        _, ph, pw = dit.patch
        size = Size(
            width=dit.width, depth=dit.depth, heads=dit.heads, channels=channels, grid=(f, h // ph, w // pw),
            text_width=dit.text_width, words=preset.text.max_tokens,
        )  # fmt: skip
        self.text = TextEncoder(preset.text, vocabulary)
        self.dit = TextbookTextDiT(size)

    def forward(self, x_t: Latent, t: Times, ids: Int[Tensor, "b l"], mask: Bool[Tensor, "b l"]) -> Latent:
        return self.dit(x_t, t, self.text(ids, mask))


# --- one training -----------------------------------------------------------------------------------------------------


def settings_of(recipe: Recipe, preset: Preset, *, steps: int) -> Preset:
    """The preset as a recipe trains it: clips of one size, none of whose frames is known, and no single pictures.

    So all recipes can do it. The textbook's rate, warm-up and decay are ours.
    """
    stage = replace(preset.dit_train, steps=steps, image_fraction=0.0, save_every=max(1, steps // LOOKS))
    stage = stage if recipe.muon else replace(stage, muon_lr=0.0)
    preset = replace(preset, other_sizes=(), other_share=0.0, known_frames=0.0, dit_train=stage)
    preset = replace(preset, times="uniform", shift=1.0) if recipe.uniform else preset
    return preset if recipe.orbit_weight is None else replace(preset, orbit_weight=recipe.orbit_weight)


def losses_of(recipe: Recipe, preset: Preset, pipe: Pipeline, folder: Path, *, seed: int) -> LossFn:
    """What a step of a recipe minimises, on latents in the folder; encoded first where they are not there."""
    device = pipe.device
    if recipe.cached:
        latents = cache_latents(preset, pipe.vae, folder, seed=seed, device=device)
        ids = cache_captions(preset, pipe.tokenizer, folder, seed=seed).to(device)
        loss_fn = captioned_losses(preset, latents, ids)
    else:
        loss_fn = partial(encoded_now, preset, pipe)
    return in_fp32(loss_fn, device) if recipe.textbook else loss_fn


def encoded_now(preset: Preset, pipe: Pipeline, module: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
    """The same loss on clips that are drawn, written about and encoded at this step."""
    state = sample_state(preset.dit_train.batch, preset.world, orbit_weight=preset.orbit_weight, generator=generator)
    ids = caption_ids(state, preset, pipe.tokenizer, generator)
    with torch.no_grad():
        latents = pipe.vae.encode(render(state, preset.world))
    return captioned_losses(preset, latents.float(), ids)(module, generator)


def in_fp32(loss_fn: LossFn, device: torch.device) -> LossFn:
    """The same without mixed precision, whatever the loop has turned on."""

    def plain(module: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
        with torch.autocast(device.type, enabled=False):
            return loss_fn(module, generator)

    return plain


def built(recipe: Recipe, preset: Preset, pipe: Pipeline, *, seed: int) -> nn.Module:
    """A recipe's model, not trained."""
    torch.manual_seed(seed)
    words = len(pipe.tokenizer)
    model = TextbookModel(preset, words) if recipe.textbook else TextToVideo(preset.dit, preset.text, words)
    return model.to(pipe.device)


def time_a_step(
    recipe: Recipe, preset: Preset, pipe: Pipeline, folder: Path, *, seed: int, compiled: bool
) -> dict[str, float]:
    """Seconds that a recipe's first step takes longer than the others, which is compilation, and seconds of a step."""
    model = built(recipe, preset, pipe, seed=seed)
    if compiled and not recipe.textbook:
        compile_blocks(model, TRANSFORMER)
    config = replace(preset.dit_train, steps=PROBE)
    state = TrainState(Stage("probe", Stream.DIT, model, losses_of(recipe, preset, pipe, folder, seed=seed), config))
    seconds = []
    for _ in range(PROBE):
        state.step()
        seconds.append(state.seconds - sum(seconds))
    step = statistics.median(seconds[PROBE // 2 :])
    return {"compile_seconds": max(0.0, sum(seconds) - PROBE * step), "step_seconds": step}


def train(name: str, pipe: Pipeline, out: Path, *, minutes: float, n: int, seed: int, compiled: bool) -> dict:
    """Train one recipe, or go on with what its folder holds, and return its curve: minutes, and shares read right."""
    recipe = RECIPES[name]
    folder = out / f"{name.replace(', ', '_').replace(' ', '_')}_{seed}"
    shared = out / f"latents_{seed}_{recipe.orbit_weight or pipe.preset.orbit_weight:g}"
    for path in (folder, shared):
        path.mkdir(parents=True, exist_ok=True)
    timed = folder / "timed.json"
    if not timed.exists():
        first = settings_of(recipe, pipe.preset, steps=PROBE)
        taken = time_a_step(recipe, first, pipe, shared, seed=seed, compiled=compiled)
        write_atomically(timed, json.dumps(taken).encode())
    taken = json.loads(timed.read_text())
    steps = max(LOOKS, int((60 * minutes - taken["compile_seconds"]) / taken["step_seconds"]))
    preset = settings_of(recipe, pipe.preset, steps=steps)
    model = built(recipe, preset, pipe, seed=seed)
    kept = copy.deepcopy(model)  # not compiled, to draw with
    loss_fn = losses_of(recipe, preset, pipe, shared, seed=seed)
    if compiled and not recipe.textbook:
        compile_blocks(model, TRANSFORMER)
    _, said, prompts = prompts_of("heldout", n, preset.world, seed=seed)

    def look(ema: nn.Module, step: int) -> dict:
        kept.load_state_dict((ema if recipe.ema else model).state_dict())
        clips = Pipeline(preset, pipe.vae, kept.eval(), pipe.tokenizer)(prompts, seed=seed)
        shares = shares_right(said, track(clips))
        return {"right": {name: shares[name] for name in RIGHT}}

    stage = Stage("dit", Stream.DIT, model, loss_fn, preset.dit_train, look, preset.dit_train.save_every)
    fit(stage, folder, seed=seed, resume=True)
    lines = read_metrics(folder / "metrics.jsonl")
    curve = [
        {"minutes": (line["seconds"] + taken["compile_seconds"]) / 60, "step": line["step"], **line["right"]}
        for line in lines
        if "right" in line
    ]
    return {"name": name, "seed": seed, "steps": steps, **taken, "parameters": count_parameters(model), "curve": curve}


# --- all of them ------------------------------------------------------------------------------------------------------


def minutes_to(curve: list[dict], share: float, *, attribute: str = "all") -> float | None:
    """After how many minutes so large a share was right, on the straight line between two looks; None if never."""
    before = (0.0, 0.0)
    for look in curve:
        now = (look["minutes"], look[attribute]["value"])
        if now[1] >= share:
            rise = (share - before[1]) / (now[1] - before[1])
            return before[0] + rise * (now[0] - before[0])
        before = now
    return None


def as_text(rows: list[dict], *, share: float = 0.9) -> str:
    """A line for each training: its accuracy at each look, and the minutes it took to a share of right clips."""
    lines = []
    for row in rows:
        looks = "  ".join(f"{look['minutes']:.1f} min {100 * look['all']['value']:.0f} %" for look in row["curve"])
        found = minutes_to(row["curve"], share)
        after = "never" if found is None else f"after {found:.1f} min"
        lines.append(f"{row['name']}, seed {row['seed']}: {100 * share:.0f} % {after} ({looks})")
    return "\n".join(lines)


def train_all(
    *,
    checkpoint: str = "tiny",
    minutes: float = 20.0,
    only: tuple[str, ...] = (OURS, TEXTBOOK),
    seeds: tuple[int, ...] = (0, 1),
    n: int = 256,
    clips: int | None = None,
    out: Path = Path("runs/quality"),
    record: Path = RECORD,
    smoke: bool = False,
) -> None:
    """Train each recipe for equal minutes from nothing, and write what the tracker reads of its clips as it goes.

    Let the machine rest meanwhile: minutes are those of the clock. A training that was stopped goes on.

    Args:
        checkpoint: Whose VAE and preset to use.
        minutes: Of training for each recipe and seed, compilation included.
        only: The recipes, by name.
        seeds: Of weights, batches and prompts.
        n: Prompts of held-out combinations at each of eight looks.
        clips: Cached clips; the preset's unless given.
        out: Folder of the trainings.
        record: File of the figures.
        smoke: A few clips and steps, to see that everything runs.
    """
    if unknown := [name for name in only if name not in RECIPES]:
        raise InputError(f"recipe {unknown[0]!r} is unknown; use some of {', '.join(RECIPES)}")
    if TEXTBOOK in only:
        check_peers()
    pipe = Pipeline.load(checkpoint)
    pipe.preset = replace(pipe.preset, clips=clips or pipe.preset.clips)
    if smoke:
        stage = replace(pipe.preset.dit_train, batch=2)
        pipe.preset, minutes, n, seeds = replace(pipe.preset, clips=16, steps=2, dit_train=stage), 0.0, 2, seeds[:1]
    settings = {"checkpoint": verify(checkpoint), "minutes": minutes, "n": n, "clips": pipe.preset.clips}
    out = out / "smoke" if smoke else out
    out.mkdir(parents=True, exist_ok=True)
    with locked(out):
        same_settings(out / "settings.json", settings)
        options = {"minutes": minutes, "n": n, "compiled": can_compile() and not smoke}
        rows = [train(name, pipe, out, seed=seed, **options) for seed in seeds for name in only]
    print(as_text(rows))
    if not smoke:
        kept = {"machine": describe(pipe.device)} | settings | {"rows": rounded(rows)}
        write_atomically(record, (json.dumps(kept, indent=1) + "\n").encode())
        print(record)


if __name__ == "__main__":
    tyro.cli(train_all)
