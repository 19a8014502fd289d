"""The cards are complete and the slips count as the lesson says; pictures and controls of lesson 00 answer."""

from collections import Counter
from itertools import product

import pytest
import torch

from sora_edu import plotting, widgets
from sora_edu.claims import (
    BADGES,
    CLAIMS,
    ROLES,
    SLIPS,
    VERDICTS,
    Claim,
    draw_slips,
    is_sentence,
    read_slips,
    table,
    take_slips,
    with_badge,
)
from sora_edu.errors import InputError
from sora_edu.render import render
from sora_edu.world import make_state


def test_every_card_is_complete_and_its_own():
    assert len({card.key for card in CLAIMS}) == len({card.claim for card in CLAIMS}) == len(CLAIMS) == 29
    for card in CLAIMS:
        assert card.claim.endswith(".") and card.reason.endswith((".", ".)")) and card.source
        assert "|" not in card.claim + card.reason + card.source, "a bar would break the table"


def test_what_holds_is_stated_and_what_nobody_settles_has_no_verdict():
    assert sum(card.verdict == "holds" for card in CLAIMS) == 8
    for card in CLAIMS:
        assert (card.verdict == "not known") == (card.badge == "unknown"), card.key
        assert card.verdict != "holds" or card.badge == "stated", card.key
        assert card.badge != "stated" or "report" in card.source, card.key


def test_numbers_of_the_cards_follow_from_their_sources():
    said = {card.key: card.reason for card in CLAIMS}
    assert f"{118.64 / 23.01:.2f}" in said["ratio"] and f"{16 / (118.64 / 23.01):.2f}" in said["ratio"]
    assert 15.5 < 118.64 / 7.39 < 16.5, "XL/8 to XL/2 is 16 times the compute"
    assert str(((224 - 16) // 8 + 1) ** 2) in said["tubelets"] and str((224 // 16) ** 2) in said["tubelets"]
    assert f"{6**6:,}" in said["slips"] and "720" in said["slips"]


def test_the_badges_share_out_all_cards():
    assert sum(len(with_badge(badge)) for badge in BADGES) == len(CLAIMS)
    assert Counter(card.badge for card in CLAIMS) == {"stated": 12, "inferred": 11, "unknown": 6}


def test_an_unknown_badge_or_verdict_is_refused_by_name():
    with pytest.raises(InputError, match="badge='sure' is none of stated, inferred, unknown"):
        with_badge("sure")
    with pytest.raises(InputError, match="verdict='maybe'.*holds, half right, wrong, not known"):
        Claim("x", "A.", "maybe", "stated", "s", "r.")
    with pytest.raises(InputError, match="badge='rumour'"):
        Claim("x", "A.", VERDICTS[0], "rumour", "s", "r.")


def test_a_table_has_a_row_for_each_card():
    lines = table(with_badge("unknown")).splitlines()
    assert len(lines) == 2 + 6 and all(line.count("|") == 5 for line in lines)


def test_there_are_36_different_slips():
    assert len(SLIPS) == 6 and {len(row) for row in SLIPS} == {len(ROLES)} == {6}
    assert len({text for row in SLIPS for text in row}) == 36


def test_where_colour_is_role_every_draw_is_another_sentence():
    draws = [take_slips("role", picks) for picks in product(range(6), repeat=6)]
    assert len(set(draws)) == 46_656 and all(map(is_sentence, draws))


def test_where_colour_is_author_720_of_46656_draws_are_sentences():
    draws = [take_slips("author", picks) for picks in product(range(6), repeat=6)]
    assert len(draws) == 46_656 and sum(map(is_sentence, draws)) == 720


def test_each_author_gives_one_slip_where_colour_is_author():
    assert [slip.author for slip in take_slips("author", (5, 4, 3, 2, 1, 0))] == [0, 1, 2, 3, 4, 5]
    assert [slip.role for slip in take_slips("role", (5, 4, 3, 2, 1, 0))] == [0, 1, 2, 3, 4, 5]


def test_a_sentence_is_read_by_role_and_anything_else_as_drawn():
    assert read_slips(take_slips("role", (0, 1, 2, 3, 4, 5))) == (
        "a sleepy robot follows a piano behind the school after the rain"
    )
    assert read_slips(take_slips("author", (5, 4, 3, 2, 1, 0))) == (
        "a striped dragon repairs a balloon on the roof at midnight"
    )
    assert read_slips(take_slips("author", (0, 0, 0, 0, 0, 0))) == "? sleepy golden tiny nervous paper striped"


def test_a_draw_is_fair_and_the_same_for_the_same_seed(generator):
    again = torch.Generator().manual_seed(0)
    draws = [draw_slips("author", generator=generator) for _ in range(1200)]
    assert draws[:5] == [draw_slips("author", generator=again) for _ in range(5)]
    counts = Counter(draw[3].role for draw in draws)
    assert set(counts) == set(range(6)) and all(140 < n < 260 for n in counts.values())


def test_another_meaning_of_colour_is_refused():
    with pytest.raises(InputError, match="colour='red' means nothing here; use role or author"):
        draw_slips("red")


# --- pictures and controls -------------------------------------------------------------------------------------------


def pipe(prompts, *, seed=0, **_):
    """Stands for the pipeline: what the toy world itself would draw."""
    return render(make_state(shape="star", colour="blue", motion="left", seed=seed)).expand(
        len(prompts), -1, -1, -1, -1
    )


PICTURES = {
    "map": lambda: plotting.show_pipeline_map(),
    "board": lambda: plotting.show_claims(CLAIMS),
    "slips": lambda: plotting.show_slips([take_slips("author", (0, 0, 1, 2, 3, 4))], colour="author"),
    "folded": lambda: plotting.show_slips([take_slips("author", (0, 0, 1, 2, 3, 4))], colour="author", opened=2),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_a_picture_draws_the_same_bytes_again(kind):
    picture = PICTURES[kind]()
    assert picture.png() == PICTURES[kind]().png() and len(picture.png()) < 100_000
    assert picture._repr_mimebundle_()["text/plain"].startswith("<picture: ")


def test_folded_slips_hide_their_words():
    def shown(opened):
        return [t.get_text() for ax in plotting.show_slips(DRAW, colour="role", opened=opened).axes for t in ax.texts]

    DRAW = [take_slips("role", (0, 0, 0, 0, 0, 0))]
    assert "octopus" in shown(6) and "octopus" not in shown(1) and "sleepy" in shown(1)


def test_the_board_picture_names_every_card_once():
    words = [text.get_text() for ax in plotting.show_claims(CLAIMS).axes for text in ax.texts]
    for card in CLAIMS:
        assert words.count(card.claim) == 1


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
    from sora_edu.prompts import check_prompt

    box = widgets.PromptBox(lambda prompts, **options: pipe([check_prompt(p) for p in prompts], **options))
    box.prompt.value = "<b>a dog</b>"
    box.button.click()
    assert "no word that this model knows" in box.message.value and "<b>a dog" not in box.message.value
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
    assert back.layout.display != "none" and CLAIMS[0].reason in back.value and "holds" in back.value
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
        assert isinstance(view, widgets.Interactive) and "0x" not in repr(view)
