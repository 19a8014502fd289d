"""Files that a command writes: refused before the work where they could not be written after it."""

import tempfile
from pathlib import Path

from sora_edu.errors import InputError


def check_target(path: Path | str, *, option: str = "path") -> Path:
    """The path of a file to write later; its folder is made. InputError where no file could be written there."""
    path = Path(path)
    try:
        folder = path.is_dir()
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):  # a name is not enough: the disk may be full or read-only
            pass
    except OSError as error:
        why = f"{option} {path} cannot be written: {error.strerror}"
        raise InputError(f"{why}; choose another folder or name") from error
    if folder:
        raise InputError(f"{option} {path} is a folder; give the name of a file in it, such as {path / 'out.json'}")
    return path
