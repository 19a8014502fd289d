"""The figures of lesson 05 draw what they are given, the same bytes every time."""

import pytest
import torch

from sora_edu.course.lesson_05 import figures


def studies(n: int) -> list[dict]:
    """Made-up models of different spread."""
    generator = torch.Generator().manual_seed(0)
    make = [torch.randn(9, 2, generator=generator) * 3**i for i in range(n)]
    return [{"codes": codes, "seen": torch.zeros(9, 1, 1, 6, 6), "made": torch.ones(16, 1, 1, 6, 6)} for codes in make]


@pytest.mark.parametrize("n", [1, 3])
def test_each_model_gets_a_row_of_codes_pairs_and_noise(n):
    discs, xy = torch.zeros(9, 1, 1, 6, 6), torch.rand(9, 2) * 10
    picture = figures.show_disc_vaes(studies(n), discs, xy, [f"model {i}" for i in range(n)])
    assert [ax.get_title() for ax in picture.axes[::3]] == [f"model {i}" for i in range(n)]
    assert len(picture.axes) == 3 * n and picture.png() == picture.png()


def test_all_codes_are_inside_the_frame():
    picture = figures.show_disc_vaes(studies(3)[2:], torch.zeros(9, 1, 1, 6, 6), torch.rand(9, 2), ["wide"])
    low, high = picture.axes[0].get_xlim()
    assert low < studies(3)[2]["codes"].min() and studies(3)[2]["codes"].max() < high


def test_the_trade_is_drawn_in_the_order_of_the_weights():
    table = {w: {"psnr": 20 - w, "reach": 15.0, "nats": 1 / w} for w in (1.0, 1e-3, 1e-1)}
    left, right = figures.show_trade(table).axes
    assert list(left.lines[0].get_xdata()) == [1e-3, 1e-1, 1.0]
    assert list(right.lines[0].get_ydata()) == pytest.approx([1000.0, 10.0, 1.0])


def test_channels_stand_under_the_frame_that_closes_them():
    z = torch.arange(4 * 3 * 2 * 2).reshape(4, 3, 2, 2).float()
    picture = figures.show_channels(torch.zeros(3, 9, 8, 8), z, [1, 3])
    assert [ax.get_title() for ax in picture.axes[:3]] == ["frame 0", "frame 4", "frame 8"]
    assert (picture.axes[8].images[0].get_array() == z[3, 2].numpy()).all()
