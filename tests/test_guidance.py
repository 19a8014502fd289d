"""Guidance against its formula, its two identities, and the number of passes it costs."""

import math

import pytest
import torch

from sora_edu.diffusion.guidance import guided
from sora_edu.errors import InputError
from sora_edu.model.text import TextState

X_T, T = torch.randn(3, 2, 1, 4, 5, generator=torch.Generator().manual_seed(0)), torch.tensor([0.2, 0.5, 0.9])
TEXT = torch.randn(3, 6, 8, generator=torch.Generator().manual_seed(1))
NULL = torch.zeros(1, 6, 8)


class Model:
    """A velocity that mixes x_t, t and the text without a line in any of them, and notes the batch of each pass."""

    def __init__(self):
        self.batches = []

    def __call__(self, x_t, t, text):
        self.batches.append(x_t.shape[0])
        embedding = text.words * text.mask.unsqueeze(-1) if isinstance(text, TextState) else text
        summary = (embedding.square().mean((1, 2)) + t).view(-1, 1, 1, 1, 1)
        return torch.sin(x_t * summary) + summary


@pytest.mark.parametrize("cfg_scale", [0.5, 3.0, 7.5])
def test_guidance_is_the_formula_in_one_pass_of_twice_the_batch(cfg_scale):
    model = Model()
    velocity = guided(model, text=TEXT, null_text=NULL, cfg_scale=cfg_scale)(X_T, T)
    assert model.batches == [6]
    cond, uncond = Model()(X_T, T, TEXT), Model()(X_T, T, NULL.expand(3, -1, -1))
    torch.testing.assert_close(velocity, uncond + cfg_scale * (cond - uncond))
    assert not torch.allclose(velocity, uncond - cfg_scale * (cond - uncond))  # the sign matters in this case


def test_scale_1_is_the_plain_conditional_model_in_one_plain_pass():
    model = Model()
    velocity = guided(model, text=TEXT, null_text=NULL, cfg_scale=1.0)(X_T, T)
    assert model.batches == [3]
    assert torch.equal(velocity, Model()(X_T, T, TEXT))


def test_scale_0_is_the_unconditional_model_in_one_plain_pass():
    model = Model()
    velocity = guided(model, text=TEXT, null_text=NULL, cfg_scale=0.0)(X_T, T)
    assert model.batches == [3]
    assert torch.equal(velocity, Model()(X_T, T, NULL.expand(3, -1, -1)))
    other = guided(Model(), text=TEXT.flip(0), null_text=NULL, cfg_scale=0.0)(X_T, T)
    assert torch.equal(velocity, other)


@pytest.mark.parametrize("cfg_scale", [0.999, 1.001])
def test_the_shortcut_at_scale_1_agrees_with_its_neighbours(cfg_scale):
    plain, near = (guided(Model(), text=TEXT, null_text=NULL, cfg_scale=s)(X_T, T) for s in (1.0, cfg_scale))
    torch.testing.assert_close(plain, near, atol=0.01, rtol=0)


def test_text_of_several_tensors_travels_together():
    text = TextState(TEXT, torch.arange(6) < torch.tensor([[6], [4], [1]]), TEXT.mean(1))
    null_text = TextState(NULL + 1, torch.arange(6)[None] < 1, NULL[:, 0])
    model = Model()
    velocity = guided(model, text=text, null_text=null_text, cfg_scale=3.0)(X_T, T)
    cond = Model()(X_T, T, text)
    uncond = Model()(X_T, T, TextState(*(part.expand(3, *part.shape[1:]) for part in null_text)))
    torch.testing.assert_close(velocity, uncond + 3 * (cond - uncond))


def test_one_null_caption_for_all_equals_one_for_each():
    one, each = (
        guided(Model(), text=TEXT, null_text=null, cfg_scale=2.0)(X_T, T) for null in (NULL, NULL.repeat(3, 1, 1))
    )
    assert torch.equal(one, each)


@pytest.mark.parametrize("cfg_scale", [-1.0, math.nan, math.inf])
def test_a_scale_that_is_not_a_number_of_at_least_0_is_refused(cfg_scale):
    with pytest.raises(InputError, match=rf"cfg_scale={cfg_scale} is not a number of at least 0; use 1"):
        guided(Model(), text=TEXT, null_text=NULL, cfg_scale=cfg_scale)


@pytest.mark.parametrize("null", [torch.zeros(1, 5, 8), torch.zeros(2, 6, 8), torch.zeros(1, 6)])
def test_a_null_caption_of_another_shape_is_refused(null):
    with pytest.raises(InputError, match=r"null_text .* pad both to one length"):
        guided(Model(), text=TEXT, null_text=null, cfg_scale=3.0)


def test_a_text_without_an_axis_of_captions_is_refused():
    with pytest.raises(InputError, match=r"text is \(\), null_text \(\); pad both to one length"):
        guided(Model(), text=torch.tensor(1.0), null_text=torch.tensor(1.0), cfg_scale=3.0)


def test_texts_of_two_kinds_are_refused():
    with pytest.raises(InputError, match="not of one kind"):
        guided(Model(), text=TextState(TEXT, TEXT[..., 0] > 0, TEXT[:, 0]), null_text=NULL, cfg_scale=3.0)


@pytest.mark.parametrize("cfg_scale", [0.0, 1.0, 3.0])
def test_samples_that_are_not_as_many_as_the_captions_are_refused(cfg_scale):
    for count in (1, 2, 4):
        velocity_fn = guided(Model(), text=TEXT, null_text=NULL, cfg_scale=cfg_scale)
        with pytest.raises(InputError, match=f"x_t holds {count} samples, but text 3 captions; give one for each"):
            velocity_fn(torch.zeros(count, 2, 1, 4, 5), torch.rand(count))


@pytest.mark.parametrize("cfg_scale", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("answer", [lambda x: x[:, :1], lambda x: x[:1], lambda x: x.mean(), lambda x: None])
def test_a_model_whose_answer_is_not_shaped_as_its_input_is_refused(answer, cfg_scale):
    velocity_fn = guided(lambda x, t, text: answer(x), text=TEXT, null_text=NULL, cfg_scale=cfg_scale)
    with pytest.raises(InputError, match="guided: what velocity_fn_with_text returned is "):
        velocity_fn(X_T, T)
