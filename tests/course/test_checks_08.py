"""The checks of lesson 08 accept every right form, and tell the planted mistakes apart."""

import copy

import pytest
import torch
from einops import rearrange
from torch.nn import functional as F
from verdicts import says

from sora_edu.course.lesson_08 import checks
from sora_edu.model.attention import attend
from sora_edu.model.image_dit import DiTBlock


@pytest.mark.parametrize(
    "result",
    [
        lambda: checks.dit_block(lambda x, c, w, heads: ...),
        lambda: checks.new_block(..., ...),
        lambda: checks.new_block(0, ...),
        lambda: checks.parameters(lambda depth, d, patch: ..., ...),
        lambda: checks.parameters(lambda depth, d, patch: ..., 1),
        lambda: checks.macs(lambda depth, d, patch: ..., ...),
        lambda: checks.macs(lambda depth, d, patch: ..., 5.16),
        lambda: checks.rescue(..., ..., ...),
        lambda: checks.rescue(80.7, 15.2, ...),
        lambda: checks.touched(lambda f, x, index: ...),
        lambda: checks.mended_start(lambda block: ...),
        lambda: checks.mended_start(...),
    ],
)
def test_an_unfilled_exercise_is_not_answered_yet(result):
    assert result().verdict == "not answered yet"


# --- 08.1 -------------------------------------------------------------------------------------------------------------


def with_attend(x, c, w, heads):
    """The solution of the lesson."""
    six = F.linear(F.silu(c), w["modulation.weight"], w["modulation.bias"])[:, None].chunk(6, -1)
    y = F.layer_norm(x, x.shape[-1:]) * (1 + six[1]) + six[0]
    q, k, v = rearrange(
        F.linear(y, w["attention.qkv.weight"], w["attention.qkv.bias"]), "b n (t h e) -> t b h n e", t=3, h=heads
    )
    y = rearrange(attend(q, k, v), "b h n e -> b n (h e)")
    x = x + six[2] * F.linear(y, w["attention.out.weight"], w["attention.out.bias"])
    y = F.linear(F.layer_norm(x, x.shape[-1:]) * (1 + six[4]) + six[3], w["mlp.0.weight"], w["mlp.0.bias"])
    return x + six[5] * F.linear(F.gelu(y, approximate="tanh"), w["mlp.2.weight"], w["mlp.2.bias"])


def with_the_package(x, c, w, heads):
    """A DiTBlock with these weights: somebody may load them into the module."""
    block = DiTBlock(x.shape[-1], heads)
    block.load_state_dict(w)
    return block(x, c).detach().numpy()


@pytest.mark.parametrize("function", [with_attend, with_the_package, checks.variant()])
def test_a_block_in_any_right_form(function):
    assert checks.dit_block(function)


@pytest.mark.parametrize(
    ("fault", "part"),
    [
        ("gate", "Nothing is gated"),
        ("one", "1 + scale"),
        ("residual", "add gate * branch TO x"),
        ("norm", "first norm is missing"),
        ("silu", "SiLU"),
        ("heads", "one head"),
        ("width", "HEAD's width"),
        ("scores", "before the softmax"),
        ("gelu", "tanh"),
        ("parallel", "attention left behind"),
    ],
)
def test_a_block_names_the_mistake(fault, part):
    assert says(checks.dit_block(checks.variant(fault)), part)


@pytest.mark.parametrize(
    ("order", "part"),
    [((1, 0, 2, 4, 3, 5), "swapped"), ((3, 4, 5, 0, 1, 2), "first three"), ((0, 2, 4, 1, 3, 5), "shift, scale, gate")],
)
def test_a_block_names_a_wrong_order(order, part):
    assert says(checks.dit_block(checks.variant(order=order)), part)


def test_a_block_of_the_right_shape_and_wrong_values_is_not_right():
    assert says(checks.dit_block(lambda x, c, w, heads: x), "the shape is right")
    assert says(checks.dit_block(lambda x, c, w: x), "raised TypeError")


