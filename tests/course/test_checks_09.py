"""The checks of lesson 09 accept every right form, and tell the planted mistakes apart."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from verdicts import says

from sora_edu.course.lesson_09 import checks
from sora_edu.diffusion.guidance import guided
from sora_edu.model.tokenizer import PAD, START

RIGHT = {"plain": 1, "ignores": 0, "w": 2, "guided_passes": 50, "plain_passes": 25, "equal_steps": 25}


@pytest.mark.parametrize(
    "result",
    [
        lambda: checks.tokenise(lambda prompt, table, length: ...),
        lambda: checks.drop_captions(lambda ids, empty, share, u: ...),
        lambda: checks.numbers_of_guidance(dict.fromkeys(RIGHT, ...)),
        lambda: checks.numbers_of_guidance(RIGHT | {"w": ...}),
        lambda: checks.guided_velocity(lambda model, x_t, t, text, null_text, s: ...),
        lambda: checks.guided_velocity(...),
        lambda: checks.accuracy_and_floor(lambda right: (..., ...)),
        lambda: checks.start_spread(lambda starts: ...),
        lambda: checks.sample_away(lambda model, noise, times, text, negative, s: ...),
        lambda: checks.sample_away(...),
        lambda: checks.mended_mean(lambda words, ids: ...),
    ],
)
def test_an_unfilled_exercise_is_not_answered_yet(result):
    assert result().verdict == "not answered yet"


# --- tokenise ---------------------------------------------------------------------------------------------------------


def by_loop(prompt, table, length):
    ids = [1]
    for word in prompt.lower().split():
        if word in table and len(ids) < length:
            ids.append(table[word])
    while len(ids) < length:
        ids.append(0)
    return ids


def by_tensor(prompt, table, length):
    ids = torch.zeros(length, dtype=torch.long)
    known = torch.tensor([1] + [table[word] for word in prompt.split() if word in table])[:length]
    ids[: len(known)] = known
    return ids


@pytest.mark.parametrize("function", [by_loop, by_tensor, checks.to_ids])
def test_tokens_in_any_right_form(function):
    assert checks.tokenise(function)


@pytest.mark.parametrize(
    ("function", "part"),
    [
        (lambda p, t, n: [1, *(t.get(w, 2) for w in p.split())][:n] + [0] * (n - 1 - len(p.split())), "leave the word"),
        (lambda p, t, n: [1, *(t.get(w, 0) for w in p.split())][:n] + [0] * (n - 1 - len(p.split())), "PAD inside"),
        (lambda p, t, n: by_loop(p, t, n + 1)[1:], "start token is missing"),
        (lambda p, t, n: [0] * by_loop(p, t, n).count(0) + [i for i in by_loop(p, t, n) if i], "to the end"),
        (lambda p, t, n: [i or 2 for i in by_loop(p, t, n)], "filled with PAD"),
        (lambda p, t, n: [i for i in by_loop(p, t, 99) if i] + [0] * by_loop(p, t, n).count(0), "cut to length"),
        (lambda p, t, n: [1, *(t[w] for w in p.split())], "raised KeyError"),
        (lambda p, t, n: [1, 3, 20, 8, 0, 0, 0, 0], "shape"),
    ],
)
def test_tokens_name_the_mistake(function, part):
    result = checks.tokenise(function)
    assert not result and any(p in result.text for p in part.split("|")), result


# --- caption dropout --------------------------------------------------------------------------------------------------


def rows_by_loop(ids, empty, share, u):
    return torch.stack([empty[0] if float(x) < share else row for row, x in zip(ids, u, strict=True)])


def rows_by_index(ids, empty, share, u):
    ids = ids.clone()
    ids[u < share] = empty
    return ids.numpy()


@pytest.mark.parametrize("function", [rows_by_loop, rows_by_index, checks.drop_rows])
def test_dropout_in_any_right_form(function):
    assert checks.drop_captions(function)


@pytest.mark.parametrize(
    ("function", "part"),
    [
        (lambda ids, e, s, u: ids * (u >= s)[:, None], "softmax gives NaN"),
        (lambda ids, e, s, u: torch.where((u < s)[:, None], ids, e), "Turned round"),
        (lambda ids, e, s, u: torch.where((u > s)[:, None], e, ids), "Turned round"),
        (lambda ids, e, s, u: e.expand_as(ids) if u[0] < s else ids, "each row has its own"),
        (lambda ids, e, s, u: ids[u >= s], "threw clips away"),
        (lambda ids, e, s, u: ids, "No caption was dropped"),
        (lambda ids, e, s, u: torch.where((u < s)[:, None] & (ids > 2), 2, ids), "unknown words"),
    ],
)
def test_dropout_names_the_mistake(function, part):
    result = checks.drop_captions(function)
    assert not result and any(p in result.text for p in part.split("|")), result


# --- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form", [RIGHT, {k: float(v) for k, v in RIGHT.items()}, {k: np.int64(v) for k, v in RIGHT.items()}]
)
def test_numbers_in_any_right_form(form):
    assert checks.numbers_of_guidance(form)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"plain": 0}, ("not read at all", "misconception 18")),
        ({"plain": 3}, ("guidance already",)),
        ({"ignores": 1}, ("misconception 18",)),
        ({"ignores": -1}, ("w + 1",)),
        ({"w": 3}, ("misconception 18",)),
        ({"w": 4}, ("other way round",)),
        ({"guided_passes": 25}, ("misconception 17",)),
        ({"guided_passes": 26}, ("misconception 17",)),
        ({"guided_passes": 75}, ("does not repeat",)),
        ({"plain_passes": 50}, ("drops out",)),
        ({"equal_steps": 50}, ("misconception 17",)),
        ({"equal_steps": 7}, ("two a step",)),
    ],
)
def test_numbers_name_the_mistake(change, parts):
    assert says(checks.numbers_of_guidance(RIGHT | change), *parts)


def test_numbers_need_all_their_keys():
    assert says(checks.numbers_of_guidance({"plain": 1}), "keys")
    assert says(checks.numbers_of_guidance([1, 0, 2]), "keys")


# --- the guided velocity ----------------------------------------------------------------------------------------------


def stacked(model, x_t, t, text, null_text, s):
    cond, uncond = model(torch.cat([x_t, x_t]), torch.cat([t, t]), torch.cat([text, null_text])).chunk(2)
    return uncond + s * (cond - uncond)


def papers_form(model, x_t, t, text, null_text, s):
    uncond, cond = model(x_t.repeat(2, *[1] * (x_t.ndim - 1)), t.repeat(2), torch.cat([null_text, text])).chunk(2)
    return s * cond + (1 - s) * uncond


def packaged(model, x_t, t, text, null_text, s):
    return guided(model, text=text, null_text=null_text, cfg_scale=s)(x_t, t)


@pytest.mark.parametrize("function", [stacked, papers_form, packaged])
def test_guidance_in_any_right_form(function):
    assert checks.guided_velocity(function)


def combined(formula):
    """A learner's function with another formula."""

    def function(model, x_t, t, text, null_text, s):
        cond, uncond = model(torch.cat([x_t, x_t]), torch.cat([t, t]), torch.cat([text, null_text])).chunk(2)
        return formula(cond, uncond, s)

    return function


