"""Reading images and videos of users, trusting nothing.

Kinds of file are recognised by content, out of fixed lists; sizes are checked before pixels are decoded; a path is
a file of this machine and never a URL. Whatever was cut or found damaged is told in notes, and each failure is a
MediaError that names the file, the cause and the mend. Import the public names from `sora_edu.media`.
"""

import io
import os
import stat
import warnings
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from PIL import Image as Pictures
from PIL import ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.nn.functional import interpolate

from sora_edu.errors import InputError, MediaError
from sora_edu.shapes import Image, Video

MAX_PIXELS = 2**25  # of one picture as stored; an 8K frame just fits
MAX_CLIP_PIXELS = 2**26  # of all frames together after shrinking: 0.8 GB as float32
MAX_FRAMES = 1024
MAX_IMAGE_BYTES, MAX_VIDEO_BYTES = 2**28, 2**31
STILL_FORMATS = ("JPEG", "BMP", "TIFF", "PPM")
MOVING_FORMATS = ("PNG", "GIF", "WEBP", "AVIF")  # these may hold an animation
# No playlist (concat, hls, dash): it would open other files. No EPS: Pillow would run Ghostscript on it.
CONTAINERS = "mov,matroska,avi,mpegts,mpeg,ogg,flv,asf"
PROTOCOLS = "none"
FETCHED = Path(__file__).resolve().parent.parent / "data" / "fetched"  # git ignores it; data/fetch.py fills it
FETCHED_NAMES = ("big_buck_bunny", "bikes", "carphone")

Notes = tuple[str, ...]


@dataclass(frozen=True)
class Clip:
    """What a file held: pixels in [-1, 1] (b = 1), frames a second, kind of file, and what the reader must know."""

    video: Video
    fps: float
    source: str  # a Pillow format such as "GIF", or FFmpeg's name of the container
    notes: Notes = ()


class _Refused(Exception):
    """A reason with its mend; `load_clip` puts the file's name before it."""


def load_media(path: str | os.PathLike, *, max_frames: int | None = None, short_side: int | None = None) -> Video:
    """Read any image or video as a video in [-1, 1] with b = 1; notes become warnings. See `load_clip`."""
    clip = load_clip(path, max_frames=max_frames, short_side=short_side)
    for note in clip.notes:
        warnings.warn(f"{path}: {note}", stacklevel=2)
    return clip.video


def load_video(path: str | os.PathLike, *, max_frames: int | None = None, short_side: int | None = None) -> Clip:
    """As `load_clip`, but refuse kinds of file that hold only still pictures."""
    clip = load_clip(path, max_frames=max_frames, short_side=short_side)
    if clip.source in STILL_FORMATS:
        raise MediaError(f"{path}: a still {clip.source} picture, expected a video; use load_image or load_media")
    return clip


def load_image(path: str | os.PathLike, *, short_side: int | None = None) -> Image:
    """Read one picture in [-1, 1] with b = 1; refuse a file with several frames."""
    clip = load_clip(path, max_frames=2, short_side=short_side)
    if clip.video.shape[2] > 1:
        raise MediaError(f"{path}: holds several frames, expected one picture; use load_media")
    return clip.video[:, :, 0]


def load_clip(path: str | os.PathLike, *, max_frames: int | None = None, short_side: int | None = None) -> Clip:
    """Read an image (one frame) or a video, whatever its file name ends in.

    Transparency is laid over white; EXIF and display rotation are applied; 16 bits are scaled, not cut. Frames
    of uneven duration are kept one by one, `fps` is their mean, and a note says so. A damaged picture is refused;
    of a damaged video the frames up to the damage are kept, with a note.
    max_frames: read the first ones only; without it a file of more than MAX_FRAMES is refused.
    short_side: shrink larger frames to this while reading, which makes long and large videos fit.
    Raises MediaError for whatever cannot be read.
    """
    for name, value in {"max_frames": max_frames, "short_side": short_side}.items():
        if value is not None and value < 1:
            raise InputError(f"{name}={value}, expected a positive whole number or None")
    try:
        with _open_file(path) as file:
            try:
                return _read_pictures(file, max_frames, short_side)
            except UnidentifiedImageError:
                file.seek(0)
                return _read_container(file, max_frames, short_side)
    except _Refused as reason:
        raise MediaError(f"{path}: {reason}") from None
    except Pictures.DecompressionBombError:
        raise MediaError(f"{path}: has more than the {MAX_PIXELS:,} pixels that are decoded; make it smaller") from None
    except Exception as cause:  # decoders raise nearly every kind: OSError, ValueError, SyntaxError, struct.error
        message = f"{path}: cannot be decoded ({cause}); it is damaged or cut short, so copy or export it again"
        raise MediaError(message) from cause


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
        raise _Refused("is a URL, expected a file; download it first and give its path")
    try:
        info = os.stat(path)
        if not stat.S_ISREG(info.st_mode):  # a FIFO or a device would block, or never end
            raise _Refused("is a folder or a device, expected an image or video file; give the path of one")
        if info.st_size == 0:
            raise _Refused("is empty (0 bytes), expected an image or a video; copy or export it again")
        if info.st_size > MAX_VIDEO_BYTES:
            raise _Refused(f"has {info.st_size:,} bytes, at most {MAX_VIDEO_BYTES:,} are read; cut out a part of it")
        return open(path, "rb")
    except (OSError, ValueError) as cause:  # ValueError: a NUL in the path
        reason = getattr(cause, "strerror", None) or str(cause)
        raise _Refused(f"cannot be opened ({reason}); check the path and its permissions") from None


