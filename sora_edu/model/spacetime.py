"""A video as a row of tokens, in ViViT's two ways: patches of some frames laid flat, or tubelets, deep in time.

(lesson 03)
"""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from sora_edu.checked import checked
from sora_edu.errors import InputError
from sora_edu.model.patches import check_axes, patchify
from sora_edu.shapes import Grid, Tokens, Video, check_divisible


def uniform_indices(frames: int, count: int) -> list[int]:
    """Return ``count`` evenly spread frame numbers, first and last included: ``i (frames - 1) // (count - 1)``.

    A count of 1 gives the first frame. Raises InputError unless count lies in 1..frames.
    """
    if not 1 <= count <= frames:
        raise InputError(
            f"count={count} is not in 1..{frames}, the number of frames; pick fewer, or take a longer video"
        )
    return [i * (frames - 1) // max(count - 1, 1) for i in range(count)]


@checked
def uniform_frames(video: Video, *, count: int) -> Float[Tensor, "b c {count} h w"]:
    """Keep ``count`` frames, evenly spread: ``b c f h w`` to ``b c count h w`` (ViViT, 2103.15691, section 3.2)."""
    check_axes(video, "b c f h w")
    indices = torch.tensor(uniform_indices(video.shape[2], count), device=video.device)
    return video.index_select(2, indices)


@checked
def flat_frame_tokens(video: Video, *, count: int, ph: int, pw: int) -> Tokens:
    """Cut ``count`` evenly spread frames into image patches and lay them end to end (ViViT, 2103.15691, figure 2).

    ``b c f h w`` to ``b (count nh nw) (ph pw c)``: no token holds more than one instant, and the frames between
    are never seen. Raises InputError as uniform_frames and patchify do.
    """
    frames = uniform_frames(video, count=count)
    patches = patchify(rearrange(frames, "b c f h w -> (b f) c h w"), ph=ph, pw=pw)
    return rearrange(patches, "(b f) n d -> b (f n) d", f=count)


def token_grid(shape: tuple[int, int, int], *, pf: int, ph: int, pw: int) -> Grid:
    """Return ``(nf, nh, nw) = (f / pf, h / ph, w / pw)`` for a video of shape (f, h, w).

    Raises InputError, with the nearest sizes that fit, where one of them is not whole.
    """
    f, h, w = shape
    return check_divisible("f", f, pf), check_divisible("h", h, ph), check_divisible("w", w, pw)


@checked
def patchify_video(video: Video, *, pf: int, ph: int, pw: int) -> Tokens:
    """Cut a video into boxes of pf frames by ph by pw pixels, tubelets (ViViT section 3.2, figure 3).

    ``b c f h w`` to ``b n (pf ph pw c)``, n = nf nh nw: time slowest, then down, then left to right.
    Raises InputError where the axes are not b c f h w, or a size is not a multiple of the patch.
    """
    check_axes(video, "b c f h w")
    token_grid(tuple(video.shape[2:]), pf=pf, ph=ph, pw=pw)
    return rearrange(video, "b c (nf pf) (nh ph) (nw pw) -> b (nf nh nw) (pf ph pw c)", pf=pf, ph=ph, pw=pw)


@checked
def unpatchify_video(tokens: Tokens, *, grid: Grid, pf: int, ph: int, pw: int) -> Video:
    """Put tubelets back together, the inverse of patchify_video: ``b n (pf ph pw c)`` to ``b c f h w``.

    grid = (nf, nh, nw) as token_grid gives it. Raises InputError where grid or patch do not fit the tokens.
    """
    check_axes(tokens, "b n (pf-ph-pw-c)")
    nf, nh, nw = grid
    if tokens.shape[1] != nf * nh * nw:
        raise InputError(
            f"grid={grid} holds {nf * nh * nw} tokens, not {tokens.shape[1]}; pass what token_grid returns"
        )
    check_divisible("the width of a token", tokens.shape[2], pf * ph * pw)
    order = "b (nf nh nw) (pf ph pw c) -> b c (nf pf) (nh ph) (nw pw)"
    return rearrange(tokens, order, nf=nf, nh=nh, pf=pf, ph=ph, pw=pw)


@checked
def sliding_tubelets(video: Video, *, patch: tuple[int, int, int], stride: tuple[int, int, int]) -> Tokens:
    """Cut boxes of patch = (pf, ph, pw) that start every ``stride`` frames, rows, columns, and so may overlap.

    ``b c f h w`` to ``b n (pf ph pw c)``, n the product of (size - patch) / stride + 1 over f, h, w; with
    stride = patch it is patchify_video. Raises InputError where frames or a border of pixels would be left over.
    """
    check_axes(video, "b c f h w")
    boxes = video
    for axis, (name, p, step) in enumerate(zip("fhw", patch, stride, strict=True), start=2):
        size = video.shape[axis]
        if step < 1 or p < 1 or size < p or (size - p) % step:
            raise InputError(f"{name}={size} is not {p} + a multiple of {step}; crop, pad, or change the stride")
        boxes = boxes.unfold(axis, p, step)
    return rearrange(boxes, "b c nf nh nw pf ph pw -> b (nf nh nw) (pf ph pw c)")


class TubeletEmbed(nn.Module):
    """Cut a video into tubelets, then map each to a token of ``width`` numbers; with pf = 1 an image too has tokens."""

    def __init__(self, channels: int, width: int, *, pf: int, ph: int, pw: int):
        super().__init__()
        self.pf, self.ph, self.pw = pf, ph, pw
        self.embed = nn.Linear(pf * ph * pw * channels, width)

    @checked
    def forward(self, video: Float[Tensor, "b c f h w"]) -> Float[Tensor, "b n d"]:
        """Return one token for each tubelet; raises InputError as patchify_video does."""
        tubelets = patchify_video(video, pf=self.pf, ph=self.ph, pw=self.pw)  # b n (pf ph pw c)
        return self.embed(tubelets)  #                                          b n d
