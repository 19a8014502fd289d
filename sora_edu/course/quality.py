"""Everything that README says of how good a checkpoint is, measured by one command and kept beside its weights.

    python -m sora_edu.course.quality --checkpoint tiny        about half an hour on two CPU cores
    python -m sora_edu.course.quality --checkpoint tiny --only-readme

Stop it at any time and start it again: each part is kept as soon as it is measured, and all belong to one checksum.
"""

import json
import platform
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
import tyro

from sora_edu.checked import checked
from sora_edu.checkpoint import find_checkpoint, verify, write_atomically
from sora_edu.compute import fast_bf16
from sora_edu.evaluate import SPLITS, compare, evaluate_pipeline, prompts_of, rounded, shares_right, wilson
from sora_edu.pipeline import Pipeline
from sora_edu.world.captions import Parsed, described, write
from sora_edu.world.render import render
from sora_edu.world.scenes import sample_state
from sora_edu.world.tracker.track import Track, track
from sora_edu.world.vocabulary import MOTIONS, SHAPES

README = Path(__file__).parents[2] / "README.md"
ROWS = {
    "seen": "single objects, trained combinations",
    "heldout": "single objects, combinations never trained",
    "pairs": "two objects, collisions, one behind a bar",
}
# of a miss; the first that holds is its kind
KINDS = ("count", "colour", "binding", "motion", "scene", "pan", "shape", "size", "background")


# --- what is measured -------------------------------------------------------------------------------------------------


def motions_right(pipe: Pipeline, *, n: int, seed: int) -> dict:
    """For each motion, of n prompts of trained combinations with it the share whose clips are read to move so."""
    world = replace(pipe.preset.world, pair_fraction=0.0, pan_fraction=0.0)
    generator = torch.Generator().manual_seed(1_000_003 + seed)
    state = sample_state(20 * n, world, generator=generator)
    found = {}
    for index, motion in enumerate(MOTIONS):
        said = described(state[(state.motion[:, 0] == index).nonzero()[:n, 0]], style="short")
        read = track(pipe([write(meaning) for meaning in said], seed=seed))
        found[motion] = shares_right(said, read)["motion"]
    return found


def pans_right(pipe: Pipeline, *, n: int, seed: int) -> dict:
    """Of n prompts with one object and a panning camera, the shares right; so of renderings and of the VAE's copies."""
    world = replace(pipe.preset.world, pair_fraction=0.0, pan_fraction=1.0)
    state = sample_state(n, world, generator=torch.Generator().manual_seed(1_000_003 + seed))
    said = described(state, style="short")
    real = render(state, world)
    found = shares_right(said, track(pipe([write(meaning) for meaning in said], seed=seed)))
    floors = {"reconstructed": pipe.reconstruct(real), "rendered": real}
    return found | {name: shares_right(said, track(video)) for name, video in floors.items()}


@checked
def kind_of_miss(said: Parsed, read: Track, i: int) -> str | None:
    """What is wrong with clip i, by the first of KINDS that holds, or None; "binding": two shapes changed places."""
    right = compare(said, read, i)
    if right["all"]:
        return None
    names = [thing.shape for thing in said.objects]
    shapes = {SHAPES[k] for k in read.shape[i].tolist() if k >= 0}
    swapped = len(set(names)) == 2 and not right["shape"] and shapes == set(names)
    return next(kind for kind in KINDS if (swapped if kind == "binding" else right.get(kind) is False))


def misses(pipe: Pipeline, split: str, *, n: int, seed: int) -> dict:
    """Of n clips of a split how many are wrong, by kind: drawn by the model, copied by its VAE, and as rendered."""
    state, said, prompts = prompts_of(split, n, pipe.preset.world, seed=seed)
    real = render(state, pipe.preset.world)
    videos = {"model": lambda: pipe(prompts, seed=seed), "VAE": lambda: pipe.reconstruct(real), "tracker": lambda: real}
    found = {}
    for name, draw in videos.items():
        read = track(draw())
        kinds = Counter(filter(None, (kind_of_miss(meaning, read, i) for i, meaning in enumerate(said))))
        found[name] = {"wrong": wilson(kinds.total(), n)} | {kind: kinds[kind] for kind in KINDS if kinds[kind]}
    return found


