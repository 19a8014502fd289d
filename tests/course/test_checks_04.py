"""The checks of lesson 04 accept every right form, and tell the planted mistakes apart."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from verdicts import says

from sora_edu.course.lesson_04 import checks
from sora_edu.model.attention import SelfAttention
from sora_edu.model.positions import apply_rope, rope_nd, sincos_nd


@pytest.mark.parametrize(
    "result",
    [
        lambda: checks.attend_by_hand(lambda q, k, v, mask: ...),
        lambda: checks.order_of_tokens(lambda y, order: ..., [..., ..., ..., ...]),
        lambda: checks.order_of_tokens(lambda y, order: y[:, order.argsort()], [False, ..., True, True]),
        lambda: checks.order_of_tokens(lambda y, order: ..., [False, False, True, True]),
        lambda: checks.turned(lambda x, position, frequency: ..., ...),
        lambda: checks.turned(checks.halves(), ...),
        lambda: checks.pairs(..., ..., ..., ...),
        lambda: checks.pairs(16_384, 3_072, ..., 3_072),
        lambda: checks.growth(lambda tokens, cost: ..., [..., ..., ...]),
        lambda: checks.growth(fit_by_logs, [..., 2, 4]),
        lambda: checks.share(lambda n, d: ...),
        lambda: checks.mended_mask(...),
        lambda: checks.mended_mask(lambda nf, nh, nw: ...),
    ],
)
def test_an_unfilled_exercise_is_not_answered_yet(result):
    assert result().verdict == "not answered yet"


# --- attend -----------------------------------------------------------------------------------------------------------


def by_einsum(q, k, v, mask):
    """Other names, an additive mask, softmax by hand."""
    scores = torch.einsum("bhnd,bhmd->bhnm", q, k) / math.sqrt(q.shape[-1])
    if mask is not None:
        scores = scores + torch.where(mask, 0.0, -1e9)
    shares = (scores - scores.amax(-1, keepdim=True)).exp()
    return torch.einsum("bhnm,bhmd->bhnd", shares / shares.sum(-1, keepdim=True), v)


def by_loops(q, k, v, mask):
    """One query at a time, over the allowed keys only."""
    out = torch.empty(*q.shape[:-1], v.shape[-1])
    for b, h, n in np.ndindex(*q.shape[:3]):
        keep = torch.ones(k.shape[2], dtype=torch.bool) if mask is None else mask[n]
        shares = (k[b, h, keep] @ q[b, h, n] / q.shape[-1] ** 0.5).softmax(0)
        out[b, h, n] = shares @ v[b, h, keep]
    return out


def by_torch(q, k, v, mask):
    """PyTorch's own."""
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


@pytest.mark.parametrize("function", [by_einsum, by_loops, by_torch])
def test_attend_in_any_right_form(function):
    assert checks.attend_by_hand(function)


def with_scores(change, mix=lambda shares, v: shares @ v):
    """Attention of a learner who changes the scores in some way."""
    return lambda q, k, v, mask: mix(change(q @ k.transpose(-1, -2), q.shape[-1], mask), v)


@pytest.mark.parametrize(
    ("function", "part"),
    [
        (with_scores(lambda s, dh, mask: s.softmax(-1)), "left out the scale"),
        (with_scores(lambda s, dh, mask: (s / dh).softmax(-1)), "divided by dh"),
        (with_scores(lambda s, dh, mask: (s * dh**0.5).softmax(-1)), "multiplied by sqrt"),
        (with_scores(lambda s, dh, mask: (s / dh**0.5).softmax(-2)), "over the queries"),
        (with_scores(lambda s, dh, mask: (s / dh**0.5).softmax(-1)), "ignore the mask"),
        (
            with_scores(
                lambda s, dh, m: (s / dh**0.5 if m is None else (s / dh**0.5).masked_fill(m, -math.inf)).softmax(-1)
            ),
            "hid what is allowed",
        ),
        (
            with_scores(lambda s, dh, m: (s / dh**0.5 if m is None else (s / dh**0.5).masked_fill(~m, 0)).softmax(-1)),
            "still gets weight",
        ),
        (
            with_scores(lambda s, dh, m: (s / dh**0.5).softmax(-1) * (1 if m is None else m)),
            "after the softmax",
        ),
        (lambda q, k, v, mask: v, "shape"),
        (lambda q, k, v, mask: q @ k, "raised RuntimeError"),
    ],
)
def test_attend_names_the_mistake(function, part):
    assert says(checks.attend_by_hand(function), part)


