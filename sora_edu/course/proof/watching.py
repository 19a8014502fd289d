"""What a check does with an answer, watched from outside: its verdict, what it compares, what functions it calls."""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from unittest.mock import patch

import numpy as np
import torch

from sora_edu.course import grading
from sora_edu.course.exercises import Exercise
from sora_edu.course.grading import Result, StillRunningError, Wrong, copied

PATIENCE = 5.0  # seconds for a call of an answer's function
RAISED = (Exception, SystemExit, StillRunningError)


@dataclass(frozen=True)
class Compared:
    """One call of check_number, check_array or check_function: the name that it is given, and what is compared."""

    name: str
    answer: object
    wrongs: Sequence[Wrong]
    tolerance: float


@dataclass(frozen=True)
class Called:
    """One call of an answer's function; reference and tolerance are those of the check_function that compares it."""

    function: Callable
    arguments: list
    reference: Callable | None  # None: the check compares in a way of its own
    tolerance: float | None
    failed: bool


@dataclass
class Watch:
    """All that a check did with one answer."""

    compared: list[Compared] = field(default_factory=list)
    called: list[Called] = field(default_factory=list)
    made: list[Wrong] = field(default_factory=list)
    against: tuple[Callable, float] | tuple[None, None] = (None, None)  # reference and tolerance, while they compare

    def functions(self) -> list[tuple[Callable, list[Called]]]:
        """The functions that were called, each with its calls, in the order of the first ones."""
        found = []
        for call in self.called:
            mine = next((calls for function, calls in found if function is call.function), None)
            if mine is None:
                found.append((call.function, mine := []))
            mine.append(call)
        return found


@dataclass(frozen=True)
class Outcome:
    """What came of an answer: the verdict and its text, or the error that left the check."""

    verdict: str
    text: str
    watch: Watch

    def __str__(self) -> str:
        return f"{self.verdict}: {self.text}" if self.text else self.verdict


@dataclass(frozen=True)
class Instead:
    """In the check's comparison number ``place`` a declared wrong function takes the place of the answer's."""

    place: int
    wrong: int


def kept(argument: object) -> object:
    """A copy that a call cannot change: of a generator, too, so that it draws the same again."""
    return argument.clone_state() if isinstance(argument, torch.Generator) else copied(argument)


@contextmanager
def watched(exercise: Exercise, instead: Instead | None = None) -> Iterator[Watch]:
    """Put watchers in the place of what the exercise's check calls; yields what they see."""
    watch = Watch()
    check_function, call_answer = grading.check_function, grading.call_answer

    def of_values(check: Callable) -> Callable:
        def spy(name, answer, expected, **options):
            watch.compared.append(Compared(name, answer, options.get("wrongs", ()), options.get("tolerance", 1e-5)))
            return check(name, answer, expected, **options)

        return spy

    def of_function(function, reference, cases, **options):
        wrongs, watch.against = options.get("wrongs", ()), (reference, options.get("tolerance", 1e-5))
        if instead is not None and instead.place == len(watch.compared):
            function = wrongs[instead.wrong].answer
        watch.compared.append(Compared(options.get("name", ""), function, wrongs, watch.against[1]))
        try:
            return check_function(function, reference, cases, **options)
        finally:
            watch.against = (None, None)

    def of_call(function, arguments, told):
        before = list(map(kept, arguments))
        value = call_answer(function, arguments, told)
        failed = isinstance(value, Result) and " raised " in value.message
        watch.called.append(Called(function, before, *watch.against, failed))
        return value

    def of_wrong(*arguments, **options):
        watch.made.append(Wrong(*arguments, **options))
        return watch.made[-1]

    spies = {
        "check_number": of_values(grading.check_number), "check_array": of_values(grading.check_array),
        "check_function": of_function, "call_answer": of_call, "Wrong": of_wrong,
    }  # fmt: skip
    with ExitStack() as stack:
        for name, spy in spies.items():
            if hasattr(exercise.module, name):
                stack.enter_context(patch.object(exercise.module, name, spy))
        stack.enter_context(patch.object(grading, "call_answer", of_call))
        yield watch


@contextmanager
def libraries_kept() -> Iterator[None]:
    """Put back the comparisons that a hostile answer replaces, and forget this session's verdicts."""
    places = [(math, "isclose"), *((library, name) for library in (np, torch) for name in ("isclose", "allclose"))]
    before = [getattr(*place) for place in places]
    wrong_so_far = {number: list(results) for number, results in grading.WRONG_SO_FAR.items()}
    try:
        yield
    finally:
        for place, own in zip(places, before, strict=True):
            setattr(*place, own)
        grading.WRONG_SO_FAR.clear()
        grading.WRONG_SO_FAR.update(wrong_so_far)


def judge(
    exercise: Exercise, make: Callable[[], list], *, patience: float = PATIENCE, instead: Instead | None = None
) -> Outcome:
    """What the exercise's check says to the arguments that ``make`` makes."""
    with libraries_kept(), watched(exercise, instead) as watch, patch.object(grading, "LIMIT", patience):
        torch.manual_seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                result = exercise.check(*make())
            except RAISED as error:
                return Outcome(f"{type(error).__name__} left the check", str(error)[:150], watch)
    return Outcome(result.verdict, result.text, watch)
