"""Reading images and videos of users, trusting nothing: `load_media("cat.jpg")`.

Kinds of file are recognised by content, out of fixed lists; sizes are checked before pixels are decoded; a path is
a file of this machine and never a URL. Whatever was cut, converted or found damaged is told in notes, and each failure
is a MediaError that names the file, the cause and the mend.

Pillow reads pictures (`pictures`), FFmpeg videos (`videos`); `limits` has what both may cost. Import
the public names from `sora_edu.media` (lesson 03).
"""

import io
import os
import stat
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image as Pictures, UnidentifiedImageError

from sora_edu.errors import InputError, MediaError, shown
from sora_edu.files import as_path
from sora_edu.media import limits
from sora_edu.media.limits import Refused, Wanted
from sora_edu.media.pictures import STILL_FORMATS, Read, read_pictures
from sora_edu.media.videos import read_container
from sora_edu.shapes import Image, Video, is_whole

FETCHED = Path(__file__).resolve().parents[2] / "data" / "fetched"  # git ignores it; data/fetch.py fills it
FETCHED_NAMES = ("big_buck_bunny", "bikes", "carphone")
STILLS = (*STILL_FORMATS, "HEIC")

Notes = tuple[str, ...]


@dataclass(frozen=True)
class Clip:
    """What a file held: pixels in [-1, 1] (b = 1), frames a second, kind of file, and what the reader must know."""

    video: Video
    fps: float
    source: str  # a Pillow format such as "GIF", or FFmpeg's name of the container
    notes: Notes = ()


def load_media(
    path: str | os.PathLike, *, start: int = 0, max_frames: int | None = None, short_side: int | None = None
) -> Video:
    """Read any image or video as a video in [-1, 1] with b = 1; notes become warnings. See `load_clip`."""
    clip = load_clip(path, start=start, max_frames=max_frames, short_side=short_side)
    _warn(path, clip.notes)
    return clip.video


def load_video(
    path: str | os.PathLike, *, start: int = 0, max_frames: int | None = None, short_side: int | None = None
) -> Clip:
    """As `load_clip`, but refuse kinds of file that hold only still pictures."""
    clip = load_clip(path, start=start, max_frames=max_frames, short_side=short_side)
    if clip.source in STILLS:
        raise MediaError(f"{path}: a still {clip.source} picture, expected a video; use load_image or load_media")
    return clip


def load_image(path: str | os.PathLike, *, short_side: int | None = None) -> Image:
    """Read one picture in [-1, 1] with b = 1, notes becoming warnings; refuse a file with several frames."""
    clip = load_clip(path, max_frames=2, short_side=short_side)
    if clip.video.shape[2] > 1:
        raise MediaError(f"{path}: holds several frames, expected one picture; use load_media")
    _warn(path, clip.notes)
    return clip.video[:, :, 0]


def _warn(path: str | os.PathLike, notes: Notes) -> None:
    for note in notes:
        warnings.warn(f"{path}: {note}", stacklevel=3)


def load_clip(
    path: str | os.PathLike, *, start: int = 0, max_frames: int | None = None, short_side: int | None = None
) -> Clip:
    """Read an image (one frame) or a video, whatever its file name ends in.

    Transparency is laid over white; EXIF and display rotation, colour profiles and pixels that are not square are
    applied; 16 bits are scaled, not cut. Frames of uneven duration are kept one by one, `fps` is their mean, and a note
    says so. A damaged picture is refused; of a damaged video the frames up to the damage are kept, with a note.
    start: frames before this one are left out.
    max_frames: read so many only; without it a file of more than MAX_FRAMES is refused.
    short_side: shrink larger frames to this while reading, which makes long and large videos fit.
    Raises MediaError for whatever cannot be read.
    """
    as_path(path, error=MediaError)  # the text is kept: a Path would make an address "http:/..."
    wanted = _wanted(start, max_frames, short_side)
    try:
        with _open_file(path) as file:
            frames, fps, source, notes = _read(file, wanted)
        return Clip(_to_video(frames), fps, source, notes)
    except Refused as reason:
        raise MediaError(f"{path}: {reason}") from None
    except Pictures.DecompressionBombError:
        message = f"{path}: has more than the {limits.MAX_PIXELS:,} pixels that are decoded; make it smaller"
        raise MediaError(message) from None
    except Exception as cause:  # decoders raise nearly every kind: OSError, ValueError, SyntaxError, struct.error
        message = f"{path}: cannot be decoded ({cause}); it is damaged or cut short, so copy or export it again"
        raise MediaError(message) from cause


def _read(file: io.BufferedReader, wanted: Wanted) -> Read:
    """What Pillow reads of a file, or else FFmpeg."""
    try:
        return read_pictures(file, wanted)
    except UnidentifiedImageError:
        file.seek(0)
        return read_container(file, wanted)


def _wanted(start: int, max_frames: int | None, short_side: int | None) -> Wanted:
    for name, value in {"max_frames": max_frames, "short_side": short_side}.items():
        if value is not None and not is_whole(value, 1, sys.maxsize):
            raise InputError(f"{name}={shown(value)}, expected a positive whole number or None")
    if not is_whole(start, 0, sys.maxsize):
        raise InputError(f"start={shown(start)}, expected 0 or a positive whole number")
    return Wanted(start, max_frames, short_side)


def _to_video(frames: list) -> Video:
    """Arrays of bytes `h w 3`, or of fractions `h w`, to [-1, 1]; each is let go as soon as it is copied."""
    video = np.empty((3, len(frames), *frames[0].shape[:2]), np.float32)
    for i in range(len(frames)):
        frame = frames[i]
        frames[i] = None
        video[:, i] = frame.transpose(2, 0, 1) if frame.ndim == 3 else frame * np.float32(255)
    video /= 127.5
    video -= 1
    return torch.from_numpy(video)[None]


def fetched_clip(name: str) -> Path | None:
    """Return the path of a real clip that `python data/fetch.py` has fetched, or None where it has not.

    name: "big_buck_bunny" (30 s, 1920x1080), "bikes" (640x272) or "carphone" (176x144); see data/README.md.
    Raises InputError for any other name.
    """
    if name not in FETCHED_NAMES:
        raise InputError(f"{name!r} is no clip that data/fetch.py fetches; use one of {', '.join(FETCHED_NAMES)}")
    path = FETCHED / f"{name}.mp4"
    return path if path.is_file() else None


def _open_file(path: str | os.PathLike) -> io.BufferedReader:
    if "://" in str(path):
        raise Refused("is a URL, expected a file; download it first and give its path")
    try:
        info = os.stat(path)
        if not stat.S_ISREG(info.st_mode):  # a FIFO or a device would block, or never end
            raise Refused("is a folder or a device, expected an image or video file; give the path of one")
        if info.st_size == 0:
            raise Refused("is empty (0 bytes), expected an image or a video; copy or export it again")
        if info.st_size > limits.MAX_VIDEO_BYTES:
            most = limits.MAX_VIDEO_BYTES
            raise Refused(f"has {info.st_size:,} bytes, at most {most:,} are read; cut out a part of it")
        return open(path, "rb")
    except (OSError, ValueError) as cause:  # ValueError: a NUL in the path
        reason = getattr(cause, "strerror", None) or str(cause)
        raise Refused(f"cannot be opened ({reason}); check the path and its permissions") from None
