"""The pictures of lesson 02 show what they say, and draw the same bytes every time."""

import io

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from sora_edu.course.lesson_02 import figures

IMAGE = torch.rand(3, 32, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1
PICTURES = {
    "patch grid": lambda: figures.show_patch_grid(IMAGE, 16, 8, highlight=[0, 7], numbers=True, title="cut"),
    "mosaic": lambda: figures.show_mosaic(torch.zeros(6, 2 * 4 * 3), (2, 3), 2, 4, "tokens"),
    "numbers": lambda: figures.show_numbers([torch.arange(6).reshape(2, 3), torch.zeros(2, 2).long()], ["a", "b"]),
    "tokens": lambda: figures.show_tokens(torch.zeros(4, 9), "matrix"),
    "card": lambda: figures.show_patch_card(IMAGE, 3, 16, 8),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_a_picture_draws_the_same_bytes_again(kind):
    picture = PICTURES[kind]()
    assert picture.png() == PICTURES[kind]().png()
    assert picture._repr_mimebundle_()["text/plain"].startswith("<picture: ")


def test_a_mosaic_puts_tokens_in_reading_order():
    tokens = -torch.ones(6, 4 * 4 * 3)
    tokens[1] = 1.0  # row 0, column 1
    seen = np.asarray(
        Pillow.open(io.BytesIO(figures.show_mosaic(tokens, (2, 3), 4, 4, gap=0).png())).convert("RGB")
    ).mean(-1)
    height, width = seen.shape
    assert seen[height // 4, width // 2] > 200
    assert seen[3 * height // 4, width // 2] < 50 > seen[height // 4, width // 6]
