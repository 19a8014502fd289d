"""The checks of lesson 04, attention over video. Functions of learners are run on hidden inputs of other sizes."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

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
    wrong,
)
from sora_edu.model.attention import attend as reference_attend


def randn(*shape: int, seed: int = 0) -> Tensor:
    """Random numbers, the same on every machine."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# --- attend -----------------------------------------------------------------------------------------------------------


def variant(*, power: float = -0.5, over: int = -1, hide: str = "before") -> Callable:
    """Attention with one thing done differently: the scale's power, the softmax's axis, or the use of the mask."""

    def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        scores = q @ k.transpose(-1, -2) * q.shape[-1] ** power
        if mask is not None and hide == "zero":
            scores = scores.masked_fill(~mask, 0.0)
        elif mask is not None and hide in ("before", "turned"):
            scores = scores.masked_fill(mask if hide == "turned" else ~mask, float("-inf"))
        weights = scores.softmax(over)
        return (weights * mask if mask is not None and hide == "after" else weights) @ v

    return attention


@exercise("04.1")
def attend_by_hand(function: object) -> Result:
    """A function ``(q, k, v, mask)`` that is scaled dot-product attention; mask is None, or True where one may look."""
    q, k, v = randn(2, 3, 5, 8), randn(2, 3, 7, 8, seed=1), randn(2, 3, 7, 8, seed=2)
    mask = randn(5, 7, seed=3) > 0
    mask[:, 0] = True  # every query may look at some key
    mask[:, 1] = False  # and none at all of them
    square = randn(1, 2, 6, 4, seed=4), randn(1, 2, 6, 4, seed=5), randn(1, 2, 6, 4, seed=6)
    return check_function(
        function,
        lambda q, k, v, mask: reference_attend(q, k, v, mask=mask),
        [(q, k, v, None), (q, k, v, mask), (*square, torch.ones(6, 6).tril().bool())],
        why="Scores over the root of dh, minus infinity where looking is forbidden, softmax over the keys, mix v.",
        recipe="scores = q @ k.transpose(-1, -2) / sqrt(dh); mask with -inf; softmax over the last axis; times v.",
        wrongs=[
            Wrong(variant(power=0.0), "You left out the scale: divide the scores by sqrt(dh), the length of a query."),
            Wrong(variant(power=-1.0), "You divided by dh; the root of it keeps the scores' spread at 1."),
            Wrong(variant(power=0.5), "You multiplied by sqrt(dh); divide by it."),
            Wrong(variant(over=-2), "Your softmax runs over the queries: each query's weights over the KEYS sum to 1."),
            Wrong(variant(hide="never"), "You ignore the mask: forbidden keys still get weight."),
            Wrong(variant(hide="turned"), "You hid what is allowed: mask is True where looking IS allowed."),
            Wrong(variant(hide="zero"), "A score of 0 still gets weight exp(0) = 1; put minus infinity there."),
            Wrong(
                variant(hide="after"), "Hiding after the softmax leaves weights that do not sum to 1; hide before it."
            ),
        ],
    )


# --- order ------------------------------------------------------------------------------------------------------------


@exercise("04.3")
@once_answered
def order_of_tokens(undo: object, changes: object) -> Result:
    """A function ``(y, order)`` that puts permuted outputs back, and four times yes or no: does the mean change?"""
    orders = [torch.tensor([2, 0, 3, 1, 4]), torch.tensor([1, 2, 3, 4, 5, 6, 0])]  # neither is its own inverse
    first = check_function(
        undo,
        lambda y, order: y[:, order.argsort()],
        [(randn(2, 5, 3), orders[0]), (randn(1, 7, 4, seed=1), orders[1])],
        name="undo",
        recipe="Output i belongs to token order[i]: y[:, order.argsort()], or back[:, order] = y.",
        wrongs=[
            Wrong(
                lambda y, order: y,
                "outputs come in the order of the inputs; attention puts nothing back, it knows no places.",
                8,
            ),
            Wrong(lambda y, order: y[:, order], "that shuffles once more; you need the inverse permutation."),
            Wrong(lambda y, order: y.flip(1), "that reverses; order can be any permutation."),
            Wrong(lambda y, order: y.mean(1, keepdim=True).expand_as(y), "the mean forgets which token is which."),
        ],
    )
    values = as_array(changes)
    if values is None or values.shape != (4,):
        return wrong("changes: expected four answers, True or False, in the order of the list")
    added = "positions are tied to the slot, so reversed frames get other positions, and the mean moves."
    second = check_array(
        "changes",
        values,
        [0, 0, 1, 1],
        recipe="Without positions, outputs are the same vectors in another order, and a mean ignores order.",
        wrongs=[
            Wrong([1, 1, 1, 1], "without positions attention sees a set, and the set is the same.", 8),
            Wrong([1, 0, 1, 1], "reversing is a permutation like any other, without positions unseen.", 8),
            Wrong([0, 1, 1, 1], "shuffling all is a permutation like any other; the set is the same.", 8),
            Wrong([0, 0, 0, 0], added),
            Wrong([0, 0, 1, 0], "rotary sees displacements, and reversing turns them round: +1 becomes -1."),
            Wrong([0, 0, 0, 1], added),
            Wrong([1, 1, 0, 0], "the other way round: only positions make order visible.", 8),
        ],
    )
    return all_right(first, second, why="Attention sees a set of tokens. Order exists for it only through positions.")


