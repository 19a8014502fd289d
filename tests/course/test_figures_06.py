"""The figures of lesson 06 draw the same bytes twice, and the slider's picture follows its controls."""

import pytest
import torch

from sora_edu.course.lesson_06 import figures
from sora_edu.diffusion.noising import alpha_bars, cosine_betas, linear_betas
from sora_edu.errors import InputError

SCHEDULES = {"linear": alpha_bars(linear_betas()), "cosine": alpha_bars(cosine_betas())}


def image(*shape: int) -> torch.Tensor:
    """Numbers in [-1, 1], the same every time."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: figures.show_schedules(SCHEDULES),
        lambda: figures.show_snr([0.25, 0.5, 1.0], {"straight": [9.0, 1.0, 0.0]}, xlabel="t"),
        lambda: figures.show_histograms({"s = 1": {"one": image(50), "two": image(60)}}),
        lambda: figures.show_spectra(
            {"a": image(3, 8, 8)}, {"one": {"a": image(5).abs()}, "two": {"b": image(5).exp()}}
        ),
    ],
)
def test_a_figure_draws_the_same_bytes_twice(make):
    assert make().png() == make().png()


def test_the_dot_stands_where_noise_catches_up():
    ax = figures.show_schedules(SCHEDULES).axes[1]
    dots = [line.get_xdata()[0] for line in ax.lines if line.get_marker() == "o"]
    assert dots == [260, 497]


def test_the_scrubber_follows_step_and_schedule():
    draw = figures.scrubber(image(3, 12, 10), image(3, 9, 8, 8))
    first = draw(260, "linear")
    titles = [ax.get_title() for ax in first.axes]
    assert "s = 260" in titles[0] and "0.705 x_0" in titles[0] and "SNR = 0.991" in titles[1]
    assert first.png() == draw(260, "linear").png(), "the same noise each time"
    assert len({first.png(), draw(263, "linear").png(), draw(260, "cosine").png()}) == 3


def test_an_unknown_schedule_is_refused():
    with pytest.raises(InputError, match="'square' is none of linear, cosine"):
        figures.scrubber(image(3, 4, 4), image(3, 5, 4, 4))(1, "square")
