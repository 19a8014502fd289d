"""The checks of lesson 10 accept every right form, and tell the planted mistakes apart."""

import copy

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau
from torch import nn
from verdicts import says

from sora_edu.course.lesson_10 import checks
from sora_edu.course.lesson_10.bugs import BUGS, PATIENTS


@pytest.mark.parametrize(
    "result",
    [
        lambda: checks.muon_direction(lambda gradient: ...),
        lambda: checks.one_step(lambda model, ema, optimiser, loss_fn, clip, decay: ...),
        lambda: checks.by_heart(lambda x_t, t, example: ..., ...),
        lambda: checks.by_heart(known, ...),
        lambda: checks.resume(lambda saved, run: ...),
        lambda: checks.same_order(lambda losses, shares: ...),
        lambda: checks.find_the_bug(dict.fromkeys(PATIENTS, ...)),
        lambda: checks.find_the_bug(PATIENTS | {"C": ...}),
        lambda: checks.one_step(...),
        lambda: checks.resume(...),
    ],
)
def test_an_unfilled_exercise_is_not_answered_yet(result):
    assert result().verdict == "not answered yet"


# --- Muon -------------------------------------------------------------------------------------------------------------


def by_polynomial(gradient):
    x = gradient / gradient.norm()
    for _ in range(60):
        x = 1.5 * x - 0.5 * x @ x.T @ x
    return x


def by_eigenvalues(gradient):
    values, vectors = torch.linalg.eigh(gradient.T @ gradient)
    inverse = torch.where(values > 1e-9, values.clamp(min=1e-9).rsqrt(), 0.0)
    return (gradient @ vectors @ torch.diag(inverse) @ vectors.T).numpy()


@pytest.mark.parametrize("function", [checks.nearest_orthogonal, by_polynomial, by_eigenvalues])
def test_directions_in_any_right_form(function):
    assert checks.muon_direction(function)


def test_five_steps_are_torchs_muon():
    weight = nn.Parameter(torch.zeros(6, 4))
    weight.grad = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    optimiser = torch.optim.Muon([weight], lr=1.0, weight_decay=0.0, momentum=0.0, nesterov=False)
    optimiser.step()
    moved = -weight.detach() / (6 / 4) ** 0.5  # torch's default scales by the shape
    torch.testing.assert_close(moved, checks.five_steps(weight.grad), atol=0.05, rtol=0)  # torch computes in bf16


@pytest.mark.parametrize(
    ("function", "part"),
    [
        (lambda g: 1.0 * g, "gradient itself"),
        (lambda g: g / g.square().sum().sqrt(), "keep their ratios"),
        (lambda g: g / torch.linalg.svdvals(g)[0], "as far below"),
        (lambda g: g.sign(), "Adam's first step"),
        (lambda g: nn.functional.normalize(g, dim=1), "Rows"),
        (lambda g: nn.functional.normalize(g, dim=0), "Columns"),
        (lambda g: torch.linalg.qr(g).Q, "QR"),
        (lambda g: by_polynomial(g).T, "Transposed"),
        (checks.five_steps, "0.7 to 1.2"),
        (lambda g: -by_polynomial(g), "values"),
        (lambda g: 3, "shape"),
    ],
)
def test_directions_name_the_mistake(function, part):
    assert says(checks.muon_direction(function), part)


# --- one step ---------------------------------------------------------------------------------------------------------


def zero_first(model, ema, optimiser, loss_fn, clip, decay):
    optimiser.zero_grad()
    loss = loss_fn(model)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimiser.step()
    with torch.no_grad():
        for kept, new in zip(ema.parameters(), model.parameters(), strict=True):
            kept.copy_(decay * kept + (1 - decay) * new)
    return loss


def by_hand(model, ema, optimiser, loss_fn, clip, decay):
    loss = loss_fn(model)
    loss.backward()
    norm = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
    for parameter in model.parameters():
        parameter.grad.mul_(min(1.0, float(clip / norm)))
    optimiser.step()
    optimiser.zero_grad()
    new = model.state_dict()
    ema.load_state_dict({k: decay * v + (1 - decay) * new[k] for k, v in ema.state_dict().items()})
    return loss.item()


