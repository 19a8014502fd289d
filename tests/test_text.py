import pytest
import torch

from sora_edu.config import TextConfig
from sora_edu.errors import InputError
from sora_edu.model.text import TextEncoder
from sora_edu.model.tokenizer import Tokenizer

CONFIG = TextConfig(width=16, depth=2, heads=2, max_tokens=12)


def encode(prompts: list[str], max_tokens: int = 12):
    torch.manual_seed(0)
    tokenizer = Tokenizer()
    encoder = TextEncoder(CONFIG, len(tokenizer)).eval()
    return encoder(*tokenizer.encode(prompts, max_tokens=max_tokens))


def test_padding_changes_nothing():
    short, _, mean_short = encode(["a red circle falls"], 5)
    long, mask, mean_long = encode(["a red circle falls"], 12)
    torch.testing.assert_close(short[0], long[0, :5])
    torch.testing.assert_close(mean_short, mean_long)
    assert mask.sum() == 5


def test_the_mean_is_over_the_words_that_count():
    words, mask, mean = encode(["a red circle", "a blue star moves left"])
    torch.testing.assert_close(mean[0], words[0, mask[0]].mean(0))


def test_neighbours_in_the_batch_do_not_matter():
    alone, together = encode(["a red circle"])[0], encode(["a red circle", "a white ring orbits"])[0]
    torch.testing.assert_close(alone[0], together[0])


def test_word_order_matters():
    a, b = (
        encode(["a red circle falls and a blue square grows"]),
        encode(["a blue circle falls and a red square grows"]),
    )
    assert (a[2] - b[2]).abs().max() > 1e-3


def test_the_empty_caption_has_a_vector():
    words, mask, mean = encode([""])
    assert mask.sum() == 1 and torch.isfinite(words).all() and torch.isfinite(mean).all()


def test_a_prompt_whose_words_all_do_not_count_has_a_mean_of_zero_and_finite_gradients():
    torch.manual_seed(0)
    encoder = TextEncoder(CONFIG, 10)
    ids, mask = torch.tensor([[1, 2, 3], [4, 5, 6]]), torch.tensor([[True, True, False], [False, False, False]])
    words, _, mean = encoder(ids, mask)
    assert mean[1].eq(0).all() and words.isfinite().all()
    mean.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in encoder.parameters() if p.grad is not None)
    torch.testing.assert_close(mean[0], encoder(ids[:1], mask[:1])[2][0])


def test_ids_of_no_word_are_refused():
    encoder = TextEncoder(CONFIG, 20)
    for ids in ([[0, 20]], [[-1, 3]]):
        with pytest.raises(InputError, match=r"ids reach from -?\d+ to \d+; there are 20 words, from 0"):
            encoder(torch.tensor(ids), torch.ones(1, 2, dtype=torch.bool))
