"""Hostile answers: they raise, loop, lie about themselves, or change what they are given. No check finds them right."""

import copy
import math
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from numbers import Number

import numpy as np
import torch

from sora_edu.course.grading import same
from sora_edu.course.proof.answers import Answer, is_numbers, mapped


class Awkward:
    """Equal to everything, and no number."""

    def __eq__(self, other: object) -> bool:
        return True

    def __float__(self) -> float:
        raise RuntimeError("not a number")

    __hash__ = None


def in_itself() -> list:
    """A list that holds itself."""
    value = [1.0]
    value.append(value)
    return value


THINGS = {
    "10**400": lambda: 10**400,
    "a list that holds itself": in_itself,
    "a tensor without numbers (meta)": lambda: torch.zeros(2, 3, device="meta"),
    "a sparse tensor": lambda: torch.eye(3).to_sparse(),
    "a text of 10,000 letters": lambda: "x" * 10_000,
    "an object that is equal to everything": Awkward,
}


def spoilt(value: object) -> object:
    """A wrong value in the form of a right one."""
    if isinstance(value, str):
        return f"{value}x"
    if isinstance(value, set):
        return set()
    if torch.is_tensor(value) and value.dtype == torch.bool:
        return ~value
    if isinstance(value, bool | np.bool_):
        return not value
    return value + 1 if is_numbers(value) else value


def to_zero(value: object) -> None:
    """Write zeros over all numbers in an argument: tensors, lists, tables, and the parameters of networks."""
    if isinstance(value, torch.nn.Module):
        value = list(value.parameters())
    if torch.is_tensor(value):
        value.detach().zero_()
    elif isinstance(value, Mapping | list | tuple):
        keys = list(value) if isinstance(value, Mapping) else range(len(value))
        for key in keys:
            if isinstance(value[key], Number) and not isinstance(value, tuple):
                value[key] = 0
            else:
                to_zero(value[key])


def trust_everything() -> None:
    """Make every comparison of the libraries true; ``judge`` puts the libraries' own back."""
    math.isclose = np.isclose = np.allclose = torch.allclose = torch.isclose = lambda *_, **__: True


def apart(arguments: tuple) -> list:
    """Copies to the bottom, networks and generators too, that belong together as the arguments do."""
    memo = {id(a): a.clone_state() for a in arguments if isinstance(a, torch.Generator)}
    return [copy.deepcopy(argument, memo) for argument in arguments]


def hostile_functions(solution: Callable) -> dict[str, Callable]:
    """Functions that no check may find right, in place of a solution."""

    def raises(*_):
        raise RuntimeError("no " * 3000)

    def nothing(*arguments):
        len(arguments)

    def leaves(*_):
        sys.exit(3)

    def wrong_of(arguments):
        """The solution's answer with a mistake; where it is no value but what was done to an argument: not done."""
        value = mapped(spoilt, solution(*apart(arguments)))
        return next((given for given in arguments if type(given) is type(value) and not is_numbers(given)), value)

    def spoils(*arguments):
        right = solution(*apart(arguments))
        for argument in arguments:
            to_zero(argument)
        try:
            value = solution(*arguments)
        except Exception:  # zeros are no input for every solution
            return mapped(spoilt, right)
        return mapped(spoilt, right) if same(value, right, 0.0) or isinstance(value, str) else value

    def patches(*arguments):
        trust_everything()
        return wrong_of(arguments)

    def runs_for_ever(*_):
        while True:
            pass

    found = {"raises": raises, "returns nothing": nothing, "leaves Python": leaves}
    found |= {f"returns {told}": lambda *_, make=make: make() for told, make in THINGS.items()}
    found |= {"spoils its input, then errs": spoils, "patches isclose and allclose, then errs": patches}
    return found | ({"never ends": runs_for_ever} if hasattr(signal, "setitimer") else {})


def hostile_values(value: object) -> dict[str, Callable[[], object]]:
    """What makes values that no check may find right, in place of ``value``."""

    def patched():
        trust_everything()
        return mapped(spoilt, value)

    def function(*_):
        raise RuntimeError("no number")

    others = {
        "not a number": lambda: math.nan,
        "an empty array": lambda: np.zeros(0),
        "a function": lambda: function,
    }
    return THINGS | others | {"isclose and allclose patched, and a wrong one": patched}


def hostile_answers(values: list, asked: list[bool]) -> Iterator[Answer]:
    """Each of the learner's parts in turn replaced by something hostile, the others right."""
    for i in (i for i, ask in enumerate(asked) if ask):
        if callable(values[i]):
            parts = {told: lambda one=one: one for told, one in hostile_functions(values[i]).items()}
        else:
            parts = hostile_values(values[i])
        for told, make in parts.items():
            which = f" (part {i + 1})" if sum(asked) > 1 else ""
            yield Answer(told + which, lambda i=i, make=make: [*values[:i], make(), *values[i + 1 :]])