def _check_size(frames: int, height: int, width: int, max_frames: int | None, short_side: int | None) -> None:
    """Refuse what would not fit, from numbers alone; frames = 0 means that the header does not tell."""
    if height * width > MAX_PIXELS:
        raise _Refused(f"has frames of {width}x{height} pixels, at most {MAX_PIXELS:,} are decoded; make it smaller")
    if max_frames is None and frames > MAX_FRAMES:
        raise _Refused(f"has {frames} frames, at most {MAX_FRAMES} are read; set max_frames to read the first ones")
    ratio = 1.0 if short_side is None else min(1.0, short_side / max(1, min(height, width)))
    total = min(frames, max_frames or frames) * height * width * ratio**2
    if total > MAX_CLIP_PIXELS:
        raise _Refused(
            f"has {frames} frames of {width}x{height}, more than the {MAX_CLIP_PIXELS:,} pixels that are kept at once; "
            "set short_side (256, say) to shrink them or max_frames to read fewer"
        )


def _shrink(frame: Float[Tensor, "c h w"], short_side: int | None) -> Float[Tensor, "c nh nw"]:
    height, width = frame.shape[1:]
    if short_side is None or min(height, width) <= short_side:
        return frame
    ratio = short_side / min(height, width)
    size = (max(1, round(height * ratio)), max(1, round(width * ratio)))
    return interpolate(frame[None], size=size, mode="bilinear", antialias=True)[0].clamp(-1, 1)


def _read_pictures(file: io.BufferedReader, max_frames: int | None, short_side: int | None) -> Clip:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own warnings on size; _check_size is stricter
        picture = Pictures.open(file, formats=STILL_FORMATS + MOVING_FORMATS)
        if os.fstat(file.fileno()).st_size > MAX_IMAGE_BYTES:
            raise _Refused(f"is a picture of more than {MAX_IMAGE_BYTES:,} bytes; make it smaller")
        moving = picture.format in MOVING_FORMATS and getattr(picture, "is_animated", False)
        # A GIF's header has no count, and counting walks through the whole file: it is checked as it is read.
        count = 0 if moving and picture.format == "GIF" else getattr(picture, "n_frames", 1) if moving else 1
        start = 1 if picture.info.get("default_image") else 0  # APNG: a stand-in for viewers that cannot animate
        frames, seconds, cut = [], [], False
        _check_size(count - start if moving else count, picture.height, picture.width, max_frames, short_side)
        while moving or not frames:
            try:
                picture.seek(start + len(frames) if moving else 0)
            except EOFError:
                break
            if max_frames is not None and len(frames) == max_frames:
                cut = True
                break
            _check_size(len(frames) + 1, picture.height, picture.width, max_frames, short_side)
            frames.append(_shrink(_pixels(ImageOps.exif_transpose(picture)), short_side))
            seconds.append(picture.info.get("duration", 0) / 1000)
        if len(frames) < count - start and not cut:
            raise _Refused(f"ends after {len(frames)} of {count - start} frames; copy or export it again")
    notes = (f"only the first {max_frames} frames were read",) if cut else ()
    fps = len(seconds) / sum(seconds) if sum(seconds) > 0 else 10.0  # browsers play an unstated duration as 0.1 s
    if max(seconds) > 1.5 * min(seconds):
        notes += (f"durations are uneven ({min(seconds):g} to {max(seconds):g} s); taken as {fps:.3g} frames a second",)
    if picture.format == "TIFF" and picture.n_frames > 1:
        notes += (f"holds {picture.n_frames} pages; only the first is read",)
    source = "JPEG" if picture.format == "MPO" else str(picture.format)  # MPO: how phones store two JPEGs in one file
    return Clip(torch.stack(frames, dim=1)[None], fps, source, notes)


