"""Users' images and videos in, clips out: `load_media("cat.jpg")`, `save_clip(video, "cat.gif")`.

Reading is in `media_in`, writing and [-1, 1] to bytes in `media_out`; this module adds what fits a video to a
model and shows two beside each other. Nothing is cut, padded or picked silently: it is returned as notes.
"""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from sora_edu.errors import InputError
from sora_edu.media_in import Clip, fetched_clip, load_clip, load_image, load_media, load_video
from sora_edu.media_out import Notes, save_clip, to_uint8
from sora_edu.shapes import Video, check_frames

__all__ = [
    "Clip",
    "fetched_clip",
    "fit_video",
    "load_clip",
    "load_image",
    "load_media",
    "load_video",
    "save_clip",
    "side_by_side",
    "to_uint8",
]


def fit_video(
    video: Video, *, size: tuple[int, int], frames: int | None = None, stride: int = 4
) -> tuple[Float[Tensor, "b c nf nh nw"], Notes]:
    """Cut and shrink a video to `size` = (height, width) and to 1 + k * stride frames, and say what was done.

    The centre is cropped to the aspect of `size` and resized with antialiasing. Of a longer video `frames` are
    picked evenly; a shorter one, or any with frames = None, loses what is beyond the last 1 + k * stride.
    Raises InputError where `frames` is not 1 + a multiple of `stride`.
    """
    if frames is not None:
        check_frames(frames, stride)
    if min(size) < 1:
        raise InputError(f"size={size}, expected a positive height and width")
    have, height, width = video.shape[2:]
    kept = frames if frames is not None and frames <= have else 1 + (have - 1) // stride * stride
    notes = []
    if frames is not None and frames < have:
        video = video[:, :, torch.linspace(0, have - 1, frames, dtype=torch.float64).round().long()]
        notes.append(f"picked {frames} of {have} frames evenly")
    elif kept < have:
        video = video[:, :, :kept]
        notes.append(f"kept the first {kept} of {have} frames")
    if frames is not None and kept < frames:
        notes.append(f"{kept} frames instead of {frames}, as the video is shorter")
    aspect = size[0] / size[1]
    crop = (min(height, max(1, round(width * aspect))), min(width, max(1, round(height / aspect))))
    if crop != (height, width):
        top, left = (height - crop[0]) // 2, (width - crop[1]) // 2
        video = video[..., top : top + crop[0], left : left + crop[1]]
        notes.append(f"cropped from {width}x{height} to the middle {crop[1]}x{crop[0]}")
    if crop != tuple(size):
        flat = rearrange(video, "b c f h w -> (b f) c h w")
        flat = interpolate(flat, size=tuple(size), mode="bilinear", antialias=True).clamp(-1, 1)
        video = rearrange(flat, "(b f) c h w -> b c f h w", f=kept)
        notes.append(f"resized from {crop[1]}x{crop[0]} to {size[1]}x{size[0]}")
    return video, tuple(notes)


def side_by_side(
    a: Float[Tensor, "b c f h wa"], b: Float[Tensor, "b2 c2 f2 h2 wb"], *, gap: int = 2
) -> Float[Tensor, "b c f h w"]:
    """Join two videos left and right, `gap` white pixels between them; all but their widths must agree."""
    if a.shape[:-1] != b.shape[:-1]:
        raise InputError(f"{tuple(a.shape)} and {tuple(b.shape)} differ in more than width; use fit_video on one first")
    return torch.cat([a, a.new_ones(*a.shape[:-1], gap), b], dim=-1)
