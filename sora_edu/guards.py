"""What keeps a run's folder whole: one run at a time, room on the disk, and signals that wait for a step's end."""

import contextlib
import shutil
import signal
import sys
import threading
from pathlib import Path

from sora_edu.errors import TrainingError


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


class Interrupt:
    """Defers Ctrl-C and SIGTERM to the end of a step, so that weights are never half updated."""

    def __enter__(self) -> "Interrupt":
        self.received = 0
        self.previous = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self.previous[number] = signal.signal(number, self._receive)
        return self

    def _receive(self, number, frame) -> None:
        self.received = number

    def __exit__(self, *_) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def act(self, number: int) -> None:
        """Raise what was deferred: KeyboardInterrupt, or exit status 143 after SIGTERM; nothing for 0."""
        if number == signal.SIGTERM:
            sys.exit(128 + signal.SIGTERM)
        if number:
            raise KeyboardInterrupt
