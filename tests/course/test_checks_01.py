"""The checks of lesson 01 accept every right form, and tell the planted mistakes apart."""

import numpy as np
import pytest
import torch
from verdicts import says

from sora_edu.course.lesson_01 import checks
from sora_edu.world.paths import TICKS
from sora_edu.world.tracker.motion import least_squares


@pytest.mark.parametrize(
    "result",
    [
        lambda: checks.row_coverage(lambda left, right, width: ...),
        lambda: checks.falls_or_moves_down(lambda y: ...),
        lambda: checks.new_motion(lambda ticks, speed, up, g: ..., lambda shape, colour: ...),
        lambda: checks.new_motion(checks.thrown, lambda shape, colour: ...),
        lambda: checks.counted(..., ...),
        lambda: checks.recover_g(lambda clip: ...),
        lambda: checks.interval(lambda share, n: ..., ...),
    ],
)
def test_an_unfilled_exercise_is_not_answered_yet(result):
    assert result().verdict == "not answered yet"


# --- coverage ---------------------------------------------------------------------------------------------------------


def overlap(left, right, width):
    """Plain Python."""
    return [max(0.0, min(i + 1, right) - max(i, left)) for i in range(width)]


def by_distance(left, right, width):
    """The signed distance to the interval's edges, as the renderer does it."""
    middle = torch.arange(width) + 0.5
    return (0.5 + (right - left) / 2 - (middle - (left + right) / 2).abs()).clamp(0, 1)


def by_counting(left, right, width):
    """Many samples a pixel."""
    return [np.mean([left <= i + (k + 0.5) / 1e5 <= right for k in range(10**5)]) for i in range(width)]


@pytest.mark.parametrize("function", [overlap, by_distance, lambda *case: np.array(overlap(*case))])
def test_coverage_in_any_right_form(function):
    assert checks.row_coverage(function)


@pytest.mark.parametrize(
    ("function", "part"),
    [
        (lambda left, right, w: [float(left <= i + 0.5 <= right) for i in range(w)], "hard edge"),
        (lambda left, right, w: [float(i + 1 > left and i < right) for i in range(w)], "touched"),
        (lambda left, right, w: overlap(round(left), round(right), w), "hard edge"),
        (lambda left, right, w: overlap(left + 0.5, right + 0.5, w), "Half a pixel off"),
        (lambda left, right, w: [1 - x for x in overlap(left, right, w)], "ground"),
        (
            lambda left, right, w: [0.5 + (right - left) / 2 - abs(i + 0.5 - (left + right) / 2) for i in range(w)],
            "between 0 and 1",
        ),
        (lambda left, right, w: [0, 0, 0.3, 1, 1, 0.4, 0, 0, 0], "shape"),  # the first row, copied
        (lambda left, right: 0, "raised TypeError"),
    ],
)
def test_coverage_names_the_mistake(function, part):
    result = checks.row_coverage(function)
    assert not result and any(p in result.text for p in part.split("|")), result


# --- falls or moves down ----------------------------------------------------------------------------------------------


def halves(y):
    """The second half of a fall is three times as long as the first."""
    return "falls" if y[16] - y[8] > 2 * (y[8] - y[0]) else "moves down"


def parabola(y):
    """The square coefficient of a fitted parabola is g / 2."""
    return "Falls" if np.polyfit(range(17), y.numpy(), 2)[0] > 0.015 else "down"


@pytest.mark.parametrize(
    "function",
    [halves, parabola, lambda y: "falls" if y.diff().diff().mean() > 0.03 else "moves down"],
)
def test_falls_in_any_right_form(function):
    assert checks.falls_or_moves_down(function)


