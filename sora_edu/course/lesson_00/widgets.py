"""Interactives of lesson 00: a prompt for the pipeline, the board of claims, and the game of paper slips."""

import warnings
from collections.abc import Callable, Sequence

import ipywidgets
import torch

from sora_edu.course import plotting
from sora_edu.course.claims import BADGES, Claim, draw_slips, is_sentence, read_slips, take_slips
from sora_edu.course.lesson_00 import figures
from sora_edu.course.widgets import Interactive, image_of, inert
from sora_edu.errors import PromptWarning, SoraError
from sora_edu.shapes import Video
from sora_edu.world.captions import prompt_for
from sora_edu.world.tracker.track import describe, track
from sora_edu.world.vocabulary import COLOURS, MOTIONS, SHAPES, SIZES


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
        self.message = ipywidgets.HTML()
        self.clip = ipywidgets.Image(format="png", width=160)
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
            self.message.value = inert(str(error))
            return None
        finally:
            self.button.disabled = False
        self.clip.value = plotting.animate(video, zoom=5).png()
        said = [f"The tracker reads: {describe(track(video), 0)}.", *(str(w.message) for w in caught)]
        self.message.value = "<br>".join(map(inert, said))
        return video


class ClaimBoard(Interactive):
    """Cards that a click turns over to verdict, badge, reason and source; a menu keeps those of one badge."""

    def __init__(self, cards: Sequence[Claim]):
        self.cards = cards
        self.badge = ipywidgets.ToggleButtons(options=["all", *BADGES], description="badge")
        self.rows = [self.card(card) for card in cards]
        self.badge.observe(self.filter, names="value")
        super().__init__(ipywidgets.VBox([self.badge, *self.rows]), figures.show_claims(cards))

    def card(self, card: Claim) -> ipywidgets.VBox:
        """A button with the claim, and its other side, hidden."""
        front = ipywidgets.Button(description=card.claim, layout=ipywidgets.Layout(width="auto"))
        shades = figures.VERDICT_COLOURS[card.verdict], figures.BADGE_COLOURS[card.badge]
        verdict, badge = (
            f'<b style="color:{shade}">{word}</b>'
            for shade, word in zip(shades, (card.verdict, card.badge), strict=True)
        )
        back = ipywidgets.HTML(inert(f"{card.reason} [{card.source}]"))
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
        self.message = ipywidgets.HTML()
        self.picture = image_of()
        self.colour.observe(self.restart, names="value")
        self.draw.on_click(self.next)
        self.unfold.on_click(self.open)
        self.restart()
        draws = [
            draw_slips("role", generator=torch.Generator().manual_seed(seed)),
            take_slips("author", (3, 1, 4, 1, 5, 2)),
        ]
        titles = [f"colour = {colour}: {read_slips(d)}" for colour, d in zip(self.colour.options, draws, strict=True)]
        still = figures.show_slips(draws, titles, colour="both")
        buttons = ipywidgets.HBox([self.draw, self.unfold])
        super().__init__(ipywidgets.VBox([self.colour, buttons, self.picture, self.message]), still)

    def restart(self, _change: dict | None = None) -> None:
        """New piles: another meaning of colour, and the count starts again."""
        self.draws = self.sentences = 0
        self.next()

    def next(self, _button: ipywidgets.Button | None = None) -> None:
        """Draw six slips and leave them folded."""
        self.slips = draw_slips(self.colour.value, generator=self.generator)
        self.opened = 0
        self.draws += 1
        self.sentences += is_sentence(self.slips)
        self.show()

    def open(self, _button: ipywidgets.Button) -> None:
        """Unfold the next slip."""
        self.opened = min(self.opened + 1, len(self.slips))
        self.show()

    def show(self) -> None:
        """Draw the slips as they are now."""
        self.picture.value = figures.show_slips([self.slips], colour=self.colour.value, opened=self.opened).png()
        if self.opened < len(self.slips):
            said = f"{self.opened} of 6 unfolded"
        else:
            verdict = "a sentence" if is_sentence(self.slips) else "not a sentence: a role is there twice"
            said = f"{read_slips(self.slips)} ({verdict}; {self.sentences} of {self.draws} draws were sentences)"
        self.message.value = inert(said)
