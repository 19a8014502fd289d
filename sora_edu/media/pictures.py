"""Still and animated pictures, by Pillow. `reading.load_clip` decides that a file is one (lesson 03)."""

import mmap
import os
import warnings
from collections.abc import Callable
from io import BufferedReader

import numpy as np
from PIL import Image as Pictures

from sora_edu.media import headers, limits
from sora_edu.media.colour import Colours, pixels
from sora_edu.media.limits import Refused, Wanted

STILL_FORMATS = ("JPEG", "BMP", "TIFF", "PPM")
MOVING_FORMATS = ("PNG", "GIF", "WEBP", "AVIF")  # these may hold an animation
# No EPS: Pillow would run Ghostscript on it.
MAGIC = {b"\xff\xd8": "JPEG", b"II": "TIFF", b"MM": "TIFF", b"\x89P": "PNG", b"BM": "BMP", b"GI": "GIF"}
TURNS = {  # EXIF's orientation to the transposition that undoes it
    2: Pictures.Transpose.FLIP_LEFT_RIGHT,
    3: Pictures.Transpose.ROTATE_180,
    4: Pictures.Transpose.FLIP_TOP_BOTTOM,
    5: Pictures.Transpose.TRANSPOSE,
    6: Pictures.Transpose.ROTATE_270,
    7: Pictures.Transpose.TRANSVERSE,
    8: Pictures.Transpose.ROTATE_90,
}

Read = tuple[list, float, str, tuple[str, ...]]  # frames, frames a second, kind of file, notes


def read_pictures(file: BufferedReader, wanted: Wanted) -> Read:
    """Read the frames of a picture. Raises Pillow's UnidentifiedImageError where it is none, and Refused."""
    scans = _check_headers(file)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own warnings on size; ours are stricter
        picture = Pictures.open(file, formats=STILL_FORMATS + MOVING_FORMATS)
        if os.fstat(file.fileno()).st_size > limits.MAX_IMAGE_BYTES:
            raise Refused(f"is a picture of more than {limits.MAX_IMAGE_BYTES:,} bytes; make it smaller")
        moving = picture.format in MOVING_FORMATS and getattr(picture, "is_animated", False)
        return _read_moving(picture, wanted) if moving else _read_still(picture, wanted, file, scans)


def _mapped(file: BufferedReader) -> mmap.mmap:
    return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _check_headers(file: BufferedReader) -> int:
    """Refuse what Pillow would choke on while opening; return the scans of a JPEG, and 0 for all else."""
    with _mapped(file) as data:
        kind = MAGIC.get(bytes(data[:2]), "PPM" if data[:1] == b"P" else None)
        if len(data) > limits.MAX_IMAGE_BYTES:  # a video, or refused once Pillow has recognised it
            return 0
        if kind == "JPEG":
            return headers.check_jpeg(data)
        check: dict[str, Callable] = {
            "TIFF": headers.check_tags,
            "PNG": headers.check_png,
            "GIF": headers.check_gif,
            "BMP": headers.check_bmp,
            "PPM": headers.check_ppm,
        }
        if kind in check:
            check[kind](data)
    return 0


def _read_still(picture: Pictures.Image, wanted: Wanted, file: BufferedReader, scans: int) -> Read:
    if wanted.start > 0:
        raise Refused(f"holds one picture, and start={wanted.start} is beyond it; set start=0")
    source = "JPEG" if picture.format == "MPO" else str(picture.format)  # MPO: how phones store two JPEGs in one file
    height, width = picture.height, picture.width
    size, notes = still_size(height, width, wanted)
    if source == "JPEG":
        _draft(picture, size, scans)
    else:
        limits.check_frame(height, width, limits.MAX_PIXELS)
        limits.check_decoder(source, height, width, limits.BYTES_PER_PIXEL[source])
    pages = 1
    if source == "TIFF":
        with _mapped(file) as data:
            pages = headers.tiff_pages(data)
    if pages > 1:
        count = f"more than {headers.MAX_PAGES}" if pages > headers.MAX_PAGES else pages
        notes += (f"holds {count} pages; only the first is read",)
    picture.load()
    frame, colours = _upright(picture, size, None)
    return [frame], 10.0, source, colours.notes + notes