@pytest.mark.parametrize(
    ("function", "part"),
    [
        (lambda y: "falls" if y[-1] > y[0] else "moves down", "misconception 24"),
        (lambda y: "moves down", "nothing a fall"),
        (lambda y: "moves down" if halves(y) == "falls" else "falls", "wrong way round"),
        (lambda y: "falls" if (y[-1] - y[0]) / 16 > 0.8 else "moves down", "same distance"),
        (lambda y: "falls" if y.diff().diff()[0] > 0 else "moves down", "One second difference"),
        (lambda y: "falls" if (y.diff().diff() > 0).all() else "moves down", "nothing a fall|hardly any"),
        (lambda y: "bounces", "return"),
        (lambda y: True, "return"),
        (lambda y: y[99], "raised IndexError"),
    ],
)
def test_falls_names_the_mistake(function, part):
    result = checks.falls_or_moves_down(function)
    assert not result and any(p in result.text for p in part.split("|")), result


def test_both_motions_cover_the_same_distances():
    paths = checks.height_paths()
    drops = {name: [float(y[-1] - y[0]) for y, n in paths if n == name] for name in ("falls", "moves down")}
    assert abs(np.mean(drops["falls"]) - np.mean(drops["moves down"])) < 0.2


# --- a new motion -----------------------------------------------------------------------------------------------------


def caption(shape, colour):
    """The right sentence."""
    return f"{'an' if colour[0] in 'aeiou' else 'a'} {colour} {shape} is thrown"


def loop_path(ticks, speed, up, g):
    """A list of places."""
    return [[speed * t, -up * t + 0.5 * g * t * t] for t in ticks.tolist()]


@pytest.mark.parametrize("path", [checks.thrown, loop_path])
@pytest.mark.parametrize("words", [caption, lambda s, c: caption(s, c).capitalize() + "."])
def test_a_throw_in_any_right_form(path, words):
    assert checks.new_motion(path, words)


@pytest.mark.parametrize(
    ("x", "y", "part"),
    [
        (lambda t, v: v * t, lambda t, up, g: up * t - g * t**2 / 2, "thrown: upside down"),
        (lambda t, v: v * t, lambda t, up, g: up * t + g * t**2 / 2, "throw it down"),
        (lambda t, v: v * t, lambda t, up, g: g * t**2 - up * t, "half is missing"),
        (lambda t, v: v * t, lambda t, up, g: (g - up) * t, "misconception 24"),
        (lambda t, v: v * t, lambda t, up, g: g * t - up, "speed, not the place"),
        (lambda t, v: v * t, lambda t, up, g: g * t**2 / 2, "where is up"),
        (lambda t, v: v * t**2 / 2, lambda t, up, g: g * t**2 / 2 - up * t, "nothing pulls"),
    ],
)
def test_a_throw_names_the_mistake(x, y, part):
    assert says(checks.new_motion(lambda t, v, up, g: torch.stack((x(t, v), y(t, up, g)), -1), caption), part)


def test_a_throw_names_swapped_axes():
    assert says(checks.new_motion(lambda *case: checks.thrown(*case).flip(-1), caption), "x comes first")
    assert says(checks.new_motion(lambda *case: checks.thrown(*case).T, caption), "f 2")


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (lambda s, c: "a red circle is thrown", "put in what the function is given"),
        (lambda s, c: f"a {s} is thrown", "does not read back"),
        (lambda s, c: f"a {c} {s} is thrown", "should read 'an orange star"),
        (lambda s, c: caption(s, c).replace("is thrown", "falls"), "does not say what happens"),
        (lambda s, c: caption(c, s), "should read"),
        (lambda s, c: 7, "expected a sentence"),
    ],
)
def test_the_caption_of_a_throw_names_the_mistake(words, part):
    assert says(checks.new_motion(checks.thrown, words), part)


# --- combinations -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [(400, 77), (5 * 8 * 10, torch.tensor(77)), ([400], np.int64(77))])
def test_combinations_in_any_form(answer):
    assert checks.counted(*answer)


@pytest.mark.parametrize(
    ("answer", "part"),
    [
        ((23, 77), "multiply"),
        ((40, 77), "shape x colour"),
        ((1200, 77), "sizes"),
        ((400, 80), "counts three twice"),
        ((400, 11), "those are the pairs"),
        ((400, 50), "first list only"),
        ((400, 323), "trained on"),
        ((400, 99), "count none twice"),
    ],
)
def test_combinations_name_the_mistake(answer, part):
    assert says(checks.counted(*answer), part)


