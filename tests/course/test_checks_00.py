"""The checks of lesson 00 accept every right form and name the mistake in a wrong one."""

import pytest

from sora_edu.course.lesson_00 import checks
from sora_edu.world.captions import parse_caption
from sora_edu.world.prompts import check_prompt
from sora_edu.world.render import render
from sora_edu.world.scenes import make_state
from sora_edu.world.state import cat_states
from sora_edu.world.vocabulary import COLOURS, MOTIONS, SHAPES

# --- 00.4 ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer", [(46656, 720, 100 * 720 / 46656), (6**6, 720.0, 1.54), (46_656, 720, 720 / 46656), (46656, 720, 0.0154)]
)
def test_right_counts_in_any_form_are_right(answer):
    assert checks.slips(*answer)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ((720, 720, 1.54), "forbid two slips of one author"),
        ((36, 720, 1.54), "36 counts slips"),
        ((720**6, 720, 1.54), "empties the piles"),
        ((46656, 46656, 1.54), "counts all draws"),
        ((46656, 36, 1.54), "slips, not draws"),
        ((46656, 720, 64.8), "upside down"),
        ((46656, 720, 100), "where colour means role"),
        ((46656, 720, 16.6667), "one draw in six"),
        ((46656, 720, 2.0), "got 2"),
        ((46656, 720, "1.54 %"), "expected one number"),
    ],
)
def test_a_wrong_count_is_told_its_mistake(answer, told):
    result = checks.slips(*answer)
    assert not result and told in result.text


def test_counts_left_open_are_not_answered_yet():
    assert checks.slips(46656, ..., 1.54).verdict == "not answered yet"


# --- 00.3 ------------------------------------------------------------------------------------------------------------

RIGHT = {letter: card.badge for letter, card in checks.CARDS.items()}


def test_the_cards_asked_for_are_of_lesson_00_and_have_all_badges_and_verdicts():
    assert len(RIGHT) == 7 and set(RIGHT.values()) == {"stated", "inferred", "unknown"}
    assert {checks.CARDS[letter].verdict for letter in RIGHT} >= {"holds", "wrong", "not known"}
    assert {card.lesson for card in checks.CARDS.values()} == {"00"}


@pytest.mark.parametrize(
    "answer",
    [
        RIGHT,
        {letter.upper(): badge.title() for letter, badge in RIGHT.items()},
        list(RIGHT.values()),
        tuple(badge[0] for badge in RIGHT.values()),
        " ".join(RIGHT.values()),
        ", ".join(badge[0].upper() for badge in RIGHT.values()),
    ],
)
def test_right_badges_in_any_form_are_right(answer):
    assert checks.badges(answer)


@pytest.mark.parametrize(
    ("letter", "said", "told"),
    [
        ("a", "unknown", "badge is not the verdict"),
        ("g", "unknown", "a published paper settles"),
        ("b", "stated", "Being told often is no source"),
        ("d", "stated", "OpenAI does not say so"),
        ("e", "inferred", "No need to infer"),
        ("f", "inferred", "none of them settles"),
    ],
)
def test_a_wrong_badge_is_told_its_mistake(letter, said, told):
    result = checks.badges(RIGHT | {letter: said})
    assert not result and told in result.text and "6 of 7" in result.text
    assert checks.CARDS[letter].claim in result.text


def test_badges_of_another_form_are_told_what_is_expected():
    assert "'maybe' is no badge" in checks.badges(RIGHT | {"a": "maybe"}).text
    assert "no badge for g" in checks.badges({k: v for k, v in RIGHT.items() if k != "g"}).text
    assert "expected seven badges" in checks.badges(["stated"] * 6).text
    assert "expected seven badges" in checks.badges(7).text
    assert checks.badges(RIGHT | {"a": ...}).verdict == "not answered yet"
    assert checks.badges(...).verdict == checks.badges(dict.fromkeys(RIGHT, "")).verdict == "not answered yet"


def test_verdicts_taken_for_badges_are_told_apart():
    said = {"holds": "stated", "wrong": "unknown", "half right": "inferred", "not known": "unknown"}
    result = checks.badges({letter: said[card.verdict] for letter, card in checks.CARDS.items()})
    assert not result and "badge is not the verdict" in result.text


# --- 00.2 ------------------------------------------------------------------------------------------------------------

LINE = list(checks.PARTS)


@pytest.mark.parametrize(
    "answer",
    [
        LINE,
        tuple(part.upper() for part in LINE),
        ["noise", *(part for part in LINE if part != "noise")],
        " -> ".join(LINE),
    ],
)
def test_a_right_order_in_any_form_is_right(answer):
    assert checks.order(answer)


