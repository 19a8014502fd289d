"""Classifier-free guidance: away from what the model makes without a prompt, towards what it makes with one.

(lesson 09)
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from sora_edu.checked import checked
from sora_edu.diffusion.flow import VelocityFn
from sora_edu.errors import InputError
from sora_edu.model.text import TextState
from sora_edu.shapes import Times

Text = Tensor | TextState  # encoded captions, b first: one tensor, or the text encoder's three
TextVelocityFn = Callable[[Float[Tensor, "b *rest"], Times, Text], Float[Tensor, "b *rest"]]  # (x_t, t, text)


@checked
def null_like(text: Text, null_text: Text) -> Text:
    """Repeat the empty caption, ``1 ...`` or already ``b ...``, to one per prompt, ``b ...``.

    Raises InputError where the two are of different kinds, or their shapes differ in more than the batch.
    """
    if isinstance(text, TextState) and isinstance(null_text, TextState):
        return TextState(*map(null_like, text, null_text))
    if not isinstance(text, Tensor) or not isinstance(null_text, Tensor):
        raise InputError("text and null_text are not of one kind; encode both with the same text encoder")
    if text.ndim == 0 or text.shape[1:] != null_text.shape[1:] or len(null_text) not in (1, len(text)):
        shapes = f"text is {tuple(text.shape)}, null_text {tuple(null_text.shape)}"
        raise InputError(f"{shapes}; pad both to one length, and give one empty caption or one per prompt")
    return null_text.expand_as(text)


@checked
def stack_text(text: Text, null_text: Text) -> Text:
    """Put the prompts above the empty captions, ``b ...`` and ``b ...`` to ``2b ...``, in every tensor of the text."""
    if isinstance(text, Tensor):
        return torch.cat([text, null_text])
    return TextState(*map(torch.cat, zip(text, null_text, strict=True)))


@checked
def guided(velocity_fn_with_text: TextVelocityFn, *, text: Text, null_text: Text, cfg_scale: float) -> VelocityFn:
    """Return the velocity ``uncond + cfg_scale (cond - uncond)`` (CFG, 2207.12598, eq. 6, whose w is cfg_scale - 1).

    text: the captions, b first; null_text: the empty caption, as training saw it when it dropped captions.
    cfg_scale >= 0: 0 ignores the text and 1 is the plain conditional model, each in one ordinary pass; any other
    value sends both halves through the model as ONE batch of 2b. Raises InputError for a negative or NaN scale, and
    for samples that are not as many as the captions.
    """
    if not 0 <= cfg_scale < math.inf:
        raise InputError(f"cfg_scale={cfg_scale} is not a number of at least 0; use 1 for none, 3 for a first try")
    null_text = null_like(text, null_text)
    captions = (text if isinstance(text, Tensor) else text.words).shape[0]
    both = stack_text(text, null_text)

    def velocity_fn(x_t: Float[Tensor, "b *rest"], t: Times) -> Float[Tensor, "b *rest"]:
        if len(x_t) != captions:
            raise InputError(f"x_t holds {len(x_t)} samples, but text {captions} captions; give one for each sample")
        if cfg_scale in (0, 1):
            return velocity_fn_with_text(x_t, t, text if cfg_scale == 1 else null_text)
        cond, uncond = velocity_fn_with_text(torch.cat([x_t, x_t]), torch.cat([t, t]), both).chunk(2)
        return uncond + cfg_scale * (cond - uncond)

    return velocity_fn
