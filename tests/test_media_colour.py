"""Colour profiles, wide and bright video, transparency, pixels that are not square: golden values of each."""

import io
import struct
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from av.video.reformatter import VideoReformatter
from PIL import Image as Pictures, ImageCms

from sora_edu.errors import MediaError
from sora_edu.media import limits, load_clip, load_image, to_uint8, videos

H, W = 48, 64
# Primaries to XYZ at D50 (rows X, Y, Z), as in the profiles of Adobe and Apple.
ADOBE_RGB = np.array([[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]])
DISPLAY_P3 = np.array([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]])
SRGB = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])


def profile(primaries, gamma=2.2, name="Wide"):
    """An ICC profile, version 2, of three primaries and one power."""

    def xyz(values):
        return b"XYZ \0\0\0\0" + struct.pack(">3i", *[round(value * 65536) for value in values])

    text = name.encode() + b"\0"
    description = b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(78)
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    tags = {b"desc": description, b"cprt": b"text\0\0\0\0none\0", b"wtpt": xyz((0.9642, 1, 0.8249))}
    tags |= {b"rXYZ": xyz(primaries[:, 0]), b"gXYZ": xyz(primaries[:, 1]), b"bXYZ": xyz(primaries[:, 2])}
    tags |= {b"rTRC": curve, b"gTRC": curve, b"bTRC": curve}
    table, body, at = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for key, value in tags.items():
        table += key + struct.pack(">II", at + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    size = at + len(body)
    head = struct.pack(">I4sI4s4s4s", size, b"lcms", 0x02100000, b"mntr", b"RGB ", b"XYZ ") + bytes(12) + b"acsp"
    head += bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return head + bytes(128 - len(head)) + table + body


def converted(colour, primaries, gamma=2.2):
    """The sRGB bytes of a colour, by the definition: linear, to XYZ, to sRGB's primaries, its curve."""
    linear = np.linalg.solve(SRGB, primaries @ (np.array(colour) / 255) ** gamma).clip(0, 1)
    curve = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.round(255 * curve)


def first_pixel(picture):
    return to_uint8(picture)[0, :, 5, 6].numpy().astype(int)


@pytest.mark.parametrize("primaries", [ADOBE_RGB, DISPLAY_P3], ids=["adobe", "p3"])
@pytest.mark.parametrize("colour", [(120, 90, 60), (200, 180, 90), (128, 128, 128), (255, 255, 255)])
@pytest.mark.parametrize("ending", ["png", "tiff", "webp"])
def test_a_photo_in_wide_colours_is_converted(tmp_path, primaries, colour, ending):
    options = {"lossless": True} if ending == "webp" else {}
    picture = Pictures.new("RGB", (W, H), colour)
    picture.save(tmp_path / f"a.{ending}", icc_profile=profile(primaries), **options)
    read = load_clip(tmp_path / f"a.{ending}")
    assert read.notes == ("its colours (Wide) were converted to sRGB",)
    assert np.abs(first_pixel(read.video[:, :, 0]) - converted(colour, primaries)).max() <= 1


def test_the_conversion_changes_something(tmp_path):
    assert np.abs(converted((120, 90, 60), DISPLAY_P3) - (120, 90, 60)).max() > 4


def test_a_converted_photo_may_be_transparent_and_in_a_palette(tmp_path):
    picture = Pictures.new("RGBA", (W, H), (0, 0, 0, 0))
    picture.paste((120, 90, 60, 255), (0, 0, 20, 20))
    icc = profile(ADOBE_RGB)
    picture.save(tmp_path / "a.png", icc_profile=icc)
    picture.quantize(4).save(tmp_path / "b.png", icc_profile=icc)
    for name in "ab":
        with pytest.warns(UserWarning, match="converted to sRGB"):
            read = load_image(tmp_path / f"{name}.png")
        assert np.abs(first_pixel(read) - converted((120, 90, 60), ADOBE_RGB)).max() <= 1
        assert to_uint8(read)[0, :, 40, 60].min() >= 254


def test_srgb_itself_changes_no_byte_and_says_nothing(tmp_path):
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Pictures.new("RGB", (W, H), (1, 77, 200)).save(tmp_path / "a.png", icc_profile=icc)
    read = load_clip(tmp_path / "a.png")
    assert first_pixel(read.video[:, :, 0]).tolist() == [1, 77, 200] and read.notes == ()


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK", "I;16"])
@pytest.mark.parametrize(
    "icc", [b"junk", profile(ADOBE_RGB)[:200], bytes(5000), b"\0" * 2**22 + b"\0"], ids=["junk", "cut", "nil", "big"]
)
def test_a_damaged_or_foreign_profile_is_a_note_and_not_an_end(tmp_path, mode, icc):
    Pictures.new(mode, (W, H)).save(tmp_path / "a.tiff", icc_profile=icc)
    read = load_clip(tmp_path / "a.tiff")
    assert read.video.shape == (1, 3, 1, H, W)
    if mode != "I;16":  # deep greys are taken as they are
        assert len(read.notes) == 1 and "colour profile cannot be used" in read.notes[0]
    assert all(note.isprintable() for note in read.notes)


def test_a_profile_for_other_channels_is_a_note(tmp_path):
    Pictures.new("CMYK", (W, H)).save(tmp_path / "a.tiff", icc_profile=profile(ADOBE_RGB))
    assert "colour profile cannot be used" in load_clip(tmp_path / "a.tiff").notes[0]


def test_a_profile_cannot_write_to_the_terminal(tmp_path):
    icc = profile(ADOBE_RGB, name="Evil\x1b[31m\n\u202eRGB")
    Pictures.new("RGB", (W, H)).save(tmp_path / "a.png", icc_profile=icc)
    assert all(note.isprintable() for note in load_clip(tmp_path / "a.png").notes)


def test_broken_profiles_never_escape_as_another_error(tmp_path):
    icc, dice = profile(DISPLAY_P3), np.random.default_rng(0)
    for _ in range(200):
        broken = bytearray(icc)
        for at in dice.integers(0, len(icc), 4):
            broken[at] = int(dice.integers(256))
        data = io.BytesIO()
        Pictures.new("RGB", (8, 8)).save(data, "PNG", icc_profile=bytes(broken))
        (tmp_path / "a.png").write_bytes(data.getvalue())
        assert load_clip(tmp_path / "a.png").video.shape == (1, 3, 1, 8, 8)


# Videos


def write(path, codec, pix_fmt, frames, *, source="rgb24", setting=None, options=None):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=8, options=options or {})
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], pix_fmt
        for name, value in (setting or {}).items():
            setattr(stream.codec_context, name, value)
        for pixels in frames:
            frame = av.VideoFrame.from_ndarray(pixels, format=source).reformat(format=pix_fmt, threads=1)
            for name, value in (setting or {}).items():
                if name != "sample_aspect_ratio":
                    setattr(frame, name, value)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("a.mov", "png", "rgba"),
        ("a.mov", "qtrle", "argb"),
        ("a.mov", "prores_ks", "yuva444p10le"),
        ("a.webm", "libvpx-vp9", "yuva420p"),
        ("a.webm", "libvpx", "yuva420p"),
        ("a.mkv", "ffv1", "bgra"),
        ("a.mkv", "ffv1", "yuva420p"),
    ],
)
def test_a_transparent_video_lies_over_white(tmp_path, name, codec, pix_fmt):
    if codec not in av.codecs_available:
        pytest.skip(f"{codec} is not in this build")
    frames = np.zeros((3, H, W, 4), np.uint8)
    frames[:, :, : W // 2] = (200, 0, 100, 255)
    frames[:, :, W // 2 :] = (200, 0, 100, 51)
    options = {"auto-alt-ref": "0"} if codec == "libvpx" else {}
    read = load_clip(write(tmp_path / name, codec, pix_fmt, frames, source="rgba", options=options))
    assert read.notes == ("its transparent parts are shown over white",)
    pixels = to_uint8(read.video)[0, :, :, H // 2].int()
    assert (pixels[:, :, 8].T - torch.tensor([200, 0, 100])).abs().max() <= 2
    assert (pixels[:, :, -8].T - torch.tensor([244, 204, 224])).abs().max() <= 2


@pytest.mark.parametrize("ratio", [Fraction(2), Fraction(1, 2)])
def test_pixels_that_are_not_square_become_so(tmp_path, ratio):
    frames = np.zeros((2, H, W, 3), np.uint8)
    frames[:, : H // 2, : W // 2] = 255
    path = write(tmp_path / "a.mp4", "libx264", "yuv420p", frames, setting={"sample_aspect_ratio": ratio})
    read = load_clip(path)
    height, width = (H, 2 * W) if ratio > 1 else (2 * H, W)
    assert read.video.shape == (1, 3, 2, height, width)
    assert f"stretched from {W}x{H} to {width}x{height}" in read.notes[0]
    assert read.video[..., : height // 2 - 4, : width // 2 - 4].min() > 0.9
    assert read.video[..., :, width // 2 + 4 :].max() < -0.9
    assert min(load_clip(path, short_side=24).video.shape[3:]) == 24


def test_a_stretch_that_nobody_means_is_told_and_left_out(tmp_path):
    setting = {"sample_aspect_ratio": Fraction(9)}
    path = write(tmp_path / "a.mp4", "libx264", "yuv420p", np.zeros((1, H, W, 3), np.uint8), setting=setting)
    read = load_clip(path)
    assert read.video.shape == (1, 3, 1, H, W) and "taken as square" in read.notes[0]


def screen(nits):
    """sRGB's byte for a light of so many nits, where 203 are a page's white (ITU-R BT.2408)."""
    linear = nits / 203
    return 255 * (1.055 * linear ** (1 / 2.4) - 0.055)


def pq(value):
    """SMPTE ST 2084: nits of a code value."""
    power = value ** (1 / 78.84375)
    return 10_000 * (max(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)) ** (1 / 0.1593017578125)


def hlg(value):
    """ITU-R BT.2100: nits of a grey up to one half, on a display of 1000 nits."""
    return 1000 * (value**2 / 3) ** 1.2


@pytest.mark.parametrize(("curve", "kind", "nits"), [(16, "PQ", pq), (18, "HLG", hlg)])
def test_a_grey_of_high_dynamic_range_gets_a_screens_tone(tmp_path, curve, kind, nits):
    frames = np.full((2, H, W, 3), 128, np.uint8)
    setting = {"color_trc": curve, "color_primaries": 9, "colorspace": 9}
    path = write(tmp_path / "a.mkv", "ffv1", "yuv420p10le", frames, setting=setting)
    read = load_clip(path)
    assert len(read.notes) == 1 and kind in read.notes[0]
    grey = to_uint8(read.video)[0, :, 0, 20, 20].int()
    assert (grey - round(screen(nits(0.5)))).abs().max() <= 4
    assert abs(screen(nits(0.5)) - 128) > 4  # what it would be as it is


def test_the_table_of_a_high_dynamic_range_is_made_once_for_all_frames(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(videos, "VideoReformatter", lambda: made.append(VideoReformatter()) or made[-1])
    frames = np.full((5, H, W, 3), 128, np.uint8)
    path = write(tmp_path / "a.mkv", "ffv1", "yuv420p10le", frames, setting={"color_trc": 16})
    assert load_clip(path).video.shape[2] == 5 and len(made) == 1


@pytest.mark.parametrize(
    ("primaries", "name", "red"), [(9, "BT.2020", (1.6605, -0.6604)), (12, "Display P3", (1.2249, -0.2247))]
)
def test_a_video_in_wide_colours_is_mapped_and_its_greys_stay(tmp_path, primaries, name, red):
    frames = np.full((2, H, W, 3), 128, np.uint8)
    frames[:, :, W // 2 :] = (170, 90, 90)
    plain, wide = (
        load_clip(
            write(
                tmp_path / f"{number}.mkv",
                "ffv1",
                "yuv444p",
                frames,
                setting={"color_trc": 1, "color_primaries": number, "colorspace": 1},
            )
        )
        for number in (1, primaries)
    )
    assert plain.notes == () and wide.notes == (f"its colours ({name}) were converted to sRGB",)
    before, after = (to_uint8(read.video)[0, :, 0, 20].int() for read in (plain, wide))
    assert (before[:, 8] - after[:, 8]).abs().max() <= 2
    strong, weak = (before[:2, -8] / 255) ** 2.4  # green and blue are alike
    assert after[0, -8].item() == pytest.approx(255 * (red[0] * strong + red[1] * weak) ** (1 / 2.4), abs=2)
    assert after[1, -8] < before[1, -8] - 3  # the same red is purer in smaller primaries


def test_frames_of_many_bits_that_lean_on_each_other_are_smaller_at_most(tmp_path, monkeypatch):
    frames = np.full((2, H, W, 3), 128, np.uint8)
    monkeypatch.setattr(limits, "MAX_VIDEO_PIXELS", H * W)
    for codec, kind, fits in [("libx264", "yuv420p10le", True), ("libx264", "yuv444p10le", False)]:
        path = write(tmp_path / f"{codec}-{kind}.mkv", codec, kind, frames)
        if fits:
            assert load_clip(path).video.shape[2] == 2
        else:
            with pytest.raises(MediaError, match=f"has frames of {W}x{H} pixels, at most {H * W // 2:,} are decoded"):
                load_clip(path)
    assert load_clip(write(tmp_path / "a.mkv", "ffv1", "yuv444p10le", frames)).video.shape[2] == 2


def test_a_picture_has_no_frame_beyond_its_own(tmp_path):
    Pictures.new("RGB", (W, H)).save(tmp_path / "a.png")
    with pytest.raises(MediaError, match="start=1 is beyond it; set start=0"):
        load_clip(tmp_path / "a.png", start=1)
