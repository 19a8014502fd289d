"""Checks accept every correct form, tell a wrong answer which misconception it shows, and cannot be fooled by shape."""

import contextlib
import html
import importlib
import json
import math
import re
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from sora_edu.course import grading
from sora_edu.course.grading import (
    MISCONCEPTIONS,
    Result,
    Wrong,
    as_array,
    as_number,
    check_array,
    check_function,
    check_number,
    exercise,
    hint,
    once_answered,
    right,
    same,
    unanswered,
    wrong,
    yours,
)
from sora_edu.course.hints import HINTS
from sora_edu.course.lesson_02 import checks


class AlwaysEqual:
    """An object that claims to equal everything."""

    def __eq__(self, other):
        return True

    __hash__ = None

    def __array__(self, dtype=None, copy=None):
        return np.asarray(196.0)

    def __float__(self):
        return 196.0


def test_a_result_prints_its_verdict_and_names_the_misconception():
    assert repr(right("well counted")) == "right: well counted" and bool(right())
    told = repr(wrong("look at the order.", 2))
    assert told == f"not right yet: look at the order. (misconception 2: {MISCONCEPTIONS[2]})"
    assert not wrong("x") and not Result("not answered yet")
    assert "&lt;b&gt;" in wrong("<b>")._repr_html_()


def test_the_courses_misconceptions_are_all_named():
    assert list(MISCONCEPTIONS) == list(range(1, 26))


@pytest.mark.parametrize("answer", [None, ..., "", "  ", [], [1, ...], (None, 2), {"a": ...}, [[1], [...]]])
def test_an_unfilled_answer_is_seen(answer):
    assert unanswered(answer)
    assert repr(check_number("n", answer, 3, recipe="")) == "not answered yet"


@pytest.mark.parametrize("answer", [0, 0.0, False, torch.zeros(2), np.zeros(0), "no"])
def test_zero_is_an_answer(answer):
    assert not unanswered(answer)


@pytest.mark.parametrize(
    "answer",
    [3, 3.0, Fraction(3), np.int64(3), np.array([3]), torch.tensor(3), torch.tensor([[3.0]]), [3], (3,), True + 2],
)
def test_every_form_of_a_number_is_accepted(answer):
    assert as_number(answer) == 3.0
    assert check_number("n", answer, 3, recipe="")


@pytest.mark.parametrize("answer", ["3", {3}, AlwaysEqual(), [1, 2], torch.zeros(2), 3j, print])
def test_what_is_not_one_number_is_not_accepted(answer):
    assert as_number(answer) is None
    assert "expected one number" in repr(check_number("n", answer, 196, recipe=""))


def test_lists_arrays_and_tensors_are_compared_by_value_and_shape():
    for answer in ([[1, 2], [3, 4]], ((1, 2), (3, 4)), np.array([[1, 2], [3, 4]]), torch.tensor([[1.0, 2], [3, 4]])):
        assert same(answer, [[1, 2], [3, 4]], 1e-6)
    assert not same([1, 2, 3, 4], [[1, 2], [3, 4]], 1e-6)
    assert not same([[1, 2], [3, 5]], [[1, 2], [3, 4]], 1e-6)
    assert not same([[1, 2], [3, float("nan")]], [[1, 2], [3, 4]], 1e-6)
    assert as_array([[1], [2, 3]]) is None and as_array(AlwaysEqual()) is None


def test_the_right_shape_with_wrong_values_says_how_much_is_right():
    assert "only 50% of the values" in repr(check_array("a", [1, 9], [1, 2], recipe=""))
    assert "got shape (3,), expected (2,)" in repr(check_array("a", [1, 2, 3], [1, 2], recipe=""))


def test_the_name_of_an_answer_begins_whatever_is_said_to_a_wrong_one():
    wrongs = [Wrong(4, "one too many.", 3)]
    assert check_number("n", 4, 3, recipe="", wrongs=wrongs).text.startswith("n: one too many.")
    assert check_number("n", 5, 3, recipe="Count.").text == "n: got 5, which is not right."
    assert check_number("n", "3", 3, recipe="").text == "n: got a str, expected one number"
    assert check_array("a", [4], [3], recipe="", wrongs=[Wrong([4], "one too many.")]).text == "a: one too many."
    assert check_array("a", ["x"], [3], recipe="Count.").text == "a: got a list, expected numbers of shape (1,)."
    assert wrong("").named("n").text == "" and wrong("no.").named("").text == "no."


def test_a_right_answer_hears_why_without_its_name():
    assert check_number("n", 3, 3, recipe="", why="counted").text == "counted"
    assert check_number("n", 3, 3, recipe="").text == "" == check_array("a", [3], [3], recipe="").text


