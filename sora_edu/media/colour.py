"""Pixels of any Pillow mode and colour profile to sRGB bytes, a strip of rows at a time.

A strip at a time, because a picture is decoded already: a second copy of all of it, as RGBA or as floats, is what
would not fit. Shrinking to twice the wanted size happens within the strip, by means of k x k pixels (lesson 03).
"""

import io

import numpy as np
from PIL import Image as Pictures, ImageCms

from sora_edu.media.limits import Refused

STRIP_PIXELS = 2**20
MAX_PROFILE = 2**22
NEARLY_SRGB = 2  # largest difference, of 255, that makes a conversion not worth it


class Colours:
    """One picture's way to sRGB: over white, out of its colour profile, 16 bits scaled and not cut."""

    def __init__(self, picture: Pictures.Image, profile: bytes | None = None) -> None:
        """Read the profile that `picture` carries, or `profile`; `notes` says what came of it."""
        self.notes: tuple[str, ...] = ()
        self.deep = picture.mode[0] in "IF"
        self.top = _top_value(picture) if self.deep else 255.0
        self.cms = None
        profile = profile or picture.info.get("icc_profile")
        if profile and not self.deep:
            self._use(profile, "CMYK" if picture.mode == "CMYK" else "L" if picture.mode in ("L", "LA", "1") else "RGB")

    def _use(self, profile: bytes, mode: str) -> None:
        try:
            if len(profile) > MAX_PROFILE:
                raise ValueError(f"it has {len(profile):,} bytes")
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            cms = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
            name = ImageCms.getProfileDescription(source)
        except Exception as cause:  # lcms says little: "cannot open profile from string"
            self.notes = (f"its colour profile cannot be used ({_inert(cause)}); its numbers are taken as sRGB",)
            return
        probe = _probe(mode)
        plain = np.asarray(probe.convert("RGB"), np.int16)
        if np.abs(np.asarray(ImageCms.applyTransform(probe, cms), np.int16) - plain).max() > NEARLY_SRGB:
            self.cms, self.mode = cms, mode
            self.notes = (f"its colours ({_inert(name)}) were converted to sRGB",)

    def convert(self, strip: Pictures.Image) -> Pictures.Image:
        """A strip in mode RGB, or in mode F from 0 to 1 where the picture has more than 8 bits."""
        if self.deep:
            # Trap: `convert("RGB")` clips 16-bit greys at 255 instead of scaling them.
            return Pictures.fromarray(np.asarray(strip).astype(np.float32) / np.float32(self.top))
        if strip.has_transparency_data:
            white = Pictures.new("RGBA", strip.size, "white")
            strip = Pictures.alpha_composite(white, strip.convert("RGBA"))
        if self.cms is None:
            return strip.convert("RGB")
        return ImageCms.applyTransform(strip.convert(self.mode), self.cms)


def _top_value(picture: Pictures.Image) -> float:
    values = np.asarray(picture)
    low, high = float(values.min()), float(values.max())  # NaN stays NaN, and fails every comparison
    top = 65535.0 if picture.mode[0] == "I" else 1.0 if high <= 1 else 255.0
    if not 0 <= low <= high <= top:
        raise Refused(
            f"has mode {picture.mode} with values {low:g} to {high:g}, expected 0 to 65535 (whole "
            "numbers) or 0 to 1 or 255 (fractions); rescale it to one of these"
        )
    return top


def _probe(mode: str) -> Pictures.Image:
    """Colours from all over the cube, in a row."""
    if mode == "L":
        return Pictures.fromarray(np.arange(0, 256, 17, dtype=np.uint8)[None])
    axes = np.meshgrid(*[np.arange(0, 256, 51, dtype=np.uint8)] * len(mode), indexing="ij")
    values = np.stack(axes, axis=-1).reshape(1, -1, len(mode))
    return Pictures.frombytes(mode, (values.shape[1], 1), values.tobytes())


def _inert(text: object) -> str:
    """A few printable characters of what a file says about itself."""
    return "".join(c for c in " ".join(str(text).split()) if c.isprintable())[:60]


def pixels(picture: Pictures.Image, size: tuple[int, int], colours: Colours) -> np.ndarray:
    """All of a decoded picture as `h w 3` bytes, or as `h w` fractions of a deep one, shrunk to (height, width).

    The same pixels as shrinking it whole, as each strip comes with the rows above and below that its edge needs.
    """
    width, height = picture.size
    scale_y = height / size[0]
    factor = max(1, min(height // size[0], width // size[1]) // 2)  # the rest is resized with antialiasing
    rows = max(1, int(STRIP_PIXELS / (width * scale_y)))
    margin = factor * 4
    out = None
    for top in range(0, size[0], rows):
        bottom = min(size[0], top + rows)
        first = max(0, int(top * scale_y) - margin) // factor * factor
        last = min(height, int(bottom * scale_y) + 1 + margin)
        strip = colours.convert(picture.crop((0, first, width, last)))
        if (height, width) != tuple(size):
            strip = strip.reduce(factor) if factor > 1 else strip
            box = (0, (top * scale_y - first) / factor, width / factor, (bottom * scale_y - first) / factor)
            strip = strip.resize((size[1], bottom - top), Pictures.Resampling.BILINEAR, box)
        else:
            strip = strip.crop((0, top - first, width, bottom - first))
        part = np.asarray(strip)
        if out is None:
            out = np.empty((size[0], *part.shape[1:]), part.dtype)
        out[top:bottom] = part
    return out


# Linear light of wide primaries to sRGB's (ITU-R BT.709), white to white.
TO_BT709 = {
    "BT.2020": ((1.6605, -0.5876, -0.0728), (-0.1246, 1.1329, -0.0083), (-0.0182, -0.1006, 1.1187)),
    "Display P3": ((1.2249, -0.2247, 0.0), (-0.0420, 1.0419, 0.0), (-0.0197, -0.0786, 1.0979)),
}
SCREEN_GAMMA = 2.4  # of a television, ITU-R BT.1886


def from_wide(frame: np.ndarray, primaries: str) -> np.ndarray:
    """Bytes `h w 3` in wide primaries to the same colours in sRGB's; what those cannot show is cut."""
    linear = (np.arange(256, dtype=np.float32) / 255) ** SCREEN_GAMMA
    matrix = np.array(TO_BT709[primaries], np.float32).T
    out = np.empty_like(frame)
    rows = max(1, STRIP_PIXELS // frame.shape[1])
    for top in range(0, len(frame), rows):
        light = (linear[frame[top : top + rows]] @ matrix).clip(0, 1)
        out[top : top + rows] = np.round(255 * light ** (1 / SCREEN_GAMMA))
    return out
