"""Exercise checks: a check looks at values and tells a wrong answer which misconception it shows.

The checks of a lesson live in ``checks_NN.py``, built from ``check_number``, ``check_array`` and ``check_function``.
A check prints its verdict, and is true where the answer is right, so ``assert checks.tokens(n)`` works too.
"""

import html
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from numbers import Number

import numpy as np
import torch

MISCONCEPTIONS = {  # the course's list; a diagnosis names one by its number
    1: "a patch is any crop",
    2: "reshape is rearrange",
    3: "patching compresses",
    4: "more patches, more parameters",
    5: "flat tokens see all frames",
    6: "tubelets imply factorised attention",
    7: "attention's cost grows like the tokens",
    8: "position is implicit",
    9: "training noises step by step",
    10: "noise is blur",
    11: "the last step is pure noise",
    12: "the model removes all noise at once",
    13: "eps-nets and velocity-nets differ in kind",
    14: "everybody's t = 1 is data",
    15: "lower loss means better samples",
    16: "more sampling steps rescue a small model",
    17: "guidance is free",
    18: "cfg_scale 0 is plain conditional",
    19: "a zero-initialised block cannot learn",
    20: "the VAE makes the video",
    21: "a larger KL weight is better",
    22: "diffusion predicts the next patch",
    23: "padding is harmless",
    24: "looks right, so the physics is right",
    25: "a low Frechet distance means good motion",
}

COLOURS = {"right": "#1a7f37", "not right yet": "#b35900", "not answered yet": "#57606a"}


@dataclass(frozen=True)
class Result:
    """What a check says: a verdict, its reason, and the number of the misconception that the answer shows."""

    verdict: str
    message: str = ""
    misconception: int | None = None

    def __bool__(self) -> bool:
        return self.verdict == "right"

    @property
    def text(self) -> str:
        """The reason as the learner reads it."""
        if self.misconception is None:
            return self.message
        return f"{self.message} (misconception {self.misconception}: {MISCONCEPTIONS[self.misconception]})"

    def named(self, name: str) -> "Result":
        """The same result whose message, where it has one, begins with the name of the answer."""
        return replace(self, message=f"{name}: {self.message}") if name and self.message else self

    def __repr__(self) -> str:
        return f"{self.verdict}: {self.text}" if self.message else self.verdict

    def _repr_html_(self) -> str:
        colour = COLOURS[self.verdict]
        why = f": {html.escape(self.text)}" if self.message else ""
        return f'<div style="border-left:4px solid {colour};padding-left:8px"><b>{self.verdict}</b>{why}</div>'


@dataclass(frozen=True)
class Wrong:
    """A wrong answer that is expected, and what to say to it; for check_function the answer is a function."""

    answer: object
    message: str
    misconception: int | None = None

    def result(self, name: str = "") -> Result:
        """The verdict for an answer of this name that matches."""
        return Result("not right yet", self.message, self.misconception).named(name)


def right(message: str = "") -> Result:
    """The answer is right; the message says why, or what follows from it."""
    return Result("right", message)


def wrong(message: str, misconception: int | None = None) -> Result:
    """The answer is wrong; the message says how, and what to look at next."""
    return Result("not right yet", message, misconception)


def unanswered(answer: object) -> bool:
    """True for ``...`` or None or an empty text, and for a list, tuple or dict that still holds one of them."""
    if isinstance(answer, Mapping):
        answer = list(answer.values())
    if isinstance(answer, list | tuple):
        return len(answer) == 0 or any(unanswered(part) for part in answer)
    return answer is None or answer is Ellipsis or (isinstance(answer, str) and not answer.strip())


def once_answered(check: Callable[..., Result]) -> Callable[..., Result]:
    """A check that says "not answered yet" while any of its answers is missing, and looks at none of them before."""

    @wraps(check)
    def checked(*answers: object) -> Result:
        return Result("not answered yet") if unanswered(list(answers)) else check(*answers)

    return checked


def as_array(answer: object) -> np.ndarray | None:
    """Numbers in any form (int, fraction, nested lists, array, tensor on any device) as float64; else None."""
    if isinstance(answer, torch.Tensor):
        answer = answer.detach().cpu().to(torch.float64).numpy()
    if isinstance(answer, list | tuple):
        parts = [as_array(part) for part in answer]
        if any(part is None for part in parts) or len({part.shape for part in parts}) > 1:
            return None
        return np.stack(parts) if parts else np.zeros(0)
    if not isinstance(answer, np.ndarray | np.generic | Number):
        return None  # nothing else is asked to convert or compare itself
    try:
        return np.asarray(answer if isinstance(answer, np.ndarray) else float(answer), dtype=np.float64)
    except (TypeError, ValueError):
        return None


def as_number(answer: object) -> float | None:
    """One number in any form, also as an array or list with one element; None if it is something else."""
    values = as_array(answer)
    return float(values.reshape(-1)[0]) if values is not None and values.size == 1 else None


