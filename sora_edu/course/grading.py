"""Exercise checks: a check looks at values and tells a wrong answer which misconception it shows.

The checks of a lesson live in ``checks_NN.py``, built from ``check_number``, ``check_array`` and ``check_function``.
A check prints its verdict, and is true where the answer is right, so ``assert checks.tokens(n)`` works too.
"""

import contextlib
import copy
import dis
import html
import inspect
import linecache
import signal
import threading
import traceback
import weakref
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, KeysView, Mapping, Sequence, ValuesView
from dataclasses import dataclass, replace
from functools import wraps
from math import isclose  # names of our own: an answer that replaces numpy.allclose changes nothing here
from numbers import Number

import numpy as np
import torch
from numpy import allclose, asarray, isclose as are_close

from sora_edu.course.hints import HINTS

LONGEST = 360  # characters of a message
LIMIT = 120.0  # seconds after which an answer is taken to run for ever, on the slowest machine

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
    """What a check says: a verdict, its reason, and the number of the misconception that the answer shows.

    recipe: how to get it right, for the learner who asks twice; help: how to ask, or the hint itself.
    """

    verdict: str
    message: str = ""
    misconception: int | None = None
    recipe: str = ""
    help: str = ""

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
        return " ".join(filter(None, (f"{self.verdict}: {self.text}" if self.message else self.verdict, self.help)))

    def _repr_html_(self) -> str:
        colour = COLOURS[self.verdict]
        why = f": {html.escape(self.text)}" if self.message else ""
        why += f"<br><small>{html.escape(self.help)}</small>" if self.help else ""
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


def wrong(message: str, misconception: int | None = None, *, recipe: str = "") -> Result:
    """The answer is wrong; the message says how, and what to look at next; a very long one loses its middle."""
    if len(message) > LONGEST:
        message = f"{message[: LONGEST // 2]} ... {message[5 - LONGEST // 2 :]}"
    return Result("not right yet", message, misconception, recipe)


def unanswered(answer: object) -> bool:
    """True for ``...`` or None or an empty text, and for a list, tuple or dict that still holds one of them."""
    if isinstance(answer, Mapping):
        answer = list(answer.values())
    if isinstance(answer, list | tuple):
        return len(answer) == 0 or any(unanswered(part) for part in answer)
    return answer is None or answer is Ellipsis or (isinstance(answer, str) and not answer.strip())