# --- gravity ----------------------------------------------------------------------------------------------------------


def heights(clip, *, pixels=False, hard=False):
    """The centroid's y in units, from the coverage."""
    difference = clip[0] - clip[0, :, :1, :1, :1]
    alpha = difference.norm(dim=0)  # f h w
    alpha = (alpha > alpha.max() / 2).float() if hard else alpha
    y = (alpha.sum(2) @ (torch.arange(alpha.shape[1]) + 0.5)) / alpha.sum((1, 2))
    return y if pixels else y / (min(clip.shape[3:]) / 32)


def fitted(y, end=TICKS):
    """g by least squares."""
    t = torch.linspace(0, end, len(y))
    design = torch.stack((torch.ones_like(t), t, t**2 / 2), -1)
    return least_squares(design[None].double(), y[None].double(), torch.ones(1, len(y)).double())[0][0, 2]


def by_ends(clip):
    """The first and last place suffice for something dropped from rest."""
    y = heights(clip)
    return 2 * (y[-1] - y[0]) / TICKS**2


@pytest.mark.parametrize("function", [lambda clip: fitted(heights(clip)), by_ends, lambda clip: [float(by_ends(clip))]])
def test_gravity_in_any_right_form(function):
    assert checks.recover_g(function)


@pytest.mark.parametrize(
    ("function", "part"),
    [
        (lambda clip: fitted(heights(clip)) / 2, "g / 2"),
        (lambda clip: fitted(heights(clip)) * 2, "Twice too much"),
        (lambda clip: -fitted(heights(clip)), "sign"),
        (lambda clip: fitted(heights(clip), end=1.0), "from 0 to 1"),
        (lambda clip: fitted(heights(clip), end=clip.shape[2] - 1.0), "counted frames"),
        (lambda clip: fitted(heights(clip, pixels=True)), "counted pixels"),
        (lambda clip: by_ends(clip) * TICKS / 2, "misconception 24"),
        (lambda clip: 0.09, "times the true one"),
        (lambda clip: clip.mean((0, 1, 3, 4)).diff().mean(), "centroid"),
        (lambda clip: "fast", "expected one number"),
        (lambda clip: clip.nothing, "raised AttributeError"),
    ],
)
def test_gravity_names_the_mistake(function, part):
    assert says(checks.recover_g(function), part)


def test_one_number_cannot_be_right_for_all_hidden_clips():
    values = [g for _, g, _ in checks.falling_clips()]
    assert max(values) / min(values) > 1.2


# --- how many clips ---------------------------------------------------------------------------------------------------


def half_width(share, n):
    """The right formula."""
    return 1.96 * (share * (1 - share) / n) ** 0.5


@pytest.mark.parametrize("function", [half_width, lambda p, n: torch.tensor(p * (1 - p) / n).sqrt() * 1.96])
@pytest.mark.parametrize("needed", [3458, torch.tensor(3458.0)])
def test_interval_in_any_form(function, needed):
    assert checks.interval(function, needed)


@pytest.mark.parametrize(
    ("function", "needed", "part"),
    [
        (lambda p, n: half_width(p, n) / 1.96, 3458, "68 %"),
        (lambda p, n: 2 * half_width(p, n), 3458, "whole width"),
        (lambda p, n: 1.96 * p * (1 - p) / n, 3458, "square root"),
        (lambda p, n: 1.96 * (p * (1 - p)) ** 0.5 / n, 3458, "under the root"),
        (half_width, 3457, "round up"),
        (half_width, 1331, "four times the clips"),
        (half_width, 900, "one standard error"),
        (half_width, 512, "round up"),
    ],
)
def test_interval_names_the_mistake(function, needed, part):
    assert says(checks.interval(function, needed), part)


@pytest.mark.parametrize(
    "rule",
    [lambda y: y.diff().diff().mean() > 0, lambda y: y.diff()[-1] > y.diff()[0], lambda y: y[2] - 2 * y[1] + y[0] > 0],
)
def test_a_rule_that_noise_alone_passes_is_not_enough(rule):
    assert not checks.falls_or_moves_down(lambda y: "falls" if rule(y) else "moves down")
