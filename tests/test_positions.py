"""Position embeddings against closed forms: sines by hand, rotations that keep norms and see only displacements."""

import math

import pytest
import torch

from sora_edu.errors import InputError
from sora_edu.model.positions import apply_rope, grid_positions, rope_nd, sincos_1d, sincos_nd, split_axes
from sora_edu.model.spacetime import patchify_video

GRIDS = [(7,), (3, 5), (2, 3, 5)]  # one to three axes, no two alike


def vector(seed, n, head_dim=16):
    """One random vector, the same at each of n positions: b heads n dh."""
    one = torch.randn(1, 1, 1, head_dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return one.expand(1, 1, n, head_dim)


def test_grid_positions_by_hand():
    assert grid_positions((2, 1, 3)).tolist() == [[0, 0, 0], [0, 0, 1], [0, 0, 2], [1, 0, 0], [1, 0, 1], [1, 0, 2]]


def test_with_a_spacing_the_same_canvas_is_cut_into_larger_or_smaller_tokens():
    edges = [(float(p.min()) - step / 2, float(p.max()) + step / 2) for p, step in (
        (grid_positions((n,), spacing=(step,)), step) for n, step in ((4, 1.0), (6, 4 / 6), (3, 4 / 3))
    )]  # fmt: skip
    torch.testing.assert_close(torch.tensor(edges), torch.tensor([[-0.5, 3.5]] * 3))
    torch.testing.assert_close(grid_positions((2, 2), spacing=(1.0, 0.5))[:, 1], torch.tensor([-0.25, 0.25] * 2))


@pytest.mark.parametrize("embed", [sincos_nd, rope_nd])
def test_a_spacing_of_one_changes_no_bit_and_another_moves_its_axis_alone(embed):
    def codes(**options):
        found = embed((2, 3, 5), 18, **options)
        return found if embed is sincos_nd else torch.cat(found, -1)

    assert torch.equal(codes(), codes(spacing=(1.0, 1.0, 1.0)))
    moved = (codes() != codes(spacing=(1.0, 1.0, 0.5))).any(0)
    shares = split_axes(18, 3)
    last = shares[-1] if embed is sincos_nd else 2 * (shares[-1] // 2)
    assert moved.sum() == last


def test_grid_positions_follow_the_order_of_the_tokens():
    f, h, w = torch.meshgrid(torch.arange(2.0), torch.arange(3.0), torch.arange(5.0), indexing="ij")
    video = torch.stack([f, h, w]).unsqueeze(0)  # every pixel holds its own coordinates: 1 3 f h w
    assert torch.equal(grid_positions((2, 3, 5)), patchify_video(video, pf=1, ph=1, pw=1)[0])


def test_sincos_1d_is_its_closed_form():
    position, d = [0.0, 1.0, 5.0, 40.0], 8
    expected = [
        [wave(p * 10_000 ** (-2 * i / d)) for wave in (math.sin, math.cos) for i in range(d // 2)] for p in position
    ]
    torch.testing.assert_close(sincos_1d(torch.tensor(position), d), torch.tensor(expected))


@pytest.mark.parametrize(
    ("d", "axes", "shares"), [(12, 3, [4, 4, 4]), (16, 3, [4, 6, 6]), (32, 3, [10, 10, 12]), (8, 1, [8])]
)
def test_channels_are_shared_among_the_axes(d, axes, shares):
    assert split_axes(d, axes) == shares


@pytest.mark.parametrize("grid", GRIDS)
def test_sincos_nd_gives_each_axis_its_own_channels(grid):
    embedding, position = sincos_nd(grid, 16), grid_positions(grid)
    assert embedding.shape == (math.prod(grid), 16)
    start = 0
    for axis, share in enumerate(split_axes(16, len(grid))):
        torch.testing.assert_close(embedding[:, start : start + share], sincos_1d(position[:, axis], share))
        start += share
    assert len(embedding.unique(dim=0)) == len(embedding)  # no two tokens share a position


@pytest.mark.parametrize("grid", GRIDS)
def test_rope_angles_are_their_closed_form(grid):
    cos, sin = rope_nd(grid, 16)
    assert cos.shape == sin.shape == (math.prod(grid), 8)
    for n, place in enumerate(grid_positions(grid).tolist()):
        shares = split_axes(16, len(grid))
        angles = [p * 100 ** (-2 * i / s) for p, s in zip(place, shares, strict=True) for i in range(s // 2)]
        torch.testing.assert_close(cos[n], torch.tensor(angles).cos())
        torch.testing.assert_close(sin[n], torch.tensor(angles).sin())


def test_a_step_along_one_axis_turns_only_the_channels_of_that_axis():
    nf, nh, nw = 2, 3, 5
    angles = torch.atan2(*reversed(rope_nd((nf, nh, nw), 16))).view(nf, nh, nw, 8)
    start = 0
    for axis, share in enumerate(split_axes(16, 3)):
        moved = angles.diff(dim=axis).abs().amax((0, 1, 2)) > 1e-6
        assert moved.tolist() == [start <= i < start + share // 2 for i in range(8)]
        start += share // 2


def test_apply_rope_turns_a_pair_by_hand():
    x = torch.tensor([1.0, 0.0, 0.0, 2.0]).view(1, 1, 1, 4)  # pairs (1, 0) and (0, 2)
    angle = torch.tensor([[math.pi / 2, math.pi]])
    torch.testing.assert_close(apply_rope(x, angle.cos(), angle.sin()).flatten(), torch.tensor([0.0, 0.0, 1.0, -2.0]))


def test_apply_rope_is_multiplication_by_a_complex_number():
    cos, sin = rope_nd((2, 3, 5), 16)
    x = torch.randn(2, 4, 30, 16, generator=torch.Generator().manual_seed(0))
    a, b = x.chunk(2, -1)
    product = torch.complex(a, b) * torch.complex(cos, sin)
    torch.testing.assert_close(apply_rope(x, cos, sin), torch.cat([product.real, product.imag], -1))


@pytest.mark.parametrize("grid", GRIDS)
def test_rope_keeps_the_norm_and_leaves_the_origin(grid):
    x = torch.randn(2, 4, math.prod(grid), 16, generator=torch.Generator().manual_seed(1))
    turned = apply_rope(x, *rope_nd(grid, 16))
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    assert torch.equal(turned[:, :, 0], x[:, :, 0])
    assert not torch.allclose(turned[:, :, 1:], x[:, :, 1:])


@pytest.mark.parametrize("grid", GRIDS)
def test_rope_scores_depend_on_the_displacement_alone(grid):
    n, rope = math.prod(grid), [part.double() for part in rope_nd(grid, 16)]
    q, k = apply_rope(vector(2, n), *rope)[0, 0], apply_rope(vector(3, n), *rope)[0, 0]
    scores, position, seen = q @ k.T, grid_positions(grid), {}
    for i in range(n):
        for j in range(n):
            seen.setdefault(tuple((position[i] - position[j]).tolist()), []).append(scores[i, j].item())
    # Within one displacement all scores agree; from one displacement to another they differ.
    assert all(max(group) - min(group) < 1e-5 for group in seen.values())
    assert len(seen) == math.prod(2 * size - 1 for size in grid)
    firsts = sorted(group[0] for group in seen.values())
    assert firsts[-1] - firsts[0] > 0.1


def test_a_larger_grid_begins_with_the_angles_of_a_smaller_one():
    small, large = rope_nd((2, 3, 4), 16)[0].view(2, 3, 4, 8), rope_nd((5, 6, 7), 16)[0].view(5, 6, 7, 8)
    torch.testing.assert_close(large[:2, :3, :4], small)


@pytest.mark.parametrize("d", [0, 1, 7])
def test_odd_widths_are_refused_by_sincos_1d(d):
    with pytest.raises(InputError, match=rf"d={d} must be even.* use {max(2, d + d % 2)}"):
        sincos_1d(torch.zeros(3), d)


@pytest.mark.parametrize("embed", [sincos_nd, rope_nd])
@pytest.mark.parametrize("d", [4, 9])
def test_too_few_or_odd_channels_for_three_axes_are_refused(embed, d):
    with pytest.raises(InputError, match=rf"d.*={d} must be even and at least 6"):
        embed((2, 3, 4), d)
