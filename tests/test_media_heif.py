"""A phone's photo: tiles in HEIC's boxes, built here by hand; libheif reads the same files to the same pixels."""

import struct
from fractions import Fraction

import av
import numpy as np
import pytest

from sora_edu.errors import MediaError
from sora_edu.media import load_clip, load_image, load_video, to_uint8

pytestmark = pytest.mark.skipif("libx265" not in av.codecs_available, reason="this build of FFmpeg has no HEVC encoder")
TILE, ROWS, COLUMNS = 64, 3, 4


def box(name, *parts):
    body = b"".join(parts)
    return struct.pack(">I", len(body) + 8) + name + body


def full(name, *parts, version=0, flags=0):
    return box(name, struct.pack(">I", version << 24 | flags), *parts)


def hevc(pixels):
    """(hvcC box, sample) of one picture."""
    codec = av.CodecContext.create("libx265", "w")
    codec.height, codec.width = pixels.shape[:2]
    codec.pix_fmt = "yuv420p"
    codec.time_base, codec.framerate = Fraction(1, 25), Fraction(25)
    codec.options = {"x265-params": "qp=4:log-level=none:pools=none:repeat-headers=1"}
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
    frame = frame.reformat(format="yuv420p", threads=1)
    frame.pts = 0
    data = b"".join(bytes(packet) for packet in [*codec.encode(frame), *codec.encode()])
    units = data.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")[1:]
    sets = [unit.rstrip(b"\0") for unit in units if unit[0] >> 1 in (32, 33, 34)]
    coded = [unit for unit in units if unit[0] >> 1 < 32]
    profile = next(unit for unit in sets if unit[0] >> 1 == 33).replace(b"\0\0\3", b"\0\0")[3:15]
    body = b"\1" + profile + bytes([0xF0, 0, 0xFC, 0xFD, 0xF8, 0xF8, 0, 0, 0x0F, 3])
    body += b"".join(bytes([0x80 | unit[0] >> 1]) + struct.pack(">HH", 1, len(unit)) + unit for unit in sets)
    return box(b"hvcC", body), b"".join(struct.pack(">I", len(unit)) + unit for unit in coded)


def heic(picture, *, turns=(), rows=ROWS, links=None):
    """A HEIC file of ROWS x COLUMNS tiles; `turns` are (b"irot" or b"imir", value); `links` the tiles it names."""
    height, width = picture.shape[:2]
    padded = np.pad(picture, ((0, ROWS * TILE - height), (0, COLUMNS * TILE - width), (0, 0)), mode="edge")
    tiles = padded.reshape(ROWS, TILE, COLUMNS, TILE, 3).swapaxes(1, 2).reshape(-1, TILE, TILE, 3)
    coded = [hevc(tile) for tile in tiles]
    count, grid = len(coded), len(coded) + 1
    links = list(range(1, count + 1)) if links is None else links

    def item(number, kind, hidden):
        return full(b"infe", struct.pack(">HH", number, 0), kind, b"\0", version=2, flags=hidden)

    items = [item(i + 1, b"hvc1", 1) for i in range(count)] + [item(grid, b"grid", 0)]
    iinf = full(b"iinf", struct.pack(">H", count + 1), *items)
    iref = full(b"iref", box(b"dimg", struct.pack(f">HH{len(links)}H", grid, len(links), *links)))
    sizes = [full(b"ispe", struct.pack(">II", *size)) for size in ((TILE, TILE), (width, height))]
    properties = [coded[0][0], *sizes, *[box(name, bytes([value])) for name, value in turns]]
    own = bytes([3, *[0x80 | i for i in range(4, 4 + len(turns))]])
    ipma = [struct.pack(">HBBB", i + 1, 2, 0x81, 2) for i in range(count)] + [struct.pack(">HB", grid, len(own)), own]
    iprp = box(b"iprp", box(b"ipco", *properties), full(b"ipma", struct.pack(">I", count + 1), *ipma))
    payload = struct.pack(">BBBBHH", 0, 0, rows - 1, COLUMNS - 1, width, height)
    ftyp = box(b"ftyp", b"heic", struct.pack(">I", 0), b"mif1heic")

    def meta(at):
        places = b""
        for i, (_, sample) in enumerate(coded):
            places += struct.pack(">HHHHII", i + 1, 0, 0, 1, at, len(sample))
            at += len(sample)
        places += struct.pack(">HHHHII", grid, 1, 0, 1, 0, len(payload))
        iloc = full(b"iloc", struct.pack(">BBH", 0x44, 0, count + 1), places, version=1)
        hdlr = full(b"hdlr", struct.pack(">I", 0), b"pict", bytes(12), b"\0")
        return full(
            b"meta", hdlr, full(b"pitm", struct.pack(">H", grid)), iloc, iinf, iref, iprp, box(b"idat", payload)
        )

    start = len(ftyp) + len(meta(0)) + 8
    return ftyp + meta(start) + box(b"mdat", *[sample for _, sample in coded])


