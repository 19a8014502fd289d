"""Linear against torch's own, whichever library multiplies."""

import copy

import pytest
import torch
from torch import nn

from sora_edu.bench import linear
from sora_edu.bench.linear import Linear, swap_linear


@pytest.fixture(autouse=True)
def by_convolution(monkeypatch):
    """However small the product."""
    monkeypatch.setattr(linear, "LEAST_WORK", 1)


@pytest.fixture
def convolutions(monkeypatch):
    """Counts the calls of conv2d."""
    calls, real = [], linear.F.conv2d

    def counted(*args):
        calls.append(args)
        return real(*args)

    monkeypatch.setattr(linear.F, "conv2d", counted)
    return calls


def pair(inside=5, outside=7, **options):
    torch.manual_seed(0)
    ours, theirs = Linear(inside, outside, **options), nn.Linear(inside, outside, **options)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 3, 5), (2, 1, 3, 5), (1, 5)])
def test_values_and_gradients_are_torchs(shape, bias, convolutions):
    ours, theirs = pair(bias=bias)
    x = torch.randn(shape)
    results = []
    for layer in (ours, theirs):
        mine = x.clone().requires_grad_()
        y = layer(mine)
        y.square().sum().backward()
        results.append([y, mine.grad, *(p.grad for p in layer.parameters())])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)
    assert len(convolutions) == 1


@pytest.mark.parametrize("turn", [lambda x: x.transpose(0, 1), lambda x: x[:, ::2], lambda x: x[:1].expand(4, -1, -1)])
def test_strided_inputs_are_read_in_order(turn):
    ours, theirs = pair()
    x = turn(torch.randn(3, 6, 5))
    torch.testing.assert_close(ours(x), theirs(x))


def test_contiguous_inputs_are_not_copied(convolutions):
    x = torch.randn(2, 3, 5)
    y = Linear(5, 7)(x)
    assert convolutions[0][0].data_ptr() == x.data_ptr()
    assert convolutions[0][0].is_contiguous(memory_format=torch.channels_last) and y.is_contiguous()


def test_nothing_in_gives_nothing_out():
    assert Linear(5, 7)(torch.zeros(2, 0, 5)).shape == (2, 0, 7)


def test_other_precisions_devices_and_small_products_go_the_ordinary_way(convolutions, monkeypatch):
    layer = Linear(5, 7)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(3, 5)).dtype == torch.bfloat16
    assert copy.deepcopy(layer).double()(torch.randn(3, 5).double()).dtype == torch.float64
    assert layer.to("meta")(torch.zeros(3, 5, device="meta")).shape == (3, 7)
    monkeypatch.setattr(linear, "LEAST_WORK", 3 * 5 * 7)
    Linear(5, 7)(torch.randn(2, 5))
    assert not convolutions
    Linear(5, 7)(torch.randn(3, 5))
    assert len(convolutions) == 1


def test_wrong_widths_are_refused_and_named():
    for shape in ((4, 6), (5, 4)):  # the second has as many numbers as four rows of five
        with pytest.raises(RuntimeError, match=f"5 channels, but got {shape[-1]}"):
            Linear(5, 7)(torch.randn(shape))


def test_it_compiles_whole():
    ours, theirs = pair()
    x = torch.randn(3, 5)
    torch.testing.assert_close(torch.compile(ours, backend="aot_eager", fullgraph=True)(x), theirs(x))


def test_a_swap_changes_plain_linear_layers_and_no_others():
    class Special(nn.Linear):
        pass

    model = nn.Sequential(nn.Linear(5, 5), nn.Sequential(nn.Linear(5, 5)), Special(5, 5), nn.LayerNorm(5))
    names, x = list(model.state_dict()), torch.randn(3, 5)
    before = model(x)
    swap_linear(model)
    assert [type(part) for part in model] == [Linear, nn.Sequential, Special, nn.LayerNorm]
    assert type(model[1][0]) is Linear and list(model.state_dict()) == names
    torch.testing.assert_close(model(x), before)
