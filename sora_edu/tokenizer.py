"""From a prompt to token ids, one word a token, and the checks a prompt passes first."""

import difflib
import hashlib
import warnings
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from sora_edu.captions import split_words, words
from sora_edu.errors import InputError, PromptError, UnknownWordWarning

PAD, START, UNKNOWN = 0, 1, 2  # ids of the special tokens; the words follow
SPECIAL = ("<pad>", "<start>", "<unknown>")
LONGEST_PROMPT = 1_000  # characters
NAMED = 10  # unknown words named in one warning
# Known words that alone ask for nothing, and words of politeness that need no warning.
GLUE = frozenset("a an and background does front in into is not of off on the to while with".split())
POLITE = frozenset("please show me draw make generate create video clip animation i want see it that which".split())


@dataclass(frozen=True)
class Tokenizer:
    """Word-level tokenizer over the words that the captions' grammar can write."""

    vocabulary: tuple[str, ...] = field(default_factory=words)

    def __len__(self) -> int:
        return len(SPECIAL) + len(self.vocabulary)

    @property
    def vocabulary_hash(self) -> str:
        """SHA-256 of the words in order: a checkpoint keeps it, since other words mean other ids."""
        return hashlib.sha256("\n".join(self.vocabulary).encode()).hexdigest()

    def encode(
        self, prompts: list[str], *, max_tokens: int, keep_unknown: bool = False
    ) -> tuple[Int[Tensor, "b l"], Bool[Tensor, "b l"]]:
        """Return ids and the mask of real tokens, padded to ``max_tokens`` so that shapes never change.

        Each row opens with the start token; the empty caption is that token alone. Words that training never showed
        are left out, or become the unknown token if ``keep_unknown``. A prompt too long is cut, with a warning.
        """
        if max_tokens < 1:
            raise InputError(f"max_tokens={max_tokens} leaves no room for the start token; use at least 1")
        if isinstance(prompts, str):
            raise InputError(f"prompts is one str; give a list: [{prompts[:40]!r}]")
        index = {word: i for i, word in enumerate(self.vocabulary, len(SPECIAL))}
        ids = torch.full((len(prompts), max_tokens), PAD)
        for row, prompt in enumerate(prompts):
            tokens = [START, *(index.get(word, UNKNOWN) for word in split_words(prompt))]
            tokens = tokens if keep_unknown else [token for token in tokens if token != UNKNOWN]
            if len(tokens) > max_tokens:
                warnings.warn(f"a prompt of {len(tokens)} tokens is cut after {max_tokens}; shorten it", stacklevel=2)
            ids[row, : len(tokens)] = torch.tensor(tokens[:max_tokens])
        return ids, ids != PAD

    def decode(self, ids: Int[Tensor, "b l"]) -> list[str]:
        """Return the words of each row, without start and padding."""
        names = [*SPECIAL, *self.vocabulary]
        if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < len(names):
            raise InputError(f"ids from {int(ids.min())} to {int(ids.max())} leave the range 0 to {len(names) - 1}")
        return [" ".join(names[i] for i in row if i not in (PAD, START)) for row in ids.tolist()]


def check_prompt(prompt: str) -> str:
    """Return the prompt's words in lower case, or raise PromptError: empty, too long, or no word the model knows.

    Unknown words are named in one UnknownWordWarning, with the closest known ones. The text is never interpreted:
    only its letters and digits are kept.
    """
    if not isinstance(prompt, str):
        raise PromptError(f"a prompt is text, but got {type(prompt).__name__}; try 'a red circle falls'")
    if len(prompt) > LONGEST_PROMPT:
        raise PromptError(f"the prompt has {len(prompt):,} characters; use at most {LONGEST_PROMPT:,}")
    if not prompt.strip():
        raise PromptError("the prompt is empty; try 'a red circle falls'")
    tokens, known = split_words(prompt), set(words())
    unknown = list(dict.fromkeys(word for word in tokens if word not in known and word not in POLITE))
    named = ", ".join(_suggest(word) for word in unknown[:NAMED])
    named += f", and {len(unknown) - NAMED} more" if len(unknown) > NAMED else ""
    if not any(word in known - GLUE for word in tokens):
        told = f" (unknown: {named})" if unknown else ""
        raise PromptError(
            f"{prompt[:40]!r} has no word that this model knows{told}; "
            "use shapes (circle, star), colours (red, blue), motions (falls, moves left): try 'a red circle falls'"
        )
    if unknown:
        warnings.warn(f"unknown words are ignored: {named}", UnknownWordWarning, stacklevel=2)
    return " ".join(tokens)


def _suggest(word: str) -> str:
    word = word if len(word) <= 24 else word[:24] + "…"
    close = difflib.get_close_matches(word, words(), n=2, cutoff=0.7)
    return f"{word!r} (closest: {', '.join(close)})" if close else repr(word)
