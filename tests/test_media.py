"""Real files, made here by Pillow and PyAV, read back and broken in every way that users' files are."""

import errno
import io
import os
import resource
import struct
import subprocess
import sys
import time
import warnings
import zlib
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image as Pictures

from sora_edu import files
from sora_edu.errors import InputError, MediaError
from sora_edu.media import (
    fit_to_patches,
    fit_video,
    limits as media_limits,
    load_clip,
    load_image,
    load_media,
    load_video,
    reading as media_in,
    save_clip,
    side_by_side,
    to_uint8,
    videos as media_videos,
    writing as media_out,
)

F, H, W = 5, 12, 22  # unequal, so that swapped axes show
ANIMATED = [".gif", ".png", ".webp", ".mp4"]


@pytest.fixture
def clip():
    """Few colours, moving, with values that are exact in bytes: 1 c f h w."""
    video = torch.full((1, 3, F, H, W), -1.0)
    for frame in range(F):
        video[0, 0, frame, 2:6, 2 + 3 * frame : 6 + 3 * frame] = 1
        video[0, 2, frame, 7:9] = 3 / 127.5 - 1
    return video


def noise(f=F, h=H, w=W, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, f, h, w), generator=generator) / 127.5 - 1


def write_video(path, frames, *, codec="libx264rgb", pix_fmt="rgb24", options=None, pts=None, rate=8, format=None):
    with av.open(str(path), "w", format=format) as container:
        stream = container.add_stream(codec, rate=rate, options=options or {"qp": "0"} if "264" in codec else {})
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], pix_fmt
        for i, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame = frame.reformat(format=pix_fmt, threads=1)
            frame.pts = i if pts is None else pts[i]
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def ramp(f=F, h=H, w=W):
    frames = np.zeros((f, h, w, 3), np.uint8)
    frames[:, : h // 2, : w // 3] = (250, 20, 40)  # the top left corner is marked
    frames[np.arange(f), h - 1, np.arange(f)] = 255  # and each frame differs
    return frames


def png_header(height, width):
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    ihdr = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + ihdr + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def levels(picture, path, **options):
    picture.save(path, **options)
    return to_uint8(load_image(path))[0]


# Bytes


def test_to_uint8_inverts_reading_for_all_256_bytes():
    assert to_uint8(torch.arange(256) / 127.5 - 1).tolist() == list(range(256))


def test_to_uint8_clips_outside_and_refuses_nan():
    assert to_uint8(torch.tensor([-7.0, 0.0, 7.0])).tolist() == [0, 128, 255]
    with pytest.raises(InputError, match="NaN"):
        to_uint8(torch.tensor([float("nan")]))


# Pictures


@pytest.mark.parametrize(
    ("mode", "colour", "ending", "expected"),
    [
        ("1", 1, "png", (255, 255, 255)),
        ("L", 77, "png", (77, 77, 77)),
        ("LA", (10, 0), "png", (255, 255, 255)),
        ("LA", (10, 255), "png", (10, 10, 10)),
        ("RGB", (1, 2, 3), "png", (1, 2, 3)),
        ("RGB", (1, 2, 3), "bmp", (1, 2, 3)),
        ("RGB", (1, 2, 3), "ppm", (1, 2, 3)),
        ("RGBA", (0, 0, 0, 0), "png", (255, 255, 255)),
        ("RGBA", (200, 0, 100, 51), "png", (244, 204, 224)),
        ("RGBA", (0, 0, 0, 0), "webp", (255, 255, 255)),
        ("CMYK", (0, 255, 255, 0), "tiff", (255, 0, 0)),
        ("YCbCr", (128, 128, 128), "tiff", (128, 128, 128)),
        ("I;16", 65535, "png", (255, 255, 255)),
        ("I;16", 257 * 100, "png", (100, 100, 100)),
        ("I;16", 257 * 100, "tiff", (100, 100, 100)),
        ("I;16B", 257 * 100, "tiff", (100, 100, 100)),
        ("I", 257 * 100, "tiff", (100, 100, 100)),
        ("F", 0.4, "tiff", (102, 102, 102)),
        ("F", 102.0, "tiff", (102, 102, 102)),
    ],
)
def test_every_mode_reads_to_known_values(tmp_path, mode, colour, ending, expected):
    pixels = levels(Pictures.new(mode, (W, H), colour), tmp_path / f"a.{ending}")
    assert pixels.shape == (3, H, W)
    assert tuple(pixels[:, 3, 4].tolist()) == expected
    assert (pixels == pixels[:, :1, :1]).all()


def test_a_palette_with_a_transparent_entry_lies_over_white(tmp_path):
    picture = Pictures.new("P", (W, H), 0)
    picture.putpalette([9, 9, 9, 200, 100, 50])
    picture.putpixel((4, 3), 1)
    for ending in ("png", "gif"):
        pixels = levels(picture, tmp_path / f"a.{ending}", transparency=0)
        assert pixels[:, 3, 4].tolist() == [200, 100, 50]
        assert pixels[:, 0, 0].tolist() == [255, 255, 255]


def test_a_colour_key_in_rgb_is_transparent(tmp_path):
    pixels = levels(Pictures.new("RGB", (W, H), (5, 6, 7)), tmp_path / "a.png", transparency=(5, 6, 7))
    assert pixels.min() == 255


def test_16_bit_greys_keep_more_than_8_bits(tmp_path):
    grey = np.arange(H * W, dtype=np.uint16).reshape(H, W) * 200
    Pictures.fromarray(grey).save(tmp_path / "a.png")
    read = load_image(tmp_path / "a.png")[0, 0].double()
    assert torch.allclose((read + 1) / 2 * 65535, torch.from_numpy(grey.astype(float)), atol=0.01)


@pytest.mark.parametrize("value", [-1.0, 300.0, float("nan"), float("inf")])
def test_fractions_of_unknown_scale_are_refused(tmp_path, value):
    Pictures.new("F", (W, H), value).save(tmp_path / "a.tiff")
    with pytest.raises(MediaError, match=r"a\.tiff: has mode F with values .* rescale"):
        load_image(tmp_path / "a.tiff")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_puts_the_marked_corner_at_the_top_left(tmp_path, orientation):
    upright = Pictures.fromarray(ramp(f=1)[0])
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Pillow's transpositions that a viewer will undo
    stored = upright if orientation == 1 else upright.transpose(Pictures.Transpose(undo[orientation]))
    exif = Pictures.Exif()
    exif[0x0112] = orientation
    assert np.array_equal(levels(stored, tmp_path / "a.png", exif=exif).permute(1, 2, 0), np.asarray(upright))


def test_a_jpeg_is_close_to_what_was_written(tmp_path):
    pixels = levels(Pictures.new("RGB", (W, H), (200, 100, 50)), tmp_path / "a.jpg", quality=95)
    assert (pixels[:, 0, 0].int() - torch.tensor([200, 100, 50])).abs().max() <= 3


def test_a_jpeg_of_several_pictures_is_its_first(tmp_path):
    first, second = Pictures.new("RGB", (W, H), "red"), Pictures.new("RGB", (W, H), "blue")
    first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[second])
    assert load_media(tmp_path / "a.jpg").shape == (1, 3, 1, H, W)


