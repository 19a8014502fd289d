"""Headers that cost more than their pixels: what Pillow and FFmpeg would work through without a limit.

Each check walks a file's own structure, a few bytes at a time, and refuses what no camera or program writes:
thousands of JPEG scans, a tag that claims the whole file again and again, a comment of megabytes (lesson 03).
"""

import re
import struct
from collections.abc import Iterator

from sora_edu.media.limits import Refused

MAX_SCANS = 64  # a progressive JPEG has about ten
MAX_SCAN_PIXELS = 2**30  # scans x pixels
MAX_PAGES = 100  # that are counted
MAX_EXIF = 2**18
MAX_TAG_BYTES = 2**24  # that all tags of one directory may claim; they may claim the same bytes more than once
MAX_SLOW_BYTES = 2**20  # of what Pillow decodes in Python: text PPM, odd greys, run-length BMP
MAX_HEADER = 4096  # of a PPM, comments included
MAX_CHUNKS = 100_000  # of a PNG
MAX_BLOCKS = 300_000  # of a GIF: 76 MB in full ones
MAX_SAMPLES = 2**20  # of all tracks of an MP4: 3 hours of film with sound
EXIF_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # in a JPEG's coded data; \xd0 to \xd7 only restart it


# JPEG


def jpeg_scans(data) -> tuple[int, bytes]:
    """Count a JPEG's scans and return them with its EXIF data; refuse EXIF data that nobody writes."""
    scans, exif, at = 0, b"", 2
    while match := MARKER.search(data, at):
        at = match.end()
        kind = data[at - 1]
        if kind == 0xD9 or at + 2 > len(data):  # end of the picture; phones append films and second pictures
            break
        length = struct.unpack_from(">H", data, at)[0]
        if kind == 0xE1 and data[at + 2 : at + 8] == b"Exif\0\0":
            exif += data[at + 8 : at + length]
            if len(exif) > MAX_EXIF:
                raise Refused(f"has more than {MAX_EXIF:,} bytes of EXIF data; export it again without them")
        scans += kind == 0xDA
        at += length
    return scans, exif


def check_jpeg(data) -> int:
    """Return the number of scans; refuse EXIF data that would cost more than the picture."""
    scans, exif = jpeg_scans(data)
    check_tags(exif)
    return scans


def check_scans(scans: int, height: int, width: int) -> None:
    """Refuse a JPEG that would be decoded thousands of times over."""
    if scans > MAX_SCANS or scans * height * width > MAX_SCAN_PIXELS:
        raise Refused(f"has {scans} scans of {width}x{height} pixels, too many to decode; export it as JPEG again")


# TIFF and EXIF


def _layout(data) -> tuple[str, int, int] | None:
    """Byte order, size of an offset (4, or 8 in BigTIFF) and the first directory; None for what is no TIFF."""
    order = {b"II": "<", b"MM": ">"}.get(bytes(data[:2]))
    if order is None or len(data) < 16:
        return None
    if struct.unpack_from(order + "H", data, 2)[0] == 43:
        return order, 8, struct.unpack_from(order + "Q", data, 8)[0]
    return order, 4, struct.unpack_from(order + "I", data, 4)[0]


def check_tags(data) -> None:
    """Refuse a TIFF or EXIF directory whose tags claim far more bytes than there are: Pillow reads each claim."""
    layout = _layout(data)
    if layout is None:
        return
    order, wide, at = layout
    claimed = 0
    for place in _entries(data, order, wide, at):
        kind = struct.unpack_from(order + "H", data, place + 2)[0]
        count = struct.unpack_from(order + ("Q" if wide == 8 else "I"), data, place + 4)[0]
        claimed += min(EXIF_SIZES.get(kind, 1) * count, len(data))
        if claimed > len(data) + MAX_TAG_BYTES:
            raise Refused("has tags that claim more bytes than it has; export it again")


def _entries(data, order: str, wide: int, at: int) -> range:
    """Where the entries of the directory at `at` begin; empty where it lies beyond the file."""
    head, each = (8, 20) if wide == 8 else (2, 12)
    if at + head > len(data):
        return range(0)
    count = struct.unpack_from(order + ("Q" if wide == 8 else "H"), data, at)[0]
    first = at + head
    return range(first, min(first + each * count, len(data) - each + 1), each)


def tiff_pages(data) -> int:
    """Count a TIFF's pages, up to MAX_PAGES + 1. Pillow's own count parses each page, and there may be a million."""
    layout = _layout(data)
    if layout is None:
        return 1
    order, wide, at = layout
    pages = 0
    while at and pages <= MAX_PAGES:
        entries = _entries(data, order, wide, at)
        pages += 1
        after = entries.stop if len(entries) else len(data)
        at = struct.unpack_from(order + ("Q" if wide == 8 else "I"), data, after)[0] if after + wide <= len(data) else 0
    return max(1, pages)


