"""What guidance and prompt expansion do to a trained model, measured for lesson 09 and kept as a small JSON file.

    python -m sora_edu.course.lesson_09.measures --n 128      about four minutes on two CPU cores

Accuracy is what the tracker reads of each clip, against its own prompt and against another's (the floor). Diversity
is how far clips of one prompt differ in what the prompt leaves open.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sora_edu.checkpoint import verify, write_atomically
from sora_edu.errors import InputError
from sora_edu.evaluate import prompts_of, rounded, shares_right, wilson
from sora_edu.pipeline import Pipeline
from sora_edu.world.captions import Parsed, Thing, described, parse_caption, write
from sora_edu.world.prompts import expand_prompt
from sora_edu.world.scenes import sample_state
from sora_edu.world.tracker.track import Track, track
from sora_edu.world.vocabulary import BACKGROUNDS, MOTIONS, SHAPES

RECORD = Path(__file__).resolve().parents[3] / "data" / "lessons" / "guidance.json"
SCALES = (0.0, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0)
OPEN_PROMPTS = ("a red circle falls", "a blue star grows", "a white ring moves left", "a yellow square stays still")
MEASURES = ("start", "radius", "backgrounds")  # units, units, an effective number


# --- accuracy, and the floor ----------------------------------------------------------------------------------------


def shuffled(said: list[Parsed]) -> list[Parsed]:
    """The same meanings, each clip's exchanged for its neighbour's: what agrees now, agrees by chance."""
    return said[1:] + said[:1]


def accuracy_by_scale(pipe: Pipeline, scales: Sequence[float], *, n: int, steps: int = 25, seed: int = 0) -> list[dict]:
    """For each scale, the shares of n seen prompts' attributes read as said, and as another prompt says (the floor).

    Every scale starts from the same noise. Raises InputError for fewer than 2 prompts: one has no neighbour.
    """
    if n < 2:
        raise InputError(f"n={n} leaves no other prompt to exchange with; use at least 2")
    _, said, prompts = prompts_of("seen", n, pipe.preset.world, seed=seed)
    rows = []
    for scale in scales:
        read = track(pipe(prompts, steps=steps, cfg_scale=scale, seed=seed))
        right, floor = shares_right(said, read), shares_right(shuffled(said), read)
        rows.append({"cfg_scale": scale, "right": right, "floor": floor})
    return rows


# --- diversity ------------------------------------------------------------------------------------------------------


def spread(points: Float[Tensor, "n *d"]) -> float:
    """Root mean square distance of points from their mean: 0 where all are the same."""
    points = points.reshape(len(points), -1)
    return float((points - points.mean(0)).square().sum(1).mean().sqrt())


def kinds(labels: Int[Tensor, "n"]) -> float:
    """Effective number of kinds, exp of the entropy: 1 where all labels agree, 3 for three in equal shares."""
    share = labels.unique(return_counts=True)[1] / max(1, len(labels))
    return float(torch.special.entr(share).sum().exp())


def diversity(start: Float[Tensor, "n 2"], radius: Float[Tensor, "n"], ground: Int[Tensor, "n"]) -> dict[str, float]:
    """How far clips of one prompt differ: in where they start, in size (both in units), and in background."""
    return {"start": spread(start), "radius": spread(radius), "backgrounds": kinds(ground)}


def mean_diversity(groups: list[tuple[Tensor, Tensor, Tensor]], *, resamples: int = 200, seed: int = 0) -> dict:
    """The mean of the groups' diversities, with 95 % intervals by the bootstrap, each group drawn again."""
    generator = torch.Generator().manual_seed(seed)

    def mean(drawn: Callable) -> list[float]:
        parts = [diversity(*(values[rows] for values in group)) for group in groups for rows in [drawn(len(group[0]))]]
        return [sum(part[name] for part in parts) / len(parts) for name in MEASURES]

    values = mean(torch.arange)
    again = torch.tensor([mean(lambda n: torch.randint(n, (n,), generator=generator)) for _ in range(resamples)])
    again += torch.tensor(values) - again.mean(0)  # drawing again loses a little diversity: centre on what was found
    low, high = again.quantile(torch.tensor([0.025, 0.975]), dim=0).tolist()
    return {name: {"value": values[i], "low": low[i], "high": high[i]} for i, name in enumerate(MEASURES)}


def open_values(read: Track) -> tuple[Tensor, Tensor, Tensor]:
    """Where the first object starts, its radius at the start, and the background; clips without one are left out."""
    seen = read.visible[:, 0, 0]
    return read.centre[seen, 0, 0], read.radius[seen, 0, 0], read.background[seen]


def world_diversity(prompts: Sequence[str], pipe: Pipeline, *, each: int, resamples: int = 200) -> dict:
    """The same of the world's own clips of these shapes and motions, ``each`` a prompt: what a perfect model shows.

    The mean over many draws, and the interval in which 95 % of them lie; few clips look less diverse than many.
    """
    generator = torch.Generator().manual_seed(0)
    state = sample_state(20_000, pipe.preset.world, scene="single", generator=generator)
    draws = []
    for thing in (parse_caption(prompt).objects[0] for prompt in prompts):
        fits = (state.shape[:, 0] == SHAPES.index(thing.shape)) & (state.motion[:, 0] == MOTIONS.index(thing.motion))
        fits = fits.nonzero()[:, 0]
        drawn = fits[torch.randint(len(fits), (resamples, each), generator=generator)]
        parts = [diversity(state.centre[r, 0, 0], state.radius[r, 0, 0], state.background[r]) for r in drawn]
        draws.append([[part[name] for name in MEASURES] for part in parts])
    means = torch.tensor(draws).mean(0)  # resamples x measures
    low, high = means.quantile(torch.tensor([0.025, 0.975]), dim=0).tolist()
    middle = means.mean(0).tolist()
    return {name: {"value": middle[i], "low": low[i], "high": high[i]} for i, name in enumerate(MEASURES)}