# --- order ------------------------------------------------------------------------------------------------------------


def by_index(y, order):
    """Write each output to its token's place."""
    back = torch.empty_like(y)
    back[:, order] = y
    return back


def by_loop(y, order):
    """A list of tokens."""
    return torch.stack([y[:, (order == i).nonzero()[0, 0]] for i in range(len(order))], 1)


RIGHT = [False, False, True, True]


@pytest.mark.parametrize("undo", [by_index, by_loop, lambda y, order: y[:, order.argsort()]])
@pytest.mark.parametrize("changes", [RIGHT, (0, 0, 1, 1), torch.tensor(RIGHT), np.array(RIGHT)])
def test_order_in_any_right_form(undo, changes):
    assert checks.order_of_tokens(undo, changes)


@pytest.mark.parametrize(
    ("undo", "changes", "parts"),
    [
        (lambda y, order: y, RIGHT, ("undo", "misconception 8")),
        (lambda y, order: y[:, order], RIGHT, ("shuffles once more",)),
        (lambda y, order: y.flip(1), RIGHT, ("reverses",)),
        (lambda y, order: y.sort(1).values, RIGHT, ("argsort",)),
        (by_index, [True] * 4, ("changes", "misconception 8")),
        (by_index, [True, False, True, True], ("misconception 8",)),
        (by_index, [False, True, True, True], ("misconception 8",)),
        (by_index, [False, False, True, False], ("displacements",)),
        (by_index, [False] * 4, ("tied to the slot",)),
        (by_index, [True, True, False, False], ("the other way round", "misconception 8")),
        (by_index, True, ("four answers",)),
    ],
)
def test_order_names_the_mistake(undo, changes, parts):
    assert says(checks.order_of_tokens(undo, changes), *parts)


def test_the_four_predictions_are_what_attention_does():
    torch.manual_seed(0)
    attention, x, grid = SelfAttention(12, 2).double(), torch.randn(1, 24, 12).double(), (4, 2, 3)
    backwards = x.view(1, 4, 6, 12).flip(1).reshape(1, 24, 12)
    shuffled = x[:, torch.randperm(24)]
    codes, rope = sincos_nd(grid, 12).double(), tuple(part.double() for part in rope_nd(grid, 6))

    def moved(a, b, **options):
        return not torch.allclose(attention(a, **options).mean(1), attention(b, **options).mean(1), atol=1e-8)

    cases = [moved(x, backwards), moved(x, shuffled), moved(x + codes, backwards + codes)]
    assert [*cases, moved(x, backwards, rope=rope)] == RIGHT


# --- rotary -----------------------------------------------------------------------------------------------------------


def by_complex(x, position, frequency):
    """Each pair as a complex number, times e to the i angle."""
    z = torch.complex(*x.chunk(2)) * torch.polar(torch.ones_like(frequency), position * frequency)
    return torch.cat([z.real, z.imag])


def by_matrix(x, position, frequency):
    """Pair by pair, a 2 x 2 matrix."""
    out, half = x.clone(), len(x) // 2
    for i, f in enumerate(frequency.tolist()):
        c, s = math.cos(position * f), math.sin(position * f)
        out[[i, i + half]] = torch.tensor([[c, -s], [s, c]]) @ x[[i, i + half]]
    return out


def by_package(x, position, frequency):
    """The package's own."""
    angle = (position * frequency)[None]
    return apply_rope(x.view(1, 1, 1, -1), angle.cos(), angle.sin()).flatten()


@pytest.mark.parametrize("turn", [by_complex, by_matrix, by_package])
@pytest.mark.parametrize("partner", [24, 24.0, torch.tensor(24)])
def test_turning_in_any_right_form(turn, partner):
    assert checks.turned(turn, partner)