@pytest.fixture
def photo():
    y, x = np.mgrid[:190, :250]
    picture = np.stack([x, y, (x + y) // 2], axis=-1).astype(np.uint8)
    picture[:20, :30] = (250, 20, 40)  # the top left corner is marked
    return picture


def written(path, data):
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("turns", "shown"),
    [
        ((), lambda picture: picture),
        (((b"irot", 1),), lambda picture: np.rot90(picture, 1)),
        (((b"irot", 3),), lambda picture: np.rot90(picture, 3)),
        (((b"imir", 0),), np.flipud),
        (((b"imir", 1),), np.fliplr),
        (((b"irot", 1), (b"imir", 1)), lambda picture: np.fliplr(np.rot90(picture, 1))),
    ],
)
def test_a_photo_of_tiles_is_composed_and_turned(tmp_path, photo, turns, shown):
    read = load_clip(written(tmp_path / "a.heic", heic(photo, turns=turns)))
    expected = shown(photo).astype(int)
    assert read.source == "HEIC" and read.notes == ()
    assert read.video.shape == (1, 3, 1, *expected.shape[:2])
    error = np.abs(to_uint8(read.video[0, :, 0]).permute(1, 2, 0).numpy() - expected)
    assert error.mean() < 2 and np.quantile(error, 0.999) <= 24  # colours are stored at half size


def test_a_photo_of_tiles_shrinks_and_is_a_still(tmp_path, photo):
    path = written(tmp_path / "a.heic", heic(photo))
    assert load_image(path, short_side=95).shape == (1, 3, 95, 125)
    with pytest.raises(MediaError, match="still HEIC"):
        load_video(path)
    with pytest.raises(MediaError, match="start=3 is beyond it"):
        load_clip(path, start=3)


def test_one_tile_may_lie_in_several_places(tmp_path, photo):
    read = load_image(written(tmp_path / "a.heic", heic(photo, links=[1] * 12)))
    assert np.array_equal(read[0, :, :TILE, :TILE], read[0, :, TILE : 2 * TILE, TILE : 2 * TILE])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"links": list(range(1, 12))}, "11 tiles for 3 rows of 4"),
        ({"rows": 4}, "12 tiles for 4 rows of 4"),
        ({"links": [*range(1, 12), 99]}, "lacks 1 of the 12 tiles"),
    ],
)
def test_tiles_that_do_not_make_a_picture_are_refused(tmp_path, photo, options, message):
    with pytest.raises(MediaError, match=rf"a\.heic: .*{message}.*export it as JPEG"):
        load_clip(written(tmp_path / "a.heic", heic(photo, **options)))


def test_tiles_without_a_plan_are_refused_and_not_the_first_shown(tmp_path, photo):
    data = heic(photo).replace(b"dimg", b"free")
    with pytest.raises(MediaError, match="export it as JPEG"):
        load_clip(written(tmp_path / "a.heic", data))


def test_a_broken_photo_never_escapes_as_another_error_and_is_never_shown_in_part(tmp_path, photo):
    data, path, dice = heic(photo), tmp_path / "a.heic", np.random.default_rng(0)
    for _ in range(150):
        broken = bytearray(data)
        for at in dice.integers(0, data.index(b"mdat"), 3):  # among the boxes
            broken[at] ^= int(dice.integers(1, 256))
        path.write_bytes(broken)
        try:
            assert load_clip(path).video.ndim == 5
        except MediaError as error:
            assert "a.heic" in str(error)
