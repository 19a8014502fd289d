"""How good a checkpoint is: clips of many prompts, read back by the tracker, with 95 % intervals.

sora-edu evaluate --checkpoint tiny --split heldout --n 512 --json results.json

(lesson 09)
"""

import math
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from sora_edu.checked import checked
from sora_edu.compute import autocast
from sora_edu.config import WorldConfig, check_value
from sora_edu.diffusion.editing import sampler_from
from sora_edu.errors import InputError, shown
from sora_edu.model.vae import psnr
from sora_edu.pipeline import BATCH, Pipeline
from sora_edu.shapes import is_whole
from sora_edu.world.captions import Parsed, described, write
from sora_edu.world.render import render
from sora_edu.world.scenes import sample_state
from sora_edu.world.state import State, cat_states
from sora_edu.world.tracker.track import Track, track, velocity_error
from sora_edu.world.vocabulary import BACKGROUNDS, COLOURS, MOTIONS, SCENES, SHAPES, SIZES

SPLITS = ("seen", "heldout", "pairs")
GIVEN = ("nothing", "first")  # frames that a clip begins with
MOST_PROMPTS = 10_000  # all clips are held in memory together: 2 GB of them, and their prompts' renderings as much
NAMES = {"shape": SHAPES, "colour": COLOURS, "size": SIZES, "motion": MOTIONS}


def wilson(successes: int, n: int, z: float = 1.96) -> dict:
    """Share of successes with its 95 % interval (Wilson 1927), which keeps inside 0 and 1; InputError for no share."""
    if not is_whole(n, 0, sys.maxsize) or not is_whole(successes, 0, n):
        raise InputError(f"{shown(successes)} of {shown(n)} is no share; give whole numbers, successes from 0 to n")
    if n == 0:
        return {"value": None, "low": None, "high": None, "n": 0}
    p = successes / n
    shrink = 1 + z**2 / n
    middle = (p + z**2 / (2 * n)) / shrink
    half = z / shrink * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return {"value": p, "low": max(0.0, middle - half), "high": min(1.0, middle + half), "n": n}


@checked
def mean_interval(values: Float[Tensor, "n"]) -> dict:
    """Mean of the values that are not NaN, with its 95 % interval by the normal approximation."""
    values = values[~values.isnan()].double()
    if len(values) == 0:
        return {"value": None, "low": None, "high": None, "n": 0}
    mean = float(values.mean())
    half = 1.96 * float(values.std(unbiased=False)) / math.sqrt(len(values))
    return {"value": mean, "low": mean - half, "high": mean + half, "n": len(values)}


@checked
def median_interval(values: Float[Tensor, "n"]) -> dict:
    """Median of the values that are finite, with its 95 % interval from their order alone (binomial)."""
    values = values[values.isfinite()].double().sort().values
    n = len(values)
    if n == 0:
        return {"value": None, "low": None, "high": None, "n": 0}
    reach = 0.98 * math.sqrt(n)  # 1.96 standard deviations of how many values lie below the median
    low, high = max(0, math.floor((n - 1) / 2 - reach)), min(n - 1, math.ceil((n - 1) / 2 + reach))
    return {"value": float(values.quantile(0.5)), "low": float(values[low]), "high": float(values[high]), "n": n}


@checked
def seam_ratio(video: Float[Tensor, "b 3 f h w"], known: int = 1) -> Float[Tensor, "b"]:
    """The change from the last of the ``known`` frames to the next, over the median change between all later ones.

    Changes are RMS over pixels; 1 is a clip that goes on as it began. Raises InputError unless two frames follow.
    """
    if not is_whole(known, 1, video.shape[2] - 2):
        raise InputError(f"known={shown(known)} of {video.shape[2]} frames leaves no two to compare; give fewer")
    change = video.diff(dim=2).square().mean((1, 3, 4)).sqrt()  # b f-1
    return change[:, known - 1] / change[:, known:].median(1).values.clamp(min=1e-3)


def rounded(value: object, digits: int = 4) -> object:
    """A record with its floats rounded to so many digits after the point, in any depth, so that its file is short."""
    if isinstance(value, dict):
        return {key: rounded(part, digits) for key, part in value.items()}
    if isinstance(value, list):
        return [rounded(part, digits) for part in value]
    return round(value, digits) if isinstance(value, float) else value


