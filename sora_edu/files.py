"""Files that are whole or not there, and refused before the work where they could not be written after it."""

import contextlib
import os
import re
import tempfile
import time
import uuid
from pathlib import Path

from sora_edu.errors import InputError, shown

LEFTOVER_SECONDS = 60  # content is made before its file is opened, so writing takes moments


def as_path(path: object, *, error: type[InputError] = InputError) -> Path:
    """A path given as text or as a Path; raises ``error`` for anything else, None among it."""
    if isinstance(path, str | os.PathLike):
        return Path(path)
    raise error(f"path={shown(path)} is of type {type(path).__name__}; give the path of a file, as text or as a Path")


def check_target(path: Path, *, error: type[InputError] = InputError, example: str = "figures.json") -> None:
    """Refuse a place where no file can be made, before the work whose result it is to hold; raises ``error``."""
    if path.is_dir():
        raise error(f"{path}: is a folder; give the name of a file in it, such as {path / example}")
    folder = next((folder for folder in path.absolute().parents if folder.exists()), path.parent)
    if not folder.is_dir():
        raise error(f"{path}: cannot be written ({folder} is a file); give a path through folders")
    try:
        tempfile.TemporaryFile(dir=folder).close()  # permissions say little: root passes them, and some disks lie
    except OSError as cause:
        raise error(f"{path}: cannot be written in {folder} ({cause.strerror}); choose another folder") from cause


def write_whole(path: Path, *content: bytes | memoryview) -> None:
    """Write beside the file, flush to disk, then rename: at any moment the old file or the new one is whole.

    Raises OSError, or ValueError for a path that no file can have; what was there before is then untouched.
    """
    draft = new_draft(path)
    try:
        with open(draft, "xb") as file:
            file.writelines(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    finally:
        if draft.exists():  # only after an error or Ctrl-C
            draft.unlink()


def new_draft(path: Path) -> Path:
    """A hidden name beside a file that no other process uses; what killed runs left of this file is removed."""
    stem = f".{path.name[:40]}."  # short, as a file name may have 255 bytes
    for entry in os.scandir(path.parent):
        if entry.name.startswith(stem) and re.fullmatch(r"[0-9a-f]{32}\.tmp", entry.name[len(stem) :]):
            with contextlib.suppress(OSError):  # a fresh one may be another run's that is still at work
                if time.time() - entry.stat(follow_symlinks=False).st_mtime > LEFTOVER_SECONDS:
                    os.unlink(entry.path)
    return path.parent / f"{stem}{uuid.uuid4().hex}.tmp"
