"""The checks of lesson 09, text and guidance. Functions of learners are run on hidden tables, batches and models."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from sora_edu.course.grading import (
    Result,
    Wrong,
    all_right,
    check_function,
    check_number,
    exercise,
    hint as hint,
    not_a_function,
    once_answered,
    wrong,
)
from sora_edu.model.tokenizer import PAD, START, UNKNOWN

# --- exercise 1: from words to ids ------------------------------------------------------------------------------------

WORDS = "a ball big blue circle drops falls grey huge large left moves navy on red rests ring star".split()
TABLE = {word: 3 + i for i, word in enumerate(WORDS)}


def to_ids(
    prompt: str, table: dict[str, int], length: int, *, unknown: int | None = None, start=True, cut=True, pad=PAD
):
    """Ids of a prompt; words that are not in the table are left out, or become the id ``unknown``."""
    ids = [table.get(word, unknown) for word in prompt.lower().split()]
    ids = [START] * start + [i for i in ids if i is not None]
    ids = ids[:length] if cut else ids
    return ids + [pad] * (length - len(ids))


@exercise("09.1")
def tokenise(function: object) -> Result:
    """A function ``(prompt, table, length)`` that gives the list of ids, as training made them."""

    def twin(**options) -> Callable:
        return lambda prompt, table, length: to_ids(prompt, table, length, **options)

    other = {word: 40 - 2 * i for i, word in enumerate(WORDS)}
    lost = "A word that is not in the table made a token. Training never showed it one: leave the word out."
    return check_function(
        function,
        to_ids,
        [
            ("a pink star drops", TABLE, 8),
            ("a huge blue ring rests on a purple couch", other, 12),
            ("a big red ball moves left on a grey planet", TABLE, 6),
            ("a pink big shiny star moves left", TABLE, 5),
        ],
        why="<start>, the known words in order, then padding; what is unknown leaves no trace, and too long is cut.",
        recipe="Put START first, then table[word] for each known word; cut to length, and fill up with PAD at the end.",
        wrongs=[
            Wrong(twin(unknown=UNKNOWN), lost),
            Wrong(twin(unknown=PAD), "PAD inside the sentence: the mask marks it as nothing, but it takes a place."),
            Wrong(twin(start=False), "The start token is missing: without it the empty caption would be no token."),
            Wrong(twin(cut=False), "A prompt that is too long has to be cut to length: all rows are one tensor."),
            Wrong(
                lambda prompt, table, length: to_ids(" ".join(prompt.lower().split()[: length - 1]), table, length),
                "Words that are not in the table were cut along: drop them first, then cut to length.",
            ),
            Wrong(twin(pad=UNKNOWN), "The end is filled with PAD, 0: the mask is ids != PAD."),
            Wrong(
                lambda prompt, table, length: ([PAD] * length + twin(cut=False)(prompt, table, 0))[-length:],
                "Padding goes to the end: training saw the start token in the first place.",
            ),
        ],
    )


# --- exercise 2: caption dropout --------------------------------------------------------------------------------------


def drop_rows(ids: Tensor, empty: Tensor, share: float, u: Tensor) -> Tensor:
    """Where u < share the whole row becomes the empty caption."""
    return torch.where((u < share)[:, None], empty, ids)


@exercise("09.2")
def drop_captions(function: object) -> Result:
    """A function ``(ids, empty, share, u)`` that replaces captions by the empty one; u is uniform, one a caption."""
    cases = []
    for seed, (b, length), share in ((3, (7, 5), 0.3), (4, (6, 9), 0.5), (5, (5, 6), 0.0)):
        generator = torch.Generator().manual_seed(seed)
        ids = torch.randint(3, 30, (b, length), generator=generator)
        ids[:, 0] = START
        ids[: b // 2, -2:] = PAD
        empty = torch.full((1, length), PAD)
        empty[0, 0] = START
        u = torch.linspace(0.05, 0.95, b)  # the first is below every share but 0: "all or none" shows itself
        u[1:] = u[1:][torch.randperm(b - 1, generator=generator)]
        u[-1] = share  # not below it
        cases.append((ids, empty, share, u))

    def nothing(ids, empty, share, u):
        return torch.where((u < share)[:, None], torch.full_like(ids, PAD), ids)

    def words(ids, empty, share, u):
        lost = (u < share)[:, None] & (ids > UNKNOWN)
        return torch.where(lost, torch.full_like(ids, UNKNOWN), ids)

    def all_or_none(ids, empty, share, u):
        return empty.expand_as(ids) if bool(u[0] < share) else ids

    return check_function(
        function,
        drop_rows,
        cases,
        why="Each caption is kept whole or dropped whole, on its own, and the empty one still has its start token.",
        recipe="One u for each row: torch.where((u < share)[:, None], empty, ids).",
        wrongs=[
            Wrong(
                lambda i, e, s, u: torch.where((u <= s)[:, None], e, i),
                "A caption whose u equals the share was dropped: drop where u is BELOW it.",
            ),
            Wrong(nothing, "Only padding is left, no start token: the mask allows nothing, and softmax gives NaN."),
            Wrong(
                lambda i, e, s, u: torch.where((u < s)[:, None], i, e),
                "Turned round: share is how many are dropped, not how many are kept.",
            ),
            Wrong(
                lambda i, e, s, u: torch.where((u > s)[:, None], e, i),
                "Turned round: share is how many are dropped, not how many are kept.",
            ),
            Wrong(lambda i, e, s, u: i, "No caption was dropped."),
            Wrong(words, "A caption of unknown words is not the empty caption that sampling asks for: use empty."),
            Wrong(all_or_none, "You dropped all captions of the batch, or none: each row has its own u."),
            Wrong(lambda i, e, s, u: i[u >= s], "You threw clips away: a clip whose caption is dropped stays."),
        ],
    )


# --- exercise 3: numbers of guidance ----------------------------------------------------------------------------------


@once_answered
def scales(plain: object, ignores: object, w: object) -> Result:
    """The cfg_scale of the plain conditional model, the one that ignores the prompt, and the paper's w for 3."""
    first = check_number(
        "plain",
        plain,
        1,
        recipe="For which s does uncond + s * (cond - uncond) leave cond alone?",
        wrongs=[
            Wrong(0, "at s = 0 only uncond is left; the prompt is not read at all. w = 0 is plain.", 18),
            Wrong(0.5, "at s = 0.5 half of uncond is still there."),
            Wrong(3, "3 is this course's default, and it is guidance already."),
        ],
    )
    second = check_number(
        "ignores",
        ignores,
        0,
        recipe="For which s does cond drop out of uncond + s * (cond - uncond)?",
        wrongs=[
            Wrong(1, "at s = 1 cond alone is left, which reads the prompt.", 18),
            Wrong(-1, "that is the paper's w; our s is w + 1."),
        ],
    )
    third = check_number(
        "w",
        w,
        2,
        recipe="(1 + w) cond - w uncond is uncond + s (cond - uncond); compare the factors of cond.",
        wrongs=[
            Wrong(3, "the paper counts what is added to the plain conditional model: w = s - 1.", 18),
            Wrong(4, "the other way round: w = s - 1."),
        ],
    )
    return all_right(first, second, third, why="s = 1 is plain, s = 0 ignores the prompt, and w = s - 1.")


