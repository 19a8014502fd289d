"""Functions of answers, run again on a check's hidden cases and on changed copies: do two of them come to the same?"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch

from sora_edu.course.grading import as_array, limited
from sora_edu.course.proof.answers import mapped
from sora_edu.course.proof.watching import PATIENCE, RAISED, Called, Outcome, kept

ROUNDING = 5e-3  # the share by which numbers differ at most that are the same in three figures


@dataclass(frozen=True)
class Raised:
    """A function came to no value."""

    error: str


def run_again(function: Callable, arguments: list) -> object:
    """What a function returns for copies of the arguments, or that it raised."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with limited(PATIENCE):
                return function(*map(kept, arguments))
        except RAISED as error:
            return Raised(type(error).__name__)


def alike(a: object, b: object, tolerance: float, share: float = 1e-6) -> bool:
    """Whether two values are the same words, or the same numbers in one shape, NaN in the same places.

    Numbers may differ by ``tolerance``, and by a ``share`` of themselves.
    """
    one, two = as_array(a), as_array(b)
    if one is not None and two is not None:
        if one.shape != two.shape and not one.size == two.size == 1:
            return False
        return bool(np.allclose(one.reshape(two.shape), two, rtol=share, atol=tolerance, equal_nan=True))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(alike(a[key], b[key], tolerance, share) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(alike(x, y, tolerance, share) for x, y in zip(a, b, strict=True))
    return type(a) is type(b) and bool(a == b)


def shuffled(value: object, generator: torch.Generator, factor: float) -> object:
    """The numbers of a tensor or list in another order, and times ``factor`` if not whole; words turned round.

    What is in range stays there: shares, steps, permutations and masks.
    """

    def turn(part: object) -> object:
        if torch.is_tensor(part):
            mixed = part.flatten()[torch.randperm(part.numel(), generator=generator)].view_as(part)
            return mixed * factor if part.is_floating_point() else mixed
        if isinstance(part, list) and as_array(part) is not None and len(part) > 1:
            return [part[i] for i in torch.randperm(len(part), generator=generator)]
        return " ".join(reversed(part.title().split())) if isinstance(part, str) else part

    return mapped(turn, value)


def doubled(value: object, size: int) -> object:
    """Twice as much along every axis that has this size."""

    def turn(part: object) -> object:
        if torch.is_tensor(part):
            for axis in (axis for axis, length in enumerate(part.shape) if length == size):
                part = torch.cat((part, part), axis)
        return part * 2 if isinstance(part, list) and len(part) == size else part

    return mapped(turn, value)


def changed_copies(arguments: list, *, gently: bool) -> Iterator[list]:
    """Arguments with other numbers, and of other sizes; gently: only turned round, where a case has to look real."""
    if gently:
        yield [argument.flip(-1) if torch.is_tensor(argument) and argument.ndim else argument for argument in arguments]
        return
    generator = torch.Generator().manual_seed(0)
    for factor in (1.0, 0.9):
        yield [shuffled(argument, generator, factor) for argument in arguments]
    for i, argument in enumerate(arguments):
        for number in other_numbers(argument):
            yield [*arguments[:i], number, *arguments[i + 1 :]]
    parts = [part for one in arguments for part in (one.values() if isinstance(one, dict) else [one])]
    sizes = [len(part) for part in parts if isinstance(part, list)]
    sizes += [size for part in parts if torch.is_tensor(part) for size in part.shape]
    for size in dict.fromkeys(sizes):
        yield [shuffled(doubled(argument, size), generator, 1.0) for argument in arguments]


def other_numbers(number: object) -> list[float | int]:
    """One more, twice and half of a whole number; a little less of another; nothing else."""
    if type(number) is int:
        return [number + 1, 2 * number, number // 2]
    return [0.9 * number] if type(number) is float else []


def come_to_the_same(outcome: Outcome, solution: Outcome) -> bool:
    """Whether an answer's functions return what the solution's do, on the hidden cases and on changed copies of them.

    The check's own tolerance holds, and grows with the values; where it has none, three figures.
    """
    ours, theirs = outcome.watch.functions(), solution.watch.functions()
    if len(ours) != len(theirs):
        return False
    for (mine, _), (right, calls) in zip(ours, theirs, strict=True):
        cases = [(call, call.arguments) for call in calls]
        copies = ((call, c) for call in calls for c in changed_copies(call.arguments, gently=call.tolerance is None))
        for call, case in chain(cases, copies):
            expected, share = run_again(right, case), ROUNDING if call.tolerance is None else 1e-6
            growth = size(expected) / size(run_again(right, call.arguments))
            tolerance = (1e-5 if call.tolerance is None else call.tolerance) * max(1.0, growth)
            fair = is_fair(call, case, expected, tolerance)
            if fair and not alike(run_again(mine, case), expected, tolerance, share):
                return False
    return True


def is_fair(call: Called, case: list, expected: object, tolerance: float) -> bool:
    """Whether the solution has a value on a case, and the check's reference the same: else no answer need have it."""
    if isinstance(expected, Raised):
        return False
    return call.reference is None or alike(run_again(call.reference, case), expected, tolerance)


def size(value: object) -> float:
    """The largest absolute value in a result; 1 where there is none."""
    values = as_array(value)
    return float(np.nan_to_num(np.abs(values)).max()) or 1.0 if values is not None and values.size else 1.0