@pytest.mark.parametrize("function", [checks.step_right, zero_first, by_hand, checks.step_with("zfbcse")])
def test_a_step_in_any_right_form(function):
    assert checks.one_step(function)


@pytest.mark.parametrize(
    ("order", "part"),
    [
        ("fbcse", "pile up"),
        ("fbsez", "not clipped"),
        ("fcbsez", "not clipped"),
        ("fbscez", "before the step"),
        ("fbvsez", "on its own"),
        ("efbcsz", "before the step"),
        ("zfbces", "before the step"),
        ("fbcswz", "Swapped"),
        ("fbcskz", "plain copy"),
        ("fbcsz", "has not moved"),
        ("fbzcsez", "zero before the step"),
        ("fbcssez", "values"),
    ],
)
def test_a_step_names_the_mistake(order, part):
    assert says(checks.one_step(checks.step_with(order)), part)


def test_a_step_that_fails_is_told():
    assert says(checks.one_step(lambda model, *rest: model.backward()), "raised AttributeError")
    assert says(checks.one_step(3), "expected a function")


# --- one example by heart ---------------------------------------------------------------------------------------------


def known(x_t, t, example):
    t = t.view(-1, *[1] * (x_t.ndim - 1))
    eps = (x_t - (1 - t) * example) / t
    return eps - example


def divided(x_t, t, example):
    return torch.stack([(x - example[0]) / time for x, time in zip(x_t, t, strict=True)]).numpy()


@pytest.mark.parametrize(("function", "left"), [(known, 0), (divided, 0.0), (known, np.float64(0))])
def test_by_heart_in_any_right_form(function, left):
    assert checks.by_heart(function, left)


@pytest.mark.parametrize(
    ("function", "left", "parts"),
    [
        (lambda x, t, e: x - e, 0, ("divide by t",)),
        (lambda x, t, e: -known(x, t, e), 0, ("misconception 14",)),
        (lambda x, t, e: (x - e) / (1 - t.view(-1, *[1] * (x.ndim - 1))), 0, ("misconception 14",)),
        (lambda x, t, e: known(x, t, e) + e, 0, ("that is eps",)),
        (lambda x, t, e: e.expand_as(x), 0, ("that is x_0",)),
        (lambda x, t, e: (x - e) / t, 0, ("raised|values|shape",)),
        (known, 2, ("says nothing",)),
        (known, 1, ("give it away",)),
        (known, 0.3, ("loss_left",)),
    ],
)
def test_by_heart_names_the_mistake(function, left, parts):
    result = checks.by_heart(function, left)
    assert result.verdict == "not right yet" and any(part in result.text for part in parts[0].split("|")), result


# --- resume -----------------------------------------------------------------------------------------------------------


def copied(saved, run):
    for name in ("model", "ema"):
        for key, value in getattr(run, name).state_dict().items():
            value.copy_(saved[name][key])
    run.optimiser.load_state_dict(saved["optimiser"])
    run.step = saved["step"]
    return run


def rebuilt(saved, run):
    other = checks.Run(run.seed)
    other.step = saved["step"]
    other.ema.load_state_dict(saved["ema"])
    other.model.load_state_dict(saved["model"])
    other.optimiser.load_state_dict(saved["optimiser"])
    return other


@pytest.mark.parametrize("function", [checks.resume_right, copied, rebuilt])
def test_resume_in_any_right_form(function):
    assert checks.resume(function)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("model", "weights themselves"),
        ("ema", "average is missing"),
        ("ema = model", "average is not the model"),
        ("optimiser", "memory is missing"),
        ("step", "step 0"),
    ],
)
def test_resume_names_what_is_missing(part, message):
    assert says(checks.resume(checks.resume_without(part)), message)


def test_resume_tells_a_fresh_start_and_a_run_that_is_off_by_one():
    assert says(checks.resume(lambda saved, run: run), "Nothing came back")

    def late(saved, run):
        run = checks.resume_right(saved, run)
        run.step += 1
        return run

    assert says(checks.resume(late), "values")
    assert says(checks.resume(lambda saved, run: saved["model"]), "expected numbers")
    assert says(checks.resume(lambda saved, run: run.load(saved)), "raised AttributeError")


