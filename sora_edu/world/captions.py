"""A small grammar that writes what a clip shows as a caption, and reads a caption back.

``Parsed`` is the meaning between the two: ``described`` takes it from a state, ``write`` words it, and
``parse_caption`` recovers it. The first wording of each list is the canonical one; the others are synonyms (lesson 01).
"""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import NamedTuple

import torch

from sora_edu.checked import checked
from sora_edu.errors import InputError, PromptError
from sora_edu.world.state import State, check_state
from sora_edu.world.vocabulary import BACKGROUNDS, COLOURS, MOTIONS, SCENES, SHAPES, SIZES, check_name
from sora_edu.world.wordings import (
    BEHIND_WORDS,
    COLLIDE_FORMS,
    COLOUR_WORDS,
    GROUND_FORMS,
    INFLECTIONS,
    MOTION_WORDS,
    PAIR_FORMS,
    PAN_FORMS,
    SHAPE_WORDS,
    SIZE_WORDS,
)

STYLES = ("short", "full")


class Thing(NamedTuple):
    """One object of a caption; None for what is not said."""

    shape: str | None = None
    colour: str | None = None
    size: str | None = None
    motion: str | None = None


@dataclass(frozen=True)
class Parsed:
    """What a caption says, in the names of ``vocabulary``: None, or no pan, for what it does not say."""

    scene: str = "single"
    background: str | None = None
    pan: int = 0  # -1 the camera moves left, 1 right
    objects: tuple[Thing, ...] = ()


# --- from a state to its meaning and its caption ---------------------------------------------------------------------


@checked
def described(state: State, *, style: str = "short") -> list[Parsed]:
    """Say what a caption of the style mentions: ``full`` adds sizes, backgrounds and directions; both name a pan.

    Raises InputError for an unknown style, and for a state whose objects lack an attribute (see ``check_state``).
    """
    if style not in STYLES:
        raise InputError(f"style={style!r} is unknown; use short or full")
    check_state(state, "colour", "size", "motion")
    full = style == "full"
    meanings = []
    fields = (state.scene, state.background, state.pan, state.shape, state.colour, state.size, state.motion)
    for scene, ground, pan, *attributes in zip(*(field.tolist() for field in fields), strict=True):
        scene = SCENES[scene]
        things = []
        for k, (shape, colour, size, motion) in enumerate(zip(*attributes, strict=True)):
            if shape < 0:
                continue
            # Who is hit just waits, and the short form does not say from which side the other object comes.
            moves = scene in ("single", "pair") or (full and k == 0)
            thing = Thing(SHAPES[shape], COLOURS[colour])
            thing = thing._replace(size=SIZES[size]) if full else thing
            things.append(thing._replace(motion=MOTIONS[motion]) if moves else thing)
        background = BACKGROUNDS[ground] if full else None
        meanings.append(Parsed(scene, background, (pan > 0) - (pan < 0), tuple(things)))
    return meanings


def canonical(wordings: tuple[str, ...]) -> str:
    """Choose the first wording."""
    return wordings[0]


def write(meaning: Parsed, choose: Callable[[tuple[str, ...]], str] = canonical) -> str:
    """Word a meaning; ``choose`` picks one of each list of wordings.

    Each object needs a shape, and ``pair`` and ``collides`` need two objects: InputError says what is missing.
    """
    check_name(meaning.scene, SCENES)
    needed = 2 if meaning.scene in ("pair", "collides") else 1
    if len(meaning.objects) != needed:
        raise InputError(f"scene={meaning.scene!r} needs {needed} objects to be worded, but has {len(meaning.objects)}")
    names = [_noun(thing, choose) for thing in meaning.objects]
    moves = [choose(MOTION_WORDS[thing.motion]) if thing.motion else "" for thing in meaning.objects]
    clauses = [f"{name} {move}".strip() for name, move in zip(names, moves, strict=True)]
    if meaning.scene == "single":
        text = clauses[0]
    elif meaning.scene == "pair":
        text = choose(PAIR_FORMS).format(first=clauses[0], second=clauses[1])
    elif meaning.scene == "collides":
        first = f"{clauses[0]} and" if moves[0] else clauses[0]
        text = choose(COLLIDE_FORMS).format(first=first, second=names[1])
    else:
        text = f"{clauses[0]} behind a bar" if moves[0] else f"{names[0]} {choose(BEHIND_WORDS)}"
    if meaning.background is not None:
        check_name(meaning.background, BACKGROUNDS)
        text = choose(GROUND_FORMS).format(what=text, ground=meaning.background)
    if meaning.pan:
        text = choose(PAN_FORMS).format(what=text, side="right" if meaning.pan > 0 else "left")
    return text


def _noun(thing: Thing, choose: Callable[[tuple[str, ...]], str]) -> str:
    for value, names in zip(thing, (SHAPES, COLOURS, SIZES, MOTIONS), strict=True):
        if value is not None or names is SHAPES:
            check_name(value, names)
    size = choose(SIZE_WORDS[thing.size]) if thing.size else ""
    colour = choose(COLOUR_WORDS[thing.colour]) if thing.colour else ""
    phrase = " ".join(part for part in (size, colour, choose(SHAPE_WORDS[thing.shape])) if part)
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


@checked
def caption(state: State, *, style: str = "short", generator: torch.Generator | None = None) -> list[str]:
    """Write one caption a clip: "a red circle falls", or in full "a large red circle falls on a black background".

    Without a generator all words are canonical; with one, each is a synonym half of the time where there is any.
    Raises InputError for an unknown style.
    """
    meanings = described(state, style=style)
    if generator is None:
        return [write(meaning) for meaning in meanings]
    rows = torch.rand(len(meanings), 16, generator=generator, device=generator.device).tolist()
    return [write(meaning, _chooser(row)) for meaning, row in zip(meanings, rows, strict=True)]


