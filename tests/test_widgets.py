"""Interactives answer to their controls, and carry a picture for a page without a kernel."""

import base64

import ipywidgets
import pytest
import torch

from sora_edu import plotting, widgets

VIEW = "application/vnd.jupyter.widget-view+json"


@pytest.fixture
def image():
    """A picture of 4 x 6 patches of 8 x 8, each patch of one grey."""
    grey = torch.linspace(-1, 1, 24).view(1, 4, 6)
    return grey.repeat_interleave(8, 1).repeat_interleave(8, 2).expand(3, -1, -1)


def test_an_interactive_shows_both_controls_and_picture(image):
    shown = widgets.click_patches(image, 8, 8)._repr_mimebundle_()
    assert VIEW in shown
    assert base64.b64decode(shown["image/png"]) == plotting.show_patch_card(image, 15, 8, 8).png()
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
    assert card.value == plotting.show_patch_card(image, 7, 8, 8).png() != before


def test_a_control_draws_again():
    seen = []

    def draw(level, name):
        seen.append((level, name))
        return plotting.show_image(torch.full((3, 4, 4), level), name)

    slider = ipywidgets.FloatSlider(value=0.0, min=-1, max=1)
    menu = ipywidgets.Dropdown(options=["a", "b"])
    view = widgets.interactive(draw, level=slider, name=menu)
    slider.value = 0.5
    menu.value = "b"
    assert seen == [(0.0, "a"), (0.5, "a"), (0.5, "b")]
    assert repr(view) == "<interactive: <picture: a>>"


def test_another_picture_can_stand_for_an_interactive():
    still = plotting.show_image(torch.zeros(3, 4, 4), "still")
    view = widgets.interactive(lambda n: n, static=still, n=ipywidgets.IntSlider())
    assert base64.b64decode(view._repr_mimebundle_()["image/png"]) == still.png()


def test_gravity_and_speed_change_the_thrown_ball():
    view = widgets.throw_ball(frames=5)
    gravity, speed, colour, area = view.widget.children
    assert (gravity.value, speed.value, colour.value) == (0.16, 1.2, "orange") and area.outputs
    assert "g = 0.16, speed = 1.20" in view.static.get_suptitle() and view.static.get_suptitle().startswith("an orange")
    down = view.static.axes[-1].lines[1].get_ydata()
    assert abs(down[-1] - down[0] - 0.16 * 4 * 12) < 1e-4  # frames are 4 ticks apart
