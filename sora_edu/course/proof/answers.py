"""Right answers made from a solution, in every form that a learner may choose."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from inspect import signature
from numbers import Number

import numpy as np
import torch

from sora_edu.course.grading import as_array


@dataclass(frozen=True)
class Answer:
    """What a check is given: its arguments, made when it is asked, and what they are in words.

    counts: false after the check, where the form turned out to be no other than the solution's.
    """

    told: str
    make: Callable[[], list]
    counts: Callable[[], bool] = lambda: True


def is_numbers(value: object) -> bool:
    """Whether a value is a number, an array or a tensor."""
    return isinstance(value, Number | np.ndarray | np.generic | torch.Tensor)


def mapped(turn: Callable, value: object) -> object:
    """A value with ``turn`` applied to it, and if that leaves it, to what it holds."""
    turned = turn(value)
    if turned is not value or not isinstance(value, list | tuple | dict):
        return turned
    if isinstance(value, dict):
        return {key: mapped(turn, part) for key, part in value.items()}
    return type(value)([mapped(turn, part) for part in value])


def detached(value: object) -> object:
    return value.detach() if torch.is_tensor(value) else value


def one(value: object) -> bool:
    """Whether a value is one single number."""
    return is_numbers(value) and np.size(detached(value)) == 1


def to_float(value: object) -> object:
    return float(value) if one(value) else value


def to_int(value: object) -> object:
    return int(value) if one(value) and math.isfinite(value) and int(value) == float(value) else value


def to_fraction(value: object) -> object:
    return Fraction(float(value)) if one(value) and math.isfinite(value) else value


def to_numpy(value: object) -> object:
    return np.asarray(detached(value))[()] if is_numbers(value) and not isinstance(value, Fraction) else value


def to_lists(value: object) -> object:
    return detached(value).tolist() if isinstance(value, torch.Tensor | np.ndarray | np.generic) else value


def to_float64(value: object) -> object:
    return torch.as_tensor(detached(value), dtype=torch.float64) if is_numbers(value) else value


def to_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list | set) else value


def to_list(value: object) -> object:
    return list(value) if isinstance(value, tuple | set) else value


def to_array(value: object) -> object:
    values = as_array(value) if isinstance(value, list | tuple) else None
    return value if values is None else values


def to_tensor(value: object) -> object:
    values = to_array(value)
    return value if values is value else torch.from_numpy(values)


def to_capitals(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


def to_spaced(value: object) -> object:
    return f" {value} " if isinstance(value, str) else value


FORMS = {
    "numbers as int": to_int, "numbers as float": to_float, "numbers as Fraction": to_fraction,
    "numbers as numpy's": to_numpy, "numbers as lists": to_lists, "numbers as float64 tensors": to_float64,
    "a tuple": to_tuple, "a list": to_list, "one array": to_array, "one tensor": to_tensor,
    "words in capitals": to_capitals, "words with spaces around": to_spaced,
}  # fmt: skip


class Called:
    """A function as an object that can be called; ``turn`` may put what it returns into another form."""

    def __init__(self, function: Callable, turn: Callable = lambda value: value):
        self.function, self.turn, self.turned = function, turn, False

    def __call__(self, *arguments: object) -> object:
        value = self.function(*arguments)
        form = mapped(self.turn, value)
        self.turned |= type_of(form) != type_of(value)
        return form


def type_of(value: object) -> str:
    """The form of a value in words: its type, those within it, and of tensors the precision."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return f"{type(value).__name__}({', '.join(map(type_of, value))})"
    return value if isinstance(value, str) else f"{type(value).__name__} {getattr(value, 'dtype', '')}"


def as_lambda(function: Callable) -> Callable:
    """A lambda around a function, with arguments of other names."""
    names = ", ".join(f"a{i}" for i in range(len(signature(function).parameters)))
    return eval(f"lambda {names}: function({names})", {"function": function})


WRAPPED = {"a lambda with other names": as_lambda, "an object that is called": Called, "a partial": partial}


def right_forms(values: list, asked: list[bool]) -> Iterator[Answer]:
    """The solution as it is and in all other forms; ``asked`` says which of ``values`` are the learner's."""
    yield Answer("the solution as it is", lambda: values)
    if any(callable(value) for value, ask in zip(values, asked, strict=True) if ask):
        for told, wrap in WRAPPED.items():
            form = [wrap(v) if ask and callable(v) else v for v, ask in zip(values, asked, strict=True)]
            yield Answer(told, lambda form=form: form)
    for told, turn in FORMS.items():
        form = [
            v if not ask else Called(v, turn) if callable(v) else mapped(turn, v)
            for v, ask in zip(values, asked, strict=True)
        ]
        yield Answer(told, lambda form=form: form, lambda form=form: other_form(form, values))


def other_form(form: list, values: list) -> bool:
    """Whether anything in a form is not as in the solution, or a function in it returned something in another form."""
    pairs = zip(form, values, strict=True)
    return any(v.turned if isinstance(v, Called) else type_of(v) != type_of(was) for v, was in pairs)
