"""The checks of lesson 02 accept every right form, and tell the planted mistakes apart."""

import numpy as np
import pytest
import torch
from einops import rearrange
from torch.nn import functional as F
from verdicts import says

from sora_edu.course.lesson_02 import checks
from sora_edu.model.patches import patchify, unpatchify


@pytest.mark.parametrize(
    "result",
    [
        lambda: checks.positions(..., ...),
        lambda: checks.positions((1, 1), ...),
        lambda: checks.positions(..., (7, 2)),
        lambda: checks.counts(..., ..., ...),
        lambda: checks.counts(196, 768, ...),
        lambda: checks.second_patch(...),
        lambda: checks.second_patch([2, 3, ..., 7]),
        lambda: checks.patchify_by_hand(lambda images, ph, pw: ...),
        lambda: checks.patchify_by_hand(lambda images, ph, pw: None),
        lambda: checks.element_ratio(1.0, ...),
        lambda: checks.element_ratio(..., 3.72),
        lambda: checks.unpatchify_by_hand(lambda tokens, grid, ph, pw: ...),
        lambda: checks.unpatchify_by_hand(lambda tokens, grid, ph, pw: None),
        lambda: checks.second_patch("  "),
    ],
)
def test_an_unfilled_exercise_is_not_answered_yet(result):
    assert result().verdict == "not answered yet"


# --- positions and counts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [tuple, list, np.array, torch.tensor])
def test_positions_in_any_form(form):
    assert checks.positions(form([1, 1]), form([7, 2]))
    assert checks.positions(form([1, 1]), (7, 2))
    assert checks.positions(form(divmod(15, 14)), form(divmod(100, 14)))


@pytest.mark.parametrize(
    ("answer", "part"),
    [
        (([1, 1], [2, 7]), "misconception 1"),
        (([2, 2], [8, 3]), "from 1"),
        (([16, 16], [112, 32]), "pixels"),
        (([16, 16], [112, 32]), "misconception 1"),
        (([0, 15], [0, 100]), "multiples of 16"),
        (([0, 15], [0, 100]), "misconception 1"),
        (([0, 14], [7, 1]), "one patch early"),
        (([0, 15], [6, 4]), "the side of a patch"),
        (([0, 15], [6, 4]), "rows of 16"),
        (([1, 0], [6, 10]), "rows of 15"),
        (([1, 1], [3, 3]), "index = row * 14"),
        ((15, 100), "a pair (row, column)"),
        (("a", "b"), "a pair"),
        (([1, 1, 0], [7, 2, 0]), "a pair (row, column)"),
    ],
)
def test_positions_name_the_mistake(answer, part):
    assert says(checks.positions(*answer), part)


@pytest.mark.parametrize(
    "answer", [(196, 768, 729), (14 * 14.0, 16 * 16 * 3.0, 27.0**2), (np.int64(196), torch.tensor(768), "729")]
)
def test_counts_in_any_form(answer):
    if isinstance(answer[2], str):
        assert says(checks.counts(*answer), "expected one number")
    else:
        assert checks.counts(*answer)


@pytest.mark.parametrize("form", [int, float, torch.tensor, np.int32, lambda x: [x]])
def test_each_count_in_any_form(form):
    assert checks.counts(form(196), form(768), form(729))


def test_the_counts_are_those_of_the_package():
    photo = torch.zeros(1, 3, checks.PHOTO, checks.PHOTO)
    tokens = patchify(photo, ph=16, pw=16)
    overlapping = F.unfold(photo, 16, stride=8).shape[2]
    assert checks.counts(tokens.shape[1], tokens.shape[2], overlapping)
    assert checks.element_ratio(tokens.numel() / photo.numel(), overlapping * tokens.shape[2] / photo.numel())


@pytest.mark.parametrize(
    ("answer", "part"),
    [
        ((14, 768, 729), "one row of the grid"),
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
    ],
)
def test_counts_name_the_mistake(answer, part):
    assert says(checks.counts(*answer), part)


@pytest.mark.parametrize(
    "answer", [[2, 3, 6, 7], torch.tensor([[2, 3], [6, 7]]), np.array([2.0, 3, 6, 7]), (2, 3, 6, 7), [[2, 3], [6, 7]]]
)
def test_the_second_patch_in_any_form(answer):
    assert checks.second_patch(answer)


@pytest.mark.parametrize(
    ("answer", "part"),
    [
        ([4, 5, 6, 7], "misconception 2"),
        ([2, 6, 3, 7], "read row by row"),
        ([8, 9, 12, 13], "misconception 1"),
        ([1, 2, 5, 6], "middle of a patch"),
        ([1, 2, 5, 6], "misconception 1"),
        ([1, 1, 1, 1], "Draw the 4 x 4 table"),
        ([2, 3], "got shape (2,)"),
        ("2 3 6 7", "got a str"),
        ([0, 1, 4, 5], "counting starts at 0"),
    ],
)
def test_the_second_patch_names_the_mistake(answer, part):
    assert says(checks.second_patch(answer), part)


@pytest.mark.parametrize("ratio", [1, 1.0, torch.tensor(1.0), 196 * 768 / 150528])
def test_the_ratio_in_any_form(ratio):
    assert checks.element_ratio(ratio, 729 * 768 / 150528) and checks.element_ratio(ratio, 3.72)


