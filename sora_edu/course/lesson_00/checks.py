"""The checks of lesson 00, start here: the counts of the slips, the badges, the pipeline's order, and prompts."""

import warnings
from collections.abc import Callable, Mapping
from math import factorial

from sora_edu.course.claims import BADGES, CLAIMS
from sora_edu.course.grading import (
    Result,
    Wrong,
    all_right,
    as_number,
    check_number,
    exercise,
    hint as hint,
    once_answered,
    right,
    wrong,
)
from sora_edu.errors import PromptError, UnknownWordWarning
from sora_edu.world.captions import parse_caption, split_words
from sora_edu.world.prompts import check_prompt
from sora_edu.world.tracker.track import describe, track
from sora_edu.world.wordings import COLOUR_WORDS, MOTION_WORDS

DRAWS, SENTENCES = 6**6, factorial(6)


@exercise("00.4")
@once_answered
def slips(role_sentences: object, author_sentences: object, share: object) -> Result:
    """Sentences where colour means role, grammatical draws where colour means author, and their share of all draws."""
    first = check_number(
        "role_sentences",
        role_sentences,
        DRAWS,
        recipe="Six choices from the first pile, and for each of them six from the second, and so on.",
        wrongs=[
            Wrong(SENTENCES, "720 = 6! would forbid two slips of one author; here each pile is free."),
            Wrong(36, "36 counts slips; a draw takes six of them."),
            Wrong(6, "6 is the choice from one pile; there are six piles."),
            Wrong(SENTENCES**6, "(6!)^6 empties the piles in order; one draw takes one slip of each."),
            Wrong(1_947_792, "that is any 6 of 36 slips; a draw takes exactly one of each pile."),
        ],
    )
    second = check_number(
        "author_sentences",
        author_sentences,
        SENTENCES,
        recipe="The six slips must show six different roles: 6 choices for the first, then 5, ...",
        wrongs=[
            Wrong(DRAWS, "that counts all draws; most of them hold some role twice, and another not at all."),
            Wrong(6, "6 is what the first pile offers; the second then offers 5, the third 4, ..."),
            Wrong(36, "36 counts slips, not draws."),
            Wrong(1, "the roles must differ, but any author may give any of them."),
        ],
    )
    value = as_number(share)
    expected = 100 * SENTENCES / DRAWS
    if value is not None and abs(value - expected / 100) < 1e-4:
        value = expected  # a fraction, or a share written in per cent: both are right
    third = check_number(
        "share",
        share if value is None else value,
        expected,
        recipe="Grammatical draws over all draws of the author's game, times 100 for per cent.",
        wrongs=[
            Wrong(DRAWS / SENTENCES, "upside down; 64.8 draws are needed for one sentence."),
            Wrong(100.0, "every draw is a sentence where colour means role, not where it means author."),
            Wrong(100 / 6, "one draw in six would be grammatical; far fewer are."),
            Wrong(100 / 36, "compare draws with draws, not with slips."),
        ],
        tolerance=0.006,
    )
    why = "6^6 = 46,656 draws in both games; where colour means author, 6! = 720 of them (1.54 %) are sentences."
    return all_right(first, second, third, why=why)


ASKED = {
    "a": "resize",
    "b": "games",
    "c": "captions",
    "d": "runway",
    "e": "physics",
    "f": "weights",
    "g": "blur",
}
CARDS = {letter: next(card for card in CLAIMS if card.key == key) for letter, key in ASKED.items()}
CONFUSED = {  # (said, true): what the answer shows
    ("stated", "inferred"): "OpenAI does not say so; a published paper does, and we infer.",
    ("stated", "unknown"): "Neither the report nor the system card says so. Being told often is no source.",
    ("inferred", "stated"): "No need to infer: OpenAI's own report speaks of it.",
    ("inferred", "unknown"): "Papers and clones show what one could do, and none of them settles what Sora does.",
    ("unknown", "stated"): "The badge is not the verdict: OpenAI's own report settles this one, for or against.",
    ("unknown", "inferred"): "The badge is not the verdict: a published paper settles this one, for or against.",
}


@exercise("00.3")
@once_answered
def badges(answer: object) -> Result:
    """Badges of the seven claims a to g: a dict by letter, or seven words in a row."""
    if isinstance(answer, str):
        answer = answer.replace(",", " ").split()
    if isinstance(answer, list | tuple) and len(answer) == len(CARDS):
        answer = dict(zip(CARDS, answer, strict=True))
    if not isinstance(answer, Mapping):
        return wrong(f"expected seven badges, by the letters {', '.join(CARDS)} or in that order")
    answer = {str(letter).strip().lower(): badge for letter, badge in answer.items()}
    if missing := [letter for letter in CARDS if letter not in answer]:
        return wrong(f"no badge for {', '.join(missing)}; each of {', '.join(CARDS)} needs one")
    said = {}
    for letter in CARDS:
        word = str(answer[letter]).strip().lower()
        said[letter] = next((badge for badge in BADGES if word and badge.startswith(word)), None)
        if said[letter] is None:
            return wrong(f"{letter}: {answer[letter]!r} is no badge; use {', '.join(BADGES)}")
    misses = [letter for letter, card in CARDS.items() if said[letter] != card.badge]
    if not misses:
        return right("The badge says whose word settles a claim, the verdict says how: two questions.")
    letter = misses[0]
    why = CONFUSED[said[letter], CARDS[letter].badge]
    return wrong(f"{len(CARDS) - len(misses)} of {len(CARDS)}. Look at {letter}, '{CARDS[letter].claim}' {why}")


