"""Which change makes a VAE keep what objects are? Short trainings from nothing, one change at a time, recorded.

    python -m sora_edu.course.lesson_05.levers     nine trainings, about ten minutes each on one CPU core

Stop it at any time and start it again: what is finished is kept, and the training under way goes on.
"""

import json
import platform
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import torch
import tyro
from jaxtyping import Int
from torch import Tensor, nn

from sora_edu.checked import checked
from sora_edu.checkpoint import write_atomically
from sora_edu.compute import compile_blocks, fast_bf16
from sora_edu.config import TINY, Preset, VAEConfig
from sora_edu.evaluate import SPLITS, mean_interval, prompts_of, rounded, shares_right
from sora_edu.model.scaling import count_parameters, measure_macs
from sora_edu.model.vae import ResBlock, VideoVAE, psnr
from sora_edu.seeds import Stream
from sora_edu.shapes import Video
from sora_edu.train.loop import Stage, fit
from sora_edu.train.recipe import vae_losses
from sora_edu.train.run_folder import locked
from sora_edu.world.render import render
from sora_edu.world.scenes import sample_state
from sora_edu.world.state import State
from sora_edu.world.tracker.track import track

RECORD = Path(__file__).resolve().parents[3] / "data" / "lessons" / "levers_05.json"


@dataclass(frozen=True)
class Lever:
    """What one training changes."""

    weigh: bool = False  # pixels near objects count as much as all the ground
    pairs: float = 0.2  # share of clips with two objects
    smaller: bool = False  # of twice as many clips, the half with the smaller objects
    longer: float = 1.0  # times the steps
    muon_lr: float = 0.0  # rate of Muon for the convolutions in residual blocks; 0 leaves them to AdamW
    vae: VAEConfig = field(default_factory=VAEConfig)


BOTH = Lever(weigh=True, pairs=0.5)
LEVERS = {
    "plain": Lever(),
    "more pairs": Lever(pairs=0.5),
    "smaller objects": Lever(smaller=True),
    "weights": Lever(weigh=True),
    "weights, more pairs": BOTH,
    "and half as long again": replace(BOTH, longer=1.5),
    "and a quarter wider": replace(BOTH, vae=VAEConfig(widths=(80, 120, 160))),
    "and 24 latent channels": replace(BOTH, vae=VAEConfig(channels=24)),
    "and Muon": replace(BOTH, muon_lr=3e-3),
}


def smaller_half(state: State) -> Int[Tensor, "half"]:
    """Of an even number of clips the half whose objects are smaller, with as many pairs among them as by chance."""
    half = len(state) // 2
    present = state.shape >= 0
    radius = (state.radius.mean(2) * present).sum(1) / present.sum(1)
    order = radius.argsort()
    pair = present[order].all(1)
    pairs = int(present[:half].all(1).sum())
    return torch.cat((order[pair][:pairs], order[~pair][: half - pairs]))


def clips_of(preset: Preset, lever: Lever) -> Callable[[torch.Generator], Video]:
    """A function that draws a batch of clips of the lever's kind."""
    world = replace(preset.world, pair_fraction=lever.pairs)
    n = preset.vae_train.batch

    def draw(generator: torch.Generator) -> Video:
        state = sample_state(n * (1 + lever.smaller), world, orbit_weight=preset.orbit_weight, generator=generator)
        return render(state[smaller_half(state)] if lever.smaller else state, world)

    return draw


@torch.no_grad()
@checked
def copied(vae: nn.Module, video: Video) -> Video:
    """The clips through the VAE and back, in float32."""
    return torch.cat([vae.decode(vae.encode(part)) for part in video.split(32)]).clamp(-1, 1)


def measured(vae: VideoVAE, preset: Preset, *, n: int, seed: int) -> dict:
    """By split: what the tracker reads right in n copies, with 95 % intervals, and their PSNR in dB."""
    found = {}
    for split in SPLITS:
        state, said, _ = prompts_of(split, n, preset.world, seed=seed)
        real = render(state, preset.world)
        copies = copied(vae, real)
        shares = shares_right(said, track(copies))
        found[split] = {name: shares[name] for name in ("all", "shape", "size")}
        found[split]["psnr"] = mean_interval(psnr(copies, real))
    return found


def run(name: str, folder: Path, *, steps: int, n: int, seed: int) -> dict:
    """Train one VAE from nothing, or go on with what the folder holds, and measure its average."""
    lever = LEVERS[name]
    train = replace(TINY.vae_train, steps=round(steps * lever.longer), muon_lr=lever.muon_lr, decay=0.4)
    dit = replace(TINY.dit, channels=lever.vae.channels)  # a preset's parts have to fit; it is not trained
    plain = replace(TINY, other_sizes=(), other_share=0.0, vae_pairs=0.0)
    preset = replace(plain, vae=lever.vae, dit=dit, vae_train=train, weigh_objects=lever.weigh)
    torch.manual_seed(seed)
    vae = VideoVAE(preset.vae)
    world = preset.world
    video, z = torch.zeros(1, 3, world.frames, world.height, world.width), torch.zeros(1, *preset.latent_shape)
    macs = measure_macs(vae.encoder, video) + measure_macs(vae.decoder, z)  # of one clip, there and back
    facts = {"parameters": count_parameters(vae), "macs": macs, "steps": train.steps}
    compile_blocks(vae, (ResBlock,))
    stage = Stage("vae", Stream.VAE, vae, vae_losses(preset, clips_of(preset, lever)), train)
    ema = fit(stage, folder, seed=seed, resume=True)
    return {"name": name, **facts, **measured(ema, preset, n=n, seed=seed + 1)}


@cache
def recorded() -> dict:
    """The recorded trainings, with n, intervals and the command."""
    return json.loads(RECORD.read_text())


def main(
    *,
    only: tuple[str, ...] = tuple(LEVERS),
    steps: int = 1500,
    n: int = 512,
    seed: int = 0,
    out: Path = Path("runs/lesson_05"),
    record: Path = RECORD,
) -> None:
    """Train every lever from nothing and write what the tracker reads in the copies.

    Args:
        only: The levers to train, by name; the record holds those that are finished.
        steps: Optimiser steps of eight clips.
        n: Clips of each split that are measured.
        seed: Of weights and clips; the clips that are measured are of the next seed.
        out: Folder of the trainings.
        record: File of the results.
    """
    torch.set_num_threads(1)  # more would round otherwise
    for name in only:
        folder = out / name.replace(", ", "_").replace(" ", "_")
        with locked(folder):
            done = folder / "result.json"
            if not done.exists():
                write_atomically(done, json.dumps(run(name, folder, steps=steps, n=n, seed=seed)).encode())
    results = [json.loads(path.read_text()) for path in out.glob("*/result.json")]
    rows = sorted(results, key=lambda result: list(LEVERS).index(result["name"]))
    command = f"python -m sora_edu.course.lesson_05.levers --steps {steps} --n {n} --seed {seed}"
    machine = {"system": platform.machine(), "torch": torch.__version__, "bf16": fast_bf16(torch.device("cpu"))}
    kept = {"command": command, "machine": machine, "batch": TINY.vae_train.batch, "n": n, "rows": rounded(rows)}
    write_atomically(record, (json.dumps(kept, indent=1) + "\n").encode())
    print(record)


if __name__ == "__main__":
    tyro.cli(main)
