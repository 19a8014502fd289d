"""The proof of the checks bites: planted checks that are too lax, too strict or too fragile are found."""

import json
import sys
import types
from dataclasses import replace

import pytest
import torch

from sora_edu import cli
from sora_edu.course import proving
from sora_edu.course.exercises import Exercise, find_exercises
from sora_edu.course.grading import WRONG_SO_FAR
from sora_edu.course.proof.answers import right_forms
from sora_edu.course.proof.mutants import mutants
from sora_edu.course.proving import Count, Proof, holds, prove, report, table
from sora_edu.errors import InputError

# --- mutants ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "changed"),
    [
        (
            "r = a - 2 * b",
            {
                *("r = a + 2 * b", "r = 2 * b - a", "r = a", "r = 2 * b"),
                *("r = a - 2 / b", "r = a - 2", "r = a - b"),
                *("r = a - 3 * b", "r = a - 1 * b", "r = a - 0 * b", "r = a - -2 * b"),
            },
        ),
        ("r = a @ b", {"r = b @ a", "r = a", "r = b"}),
        ("r = a < b", {"r = a <= b", "r = a > b", "r = a >= b"}),
        (
            "r = x.sum(dim=-1)",
            {"r = x", "r = x.mean(dim=-1)", "r = x.sum()", "r = x.sum(dim=0)", "r = x.sum(dim=-2)", "r = x.sum(dim=1)"},
        ),
        ("r = f(a, b)", {"r = f(b, a)"}),
        ("r = x[n:]", {"r = x[n:-1]", "r = x[n + 1:]", "r = x[n - 1:]"}),
        ("r = [True, 'a']", {"r = ['a', True]", "r = ['a']", "r = [True]", "r = [False, 'a']", "r = [True, 'ax']"}),
        ("for i in range(n):\n    r += i", {
            *("for i in list(range(n))[::-1]:", "for i in n:", "for i in range(n + 1):", "for i in range(n - 1):"),
            "without r += i",
        }),
        (
            "if a is None:\n    r.go()",
            {"if a is not None:", "if not a is None:", "if True:", "if False:", "without r.go()"},
        ),
        ("def f(x):\n    return x", {"return x.flip(1)"}),
    ],
)  # fmt: skip
def test_a_line_has_these_mutants(line, changed):
    source = line if line.startswith("def") else f"x = f = n = a = b = {{}}\n{line}"
    assert {one.told for one in mutants(source) if "x = f" not in one.told} == changed


def test_mutants_are_whole_texts_each_once_and_in_the_same_order():
    source = 'def f(x):\n    """Halve."""\n    return x / 2'
    found = mutants(source)
    assert len({one.source for one in found}) == len(found) and mutants(source) == found
    assert all(one.source.startswith('def f(x):\n    """Halve."""\n') for one in found)
    few = mutants(source, most=3)
    assert len(few) == 3 and few[0] == found[0] and set(few) < set(found)


# --- planted checks ---------------------------------------------------------------------------------------------------

PLANTED = """
import torch
from sora_edu.course.grading import Result, Wrong, check_function, check_number, right, wrong, call_answer, all_right

CASES = [(torch.tensor([[1.0, 2.0], [4.0, 3.0]]), 2), (torch.tensor([[5.0, -3.0, 1.0]]), 3)]
WRONGS = [Wrong(lambda x, n: x - n, "You subtract."), Wrong(lambda x, n: x, "Nothing is multiplied.")]

def reference(x, n):
    return x * n

def exact(function):
    return check_function(function, reference, CASES, recipe="x * n", wrongs=WRONGS)

def by_shape(function):
    return right() if call_answer(function, CASES[0], "it").shape == (2, 2) else wrong("another shape")

def one_case(function):
    return check_function(function, reference, CASES[:1], recipe="x * n", wrongs=WRONGS)

def tensors_only(function):
    def strict(x, n):
        value = function(x, n)
        return value if torch.is_tensor(value) else "no tensor"
    return check_function(strict, reference, CASES, recipe="x * n", wrongs=WRONGS)

def shadowed(number):
    wrongs = [Wrong(7, "Seven."), Wrong(7.0000001, "Seven and a bit."), Wrong(9, "Nine.")]
    return check_number("number", number, 8, recipe="2 ** 3", wrongs=wrongs)
"""
TIMES = "def times(x, n):\n    return 0.5 * x * n * 2\n"


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """An answer that never ends is waited for a moment only."""
    monkeypatch.setattr(proving, "SHORTEST_PATIENCE", 0.1)