def test_a_tiff_of_several_pages_is_its_first_and_says_so(tmp_path):
    page = Pictures.new("RGB", (W, H), "red")
    page.save(tmp_path / "a.tiff", save_all=True, append_images=[page, page])
    read = load_clip(tmp_path / "a.tiff")
    assert read.video.shape == (1, 3, 1, H, W) and read.notes == ("holds 3 pages; only the first is read",)


def test_short_side_shrinks_and_keeps_the_aspect_and_never_enlarges(tmp_path):
    Pictures.new("RGB", (400, 100)).save(tmp_path / "a.png")
    assert load_image(tmp_path / "a.png", short_side=25).shape == (1, 3, 25, 100)
    assert load_image(tmp_path / "a.png", short_side=500).shape == (1, 3, 100, 400)


# Videos


def test_a_lossless_video_reads_exactly(tmp_path):
    path = write_video(tmp_path / "a.mp4", ramp())
    read = load_video(path)
    assert read.fps == 8 and read.notes == ()
    assert np.array_equal(to_uint8(read.video[0]).permute(1, 2, 3, 0), ramp())


@pytest.mark.parametrize("ending", ["mkv", "avi", "mov", "webm", "ts", "mpg", "ogv", "flv"])
def test_common_containers_are_read(tmp_path, ending):
    codec = {"webm": "libvpx-vp9", "mpg": "mpeg2video", "ts": "mpeg2video", "ogv": "libtheora"}.get(ending, "libx264")
    if codec not in av.codecs_available:
        pytest.skip(f"{codec} is not in this build")
    path = write_video(tmp_path / f"a.{ending}", ramp(f=9, h=48, w=64), codec=codec, pix_fmt="yuv420p", rate=25)
    read = load_clip(path)
    assert read.video.shape == (1, 3, 9, 48, 64)
    assert read.fps == pytest.approx(25, rel=0.02) and read.notes == ()


def test_content_counts_and_not_the_ending(tmp_path):
    path = write_video(tmp_path / "a.mp4", ramp()).rename(tmp_path / "a.jpg")
    assert load_media(path).shape == (1, 3, F, H, W)
    Pictures.new("RGB", (W, H)).save(tmp_path / "b.mp4", "PNG")
    assert load_media(tmp_path / "b.mp4").shape == (1, 3, 1, H, W)


