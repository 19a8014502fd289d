"""A click on the grid of lesson 02 shows the patch."""

import base64

import pytest
import torch

from sora_edu.course.lesson_02 import widgets
from sora_edu.course.lesson_02.figures import show_patch_card


@pytest.fixture
def image():
    """A picture of 4 x 6 patches of 8 x 8, each patch of one grey."""
    grey = torch.linspace(-1, 1, 24).view(1, 4, 6)
    return grey.repeat_interleave(8, 1).repeat_interleave(8, 2).expand(3, -1, -1)


def test_the_grid_shows_the_patch_it_starts_with(image):
    shown = widgets.click_patches(image, 8, 8)._repr_mimebundle_()
    assert base64.b64decode(shown["image/png"]) == show_patch_card(image, 15, 8, 8).png()
    assert shown["text/plain"].startswith("<interactive: ") and "0x" not in shown["text/plain"]


def test_a_click_shows_the_patch(image):
    rows, card = widgets.click_patches(image, 8, 8, start=15).widget.children
    buttons = [button for row in rows.children for button in row.children]
    assert (
        len(buttons) == 24
        and buttons[23].style.button_color == "#ffffff"
        and buttons[0].style.button_color == "#000000"
    )
    before = card.value
    buttons[7].click()
    assert card.value == show_patch_card(image, 7, 8, 8).png() != before
