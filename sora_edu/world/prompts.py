"""What becomes of a prompt before the model reads it: the checks that it passes, and its expansion.

Expansion turns a short prompt into a full caption, by saying at random what it left unsaid. Sora's report has a
language model do this, after DALL-E 3. Here the captions' own grammar is enough (lesson 09).
"""

import difflib
import warnings
from itertools import product

import torch

from sora_edu.errors import PromptError, UnknownWordWarning
from sora_edu.model.tokenizer import NAMED
from sora_edu.world.captions import Parsed, Thing, parse_caption, split_words, words, write
from sora_edu.world.scenes import PAIR_MOTIONS, PAN_MOTIONS
from sora_edu.world.vocabulary import (
    BACKGROUNDS,
    COLOURS,
    HELD_OUT_COLOUR_MOTION,
    HELD_OUT_SHAPE_COLOUR,
    MOTIONS,
    SHAPES,
    SIZES,
)

LONGEST_PROMPT = 1_000  # characters
# Known words that alone ask for nothing, and words of politeness that need no warning.
GLUE = frozenset("a an and background does front in into is not of off on the to while with".split())
POLITE = frozenset("please show me draw make generate create video clip animation i want see it that which".split())

# What each scene has room for: the motions and sizes of each of its objects, as the world draws them.
SIDEWAYS = ("left", "right")
WAITS = (None,)
SMALL = ("small",)
ROLES = {
    "single": ((MOTIONS, SIZES),),
    "pair": ((PAIR_MOTIONS, ("small", "medium")),) * 2,
    "collides": ((SIDEWAYS, SMALL), (WAITS, SMALL)),
    "behind": ((SIDEWAYS, SMALL),),
}


# --- checks ----------------------------------------------------------------------------------------------------------


def check_prompt(prompt: str) -> str:
    """Return the prompt's words in lower case, or raise PromptError: empty, too long, or no word the model knows.

    Unknown words are named in one UnknownWordWarning, with the closest known ones. The text is never interpreted:
    only its letters and digits are kept.
    """
    if not isinstance(prompt, str):
        raise PromptError(f'a prompt is text, but got {type(prompt).__name__}; try "a red circle falls"')
    if len(prompt) > LONGEST_PROMPT:
        raise PromptError(f"the prompt has {len(prompt):,} characters; use at most {LONGEST_PROMPT:,}")
    if not prompt.strip():
        raise PromptError('the prompt is empty; try "a red circle falls"')
    tokens = split_words(prompt)
    known = set(words())
    unknown = list(dict.fromkeys(word for word in tokens if word not in known and word not in POLITE))
    named = ", ".join(_suggest(word) for word in unknown[:NAMED])
    named += f", and {len(unknown) - NAMED} more" if len(unknown) > NAMED else ""
    if not any(word in known - GLUE for word in tokens):
        told = f" (unknown: {named})" if unknown else ""
        raise PromptError(
            f"{prompt[:40]!r} has no word that this model knows{told}; "
            'use shapes (circle, star), colours (red, blue), motions (falls, moves left): try "a red circle falls"'
        )
    if unknown:
        warnings.warn(f"unknown words are ignored: {named}", UnknownWordWarning, stacklevel=2)
    return " ".join(tokens)


def _suggest(word: str) -> str:
    word = word if len(word) <= 24 else word[:24] + "…"
    close = difflib.get_close_matches(word, words(), n=2, cutoff=0.7)
    return f"{word!r} (closest: {', '.join(close)})" if close else repr(word)


# --- expansion -------------------------------------------------------------------------------------------------------


def is_trained(thing: Thing, scene: str) -> bool:
    """Whether training showed this shape in this colour, this colour in this motion, and so large in this scene."""
    held_out = (thing.shape, thing.colour) in HELD_OUT_SHAPE_COLOUR
    held_out = held_out or (thing.colour, thing.motion) in HELD_OUT_COLOUR_MOTION
    return not held_out and not (scene == "pair" and thing.motion == "grows" and thing.size != "small")


def fill_thing(said: Thing, choices: tuple[tuple, ...], scene: str, *, generator: torch.Generator) -> Thing:
    """Draw what is not said of one object from the choices for shape, colour, size and motion.

    All that training showed is equally likely; where what is said rules all of that out, any combination will do.
    """
    options = [(value,) if value else names for value, names in zip(said, choices, strict=True)]
    fits = [Thing(*values) for values in product(*options)]
    fits = [thing for thing in fits if is_trained(thing, scene)] or fits
    return fits[int(torch.randint(len(fits), (), generator=generator))]


def fill(said: Parsed, *, generator: torch.Generator) -> Parsed:
    """Draw all that a meaning leaves unsaid: missing objects, their attributes, and the background."""
    roles = ((PAN_MOTIONS, SIZES),) if said.pan and said.scene == "single" else ROLES[said.scene]
    things = []
    taken = {thing.colour for thing in said.objects}
    for k, (motions, sizes) in enumerate(roles):
        start = said.objects[k] if k < len(said.objects) else Thing()
        free = tuple(colour for colour in COLOURS if colour not in taken)  # two objects never share a colour
        things.append(fill_thing(start, (SHAPES, free, sizes, motions), said.scene, generator=generator))
        taken.add(things[-1].colour)
    background = said.background or BACKGROUNDS[int(torch.randint(len(BACKGROUNDS), (), generator=generator))]
    return Parsed(said.scene, background, said.pan, tuple(things))


def keeps(said: Parsed, full: Parsed) -> bool:
    """Whether a meaning still holds everything that another one says."""
    parts = [(said.scene, full.scene), (said.background, full.background), (said.pan or None, full.pan)]
    if len(said.objects) > len(full.objects):
        return False
    for before, after in zip(said.objects, full.objects, strict=False):
        parts += zip(before, after, strict=True)
    return all(before is None or before == after for before, after in parts)


def expand_prompt(prompt: str, *, generator: torch.Generator) -> str:
    """Turn a short prompt into a full caption: what it says stays, what it leaves unsaid is drawn at random.

    "a ring" may become "a small red ring bounces on a navy background". The words are the grammar's canonical ones.
    The same prompt and generator give the same caption. Raises PromptError and warns of unknown words as
    check_prompt does, and raises PromptError where the grammar has no sentence that keeps all that is said.
    """
    check_prompt(prompt)
    said = parse_caption(prompt)
    text = write(fill(said, generator=generator))
    if not keeps(said, parse_caption(text)):
        raise PromptError(
            f"{prompt[:60]!r} cannot be said in full in this world; name one object, or two that move side by side "
            "or collide, such as 'a red circle falls and a blue star rises'"
        )
    return text
