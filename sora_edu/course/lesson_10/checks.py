"""The checks of lesson 10, training. Functions of learners train hidden little networks; what counts is the weights."""

import copy
import math
from collections.abc import Callable
from itertools import combinations

import torch
from torch import Tensor, nn

from sora_edu.course.grading import (
    Result,
    Wrong,
    all_right,
    as_number,
    check_function,
    check_number,
    exercise,
    hint as hint,
    not_a_function,
    once_answered,
    unanswered,
    wrong,
)
from sora_edu.course.lesson_10.bugs import BUGS, PATIENTS
from sora_edu.course.lesson_10.runs import agreement
from sora_edu.diffusion.flow import interpolate, over_batch, velocity_from_x_0
from sora_edu.seeds import mixed_seed
from sora_edu.train.loop import update_ema


def numbers_in(*modules: nn.Module) -> Tensor:
    """All parameters of some modules as one vector."""
    return torch.cat([p.detach().flatten() for module in modules for p in module.parameters()])


# --- exercise 1: Muon's direction -------------------------------------------------------------------------------------


def nearest_orthogonal(gradient: Tensor) -> Tensor:
    """The matrix with the same singular vectors and all singular values 1."""
    u, _, vh = torch.linalg.svd(gradient, full_matrices=False)
    return u @ vh


def five_steps(gradient: Tensor) -> Tensor:
    """Muon's own iteration: five steps of a polynomial that brings singular values to about 1 (0.7 to 1.2)."""
    x = gradient / gradient.norm()
    x = x.T if gradient.shape[0] > gradient.shape[1] else x
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.T if gradient.shape[0] > gradient.shape[1] else x


def gradients() -> list[tuple[Tensor]]:
    """Matrices of several shapes whose singular values lie far apart."""
    cases = []
    for seed, (rows, columns) in enumerate([(5, 3), (4, 4), (3, 6)]):
        generator = torch.Generator().manual_seed(seed)
        u, _, vh = torch.linalg.svd(
            torch.randn(rows, columns, generator=generator, dtype=torch.float64), full_matrices=False
        )
        cases.append((u @ torch.diag(torch.logspace(1, -1, min(rows, columns), dtype=torch.float64)) @ vh,))
    return cases


@exercise("10.1")
def muon_direction(function: object) -> Result:
    """A function ``(gradient)`` that gives the nearest matrix with all singular values 1."""
    return check_function(
        function,
        nearest_orthogonal,
        gradients(),
        tolerance=1e-3,
        why="Same directions, all equally strong: what happens rarely is learned as fast as what happens always.",
        recipe="u, s, vh = torch.linalg.svd(gradient, full_matrices=False); then leave s out.",
        wrongs=[
            Wrong(lambda g: g, "That is the gradient itself: its strong directions still drown the weak ones."),
            Wrong(lambda g: g / g.norm(), "Shorter, but its singular values keep their ratios: nothing is evened out."),
            Wrong(
                lambda g: g / torch.linalg.matrix_norm(g, 2),
                "The largest singular value is 1 now, but the others are as far below it as before.",
            ),
            Wrong(torch.sign, "Signs are Adam's first step: each number on its own, not the matrix as a whole."),
            Wrong(lambda g: g / g.norm(dim=1, keepdim=True), "Rows of length 1 need not be at right angles."),
            Wrong(lambda g: g / g.norm(dim=0, keepdim=True), "Columns of length 1 need not be at right angles."),
            Wrong(
                lambda g: torch.linalg.qr(g)[0],
                "QR turns all columns to fit the first: orthogonal, but not the nearest such matrix.",
            ),
            Wrong(lambda g: nearest_orthogonal(g).T, "Transposed: the step must have the weight's shape."),
            Wrong(five_steps, "Muon's own five steps: singular values from 0.7 to 1.2. Here give exactly 1."),
        ],
    )


# --- exercise 2: one step ---------------------------------------------------------------------------------------------