@pytest.mark.parametrize("quarter_turns", [0, 1, 2, 3])
def test_display_rotation_turns_the_frames_upright(tmp_path, quarter_turns):
    a, b, c, d = [(1, 0, 0, 1), (0, -1, 1, 0), (-1, 0, 0, -1), (0, 1, -1, 0)][quarter_turns]  # counter-clockwise
    path = write_video(tmp_path / "a.mp4", ramp())
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    one = 1 << 16
    assert struct.unpack(">9i", data[at : at + 36]) == (one, 0, 0, 0, one, 0, 0, 0, 1 << 30)
    data[at : at + 36] = struct.pack(">9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    turned = np.rot90(ramp(), quarter_turns, axes=(1, 2))
    assert np.array_equal(to_uint8(load_media(path)[0]).permute(1, 2, 3, 0), turned)


def test_a_video_of_one_frame_is_one_frame(tmp_path):
    assert load_media(write_video(tmp_path / "a.mp4", ramp(f=1))).shape == (1, 3, 1, H, W)


def test_uneven_frames_are_kept_one_by_one_and_told(tmp_path):
    path = write_video(tmp_path / "a.mp4", ramp(), pts=[0, 1, 2, 10, 11])
    read = load_clip(path)
    assert read.video.shape[2] == F
    assert read.fps == pytest.approx(8 * 4 / 11, rel=0.01)
    assert "frame rate varies" in read.notes[0]
    first, *rest = map(Pictures.fromarray, ramp())
    first.save(tmp_path / "a.gif", save_all=True, append_images=rest, duration=[100, 100, 100, 100, 600])
    read = load_clip(tmp_path / "a.gif")
    assert read.video.shape[2] == F and read.fps == pytest.approx(5) and "uneven" in read.notes[0]


def test_sound_without_pictures_is_refused(tmp_path):
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(MediaError, match=r"a\.mkv: has no video stream"):
        load_media(tmp_path / "a.mkv")


def test_a_video_without_frames_is_refused(tmp_path):
    for ending in ("mp4", "mkv"):
        with av.open(str(tmp_path / f"a.{ending}"), "w") as container:
            stream = container.add_stream("libx264", rate=8)
            stream.height, stream.width, stream.pix_fmt = 16, 16, "yuv420p"
            container.start_encoding()
        with pytest.raises(MediaError, match=rf"a\.{ending}: (has no frame|has no video|is no image)"):
            load_media(tmp_path / f"a.{ending}")


def test_max_frames_reads_the_first_ones_and_says_so(tmp_path):
    save_clip(noise(), tmp_path / "a.gif")
    for path in (tmp_path / "a.gif", write_video(tmp_path / "a.mp4", ramp())):
        read = load_clip(path, max_frames=3)
        assert read.video.shape[2] == 3
        assert "only the first 3" in read.notes[0]
        assert torch.equal(read.video, load_media(path)[:, :, :3])
        assert load_clip(path, max_frames=F).notes == ()


def test_load_media_turns_notes_into_warnings(tmp_path):
    path = write_video(tmp_path / "a.mp4", ramp())
    with pytest.warns(UserWarning, match=r"a\.mp4: only the first 2"):
        load_media(path, max_frames=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_media(path)


def test_load_image_refuses_a_video_and_load_video_a_still(tmp_path, clip):
    save_clip(clip, tmp_path / "a.gif")
    with pytest.raises(MediaError, match="several frames"):
        load_image(tmp_path / "a.gif")
    Pictures.new("RGB", (W, H)).save(tmp_path / "a.jpg")
    with pytest.raises(MediaError, match="still JPEG"):
        load_video(tmp_path / "a.jpg")


# Damage


@pytest.mark.parametrize("ending", ["jpg", "png", "gif", "webp", "tiff", "bmp", "ppm"])
def test_a_truncated_picture_is_refused_at_every_tenth(tmp_path, ending):
    whole = tmp_path / f"whole.{ending}"
    Pictures.fromarray(to_uint8(noise()[:, 0]).permute(1, 2, 0).numpy()).save(whole)
    data = whole.read_bytes()
    for tenth in range(1, 10):
        cut = tmp_path / f"cut.{ending}"
        cut.write_bytes(data[: len(data) * tenth // 10])
        with pytest.raises(MediaError, match=rf"cut\.{ending}: (cannot be decoded|is no image)"):
            load_image(cut)


@pytest.mark.parametrize("ending", [".gif", ".png", ".webp"])
def test_a_truncated_animation_is_refused_or_tells_nothing_wrong(tmp_path, ending):
    save_clip(noise(), tmp_path / f"whole{ending}")
    data, whole = (tmp_path / f"whole{ending}").read_bytes(), load_media(tmp_path / f"whole{ending}")
    refused = 0
    for tenth in range(1, 10):
        cut = tmp_path / f"cut{ending}"
        cut.write_bytes(data[: len(data) * tenth // 10])
        try:
            read = load_clip(cut).video
            assert torch.equal(read, whole[:, :, : read.shape[2]])
        except MediaError as error:
            assert str(cut) in str(error)
            refused += 1
    assert refused >= 5


@pytest.mark.parametrize("ending", ["mkv", "mp4", "avi", "ts"])
def test_a_truncated_video_gives_its_first_frames_with_a_note_or_is_refused(tmp_path, ending):
    frames = to_uint8(noise(f=16, h=48, w=64)).permute(1, 2, 3, 0).numpy()
    codec = "mpeg2video" if ending == "ts" else "libx264"
    whole = write_video(tmp_path / f"a.{ending}", frames, codec=codec, pix_fmt="yuv420p", rate=25)
    reference = load_media(whole)
    data, told, refused = whole.read_bytes(), 0, 0
    for tenth in range(1, 10):
        cut = tmp_path / f"cut.{ending}"
        cut.write_bytes(data[: len(data) * tenth // 10])
        try:
            read = load_clip(cut)
        except MediaError as error:
            refused += 1
            assert str(cut) in str(error)
            continue
        told += bool(read.notes)
        sound = read.video.shape[2] - 1  # the last one may be the damaged one
        assert torch.equal(read.video[:, :, :sound], reference[:, :, :sound])
        assert read.notes or ending == "ts"  # a transport stream is a broadcast: it has no end
    assert told + refused >= (9 if ending != "ts" else 0)


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp", "a.mp4", "a.jpg"])
def test_flipped_bytes_never_escape_as_another_error(tmp_path, name, clip):
    save_clip(clip, tmp_path / name)
    data = (tmp_path / name).read_bytes()
    dice = np.random.default_rng(0)
    for _ in range(40):
        broken = bytearray(data)
        for at in dice.integers(0, len(data), 4):
            broken[at] ^= int(dice.integers(1, 256))
        (tmp_path / name).write_bytes(broken)
        try:
            assert load_clip(tmp_path / name).video.ndim == 5
        except MediaError as error:
            assert name in str(error)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"hello, I am a letter\n" * 50, "is no image or video"),
        (bytes(5000), "is no image or video"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n", "is no image or video"),
        (b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>", "is no image or video"),
    ],
)
def test_what_is_no_media_is_refused(tmp_path, content, message):
    for ending in ("mp4", "png", "txt"):
        path = tmp_path / f"a.{ending}"
        path.write_bytes(content)
        with pytest.raises(MediaError, match=rf"a\.{ending}: {message}"):
            load_media(path)


def test_missing_folder_device_and_odd_paths_are_refused(tmp_path):
    for path, message in [
        (tmp_path / "none.png", "No such file"),
        (tmp_path, "is a folder or a device"),
        ("/dev/zero", "is a folder or a device"),
        ("a\0b.png", "cannot be opened"),
        ("", "cannot be opened"),
    ]:
        with pytest.raises(MediaError, match=message):
            load_media(path)


def test_a_pipe_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "a.mp4")
    with pytest.raises(MediaError, match="is a folder or a device"):
        load_media(tmp_path / "a.mp4")


def test_a_file_without_permission_is_refused(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(b"x")
    (tmp_path / "a.png").chmod(0)

    def deny(*args, **options):  # root may read everything, so the denial is planted
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(media_in, "open", deny, raising=False)
    with pytest.raises(MediaError, match=r"a\.png: cannot be opened \(Permission denied\)"):
        load_media(tmp_path / "a.png")


@pytest.mark.parametrize("option", [{"max_frames": 0}, {"short_side": -3}, {"short_side": "x"}, {"max_frames": 2.5}])
def test_options_below_one_are_refused(as_a_user, tmp_path, option):
    with pytest.raises(InputError, match="expected a positive whole number"):
        load_media(tmp_path / "a.png", **option)


# Files that open other files, and bombs


@pytest.mark.parametrize("name", ["list.mp4", "list.m3u8", "list.png", "list.sdp", "list.mpd"])
def test_playlists_are_refused_whatever_their_name(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "real.mp4", ramp())
    write_video(tmp_path / "real.ts", ramp(h=48, w=64), codec="mpeg2video", pix_fmt="yuv420p", rate=25)
    for text in (
        "ffconcat version 1.0\nfile real.mp4\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\nreal.ts\n#EXT-X-ENDLIST\n",
        f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\nfile://{tmp_path}/real.ts\n#EXT-X-ENDLIST\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
        "<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011' type='static'></MPD>",
    ):
        Path(name).write_text(text)
        with pytest.raises(MediaError, match="is no image or video"):
            load_media(name)


def test_each_of_the_two_locks_holds_alone_and_the_playlist_test_bites(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "real.mp4", ramp())
    Path("list.mp4").write_text("ffconcat version 1.0\nfile real.mp4\n")
    monkeypatch.setattr(media_videos, "CONTAINERS", "mov,concat")
    with pytest.raises(MediaError):  # the format is let in, but no protocol
        load_media("list.mp4")
    monkeypatch.setattr(media_videos, "PROTOCOLS", "file")
    assert load_media("list.mp4").shape == (1, 3, F, H, W)  # both locks off: the other file is read


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/a.mp4", "file:///etc/hostname", "concat://a|b", "tcp://127.0.0.1:9"]
)
def test_a_url_is_refused_without_opening_it(url, monkeypatch):
    monkeypatch.setattr(av, "open", lambda *args, **options: pytest.fail("opened"))
    with pytest.raises(MediaError, match="is a URL"):
        load_media(url)


def test_names_that_ffmpeg_takes_for_protocols_are_plain_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "a.mp4", ramp()).rename(tmp_path / "concat:a.mp4")
    assert load_media("concat:a.mp4").shape == (1, 3, F, H, W)
    with pytest.raises(MediaError, match="No such file"):
        load_media("subfile,,start,0,end,9,,:a.mp4")


def refused_cheaply(path, message):
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(MediaError, match=message):
        load_media(path)
    assert time.process_time() - start < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB


@pytest.mark.parametrize("side", [9000, 15_000, 60_000])
def test_a_picture_bomb_is_refused_from_its_header(tmp_path, side):
    (tmp_path / "a.png").write_bytes(png_header(side, side))
    refused_cheaply(tmp_path / "a.png", r"a\.png: has .*make it smaller")


@pytest.mark.parametrize("side", [6000, 30_000])
def test_a_video_bomb_is_refused_from_its_header(tmp_path, side):
    path = write_video(tmp_path / "a.avi", ramp(), codec="ffv1", pix_fmt="yuv420p")
    data = bytearray(path.read_bytes())
    for at in (data.index(b"avih") + 8 + 32, data.index(b"strf") + 8 + 4):  # both places that state the size
        assert struct.unpack_from("<2i", data, at) == (W, H)
        struct.pack_into("<2i", data, at, side, side)
    path.write_bytes(data)
    refused_cheaply(path, r"a\.avi: (has frames of|states no frame size, or more than)")


def test_too_many_frames_are_refused_from_the_header_and_the_mend_works(tmp_path):
    frames = [np.zeros((16, 16, 3), np.uint8)] * (media_limits.MAX_FRAMES + 1)
    path = write_video(tmp_path / "a.mp4", frames)
    refused_cheaply(path, r"a\.mp4: has 1025 frames, .* set max_frames")
    assert load_clip(path, max_frames=7).video.shape[2] == 7
    (tmp_path / "a.png").write_bytes(b"")
    save_clip(torch.zeros(3, 2, 4, 4), tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    at = data.index(b"acTL")
    body = b"acTL" + struct.pack(">II", 10**6, 0)
    (tmp_path / "a.png").write_bytes(data[:at] + body + struct.pack(">I", zlib.crc32(body)) + data[at + 16 :])
    refused_cheaply(tmp_path / "a.png", "has 1000000 frames")


def test_a_gif_of_endless_frames_is_stopped_while_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(media_limits, "MAX_FRAMES", 100)
    save_clip(torch.zeros(1, 2, 2, 2), tmp_path / "a.gif")
    data = (tmp_path / "a.gif").read_bytes()
    start = data.rindex(b"\x21\xf9")  # the second frame
    (tmp_path / "a.gif").write_bytes(data[:start] + data[start:-1] * 5000 + b";")
    refused_cheaply(tmp_path / "a.gif", "has 101 frames")


def test_a_large_clip_names_the_mend_and_the_mend_works(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mp4", ramp(h=60, w=100))
    monkeypatch.setattr(media_limits, "MAX_CLIP_PIXELS", 5000)
    with pytest.raises(MediaError, match="set short_side"):
        load_media(path)
    assert load_media(path, short_side=20).shape == (1, 3, F, 20, 33)


def test_huge_files_are_refused_unread(tmp_path):
    with open(tmp_path / "a.mp4", "wb") as file:
        file.truncate(media_limits.MAX_VIDEO_BYTES + 1)  # sparse: takes no room
    refused_cheaply(tmp_path / "a.mp4", "bytes, at most")
    with open(tmp_path / "a.png", "wb") as file:
        file.write(png_header(8, 8))
        file.truncate(media_limits.MAX_IMAGE_BYTES + 1)
    refused_cheaply(tmp_path / "a.png", "is a picture of more than")


# Writing


@pytest.mark.parametrize("ending", ANIMATED)
def test_a_clip_survives_the_round_trip(tmp_path, ending, clip):
    assert save_clip(clip, tmp_path / f"a{ending}", fps=8) == ()
    read = load_clip(tmp_path / f"a{ending}")
    assert read.video.shape == clip.shape and read.video.dtype == torch.float32
    assert read.fps == pytest.approx(8, rel=0.02)
    if ending != ".mp4":
        assert torch.equal(to_uint8(read.video), to_uint8(clip))
    assert (read.video - clip).abs().mean() < 0.15


@pytest.mark.parametrize("ending", ANIMATED)
@pytest.mark.parametrize("count", [1, 2, 17])
def test_a_still_clip_reads_back_with_all_its_frames(tmp_path, ending, count):
    still = noise(f=1).expand(-1, count, -1, -1)
    save_clip(still, tmp_path / f"a{ending}")
    read = load_clip(tmp_path / f"a{ending}")
    assert read.video.shape == (1, 3, count, H, W)
    if ending in (".png", ".webp"):
        assert torch.equal(to_uint8(read.video[0]), to_uint8(still))
    if count == 17:
        assert read.fps == pytest.approx(8, rel=0.02)


def test_the_still_clip_test_bites(tmp_path):
    """Pillow itself merges: should that ever change, the writers can become simpler."""
    still = Pictures.new("RGB", (W, H), "red")
    for ending in ("gif", "png", "webp"):
        still.save(tmp_path / f"a.{ending}", save_all=True, append_images=[still] * 4, duration=125)
        assert load_media(tmp_path / f"a.{ending}").shape[2] == 1


@pytest.mark.parametrize("ending", [".png", ".webp"])
def test_noise_is_written_exactly(tmp_path, ending):
    save_clip(noise(), tmp_path / f"a{ending}")
    assert torch.equal(to_uint8(load_media(tmp_path / f"a{ending}")[0]), to_uint8(noise()))


def test_lossless_mp4_is_exact_even_at_odd_sizes(tmp_path):
    video = noise(h=13, w=23)
    assert save_clip(video, tmp_path / "a.mp4", lossless=True) == ()
    assert torch.equal(to_uint8(load_media(tmp_path / "a.mp4")[0]), to_uint8(video))
    with pytest.raises(MediaError, match="cannot be lossless"):
        save_clip(video, tmp_path / "a.gif", lossless=True)


def test_odd_sizes_in_mp4_are_padded_and_told(tmp_path):
    assert "padded from 23x13 to 24x14" in save_clip(noise(h=13, w=23), tmp_path / "a.mp4")[0]
    assert load_media(tmp_path / "a.mp4").shape == (1, 3, F, 14, 24)


def test_a_gif_of_many_colours_says_that_it_has_fewer(tmp_path):
    smooth = torch.stack(torch.meshgrid(*[torch.linspace(-1, 1, n) for n in (F, 30, 40)], indexing="ij"))
    assert "to 256" in save_clip(smooth, tmp_path / "a.gif")[0]
    assert (load_media(tmp_path / "a.gif")[0] - smooth).abs().mean() < 0.1


@pytest.mark.parametrize("ending", [*ANIMATED, ".jpg", ".strip.png"])
@pytest.mark.parametrize("size", [(1, 1, 1), (2, 1, 3), (1, 40, 2)])
def test_tiny_clips_can_be_written(tmp_path, ending, size):
    save_clip(noise(*size), tmp_path / f"a{ending}")
    assert load_media(tmp_path / f"a{ending}").shape[1] == 3


@pytest.mark.parametrize("ending", [".jpg", ".strip.png", ".STRIP.PNG"])
def test_a_strip_shows_the_frames_from_left_to_right(tmp_path, ending, clip):
    save_clip(clip, tmp_path / f"a{ending}")
    strip = load_image(tmp_path / f"a{ending}")
    assert strip.shape == (1, 3, H, F * W)
    assert (strip - torch.cat(clip.unbind(2), dim=-1)).abs().mean() < 0.1


def test_scale_repeats_pixels(tmp_path, clip):
    save_clip(clip, tmp_path / "a.png", scale=3)
    read = load_media(tmp_path / "a.png")
    assert read.shape == (1, 3, F, 3 * H, 3 * W)
    assert torch.equal(to_uint8(read[..., 1::3, 2::3]), to_uint8(clip))


def test_grey_and_bfloat16_clips_are_written_as_rgb(tmp_path):
    save_clip(torch.zeros(1, F, H, W, dtype=torch.bfloat16), tmp_path / "a.png")
    assert load_media(tmp_path / "a.png").shape == (1, 3, F, H, W)


@pytest.mark.parametrize("fps", [3, 8, 24, 29.97])
@pytest.mark.parametrize("ending", ANIMATED)
def test_the_frame_rate_survives(tmp_path, ending, fps):
    save_clip(noise(f=24), tmp_path / f"a{ending}", fps=fps)
    assert load_clip(tmp_path / f"a{ending}").fps == pytest.approx(fps, rel=0.02)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((H, W), torch.float32),
        ((2, 3, F, H, W), torch.float32),
        ((4, F, H, W), torch.float32),
        ((3, 0, H, W), torch.float32),
        ((3, F, H, W), torch.uint8),
    ],
)
def test_a_tensor_that_is_no_clip_is_refused(tmp_path, shape, dtype):
    with pytest.raises(MediaError, match="expected floats c f h w"):
        save_clip(torch.zeros(shape, dtype=dtype), tmp_path / "a.gif")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("a.bmp", {}, "unknown ending '.bmp', expected one of .gif"),
        ("a", {}, "unknown ending ''"),
        ("a.gif", {"fps": 0}, "fps=0, expected"),
        ("a.gif", {"fps": float("nan")}, "fps=nan, expected"),
        ("a.png", {"scale": 0}, "scale=0, expected"),
        ("none/a.gif", {}, "No such file or directory.*check that the folder exists"),
        ("x" * 300 + ".gif", {}, "File name too long"),
        ("a\0.gif", {}, "null"),
    ],
)
def test_what_cannot_be_written_is_told_and_leaves_nothing(tmp_path, clip, name, options, message):
    with pytest.raises(MediaError, match=message):
        save_clip(clip, tmp_path / name, **options)
    assert list(tmp_path.iterdir()) == []


def test_sizes_beyond_a_format_are_refused(tmp_path):
    with pytest.raises(MediaError, match=r"2 frames of 17000x1 cannot be written as \.webp"):
        save_clip(torch.zeros(3, 2, 1, 17_000), tmp_path / "a.webp")
    with pytest.raises(MediaError, match=r"cannot be written as \.jpg"):
        save_clip(torch.zeros(3, 2, 1, 40_000), tmp_path / "a.jpg")
    assert list(tmp_path.iterdir()) == []


def test_a_gif_is_slowed_to_what_browsers_show_and_nothing_else_is(tmp_path, clip):
    for fps in (60, 120, 240):
        assert f"slowed from {fps} to 50" in save_clip(clip, tmp_path / "a.gif", fps=fps)[0]
        assert load_clip(tmp_path / "a.gif").fps == pytest.approx(50)
        assert save_clip(clip, tmp_path / "a.mp4", fps=fps) == ()
        assert load_clip(tmp_path / "a.mp4").fps == pytest.approx(fps)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool, torch.complex64])
def test_bytes_are_refused_and_not_shown_white(dtype):
    with pytest.raises(InputError, match=r"expected floats in \[-1, 1\]; turn bytes into such by x.float\(\) / 127.5"):
        to_uint8(torch.zeros(3, H, W).to(dtype))
    video = torch.zeros(1, 3, F, H, W)
    for call in (
        lambda bad: fit_video(bad, size=(8, 8)),
        lambda bad: fit_to_patches(bad, unit=4, max_side=8),
        lambda bad: side_by_side(bad, video),
        lambda bad: side_by_side(video, bad),
    ):
        with pytest.raises(InputError, match=r"expected a video b c f h w of floats in \[-1, 1\]"):
            call(video.to(dtype))


def test_figures_refuse_bytes():
    code = """
import torch
from sora_edu.course import plotting
from sora_edu.errors import InputError

for show in (plotting.show_strip, plotting.animate):
    try:
        show(torch.zeros(1, 3, 5, 12, 22, dtype=torch.uint8))
    except InputError as error:
        print(error)
"""  # in a process of its own, where signatures are not checked
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.count("the picture is torch.uint8, expected floats in [-1, 1]") == 2


@pytest.mark.parametrize("shape", [(3, F, H, W), (1, 3, 0, H, W), (H,)])
def test_what_is_no_video_is_not_fitted(shape):
    with pytest.raises(InputError, match="expected a video b c f h w"):
        fit_video(torch.zeros(shape), size=(8, 8))


@pytest.mark.parametrize(
    "options",
    [{"fps": float("inf")}, {"fps": 1e9}, {"fps": -1}, {"scale": 10**9}, {"scale": -2}],
)
def test_options_that_make_no_clip_are_refused_and_leave_the_old_file(tmp_path, clip, options):
    path = tmp_path / "a.gif"
    save_clip(clip, path)
    old = path.read_bytes()
    with pytest.raises(MediaError, match=r"a\.gif: (fps|scale)="):
        save_clip(clip, path, **options)
    assert path.read_bytes() == old and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("fps", "scale"), [(None, 1), ("8", 1), (8, float("nan")), (8, "2"), (8, 1.5)])
