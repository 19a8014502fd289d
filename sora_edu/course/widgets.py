"""What the interactives of the lessons share. Each carries a static picture for readers who only look.

In a running notebook an ``Interactive`` shows its controls; on a page without a kernel (a saved notebook, a web
site, print) it shows the picture instead.
"""

import html
from collections.abc import Callable

import ipywidgets
from IPython.display import display

from sora_edu.course.plotting import Picture
from sora_edu.errors import printable


class Interactive:
    """A widget together with the picture that is shown in its place where no kernel runs."""

    def __init__(self, widget: ipywidgets.Widget, static: object):
        self.widget = widget
        self.static = static

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        still = self.static._repr_mimebundle_()
        return {**self.widget._repr_mimebundle_(), "image/png": still["image/png"], "text/plain": repr(self)}

    def __repr__(self) -> str:
        return f"<interactive: {self.static!r}>"


def interactive(draw: Callable, *, static: object | None = None, **controls: ipywidgets.Widget) -> Interactive:
    """Controls, each labelled with its name, above whatever ``draw(**values)`` returns, drawn again after each change.

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
    for name, control in controls.items():
        control.description = control.description or name.replace("_", " ")
        control.observe(redraw, names="value")
    return Interactive(ipywidgets.VBox([*controls.values(), area]), first if static is None else static)


def image_of(picture: Picture | None = None) -> ipywidgets.Image:
    """A picture as a widget whose ``value`` can be replaced, in its own size: a box would stretch and blur it."""
    layout = ipywidgets.Layout(align_self="flex-start", max_width="100%")
    return ipywidgets.Image(value=b"" if picture is None else picture.png(), format="png", layout=layout)


def inert(text: str) -> str:
    """Text for an HTML widget: whatever a reader typed is shown, never interpreted."""
    return html.escape(printable(text))
