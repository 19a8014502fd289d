"""Make the moving picture that README shows: the shipped model's clips, each over its prompt.

    python -m sora_edu.course.samples

writes data/images/samples.gif, in seconds; --out FILE, another file. Nothing is chosen: every prompt has seed 0.
"""

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tyro
from jaxtyping import Float
from PIL import Image as Pillow, ImageDraw, ImageFont
from torch import Tensor

from sora_edu.media import to_uint8
from sora_edu.pipeline import Pipeline

FILE = Path(__file__).parents[2] / "data" / "images" / "samples.gif"
PROMPTS = (
    "a red circle falls",
    "a large blue star moves left",
    "a yellow ring bounces",
    "a green square grows",
    "a white triangle orbits",
    "a small purple circle moves up",
    "a cyan ring passes behind a bar",
    "an orange star moves up and a white square stays still",
)


def captioned_gif(
    video: Float[Tensor, "b c f h w"], captions: Sequence[str], *, columns: int = 4, zoom: int = 5, fps: int = 8
) -> bytes:
    """Clips on a grid, each over its caption, as one GIF that repeats: for pages that show nothing else."""
    tiles = to_uint8(video).cpu().repeat_interleave(zoom, 3).repeat_interleave(zoom, 4)
    h = tiles.shape[3]
    w = tiles.shape[4]
    gap = 6
    foot = 48
    rows = -(-len(captions) // columns)
    font = ImageFont.load_default(size=12)
    pages = []
    for frame in range(video.shape[2]):
        page = Pillow.new("RGB", (columns * (w + gap) + gap, rows * (h + foot) + gap), "white")
        for i, caption in enumerate(captions):
            x, y = gap + i % columns * (w + gap), gap + i // columns * (h + foot)
            page.paste(Pillow.fromarray(tiles[i, :, frame].permute(1, 2, 0).numpy()), (x, y))
            text = "\n".join(textwrap.wrap(caption, w // 6))
            ImageDraw.Draw(page).multiline_text((x + w / 2, y + h + 1), text, "black", font, "ma", 1, "center")
        pages.append(page)
    film = Pillow.fromarray(np.concatenate([np.asarray(page) for page in pages[::8]]))
    palette = film.quantize(256, Pillow.Quantize.MAXCOVERAGE, kmeans=2)  # one for all frames, or grounds would flicker
    pages = [page.quantize(palette=palette, dither=Pillow.Dither.NONE) for page in pages]
    buffer = io.BytesIO()
    delays = [1000 // fps] * (len(pages) - 1) + [1000]  # a rest before it repeats
    pages[0].save(buffer, "GIF", save_all=True, append_images=pages[1:], duration=delays, loop=0, optimize=True)
    return buffer.getvalue()


def main(out: Path = FILE) -> None:
    """Draw the clips and write the file that README shows."""
    clips = Pipeline.load("tiny")(list(PROMPTS), seed=0)
    out.write_bytes(captioned_gif(clips, PROMPTS))


if __name__ == "__main__":
    tyro.cli(main)
