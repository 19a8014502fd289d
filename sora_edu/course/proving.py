"""Prove that the course's checks tell right from wrong: ``sora-edu checks --prove``.

Each check is given the folded solution in all its forms, mistakes of every kind, and answers that mean it no good.
"""

import sys
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch

from sora_edu.course.exercises import Exercise, NeedsTheLessonError, find_exercises
from sora_edu.course.forms import RIGHT, STAND_INS, WRONG
from sora_edu.course.grading import limited
from sora_edu.course.proof.answers import right_forms
from sora_edu.course.proof.declared import declared, is_declared, try_declared
from sora_edu.course.proof.hostile import hostile_answers
from sora_edu.course.proof.mutants import mutants
from sora_edu.course.proof.replaying import ROUNDING, alike, come_to_the_same
from sora_edu.course.proof.watching import PATIENCE, RAISED, Outcome, judge

MOST = 200  # mutants of a solution
LONGEST = 400  # characters of a message
SHORTEST_PATIENCE = 0.5  # seconds for an answer that never ends
FLOORS = {"right": 1.0, "wrong": 0.99, "named": 0.8, "hostile": 1.0}
ENOUGH = {"right": 4, "wrong": 8}  # answers to an exercise, at least


@dataclass
class Count:
    """So many of so many."""

    hits: int = 0
    of: int = 0

    def add(self, hit: bool) -> bool:
        self.hits += hit
        self.of += 1
        return hit

    def __str__(self) -> str:
        return f"{self.hits}/{self.of}" if self.of else "-"


@dataclass
class Proof:
    """What was found of one exercise; failures and equivalents are lines of text."""

    number: str
    check: str
    counts: dict[str, Count] = field(default_factory=lambda: {name: Count() for name in FLOORS})
    failures: list[str] = field(default_factory=list)
    equivalent: list[str] = field(default_factory=list)
    left_out: str = ""  # why it could not be tried

    def add(self, name: str, told: str, outcome: Outcome, hit: bool) -> None:
        """Count one answer, and write down where it failed."""
        if not self.counts[name].add(hit):
            self.failures.append(one_line(f"{self.number} {FAILED[name]}: {told} | {outcome}"))


BY_HAND = "written by hand"
FAILED = {
    "right": "right, but refused",
    "wrong": "wrong, but accepted",
    "named": "wrong, but not named",
    "hostile": "hostile, and not handled",
}


def one_line(text: str) -> str:
    """A text without line breaks; a very long one loses its end."""
    text = " ".join(text.split())
    return text if len(text) <= 300 else f"{text[:297]}..."


# --- one exercise -----------------------------------------------------------------------------------------------------


def prove(exercise: Exercise, *, most: int = MOST) -> Proof:
    """Try an exercise's check with right, wrong and hostile answers."""
    proof = Proof(exercise.number, exercise.check_name)
    exercise.names.update({name: make() for name, make in STAND_INS.get(exercise.number, {}).items()})
    try:
        values = exercise.answers(exercise.solution)
    except NeedsTheLessonError as error:
        proof.left_out = f"needs the lesson: {error}"
        return proof
    solution = judge(exercise, lambda: values)
    rights = [values, *(exercise.answers(source) for source in RIGHT.get(exercise.number, ()))]
    prove_right(proof, exercise, rights)
    if solution.verdict == "right":
        prove_declared(proof, exercise, solution, values)
        prove_wrong(proof, exercise, solution, rights, most)
        prove_hostile(proof, exercise, values)
    for name, least in ENOUGH.items():
        if proof.counts[name].of < least:
            proof.failures.append(f"{proof.number} only {proof.counts[name].of} {name} answers, {least} are wanted")
    return proof


def prove_right(proof: Proof, exercise: Exercise, rights: list[list]) -> None:
    """The solution in all its forms, and those written by hand, are right."""
    for answer in right_forms(rights[0], exercise.asked):
        outcome = judge(exercise, answer.make)
        if answer.counts():
            proof.add("right", answer.told, outcome, outcome.verdict == "right")
    for i, values in enumerate(rights[1:], 1):
        outcome = judge(exercise, lambda values=values: values)
        proof.add("right", f"{BY_HAND}, number {i}", outcome, outcome.verdict == "right")


def prove_declared(proof: Proof, exercise: Exercise, solution: Outcome, values: list) -> None:
    """What the check declares is wrong, and named."""
    for one in declared(solution):
        outcome, named = try_declared(exercise, values, one)
        told = f"declared as {one.message!r}"
        if outcome is not None:
            proof.add("wrong", told, outcome, outcome.verdict != "right")
        proof.add("named", told, outcome or Outcome("never said", "", solution.watch), named)


