"""Captions say exactly what their style promises, in words that can be read back."""

from dataclasses import replace

import pytest
import torch

from sora_edu.config import WorldConfig
from sora_edu.errors import InputError, PromptError
from sora_edu.world.captions import (
    STYLES,
    Parsed,
    Thing,
    caption,
    described,
    parse_caption,
    prompt_for,
    split_words,
    words,
    write,
)
from sora_edu.world.scenes import make_state, sample_state
from sora_edu.world.state import cat_states
from sora_edu.world.vocabulary import BACKGROUNDS, COLOURS, MOTIONS, SCENES, SHAPES, SIZES
from sora_edu.world.wordings import INFLECTIONS


@pytest.fixture(scope="module")
def state():
    """Clips of all scenes, about a third of the single ones with a panning camera."""
    generator, config = torch.Generator().manual_seed(1), WorldConfig(frames=1, pan_fraction=0.3)
    return cat_states([sample_state(500, config, split="all", scene=s, generator=generator) for s in SCENES])


def the(shape=None, colour=None, size=None, motion=None, **rest) -> Parsed:
    return Parsed(objects=(Thing(shape, colour, size, motion),), **rest)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("synonyms", [False, True])
def test_parsing_inverts_captioning(state, style, synonyms, generator):
    captions = caption(state, style=style, generator=generator if synonyms else None)
    meanings = described(state, style=style)
    wrong = [(c, m) for c, m in zip(captions, meanings, strict=True) if parse_caption(c) != m]
    assert not wrong, wrong[:3]
    assert max(len(split_words(c)) for c in captions) <= 31  # one start token and these fit the text encoder


def test_described_says_what_the_state_holds(state):
    for i, (short, full) in enumerate(zip(described(state), described(state, style="full"), strict=True)):
        assert short.scene == full.scene == SCENES[state.scene[i]]
        assert short.pan == full.pan == int(state.pan[i].sign())
        assert short.background is None and full.background == BACKGROUNDS[state.background[i]]
        for k, (brief, thing) in enumerate(zip(short.objects, full.objects, strict=True)):
            assert brief[:2] == thing[:2] == (SHAPES[state.shape[i, k]], COLOURS[state.colour[i, k]])
            assert brief.size is None and thing.size == SIZES[state.size[i, k]]
            told = (MOTIONS[state.motion[i, k]],) * 2
            if short.scene in ("collides", "behind"):
                told = (None, told[1] if k == 0 else None)
            assert (brief.motion, thing.motion) == told


def test_canonical_captions_read_as_promised():
    state = make_state(WorldConfig(frames=1), size="large")
    assert caption(state) == ["a red circle falls"]
    assert caption(state, style="full") == ["a large red circle falls on a black background"]
    two = (Thing("circle", "red"), Thing("square", "blue"))
    assert write(Parsed("collides", objects=two)) == "a red circle collides with a blue square"
    moving = (Thing("circle", "red", motion="falls"), Thing("square", "blue", motion="up"))
    assert write(Parsed("pair", objects=moving)) == "a red circle falls and a blue square moves up"
    assert write(Parsed("behind", objects=two[:1])) == "a red circle passes behind a bar"
    assert write(the("circle", "red", motion="left", scene="behind")) == "a red circle moves left behind a bar"
    assert write(the("star", "orange", motion="still", pan=-1)) == "an orange star stays still, the camera pans left"


def test_the_vocabulary_is_what_the_grammar_writes(state, generator):
    written = {word for style in STYLES for c in caption(state, style=style, generator=generator) for word in c.split()}
    assert {word.strip(",") for word in written} == set(words())
    assert list(words()) == sorted(words())
    assert not set(INFLECTIONS) & set(words()) and set(INFLECTIONS.values()) <= set(words())


