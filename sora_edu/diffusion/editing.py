"""Known frames: which ones a training shows clean, and sampling that leaves them as they are.

A known frame is one at t = 0 (Diffusion Forcing, Chen et al. 2407.01392). One model so begins a clip from a picture,
goes on with a clip in either direction, and fills the gap between two (lesson 10).
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool
from torch import Tensor

from sora_edu.checked import checked
from sora_edu.diffusion.flow import VelocityFn
from sora_edu.diffusion.sampling import euler
from sora_edu.errors import InputError
from sora_edu.shapes import Latent, Times

Known = Bool[Tensor, "b lf"]  # whether a latent frame is known
SamplerFn = Callable[..., Tensor]  # (velocity_fn, noise, *, steps, ...) -> sample


def sample_known(
    n: int,
    frames: int,
    *,
    share: float,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> Bool[Tensor, "{n} {frames}"]:
    """Draw which latent frames of n training clips are known: some in a ``share`` of them, in the others none.

    Of those, two in five know the first frame, and one in five each the last, both, and a random set. A single frame
    is never known, and one is left to be learnt. Raises InputError unless share is in [0, 1].
    """
    if not 0 <= share <= 1:
        raise InputError(f"share={share} is not in [0, 1]; use 0.5 for known frames in half of the clips")

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, device=device)

    place = torch.arange(frames, device=device)
    first = (place == 0).expand(n, -1)
    last = (place == frames - 1).expand(n, -1)
    some = rand(n, frames) < rand(n, 1)
    kinds = torch.stack((first, first, last, first | last, some), 1)  # n 5 frames
    known = kinds[torch.arange(n, device=device), (5 * rand(n)).long()]
    known = known & (rand(n, 1) < share)
    return known & ~known.all(1, keepdim=True)


@checked
def times_of_frames(t: Times, known: Known) -> Times:
    """One time a clip, ``b``, as a time for each of its latent frames, ``b lf``: 0 where a frame is known."""
    return torch.where(known, 0, t[:, None] if t.ndim == 1 else t)


@checked
def keep_known(velocity_fn: VelocityFn, x_0: Latent, known: Known) -> VelocityFn:
    """A velocity that sees the known frames of x_0 clean and never moves them; the rest of x_0 is not looked at."""
    kept = known[:, None, :, None, None]  #                                              b 1 lf 1 1

    def velocity(x_t: Latent, t: Times) -> Latent:
        v = velocity_fn(torch.where(kept, x_0, x_t), times_of_frames(t, known))
        return torch.where(kept, 0, v)

    return velocity


@checked
def sampler_from(x_0: Latent, known: Known, *, sampler: SamplerFn = euler) -> SamplerFn:
    """A sampler whose samples hold the known frames of x_0: ``pipe(prompt, sampler=sampler_from(x_0, known))``.

    sampler: euler, heun or sde, which does the rest. Raises InputError where noise and x_0 differ in shape.
    """
    kept = known[:, None, :, None, None]

    def sample(velocity_fn: VelocityFn, noise: Latent, **options) -> Latent:
        if noise.shape != x_0.shape:
            shapes = f"the noise is {tuple(noise.shape)}, x_0 {tuple(x_0.shape)}"
            raise InputError(f"{shapes}; ask for as many clips, of the same size, as x_0 holds")
        z = sampler(keep_known(velocity_fn, x_0, known), torch.where(kept, x_0, noise), **options)
        return torch.where(kept, x_0, z)

    return sample