def test_options_of_another_kind_are_refused(fps, scale):
    with pytest.raises(MediaError, match="(fps|scale)=.*, expected"):
        media_out._check_options(Path("a.gif"), ".gif", fps, scale, False)


def test_leftovers_of_killed_runs_are_swept_at_the_next_write_of_that_path(tmp_path, clip):
    old, fresh, other = (tmp_path / f".{name}.{i:032x}.tmp" for i, name in enumerate(("a.gif", "a.gif", "b.gif")))
    mine = tmp_path / ".a.gif.notes.tmp"
    for path in (old, fresh, other, mine):
        path.write_bytes(b"half")
    for path in (old, other, mine):
        os.utime(path, (0, 0))
    save_clip(clip, tmp_path / "a.gif")
    assert {path.name for path in tmp_path.iterdir()} == {"a.gif", fresh.name, other.name, mine.name}


def test_a_killed_write_leaves_what_the_sweep_knows(tmp_path, clip):
    pid = os.fork()
    if pid == 0:
        try:
            files.os.fsync = lambda descriptor: os._exit(1)  # as a kill would: nothing is tidied
            files.write_whole(tmp_path / "a.gif", b"half")
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    (left,) = tmp_path.iterdir()
    os.utime(left, (0, 0))
    save_clip(clip, tmp_path / "a.gif")
    assert [path.name for path in tmp_path.iterdir()] == ["a.gif"]


