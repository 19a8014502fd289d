"""Flat frames and tubelets against counts by hand, consecutive numbers, a loop, and a strided 3-D convolution."""

from itertools import pairwise

import jaxtyping
import pytest
import torch
import torch.nn.functional as F

from sora_edu.errors import InputError
from sora_edu.model.patches import patchify
from sora_edu.model.spacetime import (
    TubeletEmbed,
    flat_frame_tokens,
    patchify_video,
    sliding_tubelets,
    token_grid,
    uniform_frames,
    uniform_indices,
    unpatchify_video,
)


@pytest.fixture
def unchecked():
    """Switch the shape hook off, so that the library's own message is seen, as a user sees it."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def random_video(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("frames", "count", "indices"),
    [
        (17, 5, [0, 4, 8, 12, 16]),
        (8, 4, [0, 2, 4, 7]),
        (10, 2, [0, 9]),
        (6, 6, [0, 1, 2, 3, 4, 5]),
        (9, 1, [0]),
        (1, 1, [0]),
    ],
)
def test_uniform_indices_by_hand(frames, count, indices):
    assert uniform_indices(frames, count) == indices


def test_uniform_indices_hold_the_ends_and_never_repeat():
    for frames in range(2, 40):
        for count in range(2, frames + 1):
            indices = uniform_indices(frames, count)
            gaps = [b - a for a, b in pairwise(indices)]
            assert len(indices) == count and indices[0] == 0 and indices[-1] == frames - 1
            assert min(gaps) >= 1 and max(gaps) - min(gaps) <= 1  # even to within one frame


def test_uniform_frames_are_the_frames_of_the_indices():
    video = torch.arange(17.0).view(1, 1, 17, 1, 1).expand(2, 3, 17, 4, 6)
    kept = uniform_frames(video, count=5)
    assert kept.shape == (2, 3, 5, 4, 6) and kept[1, 2, :, 3, 5].tolist() == [0, 4, 8, 12, 16]


def test_flat_frame_tokens_are_the_patches_of_each_frame_in_turn():
    video = random_video(2, 3, 9, 4, 6)
    tokens = flat_frame_tokens(video, count=3, ph=2, pw=3)
    assert tokens.shape == (2, 12, 18)
    for i, frame in enumerate((0, 4, 8)):
        assert torch.equal(tokens[:, 4 * i : 4 * i + 4], patchify(video[:, :, frame], ph=2, pw=3))


def test_flat_frame_tokens_never_see_a_frame_that_was_not_sampled():
    video = random_video(1, 3, 9, 4, 6)
    before = flat_frame_tokens(video, count=3, ph=2, pw=3)
    for frame in range(9):
        changed = video.clone()
        changed[:, :, frame] += 1
        same = (flat_frame_tokens(changed, count=3, ph=2, pw=3) == before).all(-1)[0]
        touched = range(4 * (frame // 4), 4 * (frame // 4) + 4) if frame in (0, 4, 8) else []
        assert same.tolist() == [token not in touched for token in range(12)]


def test_every_frame_reaches_the_tubelets_of_its_time():
    video = random_video(1, 3, 6, 4, 6)
    before = patchify_video(video, pf=3, ph=2, pw=3)
    for frame in range(6):
        changed = video.clone()
        changed[:, :, frame] += 1
        same = (patchify_video(changed, pf=3, ph=2, pw=3) == before).all(-1)[0]
        assert same.tolist() == [token // 4 != frame // 3 for token in range(8)]


@pytest.mark.parametrize(
    ("shape", "patch", "grid"),
    [
        ((16, 224, 224), (2, 16, 16), (8, 14, 14)),
        ((32, 224, 224), (4, 16, 16), (8, 14, 14)),
        ((5, 8, 8), (1, 2, 2), (5, 4, 4)),
        ((1, 24, 16), (1, 8, 4), (1, 3, 4)),
    ],
)
def test_token_grid_of_four_shapes(shape, patch, grid):
    pf, ph, pw = patch
    assert token_grid(shape, pf=pf, ph=ph, pw=pw) == grid
    video = torch.zeros(1, 1, *shape)
    assert patchify_video(video, pf=pf, ph=ph, pw=pw).shape == (1, grid[0] * grid[1] * grid[2], pf * ph * pw)


def test_tubelet_order_by_hand():
    # Two channels of 4 frames of 2 x 4; element (c, f, h, w) holds 32 c + 8 f + 4 h + w.
    tokens = patchify_video(torch.arange(64.0).view(1, 2, 4, 2, 4), pf=2, ph=1, pw=2)
    assert tokens.shape == (1, 8, 8)
    assert tokens[0, 0].tolist() == [0, 32, 1, 33, 8, 40, 9, 41]  # frames, rows, columns, then channels
    assert tokens[0, :, 0].tolist() == [0, 2, 4, 6, 16, 18, 20, 22]  # right, then down, then later


@pytest.mark.parametrize("patch", [(1, 1, 1), (2, 2, 3), (3, 1, 5), (6, 4, 15)])
def test_unpatchify_video_inverts_patchify_video(patch):
    pf, ph, pw = patch
    video = random_video(2, 3, 6, 4, 15)
    tokens = patchify_video(video, pf=pf, ph=ph, pw=pw)
    grid = token_grid((6, 4, 15), pf=pf, ph=ph, pw=pw)
    assert torch.equal(unpatchify_video(tokens, grid=grid, pf=pf, ph=ph, pw=pw), video)


def test_a_one_frame_video_has_the_tokens_of_its_image():
    images = random_video(2, 3, 8, 12)
    video = images.unsqueeze(2)
    expected = patchify(images, ph=2, pw=4)
    assert torch.equal(patchify_video(video, pf=1, ph=2, pw=4), expected)
    assert torch.equal(flat_frame_tokens(video, count=1, ph=2, pw=4), expected)


def test_flat_frames_of_all_frames_are_tubelets_of_depth_one():
    video = random_video(2, 3, 5, 4, 6)
    assert torch.equal(flat_frame_tokens(video, count=5, ph=2, pw=3), patchify_video(video, pf=1, ph=2, pw=3))


@pytest.mark.parametrize("stride", [(2, 2, 3), (1, 2, 3), (2, 1, 1), (1, 2, 1)])
def test_sliding_tubelets_are_the_boxes_that_start_at_every_stride(stride):
    video, (pf, ph, pw) = random_video(2, 3, 6, 4, 9), (2, 2, 3)
    starts = [range(0, size - p + 1, s) for size, p, s in zip((6, 4, 9), (pf, ph, pw), stride, strict=True)]
    boxes = [video[:, :, f : f + pf, y : y + ph, x : x + pw] for f in starts[0] for y in starts[1] for x in starts[2]]
    expected = torch.stack([box.permute(0, 2, 3, 4, 1).flatten(1) for box in boxes], dim=1)
    assert torch.equal(sliding_tubelets(video, patch=(pf, ph, pw), stride=stride), expected)


def test_sliding_tubelets_with_a_stride_of_a_patch_are_tubelets():
    video = random_video(1, 3, 6, 4, 9)
    tokens = sliding_tubelets(video, patch=(2, 2, 3), stride=(2, 2, 3))
    assert torch.equal(tokens, patchify_video(video, pf=2, ph=2, pw=3))


def test_overlap_in_time_only_has_seven_layers_of_sixteen_frames():
    tokens = sliding_tubelets(torch.zeros(1, 1, 16, 8, 8), patch=(4, 4, 4), stride=(2, 4, 4))
    assert tokens.shape == (1, 7 * 4, 64)


@pytest.mark.parametrize(
    ("patch", "stride", "message"),
    [
        ((4, 2, 3), (3, 2, 3), "f=6 is not 4 . a multiple of 3; crop, pad, or change the stride"),
        ((2, 3, 3), (2, 2, 3), "h=4 is not 3 . a multiple of 2"),
        ((2, 2, 10), (2, 2, 3), "w=9 is not 10 . a multiple of 3"),
        ((2, 2, 3), (0, 2, 3), "f=6 is not 2 . a multiple of 0"),
    ],
)
def test_strides_that_leave_something_over_are_refused(patch, stride, message):
    with pytest.raises(InputError, match=message):
        sliding_tubelets(torch.zeros(1, 3, 6, 4, 9), patch=patch, stride=stride)


def test_tubelet_embed_is_a_strided_3d_convolution():
    embed, video = TubeletEmbed(3, 8, pf=2, ph=2, pw=4), random_video(2, 3, 4, 6, 12)
    kernel = embed.embed.weight.view(8, 2, 2, 4, 3).permute(0, 4, 1, 2, 3)  # d (pf ph pw c) to d c pf ph pw
    convolved = F.conv3d(video, kernel, embed.embed.bias, stride=(2, 2, 4)).flatten(2).transpose(1, 2)
    torch.testing.assert_close(embed(video), convolved)
    assert embed(video).shape == (2, 18, 8)


@pytest.mark.parametrize("count", [0, -1, 10])
def test_a_count_of_frames_that_the_video_lacks_is_refused(count):
    with pytest.raises(InputError, match=rf"count={count} is not in 1..9, the number of frames; pick fewer"):
        uniform_frames(torch.zeros(1, 3, 9, 4, 4), count=count)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((17, 32, 32), "f=17 .* of 2; use 16 or 18"),
        ((16, 30, 32), "h=30 .* of 4; use 28 or 32"),
        ((16, 32, 3), "w=3 .* of 8; use 8"),
    ],
)
def test_sizes_that_do_not_divide_are_refused_with_the_nearest_that_do(shape, message):
    with pytest.raises(InputError, match=message):
        patchify_video(torch.zeros(1, 3, *shape), pf=2, ph=4, pw=8)
    with pytest.raises(InputError, match=message):
        token_grid(shape, pf=2, ph=4, pw=8)


def test_an_image_where_a_video_is_due_is_refused(unchecked):
    image = torch.zeros(1, 3, 4, 4)
    for call in (
        lambda: patchify_video(image, pf=1, ph=2, pw=2),
        lambda: flat_frame_tokens(image, count=1, ph=2, pw=2),
        lambda: sliding_tubelets(image, patch=(1, 2, 2), stride=(1, 2, 2)),
        lambda: TubeletEmbed(3, 8, pf=1, ph=2, pw=2)(image),
    ):
        with pytest.raises(InputError, match=r"float32 \[1, 3, 4, 4\]: 4 axes instead of \(b c f h w\)"):
            call()


def test_tokens_that_do_not_fit_the_grid_are_refused(unchecked):
    with pytest.raises(InputError, match=r"grid=\(2, 2, 3\) holds 12 tokens, not 8; pass what token_grid returns"):
        unpatchify_video(torch.zeros(1, 8, 24), grid=(2, 2, 3), pf=2, ph=2, pw=2)
    with pytest.raises(InputError, match=r"the width of a token=20 .* multiple of 8; use 16 or 24"):
        unpatchify_video(torch.zeros(1, 12, 20), grid=(2, 2, 3), pf=2, ph=2, pw=2)
    with pytest.raises(InputError, match="2 axes instead of"):
        unpatchify_video(torch.zeros(12, 24), grid=(2, 2, 3), pf=2, ph=2, pw=2)