def test_a_check_looks_at_no_answer_before_all_of_them_are_there():
    @once_answered
    def both(one: object, two: object) -> Result:
        """Adds its answers."""
        return right(f"{one + two}")

    assert both(1, ...).verdict == both([], 2).verdict == both(None, "text").verdict == "not answered yet"
    assert both(1, 2).text == "3" and both.__doc__ == "Adds its answers."


CASES = [(torch.arange(6.0).reshape(2, 3),), (torch.arange(8.0).reshape(4, 2),)]


def check_transpose(function):
    """A small exercise: write the transpose."""
    twin = Wrong(lambda x: x.reshape(x.shape[1], x.shape[0]), "memory does not move", 2)
    return check_function(function, lambda x: x.T, CASES, why="yes", recipe="swap", wrongs=[twin])


def test_a_function_is_compared_on_hidden_inputs():
    assert check_transpose(lambda x: x.T)
    assert check_transpose(lambda x: x.T.tolist()) and check_transpose(lambda x: x.numpy().T)
    assert "misconception 2" in repr(check_transpose(lambda x: x.reshape(x.shape[1], x.shape[0])))
    assert "only 0% of the values are: [0, 0] is 1, expected 0" in repr(check_transpose(lambda x: x.T + 1))
    assert "raised ZeroDivisionError" in repr(check_transpose(lambda x: 1 / 0))
    assert repr(check_transpose(lambda x: ...)) == "not answered yet" == repr(check_transpose(...))
    assert "expected a function" in repr(check_transpose(3))


def test_one_wrong_number_is_told_as_it_is_and_a_table_is_not_written_out():
    verdict = check_function(lambda n, table: n / 4, lambda n, table: n / 6, [(3, {"a": 1, "b": 2})], recipe="Divide.")
    assert verdict.text == "on n = 3, table = a table of 2 got 0.75, expected 0.5."


def test_the_name_of_a_function_begins_whatever_is_said_to_a_wrong_one():
    def named(function):
        return check_function(
            function, lambda x: x.T, CASES, name="turn", recipe="Swap.", wrongs=[Wrong(lambda x: x, "no.")]
        )

    assert named(lambda x: x).text == "turn: no." and named(3).text == "turn: got a int, expected a function"
    where = "turn: on an input of shape (2, 3)"
    raised = named(lambda x: 1 / 0).text
    assert raised.startswith(f"{where} it raised ZeroDivisionError in your line `raised = named(")
    assert raised.endswith(": division by zero.")
    assert named(lambda x: x.T + 1).text.startswith(
        f"{where} the shape is right, but only 0% of the values are: [0, 0]"
    )
    assert named(lambda x: ...).verdict == "not answered yet" and named(lambda x: x.T).text == ""


def test_a_function_that_fits_only_the_first_hidden_case_fails():
    assert not check_transpose(lambda x: x.T if x.shape == (2, 3) else torch.zeros(x.T.shape))


def test_a_function_that_writes_on_its_input_harms_nobody():
    assert check_transpose(lambda x: x.mul_(1).T)
    check_transpose(lambda x: x.zero_())
    assert check_transpose(lambda x: x.T)


def test_a_list_that_an_answer_empties_is_whole_for_the_next():
    case = ([1, 2, 3],)
    for answer in (lambda numbers: sum(numbers.pop() for _ in range(3)), sum):
        assert check_function(answer, sum, [case, case], recipe="")


def test_a_forgotten_return_is_told_and_a_stub_is_not():
    def forgot(x):
        x.T  # noqa: B018

    def stub(x): ...

    def passes(x):
        """Writes the transpose."""
        pass

    assert "returned nothing. Is there a `return`?" in repr(check_transpose(forgot))
    assert repr(check_transpose(stub)) == repr(check_transpose(passes)) == "not answered yet"


def test_an_answer_that_never_ends_is_stopped(monkeypatch):
    def endless(x):
        while True:
            with contextlib.suppress(Exception):
                x = x + 1

    monkeypatch.setattr(grading, "LIMIT", 0.2)
    assert "was still running after 0.2 s. Does each of its loops come to an end?" in repr(check_transpose(endless))
    assert check_transpose(lambda x: x.T)  # and the alarm is off again
    time.sleep(0.3)


def test_an_answer_that_leaves_python_does_not():
    assert "raised SystemExit" in repr(check_transpose(lambda x: sys.exit(0)))


