"""The pictures of lesson 00 show what they say, and draw the same bytes every time."""

import pytest

from sora_edu.course.claims import CLAIMS, take_slips
from sora_edu.course.lesson_00 import figures

PICTURES = {
    "map": lambda: figures.show_pipeline_map(),
    "board": lambda: figures.show_claims(CLAIMS),
    "slips": lambda: figures.show_slips([take_slips("author", (0, 0, 1, 2, 3, 4))], colour="author"),
    "folded": lambda: figures.show_slips([take_slips("author", (0, 0, 1, 2, 3, 4))], colour="author", opened=2),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_a_picture_draws_the_same_bytes_again(kind):
    picture = PICTURES[kind]()
    assert picture.png() == PICTURES[kind]().png() and len(picture.png()) < 100_000
    assert picture._repr_mimebundle_()["text/plain"].startswith("<picture: ")


def test_folded_slips_hide_their_words():
    def shown(opened):
        return [t.get_text() for ax in figures.show_slips(DRAW, colour="role", opened=opened).axes for t in ax.texts]

    DRAW = [take_slips("role", (0, 0, 0, 0, 0, 0))]
    assert "octopus" in shown(6) and "octopus" not in shown(1) and "sleepy" in shown(1)


def test_the_board_picture_names_every_card_once():
    words = [text.get_text() for ax in figures.show_claims(CLAIMS).axes for text in ax.texts]
    for card in CLAIMS:
        assert words.count(card.claim) == 1
