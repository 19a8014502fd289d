import math

import pytest
import torch
from torch.nn import functional as F

from sora_edu.errors import InputError
from sora_edu.model.image_dit import (
    DIT_SIZES,
    DiTBlock,
    FinalLayer,
    ImageDiT,
    ImageDiTConfig,
    LabelEmbed,
    PlainAttention,
    TimeEmbed,
    dit_config,
    drop_labels,
)
from sora_edu.model.patches import patchify

CONFIG = ImageDiTConfig(depth=2, width=24, heads=3, size=(4, 6), channels=3, classes=5)


def stir(module, generator):
    """Past its first steps: nothing is zero any more."""
    for p in module.parameters():
        if p.requires_grad:
            p.data = p.data + 0.2 * torch.randn(p.shape, generator=generator)
    return module.eval()


@pytest.fixture
def dit(generator) -> ImageDiT:
    torch.manual_seed(0)
    return stir(ImageDiT(CONFIG), generator)


def block_by_formulas(x, c, w, heads):
    """The block once more, one sample, one head and one query at a time, from the paper's formulas."""

    def norm(v):
        return (v - v.mean()) / torch.sqrt(v.var(unbiased=False) + 1e-5)

    out = []
    for x_i, c_i in zip(x, c, strict=True):
        six = w["modulation.weight"] @ (c_i * torch.sigmoid(c_i)) + w["modulation.bias"]
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = six.reshape(6, -1)
        y = torch.stack([norm(token) * (1 + scale_1) + shift_1 for token in x_i])
        q, k, v = (y @ w["attention.qkv.weight"].T + w["attention.qkv.bias"]).reshape(len(y), 3, heads, -1).unbind(1)
        rows = []
        for n in range(len(y)):
            parts = [torch.softmax(q[n, h] @ k[:, h].T / math.sqrt(q.shape[-1]), 0) @ v[:, h] for h in range(heads)]
            rows.append(w["attention.out.weight"] @ torch.cat(parts) + w["attention.out.bias"])
        x_i = x_i + gate_1 * torch.stack(rows)
        y = torch.stack([norm(token) * (1 + scale_2) + shift_2 for token in x_i])
        y = y @ w["mlp.0.weight"].T + w["mlp.0.bias"]
        y = 0.5 * y * (1 + torch.tanh(math.sqrt(2 / math.pi) * (y + 0.044715 * y**3)))
        out.append(x_i + gate_2 * (y @ w["mlp.2.weight"].T + w["mlp.2.bias"]))
    return torch.stack(out)


def test_the_block_equals_its_formulas(generator):
    block = stir(DiTBlock(12, 3), generator)
    x, c = torch.randn(2, 5, 12, generator=generator), torch.randn(2, 12, generator=generator)
    expected = block_by_formulas(x, c, block.state_dict(), 3)
    torch.testing.assert_close(block(x, c), expected, atol=1e-5, rtol=1e-4)


def test_a_new_block_is_the_identity(generator):
    x, c = torch.randn(2, 5, 12, generator=generator), torch.randn(2, 12, generator=generator)
    assert torch.equal(DiTBlock(12, 3)(x, c), x)


def test_the_gates_of_a_new_block_have_a_gradient_and_nothing_else_has(generator):
    block, d = DiTBlock(12, 3), 12
    x, c = torch.randn(2, 5, d, generator=generator), torch.randn(2, d, generator=generator)
    (block(x, c) - 1).square().mean().backward()
    awake = [bool(part.any()) for part in block.modulation.weight.grad.chunk(6)]
    assert awake == [False, False, True, False, False, True]  # shift, scale, gate, twice
    assert not any(p.grad.any() for p in [*block.attention.parameters(), *block.mlp.parameters()])


def test_learning_wakes_from_the_end_to_the_front():
    """The zero head first, then gates and embeddings, then all the rest."""
    torch.manual_seed(0)
    dit, woken = ImageDiT(CONFIG), []
    x, t, y = torch.randn(2, 3, 4, 6), torch.tensor([0.2, 0.8]), torch.tensor([1, 4])
    for _ in range(3):
        dit.zero_grad()
        dit(x, t, y).sub(1).square().mean().backward()
        woken.append({name for name, p in dit.named_parameters() if p.grad is not None and p.grad.any()})
        torch.optim.SGD(dit.parameters(), lr=0.5).step()
    assert woken[0] == {"final.head.weight", "final.head.bias"}
    assert "blocks.0.modulation.weight" in woken[1] and "blocks.0.attention.qkv.weight" not in woken[1]
    assert {"blocks.0.attention.qkv.weight", "blocks.1.mlp.2.weight", "label.embed.weight"} <= woken[2]


def test_a_new_model_predicts_zero_of_twice_the_channels():
    out = ImageDiT(CONFIG)(torch.randn(2, 3, 4, 6), torch.rand(2), torch.tensor([0, 5]))
    assert out.shape == (2, 6, 4, 6) and not out.any()