@pytest.fixture
def planted(monkeypatch):
    """An exercise whose check is one of the planted ones."""
    module = types.ModuleType("sora_edu.course.lesson_77.checks")
    exec(PLANTED, vars(module))
    monkeypatch.setitem(sys.modules, module.__name__, module)

    def make(check: str, solution: str = TIMES) -> Exercise:
        return Exercise("77.1", solution, check, ["number" if "number" in solution else "times"], [])

    return make


def of_kind(proof: Proof, kind: str) -> list[str]:
    """The failures of one kind."""
    return [line for line in proof.failures if f"77.1 {kind}" in line]


def test_a_check_that_tells_right_from_wrong_has_no_failure_but_among_the_hostile(planted):
    proof = prove(planted("exact"))
    assert proof.failures == of_kind(proof, "hostile") and proof.counts["named"].of >= 3
    assert proof.counts["right"].of >= 7 and proof.counts["wrong"].of >= 8 and proof.counts["hostile"].of == 12
    assert WRONG_SO_FAR.keys().isdisjoint({"77.1"})


def test_a_check_that_accepts_a_wrong_answer_is_found(planted):
    proof = prove(planted("by_shape"))
    assert any("return 0.5 * x / n * 2 | right" in line for line in of_kind(proof, "wrong, but accepted"))
    assert not holds([proof]) and proof.counts["wrong"].hits < proof.counts["wrong"].of / 2


def test_hidden_cases_that_tell_too_little_are_found_by_changed_copies(planted):
    solution = "def times(x, n):\n    return x + x * (n - 1)"
    told = "return x + x / (n - 1) | right"  # on the only case n - 1 is 1
    assert [line for line in of_kind(prove(planted("one_case", solution)), "wrong, but accepted") if told in line]
    assert not of_kind(prove(planted("exact", solution)), "wrong, but accepted")


def test_a_check_that_refuses_a_right_form_is_found(planted):
    refused = of_kind(prove(planted("tensors_only")), "right, but refused")
    assert [line for line in refused if "numpy" in line] and [line for line in refused if "lists" in line]
    assert not [line for line in refused if "lambda" in line or "float64" in line]


def test_a_misconception_that_is_never_said_is_found(planted):
    proof = prove(planted("shadowed", "number = 2**3"))
    assert len(of_kind(proof, "wrong, but not named")) == 1 and "Seven and a bit" in " ".join(proof.failures)


def test_an_equivalent_mutant_is_listed_apart(planted):
    proof = prove(planted("exact", "def times(x, n):\n    return x.flip(-1).flip(1) * n"))
    assert any("return x.flip(1).flip(1) * n | right" in line for line in proof.equivalent), proof.equivalent
    assert not of_kind(proof, "wrong, but accepted")


def test_what_leaves_a_check_is_no_verdict(planted):
    fragile = of_kind(prove(planted("by_shape")), "hostile")
    assert any("10**400 | AttributeError left the check" in line for line in fragile), fragile


def test_a_name_of_the_whole_lesson_leaves_the_exercise_out(planted):
    proof = prove(planted("exact", "def times(x, n):\n    return x * n * measured"))
    assert "measured is not to be had" in proof.left_out and "needs the lesson" in table([proof]) and holds([proof])


# --- the course's own checks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", ["04.5", "05.1"])
def test_two_checks_of_the_course_tell_right_from_wrong(number):
    exercise = next(one for one in find_exercises(number[:2]) if one.number == number)
    proof = prove(exercise, most=15)
    assert not [line for line in proof.failures if "hostile" not in line], proof.failures
    assert proof.counts["wrong"].of >= 15 and proof.counts["named"].hits >= 9


def test_every_exercise_is_read_with_its_solution_and_its_check():
    found = find_exercises()
    assert len(found) >= 70 and len({one.number for one in found}) == len(found)
    assert all(any(one.asked) for one in found) and callable(found[0].check)
    given = {one.number: one.arguments[-1] for one in found if not all(one.asked)}
    assert given == {"00.1": "pipe", "05.3": "table", "05.6": "noise_clips"}