@once_answered
def passes(guided_clip: object, plain_clip: object, equal_steps: object) -> Result:
    """Passes of a clip in 25 Euler steps at s = 3 and at s = 1, and the guided steps that 50 plain ones pay for."""
    first = check_number(
        "guided_passes",
        guided_clip,
        50,
        recipe="Each step needs the velocity with the prompt and the one without.",
        wrongs=[
            Wrong(25, "one call of a batch of two is still two passes of arithmetic.", 17),
            Wrong(26, "the velocity without prompt depends on x_t: it is new at every step.", 17),
            Wrong(75, "s multiplies a difference, it does not repeat the model."),
            Wrong(100, "Euler looks once a step (Heun twice); with and without prompt makes 2."),
        ],
    )
    second = check_number(
        "plain_passes",
        plain_clip,
        25,
        recipe="What stays of the formula at s = 1?",
        wrongs=[Wrong(50, "at s = 1 uncond drops out, and the package does not compute it.")],
    )
    third = check_number(
        "equal_steps",
        equal_steps,
        25,
        recipe="50 passes, two a step.",
        wrongs=[
            Wrong(50, "50 guided steps are 100 passes.", 17),
            Wrong(100, "the other way round: a guided step costs two passes.", 17),
        ],
    )
    return all_right(first, second, third, why="Guidance doubles the arithmetic of every step.")


