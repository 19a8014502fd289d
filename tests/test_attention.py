"""Attention against torch's own, and its factorised form against full attention under the mask that it amounts to."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sora_edu.errors import InputError
from sora_edu.model.attention import CrossAttention, FactorisedAttention, SelfAttention, attend
from sora_edu.model.image_dit import PlainAttention
from sora_edu.model.positions import rope_nd

GRID = (2, 3, 5)  # nf nh nw, n = 30


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def seeded(module):
    """Give every parameter fixed random values, the biases and norms too."""
    g = torch.Generator().manual_seed(42)
    for p in module.parameters():
        p.data = torch.randn(p.shape, generator=g) / p.shape[-1] ** 0.5
    return module


def without_norms(module):
    module.norm_q = module.norm_k = nn.Identity()
    return module


def test_attend_by_hand():
    # One query whose scores for two keys are ln 3 and 0: weights 3/4 and 1/4 on the values 8 and 4.
    q, k = torch.ones(1, 1, 1, 1), torch.log(torch.tensor([3.0, 1.0])).view(1, 1, 2, 1)
    assert attend(q, k, torch.tensor([8.0, 4.0]).view(1, 1, 2, 1)).item() == pytest.approx(7.0)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("n", "m"), [(6, 6), (4, 9), (3, 1001)])  # the last one takes torch's fused kernel
def test_attend_is_torchs_scaled_dot_product_attention(n, m, masked):
    q, k, v = randn(2, 3, n, 8), randn(2, 3, m, 8, seed=1), randn(2, 3, m, 8, seed=2)
    mask = None
    if masked:
        mask = randn(2, 1, n, m, seed=3) > 0
        mask[..., 0] = True  # everybody may look at somebody
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    torch.testing.assert_close(attend(q, k, v, mask=mask), expected)


def test_attend_never_looks_behind_the_mask():
    q, k, v = randn(1, 2, 4, 8), randn(1, 2, 6, 8, seed=1), randn(1, 2, 6, 8, seed=2)
    mask = torch.arange(6)[None] < 4
    changed_k, changed_v = k.clone(), v.clone()
    changed_k[:, :, 4:], changed_v[:, :, 4:] = 100.0, -100.0
    torch.testing.assert_close(attend(q, changed_k, changed_v, mask=mask), attend(q, k[:, :, :4], v[:, :, :4]))
    assert not torch.allclose(attend(q, changed_k, changed_v), attend(q, k, v))


@pytest.mark.parametrize("m", [6, 1001])  # the plain product, and torch's fused kernel
def test_a_query_that_may_look_at_nobody_gets_zeros_and_so_do_its_gradients(m):
    q, k, v = (randn(2, 3, n, 8, seed=n).requires_grad_() for n in (4, m, m))
    mask = randn(2, 1, 4, m, seed=3) > 0
    mask[:, :, 1] = False
    y = attend(q, k, v, mask=mask)
    assert y[:, :, 1].eq(0).all() and y[:, :, 0].ne(0).all()
    y.square().sum().backward()
    assert q.grad[:, :, 1].eq(0).all() and q.grad[:, :, 0].ne(0).any()

    with torch.no_grad():
        scores = (q @ k.mT / 8**0.5).double()
        e = scores.exp() * mask
        weights = e / e.sum(-1, keepdim=True).clamp(min=1e-300)
        torch.testing.assert_close(y.double(), weights @ v.double(), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(v.grad.double(), weights.mT @ (2 * y.double()), rtol=1e-5, atol=1e-6)
    assert k.grad.isfinite().all()


@pytest.mark.parametrize("layer", [SelfAttention(24, 3), CrossAttention(24, 3, 7)])
def test_a_normed_head_is_root_mean_square_one_times_its_weight(layer):
    norm, x = layer.norm_q, 10 * randn(2, 3, 5, 8)
    torch.testing.assert_close(norm(x).square().mean(-1), torch.ones(2, 3, 5))
    norm.weight.data = torch.arange(8.0)
    torch.testing.assert_close(norm(x), x / x.square().mean(-1, keepdim=True).sqrt() * torch.arange(8.0))


def test_self_attention_is_torchs_multi_head_attention():
    ours, theirs = without_norms(seeded(SelfAttention(12, 3))), nn.MultiheadAttention(12, 3, batch_first=True)
    theirs.in_proj_weight.data, theirs.in_proj_bias.data = ours.qkv.weight.data, ours.qkv.bias.data
    theirs.out_proj.weight.data, theirs.out_proj.bias.data = ours.out.weight.data, ours.out.bias.data
    x, mask = randn(2, 5, 12), torch.ones(5, 5, dtype=torch.bool).tril()
    torch.testing.assert_close(ours(x), theirs(x, x, x)[0])
    torch.testing.assert_close(ours(x, mask=mask), theirs(x, x, x, attn_mask=~mask)[0])  # torch marks what is hidden


def test_self_attention_norms_and_turns_queries_and_keys_but_not_values():
    ours, x = seeded(SelfAttention(16, 2)), randn(2, 30, 16)
    cos, sin = rope_nd(GRID, 8)

    def heads_of(part, norm=None):
        y = part.view(2, 30, 2, 8).transpose(1, 2)
        if norm is None:
            return y
        y = y / (y.square().mean(-1, keepdim=True) + 1e-6).sqrt() * norm.weight
        a, b = y[..., :4], y[..., 4:]
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)

    q, k, v = ours.qkv(x).split(16, -1)
    y = F.scaled_dot_product_attention(heads_of(q, ours.norm_q), heads_of(k, ours.norm_k), heads_of(v))
    torch.testing.assert_close(ours(x, rope=(cos, sin)), ours.out(y.transpose(1, 2).reshape(2, 30, 16)))


def test_without_positions_the_order_of_tokens_does_not_matter_and_with_them_it_does():
    attention, x = seeded(SelfAttention(16, 2)), randn(1, 30, 16)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(attention(x[:, order]), attention(x)[:, order], atol=1e-5, rtol=1e-5)
    rope = rope_nd(GRID, 8)
    assert not torch.allclose(attention(x[:, order], rope=rope), attention(x, rope=rope)[:, order], atol=1e-3)


def test_the_last_token_reaches_the_first():
    attention, x = seeded(SelfAttention(16, 2)), randn(1, 30, 16)
    changed = x.clone()
    changed[:, -1] += 1
    assert (attention(changed) - attention(x))[:, 0].abs().max() > 1e-4  # no causal mask


def test_cross_attention_is_torchs_multi_head_attention():
    ours = without_norms(seeded(CrossAttention(12, 3, 7)))
    theirs = nn.MultiheadAttention(12, 3, kdim=7, vdim=7, batch_first=True)
    theirs.q_proj_weight.data = ours.q.weight.data
    theirs.k_proj_weight.data, theirs.v_proj_weight.data = ours.kv.weight.data.chunk(2)
    theirs.in_proj_bias.data = torch.cat([ours.q.bias.data, ours.kv.bias.data])
    theirs.out_proj.weight.data, theirs.out_proj.bias.data = ours.out.weight.data, ours.out.bias.data
    x, context = randn(2, 5, 12), randn(2, 4, 7, seed=1)
    mask = torch.tensor([[True, True, True, False], [True, False, False, False]])
    expected = theirs(x, context, context, key_padding_mask=~mask)[0]
    torch.testing.assert_close(ours(x, context, mask=mask), expected)
    torch.testing.assert_close(ours(x, context), theirs(x, context, context)[0])


def test_cross_attention_norms_queries_and_keys():
    attention, x, context = seeded(CrossAttention(12, 3, 7)), randn(2, 5, 12), randn(2, 4, 7, seed=1)
    attention.q.bias.data.zero_(), attention.kv.bias.data[:12].zero_()  # the first half of kv makes the keys
    before = attention(x, context)
    attention.q.weight.data *= 5
    attention.kv.weight.data[:12] *= 5
    torch.testing.assert_close(attention(x, context), before, atol=1e-4, rtol=1e-4)  # their size does not count


def test_cross_attention_ignores_masked_words():
    attention, x, context = seeded(CrossAttention(12, 3, 7)), randn(2, 5, 12), randn(2, 4, 7, seed=1)
    mask = torch.tensor([[True, True, True, True], [True, True, False, False]])
    before = attention(x, context, mask=mask)
    for word in range(4):
        changed = context.clone()
        changed[:, word] += 1
        moved = (attention(x, changed, mask=mask) - before).abs().amax((1, 2)) > 1e-5
        assert moved.tolist() == mask[:, word].tolist()


def test_padding_a_prompt_changes_nothing_under_the_mask():
    attention, x, context = seeded(CrossAttention(12, 3, 7)), randn(2, 5, 12), randn(2, 4, 7, seed=1)
    padded = torch.cat([context, randn(2, 3, 7, seed=2)], 1)
    mask = (torch.arange(7) < 4).expand(2, 7)
    torch.testing.assert_close(attention(x, padded, mask=mask), attention(x, context))


def frames_and_columns():
    """For each pair of tokens of GRID: are they in one frame, are they in one column of time?"""
    n, plane = torch.arange(30), GRID[1] * GRID[2]
    frame, column = n // plane, n % plane
    return frame[:, None] == frame[None], column[:, None] == column[None]


def test_factorised_attention_is_full_attention_with_block_masks():
    attention, x = seeded(FactorisedAttention(16, 2)), randn(2, 30, 16)
    same_frame, same_column = frames_and_columns()
    y = x + attention.space(x, mask=same_frame)
    y = y + attention.time(y, mask=same_column)
    torch.testing.assert_close(attention(x, grid=GRID), y)
    assert not torch.allclose(attention(x, grid=GRID), attention(x, grid=(3, 2, 5)), atol=1e-3)


def test_factorised_attention_still_carries_every_token_to_every_other():
    attention, x = seeded(FactorisedAttention(16, 2)), randn(1, 30, 16)
    before = attention(x, grid=GRID)
    changed = x.clone()
    changed[:, -1] += 1
    assert (attention(changed, grid=GRID) - before).abs().amax(-1).min() > 1e-7  # space, then time: two hops


def test_factorised_attention_looks_at_3072_pairs_where_full_attention_looks_at_16384():
    nf, nh, nw = 8, 4, 4
    n = torch.arange(nf * nh * nw)
    frame, column = n // (nh * nw), n % (nh * nw)
    pairs = sum((part[:, None] == part[None]).sum().item() for part in (frame, column))
    assert (len(n) ** 2, pairs) == (16_384, 3_072)


@pytest.mark.parametrize("make", [SelfAttention, lambda d, h: CrossAttention(d, h, 4), PlainAttention])
def test_a_width_that_the_heads_do_not_divide_is_refused(make):
    with pytest.raises(InputError, match="d=10 is not a multiple of heads=4; use d=8"):
        make(10, 4)


def test_a_grid_of_another_size_than_the_tokens_is_refused():
    with pytest.raises(InputError, match=r"grid=\(2, 3, 4\) has 24 cells, but there are n=30 tokens; pass the grid"):
        FactorisedAttention(16, 2)(randn(1, 30, 16), grid=(2, 3, 4))


@pytest.mark.parametrize("heads", [0, -2])
def test_no_heads_are_refused(heads):
    with pytest.raises(InputError, match=f"heads={heads} share nothing among them; use at least 1"):
        SelfAttention(12, heads)


@pytest.mark.parametrize("shape", [(5, 1, 4), (2, 5, 1, 4), (1, 1, 2, 3, 4), (4,)])
def test_a_mask_for_other_heads_or_batches_is_refused(shape, as_a_user):
    q, k, v = (torch.randn(2, 3, n, 4) for n in (3, 4, 4))
    with pytest.raises(InputError, match="attend: mask is "):
        attend(q, k, v, mask=torch.ones(shape, dtype=torch.bool))


def test_tokens_and_words_of_another_width_are_refused(as_a_user):
    with pytest.raises(InputError, match="x is .*"):
        SelfAttention(8, 2)(torch.randn(1, 3, 6))
    with pytest.raises(InputError, match="context is .*"):
        CrossAttention(8, 2, 5)(torch.randn(1, 3, 8), torch.randn(1, 4, 6))