def test_replaced_comparisons_change_nothing(monkeypatch):
    for module, name in ((math, "isclose"), (np, "allclose"), (np, "isclose"), (np, "asarray")):
        monkeypatch.setattr(module, name, lambda *a, **o: True)
    assert not check_number("n", 4, 3, recipe="") and not check_array("a", [4], [3], recipe="")
    assert not check_transpose(lambda x: x.T + 1)


def test_one_number_has_any_shape_and_views_of_a_table_are_lists():
    for answer in ([3], (3,), torch.tensor([[3.0]]), np.array(3)):
        assert check_function(lambda answer=answer: answer, lambda: 3, [()], recipe="")
    table = {1: 5, 2: 6}
    assert same(table.keys(), [1, 2], 0.0) and same(table.values(), [5, 6], 0.0) and same(range(3), [0, 1, 2], 0.0)
    assert as_array(10**400) is None and not same(10**400, 3, 0.0)


def test_no_message_fills_a_page():
    told = repr(check_function(lambda x: 1 / 0, len, [("x" * 10_000,)], recipe="h" * 9_000))
    assert len(told) < 450 and told.startswith("not right yet: on 'xxx")


def test_an_object_that_equals_everything_passes_no_check_of_a_lesson():
    result = checks.counts(AlwaysEqual(), 768, 729)
    assert not result and "expected one number" in repr(result)


# Hints, and functions that are used again


@exercise("02.3")
def doubled(function):
    return check_function(function, lambda x: 2 * x, [(3,)], recipe="Add it to itself.")


def test_a_hint_comes_on_request_then_the_recipe_and_the_third_wrong_answer_brings_the_hint(capsys):
    for store in (grading.WRONG_SO_FAR, grading.HINTS_ASKED):
        store.clear()
    hint("02.3")
    hint("02.3")
    assert capsys.readouterr().out.splitlines() == [
        f"Hint: {HINTS['02.3']}",
        "The solution is folded up below the exercise.",
    ]
    told = [doubled(lambda x: x) for _ in range(3)]
    assert [said.text for said in told] == ["on 3 got 3, expected 6."] * 3
    assert [said.help for said in told] == ['For a hint: checks.hint("02.3")'] * 2 + [f"Hint: {HINTS['02.3']}"]
    assert HINTS["02.3"] in repr(told[2]) and html.escape(HINTS["02.3"]) in told[2]._repr_html_()
    hint("02.3")
    assert capsys.readouterr().out == "Recipe: Add it to itself.\n"
    assert not doubled(lambda x: 2 * x).help
    hint("2.3")
    assert "There is no exercise '2.3'" in capsys.readouterr().out


def test_yours_is_the_learners_function_only_while_its_check_finds_it_right(capsys):
    def twice(x):
        return x + x

    def stand_in(x):
        return 2 * x

    assert yours(twice, stand_in) is stand_in and "until your twice is right" in capsys.readouterr().out
    assert doubled(twice) and yours(twice, stand_in) is twice
    assert capsys.readouterr().out == "This runs your own twice.\n"
    assert not doubled(lambda x: x) and yours(len, stand_in) is stand_in
    assert yours({}.get, stand_in) is stand_in, "what no set can hold is not remembered"


def test_every_exercise_has_a_hint_and_its_check_knows_its_number():
    numbers = []
    for path in sorted(Path(__file__).parents[1].glob("notebooks/[0-9][0-9]_*.ipynb")):
        checks = importlib.import_module(f"sora_edu.course.lesson_{path.name[:2]}.checks")
        for cell in json.loads(path.read_text())["cells"]:
            source = "".join(cell["source"])
            if found := re.match(r"# Exercise (\d\d\.\d+)\n", source):
                check = getattr(checks, re.search(r"^checks\.(\w+)", source, re.MULTILINE)[1])
                assert check.exercise == found[1]
                numbers.append(found[1])
        assert checks.hint is hint
    assert sorted(HINTS) == sorted(numbers)


def holding_itself() -> list:
    value = [1.0]
    value.append({"again": value})
    return value


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (holding_itself(), "got a list that holds itself"),
        ([1.0, torch.zeros(2, device="meta")], 'got a tensor on the device "meta", which holds no numbers'),
        (torch.eye(3).to_sparse(), "got a sparse tensor, not one of all its numbers: x.to_dense()"),
    ],
)
def test_an_answer_that_no_check_can_look_at_is_told_why(answer, said):
    @grading.exercise("02.1")
    def check(*answers):
        raise AssertionError("the check looked at it")

    assert check(answer).message == said
    told = grading.call_answer(lambda: answer, (), "it").message
    assert told == said.replace("got", "it returned", 1)


def test_the_same_list_twice_in_an_answer_holds_no_list_within_itself():
    row = [1, 2]
    assert grading.unreadable([row, row]) is None
