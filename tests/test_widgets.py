"""Interactives answer to their controls, and carry a picture for a page without a kernel."""

import base64

import ipywidgets
import torch

from sora_edu.course import plotting, widgets

VIEW = "application/vnd.jupyter.widget-view+json"


def test_an_interactive_shows_both_controls_and_picture():
    shown = widgets.interactive(lambda n: plotting.show_image(torch.zeros(3, 4, 4), "still"), n=ipywidgets.IntSlider())
    bundle = shown._repr_mimebundle_()
    assert VIEW in bundle and base64.b64decode(bundle["image/png"]) == shown.static.png()
    assert bundle["text/plain"] == "<interactive: <picture: still>>"


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


def test_what_a_reader_typed_is_shown_and_not_interpreted():
    assert widgets.inert("<b>$1</b> & \u202ered\n") == r"&lt;b&gt;$1&lt;/b&gt; &amp; \u202ered\n"