def _pixels(picture: Pictures.Image) -> Float[Tensor, "3 h w"]:
    """Any Pillow mode to RGB in [-1, 1]. Trap: `convert("RGB")` clips 16-bit greys at 255 instead of scaling them."""
    if picture.mode[0] in "IF":
        grey = np.asarray(picture).astype(np.float32)
        top = 65535.0 if picture.mode[0] == "I" else 1.0 if grey.max() <= 1 else 255.0
        if not (np.isfinite(grey).all() and grey.min() >= 0 and grey.max() <= top):
            raise _Refused(
                f"has mode {picture.mode} with values {grey.min():g} to {grey.max():g}, expected 0 to 65535 (whole "
                "numbers) or 0 to 1 or 255 (fractions); rescale it to one of these"
            )
        return torch.from_numpy(grey / top * 2 - 1).expand(3, -1, -1)
    if picture.has_transparency_data:
        white = Pictures.new("RGBA", picture.size, "white")
        picture = Pictures.alpha_composite(white, picture.convert("RGBA"))
    return _from_bytes(np.array(picture.convert("RGB")))


def _from_bytes(rgb: UInt8[np.ndarray, "h w 3"]) -> Float[Tensor, "3 h w"]:
    return rearrange(torch.from_numpy(rgb.copy()), "h w c -> c h w").contiguous().float().div_(127.5).sub_(1)


def _read_container(file: io.BufferedReader, max_frames: int | None, short_side: int | None) -> Clip:
    # FFmpeg gets an open file, never a path, so it needs no protocol, not even "file": nothing can open other files.
    only_this = {"format_whitelist": CONTAINERS, "protocol_whitelist": PROTOCOLS}
    decoder = {"max_pixels": str(MAX_PIXELS)}  # probing may decode a frame already, so the decoder has the limit too
    try:
        container = av.open(file, options=decoder, container_options=only_this)
    except Exception as cause:
        raise _Refused(
            f"is no image or video that is read here ({cause}); expected one of {', '.join(MOVING_FORMATS)}, "
            f"{', '.join(STILL_FORMATS)} or a video in {CONTAINERS.replace(',', ', ')}, neither damaged nor cut short"
        ) from None
    with container:
        covers = av.stream.Disposition.attached_pic  # an album's cover is stored as a video stream
        stream = next((s for s in container.streams.video if not s.disposition & covers), None)
        if stream is None:
            raise _Refused("has no video stream, expected pictures; give a file that shows something")
        if stream.height * stream.width == 0:  # what the decoder leaves where its max_pixels is exceeded
            raise _Refused(f"states no frame size, or more than {MAX_PIXELS:,} pixels; export it smaller")
        length = (container.duration or 0) / av.time_base
        promised = stream.frames or round(length * (stream.average_rate or 0))
        _check_size(promised, stream.height, stream.width, max_frames, short_side)
        stream.codec_context.thread_count = 1  # starting threads takes longer than decoding a short clip
        frames, times, notes = [], [], []
        try:
            for frame in container.decode(stream):
                if len(frames) == max_frames:
                    notes.append(f"only the first {max_frames} frames were read")
                    break
                _check_size(len(frames) + 1, frame.height, frame.width, max_frames, short_side)
                frames.append(_shrink(_upright(frame), short_side))
                times.append(frame.time)
                if frame.is_corrupt and not any("damaged" in note for note in notes):
                    notes.append(f"frame {len(frames) - 1} is damaged, and later ones may be")
        except av.error.FFmpegError as cause:
            notes.append(f"damaged after {len(frames)} frames ({cause.strerror}); they are all that is used")
        if not frames:
            raise _Refused(f"has no frame that can be decoded; export it again. {' '.join(notes)}".strip())
        end = (frame.time or 0) - (container.start_time or 0) / av.time_base
        step = float((frame.duration or 0) * frame.time_base)
        ends_early = len(container.streams) == 1 and end + 1.5 * step < length  # else the sound may last longer
        if not notes and (len(frames) < promised if stream.frames else ends_early):
            notes.append(f"cut short: ends after {len(frames)} of about {promised} frames; they are all that is used")
        if len({frame.shape for frame in frames}) > 1:
            raise _Refused("changes its size on the way, expected equal frames; export it at one size")
        fps, uneven = _frame_rate(times, float(stream.average_rate or 0))
        return Clip(torch.stack(frames, dim=1)[None], fps, container.format.name, tuple(notes) + uneven)


def _upright(frame: av.VideoFrame) -> Float[Tensor, "3 h w"]:
    quarter_turns = round(frame.rotation / 90)  # counter-clockwise, as rot90; phones store portrait video so
    # Trap: with its default, a pool of threads for each frame, swscale hung for minutes on a busy machine.
    return _from_bytes(np.rot90(frame.to_ndarray(format="rgb24", threads=1), quarter_turns))


def _frame_rate(times: list[float | None], stated: float) -> tuple[float, Notes]:
    steps = np.diff([time for time in times if time is not None])
    if len(steps) == 0 or steps.min() <= 0:
        return (stated, ()) if stated > 0 else (8.0, ("no frame rate is stated; 8 a second are assumed",))
    if steps.max() <= 1.5 * steps.min():
        return stated or 1 / steps.mean(), ()
    fps = float(1 / steps.mean())
    return fps, (f"frame rate varies ({steps.min():.3g} to {steps.max():.3g} s a frame); taken as {fps:.3g} a second",)
