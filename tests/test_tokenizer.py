"""Prompts become ids of one fixed shape, and bad prompts become clear errors."""

import jaxtyping
import pytest
import torch

from sora_edu.config import WorldConfig
from sora_edu.errors import CutPromptWarning, InputError
from sora_edu.model.tokenizer import PAD, SPECIAL, START, UNKNOWN, Tokenizer
from sora_edu.world.captions import caption, words
from sora_edu.world.scenes import sample_state
from sora_edu.world.vocabulary import SCENES


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer()


def test_ids_are_specials_then_sorted_words(tokenizer):
    ids, mask = tokenizer.encode(["a red circle falls", ""], max_tokens=6)
    expected = [START, *(len(SPECIAL) + words().index(w) for w in ("a", "red", "circle", "falls")), PAD]
    assert ids.tolist() == [expected, [START] + 5 * [PAD]]
    assert mask.tolist() == [[True] * 5 + [False], [True] + [False] * 5]
    assert len(tokenizer) == len(SPECIAL) + len(words())


@pytest.mark.parametrize("scene", SCENES)
def test_every_caption_survives_encoding_and_decoding(tokenizer, scene, generator):
    state = sample_state(500, WorldConfig(frames=1, pan_fraction=0.3), scene=scene, generator=generator)
    captions = caption(state, style="full", generator=generator)
    ids, _ = tokenizer.encode(captions, max_tokens=32)
    assert (ids != UNKNOWN).all()
    assert tokenizer.decode(ids) == [c.replace(",", "") for c in captions]


def test_other_forms_and_politeness_reach_the_trained_caption(tokenizer):
    told, mask = tokenizer.encode(["Please show me a GRAY-free disk, falling!"], max_tokens=9)
    assert tokenizer.decode(told) == ["a grey disc falls"] and mask.sum() == 5
    shown, _ = tokenizer.encode(["please a disc"], max_tokens=5, keep_unknown=True)
    assert shown[0, :2].tolist() == [START, UNKNOWN] and tokenizer.decode(shown) == ["<unknown> a disc"]


def test_a_long_prompt_is_cut_with_a_warning_that_names_the_lost_words(tokenizer):
    with pytest.warns(CutPromptWarning, match="of 5 words is cut after 3: 'circle falls' is lost; shorten the prompt"):
        ids, mask = tokenizer.encode(["a large red pink circle falls"], max_tokens=4)
    assert tokenizer.decode(ids) == ["a large red"] and mask.all()


def test_a_very_long_prompt_names_the_first_lost_words(tokenizer):
    with pytest.warns(CutPromptWarning, match=r"cut after 1: 'red( red){9}' and 89 more is lost"):
        ids, _ = tokenizer.encode(["red " * 100], max_tokens=2)
    assert tokenizer.decode(ids) == ["red"]


def test_a_prompt_that_just_fits_is_not_cut(tokenizer):
    ids, mask = tokenizer.encode(["a large red circle"], max_tokens=5)
    assert tokenizer.decode(ids) == ["a large red circle"] and mask.all()


def test_an_empty_batch_keeps_its_width(tokenizer):
    ids, mask = tokenizer.encode([], max_tokens=7)
    assert ids.shape == mask.shape == (0, 7) and tokenizer.decode(ids) == []


def test_the_hash_tells_vocabularies_apart(tokenizer):
    assert tokenizer.vocabulary_hash == Tokenizer().vocabulary_hash != Tokenizer(("a", "red")).vocabulary_hash
    assert len(tokenizer.vocabulary_hash) == 64


@pytest.mark.parametrize("length", ["x", None, 2.5, True, 10**12])
def test_a_length_that_is_no_small_whole_number_is_refused(tokenizer, as_a_user, length):
    with pytest.raises(InputError, match=r"max_tokens=.* must be a whole number from 1 to 4,096"):
        tokenizer.encode(["a"], max_tokens=length)


def test_misuse_is_refused(tokenizer):
    with pytest.raises(InputError, match="max_tokens=0 must be a whole number from 1 to 4,096"):
        tokenizer.encode(["a"], max_tokens=0)
    with pytest.raises(InputError, match="ids from 5 to 999 leave the range 0 to"):
        tokenizer.decode(torch.tensor([[5, 999]]))


def test_what_is_no_text_is_not_encoded():
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        with pytest.raises(InputError, match="a prompt is text, but got NoneType; use '' for the empty caption"):
            Tokenizer().encode(["a circle", None], max_tokens=8)
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
