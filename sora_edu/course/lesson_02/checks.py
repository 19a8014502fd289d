"""The checks of lesson 02, image patches. Functions of learners are run on hidden images of other sizes."""

from collections.abc import Callable

import torch
from einops import rearrange

from sora_edu.course.grading import (
    Result,
    Wrong,
    all_right,
    as_array,
    check_array,
    check_function,
    check_number,
    exercise,
    hint as hint,
    once_answered,
    unanswered,
    wrong,
)
from sora_edu.model.patches import patchify, unpatchify

PHOTO = 224  # pixels a side


def images(*sizes: tuple[int, int, int, int]) -> list[torch.Tensor]:
    """Random images in [-1, 1], the same on every machine; every value is different, so that order shows."""
    generator = torch.Generator().manual_seed(2)
    return [torch.rand(size, generator=generator) * 2 - 1 for size in sizes]


@exercise("02.1")
@once_answered
def positions(patch_15: object, patch_100: object) -> Result:
    """Row and column of ``patches[15]`` and ``patches[100]`` on the 14 x 14 grid."""
    one, two = as_array(patch_15), as_array(patch_100)
    if one is None or two is None or one.shape != (2,) or two.shape != (2,):
        return wrong("expected a pair (row, column) for each of the two patches")
    return check_array(
        "positions",
        [one.tolist(), two.tolist()],
        [[1, 1], [7, 2]],
        why="15 = 1 * 14 + 1 and 100 = 7 * 14 + 2: rows of 14, counted from 0.",
        recipe="There are 14 patches in a row; index = row * 14 + column, all counted from 0.",
        wrongs=[
            Wrong([[1, 1], [2, 7]], "you went down the columns first; patches run left to right, then down.", 1),
            Wrong([[2, 2], [8, 3]], "you counted rows and columns from 1; patches[0] is (0, 0)."),
            Wrong([[16, 16], [112, 32]], "these are pixels, the patch's corner; the grid is 14 x 14.", 1),
            Wrong([[0, 15], [0, 100]], "a patch starts only at multiples of 16 pixels: no row holds more than 14.", 1),
            Wrong([[0, 14], [7, 1]], "you are one patch early; patches[14] already opens row 1."),
            Wrong([[0, 15], [6, 4]], "you used rows of 16, the side of a patch; a row holds 224 / 16.", 1),
            Wrong([[1, 0], [6, 10]], "you used rows of 15; a row holds 224 / 16 = 14 patches.", 1),
        ],
    )


@exercise("02.5")
@once_answered
def counts(tokens: object, length: object, overlapping: object) -> Result:
    """Tokens of a 224 x 224 photograph, numbers in each, and tokens where a patch starts every 8 pixels."""
    first = check_number(
        "token_count",
        tokens,
        196,
        recipe="224 / 16 patches fit across, and as many down.",
        wrongs=[
            Wrong(14, "14 is one row of the grid; the picture has 14 such rows."),
            Wrong(50176, "224 * 224 counts pixels; a patch is 16 x 16 of them."),
            Wrong(43681, "that is every possible crop; a patch starts only at multiples of 16 pixels.", 1),
            Wrong(588, "the three colours belong to one token; they do not make three."),
        ],
    )
    second = check_number(
        "numbers_in_a_token",
        length,
        768,
        recipe="A patch has 16 * 16 pixels, and a pixel three numbers.",
        wrongs=[
            Wrong(256, "256 is one colour; a pixel has three numbers."),
            Wrong(1, "a token keeps every number of its patch; nothing is averaged away.", 3),
            Wrong(3, "a token keeps every pixel of its patch, not their mean colour.", 3),
        ],
    )
    third = check_number(
        "overlapping_count",
        overlapping,
        729,
        recipe="Patches start at pixels 0, 8, 16, ... and the last has to end inside the picture.",
        wrongs=[
            Wrong(784, "28 starts fit across, but the last patch would stick out by 8 pixels: 27."),
            Wrong(196, "that is the count without overlap; here patches start every 8 pixels."),
            Wrong(392, "half the step gives about twice the patches across and twice down."),
        ],
    )
    return all_right(
        first, second, third, why="14 * 14 = 196, 16 * 16 * 3 = 768, and ((224 - 16) / 8 + 1) ** 2 = 27 ** 2 = 729."
    )


@exercise("02.2")
def second_patch(numbers: object) -> Result:
    """The four numbers of ``patches[1]`` of a 4 x 4 image that counts from 0 to 15, cut in patches of 2 x 2."""
    values = as_array(numbers)
    return check_array(
        "patches[1]",
        numbers if values is None or unanswered(numbers) else values.reshape(-1),
        [2, 3, 6, 7],
        why="patches[1] is the top right corner: 2 and 3 above 6 and 7.",
        recipe="Draw the 4 x 4 table, cut it into four squares, and read the second one row by row.",
        wrongs=[
            Wrong([4, 5, 6, 7], "that is the second row of the table: what reshape gives.", 2),
            Wrong([2, 6, 3, 7], "the right square, read down the columns; a patch is read row by row (ph, then pw)."),
            Wrong([8, 9, 12, 13], "that is the square below; patches run left to right, then down.", 1),
            Wrong([1, 2, 5, 6], "that crop starts in the middle of a patch; patches start at multiples of 2.", 1),
            Wrong([0, 1, 4, 5], "that is number 0; counting starts at 0."),
        ],
    )


