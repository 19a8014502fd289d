"""Writing clips: `save_clip(video, "cat.gif")`; the path's ending chooses the format.

Trap: Pillow and libwebp merge equal neighbouring frames, so that a still clip reads back as one frame. Each of the
animation writers below gets round this in its own way. Import the public names from `sora_edu.media` (lesson 03).
"""

import io
import numbers
import os
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from einops import rearrange
from jaxtyping import Shaped, UInt8
from PIL import GifImagePlugin, Image as Pictures, PngImagePlugin
from torch import Tensor

from sora_edu.checked import checked
from sora_edu.errors import InputError, MediaError
from sora_edu.files import as_path, write_whole

FPS_RANGE = (0.1, 240)
GIF_FPS = 50  # browsers play a faster one slowly
MAX_WRITTEN_PIXELS = 2**28

Notes = tuple[str, ...]
Frames = UInt8[np.ndarray, "f h w 3"]


@checked
def to_uint8(x: Shaped[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    """Turn [-1, 1] into bytes 0..255, to nearest; values outside are clipped. The one place where this is done.

    Raises InputError for bytes and whole numbers, which would come out white, and for NaN and infinite values.
    """
    if not x.is_floating_point():
        raise InputError(
            f"the picture is {x.dtype}, expected floats in [-1, 1]; turn bytes into such by x.float() / 127.5 - 1"
        )
    if not torch.isfinite(x).all():
        raise InputError("the picture holds NaN or infinite values, expected numbers in [-1, 1]; look at the model")
    return ((x.detach().float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


@checked
def save_clip(
    video: Shaped[Tensor, "..."],
    path: str | os.PathLike,
    *,
    fps: float | int = 8,
    scale: int = 1,
    lossless: bool = False,
) -> Notes:
    """Write a clip `c f h w` or `1 c f h w` (c = 1 or 3, in [-1, 1]) as what the path's ending says.

    .png (APNG, exact), .webp (exact), .gif (256 colours), .mp4 (H.264), .jpg and .strip.png (frames left to
    right). The file appears whole or not at all, and reads back with as many frames as were given.
    scale: each pixel becomes scale x scale pixels, so that small clips can be seen.
    lossless: for .mp4, exact RGB, which few players outside FFmpeg show.
    Returns notes on whatever changed the picture: colours reduced, borders padded, a GIF slowed to 50 frames a second.
    """
    path = as_path(path, error=MediaError)
    ending = clip_ending(path)
    _check_options(path, ending, fps, scale, lossless)
    frames = _to_frames(video)
    if frames[..., 0].size * scale**2 > MAX_WRITTEN_PIXELS:
        raise MediaError(f"{path}: scale={scale} makes more than {MAX_WRITTEN_PIXELS:,} pixels; take a smaller one")
    frames = frames.repeat(scale, axis=1).repeat(scale, axis=2)
    data, notes = _encode(path, ending, frames, fps, lossless)
    try:
        write_whole(path, data)
    except (OSError, ValueError) as cause:
        reason = getattr(cause, "strerror", None) or str(cause)
        message = f"{path}: cannot be written ({reason}); check that the folder exists, is writable and has room"
        raise MediaError(message) from cause
    return notes


def _encode(path: Path, ending: str, frames: Frames, fps: float | int, lossless: bool) -> tuple[bytes, Notes]:
    """The bytes of the file, and what was changed in the picture; MediaError where the encoder refuses."""
    try:
        return ENCODERS[ending](frames, fps, lossless)
    except Exception as cause:
        size = f"{frames.shape[0]} frames of {frames.shape[2]}x{frames.shape[1]}"
        message = f"{path}: {size} cannot be written as {ending} ({cause}); try another size, fps or ending"
        raise MediaError(message) from cause


def clip_ending(path: Path) -> str:
    """The ending that chooses the format; raises MediaError where none does."""
    ending = ".strip.png" if path.name.lower().endswith(".strip.png") else path.suffix.lower()
    if ending not in ENCODERS:
        raise MediaError(f"{path}: unknown ending {ending!r}, expected one of {', '.join(ENCODERS)}; rename it")
    return ending


def _check_options(path: Path, ending: str, fps: object, scale: object, lossless: bool) -> None:
    if lossless and ending in (".gif", ".jpg", ".jpeg"):
        raise MediaError(f"{path}: {ending} cannot be lossless; use .png, .webp or .mp4")
    slowest, fastest = FPS_RANGE
    if not isinstance(fps, numbers.Real) or not slowest <= fps <= fastest:
        raise MediaError(f"{path}: fps={fps}, expected {slowest} to {fastest}")
    if not isinstance(scale, numbers.Integral) or scale < 1:
        raise MediaError(f"{path}: scale={scale}, expected a positive whole number")


def _to_frames(video: Tensor) -> Frames:
    clip = video[0] if video.ndim == 5 and video.shape[0] == 1 else video
    if clip.ndim != 4 or clip.shape[0] not in (1, 3) or clip.numel() == 0 or not clip.is_floating_point():
        raise MediaError(
            f"a clip of shape {tuple(video.shape)} and {video.dtype} cannot be written, expected floats c f h w or "
            "1 c f h w with c = 1 or 3; pick one clip of a batch with video[i]"
        )
    return rearrange(to_uint8(clip).expand(3, -1, -1, -1), "c f h w -> f h w c").cpu().numpy()


def _delays(count: int, fps: float | int, ticks: int) -> list[int]:
    """Whole ticks for each frame whose running sum stays nearest to the exact time: 8 fps in 1/100 s is 12, 13, ..."""
    return np.diff([round(ticks * i / fps) for i in range(count + 1)]).tolist()


def _encode_apng(frames: Frames, fps: float | int, lossless: bool) -> tuple[bytes, Notes]:
    first, *rest = map(Pictures.fromarray, frames)
    # Pillow merges only where the blend modes agree too; on opaque frames both modes show the same.
    blend = [(PngImagePlugin.Blend.OP_SOURCE, PngImagePlugin.Blend.OP_OVER)[i % 2] for i in range(len(frames))]
    options = dict(save_all=True, append_images=rest, duration=1000 / fps, blend=blend, loop=0) if rest else {}
    return _pillow_bytes(first, "PNG", **options), ()


def _encode_gif(frames: Frames, fps: float | int, lossless: bool) -> tuple[bytes, Notes]:
    indices, palette, notes = _few_colours(frames)
    if fps > GIF_FPS:
        notes += (f"slowed from {fps:g} to {GIF_FPS} frames a second, the most that browsers show of a GIF",)
    pictures = [Pictures.fromarray(index) for index in indices]
    for picture in pictures:
        picture.putpalette(palette)
    # Pillow's frame by frame writer merges nothing
    parts = [*GifImagePlugin._get_global_header(pictures[0], {"loop": 0})]
    for picture, delay in zip(pictures, _delays(len(frames), min(fps, GIF_FPS), ticks=100), strict=True):
        parts += GifImagePlugin.getdata(picture, duration=10 * delay)
    return b"".join(parts) + b";", notes


def _few_colours(frames: Frames) -> tuple[UInt8[np.ndarray, "f h w"], list[int], Notes]:
    """Each pixel's place in one palette of 256 for all frames, the palette, and what was lost."""
    tall = rearrange(frames, "f h w c -> (f h) w c")
    colours = np.unique(tall.reshape(-1, 3), axis=0)
    if len(colours) <= 256:  # exact: the palette is the colours
        palette, notes = colours, ()
        codes = colours.astype(np.int64) @ (65536, 256, 1)
        index = np.searchsorted(codes, tall.astype(np.int64) @ (65536, 256, 1)).astype(np.uint8)
    else:  # one palette for all frames and no dithering, or still parts would flicker
        quantised = Pictures.fromarray(tall).quantize(256, dither=Pictures.Dither.NONE)
        palette, index = np.array(quantised.getpalette("RGB")), np.asarray(quantised)
        notes = (f"reduced from {len(colours)} colours to 256; .png and .webp keep them all",)
    return rearrange(index, "(f h) w -> f h w", f=len(frames)), palette.flatten().tolist(), notes


def _encode_webp(frames: Frames, fps: float | int, lossless: bool) -> tuple[bytes, Notes]:
    """Stills in an animated container (RFC 9649, section 2.7.1), since libwebp's animation encoder merges frames."""

    def three_bytes(*numbers: int) -> bytes:
        return b"".join(number.to_bytes(3, "little") for number in numbers)

    def chunk(name: bytes, data: bytes) -> bytes:
        return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)

    stills = [_pillow_bytes(Pictures.fromarray(frame), "WEBP", lossless=True) for frame in frames]
    if len(stills) == 1:
        return stills[0], ()
    size = three_bytes(frames.shape[2] - 1, frames.shape[1] - 1)
    body = chunk(b"VP8X", b"\x02\0\0\0" + size) + chunk(b"ANIM", b"\xff\xff\xff\xff\0\0")  # animated; white, for ever
    for still, delay in zip(stills, _delays(len(stills), fps, ticks=1000), strict=True):
        place = three_bytes(0, 0) + size + three_bytes(delay) + b"\x02"  # at (0, 0), replacing what was there
        body += chunk(b"ANMF", place + still[12:])  # 12: without the still's own RIFF header
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body, ()


def _encode_mp4(frames: Frames, fps: float | int, lossless: bool) -> tuple[bytes, Notes]:
    notes, (height, width) = (), frames.shape[1:3]
    if not lossless and (height % 2 or width % 2):  # yuv420p keeps one colour for 2x2 pixels
        frames = np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        notes = (f"padded from {width}x{height} to {frames.shape[2]}x{frames.shape[1]}, as mp4 needs even sizes",)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        codec, options = ("libx264rgb", {"qp": "0"}) if lossless else ("libx264", {"crf": "12"})
        stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001), options=options)
        stream.codec_context.thread_count = 1  # the same bytes on every machine
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "rgb24" if lossless else "yuv420p"
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(stream.encode(picture.reformat(format=stream.pix_fmt, threads=1)))  # see reading._upright
        container.mux(stream.encode())
    return buffer.getvalue(), notes


def _encode_strip(format: str) -> Callable[[Frames, float | int, bool], tuple[bytes, Notes]]:
    def encode(frames: Frames, fps: float | int, lossless: bool) -> tuple[bytes, Notes]:
        strip = Pictures.fromarray(rearrange(frames, "f h w c -> h (f w) c"))
        return _pillow_bytes(strip, format, **({"quality": 95, "subsampling": 0} if format == "JPEG" else {})), ()

    return encode


def _pillow_bytes(picture: Pictures.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


ENCODERS = {
    ".gif": _encode_gif,
    ".png": _encode_apng,
    ".webp": _encode_webp,
    ".mp4": _encode_mp4,
    ".jpg": _encode_strip("JPEG"),
    ".jpeg": _encode_strip("JPEG"),
    ".strip.png": _encode_strip("PNG"),
}
