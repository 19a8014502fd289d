"""Checks accept every correct form, tell a wrong answer which misconception it shows, and cannot be fooled by shape."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from einops import rearrange

from sora_edu.course.grading import (
    MISCONCEPTIONS,
    Result,
    Wrong,
    as_array,
    as_number,
    check_array,
    check_function,
    check_number,
    once_answered,
    right,
    same,
    unanswered,
    wrong,
)
from sora_edu.course.lesson_02 import checks
from sora_edu.model.patches import patchify, unpatchify


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
    assert repr(check_number("n", answer, 3, hint="")) == "not answered yet"


@pytest.mark.parametrize("answer", [0, 0.0, False, torch.zeros(2), np.zeros(0), "no"])
def test_zero_is_an_answer(answer):
    assert not unanswered(answer)


@pytest.mark.parametrize(
    "answer",
    [3, 3.0, Fraction(3), np.int64(3), np.array([3]), torch.tensor(3), torch.tensor([[3.0]]), [3], (3,), True + 2],
)
def test_every_form_of_a_number_is_accepted(answer):
    assert as_number(answer) == 3.0
    assert check_number("n", answer, 3, hint="")


@pytest.mark.parametrize("answer", ["3", {3}, AlwaysEqual(), [1, 2], torch.zeros(2), 3j, print])
def test_what_is_not_one_number_is_not_accepted(answer):
    assert as_number(answer) is None
    assert "expected one number" in repr(check_number("n", answer, 196, hint=""))


def test_lists_arrays_and_tensors_are_compared_by_value_and_shape():
    for answer in ([[1, 2], [3, 4]], ((1, 2), (3, 4)), np.array([[1, 2], [3, 4]]), torch.tensor([[1.0, 2], [3, 4]])):
        assert same(answer, [[1, 2], [3, 4]], 1e-6)
    assert not same([1, 2, 3, 4], [[1, 2], [3, 4]], 1e-6)
    assert not same([[1, 2], [3, 5]], [[1, 2], [3, 4]], 1e-6)
    assert not same([[1, 2], [3, float("nan")]], [[1, 2], [3, 4]], 1e-6)
    assert as_array([[1], [2, 3]]) is None and as_array(AlwaysEqual()) is None


def test_the_right_shape_with_wrong_values_says_how_much_is_right():
    assert "only 50% of the values" in repr(check_array("a", [1, 9], [1, 2], hint=""))
    assert "got shape (3,), expected (2,)" in repr(check_array("a", [1, 2, 3], [1, 2], hint=""))


def test_the_name_of_an_answer_begins_whatever_is_said_to_a_wrong_one():
    wrongs = [Wrong(4, "one too many.", 3)]
    assert check_number("n", 4, 3, hint="", wrongs=wrongs).text.startswith("n: one too many.")
    assert check_number("n", 5, 3, hint="Count.").text == "n: got 5. Count."
    assert check_number("n", "3", 3, hint="").text == "n: got a str, expected one number"
    assert check_array("a", [4], [3], hint="", wrongs=[Wrong([4], "one too many.")]).text == "a: one too many."
    assert check_array("a", ["x"], [3], hint="Count.").text == "a: got a list, expected numbers of shape (1,). Count."
    assert wrong("").named("n").text == "" and wrong("no.").named("").text == "no."


def test_a_right_answer_hears_why_without_its_name():
    assert check_number("n", 3, 3, hint="", why="counted").text == "counted"
    assert check_number("n", 3, 3, hint="").text == "" == check_array("a", [3], [3], hint="").text


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
    return check_function(function, lambda x: x.T, CASES, why="yes", hint="swap", wrongs=[twin])


def test_a_function_is_compared_on_hidden_inputs():
    assert check_transpose(lambda x: x.T)
    assert check_transpose(lambda x: x.T.tolist()) and check_transpose(lambda x: x.numpy().T)
    assert "misconception 2" in repr(check_transpose(lambda x: x.reshape(x.shape[1], x.shape[0])))
    assert "only 0% of the values" in repr(check_transpose(lambda x: x.T + 1))
    assert "raised ZeroDivisionError" in repr(check_transpose(lambda x: 1 / 0))
    assert repr(check_transpose(lambda x: ...)) == "not answered yet" == repr(check_transpose(...))
    assert "expected a function" in repr(check_transpose(3))


def test_one_wrong_number_is_told_as_it_is_and_a_table_is_not_written_out():
    verdict = check_function(lambda n, table: n / 4, lambda n, table: n / 6, [(3, {"a": 1, "b": 2})], hint="Divide.")
    assert verdict.text == "on 3, a table of 2 got 0.75, which is not right. Divide."


def test_the_name_of_a_function_begins_whatever_is_said_to_a_wrong_one():
    def named(function):
        return check_function(
            function, lambda x: x.T, CASES, name="turn", hint="Swap.", wrongs=[Wrong(lambda x: x, "no.")]
        )

    assert named(lambda x: x).text == "turn: no." and named(3).text == "turn: got a int, expected a function"
    where = "turn: on an input of shape (2, 3)"
    assert named(lambda x: 1 / 0).text == f"{where} it raised ZeroDivisionError: division by zero. Swap."
    assert named(lambda x: x.T + 1).text == f"{where} the shape is right, but only 0% of the values are. Swap."
    assert named(lambda x: ...).verdict == "not answered yet" and named(lambda x: x.T).text == ""


def test_a_function_that_fits_only_the_first_hidden_case_fails():
    assert not check_transpose(lambda x: x.T if x.shape == (2, 3) else torch.zeros(x.T.shape))


def test_a_function_that_writes_on_its_input_harms_nobody():
    assert check_transpose(lambda x: x.mul_(1).T)
    check_transpose(lambda x: x.zero_())
    assert check_transpose(lambda x: x.T)


# ---------------------------------------------------------------- lesson 02


@pytest.mark.parametrize("one", [(1, 1), [1, 1], np.array([1, 1]), torch.tensor([1, 1])])
def test_positions_accept_any_pair(one):
    assert checks.positions(one, (7, 2))


@pytest.mark.parametrize(
    ("one", "two", "says"),
    [
        ((1, 1), (2, 7), "misconception 1"),
        ((2, 2), (8, 3), "from 1"),
        ((16, 16), (112, 32), "misconception 1"),
        ((0, 15), (0, 100), "misconception 1"),
        ((0, 14), (7, 1), "one patch early"),
        ((0, 15), (6, 4), "rows of 16"),
        ((1, 0), (6, 10), "rows of 15"),
        ((1, 1), (3, 3), "index = row * 14"),
        (15, 100, "a pair"),
        ("a", "b", "a pair"),
        (..., (7, 2), "not answered yet"),
    ],
)
def test_wrong_positions_are_diagnosed(one, two, says):
    result = checks.positions(one, two)
    assert not result and says in repr(result)


@pytest.mark.parametrize("form", [int, float, torch.tensor, np.int32, lambda x: [x]])
def test_counts_accept_every_form(form):
    assert checks.counts(form(196), form(768), form(729))


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ((14, 768, 729), "one row"),
        ((50176, 768, 729), "counts pixels"),
        ((43681, 768, 729), "misconception 1"),
        ((588, 768, 729), "three colours"),
        ((195, 768, 729), "got 195"),
        ((196, 256, 729), "one colour"),
        ((196, 1, 729), "misconception 3"),
        ((196, 3, 729), "misconception 3"),
        ((196, 768, 784), "stick out"),
        ((196, 768, 196), "without overlap"),
        ((196, 768, 392), "half the step"),
        ((196, 768, ...), "not answered yet"),
        ((AlwaysEqual(), 768, 729), "expected one number"),
    ],
)
def test_wrong_counts_are_diagnosed(answers, says):
    result = checks.counts(*answers)
    assert not result and says in repr(result)


@pytest.mark.parametrize(
    "answer", [[2, 3, 6, 7], (2, 3, 6, 7), torch.tensor([[2, 3], [6, 7]]), np.array([2.0, 3, 6, 7]), [[2, 3], [6, 7]]]
)
def test_the_second_patch_is_accepted_in_any_form(answer):
    assert checks.second_patch(answer)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ([4, 5, 6, 7], "misconception 2"),
        ([2, 6, 3, 7], "read row by row"),
        ([8, 9, 12, 13], "misconception 1"),
        ([1, 2, 5, 6], "misconception 1"),
        ([0, 1, 4, 5], "counting starts at 0"),
        ([1, 1, 1, 1], "Draw the 4 x 4 table"),
        ([2, 3], "got shape (2,)"),
        (..., "not answered yet"),
        ("2 3 6 7", "got a str"),
    ],
)
def test_a_wrong_second_patch_is_diagnosed(answer, says):
    result = checks.second_patch(answer)
    assert not result and says in repr(result)


def with_loops(images, ph, pw):
    """A third right form, as lists of lists."""
    b, _, h, w = images.shape
    corners = [(y, x) for y in range(0, h, ph) for x in range(0, w, pw)]
    cut = [
        [images[k, :, y : y + ph, x : x + pw].permute(1, 2, 0).flatten().tolist() for y, x in corners] for k in range(b)
    ]
    return cut


def with_permute(images, ph, pw):
    """Reshape and permute alone."""
    b, c, h, w = images.shape
    pieces = images.reshape(b, c, h // ph, ph, w // pw, pw)
    return pieces.permute(0, 2, 4, 3, 5, 1).reshape(b, -1, ph * pw * c)


@pytest.mark.parametrize("function", [with_loops, with_permute, lambda x, ph, pw: patchify(x, ph=ph, pw=pw)])
def test_right_patchifies_are_accepted(function):
    assert checks.patchify_by_hand(function)


HEAD = "b c (nh ph) (nw pw) -> "


def wrong_patchify(pattern):
    """A learner's einops pattern."""
    return lambda x, ph, pw: rearrange(x, HEAD + pattern, ph=ph, pw=pw)


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda x, ph, pw: x.reshape(len(x), -1, ph * pw * x.shape[1]), "misconception 2"),
        (lambda x, ph, pw: x.permute(0, 2, 3, 1).reshape(len(x), -1, ph * pw * x.shape[1]), "misconception 2"),
        (wrong_patchify("b (nh nw) (c ph pw)"), "colour comes last"),
        (wrong_patchify("b (nh nw) (pw ph c)"), "ph before pw"),
        (wrong_patchify("b (nw nh) (ph pw c)"), "misconception 1"),
        (wrong_patchify("b (ph pw) (nh nw c)"), "misconception 2"),
        (lambda x, ph, pw: torch.zeros_like(patchify(x, ph=ph, pw=pw)), "0% of the values"),
        (lambda x, ph, pw: patchify(x, ph=pw, pw=ph), "raised InputError"),
        (lambda x, ph, pw: patchify(x, ph=ph, pw=pw)[0], "got shape"),
        (lambda x, ph, pw: ..., "not answered yet"),
    ],
)
def test_wrong_patchifies_are_diagnosed(function, says):
    result = checks.patchify_by_hand(function)
    assert not result and says in repr(result)


