"""Misconceptions that a check declares with ``Wrong``: found while it looks at the solution, and put to the test."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sora_edu.course.exercises import Exercise
from sora_edu.course.grading import Wrong
from sora_edu.course.proof.replaying import alike, run_again
from sora_edu.course.proof.watching import Compared, Instead, Outcome, judge


@dataclass(frozen=True)
class Declared:
    """A Wrong of a check: the name of the part; what was compared there; for functions in which place of the check."""

    name: str
    wrong: Wrong
    compared: object = None
    place: Instead | None = None

    @property
    def message(self) -> str:
        return f"{self.name}: {self.wrong.message}" if self.name else self.wrong.message


def declared(solution: Outcome) -> list[Declared]:
    """The misconceptions that a check knew as it looked at the solution: compared with, or made besides."""
    found = []
    for place, compared in enumerate(solution.watch.compared):
        for i, wrong in enumerate(compared.wrongs):
            where = Instead(place, i) if callable(wrong.answer) else None
            found.append(Declared(compared.name, wrong, compared.answer, where))
    messages = {one.wrong.message for one in found}
    others = (wrong for wrong in solution.watch.made if wrong.message not in messages)
    return found + [Declared("", wrong) for wrong in others]


def placements(values: list, asked: list[bool], answer: object) -> Iterator[list]:
    """The right answers with ``answer`` in place of one part or of an element of a part, or its elements as parts."""
    places = [i for i, ask in enumerate(asked) if ask and not callable(values[i])]
    for i in places:
        yield [*values[:i], answer, *values[i + 1 :]]
        if isinstance(values[i], list | tuple | dict):
            for key in values[i] if isinstance(values[i], dict) else range(len(values[i])):
                part = dict(values[i]) if isinstance(values[i], dict) else list(values[i])
                part[key] = answer
                yield [*values[:i], part, *values[i + 1 :]]
    if isinstance(answer, list | tuple) and len(answer) == len(places) == len(values):
        yield list(answer)


def try_declared(exercise: Exercise, values: list, one: Declared) -> tuple[Outcome | None, bool]:
    """What the check says to a declared misconception, and whether it says what was declared.

    A function goes in as the answer where the check compares the answer itself, else where the check compares. A number
    goes where the check sees it in the comparison of that name; None where there is no such place.
    """
    if one.place is not None:
        form = [one.wrong.answer if value is one.compared else value for value in values]
        itself = any(value is one.compared for value in values)
        outcome = judge(exercise, lambda: form, instead=None if itself else one.place)
        return outcome, one.message in outcome.text
    seen = None
    for form in placements(values, exercise.asked, one.wrong.answer):
        outcome = judge(exercise, lambda form=form: form)
        if one.message in outcome.text:
            return outcome, True
        if any(c.name == one.name and alike(c.answer, one.wrong.answer, 1e-9) for c in outcome.watch.compared):
            seen = outcome
    return seen, False


def is_declared(outcome: Outcome, solution: Outcome) -> bool:
    """Whether an answer is a declared misconception: the same value, or the same function on all hidden cases.

    It counts in the comparison that the message is about.
    """
    told = next((c for c in outcome.watch.compared if c.wrongs and outcome.text.startswith(f"{c.name}:")), None)
    told = told or next((c for c in outcome.watch.compared if not c.name and c.wrongs), None)
    if told is None:
        return False
    if not callable(told.answer):
        values = [wrong.answer for wrong in told.wrongs if not callable(wrong.answer)]
        return any(alike(told.answer, value, told.tolerance) for value in values)
    calls = next((calls for function, calls in solution.watch.functions() if is_of(function, told, solution)), [])
    results = [(call.arguments, run_again(told.answer, call.arguments)) for call in calls]
    twins = [wrong.answer for wrong in told.wrongs if callable(wrong.answer)] if results else []
    return any(all(alike(v, run_again(twin, case), told.tolerance) for case, v in results) for twin in twins)


def is_of(function: Callable, compared: Compared, solution: Outcome) -> bool:
    """Whether a function is what the solution gave to the comparison of this name."""
    return any(c.answer is function and c.name == compared.name for c in solution.watch.compared)