@pytest.mark.parametrize(
    ("turn", "partner", "part"),
    [
        (lambda x, p, f: by_complex(x, -p, f), 24, "other way round"),
        (lambda x, p, f: by_complex(x, p, torch.ones_like(f)), 24, "own frequency"),
        (
            lambda x, p, f: by_complex(x.view(-1, 2).T.flatten(), p, f).view(2, -1).T.flatten(),
            24,
            "pairs (0, 1), (2, 3)",
        ),
        (lambda x, p, f: x + torch.cat([(p * f).sin(), (p * f).cos()]), 24, "nothing is added"),
        (lambda x, p, f: x * torch.cat([(p * f).cos(), (p * f).sin()]), 24, "mixes the two halves"),
        (lambda x, p, f: x, 24, "leaves x as it is"),
        (lambda x, p, f: x[: len(f)], 24, "shape"),
        (by_complex, 7, "place alone"),
        (by_complex, 16, "AFTER"),
        (by_complex, 140 / 3, "ratio"),
        (by_complex, 27, "not 20 + 7"),
        (by_complex, 23, "displacement"),
        (by_complex, "24", "expected one number"),
    ],
)
def test_turning_names_the_mistake(turn, partner, part):
    assert says(checks.turned(turn, partner), part)


# --- pairs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [int, float, torch.tensor, np.int64])
def test_pairs_in_any_right_form(form):
    assert checks.pairs(*map(form, (16_384, 3_072, 16_384, 3_072)))


@pytest.mark.parametrize(
    ("answers", "parts"),
    [
        ((16_384, 3_072, 3_072, 3_072), ("tubelets_full", "misconception 6")),
        ((16_384, 16_384, 3_072, 3_072), ("misconception 6",)),
        ((16_384, 16_384, 16_384, 3_072), ("flat_factorised", "misconception 6")),
        ((3_072, 3_072, 16_384, 3_072), ("flat_full", "misconception 6")),
        ((16_384, 3_072, 16_384, 2_048), ("tubelets_factorised", "space alone")),
        ((16_384, 1_024, 16_384, 1_024), ("time alone",)),
        ((16_384, 320, 16_384, 320), ("8 frames and 16 columns",)),
        ((16_384, 2_097_152, 16_384, 2_097_152), ("add up",)),
        ((128, 3_072, 128, 3_072), ("misconception 7",)),
        ((16_256, 3_072, 16_256, 3_072), ("looks at itself",)),
        ((8_128, 3_072, 8_128, 3_072), ("two scores",)),
        ((8_256, 3_072, 8_256, 3_072), ("causally",)),
        ((65_536, 3_072, 65_536, 3_072), ("not 16",)),
        ((16_384, 999, 16_384, 999), ("add the two",)),
    ],
)
def test_pairs_name_the_mistake(answers, parts):
    assert says(checks.pairs(*answers), *parts)


# --- growth -----------------------------------------------------------------------------------------------------------


def fit_by_logs(tokens, cost):
    """numpy's straight line."""
    return np.polyfit(np.log(tokens), np.log(cost), 1)[0]


def fit_by_ends(tokens, cost):
    """An exact law needs two points only."""
    return math.log(cost[-1] / cost[0]) / math.log(tokens[-1] / tokens[0])


def fit_by_torch(tokens, cost):
    """Single precision, and base 2."""
    x, y = torch.tensor(tokens).log2(), torch.tensor(cost).log2()
    return ((x - x.mean()) * y).sum() / ((x - x.mean()) ** 2).sum()


@pytest.mark.parametrize("fit", [fit_by_logs, fit_by_ends, fit_by_torch])
@pytest.mark.parametrize("longer", [[4, 2, 4], (4.0, 2.0, 4.0), torch.tensor([4, 2, 4])])
def test_growth_in_any_right_form(fit, longer):
    assert checks.growth(fit, longer)


@pytest.mark.parametrize(
    ("fit", "longer", "parts"),
    [
        (lambda n, cost: np.polyfit(n, cost, 1)[0], [4, 2, 4], ("take logarithms of both",)),
        (lambda n, cost: 1, [4, 2, 4], ("misconception 7",)),
        (lambda n, cost: 1 / fit_by_logs(n, cost), [4, 2, 4], ("upside down",)),
        (lambda n, cost: np.log(cost[-1]) / np.log(n[-1]), [4, 2, 4], ("factor c",)),
        (lambda n, cost: np.polyfit(n, np.log(cost), 1)[0], [4, 2, 4], ("only cost",)),
        (lambda n, cost: cost[-1] / cost[0], [4, 2, 4], ("how much the cost grew",)),
        (lambda n, cost: 2, [4, 2, 4], ("slope",)),
        (fit_by_logs, [2, 2, 2], ("misconception 7",)),
        (fit_by_logs, [4, 2, 2], ("a stride divides", "misconception 7")),
        (fit_by_logs, [4, 4, 4], ("keeps its size",)),
        (fit_by_logs, [4, 1, 4], ("twice as many tokens",)),
        (fit_by_logs, [4, 2], ("three factors",)),
        (fit_by_logs, "4 2 4", ("three factors",)),
    ],
)
def test_growth_names_the_mistake(fit, longer, parts):
    assert says(checks.growth(fit, longer), *parts)


