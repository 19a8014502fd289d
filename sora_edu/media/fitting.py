"""Fit a video to a model, and show two beside each other: what is cut, padded or picked is returned as notes.

(lesson 03)
"""

import torch
from einops import rearrange
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn.functional import interpolate

from sora_edu.checked import checked
from sora_edu.errors import InputError
from sora_edu.shapes import Video, check_frames

Notes = tuple[str, ...]


@checked
def fit_to_patches(
    video: Shaped[Tensor, "..."], *, unit: int, max_side: int, stride: int = 4
) -> tuple[Float[Tensor, "b c nf nh nw"], Notes]:
    """Cut and shrink a video until a model takes it: sides in multiples of `unit` pixels, 1 + k * stride frames."""
    check_video(video)
    return fit_video(video, size=fitting_size(video.shape[-2:], unit=unit, max_side=max_side), stride=stride)


def fitting_size(size: tuple[int, int], *, unit: int, max_side: int) -> tuple[int, int]:
    """The largest (height, width) in multiples of `unit` that stays near the aspect and within `max_side`."""
    if max_side < unit:
        raise InputError(f"--max-side {max_side} must be at least {unit}, one patch of this checkpoint")
    scale = min(1.0, max_side / max(size))
    height, width = (max(unit, int(side * scale) // unit * unit) for side in size)
    return height, width


@checked
def fit_video(
    video: Shaped[Tensor, "..."], *, size: tuple[int, int], frames: int | None = None, stride: int = 4
) -> tuple[Float[Tensor, "b c nf nh nw"], Notes]:
    """Cut and shrink a video to `size` = (height, width) and to 1 + k * stride frames, and say what was done.

    The centre is cropped to the aspect of `size` and resized with antialiasing. Of a longer video `frames` are
    picked evenly; a shorter one, or any with frames = None, loses what is beyond the last 1 + k * stride.
    Raises InputError where `frames` is not 1 + a multiple of `stride`.
    """
    check_video(video)
    if frames is not None:
        check_frames(frames, stride)
    if min(size) < 1:
        raise InputError(f"size={size}, expected a positive height and width")
    video, picked = pick_frames(video, frames, stride)
    video, cropped = crop_to_aspect(video, size)
    video, resized = resize(video, size)
    return video, picked + cropped + resized


def check_video(video: object) -> None:
    """Refuse what is no video of floats in [-1, 1]; bytes would be taken for a white picture."""
    if not isinstance(video, Tensor) or video.ndim != 5 or not video.is_floating_point() or video.numel() == 0:
        got = f"{tuple(video.shape)} of {video.dtype}" if isinstance(video, Tensor) else type(video).__name__
        raise InputError(f"got {got}, expected a video b c f h w of floats in [-1, 1]; divide bytes by 127.5, less 1")


@checked
def pick_frames(video: Video, frames: int | None, stride: int) -> tuple[Float[Tensor, "b c nf h w"], Notes]:
    """Pick `frames` evenly out of more, or keep the first 1 + k * stride."""
    have = video.shape[2]
    if frames is not None and frames < have:
        places = torch.linspace(0, have - 1, frames, dtype=torch.float64).round().long()
        return video[:, :, places], (f"picked {frames} of {have} frames evenly",)
    kept = 1 + (have - 1) // stride * stride
    notes = () if kept == have else (f"kept the first {kept} of {have} frames",)
    if frames is not None and kept < frames:
        notes += (f"{kept} frames instead of {frames}, as the video is shorter",)
    return video[:, :, :kept], notes


@checked
def crop_to_aspect(video: Video, size: tuple[int, int]) -> tuple[Float[Tensor, "b c f nh nw"], Notes]:
    """Cut out the middle, in the aspect of `size` = (height, width)."""
    height, width = video.shape[-2:]
    aspect = size[0] / size[1]
    crop = (min(height, max(1, round(width * aspect))), min(width, max(1, round(height / aspect))))
    if crop == (height, width):
        return video, ()
    top = (height - crop[0]) // 2
    left = (width - crop[1]) // 2
    note = f"cropped from {width}x{height} to the middle {crop[1]}x{crop[0]}"
    return video[..., top : top + crop[0], left : left + crop[1]], (note,)


@checked
def resize(video: Video, size: tuple[int, int]) -> tuple[Float[Tensor, "b c f nh nw"], Notes]:
    """Resize each frame to `size` = (height, width) with antialiasing."""
    frames, height, width = video.shape[2:]
    if (height, width) == tuple(size):
        return video, ()
    flat = rearrange(video, "b c f h w -> (b f) c h w")
    flat = interpolate(flat, size=tuple(size), mode="bilinear", antialias=True).clamp(-1, 1)
    note = f"resized from {width}x{height} to {size[1]}x{size[0]}"
    return rearrange(flat, "(b f) c h w -> b c f h w", f=frames), (note,)


@checked
def side_by_side(a: Shaped[Tensor, "..."], b: Shaped[Tensor, "..."], *, gap: int = 2) -> Float[Tensor, "b c f h w"]:
    """Join two videos b c f h w left and right, `gap` white pixels between; all but their widths must agree."""
    check_video(a)
    check_video(b)
    if a.shape[:-1] != b.shape[:-1]:
        raise InputError(f"{tuple(a.shape)} and {tuple(b.shape)} differ in more than width; use fit_video on one first")
    return torch.cat([a, a.new_ones(*a.shape[:-1], gap), b], dim=-1)