@exercise("09.3")
@once_answered
def numbers_of_guidance(answers: object) -> Result:
    """A dict of six numbers: ``plain``, ``ignores``, ``w``, ``guided_passes``, ``plain_passes``, ``equal_steps``."""
    names = ("plain", "ignores", "w", "guided_passes", "plain_passes", "equal_steps")
    if not isinstance(answers, dict) or set(names) - set(answers):
        return wrong(f"expected a dict with the keys {', '.join(names)}")
    values = [answers[name] for name in names]
    why = "s = 1 is plain, s = 0 ignores the prompt, w = s - 1, and every guided step costs two passes."
    return all_right(scales(*values[:3]), passes(*values[3:]), why=why)


# --- exercise 4: the guided velocity ----------------------------------------------------------------------------------


class Model:
    """A velocity that depends on x_t, t and text, and counts how often it is asked."""

    def __init__(self):
        self.calls = 0

    def __call__(self, x_t: Tensor, t: Tensor, text: Tensor) -> Tensor:
        self.calls += 1
        if t.ndim != 1:
            raise ValueError(f"t has shape {tuple(t.shape)}; give one time for each sample")
        if not len(x_t) == len(t) == len(text):
            raise ValueError(f"batches of x_t {len(x_t)}, t {len(t)} and text {len(text)} differ")
        shift = (text.square().mean(1) + t).reshape(-1, *[1] * (x_t.ndim - 1))
        return torch.sin(2 * x_t * shift) + shift

    def __repr__(self) -> str:
        return "a model"


def reference_velocity(x_t: Tensor, t: Tensor, text: Tensor, null_text: Tensor, s: float) -> Tensor:
    """The formula in two passes."""
    cond, uncond = Model()(x_t, t, text), Model()(x_t, t, null_text)
    return uncond + s * (cond - uncond)