def moved(part: str, before: str) -> list[str]:
    """The right order with one part put before another."""
    rest = [p for p in LINE if p != part]
    rest.insert(rest.index(before), part)
    return rest


@pytest.mark.parametrize(
    ("answer", "told", "number"),
    [
        (["prompt", "VAE encoder", *LINE[1:]], "no video that it could encode", 20),
        (moved("VAE decoder", "VideoDiT"), "denoise first", 20),
        (moved("VAE decoder", "latent"), "latent comes before", 20),
        (moved("tokens", "prompt"), "prompt comes first", None),
        (moved("text encoder", "tokens"), "tokens come before", None),
        (moved("VideoDiT", "noise"), "starts from", None),
        (moved("latent", "VideoDiT"), "only noise", None),
        (moved("clip", "VAE decoder"), "puts out", None),
        (["prompt", "tokens", "noise", "VideoDiT", "text encoder", "latent", "VAE decoder", "clip"], "words", None),
        (LINE[:3] + LINE[4:], "noise is missing", None),
        ([*LINE, "VideoDiT"], "twice", None),
        ([*LINE[:-1], "movie"], "'movie' is no part", None),
        (7, "expected a list", None),
    ],
)
def test_a_wrong_order_is_told_its_mistake(answer, told, number):
    result = checks.order(answer)
    assert not result and told in result.text and result.misconception == number


def test_an_order_left_open_is_not_answered_yet():
    assert checks.order(...).verdict == checks.order([]).verdict == "not answered yet"


# --- 00.1 ------------------------------------------------------------------------------------------------------------


def perfect(texts):
    """A pipeline that always obeys: what the world itself draws."""
    things = [parse_caption(check_prompt(text)).objects[0] for text in texts]
    return render(cat_states([make_state(shape=t.shape, colour=t.colour, motion=t.motion) for t in things]))


def stubborn(texts):
    """A pipeline that draws the same for every prompt."""
    return render(cat_states([make_state(shape="ring", colour="white", motion="up")] * len(texts)))


@pytest.mark.parametrize(
    "answer",
    [
        ["a red circle falls", "a blue star moves left", "a green ring bounces"],
        ("Show me a crimson ball that drops!", "A BIG yellow square grows", "a hoop that is white and goes up"),
    ],
)
def test_known_prompts_are_right_and_told_what_the_tracker_reads(answer):
    result = checks.prompts(answer, perfect)
    assert result and "The tracker reads" in result.text and result.text.count("became") == 3
    assert all(any(names in result.text for names in group) for group in (SHAPES, COLOURS, MOTIONS))


def test_a_model_that_misses_does_not_make_a_known_prompt_wrong():
    result = checks.prompts(["a red circle falls", "a blue star moves left", "a green ring bounces"], stubborn)
    assert result and result.text.count("became 'a white ring moves up'") == 3


@pytest.mark.parametrize(
    ("third", "told"),
    [
        ("a dog runs in the park", "would refuse"),
        ("a pink ball hops", "unknown words are ignored: 'pink'"),
        ("a green ring", "names no motion"),
        ("a ring bounces", "names no colour"),
        ("green bounces", "names no shape"),
        ("a green ring bounces and a red star falls", "names 2 objects"),
        ("a green ring drops", "synonyms are one motion"),
        (7, "a prompt is text"),
    ],
)
def test_a_prompt_that_tiny_does_not_know_is_told_why(third, told):
    result = checks.prompts(["a red circle falls", "a blue star moves left", third], perfect)
    assert not result and told in result.text


def test_prompts_of_another_form_are_told_what_is_expected():
    assert "got one text" in checks.prompts("a red circle falls", perfect).text
    assert "three prompts" in checks.prompts(["a red circle falls"], perfect).text
    assert (
        checks.prompts([..., ..., ...], perfect).verdict == checks.prompts(..., perfect).verdict == "not answered yet"
    )
    assert checks.prompts(["a red circle falls", "", ""], perfect).verdict == "not answered yet"


@pytest.mark.parametrize(
    ("first", "told"),
    [
        ("a red blue circle falls", "2 colours, red and blue"),
        ("a red circle falls and orbits", "2 motions, falls and orbits"),
    ],
)
def test_a_thing_has_one_colour_and_one_motion(first, told):
    assert told in checks.prompts([first, "a blue star grows", "a green ring bounces"], lambda prompts: None).text
    assert "2 m" not in checks.prompts(["a red star moves in a circle", "a blue star grows", "x"], lambda p: None).text
