"""An image as a row of patches, and back: patches left to right and then down, each written out as ``(ph pw c)``.

(lesson 02)
"""

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from sora_edu.checked import checked
from sora_edu.errors import InputError
from sora_edu.shapes import Image, Tokens, check_divisible


@checked
def check_axes(x: Tensor, axes: str) -> None:
    """Raise InputError unless ``x`` has one axis for each letter of ``axes``, such as "b c h w"."""
    if x.ndim != len(axes.split()):
        raise InputError(f"got {x.ndim} axes, {tuple(x.shape)}, instead of ({axes}); add a missing axis with x[None]")


@checked
def patchify(images: Image, *, ph: int, pw: int) -> Tokens:
    """Cut images into non-overlapping patches and flatten each (ViT, 2010.11929, eq. 1).

    ``b c h w`` to ``b n (ph pw c)``, n = (h / ph)(w / pw), left to right and then down.
    Raises InputError where the axes are not b c h w, or h or w is not a multiple of the patch.
    """
    check_axes(images, "b c h w")
    check_divisible("h", images.shape[2], ph)
    check_divisible("w", images.shape[3], pw)
    return rearrange(images, "b c (nh ph) (nw pw) -> b (nh nw) (ph pw c)", ph=ph, pw=pw)


@checked
def unpatchify(tokens: Tokens, *, grid: tuple[int, int], ph: int, pw: int) -> Image:
    """Put patches back together, the inverse of patchify: ``b n (ph pw c)`` to ``b c h w``.

    grid = (nh, nw): n alone does not tell 2 x 8 from 4 x 4. Raises InputError where grid or patch do not fit.
    """
    check_axes(tokens, "b n (ph-pw-c)")
    nh, nw = grid
    if tokens.shape[1] != nh * nw:
        raise InputError(f"grid={grid} holds {nh * nw} tokens, but there are {tokens.shape[1]}; pass (h / ph, w / pw)")
    check_divisible("the width of a token", tokens.shape[2], ph * pw)
    return rearrange(tokens, "b (nh nw) (ph pw c) -> b c (nh ph) (nw pw)", nh=nh, ph=ph, pw=pw)


@checked
def sliding_patches(images: Image, *, patch: int, stride: int) -> Tokens:
    """Cut square patches that start every ``stride`` pixels and so overlap where stride < patch.

    ``b c h w`` to ``b n (ph pw c)``, n = ((h - patch) / stride + 1)((w - patch) / stride + 1).
    Raises InputError where a border of pixels would be left over.
    """
    check_axes(images, "b c h w")
    for name, size in zip("hw", images.shape[2:], strict=True):
        if stride < 1 or patch < 1 or size < patch or (size - patch) % stride:
            raise InputError(f"{name}={size} is not {patch} + a multiple of {stride}; crop, pad, or change the stride")
    windows = images.unfold(2, patch, stride).unfold(3, patch, stride)
    return rearrange(windows, "b c nh nw ph pw -> b (nh nw) (ph pw c)")


class PatchEmbed(nn.Module):
    """Patchify, then map each patch to a token of ``width`` numbers (ViT's E): a strided convolution in other words."""

    def __init__(self, channels: int, width: int, *, ph: int, pw: int):
        super().__init__()
        self.ph, self.pw = ph, pw
        self.embed = nn.Linear(ph * pw * channels, width)

    @checked
    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n d"]:
        """Return one token for each patch; raises InputError as patchify does."""
        patches = patchify(images, ph=self.ph, pw=self.pw)  # b n (ph pw c)
        return self.embed(patches)  #                         b n d
