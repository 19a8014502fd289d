"""Videos, and photos in the containers of videos (HEIC), by FFmpeg. `reading.load_clip` decides that a file is one.

(lesson 03)
"""

import mmap
import os
from collections.abc import Iterator
from io import BufferedReader

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorTrc, Interpolation, VideoReformatter
from PIL import Image as Pictures

from sora_edu.media import headers, limits
from sora_edu.media.colour import Colours, from_wide, pixels
from sora_edu.media.heif import Grid, read_grid, turned
from sora_edu.media.limits import Refused, Wanted
from sora_edu.media.pictures import MOVING_FORMATS, STILL_FORMATS, Read, still_size, which

# No playlist (concat, hls, dash): it would open other files.
CONTAINERS = "mov,matroska,avi,mpegts,mpeg,ogg,flv,asf"
PROTOCOLS = "none"
HIGH_RANGE = {int(ColorTrc.SMPTE2084): "PQ", int(ColorTrc.ARIB_STD_B67): "HLG"}
WIDE_GAMUT = {9: "BT.2020", 12: "Display P3"}  # FFmpeg's numbers of primaries
LARGEST_STRETCH = 4.0
MANY_REFERENCES = ("h264", "hevc", "vvc", "vp9", "av1")  # of these up to 16 frames are kept, to predict others from
Notes = tuple[str, ...]


def read_container(file: BufferedReader, wanted: Wanted) -> Read:
    """Read the frames of a video, or the photo in a HEIC file. Raises Refused."""
    before = limits.memory()
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        headers.check_samples(data)
        grid = read_grid(data)
    # FFmpeg gets an open file, never a path, so it needs no protocol, not even "file": nothing can open other files.
    only_this = {"format_whitelist": CONTAINERS, "protocol_whitelist": PROTOCOLS}
    decoder = {"max_pixels": str(limits.MAX_VIDEO_PIXELS)}  # probing may decode a frame already
    try:
        container = av.open(file, options=decoder, container_options=only_this)
    except Exception as cause:
        raise Refused(
            f"is no image or video that is read here ({cause}); expected one of {', '.join(MOVING_FORMATS)}, "
            f"{', '.join(STILL_FORMATS)} or a video in {CONTAINERS.replace(',', ', ')}, neither damaged nor cut short"
        ) from None
    with container:
        if grid is not None:
            return _read_grid(container, grid, wanted)
        size = os.fstat(file.fileno()).st_size
        return _read_video(container, _video_stream(container), wanted, size=size, before=before)


def _video_stream(container: av.container.InputContainer) -> av.VideoStream:
    covers = av.stream.Disposition.attached_pic  # an album's cover is stored as a video stream
    streams = [s for s in container.streams.video if not s.disposition & covers]
    if not streams:
        raise Refused("has no video stream, expected pictures; give a file that shows something")
    streams = [s for s in streams if not s.disposition & av.stream.Disposition.dependent]
    if not streams:
        raise Refused("holds parts of a picture, and not how they lie; export it as JPEG")
    stream = next((s for s in streams if s.disposition & av.stream.Disposition.default), streams[0])
    if stream.height * stream.width == 0:  # what the decoder leaves where its max_pixels is exceeded
        raise Refused(f"states no frame size, or more than {limits.MAX_VIDEO_PIXELS:,} pixels; export it smaller")
    return stream


def _most_pixels(stream: av.VideoStream) -> int:
    """The largest frame that is decoded: smaller where a pixel takes more than 24 bits and the decoder keeps many."""
    bits = stream.format.padded_bits_per_pixel if stream.format else 0
    many = stream.codec.canonical_name in MANY_REFERENCES
    return limits.MAX_VIDEO_PIXELS * 24 // max(24, bits) if many else limits.MAX_VIDEO_PIXELS


