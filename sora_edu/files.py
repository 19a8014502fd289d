"""Files that a command writes: refused before the work where they could not be written after it."""

import tempfile
from pathlib import Path

from sora_edu.errors import InputError


def check_target(path: Path | str, *, option: str = "path") -> Path:
    """The path of a file to write later; its folder is made. InputError where no file could be written there."""
    path = Path(path)
    try:
        if path.is_dir():
            raise InputError(f"{option} {path} is a folder; give the name of a file in it, such as {path / 'out.json'}")
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):  # a name is not enough: the disk may be full or read-only
            pass
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        why = getattr(error, "strerror", None) or error
        raise InputError(f"{option} {path} cannot be written: {why}; choose another folder or name") from error
    return path
