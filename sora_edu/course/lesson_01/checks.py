"""The checks of lesson 01, the toy world. Functions of learners are run on hidden rows, paths and clips."""

import re
from collections.abc import Callable

import torch
from torch import Tensor

from sora_edu.config import WorldConfig
from sora_edu.course.grading import (
    Result,
    Wrong,
    all_right,
    as_number,
    call_answer,
    check_function,
    check_number,
    exercise,
    hint as hint,
    not_a_function,
    once_answered,
    right,
    wrong,
)
from sora_edu.world.captions import parse_caption
from sora_edu.world.paths import TICKS, tick_times
from sora_edu.world.render import render
from sora_edu.world.scenes import combinations, make_state
from sora_edu.world.vocabulary import COLOURS, MOTIONS, SHAPES

# --- exercise 1: coverage ---------------------------------------------------------------------------------------------


def covered(left: float, right: float, width: int) -> Tensor:
    """Share of each of ``width`` pixels that an interval covers; pixel i reaches from i to i + 1."""
    i = torch.arange(width, dtype=torch.float64)
    return (torch.clamp(i + 1, max=right) - torch.clamp(i, min=left)).clamp(0, 1)


@exercise("01.1")
def row_coverage(function: object) -> Result:
    """A function ``(left, right, width)`` that gives the share of each pixel of a row that an interval covers."""

    def hard(left, right, width):
        middle = torch.arange(width) + 0.5
        return ((middle >= left) & (middle <= right)).double()

    def touched(left, right, width):
        return (covered(left, right, width) > 0).double()

    def shifted(left, right, width):
        return covered(left + 0.5, right + 0.5, width)

    def unclamped(left, right, width):
        distance = (torch.arange(width, dtype=torch.float64) + 0.5 - (left + right) / 2).abs() - (right - left) / 2
        return 0.5 - distance

    def no_half(left, right, width):
        return (unclamped(left, right, width) - 0.5).clamp(0, 1)

    return check_function(
        function,
        covered,
        [(2.7, 5.4, 9), (0.4, 3.1, 6), (3.7, 10.2, 12)],
        why="A pixel at the edge takes the share of it that the object covers, so no part of a move is lost.",
        recipe="Pixel i reaches from i to i + 1. How much of that is between left and right? Never below 0 or above 1.",
        wrongs=[
            Wrong(hard, "That only asks if a pixel's middle is inside: the hard edge, rounded to whole pixels, jumps."),
            Wrong(
                touched, "That fills every pixel that is touched: a pixel covered by a tenth counts like a full one."
            ),
            Wrong(shifted, "Half a pixel off: pixel i has its middle at i + 0.5, not at i."),
            Wrong(unclamped, "Right at the edges; now keep it between 0 and 1: no pixel is covered twice."),
            Wrong(no_half, "On the edge itself, at distance 0, half of a pixel is covered, not none of it: add 0.5."),
            Wrong(lambda *case: 1 - covered(*case), "That is the share of the ground; the object's is 1 minus it."),
        ],
    )


# --- exercise 2: falls or moves down ----------------------------------------------------------------------------------

WOBBLE = 0.05  # units of noise, at most, on each hidden height


def height_paths() -> list[tuple[Tensor, str]]:
    """Heights (y, down, one a tick) of things that fall and that move down, over the same distances, with noise."""
    ticks = torch.arange(17, dtype=torch.float64)
    generator = torch.Generator().manual_seed(11)
    paths = []
    for index, (start, drop, name) in enumerate([
        (4, 12, "falls"), (7, 12, "moves down"), (6, 21, "moves down"), (3, 9, "falls"),
        (9, 9, "moves down"), (5, 21, "falls"), (10, 16, "falls"), (2, 16, "moves down"),
    ]):  # fmt: skip
        share = ticks / TICKS
        clean = start + drop * (share**2 if name == "falls" else share)
        wobble = (torch.rand(17, generator=generator, dtype=torch.float64) * 2 - 1) * WOBBLE
        if index % 3 == 0:  # the first second difference alone says the opposite of the truth
            wobble[:3] = torch.tensor([0.04, -0.05, 0.05] if name == "moves down" else [-0.04, 0.05, -0.05])
        if name == "moves down" and index % 2 == 1:  # the mean of the second differences is above 0
            wobble[:2], wobble[-2:] = torch.tensor([0.05, -0.01]), torch.tensor([-0.03, 0.05])
        paths.append((clean + wobble, name))
    return paths


def name_of_motion(answer: object) -> str | None:
    """ "falls" or "moves down" from what a learner's function says; None for anything else."""
    if not isinstance(answer, str):
        return None
    names = {"falls": "falls", "fall": "falls", "moves down": "moves down", "down": "moves down"}
    return names.get(" ".join(answer.lower().split()))