def pattern(code: str) -> Callable:
    """A function of (images, ph, pw) that follows an einops pattern with named sizes."""
    return lambda x, ph, pw: rearrange(x, code, ph=ph, pw=pw)


def plain_reshape(x: torch.Tensor, ph: int, pw: int) -> torch.Tensor:
    """What a learner gets who takes reshape for rearrange: the right shape, the wrong numbers."""
    return x.reshape(x.shape[0], -1, ph * pw * x.shape[1])


def channels_last_reshape(x: torch.Tensor, ph: int, pw: int) -> torch.Tensor:
    """The same with colours moved to the end first: lines of pixels, not squares."""
    return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, ph * pw * x.shape[1])


@exercise("02.3")
def patchify_by_hand(function: object) -> Result:
    """A function ``(images, ph, pw)`` that equals patchify, from reshape and permute."""
    first, second = images((2, 3, 6, 8), (1, 2, 12, 10))
    lines = "The shape is right and the numbers are not: reshape cuts along the lines of memory, not into squares."
    head = "b c (nh ph) (nw pw) ->"
    return check_function(
        function,
        lambda x, ph, pw: patchify(x, ph=ph, pw=pw),
        [(first, 3, 2), (second, 4, 5)],
        why="Split each side in two, bring the pieces into the order b nh nw ph pw c, then join.",
        recipe="Reshape to (b, c, nh, ph, nw, pw) first; permute to (b, nh, nw, ph, pw, c); then join the last three.",
        wrongs=[
            Wrong(plain_reshape, lines, 2),
            Wrong(channels_last_reshape, lines, 2),
            Wrong(pattern(f"{head} b (nh nw) (c ph pw)"), "The patches are right, but colour comes last: (ph pw c)."),
            Wrong(pattern(f"{head} b (nh nw) (pw ph c)"), "Inside a patch you read down the columns: ph before pw."),
            Wrong(pattern(f"{head} b (nw nh) (ph pw c)"), "Patches run left to right, then down: nh before nw.", 1),
            Wrong(
                pattern(f"{head} b (ph pw) (nh nw c)"), "Each token is a coarse copy of it all: nh and ph swapped.", 2
            ),
        ],
    )


@exercise("02.6")
@once_answered
def element_ratio(plain: object, overlapping: object) -> Result:
    """Numbers in all tokens over numbers in the picture, without overlap and with a step of 8."""
    small = "a token holds 768 numbers, not one: 196 * 768 is what the picture had."
    first = check_number(
        "plain",
        plain,
        1.0,
        recipe="Multiply tokens by numbers in each, and divide by 224 * 224 * 3.",
        wrongs=[
            Wrong(1 / 256, small, 3),
            Wrong(256, small + " (And more over less is what was asked.)", 3),
            Wrong(196 / (PHOTO * PHOTO * 3), small, 3),
            Wrong(1 / 768, small, 3),
            Wrong(1 / 3, "count the colours on both sides."),
        ],
        tolerance=1e-4,
    )
    second = check_number(
        "overlapping",
        overlapping,
        729 * 768 / (PHOTO * PHOTO * 3),
        recipe="729 tokens of 768 numbers, over 224 * 224 * 3.",
        wrongs=[
            Wrong(1.0, "most pixels are in four patches now, so there are more numbers.", 3),
            Wrong(4.0, "inside, each pixel is in four patches, but at the border in two or one."),
            Wrong(196 / 729, "upside down; the tokens hold more than the picture.", 3),
        ],
        tolerance=5e-3,
    )
    return all_right(
        first, second, why="Patching only reorders. To make a picture smaller is the VAE's work, lesson 05."
    )


@exercise("02.4")
def unpatchify_by_hand(function: object) -> Result:
    """A function ``(tokens, grid, ph, pw)`` that puts patches back, for grids that are not square too."""
    first, second = images((2, 3, 6, 16), (1, 2, 20, 10))
    cases = [(patchify(first, ph=3, pw=2), (2, 8), 3, 2), (patchify(second, ph=4, pw=5), (5, 2), 4, 5)]

    def reshaped(tokens: torch.Tensor, grid: tuple[int, int], ph: int, pw: int) -> torch.Tensor:
        return tokens.reshape(len(tokens), -1, grid[0] * ph, grid[1] * pw)

    def ordered(code: str) -> Callable:
        return lambda x, grid, ph, pw: rearrange(x, code, nh=grid[0], ph=ph, pw=pw)

    tail = "-> b c (nh ph) (nw pw)"
    return check_function(
        function,
        lambda tokens, grid, ph, pw: unpatchify(tokens, grid=grid, ph=ph, pw=pw),
        cases,
        why="Every number is back in its place, also on grids of 2 x 8 and 5 x 2.",
        recipe="Read the pattern of patchify from right to left; nh and nw come from grid, never from a square root.",
        wrongs=[
            Wrong(reshaped, "The shape is right and the picture is not: reshape does not undo rearrange.", 2),
            Wrong(ordered(f"b (nh nw) (c ph pw) {tail}"), "A token is (ph pw c), colour last; you read it first."),
            Wrong(ordered(f"b (nh nw) (pw ph c) {tail}"), "Each patch comes out turned over: read ph before pw."),
            Wrong(ordered(f"b (nw nh) (ph pw c) {tail}"), "you went down first; patches run left to right.", 1),
        ],
    )
