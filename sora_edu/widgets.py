"""All interactives of the course. Each carries a static picture for readers who only look.

In a running notebook an ``Interactive`` shows its controls; on a page without a kernel (a saved notebook, a web
site, print) it shows the picture instead.
"""

from collections.abc import Callable
from dataclasses import replace

import ipywidgets
import torch
from IPython.display import display
from jaxtyping import Float
from torch import Tensor

from sora_edu import plotting
from sora_edu.config import COLOURS, WorldConfig
from sora_edu.media import to_uint8
from sora_edu.plotting import Picture
from sora_edu.render import render
from sora_edu.world import TICKS, make_state


class Interactive:
    """A widget together with the picture that stands for it where no kernel runs."""

    def __init__(self, widget: ipywidgets.Widget, static: object):
        self.widget, self.static = widget, static

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        still = self.static._repr_mimebundle_()
        return {**self.widget._repr_mimebundle_(), "image/png": still["image/png"], "text/plain": repr(self)}

    def __repr__(self) -> str:
        return f"<interactive: {self.static!r}>"


def interactive(draw: Callable, *, static: object | None = None, **controls: ipywidgets.Widget) -> Interactive:
    """Controls above whatever ``draw(**values)`` returns, drawn again after each change.

    ``static`` is the picture for readers who only look; without it, what ``draw`` makes of the first values.
    """
    values = {name: control.value for name, control in controls.items()}
    first = draw(**values)
    area = ipywidgets.Output()

    def redraw(_change: dict) -> None:
        area.clear_output(wait=True)
        with area:
            display(draw(**{name: control.value for name, control in controls.items()}))

    area.append_display_data(first)
    for control in controls.values():
        control.observe(redraw, names="value")
    return Interactive(ipywidgets.VBox([*controls.values(), area]), first if static is None else static)


def image_of(picture: Picture) -> ipywidgets.Image:
    """A picture as a widget whose ``value`` can be replaced."""
    return ipywidgets.Image(value=picture.png(), format="png")


def click_patches(image: Float[Tensor, "c h w"], ph: int, pw: int, *, start: int = 15) -> Interactive:
    """A grid of buttons, one a patch, each in its patch's mean colour; a click shows that patch and its token."""
    nh, nw = image.shape[1] // ph, image.shape[2] // pw
    means = image.unfold(1, ph, ph).unfold(2, pw, pw).mean(dim=(-2, -1)).expand(3, nh, nw)
    colours = [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in to_uint8(means).flatten(1).T.tolist()]
    still = plotting.show_patch_card(image, start, ph, pw)
    card = image_of(still)

    def show(button: ipywidgets.Button) -> None:
        card.value = plotting.show_patch_card(image, buttons.index(button), ph, pw).png()

    cell = ipywidgets.Layout(width="20px", height="20px", min_width="20px", padding="0px", margin="0px")
    buttons = [
        ipywidgets.Button(tooltip=f"patches[{i}]", layout=cell, style={"button_color": colour})
        for i, colour in enumerate(colours)
    ]
    for button in buttons:
        button.on_click(show)
    rows = [ipywidgets.HBox(buttons[r * nw : (r + 1) * nw]) for r in range(nh)]
    return Interactive(ipywidgets.VBox([ipywidgets.VBox(rows), card]), still)


def throw_ball(*, frames: int = 17) -> Interactive:
    """Sliders for gravity and sideways speed and a menu of colours; the clip's strip, its path, and its steps."""

    def draw(gravity: float, speed: float, colour: str) -> Picture:
        ticks = torch.linspace(0, TICKS, frames)
        centre = torch.stack((16 + speed * (ticks - TICKS / 2), 5 + gravity * ticks**2 / 2), -1)
        clip = WorldConfig(frames=frames)
        state = make_state(clip, colour=colour, size="small", motion="still")
        state = replace(state, centre=torch.stack((centre, torch.zeros_like(centre)))[None])
        title = f"a {colour} circle, g = {gravity:.2f}, speed = {speed:.2f}".replace("a orange", "an orange")
        return plotting.show_motion(render(state, clip)[0], centre, title)

    def slider(value: float, low: float, high: float, step: float) -> ipywidgets.FloatSlider:
        return ipywidgets.FloatSlider(value=value, min=low, max=high, step=step, continuous_update=False)

    return interactive(
        draw,
        gravity=slider(0.16, -0.2, 0.3, 0.02),
        speed=slider(1.2, -1.5, 1.5, 0.1),
        colour=ipywidgets.Dropdown(options=COLOURS, value="orange"),
    )