@exercise("01.2")
def falls_or_moves_down(function: object) -> Result:
    """A function that names the motion of heights ``y`` (a tensor, down, one a tick): "falls" or "moves down"."""
    if (refusal := not_a_function(function, "a function of the heights y")) is not None:
        return refusal
    answers = []
    paths = height_paths()
    for y, _ in paths:
        value = call_answer(function, [y], "on 17 heights it")
        if isinstance(value, Result):
            return value
        if name_of_motion(value) is None:
            return wrong(f'it returned {value!r}; return "falls" or "moves down"')
        answers.append(name_of_motion(value) == "falls")
    truth = [name == "falls" for _, name in paths]
    if answers == truth:
        return right("Speed tells: what falls gains the same speed in each tick, what moves down gains none.")
    return diagnose_heights(answers, truth, [y for y, _ in paths])


def diagnose_heights(answers: list[bool], truth: list[bool], heights: list[Tensor]) -> Result:
    """What a wrong set of verdicts ("falls" is True) shows about the rule behind it."""
    distances = torch.tensor([round(float(y[-1] - y[0])) for y in heights])
    said = torch.tensor(answers)
    bends = [y.diff().diff() for y in heights]
    if all(answers):
        return wrong("It calls everything that goes down a fall. Look at the speed: does it grow?", 24)
    if not any(answers):
        return wrong("It calls nothing a fall. A fall's steps grow by about g = 2 * distance / 256 each tick.")
    if answers == [not one for one in truth]:
        return wrong('The two names are the wrong way round: the one whose steps grow "falls".')
    if answers == [bool(bend.mean() > 0) for bend in bends]:
        return wrong(
            "Noise alone makes the mean of the second differences a little more than 0: ask for more, say 0.03."
        )
    if answers == [bool(bend[0] > 0) for bend in bends] or answers == [bool(bend[0] > 0.03) for bend in bends]:
        return wrong(
            "One second difference drowns in noise of 0.05. Take their mean, or compare late with early steps."
        )
    if answers == [bool((bend > 0).all()) for bend in bends]:
        return wrong("With noise, hardly any fall has all its second differences above 0. Take their mean.")
    if said.any() and distances[said].min() >= distances[~said].max():
        return wrong("Your rule looks at the distance or the mean speed. Both motions can cover the same distance.", 24)
    count = sum(a == b for a, b in zip(answers, truth, strict=True))
    return wrong(f"{count} of {len(truth)} hidden paths are named rightly. Compare the last steps with the first ones.")


# --- exercise 3: a new motion and its caption -------------------------------------------------------------------------


def thrown(ticks: Tensor, speed: float, up: float, g: float) -> Tensor:
    """Displacement ``f 2`` of what is thrown: to the right at ``speed``, upwards at ``up``, pulled down by ``g``."""
    return torch.stack((speed * ticks, g * ticks**2 / 2 - up * ticks), -1)


@exercise("01.3")
def new_motion(path: object, words: object) -> Result:
    """A function ``(ticks, speed, up, g)`` for the path of a throw, and one ``(shape, colour)`` for its caption."""
    first = throw_path(path)
    return all_right(
        first,
        throw_caption(words).named("thrown_caption") if first else first,
        why="A path, a sentence, and a new word for the world.",
    )


def throw_path(path: object) -> Result:
    """The displacement of a throw, ``f 2``, compared on hidden speeds and times."""

    def variant(x: Callable, y: Callable) -> Callable:
        return lambda t, speed, up, g: torch.stack((x(t, speed), y(t, up, g)), -1)

    def sideways(t, speed):
        return speed * t

    ticks = [tick_times(frames) for frames in (17, 9)]
    return check_function(
        path,
        thrown,
        [(ticks[0], 0.9, 1.1, 0.13), (ticks[1], -0.6, 0.7, 0.17)],
        name="thrown",
        recipe="x = speed * t and y = g * t**2 / 2 - up * t, stacked to f 2; y points down, so upwards is negative.",
        tolerance=1e-3,
        wrongs=[
            Wrong(
                lambda *case: -thrown(*case) * torch.tensor([-1.0, 1.0]), "upside down: y points down on the canvas."
            ),
            Wrong(variant(sideways, lambda t, up, g: g * t**2 / 2 + up * t), "you throw it down: upwards is minus y."),
            Wrong(variant(sideways, lambda t, up, g: g * t**2 - up * t), "the half is missing: the path is g t^2 / 2."),
            Wrong(variant(sideways, lambda t, up, g: (g - up) * t), "that has no gravity, only a steady speed.", 24),
            Wrong(
                variant(sideways, lambda t, up, g: g * t - up), "that is the speed, not the place: add it up over t."
            ),
            Wrong(variant(sideways, lambda t, up, g: g * t**2 / 2), "it is dropped, not thrown: where is up?"),
            Wrong(
                variant(lambda t, s: s * t**2 / 2, lambda t, up, g: g * t**2 / 2 - up * t),
                "nothing pulls to the side: x grows evenly, x = speed * t.",
            ),
            Wrong(lambda *case: thrown(*case).flip(-1), "x comes first, then y."),
            Wrong(lambda *case: thrown(*case).T, "the axes are the other way round: f 2, a row for each frame."),
        ],
    )