@exercise("09.4")
def guided_velocity(function: object) -> Result:
    """A function ``(model, x_t, t, text, null_text, s)`` that equals the guided velocity, in one call of the model."""
    generator = torch.Generator().manual_seed(9)
    counted = []
    cases = []
    for b, rest, s in ((3, (2, 5), 3.0), (2, (4, 3, 2), 7.5), (4, (6,), 0.0), (5, (3,), 1.0), (2, (5,), 0.5)):
        x_t, t = torch.randn(b, *rest, generator=generator), torch.rand(b, generator=generator)
        cases.append((x_t, t, torch.randn(b, 7, generator=generator), torch.zeros(b, 7) + 0.1, s))

    def run(*case):
        model = Model()
        value = function(model, *case)
        counted.append((model.calls, case[-1]))
        return value

    def variant(formula: Callable) -> Callable:
        return lambda x, t, text, null, s: formula(Model()(x, t, text), Model()(x, t, null), s)

    if (refusal := not_a_function(function, "a function")) is not None:
        return refusal
    paper = "That is the paper's w: at s = 0 it is plain conditional, but ours is unconditional there. s = w + 1."
    verdict = check_function(
        run,
        reference_velocity,
        cases,
        why="uncond + s (cond - uncond), both halves in one batch: s = 0 ignores the text, s = 1 is plain.",
        recipe="Stack x_t, t and (text, null_text) with torch.cat, call the model once, chunk(2), then the formula.",
        wrongs=[
            Wrong(variant(lambda c, u, s: c + s * (c - u)), paper, 18),
            Wrong(variant(lambda c, u, s: c + s * (u - c)), "Prompt and null are swapped: s pushes away from it."),
            Wrong(variant(lambda c, u, s: u + s * c), "Add s times the difference (cond - uncond), not s times cond."),
            Wrong(variant(lambda c, u, s: s * c), "Scaling the velocity makes larger steps; it does not steer."),
            Wrong(variant(lambda c, u, s: c), "That is plain conditional at every s: where is uncond?"),
            Wrong(
                variant(lambda c, u, s: (u + s * (c - u)) / max(s, 1)), "Do not divide: at s = 3 a part of u is left."
            ),
        ],
    )
    twice = any(calls > 1 for calls, s in counted if s not in (0, 1))
    if verdict and twice:
        return wrong("Every value is right, but the model was called twice; put both halves into one batch.")
    return verdict


# --- exercise 7: a negative prompt ------------------------------------------------------------------------------------


def walked(
    velocity: Callable, *, time: Callable = lambda t, t_next: t, sign: float = 1.0, stale: bool = False
) -> Callable:
    """A sampler that walks with ``velocity`` (wanted, unwanted, s), asked at ``time`` (t, t_next).

    stale: it asks about the noise again and again.
    """

    def sampler(model: Callable, noise: Tensor, times: Tensor, text: Tensor, negative: Tensor, s: float) -> Tensor:
        x_t, both = noise, torch.cat([text, negative])
        for t, t_next in pairwise(times):
            at = time(t, t_next).expand(2 * len(x_t))
            here = noise if stale else x_t
            wanted, unwanted = model(torch.cat([here, here]), at, both).chunk(2)
            x_t = x_t - sign * (t - t_next) * velocity(wanted, unwanted, s)
        return x_t

    return sampler


reference_away = walked(lambda wanted, unwanted, s: unwanted + s * (wanted - unwanted))


@exercise("09.7")
def sample_away(function: object) -> Result:
    """A function ``(model, noise, times, text, negative, s)``: a guided Euler walk away from a negative prompt."""
    if (refusal := not_a_function(function, "a function")) is not None:
        return refusal
    generator = torch.Generator().manual_seed(97)
    cases = []
    for b, rest, s, times in (
        (3, (2, 5), 3.0, [1.0, 0.6, 0.5, 0.0]),
        (2, (4, 3, 2), 1.5, [1.0, 0.2, 0.0]),
        (4, (6,), 0.0, [0.9, 0.7, 0.0]),
    ):
        text, negative = torch.randn(2, b, 7, generator=generator)
        cases.append((Model(), torch.randn(b, *rest, generator=generator), torch.tensor(times), text, negative, s))

    def twin(sampler: Callable) -> Callable:
        """The sampler on a model of its own, so that the learner's counts the learner's calls alone."""
        return lambda model, *case: sampler(Model(), *case)

    verdict = check_function(
        function,
        twin(reference_away),
        cases,
        why="Each step leads to the prompt and away from the negative one, for two passes, as guidance always does.",
        recipe="Exercise 07.3's loop; in it one call on (x_t, x_t), (t, t), (text, negative), chunk(2), the formula.",
        wrongs=[
            Wrong(twin(walked(lambda w, u, s: w + s * (u - w))), "The prompts are swapped: it leads to the negative."),
            Wrong(twin(walked(lambda w, u, s: w + s * (w - u))), "That is the paper's w: one more than s counts.", 18),
            Wrong(twin(walked(lambda w, u, s: w)), "The negative prompt is not used at all."),
            Wrong(twin(walked(lambda w, u, s: s * (w - u))), "The difference alone is no velocity: add unwanted."),
            Wrong(
                twin(walked(lambda w, u, s: u + s * (w - u), stale=True)),
                "You ask about the noise at every step; ask about x_t, where the sample is now.",
            ),
            Wrong(
                twin(walked(lambda w, u, s: u + s * (w - u), time=lambda t, t_next: t_next)),
                "You asked at t_next; the sample is still at t.",
            ),
            Wrong(
                twin(walked(lambda w, u, s: u + s * (w - u), sign=-1.0)),
                "You walk away from the data: the velocity points to the noise, so subtract it.",
                14,
            ),
            Wrong(
                twin(lambda model, noise, times, *rest: reference_away(model, noise, times[[0, -1]], *rest)),
                "One step over the whole way. Ask again after each step.",
                12,
            ),
        ],
    )
    if verdict and any(model.calls > len(times) - 1 for model, _, times, *_ in cases):
        return wrong("It ends at the right place, but asks the model more than once a step: put both into one batch.")
    return verdict