def test_what_was_saved_is_not_the_run_itself():
    run = checks.Run(0)
    saved = run.saved()
    before = copy.deepcopy(saved["model"])
    run.advance(3)
    assert all(torch.equal(saved["model"][name], before[name]) for name in before) and saved["step"] == 0


# --- two rankings -----------------------------------------------------------------------------------------------------


def by_loops(losses, shares):
    agreed = total = 0
    for i in range(len(losses)):
        for j in range(i):
            if losses[i] != losses[j] and shares[i] != shares[j]:
                total += 1
                agreed += (losses[i] - losses[j]) * (shares[i] - shares[j]) < 0
    return agreed / total


def by_sorting(losses, shares):
    pairs = sorted(zip(losses, shares, strict=True))
    kept = [(a, b) for i, a in enumerate(pairs) for b in pairs[i + 1 :] if a[0] != b[0] and a[1] != b[1]]
    return np.mean([a[1] > b[1] for a, b in kept])


@pytest.mark.parametrize("function", [checks.agreement, by_loops, by_sorting])
def test_order_in_any_right_form(function):
    assert checks.same_order(function)


def test_agreement_is_kendalls_tau_without_ties():
    generator = np.random.default_rng(0)
    losses, shares = generator.normal(size=20), generator.normal(size=20)
    tau = kendalltau(losses, -shares).statistic
    assert checks.agreement(list(losses), list(shares)) == pytest.approx((tau + 1) / 2)


@pytest.mark.parametrize(
    ("function", "part"),
    [
        (lambda a, b: 1 - by_loops(a, b), "lower"),
        (
            lambda a, b: (
                sum((a[i] < a[j]) and (b[i] > b[j]) for i in range(len(a)) for j in range(len(a)))
                / (len(a) * (len(a) - 1) / 2)
            ),
            "Ties",
        ),
        (lambda a, b: float(np.corrcoef(a, b)[0, 1]), "straight line"),
        (lambda a, b: float(np.argmin(a) == np.argmax(b)), "same best one"),
        (lambda a, b: 1.0, "misconception 15|same best one"),
        (lambda a, b: 0.42, "got|values"),
    ],
)
def test_order_names_the_mistake(function, part):
    result = checks.same_order(function)
    assert result.verdict == "not right yet" and any(p in result.text for p in part.split("|")), result


# --- find the bug -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [PATIENTS, {k: f" {v.upper()} " for k, v in PATIENTS.items()}, PATIENTS | {"F": "x"}])
def test_diagnoses_in_any_right_form(form):
    assert checks.find_the_bug(dict(form))


def letter(bug: str) -> str:
    """Who has this bug."""
    return next(name for name, what in PATIENTS.items() if what == bug)


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"swapped target": "healthy", "healthy": "swapped target"}, ("its samples", "misconception 15")),
        ({"no latent scale": "healthy", "healthy": "no latent scale"}, ("its samples", "misconception 15")),
        ({"not shuffled": "rate too high", "rate too high": "not shuffled"}, ("teeth",)),
        ({"swapped target": "no latent scale", "no latent scale": "swapped target"}, ("looks as it should",)),
        ({"rate too high": "healthy", "healthy": "rate too high"}, ("not healthy",)),
        ({"healthy": "slow"}, ("none of",)),
    ],
)
def test_diagnoses_name_the_mistake(changes, parts):
    assert says(checks.find_the_bug(PATIENTS | {letter(bug): said for bug, said in changes.items()}), *parts)


def test_diagnoses_need_all_letters_and_every_bug_has_a_patient():
    assert says(checks.find_the_bug({"A": "healthy"}), "keys")
    assert says(checks.find_the_bug(["healthy"]), "keys")
    assert sorted(PATIENTS.values()) == sorted(BUGS) == sorted(checks.SIGNS)


def test_a_step_returns_its_loss_and_stretches_no_gradient():
    assert says(checks.one_step(lambda *case: checks.step_right(*case) * 0), "return the loss")


def test_a_run_that_is_trained_again_was_not_resumed():
    def again(saved, run):
        run.advance(saved["step"])
        return run

    assert says(checks.resume(again), "load what was saved")
