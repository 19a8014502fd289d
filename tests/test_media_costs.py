"""What a file may cost: each case in a process of its own, its peak of memory asserted. Work is bounded, not time:
the messages name pixels, scans, pages, blocks; the one time limit here only ends a hang."""

import io
import json
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image as Pictures

from sora_edu.media import headers as media_headers, limits as media_limits, load_clip
from sora_edu.media.limits import Refused

MEGABYTES = 256
HANG_SECONDS = 600  # for all cases together
SMALL = {"short_side": 256, "max_frames": 65}

# Runs each case in a fork, so that a case starts from the import alone; VmHWM is the peak, reset by clear_refs.
MEASURE = """
import json, os, sys
import torch
torch.set_num_threads(1)
from sora_edu.media import load_clip

def memory(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name))

def measure(path, options):
    open("/proc/self/clear_refs", "w").write("5")
    before = memory("VmRSS")
    try:
        answer = list(load_clip(path, **options).video.shape[2:])
    except Exception as error:
        answer = f"{type(error).__name__}: {error}"
    return answer, (memory("VmHWM") - before) / 1024

for path, options in json.load(sys.stdin):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, json.dumps(measure(path, options)).encode())
        os._exit(0)
    os.close(writer)
    print(os.read(reader, 65536).decode() or '["killed", 0]', flush=True)
    os.close(reader)
    os.waitpid(child, 0)
"""


def smooth(width, height, mode="RGB"):
    x, y = np.arange(width, dtype=np.uint16) // 16, np.arange(height, dtype=np.uint16)[:, None] // 16
    grey = ((x + y) % 256).astype(np.uint8)
    return Pictures.fromarray(grey).convert(mode)


def picture(width, height, mode="RGB", **options):
    return lambda path: Pictures.new(mode, (width, height), "teal" if mode != "L" else 90).save(path, **options)


def animation(width, height, count, mode="RGB", **options):
    def write(path):
        pictures = [Pictures.new(mode, (width, height), (9 * i,) * len(mode)) for i in range(count)]
        pictures[0].save(path, save_all=True, append_images=pictures[1:], **options)

    return write


def animated_webp(width, height, count):
    """One still, again and again in the container of RFC 9649: encoding each would take long."""

    def part(name, data):
        return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)

    def write(path):
        still = io.BytesIO()
        Pictures.new("RGB", (width, height), "teal").save(still, "WEBP", quality=1, method=0)
        size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        frame = part(b"ANMF", bytes(6) + size + b"\x64\0\0\x02" + still.getvalue()[12:])
        body = part(b"VP8X", b"\x02\0\0\0" + size) + part(b"ANIM", bytes(6)) + frame * count
        path.write_bytes(b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body)

    return write


def film(width, height, count, codec="libx264", options=None, pix_fmt="yuv420p"):
    def write(path):
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=30, options=options or {"preset": "ultrafast"})
            stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
            for i in range(count):
                frame = av.VideoFrame(width, height, pix_fmt)
                sample = 8 + 7 * i % 200
                sample = sample.to_bytes(2, "little") if pix_fmt.endswith("10le") else bytes([sample])
                for plane in frame.planes:
                    plane.update(sample * (plane.buffer_size // len(sample)))
                container.mux(stream.encode(frame))
            container.mux(stream.encode())

    return write


def scans(width, height, count):
    def write(path):
        data = io.BytesIO()
        Pictures.new("L", (width, height)).save(data, "JPEG", progressive=True)
        data = data.getvalue()[:-2]
        path.write_bytes(data + data[data.rindex(b"\xff\xda") :] * count + b"\xff\xd9")

    return write


def tiff(entries):
    head = struct.pack("<2sHI", b"II", 42, 8)
    body = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return head + body


def pages(count):
    entries = [(256, 3, 1, 1), (257, 3, 1, 1), (258, 3, 1, 8), (273, 4, 1, 0)]
    page = struct.pack("<H", 4) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    after = [8 + (i + 1) * (len(page) + 4) for i in range(count - 1)] + [0]
    return lambda path: path.write_bytes(b"II*\0\x08\0\0\0" + b"".join(page + struct.pack("<I", at) for at in after))


def greedy_tags(path):
    path.write_bytes(tiff([(1000 + i, 1, 9 * 10**6, 8) for i in range(5000)]).ljust(10**7, b"\0"))


def greedy_exif(path):
    data = io.BytesIO()
    Pictures.new("RGB", (64, 64)).save(data, "JPEG")
    exif = b"Exif\0\0" + tiff([(1000 + i, 1, 60_000, 8) for i in range(5000)])
    data = data.getvalue()
    path.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:])


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(extra):
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + head + extra + chunk(b"IDAT", zlib.compress(bytes(8 * 25))) + chunk(b"IEND", b"")
    return lambda path: path.write_bytes(data)