# --- the ratio --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ratio",
    [lambda n, d: n / (6 * d), lambda n, d: 2 * n * n * d / (12 * n * d * d), lambda n, d: torch.tensor(n / d) / 6],
)
def test_the_ratio_in_any_right_form(ratio):
    assert checks.share(ratio)


@pytest.mark.parametrize(
    ("ratio", "part"),
    [
        (lambda n, d: n * n * d / (12 * n * d * d), "two products"),
        (lambda n, d: n / (4 * d), "MLP's weights alone"),
        (lambda n, d: n / (2 * d), "the MLP adds"),
        (lambda n, d: 6 * d / n, "Upside down"),
        (lambda n, d: 2 * n * n * d / (12 * d * d), "one n cancels"),
        (lambda n, d: n * n / (12 * d * d), "A pair costs 2 d"),
        (lambda n, d: 2 * n * n / (12 * n * d * d), "One d is missing"),
        (lambda n, d: 2 * n * d / (12 * n * d * d), "misconception 7"),
        (lambda n, d: 80 / (6 * 192), "expected 1"),
        (lambda n, d: 2 * n * n * d, "12 d * d"),
    ],
)
def test_the_ratio_names_the_mistake(ratio, part):
    assert says(checks.share(ratio), part)


# --- 04.7 a mask that looks ahead -------------------------------------------------------------------------------------


def by_blocks(nf, nh, nw):
    return torch.kron(torch.ones(nf, nf).tril(), torch.ones(nh * nw, nh * nw)).bool()


def by_loops(nf, nh, nw):
    p = nh * nw
    return [[key // p <= query // p for key in range(nf * p)] for query in range(nf * p)]


def by_number(nf, nh, nw, number):
    """The mask that hides what has a larger number."""
    numbers = number(torch.arange(nf * nh * nw))
    return numbers[None] <= numbers[:, None]


@pytest.mark.parametrize(
    "mask", [checks.frame_mask, by_blocks, by_loops, lambda *grid: checks.frame_mask(*grid).numpy().astype(int)]
)
def test_a_causal_mask_in_any_right_form(mask):
    assert checks.mended_mask(mask)


@pytest.mark.parametrize(
    ("mask", "told"),
    [
        (lambda f, h, w: (torch.arange(f * h * w) % f)[None] <= (torch.arange(f * h * w) % f)[:, None], "with the bug"),
        (lambda *grid: checks.frame_mask(*grid).T, "Turned round"),
        (lambda f, h, w: torch.ones(f * h * w, f * h * w).tril(), "Token by token"),
        (lambda f, h, w: torch.kron(torch.eye(f), torch.ones(h * w, h * w)), "the frame alone"),
        (lambda f, h, w: torch.kron(torch.ones(f, f).tril(-1), torch.ones(h * w, h * w)), "its own frame too"),
        (lambda f, h, w: by_number(f, h, w, lambda i: i // f), "not nf"),
        (lambda f, h, w: by_number(f, h, w, lambda i: i // w), "rows of a frame"),
        (lambda f, h, w: by_number(f, h, w, lambda i: i % (h * w)), "places within a frame"),
        (lambda *grid: ~checks.frame_mask(*grid), "True where it is forbidden"),
        (lambda f, h, w: torch.kron(torch.ones(f, f).tril(), torch.eye(h * w)), "own column of time"),
        (lambda f, h, w: by_number(f, h, w, lambda i: i // 16), "only"),
        (lambda f, h, w: torch.zeros(f * h * w, f * h * w), "only"),
        (lambda f, h, w: torch.ones(f * h * w, f * h * w), "only"),
        (lambda f, h, w: torch.ones(f, f).tril(), "got shape"),
    ],
)
def test_a_causal_mask_names_the_mistake(mask, told):
    assert says(checks.mended_mask(mask), told)