@pytest.mark.parametrize(
    ("formula", "part"),
    [
        (lambda c, u, s: (1 + s) * c - s * u, "misconception 18"),
        (lambda c, u, s: c + s * (c - u), "misconception 18"),
        (lambda c, u, s: c + s * (u - c), "swapped"),
        (lambda c, u, s: u + s * c, "difference"),
        (lambda c, u, s: s * c, "larger steps"),
        (lambda c, u, s: c, "where is uncond"),
        (lambda c, u, s: (u + s * (c - u)) * 0.9, "values"),
        (lambda c, u, s: u, "values"),
    ],
)
def test_guidance_names_the_mistake(formula, part):
    assert says(checks.guided_velocity(combined(formula)), part)


def test_two_calls_are_right_in_value_and_still_not_what_was_asked():
    def twice(model, x_t, t, text, null_text, s):
        cond, uncond = model(x_t, t, text), model(x_t, t, null_text)
        return uncond + s * (cond - uncond)

    assert says(checks.guided_velocity(twice), "called twice")


def test_a_batch_that_does_not_fit_is_told():
    assert says(
        checks.guided_velocity(lambda model, x, t, text, null, s: model(x, t, torch.cat([text, null]))), "differ"
    )
    assert says(checks.guided_velocity(3), "expected a function")


