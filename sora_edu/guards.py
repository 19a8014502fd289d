"""What keeps a run's folder whole: one run at a time, room on the disk, and signals that wait for a step's end."""

import contextlib
import math
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from sora_edu.errors import InputError, TrainingError

TIME_UP = 1  # stands beside the numbers of signals, below those that are deferred


@contextlib.contextmanager
def locked(folder: Path):
    """Hold the run's folder against a second run; the lock falls with the process, kill -9 included."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / ".lock", "w")
    except OSError as error:
        raise TrainingError(f"cannot write to {folder}: {error.strerror}; choose another --out") from error
    with file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # Windows: no lock, and nothing else that depends on one
            pass
        except OSError as error:
            raise TrainingError(f"{folder} is in use by another run; wait for it or choose another --out") from error
        yield


def check_disk(folder: Path, needed: int) -> None:
    """Refuse early where the disk cannot hold what a run writes; ``needed`` in bytes."""
    parent = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    if (free := shutil.disk_usage(parent).free) < needed:
        raise TrainingError(
            f"{folder}: {free / 1e9:.2f} GB free, but the run writes about {needed / 1e9:.2f} GB; "
            "free some or choose another --out"
        )


@contextlib.contextmanager
def claimed(folder: Path, *, resume: bool, needed: int) -> Iterator[None]:
    """Hold the folder of a run, after it was found to be free, or to be resumed, and the disk to have room.

    needed: bytes that the run writes. Raises InputError where a run is there and ``resume`` is not asked for.
    """
    if not resume and any(folder.glob("*.safetensors")):
        raise InputError(f"{folder} already holds a run; add --resume to go on with it, or choose another --out")
    check_disk(folder, needed)
    with locked(folder):
        yield


class Interrupt:
    """Defers Ctrl-C and SIGTERM to the end of a step, so that weights are never half updated.

    ``deadline``, in seconds of time.monotonic, asks for an end as a signal does.
    """

    def __init__(self, deadline: float = math.inf):
        self.deadline = deadline

    def __enter__(self) -> "Interrupt":
        self.received = 0
        self.previous = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self.previous[number] = signal.signal(number, self._receive)
        return self

    def pending(self) -> int:
        """The signal that was received, TIME_UP after the deadline, or 0."""
        return self.received or (TIME_UP if time.monotonic() > self.deadline else 0)

    def _receive(self, number, frame) -> None:
        self.received = number

    def __exit__(self, *_) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def act(self, number: int) -> None:
        """Raise what was deferred: KeyboardInterrupt, exit status 143 after SIGTERM, 0 when time is up; not for 0."""
        if number == TIME_UP:
            sys.exit(0)
        if number == signal.SIGTERM:
            sys.exit(128 + signal.SIGTERM)
        if number:
            raise KeyboardInterrupt