def gif(extension):
    def write(path):
        data = io.BytesIO()
        Pictures.new("L", (8, 8)).save(data, "GIF")
        data = data.getvalue()
        at = data.rindex(b"\x2c\0\0\0\0")
        path.write_bytes(data[:at] + extension + data[at:])

    return write


def bmp(count):
    head = struct.pack("<IiiHHIIiiII", 40, 5000, 5000, 1, 8, 1, count, 0, 0, 256, 0)
    start = 14 + len(head) + 1024
    data = b"BM" + struct.pack("<IHHI", start + count, 0, 0, start) + head + bytes(1024) + b"\x01\x05" * (count // 2)
    return lambda path: path.write_bytes(data)


def promised_samples(count):
    def write(path):
        film(64, 64, 2)(path)
        data = bytearray(path.read_bytes())
        struct.pack_into(">II", data, data.index(b"stsz") + 8, 1, count)
        struct.pack_into(">III", data, data.index(b"stsc") + 12, 1, count, 1)
        path.write_bytes(data)

    return write


def text(head, body=b""):
    return lambda path: path.write_bytes(head + body)


SHORT = {"short_side": 256, "max_frames": 11}
LONG_PNG, LONG_GIF = animation(3400, 3400, 13), animation(3400, 3400, 13, "L")
LONG_WEBP = animated_webp(3400, 3400, 13)
LARGE_JPEG = picture(8064, 6048)
REFERENCES = {"preset": "ultrafast", "refs": "16", "bf": "0", "x264-params": "level=6.2"}
PLAIN = {"preset": "ultrafast", "x265-params": "ref=1:bframes=0:log-level=none"}  # as a phone films

CASES = {  # name: (how it is made, options, the shape read or the message of the refusal)
    "12 megapixels.jpg": (picture(4032, 3024), {}, [1, 3024, 4032]),
    "48 megapixels.jpg": (LARGE_JPEG, SMALL, [1, 256, 341]),
    "48 megapixels whole.jpg": (LARGE_JPEG, {}, [1, 3024, 4032]),
    "48 megapixels, progressive.jpg": (picture(8064, 6048, progressive=True), {}, [1, 3024, 4032]),
    "48 megapixels, 4:4:4.jpg": (picture(8064, 6048, progressive=True, subsampling=0), SMALL, "of such a JPEG are"),
    "thousands of scans.jpg": (scans(200, 200, 3000), {}, "scans of 200x200 pixels, too many"),
    "scans of many pixels.jpg": (scans(6000, 6000, 40), {}, "scans of 6000x6000 pixels, too many"),
    "greedy.jpg": (greedy_exif, {}, "tags that claim more bytes"),
    "large.png": (picture(5792, 5792), {}, [1, 2896, 2896]),
    "large, alpha.png": (picture(5792, 5792, "RGBA"), SMALL, [1, 256, 256]),
    "one pixel wide.png": (picture(1, 2**25, "L"), {}, "on a side are decoded"),
    "many chunks.png": (png(chunk(b"teSt", b"") * 800_000), {}, "more than 100,000 chunks"),
    "animated.png": (LONG_PNG, SHORT, [11, 256, 256]),
    "animated for long.png": (LONG_PNG, SMALL, "pixels are decoded in all"),
    "12 megapixels.webp": (picture(4032, 3024), SMALL, [1, 256, 341]),
    "large.webp": (picture(5792, 5792), SMALL, "of such a WEBP are decoded"),
    "animated.webp": (LONG_WEBP, SHORT, [11, 256, 256]),
    "animated for long.webp": (LONG_WEBP, SMALL, "pixels are decoded in all"),
    "large.avif": (picture(5792, 5792, speed=10), SMALL, "of such a AVIF are decoded"),
    "animated.gif": (LONG_GIF, SHORT, [11, 256, 256]),
    "animated for long.gif": (LONG_GIF, SMALL, "pixels are decoded in all"),
    "comment.gif": (gif(b"\x21\xfe" + b"\x01a" * 3_000_000 + b"\0"), {}, "megabytes of comments"),
    "comments.gif": (gif(b"\x21\xfe\x01a\0" * 1_500_000), {}, "megabytes of comments"),
    "pages.tiff": (pages(180_000), {}, [1, 1, 1]),
    "greedy.tiff": (greedy_tags, {}, "tags that claim more bytes"),
    "22 megapixels.tiff": (
        picture(5500, 4000, compression="tiff_adobe_deflate", strip_size=2**27),
        SMALL,
        [1, 256, 352],
    ),
    "comment.ppm": (text(b"P6\n#", b"a" * 10**7 + b"\n2 2\n255\n" + bytes(12)), {}, "no whole PPM header"),
    "text.ppm": (text(b"P3\n1000 1600\n255\n", b"9 " * 4_800_000), {}, "PPM as text"),
    "odd depth.ppm": (text(b"P6\n1800 1800\n254\n", bytes(3 * 1800**2)), {}, "of unusual depth"),
    "run lengths.bmp": (bmp(9_000_000), {}, "compressed BMP"),
    "4K.mp4": (film(3840, 2160, 70), SMALL, [65, 256, 455]),
    "4K of 16 references.mp4": (
        film(3840, 2160, 24, options=REFERENCES),
        SMALL,
        "to decode (large frames, deep colours, many references)",
    ),
    "4K of 16 references, 10 bits.mp4": (
        film(3840, 2160, 24, options=REFERENCES, pix_fmt="yuv420p10le"),
        SMALL,
        "to decode (large frames, deep colours, many references)",
    ),
    "4K of 16 references, 4:4:4.mp4": (
        film(3840, 2160, 24, options=REFERENCES, pix_fmt="yuv444p10le"),
        SMALL,
        "has frames of 3840x2160 pixels",
    ),
    "4K of 10 bits.mp4": (film(3840, 2160, 24, "libx265", PLAIN, "yuv420p10le"), SMALL, [24, 256, 455]),
    "8K.mp4": (film(8192, 4096, 2), SMALL, "has frames of 8192x4096 pixels"),
    "promises.mp4": (promised_samples(2**28), {}, "promises 268,435,456 samples"),
}


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """{name: (shape or message, megabytes beyond the import)}"""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("this system does not tell a process's peak of memory")
    folder = tmp_path_factory.mktemp("costs")
    written = {}
    for name, (write, _, _) in CASES.items():
        if write in written:
            os.link(written[write], folder / name)
        else:
            write(folder / name)
            written[write] = folder / name
    assert max(path.stat().st_size for path in folder.iterdir()) <= 10_500_000
    asked = json.dumps([(str(folder / name), options) for name, (_, options, _) in CASES.items()])
    command = [sys.executable, "-c", MEASURE]
    environment = os.environ | {"PYTHONPATH": str(Path(media_limits.__file__).parents[2])}
    done = subprocess.run(
        command, input=asked, capture_output=True, text=True, check=True, timeout=HANG_SECONDS, env=environment
    )
    return dict(zip(CASES, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_a_file_is_read_or_refused_within_256_megabytes(measured, name):
    answer, megabytes = measured[name]
    expected = CASES[name][2]
    if isinstance(expected, list):
        assert answer == expected
    else:
        assert answer.startswith("MediaError: ")
        assert expected in answer
    assert megabytes < MEGABYTES


def test_the_measure_sees_what_is_used(measured):
    """A planted case would be no more than this: 12 megapixels as floats alone are 140 MB."""
    assert measured["12 megapixels.jpg"][1] > 140


# The bounds on work, one by one


def test_scans_are_counted_in_the_picture_and_not_in_what_follows_it(tmp_path):
    data = io.BytesIO()
    smooth(64, 64).save(data, "JPEG", progressive=True)
    usual = media_headers.jpeg_scans(data.getvalue())[0]
    assert 1 < usual <= 12
    appended = data.getvalue() + b"\xff\xda" * 1000  # phones append a film, with any bytes
    assert media_headers.jpeg_scans(appended)[0] == usual
    (tmp_path / "a.jpg").write_bytes(appended)
    assert load_clip(tmp_path / "a.jpg").video.shape == (1, 3, 1, 64, 64)


@pytest.mark.parametrize("order", ["<", ">"])
def test_pages_are_counted_up_to_a_limit(tmp_path, order):
    page = Pictures.new("L", (4, 4))
    for count in (1, 2, 7, media_headers.MAX_PAGES + 50):
        page.save(tmp_path / "a.tiff", save_all=True, append_images=[page] * (count - 1), big_tiff=order == ">")
        data = (tmp_path / "a.tiff").read_bytes()
        assert media_headers.tiff_pages(data) == min(count, media_headers.MAX_PAGES + 1)
    assert load_clip(tmp_path / "a.tiff").notes == ("holds more than 100 pages; only the first is read",)


def test_pages_that_lead_in_a_circle_end():
    circle = b"II*\0\x08\0\0\0" + struct.pack("<HI", 0, 8)
    assert media_headers.tiff_pages(circle.ljust(40, b"\0")) <= media_headers.MAX_PAGES + 1


@pytest.mark.parametrize("value", [0, 9, 70])
def test_an_orientation_that_is_none_is_left_out(value):
    exif = Pictures.Exif()
    exif[0x0112] = value
    assert media_headers.orientation(exif.tobytes()) == 1
    exif[0x0112] = 6
    assert media_headers.orientation(exif.tobytes()) == 6
    for cut in range(40):
        assert media_headers.orientation(exif.tobytes()[:cut]) in (1, 6)


def test_packets_that_show_nothing_count_too(tmp_path, monkeypatch):
    film(64, 64, 30)(tmp_path / "a.mp4")
    monkeypatch.setattr(media_limits, "MAX_VIDEO_SOURCE_PIXELS", 20 * 64 * 64)
    monkeypatch.setattr(media_limits, "PIXELS_PER_BYTE", 0)
    with pytest.raises(Refused):
        media_limits.check_frames(30, 64, 64, media_limits.Wanted(), source=20 * 64 * 64)
    with pytest.raises(Exception, match=r"set max_frames to read the first ones \(20 at most\)"):
        load_clip(tmp_path / "a.mp4")
    assert load_clip(tmp_path / "a.mp4", max_frames=20).video.shape[2] == 20


def test_frames_before_start_are_left_out_but_cost(tmp_path, monkeypatch):
    film(64, 64, 30)(tmp_path / "a.mp4")
    animation(64, 64, 9)(tmp_path / "a.png")
    for name, last in (("a.mp4", 30), ("a.png", 9)):
        whole = load_clip(tmp_path / name).video
        read = load_clip(tmp_path / name, start=4, max_frames=3)
        assert (read.video == whole[:, :, 4:7]).all() and read.notes[0].startswith("only 3, from number 4 on,")
        with pytest.raises(Exception, match="start=90 is beyond them; set start=0"):
            load_clip(tmp_path / name, start=90)
        assert load_clip(tmp_path / name, start=last - 1).video.shape[2] == 1
    monkeypatch.setattr(media_limits, "MAX_SOURCE_PIXELS", 5 * 64 * 64)
    with pytest.raises(Exception, match="pixels are decoded in all"):
        load_clip(tmp_path / "a.png", start=6, max_frames=1)