# --- rotary -----------------------------------------------------------------------------------------------------------


def halves(sign: float = 1.0, frequencies: bool = True) -> Callable:
    """Rotary turning of the pairs (i, i + dh/2), or one of its near misses."""

    def turn(x: Tensor, position: int, frequency: Tensor) -> Tensor:
        angle = sign * position * (frequency if frequencies else torch.ones_like(frequency))
        a, b = x.chunk(2)
        return torch.cat((a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()))

    return turn


def neighbours(x: Tensor, position: int, frequency: Tensor) -> Tensor:
    """The pairs (0, 1), (2, 3), ... turned: as good, but other pairs."""
    angle = position * frequency
    a, b = x.view(-1, 2).T
    return torch.stack((a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()), -1).flatten()


def added(x: Tensor, position: int, frequency: Tensor) -> Tensor:
    """What one gets who adds sines and cosines, as the other kind of position does."""
    angle = position * frequency
    return x + torch.cat((angle.sin(), angle.cos()))


def unmixed(x: Tensor, position: int, frequency: Tensor) -> Tensor:
    """One half times the cosines, the other times the sines."""
    angle = position * frequency
    a, b = x.chunk(2)
    return torch.cat((a * angle.cos(), b * angle.sin()))


@exercise("04.2")
@once_answered
def turned(turn: object, partner: object) -> Result:
    """A function ``(x, position, frequency)`` that turns pairs, and the place of the key that gives an equal score."""
    frequency = 100.0 ** (-torch.arange(4) / 4)
    first = check_function(
        turn,
        halves(),
        [(randn(8), 3, frequency), (randn(6, seed=1), 11, torch.tensor([1.0, 0.4, 0.05])), (randn(8), 0, frequency)],
        name="turn",
        recipe="a, b = x.chunk(2); angle = position * frequency; (a cos - b sin, a sin + b cos).",
        wrongs=[
            Wrong(halves(-1.0), "you turn the other way round: a cos - b sin, then a sin + b cos."),
            Wrong(halves(frequencies=False), "each pair has its own frequency: position * frequency."),
            Wrong(neighbours, "a rotary embedding as well, but of the pairs (0, 1), (2, 3); here (i, i + dh/2)."),
            Wrong(added, "nothing is added; pairs are turned, so that the length stays."),
            Wrong(lambda x, position, frequency: x, "that leaves x as it is, at every place."),
            Wrong(unmixed, "a rotation mixes the two halves: a cos - b sin, then a sin + b cos."),
        ],
        tolerance=1e-4,
    )
    second = check_number(
        "partner",
        partner,
        24,
        recipe="The score depends on the displacement k - q alone, which was 7 - 3.",
        wrongs=[
            Wrong(7, "the key's place alone does not fix the score; keep the displacement 7 - 3 = 4."),
            Wrong(16, "the key is 4 places AFTER the query; the other side is another displacement, -4."),
            Wrong(20 * 7 / 3, "the difference counts, not the ratio."),
            Wrong(4, "4 is the displacement; the key's place is 20 + 4."),
            Wrong(20, "at the query's own place the displacement is 0, and it was 4."),
            Wrong(27, "not 20 + 7: the displacement was 7 - 3 = 4."),
        ],
        tolerance=1e-3,
    )
    return all_right(first, second, why="q . k after turning depends on the displacement only, and the length stays.")


# --- pairs ------------------------------------------------------------------------------------------------------------


