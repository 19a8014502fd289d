"""Patches against counts by hand, an image of consecutive numbers, torch's own unfold, and a strided convolution."""

import jaxtyping
import pytest
import torch
import torch.nn.functional as F

from sora_edu.errors import InputError
from sora_edu.model.patches import PatchEmbed, patchify, sliding_patches, unpatchify


@pytest.fixture
def unchecked():
    """Switch the shape hook off, so that the library's own message is seen, as a user sees it."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def random_images(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def unfolded(images, patch, stride):
    """torch's unfold writes a patch as (c ph pw); the order here is (ph pw c)."""
    columns = F.unfold(images, kernel_size=patch, stride=stride).transpose(1, 2)  # b n (c ph pw)
    b, n, _ = columns.shape
    return columns.view(b, n, images.shape[1], *patch).permute(0, 1, 3, 4, 2).reshape(b, n, -1)


def test_a_photograph_of_224_pixels_has_196_patches_of_768_numbers():
    images = random_images(2, 3, 224, 224)
    assert patchify(images, ph=16, pw=16).shape == (2, 196, 768)
    assert sliding_patches(images, patch=16, stride=8).shape == (2, 729, 768)


def test_patch_order_by_hand():
    # Two channels of 4 x 6: channel 0 counts 0..23 along the rows, channel 1 goes on with 24..47.
    tokens = patchify(torch.arange(48.0).view(1, 2, 4, 6), ph=2, pw=3)
    assert tokens.shape == (1, 4, 12)
    assert tokens[0, 0].tolist() == [0, 24, 1, 25, 2, 26, 6, 30, 7, 31, 8, 32]  # rows, columns, then channels
    assert tokens[0, :, 0].tolist() == [0, 3, 12, 15]  # to the right first, then down


def test_patch_15_of_the_photograph_is_row_1_column_1():
    images = random_images(1, 3, 224, 224)
    corner = images[0, :, 16:32, 16:32].permute(1, 2, 0).flatten()
    assert torch.equal(patchify(images, ph=16, pw=16)[0, 15], corner)


@pytest.mark.parametrize(
    ("h", "w", "ph", "pw"), [(4, 6, 2, 3), (8, 4, 4, 1), (6, 10, 1, 5), (5, 7, 5, 7), (3, 2, 1, 1)]
)
def test_unpatchify_inverts_patchify(h, w, ph, pw):
    images = random_images(2, 3, h, w)
    tokens = patchify(images, ph=ph, pw=pw)
    assert torch.equal(unpatchify(tokens, grid=(h // ph, w // pw), ph=ph, pw=pw), images)
    assert tokens.numel() == images.numel()  # cutting compresses nothing


def test_the_grid_matters_beyond_its_product():
    tokens = patchify(random_images(1, 1, 4, 16), ph=2, pw=2)
    wide, square = (unpatchify(tokens, grid=grid, ph=2, pw=2) for grid in ((2, 8), (4, 4)))
    assert wide.shape == (1, 1, 4, 16) and square.shape == (1, 1, 8, 8)


@pytest.mark.parametrize("patch", [(2, 3), (4, 2), (1, 6)])
def test_patchify_is_torchs_unfold_in_another_order(patch):
    images = random_images(2, 3, 8, 12)
    assert torch.equal(patchify(images, ph=patch[0], pw=patch[1]), unfolded(images, patch, patch))


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_sliding_patches_are_torchs_overlapping_unfold(stride):
    images = random_images(2, 3, 8, 12)
    assert torch.equal(sliding_patches(images, patch=4, stride=stride), unfolded(images, (4, 4), stride))


def test_sliding_patches_without_overlap_are_plain_patches():
    images = random_images(2, 3, 8, 12)
    assert torch.equal(sliding_patches(images, patch=4, stride=4), patchify(images, ph=4, pw=4))


def test_patch_embed_is_a_strided_convolution():
    embed, images = PatchEmbed(3, 8, ph=2, pw=4), random_images(2, 3, 6, 12)
    kernel = embed.embed.weight.view(8, 2, 4, 3).permute(0, 3, 1, 2)  # d (ph pw c) to d c ph pw
    convolved = F.conv2d(images, kernel, embed.embed.bias, stride=(2, 4)).flatten(2).transpose(1, 2)
    torch.testing.assert_close(embed(images), convolved)
    assert embed(images).shape == (2, 9, 8)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 225, 224), "h=225 .* 16; use 224 or 240"),
        ((1, 3, 224, 10), "w=10 .* 16; use 16"),
        ((1, 3, 0, 16), "h=0 "),
    ],
)
def test_sizes_that_do_not_divide_are_refused_with_the_nearest_that_do(shape, message):
    with pytest.raises(InputError, match=message):
        patchify(torch.zeros(shape), ph=16, pw=16)


@pytest.mark.parametrize("patch", [0, -2])
def test_a_patch_of_less_than_one_pixel_is_refused(patch):
    with pytest.raises(InputError, match=rf"h=4 cannot be cut by a patch of {patch}"):
        patchify(torch.zeros(1, 3, 4, 4), ph=patch, pw=2)


@pytest.mark.parametrize("shape", [(3, 4, 4), (1, 3, 1, 4, 4)])
def test_a_missing_or_extra_axis_is_refused(unchecked, shape):
    with pytest.raises(InputError, match=rf"patchify: images .* {len(shape)} axes instead of \(b c h w\)"):
        patchify(torch.zeros(shape), ph=2, pw=2)
    with pytest.raises(InputError, match=rf"got {len(shape)} axes, .* instead of \(b c h w\); add a missing axis"):
        patchify.__wrapped__(torch.zeros(shape), ph=2, pw=2)  # as the lesson has it, without the door's check
    with pytest.raises(InputError, match="axes"):
        sliding_patches(torch.zeros(shape), patch=2, stride=1)


def test_tokens_that_do_not_fit_the_grid_are_refused(unchecked):
    with pytest.raises(InputError, match=r"grid=\(2, 3\) holds 6 tokens, but there are 4"):
        unpatchify(torch.zeros(1, 4, 12), grid=(2, 3), ph=2, pw=2)
    with pytest.raises(InputError, match=r"the width of a token=10 .* multiple of 4; use 8 or 12"):
        unpatchify(torch.zeros(1, 6, 10), grid=(2, 3), ph=2, pw=2)
    with pytest.raises(InputError, match="2 axes instead of"):
        unpatchify(torch.zeros(6, 12), grid=(2, 3), ph=2, pw=2)


@pytest.mark.parametrize(("patch", "stride"), [(4, 3), (9, 1), (4, 0), (0, 1)])
def test_sliding_patches_that_leave_a_border_are_refused(patch, stride):
    with pytest.raises(InputError, match=rf"h=8 is not {patch} \+ a multiple of {stride}; crop, pad"):
        sliding_patches(torch.zeros(1, 3, 8, 8), patch=patch, stride=stride)