KINDS = [".gif", ".png", ".webp", ".mp4", ".jpg", ".tiff", ".bmp", ".ppm", ".avif", ".mkv", ".avi", ".webm"]


@pytest.mark.parametrize("ending", KINDS)
def test_hundreds_of_broken_files_are_read_or_refused_by_name(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    if ending in (".gif", ".png", ".webp", ".mp4", ".jpg"):
        save_clip(noise(f=3), path)
    elif ending in (".mkv", ".avi", ".webm"):
        codec = {".webm": "libvpx-vp9", ".avi": "mpeg4"}.get(ending, "libx264")
        write_video(path, ramp(h=48, w=64), codec=codec, pix_fmt="yuv420p", rate=25)
    else:
        Pictures.fromarray(ramp(f=1)[0]).save(path)
    data, dice, refused = path.read_bytes(), np.random.default_rng(7), 0
    for _ in range(200):
        broken = bytearray(data)
        reach = len(data) if dice.random() < 0.5 else min(len(data), 200)  # half of them in the headers
        for at in dice.integers(0, reach, dice.integers(1, 6)):
            broken[at] = int(dice.choice([0, 1, 127, 128, 255, dice.integers(256)]))
        if dice.random() < 0.2:
            at = dice.integers(len(broken))
            broken[at:at] = broken[: dice.integers(len(broken))]
        path.write_bytes(broken)
        try:
            read = load_clip(path, short_side=64, max_frames=5)
            assert read.video.isfinite().all() and read.video.abs().max() <= 1
        except MediaError as error:
            refused += 1
            assert f"a{ending}: " in str(error)
    assert refused


def test_nan_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(InputError, match="NaN"):
        save_clip(torch.full((3, F, H, W), float("nan")), tmp_path / "a.gif")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", ANIMATED)
def test_a_full_disk_keeps_the_old_file_and_leaves_no_half(tmp_path, ending, clip, monkeypatch):
    path = tmp_path / f"a{ending}"
    save_clip(clip, path)
    old = path.read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MediaError, match="No space left on device"):
        save_clip(-clip, path)
    assert path.read_bytes() == old and list(tmp_path.iterdir()) == [path]