@pytest.mark.parametrize("ratio", [1, 1.0, torch.tensor(1.0), 196 * 768 / 150528])
def test_right_ratios_are_accepted(ratio):
    assert checks.element_ratio(ratio, 729 * 768 / 150528) and checks.element_ratio(ratio, 3.72)


@pytest.mark.parametrize(
    ("plain", "overlapping", "says"),
    [
        (1 / 256, 3.72, "misconception 3"),
        (256, 3.72, "misconception 3"),
        (1 / 768, 3.72, "misconception 3"),
        (1 / 3, 3.72, "count the colours"),
        (1, 1, "misconception 3"),
        (1, 4, "at the border"),
        (1, 196 / 729, "misconception 3"),
        (..., 3.72, "not answered yet"),
    ],
)
def test_wrong_ratios_are_diagnosed(plain, overlapping, says):
    result = checks.element_ratio(plain, overlapping)
    assert not result and says in repr(result)


TAIL = " -> b c (nh ph) (nw pw)"


def wrong_unpatchify(pattern):
    """A learner's einops pattern for the inverse."""
    return lambda x, grid, ph, pw: rearrange(x, pattern + TAIL, nh=grid[0], ph=ph, pw=pw)


def square_grid(x, grid, ph, pw):
    """The grid from a square root."""
    side = int(x.shape[1] ** 0.5)
    return rearrange(x, "b (nh nw) (ph pw c)" + TAIL, nh=side, nw=side, ph=ph, pw=pw)


@pytest.mark.parametrize(
    "function",
    [wrong_unpatchify("b (nh nw) (ph pw c)"), lambda x, grid, ph, pw: unpatchify(x, grid=grid, ph=ph, pw=pw).numpy()],
)
def test_right_inverses_are_accepted(function):
    assert checks.unpatchify_by_hand(function)


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda x, grid, ph, pw: x.reshape(len(x), -1, grid[0] * ph, grid[1] * pw), "misconception 2"),
        (wrong_unpatchify("b (nh nw) (c ph pw)"), "colour last"),
        (wrong_unpatchify("b (nh nw) (pw ph c)"), "turned over"),
        (wrong_unpatchify("b (nw nh) (ph pw c)"), "misconception 1"),
        (square_grid, "never from a square root"),
        (lambda x, grid, ph, pw: None, "not answered yet"),
    ],
)
def test_wrong_inverses_are_diagnosed(function, says):
    result = checks.unpatchify_by_hand(function)
    assert not result and says in repr(result)
