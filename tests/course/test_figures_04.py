"""The figures of lesson 04 draw the same bytes twice, and their counts are those of the masks."""

import math

import pytest
import torch

from sora_edu.course.lesson_04 import figures
from sora_edu.model.sparse import factorised_masks, stride_mask, window_mask

GRID = (4, 4, 8)  # nf nh nw, n = 128


def test_pair_counts_are_the_masks_counts():
    space, time = factorised_masks(GRID)
    counted = {
        "full": 128 * 128,
        "space, then time": int(space.sum() + time.sum()),
        "windows": int(window_mask(GRID, (2, 4, 4)).sum()),
        "strides": int(stride_mask(GRID, (2, 2, 2)).sum()),
    }
    assert figures.pair_counts(GRID) == counted
    assert figures.pair_counts((8, 4, 4))["full"] == 16_384
    assert figures.pair_counts((8, 4, 4))["space, then time"] == 3_072


@pytest.mark.parametrize(
    "make",
    [
        lambda: figures.show_masks({"full": torch.ones(6, 6).bool(), "causal": torch.ones(6, 6).tril().bool()}),
        lambda: figures.show_looks(torch.zeros(3, 8, 16, 32), {"a map": torch.rand(128)}, grid=GRID, query=37),
        lambda: figures.show_looks(None, {"one": torch.zeros(128), "two": torch.ones(128)}, grid=GRID, query=0),
        lambda: figures.show_matrices({"a": torch.eye(4), "b": -torch.eye(5)}, xlabel=("x", "y"), ylabel="z"),
        lambda: figures.show_turns([(0, 2), (5, 7)]),
        lambda: figures.draw_costs(measured=False),
        lambda: figures.draw_costs(4, 8, 64, measured=False),
    ],
)
def test_each_figure_draws_the_same_bytes_twice(make):
    torch.manual_seed(0)
    first = make()
    torch.manual_seed(0)
    assert first.png() == make().png()


def test_titles_count_the_pairs():
    masks = {"causal": torch.ones(100, 100).tril().bool(), "full": torch.ones(100, 100).bool()}
    assert [ax.get_title() for ax in figures.show_masks(masks).axes[:2]] == [
        "causal: 5,050 pairs",
        "full: 10,000 pairs",
    ]


def test_the_red_frame_lies_around_the_query():
    figure = figures.show_looks(None, {"a": torch.ones(128)}, grid=GRID, query=2 * 32 + 1 * 8 + 5)
    framed = [(k, ax.lines[0].get_xydata()) for k, ax in enumerate(figure.axes) if ax.lines]
    ((step, corners),) = framed
    assert step == 2 and corners.min(0).tolist() == [4.5, 0.5] and corners.max(0).tolist() == [5.5, 1.5]


def test_measured_times_are_positive_and_the_sliders_change_the_picture():
    times = figures.time_attention((2, 4, 4), 64)
    assert list(times) == list(figures.pair_counts((2, 4, 4)))
    assert all(0 < t < math.inf for t in times.values())
    assert "milliseconds" in figures.draw_costs(2, 4, 64).axes[1].get_xlabel()
    assert figures.draw_costs(2, 4, 64, measured=False).png() != figures.draw_costs(4, 4, 64, measured=False).png()
