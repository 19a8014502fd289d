"""The figures of lesson 07 draw what they are given, the same bytes every time."""

import pytest
import torch

from sora_edu.course.lesson_07 import figures
from sora_edu.course.toy2d import ring
from sora_edu.diffusion.sampling import euler, sde

DATA = ring()
CLOUD = DATA.sample(50, generator=torch.Generator().manual_seed(0))
NOISE = torch.randn(5, 2, generator=torch.Generator().manual_seed(1))
PATH = figures.path_of(euler, DATA.velocity, NOISE, steps=3)


@pytest.mark.parametrize(
    "draw",
    [
        lambda: figures.show_clouds([CLOUD, NOISE], ["a", "b"]),
        lambda: figures.show_clouds([CLOUD[:5]] * 3, ["a", "b", "c"], start=NOISE, columns=2),
        lambda: figures.show_answers(CLOUD, CLOUD + 1, CLOUD[0], torch.ones(2), lines=4),
        lambda: figures.show_field(DATA.velocity, {0.9: CLOUD, 0.1: CLOUD}, arrows=4),
        lambda: figures.show_paths([PATH, PATH], ["a", "b"], CLOUD),
        lambda: figures.draw_start(1.0, -0.5, 4),
        lambda: figures.show_training({"eps": [1.0] * 60}, {"eps": 0.5}),
        lambda: figures.show_errors({"Euler": ([1, 2], [1, 0.5])}, xlabel="n", ylabel="error", floor=0.1),
    ],
)
def test_each_figure_draws_the_same_bytes_twice(draw):
    png = draw().png()
    assert png == draw().png() and 1000 < len(png) < 90_000


def test_a_path_begins_at_the_noise_and_ends_at_the_sample():
    assert PATH.shape == (4, 5, 2) and torch.equal(PATH[0], NOISE)
    assert torch.equal(PATH[-1], euler(DATA.velocity, NOISE, steps=3))
    again = [figures.path_of(sde, DATA.velocity, NOISE, steps=3, generator=torch.Generator().manual_seed(2))] * 2
    assert torch.equal(*again)


def test_every_control_of_the_start_changes_the_picture():
    first = figures.draw_start(1.0, -0.5, 4).png()
    for other in ((1.1, -0.5, 4), (1.0, -0.4, 4), (1.0, -0.5, 5)):
        assert figures.draw_start(*other).png() != first


def test_colours_follow_the_direction():
    colours = figures.hues(torch.tensor([[1.0, 0.0], [2.0, 0.0], [-1.0, 0.0]]))
    assert (colours[0] == colours[1]).all() and (colours[0] != colours[2]).any()