def full_pairs(name: str, answer: object, *, factorised: int) -> Result:
    """The pairs of full attention over 128 tokens."""
    implied = "how the clip was cut decides nothing about who looks at whom: full attention takes all pairs."
    return check_number(
        name,
        answer,
        16_384,
        recipe="Every one of the n tokens looks at every one, itself included.",
        wrongs=[
            Wrong(factorised, implied, 6),
            Wrong(2_048, implied + " (2,048 is space alone.)", 6),
            Wrong(1_024, implied + " (1,024 is time alone.)", 6),
            Wrong(128, "128 counts the tokens; each of them looks at 128.", 7),
            Wrong(128 * 127, "a token looks at itself too."),
            Wrong(128 * 127 // 2, "a looks at b and b at a are two scores, and each looks at itself."),
            Wrong(128 * 129 // 2, "a looks at b and b at a are two scores; this counts them once, or causally."),
            Wrong(256**2, "only 8 steps in time, not 16: 8 * 4 * 4 = 128 tokens."),
        ],
    )


def factorised_pairs(name: str, answer: object) -> Result:
    """The pairs of space, then time, over 8 x 4 x 4 tokens."""
    return check_number(
        name,
        answer,
        3_072,
        recipe="In each of 8 frames 16 look at 16; along each of 16 columns 8 look at 8; add the two.",
        wrongs=[
            Wrong(16_384, "any grid of tokens can be factorised, however it was cut: space, then time.", 6),
            Wrong(2_048, "that is space alone, 8 * 16 * 16; add time."),
            Wrong(1_024, "that is time alone, 16 * 8 * 8; add space."),
            Wrong(320, "16 * 16 for one frame and 8 * 8 for one column; there are 8 frames and 16 columns."),
            Wrong(2_048 * 1_024, "one after the other, so the pairs add up; they do not multiply."),
            Wrong(128, "128 counts the tokens, not the pairs.", 7),
        ],
    )


@exercise("04.4")
@once_answered
def pairs(flat_full: object, flat_factorised: object, tubelets_full: object, tubelets_factorised: object) -> Result:
    """Pairs of full and of factorised attention, over tokens of flat frames and over tubelets: 8 x 4 x 4 both times."""
    return all_right(
        full_pairs("flat_full", flat_full, factorised=3_072),
        full_pairs("tubelets_full", tubelets_full, factorised=3_072),
        factorised_pairs("flat_factorised", flat_factorised),
        factorised_pairs("tubelets_factorised", tubelets_factorised),
        why="128 * 128, or 8 * 16 * 16 + 16 * 8 * 8. The cut makes the tokens, the mask the pairs: two choices.",
    )


# --- growth -----------------------------------------------------------------------------------------------------------


def slope(x: list, y: list) -> float:
    """Slope of the straight line through points, by least squares."""
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum((a - mean_x) ** 2 for a in x)


def logs(values: list) -> list:
    """Natural logarithms."""
    return [math.log(value) for value in values]


@exercise("04.6")
@once_answered
def growth(fit_exponent: object, longer: object) -> Result:
    """A function ``(tokens, cost)`` that finds p in cost = c * tokens ** p, and three factors for twice the tokens."""
    sizes = [[64, 128, 512, 1024], [10, 30, 90], [100, 200, 400, 900, 2000]]
    laws = [(3.0, 2.0), (50.0, 1.0), (0.5, 5 / 3)]
    cases = [(n, [c * x**p for x in n]) for n, (c, p) in zip(sizes, laws, strict=True)]
    first = check_function(
        fit_exponent,
        lambda n, cost: slope(logs(n), logs(cost)),
        cases,
        name="fit_exponent",
        recipe="log cost = log c + p log n, so p is the slope of log cost over log n.",
        wrongs=[
            Wrong(lambda n, cost: slope(n, cost), "the slope of cost over n; take logarithms of both first."),
            Wrong(lambda n, cost: 1.0, "an exponent of 1 for all costs takes the answer for granted.", 7),
            Wrong(lambda n, cost: slope(logs(cost), logs(n)), "upside down: log cost over log n."),
            Wrong(lambda n, cost: math.log(cost[-1]) / math.log(n[-1]), "the factor c is still in it."),
            Wrong(lambda n, cost: slope(n, logs(cost)), "only cost is in logarithms; take those of n too."),
            Wrong(lambda n, cost: cost[-1] / cost[0], "that is how much the cost grew, not its exponent."),
        ],
        tolerance=1e-3,
    )
    values = as_array(longer)
    if values is None or values.shape != (3,):
        return wrong("longer: expected three factors: full, windows, strides")
    second = check_array(
        "longer",
        values,
        [4, 2, 4],
        recipe="Pairs are n * n for full, n * 32 for windows of 32, n * n / 8 for strides of 2 along each axis.",
        wrongs=[
            Wrong([2, 2, 2], "twice the tokens are four times the pairs, unless the window is fixed.", 7),
            Wrong([2, 1, 2], "twice the tokens: full attention squares that, and windows are twice as many.", 7),
            Wrong([4, 2, 2], "a stride divides the pairs by 8, once; n * n / 8 still grows fourfold.", 7),
            Wrong([4, 4, 4], "a window keeps its size: there are twice as many windows, no larger."),
            Wrong([4, 1, 4], "each token's work stays the same, but there are twice as many tokens."),
            Wrong([4, 2, 0.5], "n * n / 8 against n * n / 8: the divisor stays, n * n grows fourfold."),
        ],
    )
    return all_right(
        first, second, why="Full and strided grow like n squared, windows like n. Only the exponent lasts."
    )


# --- attention against weights ----------------------------------------------------------------------------------------


@exercise("04.5")
def share(function: object) -> Result:
    """A function ``(n, d)``: multiply-adds of the scores and mixtures over those of a block's weights."""
    return check_function(
        function,
        lambda n, d: n / (6 * d),
        [(80, 192), (1536, 256), (5000, 64)],
        why="2 n n d over 12 n d d is n / (6 d): they are equal at n = 6 d, for any number of heads.",
        recipe="Scores and mixtures take n * n * d each; a block has 12 d * d weights, and each token meets all.",
        wrongs=[
            Wrong(lambda n, d: n / (12 * d), "There are two products of n * n * d: q with k, and the weights with v."),
            Wrong(lambda n, d: n / (4 * d), "These are the MLP's weights alone, 8 d * d; qkv and out add 4 d * d."),
            Wrong(lambda n, d: n / (2 * d), "These are qkv and out alone, 4 d * d; the MLP adds 8 d * d."),
            Wrong(lambda n, d: 6 * d / n, "Upside down: attention over weights."),
            Wrong(lambda n, d: n * n / (6 * d), "Each TOKEN meets all weights, n * 12 * d * d: one n cancels."),
            Wrong(lambda n, d: n * n / (12 * d * d), "A pair costs 2 d, and every token meets all weights."),
            Wrong(lambda n, d: 2 * n / (12 * d * d), "One d is missing: a pair costs d twice, score and mixture."),
            Wrong(lambda n, d: 1 / (6 * d), "One n is missing: each token looks at n others, not at one.", 7),
        ],
        tolerance=1e-6,
    )


# --- 04.7: a mask that looks ahead ------------------------------------------------------------------------------------


def frame_mask(nf: int, nh: int, nw: int) -> Tensor:
    """True where the key's frame is the query's or an earlier one."""
    frame = torch.arange(nf * nh * nw) // (nh * nw)
    return frame[None] <= frame[:, None]


@exercise("04.7")
def mended_mask(function: object) -> Result:
    """A function ``(nf, nh, nw)``: the mask by which each token sees its own frame and the earlier ones."""

    def of_frames(compare: Callable, frame_of: Callable) -> Callable:
        def mask(nf: int, nh: int, nw: int) -> Tensor:
            frame = frame_of(torch.arange(nf * nh * nw), nf, nh, nw)
            return compare(frame[None], frame[:, None])

        return mask

    def slowest(i: Tensor, nf: int, nh: int, nw: int) -> Tensor:
        return i // (nh * nw)

    return check_function(
        function,
        frame_mask,
        [(3, 2, 4), (2, 5, 3), (4, 1, 2)],
        why="Rows of tokens count time slowest: the frame of token i is i // (nh * nw), and a later one is hidden.",
        recipe="frame = torch.arange(n) // (nh * nw); allowed where the key's frame is at most the query's.",
        wrongs=[
            Wrong(
                of_frames(torch.le, lambda i, nf, nh, nw: i % nf),
                "This is still the mask with the bug. Print the frame number that it gives to each token of the row.",
            ),
            Wrong(of_frames(torch.ge, slowest), "Turned round: each token sees its own frame and LATER ones."),
            Wrong(of_frames(torch.lt, slowest), "A token must see its own frame too: at most, not below."),
            Wrong(of_frames(torch.eq, slowest), "That is the frame alone, without the earlier ones."),
            Wrong(
                lambda nf, nh, nw: torch.ones(nf * nh * nw, nf * nh * nw).tril().bool(),
                "Token by token: within a frame all see each other, only later FRAMES are hidden.",
            ),
            Wrong(of_frames(torch.le, lambda i, nf, nh, nw: i // nf), "A frame holds nh * nw tokens, not nf."),
            Wrong(
                of_frames(torch.le, lambda i, nf, nh, nw: i // nw),
                "You counted rows of a frame: within a frame all see each other, and a frame holds nh * nw tokens.",
            ),
            Wrong(
                of_frames(torch.le, lambda i, nf, nh, nw: i % (nh * nw)),
                "That numbers the places within a frame. Which frame is token i in?",
            ),
            Wrong(
                of_frames(torch.gt, slowest),
                "True means that looking is ALLOWED; yours is True where it is forbidden.",
            ),
            Wrong(
                lambda nf, nh, nw: torch.kron(torch.ones(nf, nf).tril(), torch.eye(nh * nw)).bool(),
                "That is each token's own column of time: it should see ALL tokens of its frame and of earlier ones.",
            ),
        ],
    )