# --- the control ------------------------------------------------------------------------------------------------------


def with_loops(right):
    n = len(right)
    own = [bool(right[i, i]) for i in range(n)]
    other = [bool(right[i, j]) for i in range(n) for j in range(n) if i != j]
    return sum(own) / n, sum(other) / len(other)


def with_mask(right):
    eye = torch.eye(len(right), dtype=torch.bool)
    return torch.stack([right[eye].double().mean(), right[~eye].double().mean()])


@pytest.mark.parametrize("function", [with_loops, with_mask])
def test_control_in_any_right_form(function):
    assert checks.accuracy_and_floor(function)


@pytest.mark.parametrize(
    ("function", "part"),
    [
        (lambda r: (with_loops(r)[0], r.float().mean()), "diagonal out"),
        (lambda r: with_loops(r)[::-1], "swapped"),
        (lambda r: (with_loops(r)[0], 1 / len(r)), "1 / n"),
        (lambda r: (with_loops(r)[0], 0.0), "not 0"),
        (lambda r: (with_loops(r)[0], 1 - with_loops(r)[0]), "1 - accuracy"),
        (lambda r: (with_loops(r)[0], r.roll(1, 0).diagonal().float().mean()), "One neighbour"),
        (lambda r: (0.75, 0.15), "values"),
    ],
)
def test_control_names_the_mistake(function, part):
    assert says(checks.accuracy_and_floor(function), part)


# --- diversity --------------------------------------------------------------------------------------------------------


def by_variance(starts):
    return starts.var(dim=0, unbiased=False).sum().sqrt()


def by_numpy(starts):
    return np.sqrt(((starts.numpy() - starts.numpy().mean(0)) ** 2).sum(1).mean())


@pytest.mark.parametrize("function", [by_variance, by_numpy])
def test_spread_in_any_right_form(function):
    assert checks.start_spread(function)


@pytest.mark.parametrize(
    ("function", "part"),
    [
        (lambda x: x.square().sum(1).mean().sqrt(), "Subtract the mean"),
        (lambda x: (x - x.mean()).square().sum(1).mean().sqrt(), "One mean for x"),
        (lambda x: by_variance(x) ** 2, "Take the root"),
        (lambda x: x.var(dim=0, unbiased=False).mean().sqrt(), "Add x and y"),
        (lambda x: (x - x.mean(0)).norm(dim=1).mean(), "Square before"),
        (lambda x: x.std(dim=0, unbiased=False), "One number"),
        (lambda x: 5.0, "got 5, expected "),
    ],
)
def test_spread_names_the_mistake(function, part):
    assert says(checks.start_spread(function), part)


def test_unknown_words_go_before_the_cut_and_u_must_be_below_the_share():
    def cut_first(prompt, table, length):
        ids = [table[word] for word in prompt.lower().split()[: length - 1] if word in table]
        return ([START] + ids + [PAD] * length)[:length]

    assert says(checks.tokenise(cut_first), "drop them first")
    assert says(checks.drop_captions(lambda i, e, s, u: torch.where((u <= s)[:, None], e, i)), "BELOW")


# --- 09.7 a negative prompt, 09.8 a mean ------------------------------------------------------------------------------


def two_by_two(model, noise, times, text, negative, s):
    x = noise
    for i in range(len(times) - 1):
        t = times[i].repeat(2 * len(x))
        v = model(torch.cat((x, x)), t, torch.cat((negative, text)))
        x = x + (times[i + 1] - times[i]) * torch.lerp(v[: len(x)], v[len(x) :], float(s))
    return x


def asked_twice(model, noise, times, text, negative, s):
    x = noise
    for t, t_next in pairwise(times):
        w, u = (model(x, t.expand(len(x)), given) for given in (text, negative))
        x = x - (t - t_next) * (u + s * (w - u))
    return x


def packaged_away(model, noise, times, text, negative, s):
    """The package's guidance, with the negative prompt where the empty caption stands (pipeline.py)."""
    velocity_fn = guided(model, text=text, null_text=negative, cfg_scale=s)
    for t, t_next in pairwise(times):
        noise = noise - (t - t_next) * velocity_fn(noise, t.expand(len(noise)))
    return noise


