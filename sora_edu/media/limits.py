"""What a media file may cost, from numbers alone: checked before, and while, pixels are decoded.

The limits keep each file of at most 10 MB within seconds and 256 MB. They count work (pixels, scans, pages), never
seconds, so that a file is read or refused alike on every machine; what a video's decoder keeps is no number that it
tells, and alone is measured (lesson 03).
"""

from dataclasses import dataclass

import psutil

MAX_SIDE = 2**16  # a picture 1 pixel wide and 33 million high costs 8 bytes a row before any pixel
MAX_PIXELS = 2**25  # of one picture as stored
MAX_JPEG_PIXELS = 2**26  # a JPEG is decoded small: a phone's 64 megapixels fit
MAX_VIDEO_PIXELS = 10 * 2**20  # of one frame of a video, as a decoder may keep 16 of them; 4K fits, 8K does not
MAX_DECODED_BYTES = 196 * 10**6  # that decoding one picture takes
MAX_VIDEO_MEMORY = 226 * 2**20  # bytes that a process may add while it decodes a video; a frame more may be made
MAX_CLIP_PIXELS = 14 * 2**20  # of all frames together after shrinking: 176 MB as float32
MAX_SOURCE_PIXELS = 2**27  # of all frames of an animated picture before shrinking
MAX_VIDEO_SOURCE_PIXELS = 2**30  # the same of a video: decoders of video are faster
PIXELS_PER_BYTE = 100  # what a video may have for each of its bytes, if that is more: a long film is a large file
MAX_FRAMES = 1024
MAX_IMAGE_BYTES, MAX_VIDEO_BYTES = 2**28, 2**31

# Measured peaks of Pillow's decoders beyond the file itself, in bytes a pixel.
BYTES_PER_PIXEL = {"JPEG": 4, "BMP": 4, "PPM": 8, "TIFF": 8, "PNG": 4, "GIF": 9, "WEBP": 16, "AVIF": 16}
BYTES_PER_PIXEL_MOVING = {"PNG": 16, "GIF": 16, "WEBP": 16, "AVIF": 16}


class Refused(Exception):
    """A reason with its mend; `load_clip` puts the file's name before it."""


@dataclass(frozen=True)
class Wanted:
    """What a caller asks of a file: frames from `start` on, at most `max_frames`, shrunk to `short_side`."""

    start: int = 0
    max_frames: int | None = None
    short_side: int | None = None

    def size(self, height: int, width: int) -> tuple[int, int]:
        """The (height, width) that a frame of this size is shrunk to; nothing is enlarged."""
        ratio = 1.0 if self.short_side is None else min(1.0, self.short_side / min(height, width))
        return max(1, round(height * ratio)), max(1, round(width * ratio))

    def kept(self, frames: int) -> int:
        return min(max(0, frames - self.start), self.max_frames or frames)

    def decoded(self, frames: int) -> int:
        return min(frames, self.start + (self.max_frames or frames))


def memory() -> int:
    """Bytes that this process holds now."""
    return psutil.Process().memory_info().rss


def check_memory(before: int) -> None:
    """Refuse a video whose decoder keeps too much; ``before`` is the process's memory before it was opened.

    How many frames a decoder keeps to predict others from, 1 or 16, is known from its memory alone.
    """
    if memory() - before > MAX_VIDEO_MEMORY:
        most = f"more than {MAX_VIDEO_MEMORY >> 20} MB"
        raise Refused(f"takes {most} to decode (large frames, deep colours, many references); export it smaller")


def check_frame(height: int, width: int, limit: int) -> None:
    """Refuse a frame that is larger than `limit` pixels, or longer on one side than any real picture."""
    if height * width > limit:
        raise Refused(f"has frames of {width}x{height} pixels, at most {limit:,} are decoded; make it smaller")
    if max(height, width) > MAX_SIDE:
        raise Refused(f"is {width}x{height} pixels, at most {MAX_SIDE:,} on a side are decoded; make it smaller")


def check_decoder(format: str, height: int, width: int, bytes_per_pixel: float | int) -> None:
    """Refuse a picture whose decoder would take too much memory."""
    fits = int(MAX_DECODED_BYTES / bytes_per_pixel)
    if height * width > fits:
        raise Refused(f"is {width}x{height} pixels, at most {fits:,} of such a {format} are decoded; make it smaller")


def check_frames(frames: int, height: int, width: int, wanted: Wanted, *, source: int) -> None:
    """Refuse more frames, or more pixels before or after shrinking, than are read; frames = 0: not yet known."""
    if wanted.max_frames is None and wanted.kept(frames) > MAX_FRAMES:
        raise Refused(f"has {frames} frames, at most {MAX_FRAMES} are read; set max_frames to read the first ones")
    if wanted.decoded(frames) * height * width > source:
        fits = source // (height * width)
        raise Refused(
            f"has {frames} frames of {width}x{height}, and at most {source:,} pixels are decoded in all; "
            f"set max_frames to read the first ones ({fits} at most), or make it smaller"
        )
    shrunk = wanted.size(height, width)
    if wanted.kept(frames) * shrunk[0] * shrunk[1] > MAX_CLIP_PIXELS and frames > 1:
        raise Refused(
            f"has {frames} frames of {width}x{height}, more than the {MAX_CLIP_PIXELS:,} pixels that are kept at once; "
            "set short_side (256, say) to shrink them or max_frames to read fewer"
        )