# --- exercise 8: a mean that hears the padding ------------------------------------------------------------------------


def real_mean(words: Tensor, ids: Tensor) -> Tensor:
    """The mean of the vectors of real words."""
    real = (ids != PAD)[..., None]
    return (words * real).sum(1) / real.sum(1)


@exercise("09.8")
def mended_mean(function: object) -> Result:
    """A function ``(words, ids)`` that averages the vectors of real words, ``b l d`` and ``b l`` to ``b d``."""
    generator = torch.Generator().manual_seed(98)
    cases = []
    for b, length, d, kept in ((3, 7, 5, (7, 3, 1)), (2, 5, 4, (2, 4)), (1, 6, 3, (6,))):
        ids = torch.randint(3, 30, (b, length), generator=generator)
        ids[:, 0] = START
        for row, places in enumerate(kept):
            ids[row, places:] = PAD
        cases.append((torch.randn(b, length, d, generator=generator), ids))

    def masked(words: Tensor, ids: Tensor) -> Tensor:
        return words * (ids != PAD)[..., None]

    return check_function(
        function,
        real_mean,
        cases,
        why="Padding counts neither above nor below the line, so a caption means the same in a row of any length.",
        recipe="Multiply by (ids != PAD)[..., None], sum over the words, divide by how many are real in each row.",
        wrongs=[
            Wrong(lambda w, i: w.mean(1), "This is still the mean with the bug. How many of the vectors are words?"),
            Wrong(
                lambda w, i: masked(w, i).mean(1),
                "Padding is out of the sum, and still in the count: divide by the number of real words.",
            ),
            Wrong(lambda w, i: masked(w, i).sum(1), "That is the sum; a long caption would be a loud one."),
            Wrong(
                lambda w, i: masked(w, i).sum(1) / (i != PAD).sum(),
                "The count is that of the whole batch; each row has its own.",
            ),
            Wrong(
                lambda w, i: masked(w, i)[:, 1:].sum(1) / (i != PAD)[:, 1:].sum(1, keepdim=True).clamp(min=1),
                "The start token is a real token too: the empty caption has nothing else.",
            ),
            Wrong(lambda w, i: w[:, 0], "That is the first vector alone, not the mean of the words."),
            Wrong(
                lambda w, i: (w * (i == PAD)[..., None]).sum(1) / (i == PAD).sum(1, keepdim=True).clamp(min=1),
                "Turned round: that averages the padding.",
            ),
        ],
    )


# --- exercise 5: the shuffled-caption control -------------------------------------------------------------------------


