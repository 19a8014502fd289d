"""The checks of lesson 07, denoising and flow. A learner's functions are run on hidden fields, sizes and times."""

import re
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from sora_edu.course.grading import (
    Result,
    Wrong,
    all_right,
    check_array,
    check_function,
    check_number,
    exercise,
    hint as hint,
    once_answered,
    right,
    wrong,
)
from sora_edu.diffusion.flow import over_batch, velocity_from_eps
from sora_edu.errors import InputError

TURNED = "In this course t = 0 is data and t = 1 is noise."


def seeded(number: int) -> torch.Generator:
    """A generator of its own for every draw."""
    return torch.Generator().manual_seed(number)


# --- 07.1 conversions -------------------------------------------------------------------------------------------------


def x_0_from_eps_on_the_line(x_t: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    """Solve ``x_t = (1 - t) x_0 + t eps`` for x_0."""
    t = over_batch(t, x_t)
    return (x_t - t * eps) / (1 - t)


def answers(x_0: Callable, velocity: Callable) -> Callable:
    """A twin of the exercise: both answers, the second made from the first."""

    def twin(x_t: Tensor, eps: Tensor, t: Tensor) -> list[Tensor]:
        first = x_0(x_t, eps, over_batch(t, x_t))
        return [first, velocity(x_t, eps, first)]

    return twin


@exercise("07.1")
def convert(function: object) -> Result:
    """A function ``(x_t, eps, t)`` that returns x_0 and the velocity which a noise prediction implies."""
    cases = []
    for number, shape in enumerate([(4, 2), (3, 2, 5, 4, 6)]):
        x_t, eps = torch.randn(2, *shape, generator=seeded(number), dtype=torch.float64)
        cases.append((x_t, eps, torch.linspace(0.1, 0.85, shape[0], dtype=torch.float64)))

    def line(x_t: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        return (x_t - t * eps) / (1 - t)

    def forward(x_t: Tensor, eps: Tensor, x_0: Tensor) -> Tensor:
        return eps - x_0

    return check_function(
        function,
        lambda x_t, eps, t: [x_0_from_eps_on_the_line(x_t, eps, t), velocity_from_eps(x_t, eps, t)],
        cases,
        why="Below 1e-5 on points and on videos: whoever knows x_t, t and one of the three knows the other two.",
        recipe="Solve x_t = (1 - t) x_0 + t eps for x_0; velocity = eps - x_0. over_batch(t, x_t) lets t multiply.",
        wrongs=[
            Wrong(
                answers(line, lambda x_t, eps, x_0: x_0 - eps),
                f"The velocity has the wrong sign: it points from data to noise, eps - x_0. {TURNED}",
                14
            ),
            Wrong(
                answers(lambda x_t, eps, t: (x_t - (1 - t) * eps) / t, forward),
                f"You let t be the share of data. {TURNED} So eps is weighed by t.",
                14
            ),
            Wrong(
                answers(lambda x_t, eps, t: (x_t - (1 - t) * eps) / t, lambda x_t, eps, x_0: x_0 - eps),
                f"Clock and sign are both of the other convention. {TURNED}",
                14
            ),
            Wrong(
                answers(line, lambda x_t, eps, x_0: eps),
                "x_0 is right, but a noise prediction is not a velocity yet; the difference to x_0 is.",
                13
            ),
            Wrong(
                answers(lambda x_t, eps, t: x_t - t * eps, forward),
                "x_0 is still multiplied by 1 - t: divide by it."
            ),
            Wrong(
                answers(lambda x_t, eps, t: x_t - eps, forward),
                "Noise is not simply added: x_t holds t of it, and 1 - t of the data."
            ),
            Wrong(
                answers(lambda x_t, eps, t: (x_t - t.sqrt() * eps) / (1 - t).sqrt(), forward),
                "These square roots are DDPM's, of alpha_bar; the line's weights are 1 - t and t themselves.",
                13
            ),
            Wrong(lambda x_t, eps, t: [velocity_from_eps(x_t, eps, t), x_0_from_eps_on_the_line(x_t, eps, t)],
                  "Both are right, in the other order: x_0 first, then the velocity."),
        ],
    )  # fmt: skip


# --- 07.2 one answer for many pairs ----------------------------------------------------------------------------------


@exercise("07.2")
@once_answered
def one_answer(guess: object, loss_left: object) -> Result:
    """The best single answer to 1, 1, 1, 5 by mean squared error, and the error that stays."""
    first = check_number(
        "guess",
        guess,
        2,
        recipe="Try a few numbers; sum the four squared errors of each.",
        wrongs=[
            Wrong(1, "1 is the commonest answer, but it misses the 5 by 4, and squares punish that: loss 4."),
            Wrong(3, "3 is in the middle between the two, but three pairs pull from one side: loss 4."),
            Wrong(5, "5 is right for one pair in four, and misses the other three by 4: loss 12."),
        ],
    )
    second = check_number(
        "loss_left",
        loss_left,
        3,
        recipe="The mean of the four squared errors of your guess.",
        wrongs=[
            Wrong(0, "zero would need four answers to one question; a net has one answer per x_t and t.", 15),
            Wrong(12, "that is the sum over the four pairs; the loss is their mean."),
            Wrong(3**0.5, "that is its square root; the loss is the mean of the squares."),
            Wrong(4, "either you divided by 3, or you took the loss of another guess."),
            Wrong(1.5, "that is the mean distance; the loss squares each before the mean."),
        ],
        tolerance=1e-3,
    )
    return all_right(
        first,
        second,
        why="The mean, 2, and what is left is the variance, (1 + 1 + 1 + 9) / 4 = 3. No training takes it away.",
    )


# --- 07.3 Euler ------------------------------------------------------------------------------------------------------


class Field:
    """A velocity that bends with place and time, and refuses a t that is not one time per sample."""

    def __init__(self, name: str, turn: float):
        self.name = name
        self.turn = turn

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        if not torch.is_tensor(t) or t.shape != x_t.shape[:1]:
            got = f"shape {tuple(t.shape)}" if torch.is_tensor(t) else type(t).__name__
            raise InputError(f"velocity_fn wants t of shape ({len(x_t)},), one per sample, and got {got}")
        t = over_batch(t, x_t)
        return (self.turn * x_t).sin() * (1 + t**2) + x_t * t + 0.3

    def __repr__(self) -> str:
        return self.name


def walk(step: Callable) -> Callable:
    """A sampler that calls ``step(fn, x, t, t_next)`` between neighbouring times."""

    def sampler(velocity_fn: Callable, noise: Tensor, times: Tensor) -> Tensor:
        x_t = noise
        for t, t_next in pairwise(times.tolist()):
            x_t = step(lambda x, t: velocity_fn(x, x.new_full(x.shape[:1], t)), x_t, t, t_next)
        return x_t

    return sampler


reference_euler = walk(lambda v, x, t, t_next: x - (t - t_next) * v(x, t))


def heun_step(v: Callable, x: Tensor, t: float, t_next: float) -> Tensor:
    """The mean of the velocities at both ends."""
    first = v(x, t)
    return x - (t - t_next) * (first + v(x - (t - t_next) * first, t_next)) / 2


def stale(velocity_fn: Callable, noise: Tensor, times: Tensor) -> Tensor:
    """Ask the net about the noise again and again."""
    moves = [
        (t - t_next) * velocity_fn(noise, noise.new_full(noise.shape[:1], t)) for t, t_next in pairwise(times.tolist())
    ]
    return noise - sum(moves)


def even(velocity_fn: Callable, noise: Tensor, times: Tensor) -> Tensor:
    """Take steps of one length, without a look at the times."""
    n = len(times) - 1
    return walk(lambda v, x, t, t_next: x - v(x, t) / n)(velocity_fn, noise, times)


@exercise("07.3")
def euler(function: object) -> Result:
    """A function ``(velocity_fn, noise, times)`` that walks from the first time to the last in Euler steps."""
    draw = {"generator": seeded(3), "dtype": torch.float64}
    cases = [
        (Field("a velocity", 2.0), torch.randn(5, 2, **draw), torch.tensor([1.0, 0.7, 0.65, 0.2, 0.0])),
        (Field("another velocity", 1.3), torch.randn(2, 3, 2, 4, 3, **draw), torch.tensor([1.0, 0.9, 0.4, 0.0])),
        (Field("a third velocity", 0.7), torch.randn(3, 2, **draw), torch.tensor([0.8, 0.5, 0.3])),
    ]
    return check_function(
        function,
        reference_euler,
        cases,
        why="Right on points and on videos, with uneven times, and from a time other than 1.",
        recipe="For each pair of neighbouring times ask velocity_fn(x_t, t); x_t = x_t - (t - t_next) * velocity.",
        wrongs=[
            Wrong(
                walk(lambda v, x, t, t_next: x + (t - t_next) * v(x, t)),
                f"You walk away from the data: the velocity points to the noise, so subtract it. {TURNED}",
                14,
            ),
            Wrong(
                lambda fn, noise, times: walk(lambda v, x, t, t_next: x + (t_next - t) * v(x, t))(
                    fn, noise, times.flip(0)
                ),
                f"You went through the times from last to first; they already run from noise to data. {TURNED}",
                14,
            ),
            Wrong(
                walk(lambda v, x, t, t_next: x - (t - t_next) * v(x, 1 - t)),
                f"You asked the velocity at 1 - t. {TURNED}",
                14,
            ),
            Wrong(
                walk(lambda v, x, t, t_next: x - (t - t_next) * v(x, t_next)),
                "You asked at t_next. The sample is still at t, so the net must be told t.",
            ),
            Wrong(even, "Your steps are all of one length, 1 / n; the times need not be even: t - t_next."),
            Wrong(
                lambda fn, noise, times: reference_euler(fn, noise, times[[0, -1]]),
                "That is one step over the whole way. The velocity turns on the way, so ask again after each step.",
                12,
            ),
            Wrong(
                walk(lambda v, x, t, t_next: x - t * v(x, t)),
                "x_t - t * velocity jumps all the way to the predicted data at every step; go only t - t_next.",
                12,
            ),
            Wrong(stale, "You ask the velocity of the noise at every step; ask that of x_t, where the sample is now."),
            Wrong(
                lambda fn, noise, times: reference_euler(fn, noise, times[:-1]),
                "The last step is missing: n + 1 times make n steps.",
            ),
            Wrong(
                lambda fn, noise, times: reference_euler(fn, noise, times[1:]),
                "The first step is missing: it goes from times[0] to times[1].",
            ),
            Wrong(walk(heun_step), "That is Heun's method, and a good one; Euler asks once a step."),
        ],
    )


# --- 07.7 DDIM's step, 07.8 Heun's ------------------------------------------------------------------------------------


def reference_ddim(x_s: Tensor, eps: Tensor, alpha_bar_s: Tensor, alpha_bar_prev: Tensor) -> Tensor:
    """x_0 behind x_s, noised again to the step before with the same eps (DDIM, eq. 12 with sigma 0)."""
    x_0 = (x_s - (1 - alpha_bar_s).sqrt() * eps) / alpha_bar_s.sqrt()
    return alpha_bar_prev.sqrt() * x_0 + (1 - alpha_bar_prev).sqrt() * eps


@exercise("07.7")
def ddim_step(function: object) -> Result:
    """A function ``(x_s, eps, alpha_bar_s, alpha_bar_prev)`` that takes one step of DDIM without fresh noise."""
    draw = {"generator": seeded(7), "dtype": torch.float64}
    cases = []
    for shape, now, before in (((4, 2), 0.3, 0.5), ((2, 3, 5, 4), 0.02, 0.7), ((3, 6), 0.6, 1.0)):
        x_s, eps = torch.randn(shape, **draw), torch.randn(shape, **draw)
        cases.append((x_s, eps, torch.tensor(now, dtype=torch.float64), torch.tensor(before, dtype=torch.float64)))

    def x_0_of(x: Tensor, eps: Tensor, a: Tensor) -> Tensor:
        return (x - (1 - a).sqrt() * eps) / a.sqrt()

    return check_function(
        function,
        reference_ddim,
        cases,
        why="x_0 from the closed form, then the closed form again, at the step before: any distance will do.",
        recipe="x_0 = (x_s - sqrt(1 - alpha_bar_s) eps) / sqrt(alpha_bar_s); then noise it again to alpha_bar_prev.",
        wrongs=[
            Wrong(lambda x, e, a, p: reference_ddim(x, e, p, a), "The two levels have changed places."),
            Wrong(lambda x, e, a, p: x_0_of(x, e, a), "That is x_0. Noise it again, to the step before.", 12),
            Wrong(
                lambda x, e, a, p: p.sqrt() * x_0_of(x, e, a) + (1 - a).sqrt() * e,
                "x_0 went to the step before, and the noise stayed at the old level: sqrt(1 - alpha_bar_prev).",
            ),
            Wrong(
                lambda x, e, a, p: p * x_0_of(x, e, a) + (1 - p) * e,
                "alpha_bar and 1 - alpha_bar are variances; the factors are their roots.",
            ),
            Wrong(
                lambda x, e, a, p: p.sqrt() * (x - (1 - a) * e) / a + (1 - p).sqrt() * e,
                "Solving for x_0 takes roots as well: alpha_bar and 1 - alpha_bar are variances.",
            ),
            Wrong(
                lambda x, e, a, p: p.sqrt() * (x - (1 - a).sqrt() * e) + (1 - p).sqrt() * e,
                "x_0 still has to be divided by sqrt(alpha_bar_s): noising had made it smaller.",
            ),
            Wrong(
                lambda x, e, a, p: p.sqrt() * (x + (1 - a).sqrt() * e) / a.sqrt() + (1 - p).sqrt() * e,
                "Take the noise out of x_s, do not add it: x_s = sqrt(alpha_bar_s) x_0 + sqrt(1 - alpha_bar_s) eps.",
            ),
            Wrong(lambda x, e, a, p: p.sqrt() * x_0_of(x, e, a), "The noise of the step before is missing."),
            Wrong(
                lambda x, e, a, p: (x - (1 - a / p) / (1 - a).sqrt() * e) / (a / p).sqrt(),
                "That is the mean of DDPM's step, which wants fresh noise on top. DDIM goes by way of x_0.",
            ),
        ],
    )


@exercise("07.8")
def mended_step(function: object) -> Result:
    """A function ``(velocity_fn, x_t, t, t_next)`` that takes one step of Heun, of second order."""
    draw = {"generator": seeded(8), "dtype": torch.float64}
    cases = [
        (Field("a velocity", 2.0), torch.randn(5, 2, **draw), 0.9, 0.6),
        (Field("another velocity", 1.3), torch.randn(2, 3, 2, 4, 3, **draw), 0.5, 0.45),
        (Field("a third velocity", 0.7), torch.randn(3, 2, **draw), 0.4, 0.1),
    ]

    def twin(step: Callable) -> Callable:
        return lambda velocity_fn, x, t, t_next: step(
            lambda y, s: velocity_fn(y, y.new_full(y.shape[:1], s)), x, t, t_next
        )

    def midpoint(v, x, t, t_next):
        half = (t + t_next) / 2
        return x - (t - t_next) * v(x - (t - half) * v(x, t), half)

    return check_function(
        function,
        twin(heun_step),
        cases,
        why="The second look is at the end of the step, and asks for the velocity of that time.",
        recipe="Ask the second time at (x_next, t_next), and take the mean of the two velocities.",
        wrongs=[
            Wrong(
                twin(lambda v, x, t, n: x - (t - n) * (v(x, t) + v(x - (t - n) * v(x, t), t)) / 2),
                "This is still the step with the bug. Ask of each of the two looks: where is it, and WHEN?",
            ),
            Wrong(
                twin(lambda v, x, t, n: x - (t - n) * v(x, t)), "That is Euler: one look. Heun takes the mean of two."
            ),
            Wrong(
                twin(lambda v, x, t, n: x - (t - n) * (v(x, t) + v(x, n)) / 2),
                "The time of the second look is right now, but it looks from x_t: look from where the step ends.",
            ),
            Wrong(
                twin(lambda v, x, t, n: x - (t - n) * v(x - (t - n) * v(x, t), n)),
                "The first look is lost: take the mean of both velocities.",
            ),
            Wrong(twin(midpoint), "A midpoint step: second order too, but Heun looks at the two ENDS of the step."),
            Wrong(
                twin(lambda v, x, t, n: x + (t - n) * (v(x, t) + v(x + (t - n) * v(x, t), n)) / 2),
                f"You walk away from the data. {TURNED}",
                14,
            ),
            Wrong(
                twin(lambda v, x, t, n: x - (t - n) * (v(x, t) + v(x - (t - n) * v(x, t), n))),
                "The sum of two velocities is twice as long as their mean: divide by 2.",
            ),
        ],
    )


# --- 07.4 the other clock --------------------------------------------------------------------------------------------


@exercise("07.4")
def from_theirs(function: object) -> Result:
    """A function ``(their_velocity, x_t, t)`` that answers as a velocity of this course, theirs having data at 1."""
    cases = [
        (Field("their velocity", 1.7), torch.randn(4, 2, generator=seeded(5)), torch.tensor([0.05, 0.3, 0.6, 0.9])),
        (Field("another velocity", 0.6), torch.randn(2, 3, 4, 2, 3, generator=seeded(6)), torch.tensor([0.2, 0.85])),
    ]
    return check_function(
        function,
        lambda u, x, t: -u(x, 1 - t),
        cases,
        why="Another clock and another sign: 1 - t, and minus. flip_time does just this.",
        recipe="Their tau is 1 - t, and dx/dt = dx/dtau * dtau/dt.",
        wrongs=[
            Wrong(lambda u, x, t: u(x, t), f"Theirs, unchanged. {TURNED} Theirs is the other way round.", 14),
            Wrong(
                lambda u, x, t: u(x, 1 - t),
                "The clock is turned but not the arrow: their velocity points from noise to data, ours to noise.",
                14,
            ),
            Wrong(
                lambda u, x, t: -u(x, t),
                "The arrow is turned but not the clock: at our t = 0.9 (nearly noise) theirs reads 0.1.",
                14,
            ),
            Wrong(lambda u, x, t: 1 - u(x, 1 - t), "1 - t turns a clock; a velocity is turned by a minus sign.", 14),
            Wrong(lambda u, x, t: u(-x, 1 - t), "Turn the velocity, not the place: both count the same points.", 14),
        ],
    )


# --- 07.5 steps and quality ------------------------------------------------------------------------------------------


@exercise("07.5")
@once_answered
def steps_and_quality(one_step: object, share: object, euler_factor: object, heun_factor: object) -> Result:
    """One step of a perfect net, the share of a mode after many, and what four times the steps buy."""
    first = check_array(
        "one_step",
        one_step,
        [1, 0.5],
        recipe="Noise alone says nothing about x_0, so what is the best single guess of it?",
        wrongs=[
            Wrong([0, 0], "that is the commoner point, but the best guess is the mean of all data.", 12),
            Wrong([2, 1], "that is the middle, but three quarters of the data pull to the other side.", 12),
            Wrong([4, 2], "from pure noise nothing tells which point it will be; the guess is the mean.", 12),
            Wrong([3, 1.5], "the weights are the wrong way round: three quarters lie at (0, 0)."),
            Wrong([0.5, 1], "x and y are swapped."),
        ],
    )
    second = check_number(
        "share",
        share,
        0.25,
        recipe="After many small steps a perfect net draws from the data's own distribution.",
        wrongs=[
            Wrong(0.0, "rare is not absent. Many steps draw from the data, in its own proportions.", 12),
            Wrong(0.5, "two points, but not equally likely: the net keeps the data's proportions."),
            Wrong(1.0, "then (0, 0), three quarters of the data, would never be drawn."),
            Wrong(0.75, "that is the share of (0, 0)."),
            Wrong(25, "give it as a number from 0 to 1."),
        ],
    )
    third = check_number(
        "euler_factor",
        euler_factor,
        4,
        recipe="Euler is of first order: error ~ 1 / steps.",
        wrongs=[
            Wrong(16, "that is a method of second order; Euler is of first."),
            Wrong(2, "twice the steps would halve it; here there are four times as many."),
            Wrong(0.25, "upside down: by how much does it shrink?"),
            Wrong(1, "more steps do help where the path bends.", 12),
        ],
        tolerance=1e-3,
    )
    fourth = check_number(
        "heun_factor",
        heun_factor,
        16,
        recipe="Heun is of second order: error ~ 1 / steps^2.",
        wrongs=[
            Wrong(4, "that is Euler's; of second order means the square of it."),
            Wrong(8, "twice Euler's gain would be the price in passes; the order is a power: 4 ** 2."),
            Wrong(1 / 16, "upside down: by how much does it shrink?"),
            Wrong(64, "that is third order, 4 ** 3; Heun is of second."),
        ],
        tolerance=1e-3,
    )
    return all_right(
        first,
        second,
        third,
        fourth,
        why="One step lands on the mean, where there is no data; many steps draw it in its own proportions.",
    )


# --- 07.6 losses of different targets --------------------------------------------------------------------------------


@exercise("07.6")
@once_answered
def loss_and_samples(function: object, better: object) -> Result:
    """A function ``(x_0_error, t)`` that returns eps- and velocity-error; and what two losses say of two nets."""
    verdict = check_function(
        function,
        lambda x_0_error, t: [x_0_error * ((1 - t) / t) ** 2, x_0_error / t**2],
        [(0.04, 0.2), (0.5, 0.75), (1.3, 0.5)],
        name="eps_and_velocity_error",
        recipe="With x_t fixed, an error d in x_0 is -d (1 - t) / t in eps, and -d / t in the velocity. Then square.",
        wrongs=[
            Wrong(lambda e, t: [e, e], "the three differ by factors that depend on t: solve for each, x_t fixed.", 15),
            Wrong(lambda e, t: [e * (1 - t) / t, e / t], "these factors are for the error itself; square them."),
            Wrong(lambda e, t: [e * (t / (1 - t)) ** 2, e / (1 - t) ** 2], f"1 - t and t are swapped. {TURNED}", 14),
            Wrong(
                lambda e, t: [e * (t / (1 - t)) ** 2, e * t**2],
                "upside down: these factors lead from eps or velocity back to x_0.",
            ),
            Wrong(lambda e, t: [e / t**2, e * ((1 - t) / t) ** 2], "both are right, in the other order: eps first."),
        ],
    )
    if not verdict:
        return verdict
    said = str(better).strip().lower().rstrip(".")
    if said in ("a", "net a"):
        return wrong("better: 0.2 against 1.4 looks clear, but they measure different things in different units.", 15)
    if said in ("b", "net b"):
        return wrong("better: a higher loss is not better either: the two numbers measure different things.", 15)
    open_question = re.match(r"(neither|unknown|(\w+ )?(cannot|can't|can not) (tell|say|know)|nobody can tell)\b", said)
    if open_question and not re.search(r"\b[AB]\b", str(better)):
        return right("One prediction, two losses; so losses of different targets, weights or data rank nothing.")
    return wrong(f"better: got {better!r}; answer 'A', 'B' or 'cannot tell'")
