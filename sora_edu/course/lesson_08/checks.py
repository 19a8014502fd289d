"""The checks of lesson 08, the diffusion transformer. Functions of learners run on hidden sizes and hidden weights."""

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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
    is_stub,
    not_a_function,
    once_answered,
    right,
    unanswered,
    wrong,
)
from sora_edu.model.image_dit import DiTBlock, ImageDiTConfig
from sora_edu.model.scaling import count_macs, macs_by_part, parameters_by_part

# --- 08.1: a block unaided ------------------------------------------------------------------------------------------


def norm(x: Tensor) -> Tensor:
    """Layer norm without weights."""
    return F.layer_norm(x, x.shape[-1:])


def attention(x: Tensor, w: dict[str, Tensor], heads: int, *, scale: float | None = None) -> Tensor:
    """Self-attention from the weights of a block."""
    b, n, d = x.shape
    q, k, v = F.linear(x, w["attention.qkv.weight"], w["attention.qkv.bias"]).reshape(b, n, 3, heads, -1).unbind(2)
    scores = torch.einsum("bnhc,bmhc->bhnm", q, k) * (scale or (d // heads) ** -0.5)
    y = torch.einsum("bhnm,bmhc->bnhc", scores.softmax(-1), v).reshape(b, n, d)
    return F.linear(y, w["attention.out.weight"], w["attention.out.bias"])


def mlp(x: Tensor, w: dict[str, Tensor], *, approximate: str = "tanh") -> Tensor:
    """The MLP from the weights of a block."""
    y = F.gelu(F.linear(x, w["mlp.0.weight"], w["mlp.0.bias"]), approximate=approximate)
    return F.linear(y, w["mlp.2.weight"], w["mlp.2.bias"])


def six(c: Tensor, w: dict[str, Tensor], *, silu: bool = True) -> list[Tensor]:
    """Shift, scale, gate, twice."""
    c = F.silu(c) if silu else c
    return list(F.linear(c, w["modulation.weight"], w["modulation.bias"])[:, None].chunk(6, -1))


def variant(fault: str = "", order: tuple[int, ...] = (0, 1, 2, 3, 4, 5)) -> Callable:
    """The block with one planted fault; "" is the block itself."""

    def block(x: Tensor, c: Tensor, w: dict[str, Tensor], heads: int) -> Tensor:
        s = six(c, w, silu=fault != "silu")
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = (s[i] for i in order)
        if fault == "gate":
            gate_1, gate_2 = 1.0, 1.0
        one = float(fault != "one")
        keep = float(fault != "residual")
        first = x if fault == "norm" else norm(x)
        scale = {"width": x.shape[-1] ** -0.5, "scores": 1.0}.get(fault)
        y = attention(first * (one + scale_1) + shift_1, w, 1 if fault == "heads" else heads, scale=scale)
        y = keep * x + gate_1 * y
        second = x if fault == "parallel" else y
        z = mlp(norm(second) * (one + scale_2) + shift_2, w, approximate="none" if fault == "gelu" else "tanh")
        return keep * y + gate_2 * z

    return block


def block_cases() -> list[tuple]:
    """Random tokens, steering and weights: no gate is zero any more."""
    generator = torch.Generator().manual_seed(8)
    cases = []
    for b, n, d, heads in ((2, 5, 12, 3), (3, 4, 16, 2)):
        w = {k: torch.randn(v.shape, generator=generator) * 0.4 for k, v in DiTBlock(d, heads).state_dict().items()}
        x, c = (torch.randn(size, generator=generator) for size in ((b, n, d), (b, d)))
        cases.append((x, c, w, heads))
    return cases


@exercise("08.1")
def dit_block(function: object) -> Result:
    """A function ``(x, c, w, heads)`` that does what DiTBlock does, from its weights alone."""
    return check_function(
        function,
        variant(),
        block_cases(),
        why="Norm, scale and shift, attention, gate, add; then the same with the MLP.",
        recipe="Six vectors from c; x + gate_1 * attention(norm(x) * (1 + scale_1) + shift_1); then the MLP alike.",
        wrongs=[
            Wrong(variant("gate"), "Nothing is gated: multiply what attention and MLP say before you add it."),
            Wrong(variant("one"), "Scale with 1 + scale: a scale of 0 would wipe out the tokens, not leave them."),
            Wrong(variant("residual"), "The input is lost: add gate * branch TO x."),
            Wrong(variant("norm"), "The first norm is missing: F.layer_norm(x, x.shape[-1:]) before scale and shift."),
            Wrong(variant("silu"), "c goes through SiLU before the linear layer that makes the six."),
            Wrong(variant("heads"), "You attended with one head of width d: split q, k and v into `heads` parts."),
            Wrong(variant("width"), "Scores are divided by the root of a HEAD's width, d / heads, not of d."),
            Wrong(variant("scores"), "Scores are divided by sqrt(d / heads) before the softmax."),
            Wrong(variant("gelu"), 'Nearly: the MLP has F.gelu(..., approximate="tanh").'),
            Wrong(variant("parallel"), "The MLP has to read what attention left behind, not the block's input."),
            Wrong(variant(order=(1, 0, 2, 4, 3, 5)), "Shift and scale are swapped: the order is shift, scale, gate."),
            Wrong(variant(order=(3, 4, 5, 0, 1, 2)), "The first three belong to attention, the last three to the MLP."),
            Wrong(
                variant(order=(0, 2, 4, 1, 3, 5)), "The order is shift, scale, gate for attention, then for the MLP."
            ),
        ],
        tolerance=1e-4,
    )


# --- 08.2: a new block ------------------------------------------------------------------------------------------------

NAMES = ("shift_1", "scale_1", "gate_1", "shift_2", "scale_2", "gate_2", "attention", "mlp")


def measured_awake() -> set[str]:
    """What has a gradient in a fresh block, measured."""
    generator = torch.Generator().manual_seed(0)
    block = DiTBlock(16, 2)
    x, c = torch.randn(2, 3, 16, generator=generator), torch.randn(2, 16, generator=generator)
    (block(x, c) - 1).square().mean().backward()
    found = {name for name, part in zip(NAMES, block.modulation.weight.grad.chunk(6), strict=False) if part.any()}
    return found | {name for name in NAMES[6:] if any(p.grad.any() for p in getattr(block, name).parameters())}


@exercise("08.2")
def new_block(change: object, awake: object) -> Result:
    """How far a new block changes its input, and which of its parts have a gradient that is not zero."""
    if unanswered(change) or awake is None or awake is Ellipsis:
        return Result("not answered yet")
    first = check_number(
        "change",
        change,
        0.0,
        recipe="With gate = 0, x + gate * anything is x.",
        wrongs=[Wrong(1, "the question is how far the output is from x, not how large it is.")],
    )
    if not first:
        return first
    names = [awake] if isinstance(awake, str) else list(awake) if isinstance(awake, set | list | tuple | dict) else None
    if names is None or not all(isinstance(name, str) for name in names):
        return wrong("awake: expected a set of names, such as {'attention', 'mlp'}; an empty set is set()")
    names = {name.strip().lower() for name in names}
    if unknown := names - set(NAMES):
        return wrong(f"awake: {sorted(unknown)} is not among {', '.join(NAMES)}")
    return awake_verdict(names, measured_awake())


def awake_verdict(names: set[str], truth: set[str]) -> Result:
    """Compare the names with what was measured."""
    if names == truth:
        return right("The gate multiplies what attention says: its gradient holds that, not the gate, so it can open.")
    if not names:
        return wrong("awake: something has to move. d(gate * y)/d(gate) = y, and y is not zero.", 19)
    if names == set(NAMES):
        return wrong("awake: attention's gradient is multiplied by the gate on its way back, and the gate is 0.")
    if names == set(NAMES[:6]):
        return wrong("awake: shift and scale act INSIDE a branch whose outcome is multiplied by a gate of 0.")
    if not names & truth:
        return wrong("awake: the gates are missing: d(gate * y)/d(gate) = y, and y is not zero.", 19)
    missing, extra = sorted(truth - names), sorted(names - truth)
    said = f"{missing} is missing" if missing else f"{extra} waits: its gradient is multiplied by a gate that is 0"
    return wrong(f"awake: {said}.")


# --- 08.7: a start that never ends ------------------------------------------------------------------------------------

PARTS = ("attention", "the MLP")


def added(block: DiTBlock, x: Tensor, c: Tensor) -> dict[str, bool]:
    """Which of the two branches change what a block gives back."""
    with torch.no_grad():
        shift, scale, gate = block.modulation(F.silu(c))[:, None].chunk(6, -1)[:3]
        first = gate * block.attention(norm(x) * (1 + scale) + shift)
        second = block(x, c) - x - first
    return {name: not y.abs().max() <= 1e-5 for name, y in zip(PARTS, (first, second), strict=True)}


def learned(block: DiTBlock, x: Tensor, c: Tensor) -> dict[str, bool]:
    """Which of the two branches move in three steps of training."""
    layers = dict(zip(PARTS, (block.attention, block.mlp), strict=True))
    before = {name: [p.detach().clone() for p in layer.parameters()] for name, layer in layers.items()}
    optimiser = torch.optim.SGD(block.parameters(), lr=0.05)
    for _ in range(3):
        optimiser.zero_grad()
        (block(x, c) - x.flip(1)).square().mean().backward()
        optimiser.step()
    return {
        name: any(not torch.equal(p, was) for p, was in zip(layer.parameters(), before[name], strict=True))
        for name, layer in layers.items()
    }


class Start:
    """A learner's start on a random block, and what comes of it; an error is told with a line of the learner's own."""

    def __init__(self, function: Callable):
        self.function = function
        self.__code__ = getattr(function, "__code__", None)

    def __call__(self, width: int, heads: int, seed: int) -> object:
        with torch.random.fork_rng(devices=[]):  # the learner's random numbers go on as if nothing had been drawn
            torch.manual_seed(seed)
            block = DiTBlock(width, heads)
            for parameter in block.parameters():
                nn.init.normal_(parameter, std=0.3)
            before = {name: value.clone() for name, value in block.state_dict().items()}
            answer = self.function(block)
            if answer is ... or is_stub(self.function):
                return ...
            block = answer if isinstance(answer, DiTBlock) else block
            x, c = torch.randn(3, 7, width), torch.randn(3, width)
            gates = [value.unflatten(0, (6, width))[[2, 5]] for value in block.modulation.parameters()]
            return {
                "nothing": all(torch.equal(value, before[name]) for name, value in block.state_dict().items()),
                "bias": not gates[0].any() and bool(gates[1].any()),
                "added": added(block, x, c),
                "learned": learned(block, x, c),
            }


def start_verdict(found: dict) -> Result:
    """What came of a start, in words."""
    loud = [name for name in PARTS if found["added"][name]]
    asleep = [name for name in PARTS if not found["learned"][name]]
    if found["nothing"]:
        return wrong("Nothing was set: a new block of random gates is not the identity.")
    if loud and found["bias"]:
        return wrong("The modulation's bias is random still, and so are the gates: set weight AND bias to zero.")
    if loud:
        heard = f"what {' and '.join(loud)} say{'s' * (len(loud) == 1)}, times a random gate, is still added to x"
        return wrong(f"It is not the identity: {heard}.")
    if len(asleep) == 2:
        bug = "This is still the start with the bug: gate * branch, and both are zero. Which gradient is not?"
        return wrong(bug, 19)
    if asleep:
        return wrong(f"It is the identity, but {asleep[0]} is asleep: its gate and its output are both zero.", 19)
    return right("The block hands its input through, and one factor of each product is not zero: it wakes in a step.")


@exercise("08.7")
def mended_start(function: object) -> Result:
    """A function that sets a random DiTBlock so that it is the identity, and can learn."""
    if (refusal := not_a_function(function, "a function of a block")) is not None:
        return refusal
    start = Start(function)
    for width, heads, seed in ((24, 3, 1), (16, 2, 2)):
        found = call_answer(start, (width, heads, seed), f"on a block of width {width} it")
        verdict = found if isinstance(found, Result) else start_verdict(found)
        if not verdict:
            recipe = "start_at_zero(block.modulation), weight and bias, and leave everything else as it is."
            return replace(verdict, recipe=recipe)
    return verdict


# --- 08.3 and 08.4: parameters and multiply-adds ---------------------------------------------------------------------


def config_of(depth: int, d: int, patch: int, **changes) -> ImageDiTConfig:
    """A DiT for latents of 32 x 32 x 4 and 1000 classes."""
    return ImageDiTConfig(**({"depth": depth, "width": d, "heads": 1, "patch": patch} | changes))


def parameter_sum(depth: int, d: int, patch: int, **changes) -> int:
    """All parameters of it."""
    return sum(parameters_by_part(config_of(depth, d, patch, **changes)).values())


def changed_sum(change: Callable[[int, int, int], int]) -> Callable:
    """The right sum and a mistake on top."""
    return lambda depth, d, patch: parameter_sum(depth, d, patch) + change(depth, d, patch)


@exercise("08.3")
@once_answered
def parameters(function: object, ratio: object) -> Result:
    """A function ``(depth, d, patch)`` that counts DiT's parameters, and those of XL/2 over those of XL/8."""
    biases = "the biases are missing: a linear layer from a to b has a * b + b parameters."
    first = check_function(
        function,
        parameter_sum,
        [(3, 64, 4), (12, 768, 2), (28, 1152, 2), (5, 96, 8)],
        name="dit_parameters",
        recipe="Go through the table line by line; a block has 18 d^2 + 15 d.",
        wrongs=[
            Wrong(lambda L, d, p: parameter_sum(L, d, p) / 1e6, "give the count itself, not millions."),
            Wrong(changed_sum(lambda L, d, p: -L * (6 * d * d + 6 * d)), "the layer of the six vectors is missing."),
            Wrong(
                changed_sum(lambda L, d, p: -(L - 1) * (6 * d * d + 6 * d)), "each block has a layer of six its own."
            ),
            Wrong(changed_sum(lambda L, d, p: -L * 15 * d - 6 * d - 8 * p * p), biases),
            Wrong(changed_sum(lambda L, d, p: -L * 15 * d), biases),
            Wrong(
                changed_sum(lambda L, d, p: -((32 // p) ** 2) * d),
                "that is what is trained. The published number counts the fixed positions as well, n * d.",
            ),
            Wrong(changed_sum(lambda L, d, p: -d), "the label for 'no label' is missing: 1001 rows."),
            Wrong(changed_sum(lambda L, d, p: -1001 * d), "the labels are missing: 1001 rows of d."),
            Wrong(
                lambda L, d, p: parameter_sum(L, d, p, learn_sigma=False),
                "DiT predicts a variance too: 8 channels out, not 4.",
            ),
            Wrong(changed_sum(lambda L, d, p: -(2 * d * d + 2 * d)), "the last layer has a shift and a scale, from c."),
        ],
        tolerance=0.5,
    )
    many = "the blocks never ask how many tokens there are; each token goes through the same weights."
    second = check_number(
        "ratio",
        ratio,
        parameter_sum(28, 1152, 2) / parameter_sum(28, 1152, 8),
        recipe="Which layers depend on the patch at all?",
        wrongs=[Wrong(value, many, 4) for value in (16, 4, 256, 2, 1 / 16, 1 / 4, 5.16)]
        + [Wrong(16.05, f"that is the ratio of the multiply-adds. {many}", 4)],
        tolerance=5e-3,
    )
    return all_right(
        first, second, why="130.5M for B/2 and 675.1M for XL/2, and XL/8 has the same: 16 times the tokens, no more."
    )


def gmacs(depth: int, d: int, patch: int, **parts: float) -> float:
    """Multiply-adds in thousands of millions; ``parts`` multiplies some of them."""
    shares = macs_by_part(config_of(depth, d, patch))
    return sum(value * parts.get(name, 1.0) for name, value in shares.items()) / 1e9


@exercise("08.4")
@once_answered
def macs(function: object, ratio: object) -> Result:
    """A function ``(depth, d, patch)`` that gives DiT's GMACs, and XL/2 over B/2."""

    def blocks_only(depth: int, d: int, patch: int) -> float:
        return gmacs(depth, d, patch, rest=0.0)

    def each_token(depth: int, d: int, patch: int) -> float:
        return gmacs(depth, d, patch, modulation=float((32 // patch) ** 2))

    first = check_function(
        function,
        gmacs,
        [(12, 768, 2), (28, 1152, 2), (7, 640, 2), (20, 1280, 4)],
        name="dit_gmacs",
        recipe="A block: 12 n d^2 for its linear layers, 2 n^2 d for the pairs, 6 d^2 for the six; n = (32 / patch)^2.",
        wrongs=[
            Wrong(lambda *case: gmacs(*case) * 1e9, "give GMACs: divide by 1e9."),
            Wrong(lambda *case: gmacs(*case) * 2, "these are FLOPs; a multiply-add counts once here, as in the paper."),
            Wrong(lambda *case: gmacs(*case, pairs=0.0), "attention's pairs are missing: 2 n^2 d a block.", 7),
            Wrong(lambda *case: gmacs(*case, pairs=0.5), "pairs meet twice: for the scores, and for the sum."),
            Wrong(each_token, "the six vectors are made once a sample, not once a token."),
            Wrong(lambda *case: gmacs(*case, modulation=0.0), "the layer of the six costs 6 d^2 a block."),
            Wrong(blocks_only, "nearly: patch embedding, time, last modulation and head are missing."),
            Wrong(lambda *case: parameter_sum(*case) / 1e9, "these are parameters; each is used once a TOKEN.", 4),
        ],
        tolerance=3e-3,
    )
    second = check_number(
        "ratio",
        ratio,
        count_macs(config_of(28, 1152, 2)) / count_macs(config_of(12, 768, 2)),
        recipe="118.62 over 23.01.",
        wrongs=[
            Wrong(12, "the popular 12 stands in no paper; count."),
            Wrong(parameter_sum(28, 1152, 2) / parameter_sum(12, 768, 2), "those are the parameters; close by."),
            Wrong(28 / 12, "XL is deeper, and wider too."),
            Wrong(2.25, "XL is wider, and deeper too."),
            Wrong(5.25, "nearly: depth times width squared; the pairs grow with width once only."),
            Wrong(23.01 / 118.62, "upside down."),
        ],
        tolerance=6e-3,
    )
    return all_right(first, second, why="23.01 and 118.6 GMACs: 5.16 times, not 12, so 16 / 5.16 would be 3.10.")


# --- 08.5: more steps, or more model ----------------------------------------------------------------------------------


@exercise("08.5")
@once_answered
def rescue(l_2: object, xl_2: object, better: object) -> Result:
    """TMACs for an image from L/2 in 1000 steps and from XL/2 in 128, and which images are better."""
    large, extra = (gmacs(*case) / 1e3 for case in ((24, 1024, 2), (28, 1152, 2)))
    first = check_work(
        "l_2",
        l_2,
        1000 * large,
        [Wrong(large, "that is one step."), Wrong(128 * large, "L/2 takes 1000 steps.")],
    )
    second = check_work(
        "xl_2",
        xl_2,
        128 * extra,
        [Wrong(extra, "that is one step."), Wrong(1000 * extra, "128 steps, not 1000.")],
    )
    return all_right(first, second, better_model(better), why="A fifth of the compute, and the better images.")


def check_work(name: str, answer: object, expected: float, wrongs: list[Wrong]) -> Result:
    """Compare a number of TMACs up to 0.3 %, so that rounding does not matter."""
    value = as_number(answer)
    wrongs = [
        *wrongs,
        Wrong(1000 * expected, "that is in GMACs; divide by 1000 for TMACs."),
        Wrong(2 * expected, "these are FLOPs; count multiply-adds."),
    ]
    known = next((w for w in wrongs if value is not None and math.isclose(value, w.answer, rel_tol=3e-3)), None)
    recipe = "GMACs a step, times the steps, divided by 1000."
    return (
        known.result(name) if known else check_number(name, answer, expected, recipe=recipe, tolerance=3e-3 * expected)
    )


def better_model(better: object) -> Result:
    """Which of the two makes better images."""
    name = better.strip().upper().removesuffix("/2").removeprefix("DIT-") if isinstance(better, str) else None
    if name == "L":
        return wrong("better: FID is a distance: smaller is better. 1000 steps did not make up for the model.", 16)
    return right() if name == "XL" else wrong("better: write 'L/2' or 'XL/2'")


# --- 08.6: who sees whom ----------------------------------------------------------------------------------------------


def mixer(kind: str, n: int, d: int) -> Callable[[Tensor], Tensor]:
    """A hidden network on tokens ``1 n d``: each token sees all, those before it, its own frame, or itself."""
    generator = torch.Generator().manual_seed(n)
    weight = torch.randn(d, d, generator=generator) / math.sqrt(d)
    look = torch.ones(n, n)
    if kind == "causal":
        look = look.tril()
    if kind == "frames":
        look = torch.block_diag(*[torch.ones(n // 2, n // 2)] * 2)
    if kind == "itself":
        look = torch.eye(n)
    look = look / look.sum(1, keepdim=True)
    return lambda x: torch.tanh(look @ x @ weight) + 1


def touched_reference(f: Callable, x: Tensor, index: int) -> Tensor:
    """Which of the outputs change when one token does."""
    other = x.clone()
    other[:, index] += 1
    return ((f(other) - f(x)).abs() > 1e-6).any(-1)[0].float()


@exercise("08.6")
def touched(function: object) -> Result:
    """A function ``(f, x, index)`` that says for each output token whether it changes with input token ``index``."""
    generator = torch.Generator().manual_seed(6)

    def case(kind: str, n: int, d: int, index: int) -> tuple:
        return mixer(kind, n, d), torch.randn(1, n, d, generator=generator), index

    def always(pick: Callable[[Tensor, int], Tensor]) -> Callable:
        return lambda f, x, index: pick(torch.arange(x.shape[1]), index).float()

    def shaped(f: Callable, x: Tensor, index: int) -> object:
        value = function(f, x, index)
        return value.reshape(-1) if isinstance(value, Tensor) and value.ndim > 1 else value

    causal = "That is a causal mask at work, written down and not measured: here the first output can see the last."
    return check_function(
        shaped if callable(function) else function,
        touched_reference,
        [case("all", 6, 4, 3), case("causal", 7, 3, 2), case("frames", 8, 5, 6), case("itself", 5, 4, 1)],
        why="It finds full attention, a causal mask and frames on their own. DiT has no mask: all outputs move.",
        recipe="Compare f(x) with f of a copy whose token `index` is changed; give one True or False a token.",
        wrongs=[
            Wrong(always(lambda i, index: i >= index), causal, 22),
            Wrong(always(lambda i, index: i == index + 1), "Only the NEXT token? " + causal, 22),
            Wrong(always(lambda i, index: i == index), "Measure the outputs, not the inputs: all may have changed."),
            Wrong(always(lambda i, index: i < index), "Those before only? Measure it: compare f(x) with f(changed x)."),
            Wrong(always(lambda i, index: i >= 0), "Not every network lets all see all: measure, do not assume."),
            Wrong(lambda f, x, index: 1 - touched_reference(f, x, index), "Turned over: True where it CHANGED."),
        ],
    )
