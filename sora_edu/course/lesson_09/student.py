"""How accuracy depends on the number of steps, for a teacher with guidance and for its student without; and the time.

    python -m sora_edu.course.lesson_09.student --n 512      about ten minutes on two CPU cores
    python -m sora_edu.course.lesson_09.student --only-times     the times again, with nothing else running

Both draw the same prompts from the same noise, so their difference is paired, clip by clip.
"""

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

import torch

from sora_edu.checkpoint import verify, write_atomically
from sora_edu.errors import InputError
from sora_edu.evaluate import compare, mean_interval, prompts_of, rounded, wilson
from sora_edu.pipeline import Pipeline
from sora_edu.world.captions import Parsed
from sora_edu.world.tracker.track import track

RECORD = Path(__file__).resolve().parents[3] / "data" / "lessons" / "student.json"
TEACHER_STEPS = (1, 2, 4, 8, 12, 25)
STUDENT_STEPS = (1, 2, 3, 4, 5, 8)


def rights(pipe: Pipeline, prompts: list[str], said: list[Parsed], *, steps: int, seed: int = 0) -> list[bool]:
    """For each prompt, whether its clip shows everything that it says; guidance is the checkpoint's own."""
    read = track(pipe(prompts, steps=steps, seed=seed))
    return [compare(meaning, read, i)["all"] for i, meaning in enumerate(said)]


def paired_difference(first: list[bool], second: list[bool]) -> dict:
    """Share right of the first less that of the second on the same prompts, with its 95 % interval.

    Raises InputError where the two are not of one length.
    """
    if len(first) != len(second):
        raise InputError(f"{len(first)} and {len(second)} clips are no pairs; draw the same prompts with both")
    return mean_interval(torch.tensor(first).double() - torch.tensor(second).double())


def seconds_a_clip(pipes: dict[str, Pipeline], *, batch: int, rounds: int = 7) -> dict:
    """Median seconds a clip of each, drawn ``batch`` at a time in turns, and the median ratio of second to first.

    Each at its own steps and guidance, from prompt to pixels; one turn before the clock starts.
    """
    prompts, taken = ["a red circle falls"] * batch, {name: [] for name in pipes}
    for turn in range(rounds + 1):
        for name, pipe in pipes.items():
            started = time.perf_counter()
            pipe(prompts, seed=turn)
            taken[name].append((time.perf_counter() - started) / batch)
    first, second = (values[1:] for values in taken.values())
    ratio = statistics.median(b / a for a, b in zip(first, second, strict=True))
    medians = {name: statistics.median(values[1:]) for name, values in taken.items()}
    return {"batch": batch, "rounds": rounds, **medians, "ratio": ratio}


def curve(pipe: Pipeline, counts: tuple[int, ...], *, n: int, seed: int = 0) -> list[dict]:
    """Share of n seen prompts right for each number of steps, and the passes through the transformer it takes."""
    _, said, prompts = prompts_of("seen", n, pipe.preset.world, seed=seed)
    both = 1 if pipe.preset.cfg_scale in (0, 1) else 2
    rows = []
    for steps in counts:
        right = rights(pipe, prompts, said, steps=steps, seed=seed)
        rows.append({"steps": steps, "passes": both * steps, "right": wilson(sum(right), n)})
    return rows


def measure(teacher: Pipeline, student: Pipeline, *, n: int, seed: int = 0) -> dict:
    """Both curves, and the paired differences at each one's own steps on all three splits."""
    splits = {}
    for split in ("seen", "heldout", "pairs"):
        _, said, prompts = prompts_of(split, n, teacher.preset.world, seed=seed)
        right = [rights(pipe, prompts, said, steps=pipe.preset.steps, seed=seed) for pipe in (teacher, student)]
        shares = dict(zip(("teacher", "student"), (wilson(sum(hits), n) for hits in right), strict=True))
        splits[split] = shares | {"difference": paired_difference(right[1], right[0])}
    return {
        "n": n,
        "seed": seed,
        "splits": splits,
        "teacher": curve(teacher, TEACHER_STEPS, n=n, seed=seed),
        "student": curve(student, STUDENT_STEPS, n=n, seed=seed),
    }


def recorded() -> dict:
    """What was measured on the shipped checkpoints, with n, the command, the machine and both checksums."""
    return json.loads(RECORD.read_text())


def main() -> None:
    """Measure, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teacher", default="tiny", help="name of a shipped checkpoint, or a path")
    parser.add_argument("--student", default="tiny-student", help="name of a shipped checkpoint, or a path")
    parser.add_argument("--n", type=int, default=512, help="prompts for each number of steps")
    parser.add_argument("--out", type=Path, default=RECORD, help="where to write")
    parser.add_argument("--only-times", action="store_true", help="measure the times again, and keep the rest")
    asked = parser.parse_args()
    teacher, student = Pipeline.load(asked.teacher), Pipeline.load(asked.student)
    sha256 = {"teacher": verify(asked.teacher), "student": verify(asked.student)}
    if asked.only_times:
        tables = json.loads(asked.out.read_text())
        if tables["sha256"] != sha256:
            raise InputError(f"{asked.out} is of other checkpoints; measure all of it: leave --only-times out")
    else:
        head = {"command": f"python -m sora_edu.course.lesson_09.student --n {asked.n}", "sha256": sha256}
        tables = head | measure(teacher, student, n=asked.n)
    pipes = {"teacher": teacher, "student": student}
    tables["seconds"] = [seconds_a_clip(pipes, batch=batch) for batch in (1, 32)]
    tables["machine"] = f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"

    write_atomically(asked.out, (json.dumps(rounded(tables, 5), indent=1) + "\n").encode())
    print(asked.out)


if __name__ == "__main__":
    main()