def prove_wrong(proof: Proof, exercise: Exercise, solution: Outcome, rights: list[list], most: int) -> None:
    """Mutants and what is wrong by hand are wrong, and named where they are what the check declares."""
    messages, raising = [one.message for one in declared(solution)], []
    answers = [(source, f"{BY_HAND}, number {i}") for i, source in enumerate(WRONG.get(exercise.number, ()), 1)]
    by_hand = len(answers)
    answers += [(one.source, one.told) for one in mutants(exercise.solution, most=most)]
    for i, (source, told) in enumerate(answers):
        values = answers_in_time(exercise, source)
        if values is None:
            continue  # there is no answer that could be checked
        outcome = judge(exercise, lambda values=values: values)
        accepted = outcome.verdict == "right"
        if not accepted and outcome.watch.called and outcome.watch.called[-1].failed:
            raising.append((told, outcome))
        elif i >= by_hand and same_values(values, rights, outcome) and come_to_the_same(outcome, solution):
            proof.equivalent.append(one_line(f"{proof.number} {told} | {outcome}"))
            if not accepted:
                proof.add("right", told, outcome, False)
        else:
            proof.add("wrong", told, outcome, not accepted)
            if not accepted and is_declared(outcome, solution):
                proof.add("named", told, outcome, any(message in outcome.text for message in messages))
    for told, outcome in raising[: proof.counts["wrong"].of // 2]:  # a third of all: what raises is caught trivially
        proof.add("wrong", told, outcome, True)


def answers_in_time(exercise: Exercise, source: str) -> list | None:
    """What a text answers; None where it raises, or does not come to an end."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with limited(PATIENCE):
                return exercise.answers(source)
        except RAISED:
            return None


def same_values(values: list, rights: list[list], outcome: Outcome) -> bool:
    """Whether all parts that are no functions are those of one of the right answers; to three figures, if accepted."""
    share = ROUNDING if outcome.verdict == "right" else 1e-9
    return any(
        all(callable(a) or alike(a, b, 1e-9, share) for a, b in zip(values, right, strict=True)) for right in rights
    )


def prove_hostile(proof: Proof, exercise: Exercise, values: list) -> None:
    """Hostile answers are not right, raise nothing out of the check, and get a message of a readable length."""
    for answer in hostile_answers(values, exercise.asked):
        patience = SHORTEST_PATIENCE if answer.told.startswith("never ends") else PATIENCE
        outcome = judge(exercise, answer.make, patience=patience)
        handled = outcome.verdict in ("not right yet", "not answered yet") and len(outcome.text) <= LONGEST
        proof.add("hostile", answer.told, outcome, handled)


# --- all of them ------------------------------------------------------------------------------------------------------


def prove_all(lesson: str | None = None) -> list[Proof]:
    """Prove the checks of a lesson or of all, and say on stderr how far it is; raises InputError as find_exercises."""
    exercises, proofs = find_exercises(lesson), []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small tensors: a second thread would only wait
    try:
        for i, exercise in enumerate(exercises, 1):
            print(f"{exercise.number} ({i} of {len(exercises)})", file=sys.stderr, flush=True)
            proofs.append(prove(exercise))
    finally:
        torch.set_num_threads(threads)
    return proofs


def sums(proofs: Iterable[Proof]) -> dict[str, Count]:
    """The counts of all exercises together."""
    total = {name: Count() for name in FLOORS}
    for proof in proofs:
        for name, count in proof.counts.items():
            total[name].hits += count.hits
            total[name].of += count.of
    return total


def holds(proofs: list[Proof]) -> bool:
    """Whether the shares reach their floors, and each exercise had enough answers."""
    total = sums(proofs)
    enough = all(proof.left_out or proof.counts[name].of >= least for proof in proofs for name, least in ENOUGH.items())
    return enough and all(total[name].hits >= floor * total[name].of for name, floor in FLOORS.items())


def table(proofs: list[Proof]) -> str:
    """One line for each exercise."""
    lines = [f"{'':7}{'right':>9}{'wrong':>9}{'wrong':>9}{'hostile':>9}{'equi-':>9}"]
    lines += [f"{'':7}{'accepted':>9}{'caught':>9}{'named':>9}{'handled':>9}{'valent':>9}"]
    for proof in proofs:
        cells = proof.left_out or "".join(f"{count!s:>9}" for count in (*proof.counts.values(), len(proof.equivalent)))
        lines.append(f"{proof.number:7}{cells}")
    return "\n".join(lines)


def summary(proofs: list[Proof]) -> str:
    """One line: the sums, as shares, and their floors."""
    told = {"right": "right accepted", "wrong": "wrong caught", "named": "wrong named", "hostile": "hostile handled"}
    shares = []
    for name, count in sums(proofs).items():
        share = f"{count.hits / count.of:.1%}" if count.of else "none"
        shares.append(f"{told[name]} {count} ({share}, floor {FLOORS[name]:.0%})")
    equivalent = sum(len(proof.equivalent) for proof in proofs)
    return f"{len(proofs)} exercises: {', '.join(shares)}, equivalent {equivalent}"


def report(proofs: list[Proof]) -> str:
    """The table, a line for each failure, and the sums."""
    failures = [line for proof in proofs for line in proof.failures]
    return "\n".join([table(proofs), "", *failures, *([""] if failures else []), summary(proofs)])


def as_json(proofs: list[Proof]) -> dict:
    """All of it, equivalent mutants by name, for a file."""
    exercises = {
        proof.number: {
            "check": proof.check,
            "left_out": proof.left_out,
            **{name: [count.hits, count.of] for name, count in proof.counts.items()},
            "equivalent": proof.equivalent,
            "failures": proof.failures,
        }
        for proof in proofs
    }
    return {"exercises": exercises, "sums": {name: [count.hits, count.of] for name, count in sums(proofs).items()}}
