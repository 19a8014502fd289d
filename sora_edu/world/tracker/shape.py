"""What one object is and where, from its coverage: centre of mass, area, shape, size, and its place behind a bar.

(lesson 01)
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sora_edu.checked import checked
from sora_edu.world.paths import RADIUS
from sora_edu.world.render import coverage
from sora_edu.world.tracker.motion import UNCLEAR
from sora_edu.world.vocabulary import SHAPES, SIZES

# The area that each shape covers at radius 1, and so the radius that it must have to cover a measured area.
AREA = {
    "circle": math.pi,
    "square": 1.8**2,
    "triangle": 3 * math.sqrt(3) * 0.625**2,
    "star": 5 * 1.25**2 * math.cos(0.4 * math.pi) / math.cos(0.2 * math.pi) * math.sin(0.2 * math.pi),
    "ring": math.pi * (1.05**2 - 0.55**2),
}


@checked
def measure(alpha: Float[Tensor, "n f h w"]) -> tuple[Float[Tensor, "n f 2"], Float[Tensor, "n f"]]:
    """Centre of mass (x, y in pixels) and area (square pixels) of the coverage in each frame."""
    area = alpha.sum((2, 3))
    h, w = alpha.shape[2:]
    x = torch.arange(w, device=alpha.device) + 0.5
    y = torch.arange(h, device=alpha.device) + 0.5
    moment = torch.stack((alpha.sum(2) @ x, alpha.sum(3) @ y), -1)
    return moment / area.clamp(min=1e-6)[..., None], area


@checked(empty=True)
def draw(
    shape: str, centre: Float[Tensor, "n f 2"], radius: Float[Tensor, "n f"], h: int, w: int
) -> Float[Tensor, "n f h w"]:
    """The coverage that a shape would have there, as the renderer draws it (pixels)."""
    x = torch.arange(w, device=centre.device) + 0.5 - centre[..., 0, None, None]
    y = (torch.arange(h, device=centre.device) + 0.5)[:, None] - centre[..., 1, None, None]
    return coverage(shape, x, y, radius[..., None, None])


@checked
def read_shape(
    alpha: Float[Tensor, "n f h w"], centre: Float[Tensor, "n f 2"], area: Float[Tensor, "n f"]
) -> tuple[Int[Tensor, "n"], Float[Tensor, "n"]]:
    """The shape whose coverage fits best, in squares, and its misfit as a share of the area; UNCLEAR if none does.

    The measured area fixes the radius that each shape would have, so there is nothing to search.
    """
    misfits = []
    for shape in SHAPES:
        drawn = draw(shape, centre, (area / AREA[shape]).sqrt(), *alpha.shape[2:])
        misfits.append((drawn - alpha).square().sum((1, 2, 3)) / area.sum(1).clamp(min=1))
    least, order = torch.stack(misfits, 1).sort(1)
    clear = (least[:, 0] < 0.12) & (least[:, 0] < 0.85 * least[:, 1])
    return torch.where(clear, order[:, 0], UNCLEAR), least[:, 0]


@checked
def read_size(start: Float[Tensor, "n"]) -> Int[Tensor, "n"]:
    """The size whose radius is nearest to that at the start of the clip; UNCLEAR between two of them and beyond."""
    classes = torch.tensor([RADIUS[name] for name in SIZES], device=start.device, dtype=start.dtype)
    distance, index = (start[:, None].clamp(min=0.1) / classes).log().abs().min(1)
    return torch.where(distance < 0.15, index, UNCLEAR)


@checked
def behind_bar(
    alpha: Float[Tensor, "n f h w"],
    columns: Bool[Tensor, "n w"],
    shape: Int[Tensor, "n"],
    y: Float[Tensor, "n"],
    radius: Float[Tensor, "n"],
) -> tuple[Float[Tensor, "n f"], Float[Tensor, "n f"]]:
    """Where an object is that a bar hides in part: slide its shape along x, keep the place whose rest in sight fits.

    ``y`` and ``radius`` (pixels) are those of the frames that show it best. Returns x and the share in sight.
    """
    h, w = alpha.shape[2:]
    seen = (~columns).float()[:, None]  # n 1 w
    tries = torch.arange(0, w, 0.125, device=alpha.device)
    at = torch.stack((tries.expand(len(y), -1), y[:, None].expand(-1, len(tries))), -1)  # n tries 2
    profile = torch.zeros(*at.shape[:2], w, device=alpha.device)
    for index, name in enumerate(SHAPES):
        for row in (shape == index).nonzero()[:, 0].split(8):
            profile[row] = draw(name, at[row], radius[row, None].expand(-1, len(tries)), h, w).sum(2)
    whole = profile.sum(2)
    profile = profile * seen
    mismatch = torch.cdist(alpha.sum(2) * seen, profile)  # n f tries
    best = mismatch.argmin(2)
    return tries[best], (profile.sum(2) / whole.clamp(min=1e-6)).gather(1, best)
