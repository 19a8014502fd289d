"""Bad prompts become clear errors; expanded prompts keep all that was said, and say all that a caption can say."""

import itertools
import warnings

import pytest
import torch
from hypothesis import given, settings, strategies as st

from sora_edu.config import WorldConfig
from sora_edu.errors import PromptError, UnknownWordWarning
from sora_edu.model.tokenizer import Tokenizer
from sora_edu.world.captions import Thing, caption, described, parse_caption, write
from sora_edu.world.prompts import LONGEST_PROMPT, check_prompt, expand_prompt, is_trained, keeps
from sora_edu.world.scenes import sample_state
from sora_edu.world.state import cat_states
from sora_edu.world.vocabulary import COLOURS, MOTIONS, SCENES, SHAPES, SIZES


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def stated(before, after) -> bool:
    """Every attribute of the first meaning stands in the second: written apart from ``keeps``."""
    same = [(before.background, after.background), (before.pan or None, after.pan), (before.scene, after.scene)]
    for one, two in itertools.zip_longest(before.objects, after.objects, fillvalue=Thing()):
        same += list(zip(one, two, strict=True))
    return all(a is None or a == b for a, b in same)


@pytest.fixture(scope="module")
def state():
    """Clips of all scenes."""
    config = WorldConfig(frames=1, pan_fraction=0.3)
    return cat_states([sample_state(80, config, split="all", scene=s, generator=seeded(1)) for s in SCENES])


@pytest.mark.parametrize("style", ["short", "full"])
def test_every_caption_of_the_world_keeps_what_it_says(state, style):
    generator = seeded()
    for text, meaning in zip(
        caption(state, style=style, generator=seeded(2)), described(state, style=style), strict=True
    ):
        full = parse_caption(expand_prompt(text, generator=generator))
        assert stated(meaning, full), (text, full)


def test_a_full_caption_stays_as_it_is(state):
    for meaning in described(state, style="full"):
        assert expand_prompt(write(meaning), generator=seeded()) == write(meaning)


attribute = [st.sampled_from([None, *names]) for names in (SHAPES, COLOURS, SIZES, MOTIONS)]


@settings(max_examples=150, deadline=None)
@given(st.tuples(*attribute), st.sampled_from(["", " on a navy background"]), st.integers(0, 99))
def test_any_attributes_of_one_object_are_kept_and_the_rest_is_filled(values, ground, seed):
    shape, colour, size, motion = values
    verb = {None: "", "left": "moves left", "right": "moves right", "up": "moves up", "down": "moves down"}
    words = [size, colour, shape, verb.get(motion, motion)]
    prompt = " ".join(word for word in words if word) + ground
    if not prompt.strip():
        return
    full = parse_caption(expand_prompt(prompt, generator=seeded(seed)))
    assert stated(parse_caption(prompt), full)
    assert full.background and all(full.objects[0]) and len(full.objects) == 1


def test_expansion_is_decided_by_the_generator_and_varies_with_it():
    many = [expand_prompt("a ring", generator=seeded(seed)) for seed in range(40)]
    assert many == [expand_prompt("a ring", generator=seeded(seed)) for seed in range(40)]
    assert len(set(many)) > 30
    assert {parse_caption(text).background for text in many} == {"black", "grey", "navy"}


def test_what_is_drawn_was_in_training_and_two_objects_differ_in_colour():
    generator = seeded()
    for prompt in (
        "a circle",
        "something yellow falls",
        "a ring and a star",
        "a star hits a box",
        "a ball behind a bar",
    ):
        for _ in range(30):
            meaning = parse_caption(expand_prompt(prompt.replace("something ", ""), generator=generator))
            assert all(is_trained(thing, meaning.scene) for thing in meaning.objects), meaning
            assert len({thing.colour for thing in meaning.objects}) == len(meaning.objects)


def test_a_combination_that_was_held_out_is_kept_when_it_is_asked_for():
    meaning = parse_caption(expand_prompt("a yellow circle moves up", generator=seeded()))
    assert meaning.objects[0][:2] == ("circle", "yellow") and meaning.objects[0].motion == "up"


def test_synonyms_and_inflections_are_understood():
    meaning = parse_caption(expand_prompt("a huge crimson ball, dropping", generator=seeded()))
    assert meaning.objects == (Thing("circle", "red", "large", "falls"),)


