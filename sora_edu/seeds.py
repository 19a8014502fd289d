"""One seed, many independent streams of random numbers: what is drawn depends on its name and number, on nothing else.

So any step, clip or caption can be drawn again without those before it: that is what makes a resumed run exact
(lesson 10).
"""

from enum import IntEnum

import numpy as np
import torch


class Stream(IntEnum):
    """What random numbers are drawn for. The values are part of every recorded result: add some, change none."""

    VAE = 1  # steps of the VAE's training
    CLIPS = 2  # shards of the clips whose latents are kept
    CAPTIONS = 3  # shards of their captions
    DIT = 4  # steps of the transformer's training
    HELD_OUT = 5  # clips that the VAE is measured on
    WALKS = 6  # shards of a teacher's walks; in lesson 10's recorded runs, clips that no run trains on
    STUDENT = 7  # steps of a student's training; in the benchmark of VAEs, clips to measure on


def mixed_seed(*numbers: int) -> int:
    """32 bits that change with every one of the numbers (each at least 0)."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def step_generator(seed: int, stream: int, step: int, device: torch.device | str = "cpu") -> torch.Generator:
    """The randomness of one step, and of nothing else. Mixed to 32 bits: torch's CPU generator ignores the rest."""
    return torch.Generator(device).manual_seed(mixed_seed(seed, stream, step))


def coin(generator: torch.Generator, *, place: int = 0) -> float:
    """A number in [0, 1) that the processor needs now; a GPU is not waited for, its generator has a twin on the CPU.

    place: another for each number that a step needs, since each is its twin's first.
    """
    if generator.device.type != "cpu":
        generator = torch.Generator().manual_seed((generator.initial_seed() + place) % 2**32)
    return float(torch.rand(1, generator=generator))
