"""The interactive of lesson 02: a picture whose patches can be clicked."""

import ipywidgets
from jaxtyping import Float
from torch import Tensor

from sora_edu.course.lesson_02.figures import show_patch_card
from sora_edu.course.widgets import Interactive, image_of
from sora_edu.media import to_uint8


def click_patches(image: Float[Tensor, "c h w"], ph: int, pw: int, *, start: int = 15) -> Interactive:
    """A grid of buttons, one a patch, each in its patch's mean colour; a click shows that patch and its token."""
    nh, nw = image.shape[1] // ph, image.shape[2] // pw
    means = image.unfold(1, ph, ph).unfold(2, pw, pw).mean(dim=(-2, -1)).expand(3, nh, nw)
    colours = [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in to_uint8(means).flatten(1).T.tolist()]
    still = show_patch_card(image, start, ph, pw)
    card = image_of(still)

    def show(button: ipywidgets.Button) -> None:
        card.value = show_patch_card(image, buttons.index(button), ph, pw).png()

    cell = ipywidgets.Layout(width="20px", height="20px", min_width="20px", padding="0px", margin="0px")
    buttons = [
        ipywidgets.Button(tooltip=f"patches[{i}]", layout=cell, style={"button_color": colour})
        for i, colour in enumerate(colours)
    ]
    for button in buttons:
        button.on_click(show)
    rows = [ipywidgets.HBox(buttons[r * nw : (r + 1) * nw]) for r in range(nh)]
    return Interactive(ipywidgets.VBox([ipywidgets.VBox(rows), card]), still)
