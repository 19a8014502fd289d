"""From a prompt to token ids, one word a token (lesson 09)."""

import hashlib
import warnings
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from sora_edu.checked import checked
from sora_edu.config import check_value
from sora_edu.errors import CutPromptWarning, InputError
from sora_edu.world.captions import split_words, words

PAD, START, UNKNOWN = 0, 1, 2  # ids of the special tokens; the words follow
SPECIAL = ("<pad>", "<start>", "<unknown>")
NAMED = 10  # words named in one warning


def cut_message(tokens: list[str], room: int) -> str:
    """What a CutPromptWarning says of a prompt of these words, of which only the first ``room`` are read."""
    lost = " ".join(tokens[room : room + NAMED])
    more = f" and {len(tokens) - room - NAMED} more" if len(tokens) > room + NAMED else ""
    return f"a prompt of {len(tokens)} words is cut after {room}: {lost!r}{more} is lost; shorten the prompt"


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
        are left out, or become the unknown token if ``keep_unknown``. A prompt too long is cut, with a
        CutPromptWarning that names the lost words.
        """
        check_value("max_tokens", max_tokens, int, (1, 4096))  # the start token takes one
        if isinstance(prompts, str):
            raise InputError(f"prompts is one str; give a list: [{prompts[:40]!r}]")
        if not isinstance(prompts, list | tuple):
            raise InputError(f"prompts is of type {type(prompts).__name__}; give the texts as a list of str")
        if wrong := [prompt for prompt in prompts if not isinstance(prompt, str)]:
            raise InputError(f"a prompt is text, but got {type(wrong[0]).__name__}; use '' for the empty caption")
        index = {word: i for i, word in enumerate(self.vocabulary, len(SPECIAL))}
        room = max_tokens - 1  # the start token takes a place
        ids = torch.full((len(prompts), max_tokens), PAD)
        ids[:, 0] = START
        for row, prompt in enumerate(prompts):
            tokens = [word for word in split_words(prompt) if keep_unknown or word in index]
            if len(tokens) > room:
                warnings.warn(cut_message(tokens, room), CutPromptWarning, stacklevel=2)
            own = [index.get(word, UNKNOWN) for word in tokens[:room]]
            ids[row, 1 : 1 + len(own)] = torch.tensor(own, dtype=torch.long)
        return ids, ids != PAD

    @checked(empty=True)
    def decode(self, ids: Int[Tensor, "b l"]) -> list[str]:
        """Return the words of each row, without start and padding."""
        names = [*SPECIAL, *self.vocabulary]
        if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < len(names):
            raise InputError(f"ids from {int(ids.min())} to {int(ids.max())} leave the range 0 to {len(names) - 1}")
        return [" ".join(names[i] for i in row if i not in (PAD, START)) for row in ids.tolist()]