def right_tables() -> list[tuple[Tensor]]:
    """Tables of right[i, j], clip i against prompt j: mostly right on the diagonal, now and then elsewhere."""
    tables = []
    for seed, n, high, low in ((4, 12, 0.7, 0.3), (2, 7, 0.6, 0.3), (3, 20, 0.9, 0.1)):
        u = torch.rand(n, n, generator=torch.Generator().manual_seed(seed))
        tables.append((u < torch.where(torch.eye(n, dtype=torch.bool), torch.tensor(high), torch.tensor(low)),))
    return tables


def off_diagonal(table: Tensor) -> Tensor:
    """The entries of a square table that pair a clip with another clip's prompt."""
    return table[~torch.eye(len(table), dtype=torch.bool)]


@exercise("09.5")
def accuracy_and_floor(function: object) -> Result:
    """A function ``(right)`` that gives (accuracy, floor) from right[i, j]: clip i shows what prompt j says."""

    def reference(table):
        return [float(table.diagonal().double().mean()), float(off_diagonal(table).double().mean())]

    def with_own(table):
        return [reference(table)[0], float(table.double().mean())]

    def rolled(table):
        return [reference(table)[0], float(table.roll(1, 0).diagonal().double().mean())]

    def rolled_back(table):
        return [reference(table)[0], float(table.roll(1, 1).diagonal().double().mean())]

    return check_function(
        function,
        reference,
        right_tables(),
        why="The diagonal is each clip against its own prompt, the rest is agreement by chance.",
        recipe="accuracy is the mean of right.diagonal(), the floor the mean of all other entries (as floats).",
        tolerance=1e-6,
        wrongs=[
            Wrong(with_own, "The floor may not hold a clip's own prompt: take the diagonal out."),
            Wrong(lambda table: reference(table)[::-1], "The two are swapped: accuracy comes first."),
            Wrong(rolled, "One neighbour each is a fair control, but a noisy one: here take all other prompts."),
            Wrong(rolled_back, "One neighbour each is a fair control, but a noisy one: here take all other prompts."),
            Wrong(lambda t: [reference(t)[0], 1 / len(t)], "Chance is not 1 / n: prompts share colours and shapes."),
            Wrong(lambda t: [reference(t)[0], 0.0], "The floor is not 0: a clip can fit another's prompt by chance."),
            Wrong(lambda t: [reference(t)[0], 1 - reference(t)[0]], "The floor is not 1 - accuracy: measure it."),
        ],
    )


# --- exercise 6: diversity --------------------------------------------------------------------------------------------


@exercise("09.6")
def start_spread(function: object) -> Result:
    """A function ``(starts)`` of points ``n 2``: the root mean square distance from their mean."""

    def reference(points):
        return float((points - points.mean(0)).square().sum(1).mean().sqrt())

    generator = torch.Generator().manual_seed(6)
    cases = [(torch.randn(n, 2, generator=generator) * torch.tensor([5.0, 2.0]) + 16,) for n in (9, 30, 4)]
    return check_function(
        function,
        reference,
        cases,
        why="0 where all clips start at one place; the mean place itself, good or bad, plays no part.",
        recipe="Subtract the mean over clips, square, add x and y, take the mean over clips, then the root.",
        tolerance=1e-3,
        wrongs=[
            Wrong(lambda x: float(x.square().sum(1).mean().sqrt()), "Subtract the mean first: 16, 16 is no diversity."),
            Wrong(lambda x: float((x - x.mean()).square().sum(1).mean().sqrt()), "One mean for x and one for y."),
            Wrong(lambda x: float((x - x.mean(0)).square().sum(1).mean()), "Take the root: units, not square units."),
            Wrong(lambda x: float((x - x.mean(0)).square().mean().sqrt()), "Add x and y before the mean over clips."),
            Wrong(lambda x: float((x - x.mean(0)).norm(dim=1).mean()), "Square before the mean: root mean square."),
            Wrong(lambda x: float(x.diff(dim=0).square().sum(1).mean().sqrt()), "Compare with the mean, not the next."),
            Wrong(lambda x: x.std(0, unbiased=False), "One number: put x and y together."),
        ],
    )