@pytest.mark.parametrize(("prompt", "part"), [("", "is empty"), ("a dog runs", "no word that this model")])
def test_errors_are_those_of_check_prompt(prompt, part):
    with pytest.raises(PromptError, match=part):
        expand_prompt(prompt, generator=seeded())


def test_an_unknown_word_warns_and_is_left_out():
    with pytest.warns(UnknownWordWarning, match="pink"):
        text = expand_prompt("a pink circle", generator=seeded())
    assert "pink" not in text and "circle" in text


@pytest.mark.parametrize(
    "prompt",
    [
        "a red circle, a blue star and a green ring",
        "a red circle behind a blue star",
        "a red box hits a star that rises",
    ],
)
def test_what_the_grammar_cannot_keep_is_refused(prompt):
    with pytest.raises(PromptError, match="cannot be said in full"):
        expand_prompt(prompt, generator=seeded())


@pytest.mark.parametrize(
    ("before", "after", "kept"),
    [
        ("a red circle", "a small red circle falls", True),
        ("a red circle", "a small circle falls", False),
        ("a red circle", "a blue circle", False),
        ("a circle on a navy background", "a red circle", False),
        ("a circle, the camera pans left", "a circle", False),
        ("a circle and a star", "a circle", False),
        ("a circle hits a star", "a circle and a star", False),
    ],
)
def test_keeps_notices_every_loss(before, after, kept):
    assert keeps(parse_caption(before), parse_caption(after)) is kept


def test_a_good_prompt_passes_silently():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check_prompt("  A red circle, FALLING! ") == "a red circle falls"
        assert check_prompt("please show me a red circle falling") == "please show me a red circle falls"


@pytest.mark.parametrize("prompt", ["", " \n\t ", "\u3000"])
def test_an_empty_prompt_is_refused(prompt):
    with pytest.raises(PromptError, match='the prompt is empty; try "a red circle falls"'):
        check_prompt(prompt)


def test_a_long_prompt_is_refused_with_its_length():
    assert check_prompt("red " * (LONGEST_PROMPT // 4))
    with pytest.raises(PromptError, match="the prompt has 1,000,000 characters; use at most 1,000"):
        check_prompt("red " * 250_000)


STRANGE = ["the of", "🎈🎈", "\x00\x00", "%s {0} ${HOME}", "צורה אדומה", "../../etc/passwd", "\ud800", "\u202e"]


@pytest.mark.parametrize("prompt", STRANGE)
def test_a_prompt_without_known_words_names_some(prompt):
    with pytest.raises(
        PromptError, match=r"has no word that this model knows.*circle, star.*red, blue.*falls"
    ) as caught:
        check_prompt(prompt)
    assert str(caught.value).isprintable()


def test_unknown_words_are_named_with_their_closest():
    with pytest.warns(UnknownWordWarning) as caught:
        assert check_prompt("a read circel falls on a dog") == "a read circel falls on a dog"
    message = str(caught[0].message)
    assert len(caught) == 1 and "'read' (closest: red)" in message and "'circel' (closest: circle)" in message
    assert message.endswith("'dog'")
    with pytest.raises(PromptError, match=r"unknown: 'cirle' \(closest: circle\)"):
        check_prompt("a cirle")


@pytest.mark.parametrize(
    "prompt",
    [
        "red <script>alert(1)</script>",
        "red \u202eelcric\x00\x1b[31m",
        "red %s%n {0.__class__} `id` $(id)",
        "red /etc/../\\\\host\\x",
        "red " + "z" * 990,
        "red " + " ".join(f"q{i}" for i in range(190)),
        "red " + "\ufdfa" * 990,  # one letter that normalises to eighteen
        "red \ud800 lone surrogate",
    ],
)
def test_hostile_prompts_are_inert_and_deterministic(prompt):
    with pytest.warns(UnknownWordWarning) as caught:
        text, again = check_prompt(prompt), check_prompt(prompt)
    message = str(caught[0].message)
    assert text == again and all(ch.isalnum() or ch == " " for ch in text)
    assert len(message) < 1_000 and message.isprintable() and not set("<>\\/%{}$`") & set(message)
    assert Tokenizer().decode(Tokenizer().encode([prompt], max_tokens=32)[0]) == ["red"]