# --- 08.2 -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "awake"),
    [
        (0, {"gate_1", "gate_2"}),
        (0.0, ["gate_2", "gate_1"]),
        (torch.tensor(0.0), ("Gate_1", " gate_2")),
    ],
)
def test_a_new_block_in_any_right_form(change, awake):
    assert checks.new_block(change, awake)


@pytest.mark.parametrize(
    ("change", "awake", "part"),
    [
        (0, set(), "misconception 19"),
        (0, [], "misconception 19"),
        (0, {"attention", "mlp"}, "misconception 19"),
        (0, set(checks.NAMES), "on its way back"),
        (0, set(checks.NAMES[:6]), "INSIDE"),
        (0, {"gate_1"}, "gate_2"),
        (0, "gate_1", "gate_2"),
        (0, {"gate_1", "gate_2", "attention"}, "attention"),
        (0, {"gate"}, "not among"),
        (0, 3, "expected a set"),
        (1, {"gate_1", "gate_2"}, "how far"),
        (0.3, {"gate_1", "gate_2"}, "change"),
    ],
)
def test_a_new_block_names_the_mistake(change, awake, part):
    assert says(checks.new_block(change, awake), part)


def test_the_truth_is_measured():
    assert checks.measured_awake() == {"gate_1", "gate_2"}


# --- 08.3 -------------------------------------------------------------------------------------------------------------