def _chooser(uniforms: list[float]) -> Callable[[tuple[str, ...]], str]:
    numbers = iter(uniforms)

    def choose(wordings):
        u = next(numbers)
        if u < 0.5 or len(wordings) == 1:
            return wordings[0]
        return wordings[1 + int((2 * u - 1) * (len(wordings) - 1))]

    return choose


def prompt_for(
    shape: str,
    colour: str | None = None,
    motion: str | None = None,
    size: str | None = None,
    background: str | None = None,
    pan: int = 0,
) -> str:
    """Write the canonical caption of one object from its names; None leaves an attribute out.

    Raises InputError naming the known words where a name is unknown.
    """
    return write(Parsed("single", background, pan, (Thing(shape, colour, size, motion),)))


@cache
def words() -> tuple[str, ...]:
    """All words that the grammar can write, sorted: the vocabulary."""
    tables = (SHAPE_WORDS, COLOUR_WORDS, SIZE_WORDS, MOTION_WORDS)
    wordings = [text for table in tables for texts in table.values() for text in texts]
    wordings += [*BEHIND_WORDS, *PAIR_FORMS, *COLLIDE_FORMS, *GROUND_FORMS, *PAN_FORMS, *BACKGROUNDS, "a an left right"]
    return tuple(sorted(set(re.findall(r"[a-z]+", re.sub(r"\{\w+\}", "", " ".join(wordings))))))


# --- from a caption to its meaning -----------------------------------------------------------------------------------


def split_words(text: str) -> list[str]:
    """Lower-case words of a text, other forms of a known word mapped to it ("falling" to "falls"); no punctuation."""
    if not isinstance(text, str):
        raise PromptError(f'a prompt is text, but got {type(text).__name__}; try "a red circle falls"')
    text = unicodedata.normalize("NFKC", text).lower().replace("n't", " not").replace("n’t", " not")
    return [INFLECTIONS.get(word, word) for word in re.findall(r"[^\W_]+", text)]


@cache
def _phrases() -> dict[tuple[str, ...], tuple[str, str | int | None]]:
    """All phrases that mean something, without articles: the written ones, and more that a reader may type."""
    table = {}

    def add(kind, value, *texts):
        for text in texts:
            table[tuple(word for word in text.split() if word not in ("a", "an", "the"))] = (kind, value)

    groups = {"shape": SHAPE_WORDS, "colour": COLOUR_WORDS, "size": SIZE_WORDS, "motion": MOTION_WORDS}
    for kind, group in groups.items():
        for value, texts in group.items():
            add(kind, value, *texts)
    add("motion", "still", "still", "not move", "not moves")
    add("motion", "falls", "falls down", "drops down")
    add("motion", "orbits", "moves round in circle", "moves in circle", "goes in circle", "goes round")
    verbs = ("move", "moves", "goes", "slides", "passes")
    for verb, to, side in product(verbs, ("", "to"), ("left", "right", "up", "down")):
        add("motion", side, f"{verb} {to} {side}")
    for verb, to, side in product(("pans", "move", "moves", "goes", "slides"), ("", "to"), ("left", "right")):
        add("pan", 1 if side == "right" else -1, f"camera {verb} {to} {side}")
        add("pan", 1 if side == "right" else -1, f"pans {to} {side}")
    add("scene", "collides", "collides", "hits", "bumps")
    add("scene", "behind", "behind")
    for ground in BACKGROUNDS:
        add("background", ground, *(f"{word} {ground}" for word in ("on", "against", "over", "of", "background")))
        add("background", ground, f"{ground} background")
    for colour in (text for texts in COLOUR_WORDS.values() for text in texts):
        add("nothing", None, f"{colour} background")  # no such background: it must not colour the object
    add("and", None, "and", "while")
    return table


def _tags(text: str) -> list[tuple[str, str | int | None]]:
    """Read phrases from left to right, the longest first; words of no phrase are skipped."""
    phrases = _phrases()
    known = {word for phrase in phrases for word in phrase}
    longest = max(map(len, phrases))
    tokens = [word for word in split_words(text) if word in known]
    found = []
    i = 0
    while i < len(tokens):
        for n in range(longest, 0, -1):
            if (tag := phrases.get(tuple(tokens[i : i + n]))) and i + n <= len(tokens):
                found.append(tag)
                break
        i += n
    return found


def parse_caption(text: str) -> Parsed:
    """Read what a caption says of scene, background, camera and objects; unknown words are skipped.

    Colours and sizes belong to the shape that follows, a motion to the shape before it in the same clause, and what
    then remains to the last object: "a falling red ball", "a ball that is red and falls" are the same. Time is linear.
    """
    things: list[dict[str, str]] = []
    once = {}  # scene, background and pan: what is said first counts
    waiting = {}  # attributes whose object has not come yet
    open_clause = False  # whether a motion would belong to the object before it

    def give_rest():
        if things:
            things[-1].update({kind: waiting.pop(kind) for kind in list(waiting) if kind not in things[-1]})

    for kind, value in _tags(text):
        if kind == "shape":
            things.append({"shape": value, **waiting})
            waiting = {}
            open_clause = True
        elif kind == "motion" and open_clause:
            things[-1].setdefault("motion", value)
        elif kind in ("colour", "size", "motion"):
            waiting.setdefault(kind, value)
        elif kind == "and":
            give_rest()
            open_clause = False
        elif kind in ("scene", "background", "pan"):
            once.setdefault(kind, value)
    give_rest()
    if waiting and not things:
        things.append(waiting)
    once.setdefault("scene", "pair" if len(things) > 1 else "single")
    return Parsed(**once, objects=tuple(Thing(**thing) for thing in things))
