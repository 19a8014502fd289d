"""Prompts become ids of one fixed shape, and bad prompts become clear errors."""

import time
import warnings

import pytest
import torch

from sora_edu.captions import caption, words
from sora_edu.config import WorldConfig
from sora_edu.errors import InputError, PromptError, UnknownWordWarning
from sora_edu.tokenizer import LONGEST_PROMPT, PAD, SPECIAL, START, UNKNOWN, Tokenizer, check_prompt
from sora_edu.vocabulary import SCENES
from sora_edu.world import sample_state


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


def test_a_long_prompt_is_cut_with_a_warning(tokenizer):
    with pytest.warns(UserWarning, match="a prompt of 6 tokens is cut after 4; shorten it"):
        ids, mask = tokenizer.encode(["a large red circle falls"], max_tokens=4)
    assert tokenizer.decode(ids) == ["a large red"] and mask.all()


def test_an_empty_batch_keeps_its_width(tokenizer):
    ids, mask = tokenizer.encode([], max_tokens=7)
    assert ids.shape == mask.shape == (0, 7) and tokenizer.decode(ids) == []


def test_the_hash_tells_vocabularies_apart(tokenizer):
    assert tokenizer.vocabulary_hash == Tokenizer().vocabulary_hash != Tokenizer(("a", "red")).vocabulary_hash
    assert len(tokenizer.vocabulary_hash) == 64


def test_misuse_is_refused(tokenizer):
    with pytest.raises(InputError, match="max_tokens=0 leaves no room"):
        tokenizer.encode(["a"], max_tokens=0)
    with pytest.raises(InputError, match="ids from 5 to 999 leave the range 0 to"):
        tokenizer.decode(torch.tensor([[5, 999]]))


def test_a_good_prompt_passes_silently():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check_prompt("  A red circle, FALLING! ") == "a red circle falls"
        assert check_prompt("please show me a red circle falling") == "please show me a red circle falls"


@pytest.mark.parametrize("prompt", ["", " \n\t ", "\u3000"])
def test_an_empty_prompt_is_refused(prompt):
    with pytest.raises(PromptError, match="the prompt is empty; try 'a red circle falls'"):
        check_prompt(prompt)


def test_a_long_prompt_is_refused_with_its_length():
    assert check_prompt("red " * (LONGEST_PROMPT // 4))
    with pytest.raises(PromptError, match="the prompt has 1,000,000 characters; use at most 1,000"):
        check_prompt("red " * 250_000)


@pytest.mark.parametrize("prompt", ["the of", "🎈🎈", "\x00\x00", "%s {0} ${HOME}", "צורה אדומה", "../../etc/passwd"])
def test_a_prompt_without_known_words_names_some(prompt):
    with pytest.raises(PromptError, match=r"has no word that this model knows.*circle, star.*red, blue.*falls"):
        check_prompt(prompt)


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
def test_hostile_prompts_are_inert_deterministic_and_quick(prompt, tokenizer):
    start = time.process_time()
    with pytest.warns(UnknownWordWarning) as caught:
        text, again = check_prompt(prompt), check_prompt(prompt)
    assert time.process_time() - start < 1  # generous: it takes milliseconds
    message = str(caught[0].message)
    assert text == again and all(ch.isalnum() or ch == " " for ch in text)
    assert len(message) < 1_000 and message.isprintable() and not set("<>\\/%{}$`") & set(message)
    assert tokenizer.decode(tokenizer.encode([prompt], max_tokens=32)[0]) == ["red"]