def unreadable(answer: object, within: tuple[int, ...] = ()) -> str | None:
    """Why no check can look at an answer, in words; None where it can. ``within``: what it is a part of."""
    if torch.is_tensor(answer):
        if answer.is_meta:
            return 'a tensor on the device "meta", which holds no numbers'
        return None if answer.layout == torch.strided else "a sparse tensor, not one of all its numbers: x.to_dense()"
    if not isinstance(answer, list | tuple | Mapping):
        return None
    if id(answer) in within:
        return f"a {type(answer).__name__} that holds itself"
    parts = answer.values() if isinstance(answer, Mapping) else answer
    return next(filter(None, (unreadable(part, (*within, id(answer))) for part in parts)), None)


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
    if isinstance(answer, KeysView | ValuesView | range):
        answer = list(answer)
    if isinstance(answer, list | tuple):
        parts = [as_array(part) for part in answer]
        if any(part is None for part in parts) or len({part.shape for part in parts}) > 1:
            return None
        return np.stack(parts) if parts else np.zeros(0)
    if not isinstance(answer, np.ndarray | np.generic | Number):
        return None  # nothing else is asked to convert or compare itself
    try:
        return asarray(answer if isinstance(answer, np.ndarray) else float(answer), dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return None


def as_number(answer: object) -> float | None:
    """One number in any form, also as an array or list with one element; None if it is something else."""
    values = as_array(answer)
    return float(values.reshape(-1)[0]) if values is not None and values.size == 1 else None


def same(answer: object, expected: object, tolerance: float) -> bool:
    """True where both hold the same numbers in the same shape, up to ``tolerance``; one number has any shape."""
    ours, theirs = as_array(answer), as_array(expected)
    if ours is None or theirs is None or (ours.shape != theirs.shape and not ours.size == theirs.size == 1):
        return False
    return bool(allclose(ours.reshape(theirs.shape), theirs, rtol=0.0, atol=tolerance))


def check_number(
    name: str,
    answer: object,
    expected: float | int,
    *,
    recipe: str,
    why: str = "",
    wrongs: Sequence[Wrong] = (),
    tolerance: float = 1e-6,
) -> Result:
    """Compare one number.

    name: what the exercise calls the answer; it begins whatever is said to a wrong one.
    recipe: how to get it; said to those who ask for a second hint.
    wrongs: answers that are expected, with what to say to each.
    why: said to a right answer.
    """
    if unanswered(answer):
        return Result("not answered yet")
    value = as_number(answer)
    if value is None:
        return wrong(f"{name}: got a {type(answer).__name__}, expected one number")
    if isclose(value, expected, rel_tol=0.0, abs_tol=tolerance):
        return right(why)
    known = next((w for w in wrongs if isclose(value, w.answer, rel_tol=0.0, abs_tol=tolerance)), None)
    said = known.result(name) if known else wrong(f"{name}: got {value:g}, which is not right.")
    return replace(said, recipe=recipe)


def check_array(
    name: str,
    answer: object,
    expected: object,
    *,
    recipe: str,
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
    said = known.result(name) if known else wrong(f"{name}: {difference(answer, expected, tolerance)}.")
    return replace(said, recipe=recipe)


def difference(answer: object, expected: object, tolerance: float, *, reveal: bool = False) -> str:
    """How numbers differ from the expected ones: in kind, in shape, or in some of the values.

    reveal: say what was expected, too: of a hidden case it helps, of an exercise it would be the answer.
    """
    values, target = as_array(answer), as_array(expected)
    if values is None:
        return f"got a {type(answer).__name__}, expected numbers of shape {target.shape}"
    if values.shape != target.shape:
        return f"got shape {values.shape}, expected {target.shape}"
    if values.size == 1:
        wanted = f"expected {target.reshape(-1)[0]:g}" if reveal else "which is not right"
        return f"got {values.reshape(-1)[0]:g}, {wanted}"
    fits = are_close(values, target, rtol=0.0, atol=tolerance)
    told = f"the shape is right, but only {fits.mean():.0%} of the values are"
    if not reveal:
        return told
    first = tuple(int(i) for i in np.argwhere(~fits)[0])
    return f"{told}: [{', '.join(map(str, first))}] is {values[first]:g}, expected {target[first]:g}"


FOUND_RIGHT: "weakref.WeakSet[Callable]" = weakref.WeakSet()  # the functions that a check of this session accepted
WRONG_SO_FAR: dict[str, list[Result]] = defaultdict(list)  # verdicts of this session, by exercise
HINTS_ASKED: Counter[str] = Counter()


def exercise(number: str) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """Make a check the one of exercise ``number``: its hint comes on request, or at the third wrong answer.

    ``yours`` then knows whether the learner's functions were right.
    """

    def of_exercise(check: Callable[..., Result]) -> Callable[..., Result]:
        @wraps(check)
        def checked(*answers: object) -> Result:
            why = unreadable(answers)
            result = wrong(f"got {why}") if why else check(*answers)
            for function in filter(callable, answers):
                with contextlib.suppress(TypeError):  # a callable that no set can hold is not run later
                    (FOUND_RIGHT.add if result else FOUND_RIGHT.discard)(function)
            if result.verdict != "not right yet":
                return result
            WRONG_SO_FAR[number].append(result)
            often = len(WRONG_SO_FAR[number]) >= 3
            return replace(result, help=f"Hint: {HINTS[number]}" if often else f'For a hint: checks.hint("{number}")')

        checked.exercise = number
        return checked

    return of_exercise


def hint(number: str) -> None:
    """Print an exercise's hint, and when asked again how it is done."""
    if number not in HINTS:
        return print(f"There is no exercise {number!r}; they are called 02.1, 02.2 and so on.")
    HINTS_ASKED[number] += 1
    recipes = [result.recipe for result in WRONG_SO_FAR[number] if result.recipe]
    if HINTS_ASKED[number] == 1:
        print(f"Hint: {HINTS[number]}")
    else:
        print(f"Recipe: {recipes[-1]}" if recipes else "The solution is folded up below the exercise.")


def yours(function: Callable, instead: Callable) -> Callable:
    """The learner's own function where its check found it right, for what a lesson shows next; else ``instead``.

    Says which of the two it is.
    """
    name, right = getattr(function, "__name__", "function"), False
    with contextlib.suppress(TypeError):
        right = function in FOUND_RIGHT
    print(f"This runs your own {name}." if right else f"This runs the package's code, until your {name} is right.")
    return function if right else instead


def not_a_function(answer: object, expected: str) -> Result | None:
    """The verdict on an answer that is missing or cannot be called; None where it can."""
    if unanswered(answer):
        return Result("not answered yet")
    return None if callable(answer) else wrong(f"got a {type(answer).__name__}, expected {expected}")


class StillRunningError(BaseException):
    """Time is up; no ``except Exception`` of an answer's own catches it."""


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise StillRunningError after so many seconds, where a process has an alarm: not on Windows, not in threads."""
    can = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
    if not can or signal.getitimer(signal.ITIMER_REAL)[0]:  # or another limit runs already
        yield
        return

    def stop(*_):
        raise StillRunningError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def copied(argument: object) -> object:
    """A copy of numbers or of a container, for an answer to write on; functions and networks go as they are."""
    if torch.is_tensor(argument):
        return argument.clone()
    return copy.deepcopy(argument) if isinstance(argument, list | dict | set | np.ndarray) else argument


def line_of(error: BaseException, function: object) -> str:
    """The learner's own line in which an error arose, or nothing where it is not known."""
    file = getattr(getattr(function, "__code__", None), "co_filename", None)
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    text = linecache.getline(own[-1].filename, own[-1].lineno).strip() if own else ""
    return f" in your line `{text[:80]}`" if text else ""


def is_stub(function: object) -> bool:
    """Whether a function's body is empty: nothing but a docstring, ``...`` or ``pass``."""
    code = getattr(function, "__code__", None)
    idle = ("RESUME", "NOP", "LOAD_CONST", "RETURN_VALUE", "RETURN_CONST")
    return code is not None and all(step.opname in idle for step in dis.get_instructions(code))


def call_answer(function: Callable, arguments: Sequence, told: str) -> object:
    """What a learner's function returns for copies of the arguments; a Result where it raises or is not filled in.

    Copies, so that a function that writes on its input harms nobody. ``told`` begins the sentence about an error.
    """
    try:
        with limited(LIMIT):
            value = function(*map(copied, arguments))
    except StillRunningError:
        return wrong(f"{told} was still running after {LIMIT:g} s. Does each of its loops come to an end?")
    except (Exception, SystemExit) as error:  # whatever a learner's function raises is part of its answer
        where = line_of(error, function)
        return wrong(f"{told} raised {type(error).__name__}{where}: {str(error)[:150]}.")
    if (why := unreadable(value)) is not None:
        return wrong(f"{told} returned {why}")
    if value is None and not is_stub(function):
        return wrong(f"{told} returned nothing. Is there a `return`?")
    return Result("not answered yet") if unanswered(value) else value


def check_function(
    function: object,
    reference: Callable,
    cases: Sequence[tuple],
    *,
    recipe: str,
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
        where = f"on {describe(case, function)}"
        value = call_answer(function, case, f"{where} it")
        if isinstance(value, Result):
            return replace(value, recipe=recipe).named(name)
        expected = reference(*case)
        for known in wrongs:
            twin = known.answer(*case)
            if same(value, twin, tolerance) and not same(expected, twin, tolerance):
                return replace(known.result(name), recipe=recipe)
        if not same(value, expected, tolerance):
            told = f"{where} {difference(value, expected, tolerance, reveal=True)}."
            return wrong(told, recipe=recipe).named(name)
    return right(why)


def all_right(*results: Result, why: str) -> Result:
    """The first of several results that is not right, or one that is, with ``why``."""
    for result in results:
        if not result:
            return result
    return right(why)


def describe(case: tuple, function: Callable | None = None) -> str:
    """The arguments of a case: tensors by their shapes, tables by their length, the rest as it is written.

    function: one whose own names for them are said, too.
    """

    def words(part: object) -> str:
        if torch.is_tensor(part):
            return f"an input of shape {tuple(part.shape)}"
        return f"a table of {len(part)}" if isinstance(part, Mapping) else repr(part)[:60]

    try:
        names = list(inspect.signature(function).parameters) if function else []
    except (TypeError, ValueError):
        names = []
    if len(names) < max(len(case), 2):  # a single argument needs no name
        return ", ".join(map(words, case))
    return ", ".join(f"{name} = {words(part)}" for name, part in zip(names, case, strict=False))
