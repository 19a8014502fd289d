"""Figures draw the same bytes every time, stay small, and show what they are given."""

import base64
import io

import numpy as np
import pytest
import torch
from matplotlib.text import Text
from PIL import Image as Pillow

from sora_edu.course import plotting


def picture_of(figure) -> np.ndarray:
    """What a reader sees, as bytes h w 3."""
    return np.asarray(Pillow.open(io.BytesIO(figure.png())).convert("RGB"))


def figures() -> dict:
    """One of each kind, with unequal height and width."""
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(3, 32, 48, generator=generator) * 2 - 1
    video = torch.rand(2, 3, 5, 8, 12, generator=generator) * 2 - 1
    return {
        "image": lambda: plotting.show_image(image, "x_0: c h w"),
        "one channel": lambda: plotting.show_image(image[:1]),
        "grid": lambda: plotting.show_grid(video[0].movedim(0, 1), ["a", "b"], columns=3),
        "strip": lambda: plotting.show_strip(video, ["first", "second"], every=2),
        "curves": lambda: plotting.show_curves(
            [1, 2, 4], {"a": [1, 4, 9], "b": [1, 2, 3]}, xlabel="n", ylabel="y", log=True
        ),
    }


@pytest.mark.parametrize("kind", figures())
def test_a_figure_draws_the_same_bytes_again(kind):
    first, second = figures()[kind](), figures()[kind]()
    assert first.png() == second.png() == first.png()


@pytest.mark.parametrize("kind", figures())
def test_a_figure_shows_itself_in_a_notebook(kind):
    figure = figures()[kind]()
    shown = figure._repr_mimebundle_()
    assert base64.b64decode(shown["image/png"]) == figure.png()
    assert shown["text/plain"].startswith("<picture: ") and "0x" not in shown["text/plain"]


def test_no_figure_is_left_open_in_pyplot():
    import matplotlib.pyplot as plt

    plotting.show_image(torch.zeros(3, 4, 4)).png()
    assert plt.get_fignums() == []


@pytest.mark.parametrize(("value", "expected"), [(-1.0, 0), (1.0, 255), (-5.0, 0), (5.0, 255)])
def test_the_range_of_pixels_becomes_black_to_white(value, expected):
    seen = picture_of(plotting.show_image(torch.full((3, 8, 8), value)))
    assert abs(int(seen[seen.shape[0] // 2, seen.shape[1] // 2].mean()) - expected) <= 2


def test_the_first_row_is_at_the_top_and_time_runs_to_the_right():
    video = -torch.ones(1, 3, 2, 8, 8)
    video[:, :, 0, :4] = 1.0  # the upper half of the first frame is white
    seen = picture_of(plotting.show_strip(video)).mean(-1)
    height, width = seen.shape
    assert seen[height // 4, width // 4] > 200 > 50 > seen[3 * height // 4, width // 4]
    assert seen[height // 4, 3 * width // 4] < 50


def test_a_photograph_stays_below_sixty_kilobytes():
    generator = torch.Generator().manual_seed(0)
    rough = torch.rand(1, 3, 56, 56, generator=generator) * 2 - 1
    smooth = torch.nn.functional.interpolate(rough, size=(224, 224), mode="bilinear")[0]
    assert len(plotting.show_image(smooth).png()) < 60_000


def test_an_animation_holds_every_frame():
    video = torch.linspace(-1, 1, 5).view(1, 1, 5, 1, 1).expand(2, 3, 5, 4, 6)
    clip = plotting.animate(video, "two clips", zoom=2)
    moving = Pillow.open(io.BytesIO(base64.b64decode(clip._repr_mimebundle_()["image/png"])))
    assert moving.n_frames == 5 and moving.size == (2 * 6 * 2, 4 * 2)
    assert repr(clip) == "<clip: two clips>"


def test_a_long_title_does_not_widen_the_first_frame():
    video = torch.zeros(1, 3, 4, 8, 8)
    short, long = (plotting.show_strip(video, [title]) for title in ("a", "a very long title " * 3))
    assert short.png() != long.png()
    for one, other in zip(short.axes, long.axes, strict=True):
        assert np.allclose(one.get_position().bounds, other.get_position().bounds)


def test_a_table_names_rows_and_columns():
    ax = plotting.show_tables([torch.tensor([[0, 1, 0], [0, 0, 1]])], [["p", "q"]], [["u", "v", "w"]], ["t"]).axes[0]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["u", "v", "w"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["p", "q"] and ax.yaxis_inverted()


def texts_of(figure) -> list[str]:
    """What a drawn figure says."""
    figure.png()
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


PRICED = "a red circle costs $1 and falls 2$"


@pytest.mark.parametrize(
    "make",
    [
        lambda title: plotting.show_image(torch.zeros(3, 4, 4), title),
        lambda title: plotting.show_grid(torch.zeros(2, 3, 4, 4), [title, "b"]),
        lambda title: plotting.show_strip(torch.zeros(1, 3, 2, 4, 4), [title]),
        lambda title: plotting.show_curves([1, 2], {title: [1, 2], "b": [2, 3]}, xlabel=title, ylabel="y", title=title),
        lambda title: plotting.show_tables([torch.eye(2).long()], [[title, "b"]], [["c", "d"]], [title]),
    ],
)
def test_a_dollar_starts_no_formula(make):
    figure = make(PRICED)
    assert PRICED in texts_of(figure)
    assert all(not text.get_parse_math() for text in figure.findobj(Text) if text.get_text() == PRICED)
    make(r"unfinished $\frac{").png()


def test_powers_of_ten_at_an_axis_stay_formulas():
    figure = plotting.show_curves([1, 1000], {"a": [1, 1000]}, xlabel="n", ylabel="y", log=True)
    figure.png()
    assert all(text.get_parse_math() for text in figure.axes[0].get_xticklabels())


def test_no_character_turns_or_hides_the_others():
    assert "a \\u202ered\\x1b circle" in texts_of(plotting.show_image(torch.zeros(3, 4, 4), "a \u202ered\x1b circle"))
    assert repr(plotting.show_image(torch.zeros(3, 4, 4), "a \u202ered circle")) == r"<picture: a \u202ered circle>"
    assert repr(plotting.animate(torch.zeros(1, 3, 2, 4, 4), "two\nlines")) == r"<clip: two\nlines>"
    assert "\\udc80.png" in texts_of(plotting.show_strip(torch.zeros(1, 3, 2, 4, 4), ["\udc80.png"]))


def test_a_line_break_in_a_prompt_does_not_push_the_picture_down():
    broken, whole = (plotting.show_image(torch.zeros(3, 4, 4), f"a red{by}circle") for by in ("\n", " "))
    assert "a red\\ncircle" in texts_of(broken) and "a red circle" in texts_of(whole)
    assert np.allclose(broken.axes[0].get_position().bounds, whole.axes[0].get_position().bounds)
    assert "a red\\ncircle" in texts_of(plotting.show_strip(torch.zeros(1, 3, 2, 4, 4), ["a red\ncircle"]))
