"""Sparse attention: masks by hand, groups against masked full attention on the same weights, and the cost counted."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sora_edu.errors import InputError
from sora_edu.model.attention import FactorisedAttention, SelfAttention
from sora_edu.model.positions import grid_positions, rope_nd
from sora_edu.model.sparse import (
    StridedAttention,
    WindowAttention,
    cut_strides,
    cut_windows,
    factorised_masks,
    join_strides,
    join_windows,
    stride_mask,
    window_mask,
)

GRID = (4, 6, 10)  # nf nh nw, no two alike, n = 240
BOXES = [(1, 1, 1), (2, 3, 5), (4, 2, 1), (1, 6, 10), (4, 6, 10)]
KINDS = [(WindowAttention, "window", window_mask), (StridedAttention, "stride", stride_mask)]


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def seeded(module, seed=42):
    """Give every parameter fixed random values, the biases and norms too."""
    g = torch.Generator().manual_seed(seed)
    for p in module.parameters():
        p.data = torch.randn(p.shape, generator=g) / p.shape[-1] ** 0.5
    return module


def test_window_mask_by_hand():
    # A row of 6 in windows of 2; and a 2 x 2 frame in windows of one column.
    expected = torch.block_diag(*[torch.ones(2, 2)] * 3).bool()
    assert torch.equal(window_mask((1, 1, 6), (1, 1, 2)), expected)
    assert window_mask((1, 2, 2), (1, 2, 1)).int().tolist() == [[1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1]]


def test_stride_mask_by_hand():
    assert stride_mask((1, 1, 6), (1, 1, 3)).int()[0].tolist() == [1, 0, 0, 1, 0, 0]
    assert stride_mask((2, 1, 4), (1, 1, 2)).int()[1].tolist() == [0, 1, 0, 1, 0, 1, 0, 1]


@pytest.mark.parametrize("box", BOXES)
def test_masks_count_the_pairs_that_their_docstrings_promise(box):
    n, m = math.prod(GRID), math.prod(box)
    window, stride = window_mask(GRID, box), stride_mask(GRID, box)
    assert (window.sum(-1) == m).all() and (stride.sum(-1) == n // m).all()
    assert torch.equal(window, window.T) and torch.equal(stride, stride.T)
    assert window.diagonal().all() and stride.diagonal().all()


def test_factorised_masks_are_frames_and_columns_and_hold_3072_pairs_on_8_4_4():
    place = grid_positions(GRID)
    space, time = factorised_masks(GRID)
    assert torch.equal(space, place[:, None, 0] == place[None, :, 0])
    assert torch.equal(time, (place[:, None, 1:] == place[None, :, 1:]).all(-1))
    space, time = factorised_masks((8, 4, 4))
    assert (space.numel(), int(space.sum()), int(time.sum())) == (16_384, 2_048, 1_024)


def test_factorised_attention_is_attention_under_the_two_masks():
    attention, x = seeded(FactorisedAttention(16, 2)), randn(2, 240, 16)
    space, time = factorised_masks(GRID)
    y = x + attention.space(x, mask=space)
    torch.testing.assert_close(attention(x, grid=GRID), y + attention.time(y, mask=time), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize(("cut", "join", "name", "mask"), [
    (cut_windows, join_windows, "window", window_mask), (cut_strides, join_strides, "stride", stride_mask),
])  # fmt: skip
def test_groups_are_the_masks_classes_and_join_undoes_cut(cut, join, name, mask, box):
    numbers = torch.arange(2.0 * 240).view(2, 240, 1)
    groups = cut(numbers, grid=GRID, **{name: box})
    assert torch.equal(join(groups, grid=GRID, **{name: box}), numbers)
    allowed = mask(GRID, box)
    for group in groups[..., 0].long():
        batch, members = group // 240, group % 240
        assert (batch == batch[0]).all() and (members.diff() > 0).all()  # one clip, in the order of the tokens
        assert allowed[members[0]].nonzero()[:, 0].tolist() == members.tolist()


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize(("kind", "name", "mask"), KINDS)
def test_sparse_attention_is_full_attention_under_its_mask(kind, name, mask, box, turned):
    sparse, full = seeded(kind(16, 2, **{name: box})), SelfAttention(16, 2)
    full.load_state_dict(sparse.attention.state_dict())
    x, rope = randn(2, 240, 16), rope_nd(GRID, 8) if turned else None
    expected = full(x, rope=rope, mask=mask(GRID, box))
    torch.testing.assert_close(sparse(x, grid=GRID, rope=rope), expected, atol=1e-5, rtol=1e-4)
    if box not in (BOXES[0], BOXES[-1]):  # it is neither full attention nor each token alone
        assert not torch.allclose(sparse(x, grid=GRID, rope=rope), full(x, rope=rope), atol=1e-3)
        turned_only = sparse(x, grid=GRID, rope=rope_nd(GRID, 8)) - sparse(x, grid=GRID)
        assert turned_only.abs().max() > 1e-3


@pytest.mark.parametrize(("kind", "name", "mask"), KINDS)
def test_a_change_reaches_the_group_and_nobody_else(kind, name, mask):
    sparse, x = seeded(kind(16, 2, **{name: (2, 3, 5)})), randn(1, 240, 16)
    changed = x.clone()
    changed[:, 100] += 1
    moved = (sparse(changed, grid=GRID) - sparse(x, grid=GRID)).abs().amax((0, 2)) > 1e-6
    assert torch.equal(moved, mask(GRID, (2, 3, 5))[100])


def test_a_window_and_then_as_large_a_stride_carry_every_token_to_every_other():
    box = (2, 3, 5)
    window, stride = window_mask(GRID, box).float(), stride_mask(GRID, box).float()
    assert (stride @ window > 0).all() and not (window @ window > 0).all() and not (stride @ stride > 0).all()


def flops(module, grid, d=16):
    """Multiply-adds times two, as torch counts them, of one forward; inside the fused kernel it would see none."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        module(randn(1, math.prod(grid), d), grid=grid)
    return counter.get_total_flops()