@pytest.mark.parametrize(
    ("answer", "part"),
    [
        ((1 / 256, 3.72), "misconception 3"),
        ((256, 3.72), "misconception 3"),
        ((1 / 768, 3.72), "misconception 3"),
        ((1 / 3, 3.72), "both sides"),
        ((1 / 3, 3.72), "count the colours"),
        ((1.0, 1.0), "four patches now"),
        ((1, 1), "misconception 3"),
        ((1.0, 4.0), "at the border"),
        ((1.0, 196 / 729), "upside down"),
        ((1, 196 / 729), "misconception 3"),
    ],
)
def test_the_ratio_names_the_mistake(answer, part):
    assert says(checks.element_ratio(*answer), part)


# --- patchify ---------------------------------------------------------------------------------------------------------


def by_permute(images, ph, pw):
    """reshape and permute alone."""
    b, c, h, w = images.shape
    return images.reshape(b, c, h // ph, ph, w // pw, pw).permute(0, 2, 4, 3, 5, 1).reshape(b, -1, ph * pw * c)


def by_loops(images, ph, pw):
    """Two loops over corners."""
    h, w = images.shape[2:]
    corners = [(y, x) for y in range(0, h, ph) for x in range(0, w, pw)]
    patches = [images[:, :, y : y + ph, x : x + pw].permute(0, 2, 3, 1).flatten(1) for y, x in corners]
    return torch.stack(patches, 1)


def by_lists(images, ph, pw):
    """Lists of lists."""
    return by_loops(images, ph, pw).tolist()


def by_unfold(images, ph, pw):
    """torch's unfold, which puts colour first, put right in numpy."""
    columns = F.unfold(images, (ph, pw), stride=(ph, pw))
    return rearrange(columns, "b (c p) n -> b n (p c)", c=images.shape[1]).numpy()


@pytest.mark.parametrize(
    "function", [by_permute, by_loops, by_lists, by_unfold, lambda x, ph, pw: patchify(x, ph=ph, pw=pw)]
)
def test_patchify_in_any_right_form(function):
    assert checks.patchify_by_hand(function)


def code(pattern):
    return lambda images, ph, pw: rearrange(images, pattern, ph=ph, pw=pw)


HEAD = "b c (nh ph) (nw pw) ->"


@pytest.mark.parametrize(
    ("function", "part"),
    [
        (checks.plain_reshape, "misconception 2"),
        (checks.channels_last_reshape, "misconception 2"),
        (code(f"{HEAD} b (nh nw) (c ph pw)"), "colour comes last"),
        (code(f"{HEAD} b (nh nw) (pw ph c)"), "ph before pw"),
        (code(f"{HEAD} b (nw nh) (ph pw c)"), "misconception 1"),
        (code(f"{HEAD} b (ph pw) (nh nw c)"), "misconception 2"),
        (code(f"{HEAD} b nh nw (ph pw c)"), "shape"),
        (lambda x, ph, pw: x.reshape(len(x), -1, ph * pw * x.shape[1]), "misconception 2"),
        (lambda x, ph, pw: x.permute(0, 2, 3, 1).reshape(len(x), -1, ph * pw * x.shape[1]), "misconception 2"),
        (lambda x, ph, pw: torch.zeros_like(patchify(x, ph=ph, pw=pw)), "0% of the values"),
        (lambda x, ph, pw: patchify(x, ph=pw, pw=ph), "raised InputError"),
        (lambda x, ph, pw: patchify(x, ph=ph, pw=pw)[0], "got shape"),
        (lambda images, ph, pw: images.nothing, "raised AttributeError"),
    ],
)
def test_patchify_names_the_mistake(function, part):
    assert says(checks.patchify_by_hand(function), part)


# --- unpatchify -------------------------------------------------------------------------------------------------------


def back_by_permute(tokens, grid, ph, pw):
    """reshape and permute alone."""
    b, _, size = tokens.shape
    pieces = tokens.reshape(b, *grid, ph, pw, size // (ph * pw)).permute(0, 5, 1, 3, 2, 4)
    return pieces.reshape(b, -1, grid[0] * ph, grid[1] * pw)


def back(pattern):
    return lambda tokens, grid, ph, pw: rearrange(tokens, pattern, nh=grid[0], ph=ph, pw=pw)


TAIL = "-> b c (nh ph) (nw pw)"


def square_grid(tokens, grid, ph, pw):
    """The grid from a square root."""
    side = int(tokens.shape[1] ** 0.5)
    return back(f"b (nh nw) (ph pw c) {TAIL}")(tokens, (side, side), ph, pw)


@pytest.mark.parametrize(
    "function",
    [
        back_by_permute,
        back(f"b (nh nw) (ph pw c) {TAIL}"),
        lambda tokens, grid, ph, pw: unpatchify(tokens, grid=grid, ph=ph, pw=pw).numpy(),
    ],
)
def test_unpatchify_in_any_right_form(function):
    assert checks.unpatchify_by_hand(function)


@pytest.mark.parametrize(
    ("function", "part"),
    [
        (lambda t, grid, ph, pw: t.reshape(len(t), -1, grid[0] * ph, grid[1] * pw), "misconception 2"),
        (back(f"b (nh nw) (c ph pw) {TAIL}"), "colour last"),
        (back(f"b (nh nw) (pw ph c) {TAIL}"), "ph before pw"),
        (back(f"b (nh nw) (pw ph c) {TAIL}"), "turned over"),
        (square_grid, "never from a square root"),
        (back(f"b (nw nh) (ph pw c) {TAIL}"), "misconception 1"),
        (lambda t, grid, ph, pw: unpatchify(t, grid=grid, ph=ph, pw=pw).flip(-1), ""),
    ],
)
def test_unpatchify_names_the_mistake(function, part):
    assert says(checks.unpatchify_by_hand(function), part)
