"""The exact state of clips of the toy world: what each object is, and where it is at each frame.

Lengths are in units and times in ticks, as in ``paths``: at 17x32x32 a unit is a pixel and a tick is a frame
(lesson 01).
"""

from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sora_edu.checked import checked
from sora_edu.errors import InputError
from sora_edu.world.vocabulary import BACKGROUNDS, COLOURS, MOTIONS, SCENES, SHAPES, SIZES


@dataclass(frozen=True)
class State:
    """What a batch of clips shows, exactly. Names are indices into the tuples of ``vocabulary``; -1 is "no object"."""

    scene: Int[Tensor, "b"]
    shape: Int[Tensor, "b k"]
    colour: Int[Tensor, "b k"]
    size: Int[Tensor, "b k"]
    motion: Int[Tensor, "b k"]
    background: Int[Tensor, "b"]
    pan: Float[Tensor, "b"]  # units a tick that the camera moves to the right
    bar: Float[Tensor, "b 2"]  # left and right edge of the bar, NaN where there is none
    centre: Float[Tensor, "b k f 2"]  # x, y of each object's centroid on the canvas, in units
    radius: Float[Tensor, "b k f"]

    def __len__(self) -> int:
        return len(self.scene)

    def __getitem__(self, rows) -> "State":
        rows = [rows] if isinstance(rows, int) else rows
        return State(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def to(self, device) -> "State":
        return State(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


@checked
def cat_states(states: list[State]) -> State:
    """Join batches of states into one."""
    if not states:
        raise InputError("there are no states to join; give at least one")
    return State(**{f.name: torch.cat([getattr(s, f.name) for s in states]) for f in fields(State)})


@checked
def check_state(state: State, *needed: str) -> None:
    """Refuse a state whose indices name nothing, or whose objects lack one of the ``needed`` attributes.

    Raises InputError. An index of -1 would otherwise mean the last name of a tuple, and another one no object at all.
    """
    there = state.shape >= 0
    for name, names in (("scene", SCENES), ("background", BACKGROUNDS)):
        _check_indices(name, getattr(state, name), 0, len(names) - 1)
    for name, names in (("shape", SHAPES), ("colour", COLOURS), ("size", SIZES), ("motion", MOTIONS)):
        index = getattr(state, name)
        _check_indices(name, index, -1, len(names) - 1)
        if name in needed and (there & (index < 0)).any():
            raise InputError(f"state.{name} is -1 for an object that is there; give it an index from 0")


def _check_indices(name: str, index: Int[Tensor, "*b"], low: int, high: int) -> None:
    if index.numel() == 0:
        return
    least, most = int(index.min()), int(index.max())
    if least < low or most > high:
        raise InputError(f"state.{name} reaches from {least} to {most}, but its indices go from {low} to {high}")