def walk_with(velocity, at=0, sign=1, stale=False):
    def sampler(model, noise, times, text, negative, s):
        x = noise
        for pair in pairwise(times):
            here = noise if stale else x
            w, u = model(torch.cat([here, here]), pair[at].expand(2 * len(x)), torch.cat([text, negative])).chunk(2)
            x = x - sign * (pair[0] - pair[1]) * velocity(w, u, s)
        return x

    return sampler


@pytest.mark.parametrize(
    "sampler",
    [
        packaged_away,
        checks.reference_away,
        two_by_two,
        lambda *c: two_by_two(*c).tolist(),
        lambda *c: two_by_two(*c).numpy(),
    ],
)
def test_a_sampler_with_a_negative_prompt_in_any_right_form(sampler):
    assert checks.sample_away(sampler)


@pytest.mark.parametrize(
    ("sampler", "told"),
    [
        (asked_twice, "more than once a step"),
        (lambda m, x, ts, a, b, s: two_by_two(m, x, ts, b, a, s), "swapped"),
        (lambda m, x, ts, a, b, s: two_by_two(m, x, ts, a, b, s + 1), "paper's w"),
        (lambda m, x, ts, a, b, s: two_by_two(m, x, ts, a, a, s), "not used at all"),
        (lambda m, x, ts, a, b, s: two_by_two(m, x, ts[[0, -1]], a, b, s), "One step over"),
        (walk_with(lambda w, u, s: s * (w - u)), "add unwanted"),
        (walk_with(lambda w, u, s: u + s * (w - u), at=1), "still at t"),
        (walk_with(lambda w, u, s: u + s * (w - u), sign=-1), "misconception 14"),
        (walk_with(lambda w, u, s: u + s * (w - u), stale=True), "about the noise at every step"),
        (walk_with(lambda w, u, s: u), "only"),
        (lambda m, x, ts, a, b, s: m(x, ts[0], a), "one time for each sample"),
        (lambda m, x, ts, a, b, s: m(x, ts[:1].expand(len(x)), torch.cat([a, b])), "differ"),
        (lambda m, x, ts, a, b, s: 2 * x - two_by_two(m, x, ts, a, b, s), "only"),
        (lambda m, x, ts, a, b, s: x, "only"),
    ],
)
def test_a_sampler_with_a_negative_prompt_names_the_mistake(sampler, told):
    assert says(checks.sample_away(sampler), told)


def row_by_row(words, ids):
    return torch.stack([row[own != 0].mean(0) for row, own in zip(words, ids, strict=True)])


@pytest.mark.parametrize(
    "mean",
    [
        checks.real_mean,
        row_by_row,
        lambda w, i: row_by_row(w, i).tolist(),
        lambda w, i: torch.einsum("bld,bl->bd", w, (i != 0) / (i != 0).sum(1, keepdim=True)),
    ],
)
def test_a_mean_of_real_words_in_any_right_form(mean):
    assert checks.mended_mean(mean)


@pytest.mark.parametrize(
    ("mean", "told"),
    [
        (lambda w, i: w.mean(1), "still the mean with the bug"),
        (lambda w, i: (w * (i != 0)[..., None]).mean(1), "still in the count"),
        (lambda w, i: (w * (i != 0)[..., None]).sum(1), "That is the sum"),
        (lambda w, i: w[:, 0], "first vector alone"),
        (lambda w, i: (w * (i != 0)[..., None]).sum(1) / (i != 0).sum(), "count is that of the whole batch"),
        (lambda w, i: row_by_row(w, (i == PAD).long()).nan_to_num(), "averages the padding"),
        (lambda w, i: w.sum(1) / (i != 0).sum(1, keepdim=True), "only"),
        (lambda w, i: (w * (i > 2)[..., None]).sum(1) / (i > 2).sum(1, keepdim=True).clamp(min=1), "start token"),
        (lambda w, i: row_by_row(w[:, 1:], i[:, 1:]).nan_to_num(), "start token"),
        (lambda w, i: row_by_row(w, i).T, "expected (3, 5)"),
    ],
)
def test_a_mean_names_the_mistake(mean, told):
    assert says(checks.mended_mean(mean), told)