def test_synonyms_follow_the_generator_and_leave_half_of_the_words_canonical(state):
    first, again, other = (caption(state, generator=torch.Generator().manual_seed(s)) for s in (5, 5, 6))
    assert first == again != other
    falls = [c for c, m in zip(first, described(state), strict=True) if m.scene == "single" and "falls" in m.objects[0]]
    share = sum("falls" in c for c in falls) / len(falls)
    assert 0.35 < share < 0.65 and any("drops" in c for c in falls) and any("is dropped" in c for c in falls)


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("please show me a red circle falling", the("circle", "red", motion="falls")),
        ("A RED   Circle... FALLS!!", the("circle", "red", motion="falls")),
        ("the falling red ball", the("circle", "red", motion="falls")),
        ("a ball that is red and falls", the("circle", "red", motion="falls")),
        ("a red circle falls down", the("circle", "red", motion="falls")),
        ("a blue box moving slowly left", the("square", "blue", motion="left")),
        ("a square moving in circles", the("square", motion="orbits")),
        ("a green hoop doesn't move", the("ring", "green", motion="still")),
        ("a green hoop isn’t moving", the("ring", "green", motion="still")),
        ("a mid-sized star going around in a circle", the("star", size="medium", motion="orbits")),
        ("a small star gets bigger", the("star", size="small", motion="grows")),
        ("a star on a gray background", the("star", background="grey")),
        ("a star on navy", the("star", background="navy")),
        ("a star on a white background", the("star")),
        ("a black star", the("star")),
        ("a star rises while the camera is panning to the right", the("star", motion="up", pan=1)),
        ("a star slides to the left behind the bar", the("star", motion="left", scene="behind")),
        ("something red falls", the(colour="red", motion="falls")),
        ("", Parsed()),
        ("colourless green-ish ideas %s {0} \x00 🎈 ../..", Parsed(objects=(Thing(colour="green"),))),
        (
            "a red circle and a falling blue square",
            Parsed("pair", objects=(Thing("circle", "red"), Thing("square", "blue", motion="falls"))),
        ),
        (
            "red circle falls, blue square moves up",
            Parsed("pair", objects=(Thing("circle", "red", motion="falls"), Thing("square", "blue", motion="up"))),
        ),
        (
            "a red disk bumping into a blue square",
            Parsed("collides", objects=(Thing("circle", "red"), Thing("square", "blue"))),
        ),
    ],
)
def test_readers_may_word_it_their_own_way(text, meaning):
    assert parse_caption(text) == meaning


def test_steady_and_free_fall_stay_apart():
    assert parse_caption("a red circle sinks").objects[0].motion == "down"
    assert parse_caption("a red circle drops").objects[0].motion == "falls"
    assert parse_caption("a red circle moves up").objects[0].motion == "up"
    assert parse_caption("a red circle hops").objects[0].motion == "bounces"


def test_prompt_for_is_read_back_for_every_name():
    for shape in SHAPES:
        for colour in COLOURS:
            for motion in MOTIONS:
                text = prompt_for(shape, colour, motion)
                assert parse_caption(text) == the(shape, colour, motion=motion)
    full = prompt_for("star", "red", "falls", size="large", background="navy", pan=1)
    assert full == "a large red star falls on a navy background, the camera pans right"
    assert prompt_for("star") == "a star"


def test_unknown_names_and_styles_are_refused_with_the_known_ones(state):
    with pytest.raises(InputError, match="'hexagon' is not in this world; use one of circle, square"):
        prompt_for("hexagon", "red", "falls")
    with pytest.raises(InputError, match="'pink' is not in this world; use one of red"):
        prompt_for("star", "pink", "falls")
    with pytest.raises(InputError, match="style='long' is unknown; use short or full"):
        caption(state, style="long")


@pytest.mark.parametrize(
    ("meaning", "message"),
    [
        (Parsed(), "scene='single' needs 1 objects to be worded, but has 0"),
        (the("star", scene="pair"), "scene='pair' needs 2 objects to be worded, but has 1"),
        (the(None, "red"), "None is not in this world; use one of circle"),
        (the("star", "pink"), "'pink' is not in this world; use one of red"),
        (the("star", motion="runs"), "'runs' is not in this world; use one of still"),
        (the("star", background="white"), "'white' is not in this world; use one of black"),
        (the("star", scene="crowd"), "'crowd' is not in this world; use one of single"),
    ],
)
def test_a_meaning_that_cannot_be_worded_is_refused(meaning, message):
    with pytest.raises(InputError, match=message):
        write(meaning)


def test_a_state_without_attributes_has_no_caption(state):
    with pytest.raises(InputError, match="state.motion is -1 for an object that is there"):
        caption(replace(state, motion=torch.full_like(state.motion, -1)))


def test_what_is_said_first_of_scene_ground_and_camera_counts():
    said = parse_caption("a star hits a ring behind a bar on a navy background, the camera pans left and pans right")
    assert (said.scene, said.background, said.pan) == ("collides", "navy", -1)


def test_only_text_is_read(as_a_user):
    with pytest.raises(PromptError, match='a prompt is text, but got NoneType; try "a red circle falls"'):
        parse_caption(None)