def still_size(height: int, width: int, wanted: Wanted) -> tuple[tuple[int, int], tuple[str, ...]]:
    """The (height, width) to keep of one picture: a large one is shrunk even unasked, and a note says so."""
    if min(height, width) < 1:
        raise Refused(f"is {width}x{height} pixels; export it again")
    size = wanted.size(height, width)
    most = limits.MAX_CLIP_PIXELS
    if size[0] * size[1] <= most:
        return size, ()
    while size[0] * size[1] > most:  # halved, as a JPEG can be decoded at 1/2 and 1/4 for less
        size = max(1, size[0] // 2), max(1, size[1] // 2)
    note = f"shrunk from {width}x{height} to {size[1]}x{size[0]}, as at most {most:,} pixels are kept; set short_side"
    return size, (note,)


def _draft(picture: Pictures.Image, size: tuple[int, int], scans: int) -> None:
    """Let a JPEG be decoded at 1/2, 1/4 or 1/8 where that is large enough, and refuse what takes too much even so."""
    height, width = picture.height, picture.width
    limits.check_frame(height, width, limits.MAX_JPEG_PIXELS)
    headers.check_scans(scans, height, width)
    layers = picture.layer  # of each component: id, horizontal and vertical samples, table
    samples = sum(h * v for _, h, v, _ in layers) / max(h * v for _, h, v, _ in layers)
    buffered = 2 * samples if scans > 1 else 0  # coefficients of the whole picture wait for the later scans
    picture.draft(picture.mode, size[::-1])
    out = limits.BYTES_PER_PIXEL["JPEG"] * picture.height * picture.width / (height * width)
    limits.check_decoder("JPEG", height, width, buffered + out)


def _upright(picture: Pictures.Image, size: tuple[int, int], colours: Colours | None) -> tuple[np.ndarray, Colours]:
    """The pixels as a viewer shows them; the small picture is turned, as the large one would not fit twice."""
    colours = colours or Colours(picture)
    frame = pixels(picture, size, colours)
    turn = TURNS.get(_orientation(picture))
    return (frame if turn is None else np.asarray(Pictures.fromarray(frame).transpose(turn))), colours


def _orientation(picture: Pictures.Image) -> int:
    """EXIF's orientation of a picture, which lies in a TIFF's own tags, and elsewhere in a block of its own."""
    if picture.format == "TIFF":
        value = picture.tag_v2.get(0x0112, 1)
        return value if isinstance(value, int) else 1
    exif = picture.info.get("exif", b"")
    return headers.orientation(exif[: headers.MAX_EXIF]) if isinstance(exif, bytes) else 1


def _read_moving(picture: Pictures.Image, wanted: Wanted) -> Read:
    """The frames of an animation, each checked before it is decoded."""
    source = str(picture.format)
    # A GIF's header has no count, and counting walks through the whole file: it is checked as it is read.
    count = 0 if source == "GIF" else picture.n_frames
    first = 1 if picture.info.get("default_image") else 0  # APNG: a stand-in for viewers that cannot animate
    _check_moving(picture, count - first, wanted)
    frames, seconds, colours, cut, at = [], [], None, False, 0
    while True:
        try:
            picture.seek(first + at)
        except EOFError:
            break
        if wanted.max_frames is not None and len(frames) == wanted.max_frames:
            cut = True
            break
        at += 1
        _check_moving(picture, at, wanted)
        picture.load()
        if at > wanted.start:
            frame, colours = _upright(picture, wanted.size(picture.height, picture.width), colours)
            frames.append(frame)
            seconds.append(picture.info.get("duration", 0) / 1000)
    if at < count - first and not cut:
        raise Refused(f"ends after {at} of {count - first} frames; copy or export it again")
    if not frames:
        raise Refused(f"has {at} frames, and start={wanted.start} is beyond them; set start=0")
    notes = (f"only {which(wanted)} frames were read",) if cut else ()
    fps, uneven = _frame_rate(seconds)
    return frames, fps, source, colours.notes + notes + uneven


def _frame_rate(seconds: list[float]) -> tuple[float, tuple[str, ...]]:
    """Frames a second from how long each is shown, and a note where they differ."""
    fps = len(seconds) / sum(seconds) if sum(seconds) > 0 else 10.0  # browsers play an unstated duration as 0.1 s
    if max(seconds) <= 1.5 * min(seconds):
        return fps, ()
    longest = f"{min(seconds):g} to {max(seconds):g} s"
    return fps, (f"durations are uneven ({longest}); taken as {fps:.3g} frames a second",)


def _check_moving(picture: Pictures.Image, frames: int, wanted: Wanted) -> None:
    height, width, source = picture.height, picture.width, str(picture.format)
    limits.check_frame(height, width, limits.MAX_PIXELS)
    limits.check_decoder(source, height, width, limits.BYTES_PER_PIXEL_MOVING[source])
    limits.check_frames(frames, height, width, wanted, source=limits.MAX_SOURCE_PIXELS)


def which(wanted: Wanted) -> str:
    if wanted.start == 0:
        return f"the first {wanted.max_frames}"
    return f"{wanted.max_frames}, from number {wanted.start} on,"
