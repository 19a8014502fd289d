"""What a training shows of itself on the way: strips of samples, and rough figures for the log (lesson 10)."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from sora_edu.checked import checked
from sora_edu.compute import autocast
from sora_edu.evaluate import evaluate_pipeline
from sora_edu.media import save_clip
from sora_edu.model.vae import psnr
from sora_edu.pipeline import Pipeline
from sora_edu.shapes import Video

Evaluate = Callable[[nn.Module, int], dict]  # given a stage's EMA and the step: figures for the log
PROMPTS = (
    "a red circle falls",
    "a large blue star moves left",
    "a green square orbits",
    "a yellow ring bounces",
    "a small purple triangle grows",
    "a white circle moves up and a red square stays still",
)


@checked
def watch_vae(held_out: Video, out: Path, *, device: torch.device) -> Evaluate:
    """Strips of four clips above their reconstructions, and the PSNR of all, in dB."""

    def evaluate(ema: nn.Module, step: int) -> dict:
        with torch.no_grad(), autocast(device):
            decoded = ema.decode(ema.encode(held_out.to(device))).float().cpu()
        save_strips(torch.cat((held_out[:4], decoded[:4]), -2), out / "samples" / f"vae_{step:06d}.png")
        return {"psnr": float(psnr(decoded, held_out).mean())}

    return evaluate


def watch_transformer(sampler: Pipeline, out: Path, *, seed: int, measured: bool) -> Evaluate:
    """Strips of PROMPTS from the same noise, and shares of attributes right where they are ``measured``.

    sampler: a pipeline whose model takes the weights of the EMA. Not measured: a run so short that it proves that
    everything works, and no more.
    """

    def evaluate(ema: nn.Module, step: int) -> dict:
        sampler.model.load_state_dict(ema.state_dict())
        quick = {} if measured else {"steps": 2}
        clips = sampler(list(PROMPTS), frames=sampler.preset.world.frames, seed=seed, **quick)
        save_strips(clips, out / "samples" / f"dit_{step:06d}.png")
        return quick_accuracy(sampler, seed) if measured else {}

    return evaluate


def quick_accuracy(sampler: Pipeline, seed: int, n: int = 64) -> dict:
    """Share of n seen prompts drawn with every attribute right: a rough figure to watch, not a result."""
    result = evaluate_pipeline(sampler, split="seen", n=n, seed=seed, floors=False)
    return {name: result[name]["value"] for name in ("all", "shape", "colour", "motion")}


@checked
def save_strips(video: Video, path: Path) -> None:
    """Every second frame of each clip, left to right, one clip a row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = torch.cat(list(video.clamp(-1, 1)), -2)  # c f (b h) w
    save_clip(rows[:, ::2], path.with_suffix(".strip.png"), scale=2)
