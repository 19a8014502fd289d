"""The interactives of lesson 00 answer to their controls, and carry pictures."""

import html

from sora_edu.course.claims import CLAIMS
from sora_edu.course.lesson_00 import widgets
from sora_edu.course.widgets import Interactive
from sora_edu.world.prompts import check_prompt
from sora_edu.world.render import render
from sora_edu.world.scenes import make_state


def pipe(prompts, *, seed=0, **_):
    """Stands for the pipeline: what the toy world itself would draw."""
    return render(make_state(shape="star", colour="blue", motion="left", seed=seed)).expand(
        len(prompts), -1, -1, -1, -1
    )


def test_the_prompt_box_generates_what_its_menus_say():
    asked = []

    def spy(prompts, **options):
        asked.append((prompts, options["seed"]))
        return pipe(prompts, **options)

    box = widgets.PromptBox(spy)
    assert asked == [(["a red circle falls"], 0)] and "blue star moves left" in box.message.value
    box.colour.value, box.size.value, box.motion.value = "blue", "large", "bounces"
    assert box.prompt.value == "a large blue circle bounces" and len(asked) == 1, "no clip before the click"
    before = box.clip.value
    box.seed.value = 3
    box.button.click()
    assert asked[1] == (["a large blue circle bounces"], 3) and box.clip.value != before
    assert not box.button.disabled


def test_the_prompt_box_says_what_is_wrong_with_a_prompt():
    box = widgets.PromptBox(lambda prompts, **options: pipe([check_prompt(p) for p in prompts], **options))
    box.prompt.value = "<b>a dog</b>"
    box.button.click()
    assert "no word that this model knows" in box.message.value and "<b>a dog" not in box.message.value
    box.prompt.value = "\u202ea dog"
    box.button.click()
    assert "\u202e" not in box.message.value and r"\u202e" in box.message.value
    box.prompt.value = "a pink star moves left"
    box.button.click()
    assert "unknown words are ignored" in box.message.value and "pink" in box.message.value


def test_the_claim_board_flips_and_filters():
    board = widgets.ClaimBoard(CLAIMS)
    menu, *cards = board.widget.children
    assert len(cards) == len(CLAIMS)
    front, back = cards[0].children
    assert front.description == CLAIMS[0].claim and back.layout.display == "none"
    front.click()
    assert back.layout.display != "none" and html.escape(CLAIMS[0].reason) in back.value and "holds" in back.value
    front.click()
    assert back.layout.display == "none"
    menu.value = "unknown"
    assert [c.layout.display != "none" for c in cards] == [c.badge == "unknown" for c in CLAIMS]
    menu.value = "all"
    assert all(c.layout.display != "none" for c in cards)


def test_the_slips_are_drawn_and_unfolded_by_clicks():
    game = widgets.SlipsGame(seed=0)
    folded = game.picture.value
    game.unfold.click()
    assert game.picture.value != folded and "1 of 6" in game.message.value
    for _ in range(7):
        game.unfold.click()
    assert "sentence" in game.message.value
    game.colour.value = "author"
    assert "0 of 6" in game.message.value
    for _ in range(4):
        game.draw.click()
    assert "0 of 6" in game.message.value and game.draws == 5
    for _ in range(6):
        game.unfold.click()
    assert "of 5 draws were sentences" in game.message.value


def test_interactives_of_the_lesson_carry_pictures():
    for view in (widgets.ClaimBoard(CLAIMS[:3]), widgets.SlipsGame(), widgets.PromptBox(pipe)):
        assert view._repr_mimebundle_()["image/png"]
        assert isinstance(view, Interactive) and "0x" not in repr(view)