def test_without_a_variance_the_channels_stay():
    config = ImageDiTConfig(depth=1, width=8, heads=2, size=(2, 4), learn_sigma=False)
    assert ImageDiT(config)(torch.zeros(1, 4, 2, 4), torch.zeros(1), torch.tensor([3])).shape == (1, 4, 2, 4)


def test_time_label_and_every_patch_steer(dit, generator):
    x, t, y = torch.randn(1, 3, 4, 6, generator=generator), torch.tensor([0.3]), torch.tensor([2])
    base = dit(x, t, y)
    assert (dit(x, t + 0.1, y) - base).abs().max() > 1e-4
    assert (dit(x, t, y + 1) - base).abs().max() > 1e-4
    other = x.clone()
    other[:, :, -1, -1] += 1
    changed = patchify((dit(other, t, y) - base).abs(), ph=2, pw=2).amax(-1)[0]
    assert (changed > 1e-6).all()  # no causal mask: the first patch sees the last


def test_equal_patches_in_other_places_are_told_apart(dit):
    out = patchify(dit(torch.ones(1, 3, 4, 6), torch.tensor([0.5]), torch.tensor([1])), ph=2, pw=2)[0]
    assert (torch.cdist(out, out) + torch.eye(len(out))).min() > 1e-4


def test_positions_are_fixed():
    assert not ImageDiT(CONFIG).positions.requires_grad


def test_the_final_layer_starts_at_zero_and_ends_in_a_patch():
    layer = FinalLayer(8, 20)
    assert layer(torch.randn(2, 3, 8), torch.randn(2, 8)).shape == (2, 3, 20)
    assert not layer(torch.randn(2, 3, 8), torch.randn(2, 8)).any()


def test_plain_attention_does_not_care_about_order(generator):
    attention, x = PlainAttention(12, 3), torch.randn(1, 5, 12, generator=generator)
    order = torch.tensor([3, 1, 4, 0, 2])
    torch.testing.assert_close(attention(x[:, order]), attention(x)[:, order])


def test_times_next_to_each_other_have_like_vectors(generator):
    a, b, c = stir(TimeEmbed(16), generator)(torch.tensor([0.500, 0.501, 0.900]))
    assert (a - b).norm() < (a - c).norm()


def test_labels_are_dropped_at_the_rate(generator):
    labels = torch.arange(10_000) % 7
    dropped = drop_labels(labels, null=7, rate=0.1, generator=generator)
    assert 0.08 < (dropped == 7).float().mean() < 0.12
    assert torch.equal(dropped[dropped != 7], labels[dropped != 7])
    assert torch.equal(drop_labels(labels, null=7, rate=0.0), labels)
    assert (drop_labels(labels, null=7, rate=1.0) == 7).all()


def test_no_label_has_a_vector_of_its_own():
    embed = LabelEmbed(5, 8)
    assert embed.embed.weight.shape == (6, 8)
    assert F.mse_loss(embed(torch.tensor([5])), embed(torch.tensor([4]))) > 0


@pytest.mark.parametrize("name", [f"{size}/{patch}" for size in DIT_SIZES for patch in (2, 4, 8)])
def test_the_twelve_models_have_names(name):
    config = dit_config(name)
    assert (config.depth, config.width, config.heads) == DIT_SIZES[name.split("/")[0]]
    assert config.grid == (32 // config.patch,) * 2 and config.channels_out == 8


def test_a_model_of_another_size_keeps_the_rest():
    config = dit_config("S/4", size=(8, 16), learn_sigma=False)
    assert config.grid == (2, 4) and config.width == 384 and config.channels_out == 4


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dit_config("M/2"), "name='M/2' is none of the twelve; use S, B, L or XL"),
        (lambda: dit_config("XL/3"), "such as 'B/2'"),
        (lambda: dit_config("XL"), "such as 'B/2'"),
        (lambda: ImageDiTConfig(width=30, heads=3), "width=30 must be a multiple of heads=3, and of 4"),
        (lambda: ImageDiTConfig(width=32, heads=3), "width=32 must be a multiple of heads=3"),
        (lambda: ImageDiTConfig(width=32, heads=0), "width=32 must be a multiple of heads=0"),
        (lambda: ImageDiTConfig(size=(32, 31)), "width of the latent=31 .* use 30 or 32"),
        (lambda: ImageDiTConfig(size=(5, 32)), "height of the latent=5 .* use 4 or 6"),
        (lambda: drop_labels(torch.zeros(2, dtype=torch.long), null=1, rate=10.0), "rate=10.0 is no share"),
        (lambda: LabelEmbed(5, 8)(torch.tensor([2, 6])), "labels from 2 to 6; use 0 to 4, or 5 for no label"),
        (lambda: ImageDiT(CONFIG)(torch.zeros(1, 3, 6, 4), torch.zeros(1), torch.tensor([0])), r"are for \(4, 6\)"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