def closed(depth, d, patch):
    """Everything in one line."""
    n = (32 // patch) ** 2
    ends = 4 * patch**2 * d + d + n * d + 256 * d + d * d + 2 * d + 1001 * d
    return depth * (18 * d * d + 15 * d) + ends + 2 * d * d + 2 * d + 8 * patch**2 * (d + 1)


@pytest.mark.parametrize("function", [closed, lambda *case: torch.tensor(closed(*case)), lambda *c: float(closed(*c))])
@pytest.mark.parametrize("ratio", [1, 0.9992, closed(28, 1152, 2) / closed(28, 1152, 8)])
def test_parameters_in_any_right_form(function, ratio):
    assert checks.parameters(function, ratio)


def test_the_two_numbers_that_the_lesson_quotes():
    assert closed(12, 768, 2) == 130_512_416 and closed(28, 1152, 2) == 675_129_632


@pytest.mark.parametrize(
    ("function", "part"),
    [
        (lambda L, d, p: closed(L, d, p) / 1e6, "not millions"),
        (lambda L, d, p: closed(L, d, p) - L * 6 * (d * d + d), "layer of the six vectors is missing"),
        (lambda L, d, p: closed(L, d, p) - (L - 1) * 6 * (d * d + d), "each block"),
        (lambda L, d, p: closed(L, d, p) - L * 15 * d - 6 * d - 8 * p * p, "biases"),
        (lambda L, d, p: closed(L, d, p) - (32 // p) ** 2 * d, "what is trained"),
        (lambda L, d, p: closed(L, d, p) - d, "no label"),
        (lambda L, d, p: closed(L, d, p) - 1001 * d, "labels are missing"),
        (lambda L, d, p: closed(L, d, p) - 4 * p * p * (d + 1), "variance"),
        (lambda L, d, p: closed(L, d, p) - 2 * d * d - 2 * d, "shift and a scale"),
        (lambda L, d, p: 130_512_416, "values|expected|got"),
        (lambda L, d, p: closed(L, d, 2), "got|values"),
    ],
)
def test_parameters_name_the_mistake(function, part):
    result = checks.parameters(function, 1)
    assert not result and any(p in result.text for p in part.split("|")), result


@pytest.mark.parametrize("ratio", [16, 4, 256, 1 / 16, 16.05])
def test_more_patches_are_not_more_parameters(ratio):
    assert says(checks.parameters(closed, ratio), "misconception 4")


# --- 08.4 -------------------------------------------------------------------------------------------------------------


def work(depth, d, patch, pairs=2, each=1):
    """GMACs by hand."""
    n = (32 // patch) ** 2
    block = 12 * n * d**2 + pairs * n**2 * d + each * 6 * d**2
    return (depth * block + n * 4 * patch**2 * d + 256 * d + 3 * d**2 + n * d * 8 * patch**2) / 1e9


def by_layers(depth, d, patch):
    """The same from a list of layers and how many rows each sees."""
    n = (32 // patch) ** 2
    block = [(d, 3 * d, n), (d, d, n), (d, 4 * d, n), (4 * d, d, n), (d, 6 * d, 1), (n, d, n), (n, d, n)]
    rest = [(4 * patch**2, d, n), (256, d, 1), (d, d, 1), (d, 2 * d, 1), (d, 8 * patch**2, n)]
    return sum(a * b * rows for a, b, rows in depth * block + rest) / 1e9


@pytest.mark.parametrize("function", [work, by_layers])
@pytest.mark.parametrize("ratio", [5.16, 118.62 / 23.01, 118.64 / 23.01])
def test_macs_in_any_right_form(function, ratio):
    assert checks.macs(function, ratio)


@pytest.mark.parametrize(
    ("function", "part"),
    [
        (lambda *case: 1e9 * work(*case), "divide by 1e9"),
        (lambda *case: 2 * work(*case), "FLOPs"),
        (lambda *case: work(*case, pairs=0), "misconception 7"),
        (lambda *case: work(*case, pairs=1), "pairs meet twice"),
        (lambda L, d, p: work(L, d, p, each=(32 // p) ** 2), "once a sample"),
        (lambda *case: work(*case, each=0), "six"),
        (lambda L, d, p: L * (12 * (32 // p) ** 2 * d * d + 2 * (32 // p) ** 4 * d + 6 * d * d) / 1e9, "nearly"),
        (lambda *case: closed(*case) / 1e9, "misconception 4"),
        (lambda *case: 23.01, "values|got"),
    ],
)
def test_macs_name_the_mistake(function, part):
    result = checks.macs(function, 5.16)
    assert not result and any(p in result.text for p in part.split("|")), result


@pytest.mark.parametrize(
    ("ratio", "part"),
    [
        (12, "stands in no paper"),
        (675.13 / 130.51, "parameters"),
        (28 / 12, "wider"),
        (2.25, "deeper"),
        (0.194, "upside"),
    ],
)
def test_the_ratio_names_the_mistake(ratio, part):
    assert says(checks.macs(work, ratio), part)


# --- 08.5 -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [(80.71, 15.18, "XL/2"), (80.7, 118.64 * 0.128, "xl"), ([80.7], 15.2, "DiT-XL/2")])
def test_the_rescue_in_any_right_form(answer):
    assert checks.rescue(*answer)


@pytest.mark.parametrize(
    ("answer", "part"),
    [
        ((80.71, 15.18, "L/2"), "misconception 16"),
        ((80.71, 15.18, 2), "write 'L/2'"),
        ((80710, 15.18, "XL/2"), "l_2: that is in GMACs"),
        ((161.42, 15.18, "XL/2"), "FLOPs"),
        ((80.71, 118.62, "XL/2"), "128 steps"),
        ((80.71, 15184, "XL/2"), "xl_2: that is in GMACs"),
        ((0.0807, 15.18, "XL/2"), "l_2"),
    ],
)
def test_the_rescue_names_the_mistake(answer, part):
    assert says(checks.rescue(*answer), part)


# --- 08.6 -------------------------------------------------------------------------------------------------------------


def compare(f, x, index):
    """A tensor of True and False."""
    other = x.clone()
    other[:, index] += 1
    return ((f(other) - f(x)).abs() > 1e-6).any(-1)[0]


def by_gradient(f, x, index):
    """A list, from derivatives instead of a change."""
    x = x.clone().requires_grad_()
    out = f(x)[0]
    return [bool(torch.autograd.grad(row.sum(), x, retain_graph=True)[0][0, index].any()) for row in out]


def in_place(f, x, index):
    """Writes on its input, and keeps the batch."""
    before = f(x)
    x[:, index] *= -2
    return (before != f(x)).any(-1)


@pytest.mark.parametrize("function", [compare, by_gradient, in_place])
def test_touched_in_any_right_form(function):
    assert checks.touched(function)


@pytest.mark.parametrize(
    ("function", "part"),
    [
        (lambda f, x, index: [i >= index for i in range(x.shape[1])], "misconception 22"),
        (lambda f, x, index: [i == index + 1 for i in range(x.shape[1])], "misconception 22"),
        (lambda f, x, index: [i == index for i in range(x.shape[1])], "outputs, not the inputs"),
        (lambda f, x, index: [True] * x.shape[1], "measure, do not assume"),
        (lambda f, x, index: ~compare(f, x, index), "Turned over"),
        (lambda f, x, index: [i < index for i in range(x.shape[1])], "Those before only"),
        (lambda f, x, index: compare(f, x, -1), "a copy whose token"),
        (lambda f, x, index: compare(f, x, index).any(), "shape"),
    ],
)
def test_touched_names_the_mistake(function, part):
    assert says(checks.touched(function), part)


# --- 08.7 a start that never ends -------------------------------------------------------------------------------------


def zero(*layers):
    def start(block):
        for name in layers:
            layer = block.get_submodule(name)
            torch.nn.init.zeros_(layer.weight), torch.nn.init.zeros_(layer.bias)
        return block

    return start


def by_parameters(block):
    with torch.no_grad():
        for parameter in block.modulation.parameters():
            parameter.mul_(0)


def by_state(block):
    block.load_state_dict({k: 0 * v if "modulation" in k else v for k, v in block.state_dict().items()})


def of_a_copy(block):
    return zero("modulation")(copy.deepcopy(block))


def gates_alone(block):
    with torch.no_grad():
        for parameter in block.modulation.parameters():
            parameter.unflatten(0, (6, -1))[[2, 5]] = 0
    return block


def one_of_each(block):
    """The gate of attention, and what the MLP says."""
    zero("mlp.2")(block)
    with torch.no_grad():
        for parameter in block.modulation.parameters():
            parameter.unflatten(0, (6, -1))[2] = 0


@pytest.mark.parametrize(
    "start",
    [zero("modulation"), by_parameters, by_state, of_a_copy, gates_alone, one_of_each, zero("attention.out", "mlp.2")],
)
def test_a_start_in_any_right_form(start):
    assert checks.mended_start(start)
    assert checks.mended_start(lambda block: start(block) or block)


def test_a_start_leaves_the_learners_random_numbers_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    checks.mended_start(zero("modulation"))
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize(
    ("start", "told"),
    [
        (zero("modulation", "attention.out", "mlp.2"), "with the bug"),
        (zero("modulation", "attention.out"), "attention is asleep"),
        (zero("modulation", "mlp.2"), "MLP is asleep"),
        (lambda block: block, "Nothing was set"),
        (zero("attention.out"), "what the MLP says"),
        (zero("mlp.2"), "what attention says"),
        (lambda block: block.modulation.weight.data.fill_(float("nan")), "not the identity"),
        (zero("attention.qkv", "mlp.0"), "what attention and the MLP say"),
        (lambda block: torch.nn.init.zeros_(block.modulation.weight), "weight AND bias"),
        (lambda block: [p.data.zero_() for p in block.parameters()], "both are zero"),
        (lambda block: block.modulation.nothing, "in your line `(lambda block: block.modulation.nothing"),
    ],
)
def test_a_start_names_the_mistake(start, told):
    assert says(checks.mended_start(start), told)