def throw_caption(words: object) -> Result:
    """A caption that names colour, shape and motion, for hidden shapes and colours."""
    if (refusal := not_a_function(words, "a function of (shape, colour) for the caption")) is not None:
        return refusal
    for shape, colour in (("circle", "red"), ("star", "orange"), ("ring", "purple")):
        text = call_answer(words, [shape, colour], f"the caption of ({shape!r}, {colour!r})")
        if isinstance(text, Result):
            return text
        if not isinstance(text, str):
            return wrong(f"the caption is a {type(text).__name__}, expected a sentence")
        text = " ".join(text.lower().strip(" .!").split())
        read = parse_caption(text).objects
        article = "an" if colour[0] in "aeiou" else "a"
        asked = f"{text!r}, asked for ({shape!r}, {colour!r}),"
        if not read or read[0].shape != shape or read[0].colour != colour:
            return wrong(f"{asked} does not read back as that shape and that colour: put in what the function is given")
        if not re.search(r"\bthrown\b", text):
            return wrong(f"{asked} does not say what happens: end it with 'is thrown'")
        if text != f"{article} {colour} {shape} is thrown":
            return wrong(f"{asked} should read '{article} {colour} {shape} is thrown': article, colour, shape, motion")
    return right()


# --- exercise 4: combinations -----------------------------------------------------------------------------------------


@exercise("01.4")
@once_answered
def counted(everything: object, held_out: object) -> Result:
    """How many combinations of shape, colour and motion there are, and how many of them are held out."""
    first = check_number(
        "everything",
        everything,
        len(combinations("all")),
        recipe=f"Choose one of {len(SHAPES)} shapes, {len(COLOURS)} colours and {len(MOTIONS)} motions.",
        wrongs=[
            Wrong(len(SHAPES) + len(COLOURS) + len(MOTIONS), "choices multiply; you added them."),
            Wrong(40, "that is shape x colour; each of these can also move in ten ways."),
            Wrong(1200, "the three sizes are not counted here: shape, colour and motion only."),
            Wrong(323, "those are the ones trained on; count the held-out ones too."),
        ],
    )
    second = check_number(
        "held_out",
        held_out,
        len(combinations("heldout")),
        recipe="A pair of the first list rules out 10 motions, one of the second 5 shapes; count none twice.",
        wrongs=[
            Wrong(80, "5 * 10 + 6 * 5 counts three twice: yellow circles that move up are in both lists."),
            Wrong(11, "those are the pairs; each rules out all combinations that hold it."),
            Wrong(50, "that is the first list only; pairs (colour, motion) are held out as well."),
            Wrong(30, "that is the second list only; pairs (shape, colour) are held out as well."),
            Wrong(83, "three are in both lists; take them away once, do not add them."),
            Wrong(74, "take the three that are in both lists away once, not twice."),
            Wrong(323, "those are the ones trained on; the rest of the 400 are held out."),
            Wrong(3, "three are ruled out by both lists; one list is enough to be held out."),
        ],
    )
    return all_right(first, second, why="5 * 8 * 10 = 400, and 50 + 30 - 3 = 77 of them are never trained on.")


# --- exercise 5: gravity from pixels ----------------------------------------------------------------------------------

TOLERANCE = 0.04  # of g


def falling_clips() -> list[tuple[Tensor, float, str]]:
    """Hidden clips of falls, each with its true g in units a tick squared; frames and sides differ."""
    clips = []
    for seed, colour, ground, frames, height, width in [
        (3, "orange", "black", 17, 32, 32), (8, "white", "navy", 17, 32, 32), (5, "green", "grey", 9, 32, 32),
        (4, "cyan", "black", 33, 32, 32), (6, "purple", "grey", 17, 64, 64), (7, "red", "navy", 17, 64, 48),
        (9, "yellow", "black", 17, 48, 64),
    ]:  # fmt: skip
        config = WorldConfig(frames=frames, height=height, width=width)
        state = make_state(config, colour=colour, size="small", motion="falls", background=ground, seed=seed)
        y = state.centre[0, 0, :, 1]
        clips.append(
            (render(state, config), 2 * float(y[-1] - y[0]) / TICKS**2, f"{frames} frames of {height} x {width}")
        )
    return clips


