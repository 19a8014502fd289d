"""The pictures of lesson 08 are drawn, the same each time, and show what they are given."""

import pytest
import torch

from sora_edu.config import DiTConfig
from sora_edu.course.lesson_08 import figures
from sora_edu.model.dit import timestep_embedding
from sora_edu.model.image_dit import ImageDiTConfig

TIMES = torch.linspace(0, 1, 9)
GATES = torch.rand(7, 4, 2, generator=torch.Generator().manual_seed(0))
REACH = torch.zeros(2, 3, 3).index_fill(0, torch.tensor([1]), 0.5)
CONFIGS = {"original": ImageDiTConfig(width=64, heads=4), "ours": DiTConfig()}

PICTURES = {
    "block": lambda: figures.show_block(),
    "times": lambda: figures.show_time_codes(timestep_embedding(TIMES, 32), TIMES.tolist()),
    "twelve": lambda: figures.show_twelve(),
    "parts": lambda: figures.show_parts(CONFIGS, {"ours": (5, 4, 4)}, title="two"),
    "costs": lambda: figures.draw_costs(12, 768, 2, 1),
    "gates": lambda: figures.show_gates({"one": GATES, "two": GATES / 2}, "step", (0, 7)),
    "reach": lambda: figures.show_reach({"one": REACH, "two": REACH + 0.1}),
}


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_small_and_the_same_each_time(name):
    png = PICTURES[name]().png()
    assert png == PICTURES[name]().png() and png.startswith(b"\x89PNG") and len(png) < 60_000


@pytest.mark.parametrize("control", ["depth", "width", "patch", "frames"])
def test_every_control_of_the_calculator_changes_the_picture(control):
    first = {"depth": 12, "width": 768, "patch": 2, "frames": 1}
    moved = {"depth": 15, "width": 1152, "patch": 4, "frames": 4}
    assert figures.draw_costs(**first).png() != figures.draw_costs(**first | {control: moved[control]}).png()


def test_the_calculator_writes_the_sums_of_b_2():
    figure = figures.draw_costs(12, 768, 2, 1)
    texts = [text.get_text() for ax in figure.axes for text in ax.texts]
    assert {"130.5", "675.1", "23.01", "118.62"} <= set(texts)
    assert "256 tokens" in figure.get_suptitle() and "5.75 TMACs" in figure.get_suptitle()