def test_a_solution_brings_only_what_it_reads():
    exercise = Exercise("04.9", "y = a + 1", "share", ["y"], ["a = 1", "broken = 1 / 0", "b = 2", "a = b * 20"])
    assert exercise.answers(exercise.solution) == [41] and set(exercise.names) - {"__builtins__"} == {"a", "b"}


def test_right_forms_are_other_forms_and_the_same_values():
    values = [lambda x: x / 2, 3, [1, 2]]
    forms = [(answer.told, answer.make()) for answer in right_forms(values, [True, True, True])]
    assert len({told for told, _ in forms}) == len(forms) == 16
    for _, (function, number, numbers) in forms:
        assert torch.as_tensor(function(torch.ones(2))).tolist() == [0.5, 0.5]
        assert float(number) == 3 and [float(one) for one in numbers] == [1, 2]


# --- the command ------------------------------------------------------------------------------------------------------


def run(*args: str) -> int:
    """A command's exit status."""
    try:
        cli.main(["checks", *args])
    except SystemExit as stop:
        return stop.code or 0
    return 0


GOOD = Proof(
    "77.1", "exact", {"right": Count(4, 4), "wrong": Count(99, 100), "named": Count(4, 5), "hostile": Count(9, 9)}
)


@pytest.mark.parametrize(
    ("name", "count", "status"),
    [
        ("right", Count(4, 4), 0),
        ("right", Count(99, 100), 1),
        ("right", Count(3, 3), 1),
        ("wrong", Count(98, 100), 1),
        ("named", Count(79, 100), 1),
        ("named", Count(0, 0), 0),
        ("hostile", Count(8, 9), 1),
    ],
)
def test_the_exit_status_says_whether_the_floors_hold(monkeypatch, capsys, name, count, status):
    proof = replace(GOOD, counts=GOOD.counts | {name: count}, failures=["77.1 what failed"])
    monkeypatch.setattr(proving, "prove_all", lambda lesson: [proof])
    assert run("--prove") == status
    said = capsys.readouterr().out.splitlines()
    assert "77.1 what failed" in said and said[-1].startswith("1 exercises: right accepted") and f"{count}" in said[-1]


def test_the_proof_of_a_lesson_is_printed_and_written(monkeypatch, capsys, tmp_path):
    first = find_exercises("03")[2]
    monkeypatch.setattr(proving, "find_exercises", lambda lesson: [first] if lesson == "3" else [])
    run("--prove", "--lesson", "3", "--json", str(tmp_path / "proof.json"))
    out, err = capsys.readouterr()
    assert "03.3" in out and "03.3 (1 of 1)" in err
    written = json.loads((tmp_path / "proof.json").read_text())
    assert written["exercises"]["03.3"]["check"] == "changed" and written["sums"]["right"] == [5, 5]


def test_without_prove_the_exercises_are_listed(capsys):
    assert run("--lesson", "04") == 0
    assert capsys.readouterr().out.splitlines()[:2] == [
        "04.1   lesson 04  checks.attend_by_hand",
        "04.2   lesson 04  checks.turned",
    ]


def test_help_shows_an_example(capsys):
    assert run("--help") == 0 and "Example: sora-edu checks --prove --lesson 04" in capsys.readouterr().out


def test_mistakes_are_told_in_one_line(capsys, tmp_path):
    assert run("--lesson", "44") == 2 and "there is no lesson '44'; there are 00, 01, 02" in capsys.readouterr().err
    assert run("--json", str(tmp_path / "x.json")) == 2 and "--json holds what --prove finds" in capsys.readouterr().err
    with pytest.raises(InputError, match="installed without its repository"):
        find_exercises(folder=tmp_path)


def test_the_report_ends_with_the_sums():
    assert report([GOOD]).splitlines()[-1] == (
        "1 exercises: right accepted 4/4 (100.0%, floor 100%), wrong caught 99/100 (99.0%, floor 99%), "
        "wrong named 4/5 (80.0%, floor 80%), hostile handled 9/9 (100.0%, floor 100%), equivalent 0"
    )