def check_request(split: str, n: int) -> None:
    """Refuse an unknown split, and a number of prompts that cannot be evaluated: InputError."""
    if split not in SPLITS:
        raise InputError(f"split={split!r} is unknown; use one of {', '.join(SPLITS)}")
    if not is_whole(n, 1, MOST_PROMPTS):
        most = f"from 1 to {MOST_PROMPTS:,}, such as 512 for intervals of a few points"
        raise InputError(f"n={shown(n)} prompts cannot be evaluated; ask for a whole number {most}")


def check_given(given: str) -> None:
    """Refuse an unknown choice of frames to begin with: InputError."""
    if given not in GIVEN:
        raise InputError(f"given={shown(given)} is unknown; use one of {', '.join(GIVEN)}")


def prompts_of(split: str, n: int, world: WorldConfig, *, seed: int) -> tuple[State, list[Parsed], list[str]]:
    """Draw n states of a split, what their captions say, and the captions: short and full ones in turn.

    ``seen`` has single objects of trained combinations, ``heldout`` those with a pair never trained on, ``pairs``
    two objects side by side, colliding, and one behind a bar.
    """
    check_request(split, n)
    check_value("seed", seed, int, (0, 2**32 - 1))
    generator = torch.Generator().manual_seed(1_000_003 + seed)
    if split == "pairs":
        counts = [len(range(i, n, 3)) for i in range(3)]
        world = replace(world, pan_fraction=0.0)
        drawn = [(count, scene) for count, scene in zip(counts, SCENES[1:], strict=True) if count]
        state = cat_states([sample_state(count, world, scene=scene, generator=generator) for count, scene in drawn])
    else:
        world = replace(world, pair_fraction=0.0, pan_fraction=0.0)
        state = sample_state(n, world, split={"seen": "train", "heldout": "heldout"}[split], generator=generator)
    short = described(state, style="short")
    full = described(state, style="full")
    said = [full[i] if i % 2 else short[i] for i in range(n)]
    return state, said, [write(meaning) for meaning in said]


@checked
def compare(said: Parsed, tracked: Track, i: int) -> dict[str, bool]:
    """Which of the attributes that a caption names the tracker found in clip i; objects are matched by colour.

    ``count`` is whether there are as many objects as named, ``scene`` whether they do together what was said, ``pan``
    whether the camera moves to the side that was named.
    """
    found = [k for k in range(tracked.shape.shape[1]) if int(tracked.shape[i, k]) != -1]
    colours = {int(tracked.colour[i, k]): k for k in found}
    right = {"count": len(found) == len(said.objects)}
    if said.scene != "single":
        right["scene"] = int(tracked.scene[i]) == SCENES.index(said.scene)
    if said.pan:
        right["pan"] = float(tracked.pan[i]) * said.pan > 0
    if said.background is not None:
        right["background"] = int(tracked.background[i]) == BACKGROUNDS.index(said.background)
    for thing in said.objects:
        k = colours.get(COLOURS.index(thing.colour), found[0] if len(found) == 1 else None)
        for name, names in NAMES.items():
            value = getattr(thing, name)
            if value is not None:
                hit = k is not None and int(getattr(tracked, name)[i, k]) == names.index(value)
                right[name] = right.get(name, True) and hit
    return right | {"all": all(right.values())}


@checked
def shares_right(said: list[Parsed], tracked: Track) -> dict[str, dict]:
    """For "all" and each attribute, the share of the clips naming it in which it was read as said."""
    rights = [compare(meaning, tracked, i) for i, meaning in enumerate(said)]
    names = ["all", *sorted({name for right in rights for name in right} - {"all"})]
    values = {name: [right[name] for right in rights if name in right] for name in names}
    return {name: wilson(sum(hits), len(hits)) for name, hits in values.items()}