def diversity_by_scale(
    pipe: Pipeline,
    scales: Sequence[float],
    *,
    n: int,
    steps: int = 25,
    seed: int = 0,
    prompts: Sequence[str] = OPEN_PROMPTS,
) -> list[dict]:
    """For each scale, the mean diversity of n clips in all, equal parts of prompts that leave size and place open."""
    each = max(2, n // len(prompts))
    rows = []
    for scale in scales:
        clips = pipe([prompt for prompt in prompts for _ in range(each)], steps=steps, cfg_scale=scale, seed=seed)
        groups = [open_values(track(part, objects=1)) for part in clips.split(each)]
        rows.append({"cfg_scale": scale} | mean_diversity([group for group in groups if len(group[0]) > 1]))
    return rows


# --- short prompts and expanded ones --------------------------------------------------------------------------------


def is_clear(read: Track) -> list[bool]:
    """Whether the tracker reads one object of a known shape, colour, size and motion, whatever it was asked for."""
    first = torch.stack([getattr(read, name)[:, 0] for name in ("shape", "colour", "size", "motion")])
    return ((first >= 0).all(0) & (read.colour[:, 1] == -1)).tolist()


def right_of(said: list[Parsed], read: Track) -> dict[str, dict]:
    """``shares_right`` of single objects, also where no colour is said: then the first object read is the one meant."""
    if all(thing.colour for meaning in said for thing in meaning.objects):
        return shares_right(said, read)
    hits = [
        int(shape) == SHAPES.index(meaning.objects[0].shape)
        for shape, meaning in zip(read.shape[:, 0], said, strict=True)
    ]
    share = wilson(sum(hits), len(hits))
    return {"all": share, "shape": share}


def expansion_table(pipe: Pipeline, *, n: int, steps: int = 25, cfg_scale: float = 3.0, seed: int = 0) -> list[dict]:
    """Prompts of one word ("a ring") and short ones, each as it is and expanded: what of the *original* comes true.

    Each row also has the share of clips that show one clear object, and the effective number of backgrounds.
    """
    state, _, _ = prompts_of("seen", n, pipe.preset.world, seed=seed)
    short = described(state, style="short")
    bare = [Parsed(objects=(Thing(shape=meaning.objects[0].shape),)) for meaning in short]
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for name, said in (("shape only", bare), ("short caption", short)):
        prompts = [write(meaning) for meaning in said]
        expanded = [expand_prompt(prompt, generator=generator) for prompt in prompts]
        for how, asked in (("as typed", prompts), ("expanded", expanded)):
            read = track(pipe(asked, steps=steps, cfg_scale=cfg_scale, seed=seed))
            clear = is_clear(read)
            row = {"prompt": name, "how": how, "example": asked[0], "right": right_of(said, read)}
            grounds = read.background[(read.background >= 0) & (read.background < len(BACKGROUNDS))]
            rows.append(row | {"clear": wilson(sum(clear), n), "backgrounds": kinds(grounds)})
    return rows


# --- the record -----------------------------------------------------------------------------------------------------


def measure(pipe: Pipeline, *, n: int, steps: int = 25, seed: int = 0) -> dict:
    """All three tables."""
    return {
        "n": n,
        "steps": steps,
        "seed": seed,
        "accuracy": accuracy_by_scale(pipe, SCALES, n=n, steps=steps, seed=seed),
        "diversity": diversity_by_scale(pipe, SCALES, n=n, steps=steps, seed=seed),
        "world": world_diversity(OPEN_PROMPTS, pipe, each=max(2, n // len(OPEN_PROMPTS))),
        "expansion": expansion_table(pipe, n=n, steps=steps, seed=seed),
    }


def recorded() -> dict:
    """The tables that were measured on the shipped checkpoint, with n, the command and the checkpoint's checksum."""
    return json.loads(RECORD.read_text())


def main() -> None:
    """Measure, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default="tiny", help="name of a shipped checkpoint, or a path")
    parser.add_argument("--n", type=int, default=128, help="clips a scale; 512 for intervals half as wide")
    parser.add_argument("--steps", type=int, default=25, help="steps of the sampler")
    parser.add_argument("--out", type=Path, default=RECORD, help="where to write")
    asked = parser.parse_args()
    options = f"--checkpoint {asked.checkpoint} --n {asked.n} --steps {asked.steps}"
    head = {
        "command": f"python -m sora_edu.course.lesson_09.measures {options}",
        "checkpoint": asked.checkpoint,
        "sha256": verify(asked.checkpoint),
    }
    tables = measure(Pipeline.load(asked.checkpoint), n=asked.n, steps=asked.steps)

    write_atomically(asked.out, (json.dumps(head | rounded(tables), indent=1) + "\n").encode())
    print(asked.out)


if __name__ == "__main__":
    main()
