"""The folder of a run: one run at a time, room on the disk, metrics, and two saved states of each stage.

Whatever becomes of a run, one whole state of each stage that had begun is in its folder (lesson 10).
"""

import contextlib
import json
import math
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout
from torch import Tensor

from sora_edu.checkpoint import load_tensors, save_tensors, write_atomically
from sora_edu.errors import CheckpointError, InputError, RunWarning, TrainingError


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run's folder against a second run; the lock falls with the process, kill -9 included."""
    lock = FileLock(folder / ".lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except Timeout as error:
        raise TrainingError(f"{folder} is in use by another run; wait for it or choose another --out") from error
    except OSError as error:
        raise TrainingError(f"cannot write to {folder}: {error.strerror}; choose another --out") from error
    try:
        yield
    finally:
        lock.release()


def check_disk(folder: Path, needed: int) -> None:
    """Refuse early where the disk cannot hold what a run writes; ``needed`` in bytes."""
    parent = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    if (free := shutil.disk_usage(parent).free) < needed:
        raise TrainingError(
            f"{folder}: {free / 1e9:.2f} GB free, but the run writes about {needed / 1e9:.2f} GB; "
            "free some or choose another --out"
        )


def sweep(folder: Path) -> None:
    """Remove what a run that was killed while writing left half written."""
    for place in (folder, folder / "samples"):
        for pattern in ("*.part", ".*.tmp"):
            for left in place.glob(pattern):
                left.unlink(missing_ok=True)


def read_metrics(path: Path) -> list[dict]:
    """The lines of a file of metrics that hold a stage and a step; what was cut off or broken is passed over."""
    return [record for line in lines_of(path) if "stage" in (record := record_of(line))]


def lines_of(path: Path) -> list[bytes]:
    """A file's lines as they are, or none where there is no file."""
    return path.read_bytes().splitlines(keepends=True) if path.exists() else []


def record_of(line: bytes) -> dict:
    """What a line says; {} where it is cut off, or is no line of ours."""
    try:
        record = json.loads(line) if line.endswith(b"\n") else {}
    except (ValueError, RecursionError):
        return {}
    ours = isinstance(record, dict) and isinstance(record.get("stage"), str) and type(record.get("step")) is int
    return record if ours else {}


def check_state(tensors: dict[str, Tensor], counts: dict, source: Path) -> None:
    """CheckpointError where a saved state does not say how far it is, or holds NaN: its checksum says nothing of that.

    No state of ours holds NaN, as a step with such a loss or gradient is skipped.
    """
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise CheckpointError(f"{source} holds values that are not finite in {name}")
    for name, kinds in (("step", (int,)), ("bad", (int,)), ("seconds", (int, float))):
        value = counts.get(name)
        if type(value) not in kinds or not 0 <= value < math.inf:
            raise CheckpointError(f"{source} is no training state: its {name} is {value!r}")


def check_settings(noted: dict, asked: dict, *, folder: Path, growing: tuple[str, ...]) -> None:
    """InputError where a run is resumed with other settings than it was begun with; ``growing`` ones may be larger."""
    other = [n for n in asked if n in noted and noted[n] != asked[n] and not (n in growing and noted[n] < asked[n])]
    if other:
        batch = "; --batch sets the batches of both stages" if any(name.endswith("_batch") for name in other) else ""
        had, got = (" and ".join(f"{name}={values[name]}" for name in other) for values in (noted, asked))
        raise InputError(
            f"{folder} was begun with {had}, not {got}; resume with the former, or choose another --out "
            f"(only {' and '.join(growing) or 'nothing'} may grow{batch})"
        )


def same_settings(path: Path, settings: dict) -> None:
    """Note the settings of a folder's runs, or refuse others: lengths of two kinds would be compared."""
    if path.exists() and (kept := json.loads(path.read_text())) != settings:
        raise InputError(f"{path.parent} holds runs of {kept}, not of {settings}; choose another --out")
    write_atomically(path, json.dumps(settings).encode())


class RunFolder:
    """What a run writes and reads again: lines of metrics, and two states of each stage.

    The older of the two states is written over, so that one whole state exists at any moment. States say nothing of
    ranks, so that another number may go on. All ranks read; with ``writes`` False nothing is written.
    """

    def __init__(self, path: Path, *, writes: bool = True):
        self.path = path
        self.writes = writes
        self.newest_slot: dict[str, int] = {}  # of each stage: which of its two files holds the newest state

    @contextlib.contextmanager
    def claimed(self, *, resume: bool, needed: int) -> Iterator[None]:
        """Hold the folder, after it was found to be free, or to be resumed, and the disk to have room.

        needed: bytes that the run writes. Raises InputError where a run is there and ``resume`` is not asked for, and
        where it is asked for and only finished weights are there, which a training from nothing would replace.
        """
        if not self.writes:  # the rank that writes holds it for all
            yield
            return
        if not resume and any(self.path.glob("*.safetensors")):
            raise InputError(f"{self.path} already holds a run; add --resume to go on with it, or choose another --out")
        if (self.path / "model.safetensors").exists() and not any(self.path.glob("*.state?.safetensors")):
            raise InputError(f"{self.path} holds weights, but no state to resume from; choose another --out")
        check_disk(self.path, needed)
        with locked(self.path):
            sweep(self.path)
            yield

    def begun_with(self, settings: dict, *, growing: tuple[str, ...] = ()) -> dict:
        """Note what a run is made with. Returns what was noted before; InputError where that is another thing.

        InputError too where there is a run that does not say what it was begun with: parts of two would be mixed.
        """
        path = self.path / "settings.json"
        noted = {}
        if path.exists():
            try:
                noted = dict(json.loads(path.read_bytes()))
                check_settings(noted, settings, folder=self.path, growing=growing)
            except (ValueError, TypeError, RecursionError) as error:
                if isinstance(error, InputError):
                    raise
                raise InputError(f"{path} is damaged; write again what it held, or choose another --out") from error
        elif any(self.path.glob("*.safetensors")):
            raise InputError(f"{path} is not there to say what this run was begun with; choose another --out")
        if self.writes:
            write_atomically(path, (json.dumps(settings) + "\n").encode())
        return noted

    def log(self, line: dict) -> None:
        """Add one line of JSON to the metrics."""
        if self.writes:
            with open(self.path / "metrics.jsonl", "a") as file:
                file.write(json.dumps(line) + "\n")

    def drop_metrics(self, stage: str, *, after: int) -> None:
        """Drop a stage's lines after a step, which a resumed run will write again, and a line that was cut off."""
        path = self.path / "metrics.jsonl"
        lines = lines_of(path)
        kept = []
        for line in lines:
            record = record_of(line)
            if line.endswith(b"\n") and not (record.get("stage") == stage and record["step"] > after):
                kept.append(line)
        if self.writes and kept != lines:
            write_atomically(path, b"".join(kept))

    def save(self, stage: str, tensors: dict[str, Tensor], counts: dict) -> None:
        """Save a state of a stage over the older of its two; ``counts`` has at least its "step"."""
        if self.writes:
            slot = 1 - self.newest_slot.get(stage, 1)
            save_tensors(self._state(stage, slot), tensors, counts)
            self.newest_slot[stage] = slot

    def has_state(self, stage: str) -> bool:
        """Whether a stage has begun, and left a state."""
        return any(self._state(stage, slot).exists() for slot in (0, 1))

    def newest(self, stage: str) -> tuple[dict[str, Tensor], dict] | None:
        """Tensors and counts of the newer of a stage's states; where it is damaged, the other, with a warning."""
        found = {}
        errors = []
        for slot in (0, 1):
            if self._state(stage, slot).exists():
                try:
                    found[slot] = load_tensors(self._state(stage, slot))
                    check_state(*found[slot], self._state(stage, slot))
                except CheckpointError as error:
                    found.pop(slot, None)
                    errors.append(str(error))
        if errors and not found:
            mend = f"or delete the files {stage}.state* to begin {stage} anew"
            raise CheckpointError(f"no saved state of {stage} can be read: {'; '.join(errors)}; {mend}")
        for error in errors:
            warnings.warn(f"{error}; going on from the state saved before it", RunWarning, stacklevel=2)
        if not found:
            return None
        self.newest_slot[stage] = slot = max(found, key=lambda slot: found[slot][1]["step"])
        return found[slot]

    def _state(self, stage: str, slot: int) -> Path:
        return self.path / f"{stage}.state{slot}.safetensors"