def _read_video(
    container: av.container.InputContainer, stream: av.VideoStream, wanted: Wanted, *, size: int, before: int
) -> Read:
    source = max(limits.MAX_VIDEO_SOURCE_PIXELS, limits.PIXELS_PER_BYTE * size)
    length = (container.duration or 0) / av.time_base
    promised = stream.frames or round(length * (stream.average_rate or 0))
    limits.check_frame(stream.height, stream.width, _most_pixels(stream))
    limits.check_frames(promised, stream.height, stream.width, wanted, source=source)
    look, frames, times, damage, count, last = Look(stream), [], [], (), 0, None
    try:
        for frame in _decoded(container, stream, most=source // (stream.height * stream.width), before=before):
            if len(frames) == wanted.max_frames:
                damage += (f"only {which(wanted)} frames were read",)
                break
            count += 1
            limits.check_frame(frame.height, frame.width, limits.MAX_VIDEO_PIXELS)
            limits.check_frames(count, frame.height, frame.width, wanted, source=source)
            last = frame
            if count > wanted.start:
                frames.append(look.upright(frame, wanted))
                times.append(_seconds(frame, stream))
            if frame.is_corrupt and not damage:
                damage = (f"frame {count - 1} is damaged, and later ones may be",)
    except av.error.FFmpegError as cause:
        damage += (f"damaged after {count} frames ({cause.strerror}); they are all that is used",)
    _check_read(frames, count, wanted, damage)
    if not damage and _ends_early(container, stream, last, count, promised):
        damage = (f"cut short: ends after {count} of about {promised} frames; they are all that is used",)
    fps, uneven = frame_rate(times, float(stream.average_rate or 0))
    return frames, fps, container.format.name, damage + look.notes + uneven


def _check_read(frames: list[np.ndarray], count: int, wanted: Wanted, damage: Notes) -> None:
    """Refuse a video of which no frame is left, or whose frames differ in size; ``count`` were decoded."""
    if not frames and count:
        raise Refused(f"has {count} frames, and start={wanted.start} is beyond them; set start=0")
    if not frames:
        raise Refused(f"has no frame that can be decoded; export it again. {' '.join(damage)}".strip())
    if len({frame.shape for frame in frames}) > 1:
        raise Refused("changes its size on the way, expected equal frames; export it at one size")


def _decoded(
    container: av.container.InputContainer, stream: av.VideoStream, *, most: int, before: int
) -> Iterator[av.VideoFrame]:
    """Decode packet by packet, at most `most` packets: some hold no frame that is shown, and cost as much.

    before: the process's memory before the container was opened, as probing decodes frames already.
    """
    alpha = _alpha_decoder(stream)
    stream.codec_context.thread_count = 1  # starting threads takes longer than decoding a short clip
    for count, packet in enumerate(container.demux(stream)):
        if count > most + 1:
            raise Refused(f"has more than the {most} frames of this size that are decoded; set max_frames")
        yield from packet.decode() if alpha is None else alpha.decode(packet if packet.size else None)
        limits.check_memory(before)


def _alpha_decoder(stream: av.VideoStream) -> av.VideoCodecContext | None:
    """libvpx for a VP8 or VP9 that says it has alpha: FFmpeg's own decoders drop it."""
    name = {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(stream.codec_context.name)
    if name is None or stream.metadata.get("alpha_mode") != "1":
        return None
    decoder = av.CodecContext.create(name, "r")
    decoder.thread_count = 1
    return decoder


def _ends_early(container, stream, frame: av.VideoFrame, count: int, promised: int) -> bool:
    if stream.frames:
        return count < promised
    end = (_seconds(frame, stream) or 0) - (container.start_time or 0) / av.time_base
    step = float((frame.duration or 0) * stream.time_base)
    length = (container.duration or 0) / av.time_base
    return len(container.streams) == 1 and end + 1.5 * step < length  # else the sound may last longer


def _seconds(frame: av.VideoFrame, stream: av.VideoStream) -> float | None:
    return None if frame.pts is None else float(frame.pts * stream.time_base)


class Look:
    """How the frames of one video become upright sRGB pictures of square pixels; `notes` says what was done."""

    def __init__(self, stream: av.VideoStream) -> None:
        self.notes: Notes = ()
        self.reformatter = VideoReformatter()  # one for all frames: a new one tabulates a wide range again, for seconds
        self.stretch = float(stream.sample_aspect_ratio or 1)
        if not 1 / LARGEST_STRETCH <= self.stretch <= LARGEST_STRETCH:
            self._note(f"states pixels of {self.stretch:.3g}:1, which is not believed; they are taken as square")
            self.stretch = 1.0

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes += (note,)

    def upright(self, frame: av.VideoFrame, wanted: Wanted) -> np.ndarray:
        """One frame as `h w 3` bytes: transparent parts white, turned, shrunk."""
        height, width = self._square(frame.height, frame.width)
        size = wanted.size(height, width)
        quarter_turns = round(frame.rotation / 90)  # counter-clockwise, as rot90; phones store portrait video so
        return np.rot90(self._pixels(frame, size), quarter_turns)

    def _square(self, height: int, width: int) -> tuple[int, int]:
        if self.stretch == 1:
            return height, width
        square = (height, round(width * self.stretch)) if self.stretch > 1 else (round(height / self.stretch), width)
        self._note(f"its pixels are {self.stretch:.3g}:1; stretched from {width}x{height} to {square[1]}x{square[0]}")
        return square

    def _pixels(self, frame: av.VideoFrame, size: tuple[int, int]) -> np.ndarray:
        # Trap: with its default, a pool of threads for each frame, swscale hung for minutes on a busy machine.
        options = {"threads": 1} | self._tones(frame)
        if any(part.is_alpha for part in frame.format.components):
            rgba = self.reformatter.reformat(frame, format="rgba", **options).to_ndarray()
            shown = self._over_white(rgba, size)
        else:
            if size != (frame.height, frame.width):
                way = Interpolation.AREA if size[0] * size[1] < frame.height * frame.width else Interpolation.BILINEAR
                options |= {"height": size[0], "width": size[1], "interpolation": way}
            shown = self.reformatter.reformat(frame, format="rgb24", **options).to_ndarray()
        gamut = WIDE_GAMUT.get(frame.color_primaries)
        if gamut is None or frame.color_trc in HIGH_RANGE:
            return shown
        self._note(f"its colours ({gamut}) were converted to sRGB")
        return from_wide(shown, gamut)

    def _over_white(self, rgba: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        picture = Pictures.fromarray(rgba)
        if picture.getextrema()[3][0] < 255:
            self._note("its transparent parts are shown over white")
        return _exactly(pixels(picture, _no_larger(size, picture), Colours(picture)), size)

    def _tones(self, frame: av.VideoFrame) -> dict:
        """Options that map a high dynamic range to a screen's; none for an ordinary video."""
        kind = HIGH_RANGE.get(frame.color_trc)
        if kind is None:
            return {}
        self._note(
            f"its tones are {kind} (high dynamic range); they were mapped to a screen's, and bright ones are cut"
        )
        return {"dst_color_trc": ColorTrc.IEC61966_2_1, "dst_color_primaries": ColorPrimaries.BT709}


def _no_larger(size: tuple[int, int], picture: Pictures.Image) -> tuple[int, int]:
    return min(size[0], picture.height), min(size[1], picture.width)


def _exactly(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Stretch what is smaller than `size` on one side, as pixels that are not square are."""
    if frame.shape[:2] == tuple(size):
        return frame
    return np.asarray(Pictures.fromarray(frame).resize(size[::-1], Pictures.Resampling.BILINEAR))


def _read_grid(container: av.container.InputContainer, grid: Grid, wanted: Wanted) -> Read:
    """Compose a phone's photo from its tiles."""
    streams = _tile_streams(container, grid, wanted)
    look = Look(streams[0])
    picture = Pictures.fromarray(_compose(container, streams, grid, look)[: grid.height, : grid.width])
    colours = Colours(picture, grid.profile)
    size, notes = still_size(grid.height, grid.width, wanted)
    return [turned(pixels(picture, size, colours), grid.turns)], 10.0, "HEIC", look.notes + colours.notes + notes


def _tile_streams(container: av.container.InputContainer, grid: Grid, wanted: Wanted) -> list[av.VideoStream]:
    """The streams of the tiles, that of the first tile first; Refused where they do not fill the grid."""
    if wanted.start > 0:
        raise Refused(f"holds one picture, and start={wanted.start} is beyond it; set start=0")
    limits.check_frame(grid.height, grid.width, limits.MAX_PIXELS)
    streams = {stream.id: stream for stream in container.streams.video}
    missing = [tile for tile in grid.tiles if tile not in streams]
    if missing:
        raise Refused(f"lacks {len(missing)} of the {len(grid.tiles)} tiles of its picture; export it as JPEG")
    height, width = streams[grid.tiles[0]].height, streams[grid.tiles[0]].width
    if height * grid.rows < grid.height or width * grid.columns < grid.width:
        raise Refused(f"has tiles of {width}x{height}, too small for {grid.width}x{grid.height}; export it as JPEG")
    limits.check_frame(height * grid.rows, width * grid.columns, limits.MAX_PIXELS)
    return [streams[tile] for tile in dict.fromkeys(grid.tiles)]


def _compose(container, streams: list[av.VideoStream], grid: Grid, look: Look) -> np.ndarray:
    """Put each tile in its places; Refused where one is damaged, or of another size than the first."""
    height, width = streams[0].height, streams[0].width
    whole = np.empty((height * grid.rows, width * grid.columns, 3), np.uint8)
    lost = set(grid.tiles)
    for tile, pixels_of_tile in _tile_pixels(container, streams, look):
        if pixels_of_tile.shape[:2] != (height, width):
            raise Refused("has tiles of unequal size; export it as JPEG")
        for index in (i for i, other in enumerate(grid.tiles) if other == tile):
            row, column = divmod(index, grid.columns)
            whole[row * height : (row + 1) * height, column * width : (column + 1) * width] = pixels_of_tile
        lost.discard(tile)
    if lost:
        raise Refused(f"has {len(lost)} damaged tiles of {len(grid.tiles)}; copy it again, or export it as JPEG")
    return whole


def _tile_pixels(container, streams: list[av.VideoStream], look: Look) -> Iterator[tuple[int, np.ndarray]]:
    """The item number and the pixels of each tile."""
    for stream in streams:
        stream.codec_context.thread_count = 1
    for packet in container.demux(streams):
        for frame in packet.decode():
            yield packet.stream.id, look.upright(frame, Wanted())


def frame_rate(times: list[float | None], stated: float) -> tuple[float, Notes]:
    """Frames a second from the times of the frames, or as stated where they say nothing; uneven ones are told."""
    steps = np.diff([time for time in times if time is not None])
    if len(steps) == 0 or steps.min() <= 0:
        return (stated, ()) if stated > 0 else (8.0, ("no frame rate is stated; 8 a second are assumed",))
    if steps.max() <= 1.5 * steps.min():
        return stated or float(1 / steps.mean()), ()
    fps = float(1 / steps.mean())
    return fps, (f"frame rate varies ({steps.min():.3g} to {steps.max():.3g} s a frame); taken as {fps:.3g} a second",)
