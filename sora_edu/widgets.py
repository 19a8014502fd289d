"""All interactives of the course. Each carries a static picture for readers who only look.

In a running notebook an ``Interactive`` shows its controls; on a page without a kernel (a saved notebook, a web
site, print) it shows the picture instead.
"""

import html
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace

import ipywidgets
import torch
from IPython.display import display
from jaxtyping import Float
from torch import Tensor

from sora_edu import plotting
from sora_edu.captions import prompt_for
from sora_edu.claims import BADGES, Claim, draw_slips, is_sentence, read_slips, take_slips
from sora_edu.config import WorldConfig
from sora_edu.errors import PromptWarning, SoraError
from sora_edu.media import to_uint8
from sora_edu.paths import TICKS
from sora_edu.plotting import Picture
from sora_edu.render import render
from sora_edu.shapes import Video
from sora_edu.track import describe, track
from sora_edu.vocabulary import COLOURS, MOTIONS, SHAPES, SIZES
from sora_edu.world import make_state


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


# --- lesson 00 -------------------------------------------------------------------------------------------------------


def note(text: str) -> ipywidgets.HTML:
    """A line of text; whatever a reader typed is shown, never interpreted."""
    return ipywidgets.HTML(html.escape(text))


class PromptBox(Interactive):
    """Menus that write a prompt, a field to change it by hand, and a button that asks the pipeline for the clip."""

    def __init__(self, pipe: Callable, *, seed: int = 0):
        self.pipe = pipe
        menus = {"shape": SHAPES, "colour": COLOURS, "size": ("any", *SIZES), "motion": MOTIONS}
        first = {"shape": "circle", "colour": "red", "size": "any", "motion": "falls"}
        make = ipywidgets.Dropdown
        self.menus = [make(options=menus[name], value=first[name], description=name) for name in menus]
        self.shape, self.colour, self.size, self.motion = self.menus
        self.prompt = ipywidgets.Text(description="prompt")
        self.seed = ipywidgets.BoundedIntText(value=seed, min=0, max=999, description="seed")
        self.button = ipywidgets.Button(description="generate", button_style="success")
        self.message, self.clip = note(""), ipywidgets.Image(format="png", width=160)
        self.write()
        for menu in self.menus:
            menu.observe(self.write, names="value")
        self.button.on_click(self.generate)
        video = self.generate()
        controls = ipywidgets.VBox([*self.menus, self.prompt, self.seed, self.button])
        still = plotting.show_strip(video, [f"{self.prompt.value!r}, every second frame"], every=2)
        super().__init__(ipywidgets.HBox([controls, ipywidgets.VBox([self.clip, self.message])]), still)

    def write(self, _change: dict | None = None) -> None:
        """Put the menus' words into the prompt."""
        size = None if self.size.value == "any" else self.size.value
        self.prompt.value = prompt_for(self.shape.value, self.colour.value, self.motion.value, size)

    def generate(self, _button: ipywidgets.Button | None = None) -> Video | None:
        """Make the clip, show it, and say what the tracker reads in it; an error of the prompt becomes a message."""
        self.button.disabled = True
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", PromptWarning)
                video = self.pipe([self.prompt.value], seed=self.seed.value)
        except SoraError as error:
            self.message.value = html.escape(str(error))
            return None
        finally:
            self.button.disabled = False
        self.clip.value = plotting.animate(video, zoom=5).png()
        said = [f"The tracker reads: {describe(track(video), 0)}.", *(str(w.message) for w in caught)]
        self.message.value = "<br>".join(map(html.escape, said))
        return video


class ClaimBoard(Interactive):
    """Cards that a click turns over to verdict, badge, reason and source; a menu keeps those of one badge."""

    def __init__(self, cards: Sequence[Claim]):
        self.cards = cards
        self.badge = ipywidgets.ToggleButtons(options=["all", *BADGES], description="badge")
        self.rows = [self.card(card) for card in cards]
        self.badge.observe(self.filter, names="value")
        super().__init__(ipywidgets.VBox([self.badge, *self.rows]), plotting.show_claims(cards))

    def card(self, card: Claim) -> ipywidgets.VBox:
        """A button with the claim, and its other side, hidden."""
        front = ipywidgets.Button(description=card.claim, layout=ipywidgets.Layout(width="auto"))
        shades = plotting.VERDICT_COLOURS[card.verdict], plotting.BADGE_COLOURS[card.badge]
        verdict, badge = (
            f'<b style="color:{shade}">{word}</b>'
            for shade, word in zip(shades, (card.verdict, card.badge), strict=True)
        )
        back = note(f"{card.reason} [{card.source}]")
        back.value = f"{verdict} · {badge} · {back.value}"
        back.layout.display = "none"

        def flip(_button: ipywidgets.Button) -> None:
            back.layout.display = "none" if back.layout.display != "none" else ""

        front.on_click(flip)
        return ipywidgets.VBox([front, back])

    def filter(self, change: dict) -> None:
        """Hide the cards of other badges."""
        for card, row in zip(self.cards, self.rows, strict=True):
            row.layout.display = "" if change["new"] in ("all", card.badge) else "none"


class SlipsGame(Interactive):
    """Six piles of folded slips: draw one of each, unfold them one by one, and keep count of the sentences."""

    def __init__(self, *, seed: int = 0):
        self.generator = torch.Generator().manual_seed(seed)
        self.colour = ipywidgets.ToggleButtons(options=["role", "author"], description="colour is")
        self.draw = ipywidgets.Button(description="draw six")
        self.unfold = ipywidgets.Button(description="unfold one")
        self.message, self.picture = note(""), image_of()
        self.colour.observe(self.restart, names="value")
        self.draw.on_click(self.next)
        self.unfold.on_click(self.open)
        self.restart()
        draws = [
            draw_slips("role", generator=torch.Generator().manual_seed(seed)),
            take_slips("author", (3, 1, 4, 1, 5, 2)),
        ]
        titles = [f"colour = {colour}: {read_slips(d)}" for colour, d in zip(self.colour.options, draws, strict=True)]
        still = plotting.show_slips(draws, titles, colour="both")
        buttons = ipywidgets.HBox([self.draw, self.unfold])
        super().__init__(ipywidgets.VBox([self.colour, buttons, self.picture, self.message]), still)

    def restart(self, _change: dict | None = None) -> None:
        """New piles: another meaning of colour, and the count starts anew."""
        self.draws = self.sentences = 0
        self.next()

    def next(self, _button: ipywidgets.Button | None = None) -> None:
        """Draw six slips and leave them folded."""
        self.slips, self.opened = draw_slips(self.colour.value, generator=self.generator), 0
        self.draws += 1
        self.sentences += is_sentence(self.slips)
        self.show()

    def open(self, _button: ipywidgets.Button) -> None:
        """Unfold the next slip."""
        self.opened = min(self.opened + 1, len(self.slips))
        self.show()

    def show(self) -> None:
        """Draw the slips as they lie there."""
        self.picture.value = plotting.show_slips([self.slips], colour=self.colour.value, opened=self.opened).png()
        if self.opened < len(self.slips):
            said = f"{self.opened} of 6 unfolded"
        else:
            verdict = "a sentence" if is_sentence(self.slips) else "not a sentence: a role is there twice"
            said = f"{read_slips(self.slips)} ({verdict}; {self.sentences} of {self.draws} draws were sentences)"
        self.message.value = html.escape(said)
