"""Users' images and videos in, clips out: `load_media("cat.jpg")`, `save_clip(video, "cat.gif")`.

Reading is in `reading`, writing and [-1, 1] to bytes in `writing`, and what fits a video to a model in `fitting`.
Nothing is cut, padded or picked silently: it is returned as notes.
"""

from sora_edu.media.fitting import fit_to_patches, fit_video, fitting_size, side_by_side
from sora_edu.media.reading import Clip, fetched_clip, load_clip, load_image, load_media, load_video
from sora_edu.media.writing import save_clip, to_uint8

__all__ = [
    "Clip",
    "fetched_clip",
    "fit_to_patches",
    "fit_video",
    "fitting_size",
    "load_clip",
    "load_image",
    "load_media",
    "load_video",
    "save_clip",
    "side_by_side",
    "to_uint8",
]