def parts(pipe: Pipeline, *, n: int, seed: int) -> Iterator[tuple[str, Callable[[], dict]]]:
    """The name of each part of the record, and what measures it."""
    few = max(1, n // 2)
    for split in SPLITS:
        yield split, partial(evaluate_pipeline, pipe, split=split, n=n, seed=seed)
    yield "by_motion", partial(motions_right, pipe, n=max(1, n // 4), seed=seed)
    for split in SPLITS:
        yield f"misses_{split}", partial(misses, pipe, split, n=few, seed=seed + 1)
    if pipe.preset.world.pan_fraction:
        yield "pans", partial(pans_right, pipe, n=few, seed=seed)
    if pipe.preset.known_frames:
        for split in SPLITS:
            options = {"split": split, "n": few, "seed": seed, "given": "first", "floors": False}
            yield f"first_frame_{split}", partial(evaluate_pipeline, pipe, **options)
    for frames, *size in pipe.preset.other_sizes:
        name = "x".join(map(str, (frames, *size)))
        options = {"split": "seen", "n": few, "seed": seed, "frames": frames, "size": tuple(size)}
        yield f"size_{name}", partial(evaluate_pipeline, pipe, **options)


# --- README's tables --------------------------------------------------------------------------------------------------


def percent(share: dict) -> str:
    """A share and its interval: 94.9 (92.7 to 96.5)."""
    return "{value:.1f} ({low:.1f} to {high:.1f})".format(**{k: 100 * share[k] for k in ("value", "low", "high")})


def tables(results: dict) -> str:
    """The record as Markdown, as far as it is measured; the first table must be."""
    lines = ["| Prompts | n | all attributes right | shape | colour | motion | VAE's copies |", "|---|" + 6 * "---|"]
    for split, row in ROWS.items():
        found = results[split]
        shares = [percent(found[name]) for name in ("all", "shape", "colour", "motion")]
        lines.append(f"| {row} | {found['n']:,} | {' | '.join([*shares, percent(found['reconstructed']['all'])])} |")
    if "by_motion" in results:
        lines += ["", "| Motion, n = {} each | right |".format(results["by_motion"]["still"]["n"]), "|---|---|"]
        lines += [f"| {motion} | {percent(share)} |" for motion, share in results["by_motion"].items()]
    if "pans" in results:
        found = results["pans"]
        shares = [percent(found["all"]), percent(found["pan"]), percent(found["reconstructed"]["all"])]
        lines += ["", f"| n = {found['all']['n']} | all right | the pan | VAE's copies |", "|---|---|---|---|"]
        lines.append(f"| one object, the camera pans | {' | '.join(shares)} |")
    first = [split for split in SPLITS if f"first_frame_{split}" in results]
    if first:
        n = results[f"first_frame_{first[0]}"]["n"]
        lines += [
            "",
            f"| From a given first frame, n = {n} each | all right | seam | of rendered clips |",
            "|---|---|---|---|",
        ]
        for split in first:
            found = results[f"first_frame_{split}"]
            seams = ["{value:.2f} ({low:.2f} to {high:.2f})".format(**seam) for seam in (
                found["seam_ratio"], found["seam_ratio"]["rendered"])]  # fmt: skip
            lines.append(f"| {ROWS[split]} | {percent(found['all'])} | {' | '.join(seams)} |")
    sizes = [name for name in results if name.startswith("size_")]
    if sizes:
        n = results[sizes[0]]["n"]
        lines += [
            "",
            f"| Other sizes, trained combinations, n = {n} each | all right | VAE's copies |",
            "|---|---|---|",
        ]
        for name in sizes:
            found = results[name]
            shares = percent(found["all"]), percent(found["reconstructed"]["all"])
            lines.append(f"| {name.removeprefix('size_')} | {' | '.join(shares)} |")
    if "misses_pairs" not in results:  # the last of them
        return "\n".join(lines)
    n = results["misses_seen"]["model"]["wrong"]["n"]
    lines += [
        "",
        f"| Where errors come from: clips wrong of {n}, by kind | model | VAE | tracker |",
        "|---|---|---|---|",
    ]
    for split, row in ROWS.items():
        cells = []
        for source in ("model", "VAE", "tracker"):
            found = dict(results[f"misses_{split}"][source])
            wrong = round(found["wrong"]["value"] * n)
            kinds = ", ".join(f"{kind} {found[kind]}" for kind in KINDS if kind in found)
            cells.append(f"{wrong}: {kinds}" if kinds else f"{wrong}")
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines)


def marks(checkpoint: str) -> tuple[str, str]:
    """What stands in README before and after the tables of a checkpoint."""
    return f"<!-- figures of {checkpoint}, from course.quality -->", f"<!-- end of {checkpoint} -->"


def into_readme(checkpoint: str, results: dict, path: Path = README) -> None:
    """Put the tables between README's marks, where it has them."""
    text, (begin, end) = path.read_text(), marks(checkpoint)
    if begin in text:
        before, rest = text.split(begin)
        write_atomically(path, f"{before}{begin}\n{tables(results)}\n{end}{rest.split(end)[1]}".encode())


def main(
    *,
    checkpoint: str = "tiny",
    n: int = 1024,
    seed: int = 0,
    out: Path | None = None,
    only_readme: bool = False,
    device: str = "cpu",
) -> None:
    """Measure a checkpoint, keep the figures, and show them in README where it has marks for them.

    Args:
        checkpoint: Name of a shipped checkpoint, or the folder of one you trained.
        n: Prompts of each split; a quarter for each motion, half for the other tables.
        seed: Of prompts and noise; the errors' table takes the next, so that it looks at other clips.
        out: File of the figures; results.json beside the weights unless given.
        only_readme: Measure nothing, write README's tables again.
        device: cpu or cuda.
    """
    weights = find_checkpoint(checkpoint)
    path = out or weights.with_name("results.json")
    sha256 = verify(checkpoint)
    results = json.loads(path.read_text()) if path.exists() else {}
    others = results.get("seed", seed) != seed or results.get("seen", {}).get("n", n) != n
    if results.get("sha256") != sha256 or (others and not only_readme):
        results = {"sha256": sha256}
    if not only_readme:
        pipe = Pipeline.load(checkpoint, device=device)
        name = torch.cuda.get_device_name() if pipe.device.type == "cuda" else platform.machine()
        machine = f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}"
        results["seed"] = seed
        results["measured_on"] = machine + (", bf16" if fast_bf16(pipe.device) else "")
        results["command"] = f"python -m sora_edu.course.quality --checkpoint {checkpoint} --n {n} --seed {seed}"
        for name, measure in parts(pipe, n=n, seed=seed):
            if name not in results:
                results[name] = rounded(measure())
                write_atomically(path, (json.dumps(results, indent=1) + "\n").encode())
                print(name, percent(results[name]["all"]) if "all" in results[name] else "", flush=True)
    if out is None:
        into_readme(checkpoint, results)
    print(path)


if __name__ == "__main__":
    tyro.cli(main)