def set_up(seed: int) -> tuple[nn.Module, nn.Module, torch.optim.Optimizer, Callable]:
    """A small network, an average that differs from it, an optimiser whose steps show clipping, and a loss."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))
    ema = copy.deepcopy(model).requires_grad_(False)
    for parameter in ema.parameters():
        parameter.add_(0.5)
    generator = torch.Generator().manual_seed(seed)

    def loss_fn(net: nn.Module) -> Tensor:
        x = torch.randn(16, 4, generator=generator)
        return (net(x) - 3 * x[:, :2]).square().mean()

    return model, ema, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5), loss_fn


def step_right(model, ema, optimiser, loss_fn, clip, decay):
    """The step as it should be."""
    loss = loss_fn(model)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimiser.step()
    update_ema(ema, model, decay)
    model.zero_grad()
    return loss.item()


def to_length(model: nn.Module, length: float) -> list[Tensor]:
    """The gradients, scaled together to this length."""
    gradients = [parameter.grad for parameter in model.parameters()]
    norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
    return [gradient * length / norm for gradient in gradients]


def step_with(order: str) -> Callable:
    """A step made of single letters, in this order: f forward, b backward, c clip, v clip values, s step, z zero,
    e average, w average with its weights swapped, k average becomes the model, l gradient to the length of the
    limit, 0 forget the loss."""

    def step(model, ema, optimiser, loss_fn, clip, decay):
        loss = None
        for letter in order:
            if letter == "f":
                loss = loss_fn(model)
            elif letter == "b":
                loss.backward()
            elif letter == "c":
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            elif letter == "v":
                nn.utils.clip_grad_value_(model.parameters(), clip)
            elif letter == "s":
                optimiser.step()
            elif letter == "z":
                model.zero_grad()
            elif letter == "l":  # every gradient becomes as long as the limit, a shorter one too
                for parameter, scaled in zip(model.parameters(), to_length(model, clip), strict=True):
                    parameter.grad = scaled
            elif letter == "0":
                loss = torch.zeros(())
            else:
                update_ema(ema, model, {"e": decay, "w": 1 - decay, "k": 0.0}[letter])
        return loss.item()

    return step


def after_three(step: Callable, seed: int, clip: float, decay: float) -> object:
    """Weights and average after three steps, and the three losses; what a step returned where that is no answer."""
    model, ema, optimiser, loss_fn = set_up(seed)
    losses = []
    for _ in range(3):
        value = step(model, ema, optimiser, loss_fn, clip, decay)
        if unanswered(value):
            return value
        number = as_number(value)
        losses.append(math.nan if number is None else number)
    return torch.cat([numbers_in(model, ema), torch.tensor(losses)])


@exercise("10.2")
def one_step(function: object) -> Result:
    """A function ``(model, ema, optimiser, loss_fn, clip, decay)`` that trains one step and returns the loss."""
    if (refusal := not_a_function(function, "a function")) is not None:
        return refusal

    def twin(order: str) -> Callable:
        return lambda *case: after_three(step_with(order), *case)

    piled = "Gradients pile up: backward adds to what is there. Set them to zero once the step is done."
    return check_function(
        lambda *case: after_three(function, *case),
        lambda *case: after_three(step_right, *case),
        [(1, 0.5, 0.9), (2, 1.0, 0.6), (3, 0.2, 0.75), (4, 1000.0, 0.8)],
        why="forward, backward, clip, step, average, zero: weights and average are right after three steps.",
        recipe="In this order: loss, backward, clip_grad_norm_, optimiser.step, update_ema, zero_grad.",
        wrongs=[
            Wrong(twin("fbcse"), piled),
            Wrong(
                twin("fbsez"),
                "The gradient was not clipped when the optimiser stepped: clip it after backward and before the step.",
            ),
            Wrong(twin("fblsez"), "A gradient that is shorter than the limit stays as it is: clip, do not stretch."),
            Wrong(twin("fbcsez0"), "Weights and average are right; return the loss of the step, too."),
            Wrong(twin("fbvsez"), "Each number was cut on its own: that turns the gradient. Scale the whole (norm)."),
            Wrong(twin("efbcsz"), "The average took the weights of before the step."),
            Wrong(twin("fbcesz"), "The average took the weights of before the step."),
            Wrong(twin("fbcswz"), "Swapped: decay is the share of the old average that stays."),
            Wrong(twin("fbcskz"), "The average became a plain copy of the weights: keep the share decay of it."),
            Wrong(twin("fbcsz"), "The average has not moved: update_ema comes after the step."),
            Wrong(twin("fbzsez"), "The gradient was set to zero before the step: nothing is learned from it."),
        ],
    )


# --- exercise 3: one example by heart ---------------------------------------------------------------------------------


@exercise("10.3")
@once_answered
def by_heart(function: object, loss_left: object) -> Result:
    """A function ``(x_t, t, example)``: the velocity that a network answers which knows only this example."""
    cases = []
    for seed, shape in ((1, (3, 2)), (2, (4, 2, 3, 2, 5))):
        generator = torch.Generator().manual_seed(seed)
        example = torch.randn(1, *shape[1:], generator=generator, dtype=torch.float64)
        eps = torch.randn(shape, generator=generator, dtype=torch.float64)
        t = torch.linspace(0.2, 0.9, shape[0], dtype=torch.float64)
        cases.append((interpolate(example.expand_as(eps), eps, t), t, example))

    def seen(x_t: Tensor, t: Tensor, example: Tensor) -> Tensor:
        return velocity_from_x_0(x_t, example.expand_as(x_t), t)

    first = check_function(
        function,
        seen,
        cases,
        name="by_heart",
        recipe="x_t = (1 - t) example + t eps: solve for eps, then eps - example. over_batch(t, x_t) lets t divide.",
        wrongs=[
            Wrong(lambda x_t, t, x: x_t - x, "divide by t: at time t only the share t of the noise is in x_t."),
            Wrong(lambda x_t, t, x: -seen(x_t, t, x), "the velocity points from data to noise: eps - x_0.", 14),
            Wrong(
                lambda x_t, t, x: (x_t - x) / over_batch(1 - t, x_t),
                "you let t = 1 be data; here t is the share of noise, so divide by t.",
                14,
            ),
            Wrong(lambda x_t, t, x: seen(x_t, t, x) + x, "that is eps; the velocity is the difference: eps - example."),
            Wrong(lambda x_t, t, x: x.expand_as(x_t), "that is x_0: known, but it is the velocity that is asked for."),
            Wrong(lambda x_t, t, x: x_t - over_batch(t, x_t) * x, "solve x_t = (1 - t) example + t eps for eps first."),
        ],
    )
    second = check_number(
        "loss_left",
        loss_left,
        0,
        recipe="How far is the answer above from eps - example, at any t and any noise?",
        wrongs=[
            Wrong(2, "2 is what a network that says nothing pays: variance of eps plus that of x_0."),
            Wrong(1, "the noise is not left over: x_t, t and the one example give it away exactly."),
        ],
    )
    why = "With one example nothing is left to guess, so the loss can fall to 0; with a world of clips it cannot."
    return all_right(first, second, why=why)


# --- exercise 4: resume -----------------------------------------------------------------------------------------------


class Run:
    """A training in small: ``model``, ``ema``, ``optimiser`` and ``step``; ``advance(n)`` trains n steps.

    Rate, averaging and randomness of a step depend on its number, as in ``fit``.
    """

    def __init__(self, seed: int = 0):
        torch.manual_seed(mixed_seed(seed, 7))
        self.model = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 2))
        self.seed = seed
        self.step = 0
        self.waits = False  # while it is to be resumed
        self.ema = copy.deepcopy(self.model).requires_grad_(False)
        self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=0.05)

    def advance(self, n: int) -> None:
        """Train n steps."""
        if self.waits:
            raise RuntimeError("the steps are not to be trained again; load what was saved of them")
        for _ in range(n):
            generator = torch.Generator().manual_seed(mixed_seed(self.seed, self.step))
            self.optimiser.param_groups[0]["lr"] = 0.05 * min(1.0, (self.step + 1) / 12)
            x = torch.randn(8, 3, generator=generator)
            loss = (self.model(x) - x[:, :2]).square().mean()
            loss.backward()
            self.optimiser.step()
            update_ema(self.ema, self.model, min(0.95, (1 + self.step) / (10 + self.step)))
            self.model.zero_grad()
            self.step += 1

    def saved(self) -> dict:
        """What is on the disk when the run is killed, under the names that the attributes have."""
        parts = {name: copy.deepcopy(getattr(self, name).state_dict()) for name in ("model", "ema", "optimiser")}
        return parts | {"step": self.step}


def resume_right(saved: dict, run: Run) -> Run:
    """Everything comes back."""
    for name in ("model", "ema", "optimiser"):
        getattr(run, name).load_state_dict(saved[name])
    run.step = saved["step"]
    return run


def resume_without(part: str) -> Callable:
    """One part stays as it is in a fresh run; without "ema" it may also become a copy of the model ("ema = model")."""

    def resume(saved: dict, run: Run) -> Run:
        fresh = run.saved()
        if part == "ema = model":
            return resume_right(saved | {"ema": saved["model"]}, run)
        return resume_right(saved | {part: fresh[part]}, run)

    return resume


def went_on(resume: Callable, seed: int, killed: int, more: int) -> object:
    """Weights and average of a run that was killed and taken up again; what it returned where that is no run."""
    old = Run(seed)
    old.advance(killed)
    fresh = Run(seed)
    fresh.waits = True
    run = resume(old.saved(), fresh)
    if not isinstance(run, Run):
        return run
    run.waits = False
    run.advance(more)
    return torch.cat([numbers_in(run.model, run.ema), torch.tensor([float(run.step)])])


@exercise("10.4")
def resume(function: object) -> Result:
    """A function ``(saved, run)`` that puts what was saved into a fresh run and returns it: bit for bit."""
    if (refusal := not_a_function(function, "a function")) is not None:
        return refusal

    def whole(seed: int, killed: int, more: int) -> Tensor:
        run = Run(seed)
        run.advance(killed + more)
        return torch.cat([numbers_in(run.model, run.ema), torch.tensor([float(run.step)])])

    def without(part: str) -> Callable:
        return lambda *case: went_on(resume_without(part), *case)

    def nothing(seed: int, killed: int, more: int) -> object:
        return went_on(lambda saved, run: run, seed, killed, more)

    return check_function(
        lambda *case: went_on(function, *case),
        whole,
        [(1, 5, 4), (2, 9, 7), (3, 3, 2)],
        tolerance=0.0,
        why="Every bit is as if nothing had happened: model, average, the optimiser's memory, and the step's number.",
        recipe="Load saved['model'], saved['ema'], saved['optimiser'], set run.step, and return the run.",
        wrongs=[
            Wrong(nothing, "Nothing came back: the run started again from its first weights."),
            Wrong(without("step"), "The step's number is missing: rate and randomness begin again at step 0."),
            Wrong(without("optimiser"), "The optimiser's memory is missing: AdamW has lost its averages of gradients."),
            Wrong(without("ema"), "The average is missing: it is made of weights that nobody has any more."),
            Wrong(without("ema = model"), "The average is not the model: load saved['ema'] into run.ema."),
            Wrong(without("model"), "The weights themselves are missing."),
        ],
    )


# --- exercise 5: two rankings -----------------------------------------------------------------------------------------


@exercise("10.5")
def same_order(function: object) -> Result:
    """A function ``(losses, shares)``: in which share of pairs does the lower loss also have the higher share?"""

    def with_ties(losses: list, shares: list) -> float:
        pairs = list(combinations(range(len(losses)), 2))
        return sum((losses[i] - losses[j]) * (shares[i] - shares[j]) < 0 for i, j in pairs) / len(pairs)

    def neighbours(losses: list, shares: list) -> float:
        pairs = list(zip(range(len(losses) - 1), range(1, len(losses)), strict=True))
        pairs = [(i, j) for i, j in pairs if losses[i] != losses[j] and shares[i] != shares[j]]
        return sum((losses[i] - losses[j]) * (shares[i] - shares[j]) < 0 for i, j in pairs) / max(1, len(pairs))

    def correlation(losses: list, shares: list) -> float:
        both = torch.tensor([losses, shares], dtype=torch.float64)
        return float(torch.corrcoef(both)[0, 1])

    return check_function(
        function,
        agreement,
        [
            ([0.9, 0.5, 0.7, 0.4, 0.45], [0.1, 0.6, 0.2, 0.5, 0.6]),
            ([0.30, 0.20, 0.25, 0.10, 0.10, 0.15], [0.0, 0.5, 0.6, 0.9, 0.8, 0.5]),
            ([3.0, 1.0, 2.0, 4.0], [0.3, 0.2, 0.4, 0.1]),
        ],
        why="1 would mean that either ranking does, 0.5 that the loss says nothing about the samples.",
        recipe="Go over all pairs i < j; leave out ties; agreed where the lower loss has the higher share.",
        wrongs=[
            Wrong(lambda a, b: 1 - agreement(a, b), "Turned round: a *lower* loss is meant to be better."),
            Wrong(with_ties, "Ties were counted as disagreement: leave out pairs that are equal in either."),
            Wrong(neighbours, "Compare all pairs, not only neighbours in the list."),
            Wrong(correlation, "A correlation asks for a straight line; here only the order counts."),
            Wrong(
                lambda a, b: -correlation(a, b), "A correlation asks for a straight line; here only the order counts."
            ),
            Wrong(
                lambda a, b: float(min(range(len(a)), key=a.__getitem__) == max(range(len(b)), key=b.__getitem__)),
                "That asks only whether both name the same best one.",
            ),
            Wrong(lambda a, b: 1.0, "Always 1 would mean that loss and samples never disagree.", 15),
        ],
    )


# --- exercise 6: find the bug -----------------------------------------------------------------------------------------

SIGNS = {
    "not shuffled": "its loss has teeth, one for each stretch of data of one kind, and its samples know the last kind",
    "swapped target": "its loss looks as it should; a turned target is as easy to learn. Its samples run off outwards",
    "no latent scale": "its loss is the lowest of all: where data are tiny, eps is nearly all of x_t, and easy to tell",
    "healthy": "its loss comes down to the dashed line, and its samples lie on the data",
    "rate too high": "its loss is thrown about and stays far above the dashed line",
}


@exercise("10.6")
@once_answered
def find_the_bug(answers: object) -> Result:
    """A dict of letter to a name in BUGS."""
    if not isinstance(answers, dict) or set(PATIENTS) - set(answers):
        return wrong(f"expected a dict with the keys {', '.join(PATIENTS)}")
    said = {letter: str(answers[letter]).strip().lower() for letter in PATIENTS}
    for letter, name in said.items():
        if name not in BUGS:
            return wrong(f"{letter}: {name!r} is none of {', '.join(BUGS)}")
    for letter, truth in PATIENTS.items():
        if said[letter] != truth and said[letter] == "healthy":
            fooled = 15 if truth in ("swapped target", "no latent scale") else None
            return wrong(f"{letter} is not healthy. Look at its samples too", fooled)
    for letter, truth in PATIENTS.items():
        if said[letter] != truth:
            return wrong(f"{letter}: {SIGNS[truth]}. Which bug does that?")
    return Result("right", "Two of the four bugs have a loss that looks fine or better: only the samples tell.")
