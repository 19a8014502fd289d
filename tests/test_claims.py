"""The cards are complete, and the slips count as the lesson says."""

from collections import Counter
from itertools import product
from pathlib import Path

import pytest
import torch

from sora_edu.course.claims import (
    CLAIMS,
    ROLES,
    SLIPS,
    VERDICTS,
    Claim,
    draw_slips,
    is_sentence,
    of_lesson,
    read_slips,
    table,
    take_slips,
)
from sora_edu.errors import InputError

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


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


def test_every_card_is_shown_by_one_lesson_that_there_is():
    lessons = [path.name[:2] for path in sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))]
    assert sum(len(of_lesson(lesson)) for lesson in lessons) == len(CLAIMS)
    assert Counter(card.badge for card in CLAIMS) == {"stated": 12, "inferred": 11, "unknown": 6}
    for path in NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"):
        shown = f'of_lesson(\\"{path.name[:2]}\\")' in path.read_text()
        assert shown == bool(of_lesson(path.name[:2])), path.name


def test_an_unknown_badge_or_verdict_is_refused_by_name():
    with pytest.raises(InputError, match="verdict='maybe'.*holds, half right, wrong, not known"):
        Claim("x", "A.", "maybe", "stated", "s", "r.")
    with pytest.raises(InputError, match="badge='rumour'"):
        Claim("x", "A.", VERDICTS[0], "rumour", "s", "r.")


def test_a_table_has_a_row_for_each_card():
    lines = table(of_lesson("02")).splitlines()
    assert len(lines) == 2 + 3 and all(line.count("|") == 6 for line in lines)


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