def orientation(exif: bytes) -> int:
    """EXIF's orientation, 1 to 8; 1 where none is stated. Pillow would parse every tag for it."""
    exif = exif.removeprefix(b"Exif\0\0")
    layout = _layout(exif)
    if layout is None:
        return 1
    order, wide, at = layout
    for place in _entries(exif, order, wide, at):
        if struct.unpack_from(order + "H", exif, place)[0] == 0x0112:
            value = struct.unpack_from(order + "H", exif, place + 4 + wide)[0]
            return value if 1 <= value <= 8 else 1
    return 1


# PPM, PNG, BMP


def check_ppm(data) -> None:
    """Refuse a PPM with a header of megabytes, or much data in a form that Pillow decodes in Python."""
    head = re.sub(rb"#[^\r\n]*", b" ", bytes(data[:MAX_HEADER]))
    match = re.match(rb"P([1-6]|f)\s+(\d+)\s+(\d+)\s+(?:([-+.\d]+)\s)?", head)
    if match is None and len(data) > MAX_HEADER:
        raise Refused(f"has no whole PPM header within {MAX_HEADER:,} bytes; save it again without comments")
    if match is None or len(data) <= MAX_SLOW_BYTES:
        return
    kind, top = match[1], match[4]
    plain = kind in b"123"
    if plain or (kind in b"56" and top not in (b"255", b"65535")) or (kind == b"6" and top != b"255"):
        raise Refused(f"is a PPM as text, or of unusual depth, of more than {MAX_SLOW_BYTES:,} bytes; save it as PNG")


def check_png(data) -> None:
    """Refuse a PNG in a hundred thousand chunks."""
    at, chunks = 8, 0
    while at + 8 <= len(data) and chunks <= MAX_CHUNKS:
        at += 12 + struct.unpack_from(">I", data, at)[0]
        chunks += 1
    if chunks > MAX_CHUNKS:
        raise Refused(f"has more than {MAX_CHUNKS:,} chunks; save it again")


def check_gif(data) -> None:
    """Refuse a GIF in a million little blocks, or with comments of megabytes: Pillow keeps each block."""
    comments = 0
    for blocks, (length, comment) in enumerate(_gif_blocks(data)):
        comments += length if comment else 0
        if blocks >= MAX_BLOCKS or comments > MAX_SLOW_BYTES:
            raise Refused(f"has more than {MAX_BLOCKS:,} blocks, or megabytes of comments; save it again")


def _gif_blocks(data) -> Iterator[tuple[int, bool]]:
    """(length, whether it is of a comment) of each block of a GIF's frames and extensions."""
    at = 13 + _palette_bytes(data, 10)
    while at + 2 < len(data) and data[at] != 0x3B:
        comment = data[at : at + 2] == b"\x21\xfe"
        if data[at] == 0x21:
            at += 2
        elif data[at] == 0x2C:
            at += 11 + _palette_bytes(data, at + 9)  # the frame's place, its palette, the size of its codes
        else:  # Pillow skips what it does not know byte by byte
            at += 1
            yield 1, False
            continue
        length = 1
        while length and at < len(data):
            length = data[at]
            at += 1 + length
            yield length, comment


def _palette_bytes(data, at: int) -> int:
    return 3 << (data[at] & 7) + 1 if at < len(data) and data[at] & 0x80 else 0


def check_bmp(data) -> None:
    """Refuse a large run-length BMP, which Pillow decodes in Python."""
    packed = len(data) > 34 and struct.unpack_from("<I", data, 30)[0] in (1, 2)
    if packed and len(data) > MAX_SLOW_BYTES:
        raise Refused(f"is a compressed BMP of more than {MAX_SLOW_BYTES:,} bytes; save it as PNG")


# MP4, MOV, HEIC: boxes within boxes (ISO/IEC 14496-12)

NESTED = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf", b"iprp", b"ipco")
MAX_DEPTH = 8


def boxes(data, start: int = 0, end: int | None = None, depth: int = 0) -> Iterator[tuple[bytes, int, int]]:
    """Yield (name, start, end) of the content of each box, and of those inside the NESTED ones, in file order."""
    end = len(data) if end is None else end
    while start + 8 <= end:
        size, name = struct.unpack_from(">I4s", data, start)
        first = start + 8
        if size == 1 and start + 16 <= end:
            size, first = struct.unpack_from(">Q", data, first)[0], start + 16
        stop = end if size == 0 else start + size
        if stop < first or stop > end:
            return
        yield name, first, stop
        if name in NESTED and depth < MAX_DEPTH:
            yield from boxes(data, first, stop, depth + 1)
        start = stop


def check_samples(data) -> None:
    """Refuse an MP4 whose few bytes promise millions of samples: FFmpeg makes an index entry for each."""
    samples = 0
    for name, first, stop in boxes(data):
        if name == b"cmov":
            raise Refused("has a compressed header, as films of the 1990s had; export it again")
        at = {b"stsz": first + 8, b"stz2": first + 8, b"trun": first + 4}.get(name, stop)
        if at + 4 <= stop:
            samples += struct.unpack_from(">I", data, at)[0]
    if samples > MAX_SAMPLES:
        raise Refused(f"promises {samples:,} samples, at most {MAX_SAMPLES:,} are read; cut out a part of it")