def test_a_window_costs_linearly_and_a_stride_and_full_attention_quadratically():
    small, large, d = (4, 6, 4), (8, 6, 8), 16  # 96 tokens and four times as many
    window, stride = WindowAttention(d, 2, window=(2, 3, 4)), StridedAttention(d, 2, stride=(2, 3, 4))
    assert flops(window, large) == 4 * flops(window, small)
    for n, grid in ((96, small), (384, large)):
        weights = 2 * 4 * n * d * d
        assert flops(window, grid) == weights + 2 * 2 * n * 24 * d
        assert flops(stride, grid) == weights + 2 * 2 * n * (n // 24) * d
        full = WindowAttention(d, 2, window=grid)
        assert flops(full, grid) == weights + 2 * 2 * n * n * d


class Block(nn.Module):
    """A transformer's block over a grid, with whichever attention it is given."""

    def __init__(self, d, attention):
        super().__init__()
        self.attention, self.mlp = attention, nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(), nn.Linear(4 * d, d))

    def forward(self, x, **options):
        x = x + self.attention(F.layer_norm(x, x.shape[-1:]), **options)
        return x + self.mlp(F.layer_norm(x, x.shape[-1:]))


def test_blocks_of_windows_and_strides_learn_together():
    window, stride = WindowAttention(16, 2, window=(2, 3, 5)), StridedAttention(16, 2, stride=(2, 3, 5))
    first, second = seeded(Block(16, window)), seeded(Block(16, stride), seed=43)
    rope, x = rope_nd(GRID, 8), randn(2, 240, 16)
    y = second(first(x, grid=GRID, rope=rope), grid=GRID, rope=rope)
    y.square().mean().backward()
    assert y.shape == x.shape
    assert all(p.grad is not None and p.grad.abs().max() > 0 for b in (first, second) for p in b.mlp.parameters())
    assert all(b.attention.attention.qkv.weight.grad.abs().max() > 0 for b in (first, second))


def test_the_same_module_takes_any_grid_that_fits():
    sparse = WindowAttention(16, 2, window=(1, 2, 2))
    assert sparse(randn(1, 8, 16), grid=(2, 2, 2)).shape == (1, 8, 16)
    assert sparse(randn(3, 72, 16), grid=(3, 4, 6)).shape == (3, 72, 16)


@pytest.mark.parametrize(("kind", "name", "mask"), KINDS)
def test_what_does_not_fit_is_refused_with_what_would(kind, name, mask):
    uneven = rf"{name}=\(2, 4, 5\) does not divide grid=\(4, 6, 10\): nh=6 by 4; use one of 1, 2, 3, 6"
    with pytest.raises(InputError, match=uneven):
        mask(GRID, (2, 4, 5))
    with pytest.raises(InputError, match=uneven):
        kind(16, 2, **{name: (2, 4, 5)})(randn(1, 240, 16), grid=GRID)
    with pytest.raises(InputError, match=r"nf=4 by 0; use one of 1, 2, 4"):
        mask(GRID, (0, 2, 5))
    with pytest.raises(InputError, match=r"grid=\(4, 6, 10\) has 240 cells, but there are n=30 tokens; pass the grid"):
        kind(16, 2, **{name: (2, 3, 5)})(randn(1, 30, 16), grid=GRID)
    with pytest.raises(InputError, match="d=10 is not a multiple of heads=4; use d=8"):
        kind(10, 4, **{name: (1, 1, 1)})


@pytest.mark.parametrize(("join", "name"), [(join_windows, "window"), (join_strides, "stride")])
def test_join_refuses_what_does_not_fit(join, name):
    with pytest.raises(InputError, match=r"nw=10 by 4; use one of 1, 2, 5, 10"):
        join(randn(10, 24, 1), grid=GRID, **{name: (2, 3, 4)})