def test_ctrl_c_leaves_no_half_file(tmp_path, clip, monkeypatch):
    def interrupt(source, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_clip(clip, tmp_path / "a.gif")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_the_place_of_the_file_is_refused(tmp_path, clip):
    (tmp_path / "a.gif").mkdir()
    with pytest.raises(MediaError, match=r"a\.gif: cannot be written"):
        save_clip(clip, tmp_path / "a.gif")
    assert list(tmp_path.iterdir()) == [tmp_path / "a.gif"]


def test_writing_is_deterministic(tmp_path, clip):
    for ending in ANIMATED:
        for name in "ab":
            save_clip(clip, tmp_path / f"{name}{ending}")
        assert (tmp_path / f"a{ending}").read_bytes() == (tmp_path / f"b{ending}").read_bytes()


def test_other_readers_see_the_same_animation(tmp_path, clip):
    """FFmpeg's own demuxers, as a second opinion on the containers written frame by frame."""
    for ending in (".gif", ".png"):
        save_clip(clip, tmp_path / f"a{ending}")
        with av.open(io.BytesIO((tmp_path / f"a{ending}").read_bytes())) as container:
            frames = [frame.to_ndarray(format="rgb24", threads=1) for frame in container.decode(video=0)]
        assert np.array_equal(np.stack(frames), to_uint8(clip[0]).permute(1, 2, 3, 0))


# Fitting


def test_fit_video_gives_size_and_frames_and_says_what_it_did():
    video, notes = fit_video(torch.zeros(1, 3, 30, 48, 100), frames=17, size=(32, 32))
    assert video.shape == (1, 3, 17, 32, 32)
    assert notes == (
        "picked 17 of 30 frames evenly",
        "cropped from 100x48 to the middle 48x48",
        "resized from 48x48 to 32x32",
    )


def test_fit_video_leaves_a_video_that_fits_as_it_is():
    video = noise(f=17)[None]
    fitted, notes = fit_video(video, frames=17, size=(H, W))
    assert torch.equal(fitted, video) and notes == ()


@pytest.mark.parametrize(("have", "frames", "kept"), [(16, 17, 13), (3, 17, 1), (1, 17, 1), (18, None, 17), (17, 5, 5)])
def test_fit_video_always_gives_one_plus_a_multiple_of_four(have, frames, kept):
    video, notes = fit_video(torch.zeros(1, 3, have, 8, 8), frames=frames, size=(8, 8))
    assert video.shape[2] == kept
    assert bool(notes) == (kept != have or (frames is not None and kept < frames))


def test_fit_video_picks_first_middle_and_last():
    video = torch.linspace(-1, 1, 41).view(1, 1, 41, 1, 1).expand(1, 3, 41, 4, 4)
    assert fit_video(video, frames=5, size=(4, 4))[0][0, 0, :, 0, 0].tolist() == pytest.approx(
        [-1, -0.5, 0, 0.5, 1], abs=1e-6
    )


def test_fit_video_antialiases():
    stripes = torch.tensor([-1.0, 1.0]).repeat(64).expand(1, 3, 1, 128, 128)
    assert fit_video(stripes, size=(16, 16))[0][..., 2:-2].abs().max() < 0.1


def test_fit_video_refuses_other_counts_of_frames_and_empty_sizes():
    with pytest.raises(InputError, match="frames=16 is not 1 "):
        fit_video(torch.zeros(1, 3, 30, 8, 8), frames=16, size=(8, 8))
    with pytest.raises(InputError, match="expected a positive height and width"):
        fit_video(torch.zeros(1, 3, 30, 8, 8), size=(8, 0))


def test_side_by_side_keeps_both_and_a_white_gap_between():
    a, b = noise(seed=1)[None], noise(w=7, seed=2)[None]
    both = side_by_side(a, b, gap=2)
    assert torch.equal(both[..., :W], a) and torch.equal(both[..., W + 2 :], b)
    assert (both[..., W : W + 2] == 1).all()
    with pytest.raises(InputError, match="differ in more than width"):
        side_by_side(a, noise(h=H + 1)[None])


@pytest.mark.parametrize("path", [None, 5, ["a.png"], b"a.png"])
@pytest.mark.parametrize(
    "call", [load_clip, load_image, load_video, lambda path: save_clip(torch.zeros(3, 1, 8, 8), path)]
)
def test_what_is_no_path_is_neither_read_nor_written(as_a_user, call, path):
    with pytest.raises(MediaError, match=r"path=.* is of type \w+; give the path of a file"):
        call(path)