@exercise("01.5")
def recover_g(function: object) -> Result:
    """A function that reads g (units a tick squared) from the pixels of a clip ``1 3 f h w``."""
    if (refusal := not_a_function(function, "a function of a clip")) is not None:
        return refusal
    for clip, g, what in falling_clips():
        value = call_answer(function, [clip], f"on a clip of {what} it")
        if isinstance(value, Result):
            return value
        number = as_number(value)
        if number is None:
            return wrong(f"on a clip of {what} it returned a {type(value).__name__}, expected one number")
        if not abs(number - g) < TOLERANCE * g:
            return diagnose_g(number / g, tuple(clip.shape[2:]), what)
    return right(f"g is right to {TOLERANCE:.0%} on seven hidden clips, whatever their colours, frames and sides.")


def diagnose_g(ratio: float, shape: tuple[int, int, int], what: str) -> Result:
    """What a wrong g shows, from its ratio to the true one."""
    frames, height, width = shape
    side = min(height, width)
    frame = (TICKS / (frames - 1)) ** 2
    known = [
        (frame if frames != 17 else 0, "You counted frames. A clip lasts 16 ticks, however many frames sample them."),
        (side / 32 if side != 32 else 0, "You counted pixels. A unit is min(h, w) / 32 of them: divide by that."),
        *(
            (side / long, "A unit is min(h, w) / 32 pixels: the SHORTER side counts.")
            for long in {height, width} - {side}
        ),
        (-1, "The sign is turned: y points down, and so does g."),
        (0.5, "That is the coefficient of t^2, which is g / 2: double it, or fit t^2 / 2."),
        (2, "Twice too much: fit t^2 / 2 or double the coefficient of t^2, not both."),
        (256, "You let t run from 0 to 1: a clip lasts 16 ticks, so divide by 16^2."),
        (128, "You let t run from 0 to 1 and fitted t^2: divide by 16^2, and double."),
        (8, "That is the mean speed, distance over time; g is how much the speed grows each tick.", 24),
        (16, "That is the last speed; g is how much the speed grows each tick.", 24),
    ]
    for factor, message, *number in known:
        if factor and abs(ratio / factor - 1) < 1.5 * TOLERANCE:
            return wrong(f"On a clip of {what}: {message}", *number)
    return wrong(
        f"On a clip of {what} your g is {ratio:.3g} times the true one. "
        "Take the centroid of the coverage (not of all pixels, and not a bounding box), and fit all frames."
    )


# --- exercise 6: how many clips ---------------------------------------------------------------------------------------


@exercise("01.6")
@once_answered
def interval(function: object, needed: object) -> Result:
    """A function ``(share, n)``: half the width of a 95 % interval; and the clips needed for one of 0.01 at 0.9."""

    def exact(share, n):
        return 1.96 * (share * (1 - share) / n) ** 0.5

    first = check_function(
        function,
        exact,
        [(0.9, 512), (0.75, 64), (0.5, 2000)],
        name="half_width",
        recipe="The standard error is the square root of share * (1 - share) / n; take 1.96 of them.",
        tolerance=2e-5,
        wrongs=[
            Wrong(lambda p, n: exact(p, n) / 1.96, "one standard error covers 68 %; 95 % takes 1.96 of them."),
            Wrong(lambda p, n: 2 * exact(p, n), "that is the whole width, from end to end."),
            Wrong(lambda p, n: 1.96 * p * (1 - p) / n, "take the square root: four times the clips halve it."),
            Wrong(lambda p, n: 1.96 * (p * (1 - p)) ** 0.5 / n, "n belongs under the root as well."),
            Wrong(lambda p, n: 1.96 * (p * (1 - p)) ** 0.5, "it has to shrink with n; divide under the root."),
            Wrong(lambda p, n: 1.96 * (p / n) ** 0.5, "share * (1 - share): a share of 1 has no spread."),
        ],
    )
    if not first:
        return first
    second = check_number(
        "needed",
        needed,
        3458,
        recipe="Solve 1.96 * sqrt(0.9 * 0.1 / n) = 0.01 for n, and round up.",
        tolerance=0.5,
        wrongs=[
            Wrong(3457, "3457 clips leave it a hair above 0.01; round up."),
            Wrong(1330.5, "half the width goes with the root of n: half as wide takes four times the clips."),
            Wrong(34, "square both sides: n = 1.96^2 * 0.9 * 0.1 / 0.01^2."),
            Wrong(900, "that is for one standard error; a 95 % interval takes 1.96 of them."),
            Wrong(9604, "that is for a share of 0.5; here it is 0.9."),
        ],
    )
    return all_right(first, second, why="The width goes with 1 / sqrt(n): twice as sure costs four times the clips.")