@torch.no_grad()
@checked
def animated(
    pipeline: Pipeline, prompts: list[str], first: Float[Tensor, "n 3 1 h w"], *, frames: int, seed: int, **options
) -> Float[Tensor, "n 3 f h w"]:
    """A clip of each prompt that begins with the picture beside it; options are the pipeline's."""
    clips = []
    for start in range(0, len(prompts), BATCH):
        pictures = first[start : start + BATCH].to(pipeline.device)
        with autocast(pipeline.device):
            picture = pipeline.vae.encode(pictures).float()
        x_0 = picture.expand(-1, -1, 1 + (frames - 1) // pipeline.preset.vae.ft, -1, -1)
        known = (torch.arange(x_0.shape[2], device=x_0.device) == 0).expand(len(x_0), -1)
        sampler = sampler_from(x_0, known)
        chosen, own = prompts[start : start + BATCH], (seed + start) % 2**32  # so that no two begin from one noise
        clips.append(pipeline(chosen, frames=frames, seed=own, sampler=sampler, **options))
    return torch.cat(clips)


def evaluate_pipeline(
    pipeline: Pipeline,
    *,
    split: str,
    n: int = 512,
    steps: int | None = None,
    cfg_scale: float | None = None,
    seed: int = 0,
    floors: bool = True,
    frames: int | None = None,
    size: tuple[int, int] | None = None,
    given: str = "nothing",
) -> dict:
    """Draw n clips of a split's prompts and read them back: shares of attributes right, velocity error, seconds.

    Velocity error is the RMS distance of a centre's velocity from the law of its motion, in units a tick, beside
    the same for rendered clips (the tracker's floor) and for their reconstructions (the VAE's floor). What the
    tracker gets right of those two, and its centroid error in units, are under "rendered" and "reconstructed".
    steps, cfg_scale, frames and size are the preset's unless given. InputError for frames or a size that do not fit.

    given: "first" lets each clip begin with the first frame of its prompt's rendering. Then there are besides the RMS
    error of that frame, and the seam: how much more changes at once after it than later on, in the median, beside the
    same for rendered clips.
    """
    check_given(given)
    own = pipeline.preset.world
    frames, size = frames or own.frames, size or (own.height, own.width)
    pipeline.latent_shape(frames, size)  # or an InputError
    world = pipeline.preset.world_at(frames, *size)
    steps = pipeline.preset.steps if steps is None else steps
    cfg_scale = pipeline.preset.cfg_scale if cfg_scale is None else cfg_scale
    state, said, prompts = prompts_of(split, n, world, seed=seed)
    started = time.perf_counter()
    options = {"frames": frames, "size": size, "steps": steps, "cfg_scale": cfg_scale, "seed": seed}
    real = render(state, world) if floors or given == "first" else None
    clips = animated(pipeline, prompts, real[:, :, :1], **options) if given == "first" else pipeline(prompts, **options)
    seconds = (time.perf_counter() - started) / n
    tracked = track(clips, duration=world.duration)
    result = {"split": split, "n": n, "steps": steps, "cfg_scale": cfg_scale, "seed": seed}
    if world != own:
        result |= {"frames": frames, "pixels": "x".join(map(str, size))}
    errors = velocity_error(tracked, duration=world.duration)
    result |= shares_right(said, tracked) | {"velocity_error": mean_interval(errors)}
    if given == "first":
        result["given"] = given
        result["first_frame_error"] = mean_interval((clips - real)[:, :, 0].square().mean((1, 2, 3)).sqrt())
        result["seam_ratio"] = median_interval(seam_ratio(clips)) | {"rendered": median_interval(seam_ratio(real))}
    if floors:
        decoded = pipeline.reconstruct(real)
        for name, floor, video in (("rendered", "tracker_floor", real), ("reconstructed", "vae_floor", decoded)):
            read = track(video, duration=world.duration)
            result["velocity_error"][floor] = mean_interval(velocity_error(read, duration=world.duration))
            apart = (read.centre - state.centre).norm(dim=-1).flatten(1).nanmean(1)
            result[name] = shares_right(said, read) | {"centroid_error": mean_interval(apart)}
        result["psnr"] = mean_interval(psnr(decoded, real))
    return result | {"seconds_per_clip": seconds}


def evaluate_checkpoint(
    name_or_path: str | Path,
    *,
    split: str,
    n: int = 512,
    steps: int | None = None,
    cfg_scale: float | None = None,
    seed: int = 0,
    frames: int | None = None,
    size: tuple[int, int] | None = None,
    given: str = "nothing",
) -> dict:
    """``evaluate_pipeline`` for a checkpoint by name or path."""
    check_request(split, n)
    check_given(given)
    pipeline = Pipeline.load(name_or_path)
    options = {"steps": steps, "cfg_scale": cfg_scale, "seed": seed, "frames": frames, "size": size, "given": given}
    return {"checkpoint": str(name_or_path)} | evaluate_pipeline(pipeline, split=split, n=n, **options)