def same(answer: object, expected: object, tolerance: float) -> bool:
    """True where both hold the same numbers in the same shape, up to ``tolerance``."""
    ours, theirs = as_array(answer), as_array(expected)
    if ours is None or theirs is None or ours.shape != theirs.shape:
        return False
    return bool(np.allclose(ours, theirs, rtol=0.0, atol=tolerance))


def check_number(
    name: str,
    answer: object,
    expected: float | int,
    *,
    hint: str,
    why: str = "",
    wrongs: Sequence[Wrong] = (),
    tolerance: float = 1e-6,
) -> Result:
    """Compare one number.

    name: what the exercise calls the answer; it begins whatever is said to a wrong one.
    hint: said to a wrong answer that ``wrongs`` does not know.
    why: said to a right answer.
    """
    if unanswered(answer):
        return Result("not answered yet")
    value = as_number(answer)
    if value is None:
        return wrong(f"{name}: got a {type(answer).__name__}, expected one number")
    if math.isclose(value, expected, rel_tol=0.0, abs_tol=tolerance):
        return right(why)
    known = next((w for w in wrongs if math.isclose(value, w.answer, rel_tol=0.0, abs_tol=tolerance)), None)
    return known.result(name) if known else wrong(f"{name}: got {value:g}. {hint}")


def check_array(
    name: str,
    answer: object,
    expected: object,
    *,
    hint: str,
    why: str = "",
    wrongs: Sequence[Wrong] = (),
    tolerance: float = 1e-5,
) -> Result:
    """Compare a list, array or tensor by shape and by every value; the options are those of ``check_number``."""
    if unanswered(answer):
        return Result("not answered yet")
    if same(answer, expected, tolerance):
        return right(why)
    known = next((w for w in wrongs if same(answer, w.answer, tolerance)), None)
    return known.result(name) if known else wrong(f"{name}: {difference(answer, expected, tolerance)}. {hint}")


def difference(answer: object, expected: object, tolerance: float) -> str:
    """How numbers differ from the expected ones: in kind, in shape, or in some of the values."""
    values, target = as_array(answer), as_array(expected)
    if values is None:
        return f"got a {type(answer).__name__}, expected numbers of shape {target.shape}"
    if values.shape != target.shape:
        return f"got shape {values.shape}, expected {target.shape}"
    if values.size == 1:
        return f"got {float(values.reshape(-1)[0]):g}, which is not right"
    share = np.isclose(values, target, rtol=0.0, atol=tolerance).mean()
    return f"the shape is right, but only {share:.0%} of the values are"


def not_a_function(answer: object, expected: str) -> Result | None:
    """The verdict on an answer that is missing or cannot be called; None where it can."""
    if unanswered(answer):
        return Result("not answered yet")
    return None if callable(answer) else wrong(f"got a {type(answer).__name__}, expected {expected}")


def call_answer(function: Callable, arguments: Sequence, told: str, hint: str = "") -> object:
    """What a learner's function returns for copies of the arguments; a Result where it raises or is not filled in.

    Copies, so that a function that writes on its input harms nobody. ``told`` begins the sentence about an error.
    """
    copies = [part.clone() if torch.is_tensor(part) else part for part in arguments]
    try:
        value = function(*copies)
    except Exception as error:  # whatever a learner's function raises is part of its answer
        return wrong(f"{told} raised {type(error).__name__}: {error}. {hint}".strip())
    return Result("not answered yet") if unanswered(value) else value


def check_function(
    function: object,
    reference: Callable,
    cases: Sequence[tuple],
    *,
    hint: str,
    name: str = "",
    why: str = "",
    wrongs: Sequence[Wrong] = (),
    tolerance: float = 1e-5,
) -> Result:
    """Run a learner's function on hidden inputs and compare it with ``reference`` by value on every one.

    A ``Wrong`` whose answer is a function names the misconception where the learner's function does the same on a
    case that tells the two apart. ``name`` is for an exercise that asks for more than the function.
    """
    if (refusal := not_a_function(function, "a function")) is not None:
        return refusal.named(name)
    for case in cases:
        where = f"on {describe(case)}"
        value = call_answer(function, case, f"{where} it", hint)
        if isinstance(value, Result):
            return value.named(name)
        expected = reference(*case)
        for known in wrongs:
            twin = known.answer(*case)
            if same(value, twin, tolerance) and not same(expected, twin, tolerance):
                return known.result(name)
        if not same(value, expected, tolerance):
            return wrong(f"{where} {difference(value, expected, tolerance)}. {hint}").named(name)
    return right(why)


def all_right(*results: Result, why: str) -> Result:
    """The first of several results that is not right, or one that is, with ``why``."""
    for result in results:
        if not result:
            return result
    return right(why)


def describe(case: tuple) -> str:
    """The arguments of a case: tensors by their shapes, tables by their length, the rest as it is written."""

    def words(part: object) -> str:
        if torch.is_tensor(part):
            return f"an input of shape {tuple(part.shape)}"
        return f"a table of {len(part)}" if isinstance(part, Mapping) else repr(part)

    return ", ".join(map(words, case))