PARTS = ("prompt", "tokens", "text encoder", "noise", "VideoDiT", "latent", "VAE decoder", "clip")
BEFORE = (  # (earlier, later, what an answer shows that has them the other way round, misconception)
    ("prompt", "tokens", "Tokens are the prompt's words as numbers: the prompt comes first.", None),
    ("tokens", "text encoder", "The text encoder reads numbers, not letters: tokens come before it.", None),
    ("text encoder", "VideoDiT", "Every step of denoising looks at the words, so they are encoded before it.", None),
    ("noise", "VideoDiT", "Noise is where the VideoDiT starts from. Sampling adds none before or after it.", None),
    ("VideoDiT", "VAE decoder", "The decoder only turns a finished latent into pixels; denoise first.", 20),
    ("VideoDiT", "latent", "The clean latent is what denoising ends with; before it there is only noise.", None),
    ("latent", "VAE decoder", "The decoder turns the latent into pixels: the latent comes before it.", 20),
    ("VAE decoder", "clip", "The clip is what the decoder puts out.", None),
)


@exercise("00.2")
@once_answered
def order(answer: object) -> Result:
    """The parts of the pipeline in the order in which sampling uses them; noise may come anywhere before VideoDiT."""
    if isinstance(answer, str):
        answer = answer.replace("->", ",").split(",")
    if not isinstance(answer, list | tuple):
        return wrong(f"got a {type(answer).__name__}, expected a list of parts")
    known = {part.lower(): part for part in (*PARTS, "VAE encoder")}
    parts = [known.get(" ".join(str(part).lower().split())) for part in answer]
    if None in parts:
        return wrong(f"{answer[parts.index(None)]!r} is no part; copy the names as they are written")
    if "VAE encoder" in parts:
        return wrong("The VAE's encoder is for training: a prompt brings no video that it could encode.", 20)
    if missing := [part for part in PARTS if part not in parts]:
        return wrong(f"{missing[0]} is missing; eight of the nine parts are used.")
    if len(parts) > len(PARTS):
        return wrong("A part is there twice. The VideoDiT runs many times, but write it once.")
    for earlier, later, message, number in BEFORE:
        if parts.index(earlier) > parts.index(later):
            return wrong(message, number)
    return right("Words steer, noise is the material, the VideoDiT does the work, the VAE's decoder makes it visible.")


@exercise("00.1")
@once_answered
def prompts(answer: object, pipe: Callable) -> Result:
    """Three prompts that tiny knows, each with a shape, a colour and another motion; says what the tracker reads."""
    if isinstance(answer, str) and answer.strip():
        return wrong("got one text, expected a list of three prompts")
    if not isinstance(answer, list | tuple) or len(answer) != 3:
        return wrong("expected a list of three prompts")
    motions = []
    for prompt in answer:
        if not isinstance(prompt, str):
            return wrong(f"a prompt is text, but one of the three is {prompt!r}")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                check_prompt(prompt)
            except PromptError as error:
                return wrong(f"The model would refuse this one: {error}")
        if told := [str(w.message) for w in caught if issubclass(w.category, UnknownWordWarning)]:
            return wrong(f"In {prompt!r}, {told[0]}. The model would paint something, but not what you asked.")
        things = parse_caption(prompt).objects
        if len(things) != 1:
            return wrong(f"{prompt!r} names {len(things)} objects; ask for one.")
        for name in ("shape", "colour", "motion"):
            if getattr(things[0], name) is None:
                return wrong(f"{prompt!r} names no {name}; what is not said is left to chance.")
        for name, wordings in (("colours", COLOUR_WORDS), ("motions", MOTION_WORDS)):
            text = f" {' '.join(split_words(prompt))} "
            if len(named := [one for one, forms in wordings.items() if any(f" {form} " in text for form in forms)]) > 1:
                return wrong(f"{prompt!r} names {len(named)} {name}, {' and '.join(named)}; a thing here has one.")
        motions.append(things[0].motion)
    if len(set(motions)) < 3:
        return wrong(f"The motions are {', '.join(motions)}; synonyms are one motion. Use three different ones.")
    tracked = track(pipe(list(answer)))
    seen = "; ".join(f"{prompt!r} became {describe(tracked, i)!r}" for i, prompt in enumerate(answer))
    return right(f"The model knows every word. The tracker reads: {seen}.")
