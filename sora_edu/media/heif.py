"""A phone's HEIC photo is a grid of tiles, each a picture of its own: where they lie, and what is done to the whole.

FFmpeg hands out each tile as a stream whose `id` is the tile's item number; the grid itself is read here from the
boxes of ISO/IEC 23008-12 (HEIF), sections 6.6.2.3 (grid), 6.5.10 (rotation) and 6.5.12 (mirror) (lesson 03).
"""

import struct
from dataclasses import dataclass

import numpy as np

from sora_edu.media.headers import boxes
from sora_edu.media.limits import Refused

MEND = "export it as JPEG"
MAX_TILES = 1024


@dataclass(frozen=True)
class Grid:
    """The picture of a HEIC file that consists of tiles, row by row."""

    tiles: tuple[int, ...]  # item numbers
    rows: int
    columns: int
    height: int  # of the whole; the last tiles may reach beyond it
    width: int
    turns: tuple[tuple[bytes, int], ...]  # (b"irot", quarter turns) or (b"imir", axis), in order
    profile: bytes | None  # an ICC colour profile


def read_grid(data) -> Grid | None:
    """The grid that is a HEIC file's main picture; None where there is none, or the file is no HEIC."""
    try:
        return _read_grid(data)
    except (struct.error, IndexError, ValueError):
        raise Refused(f"is a HEIC photo whose tiles are not told where to lie; {MEND}") from None


def _read_grid(data) -> Grid | None:
    meta = next(((first, stop) for name, first, stop in boxes(data) if name == b"meta"), None)
    if meta is None or bytes(data[4:8]) != b"ftyp":
        return None
    parts = {name: (first, stop) for name, first, stop in boxes(data, meta[0] + 4, meta[1])}
    if not {b"pitm", b"iinf", b"iref", b"iloc"} <= set(parts):
        return None
    item = _item_number(data, parts[b"pitm"])
    if _item_types(data, parts[b"iinf"]).get(item) != b"grid":
        return None
    tiles = _tiles(data, parts[b"iref"], item)
    where = _location(data, parts[b"iloc"], item, parts.get(b"idat", (0, 0))[0])
    large = data[where + 1] & 1
    rows, columns = data[where + 2] + 1, data[where + 3] + 1
    width, height = struct.unpack_from(">II" if large else ">HH", data, where + 4)
    if len(tiles) != rows * columns or not 0 < len(tiles) <= MAX_TILES:
        raise Refused(f"is a HEIC photo of {len(tiles)} tiles for {rows} rows of {columns}; {MEND}")
    properties = _properties(data, parts, item)
    turns = tuple((name, value[0] & 3) for name, value in properties if name in (b"irot", b"imir"))
    profiles = [value[4:] for name, value in properties if name == b"colr" and value[:4] in (b"prof", b"rICC")]
    return Grid(tiles, rows, columns, height, width, turns, profiles[0] if profiles else None)


def _item_number(data, place: tuple[int, int]) -> int:
    return struct.unpack_from(">H" if data[place[0]] == 0 else ">I", data, place[0] + 4)[0]


def _item_types(data, place: tuple[int, int]) -> dict[int, bytes]:
    """Item number to type ("hvc1", "grid", "Exif", ...)."""
    types = {}
    for name, first, _ in boxes(data, place[0] + (6 if data[place[0]] == 0 else 8), place[1]):
        if name == b"infe" and data[first] >= 2:
            wide = data[first] > 2
            number = struct.unpack_from(">I" if wide else ">H", data, first + 4)[0]
            at = first + (10 if wide else 8)
            types[number] = bytes(data[at : at + 4])
    return types


def _tiles(data, place: tuple[int, int], item: int) -> tuple[int, ...]:
    """The items that `item` is derived from, in order."""
    number = ">I" if data[place[0]] else ">H"
    each = struct.calcsize(number)
    for name, first, _ in boxes(data, place[0] + 4, place[1]):
        if name == b"dimg" and struct.unpack_from(number, data, first)[0] == item:
            count = struct.unpack_from(">H", data, first + each)[0]
            return struct.unpack_from(f">{count}{number[1]}", data, first + each + 2)
    return ()


def _location(data, place: tuple[int, int], item: int, idat: int) -> int:
    """Where in the file the first extent of `item` begins."""
    at, version = place[0] + 4, data[place[0]]
    offset, length, base, index = data[at] >> 4, data[at] & 15, data[at + 1] >> 4, data[at + 1] & 15
    wide = version == 2
    count = struct.unpack_from(">I" if wide else ">H", data, at + 2)[0]
    at += 6 if wide else 4

    def number(width: int) -> int:
        nonlocal at
        at += width
        return int.from_bytes(data[at - width : at], "big")

    for _ in range(count):
        this = number(4 if wide else 2)
        method = number(2) & 15 if version > 0 else 0
        number(2)  # the file it lies in: this one
        start = number(base)
        for i in range(number(2)):
            number(index if version > 0 else 0)
            first = start + number(offset)
            number(length)
            if this == item and i == 0:
                return first + (idat if method == 1 else 0)
        if at > place[1]:
            break
    raise ValueError("the grid's place is not told")


def _properties(data, parts: dict, item: int) -> list[tuple[bytes, bytes]]:
    """(name, content) of each property of `item`, in the order in which they apply."""
    if b"ipco" not in parts or b"ipma" not in parts:
        return []
    own = [(name, bytes(data[first:stop])) for name, first, stop in boxes(data, *parts[b"ipco"])]
    at = parts[b"ipma"][0]
    version, wide = data[at], data[at + 3] & 1
    count = struct.unpack_from(">I", data, at + 4)[0]
    at += 8
    for _ in range(count):
        this = struct.unpack_from(">I" if version else ">H", data, at)[0]
        at += 4 if version else 2
        links = data[at]
        at += 1
        places = struct.unpack_from(f">{links}{'H' if wide else 'B'}", data, at)
        at += links * (2 if wide else 1)
        if this == item:
            places = [place & (0x7FFF if wide else 0x7F) for place in places]  # the first bit says "essential"
            return [own[place - 1] for place in places if 0 < place <= len(own)]
    return []


def turned(frame: np.ndarray, turns: tuple[tuple[bytes, int], ...]) -> np.ndarray:
    """The picture as a viewer shows it: `irot` in quarter turns counter-clockwise, `imir` about an axis."""
    for name, value in turns:
        frame = np.rot90(frame, value) if name == b"irot" else (frame[:, ::-1] if value & 1 else frame[::-1])
    return frame
