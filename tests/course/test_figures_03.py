"""The pictures of lesson 03 show what they say, and draw the same bytes every time."""

import pytest
import torch

from sora_edu.course.lesson_03 import figures

CLIP = torch.rand((3, 8, 8, 12), generator=torch.Generator().manual_seed(0)) * 2 - 1  # c f h w


def colours_of(drawing):
    """The set of colours in a drawing, as whole numbers."""
    return {tuple(c) for c in ((drawing.flatten(1).T + 1) * 127.5).round().int().tolist()}


def test_the_front_of_the_block_is_the_first_frame():
    block = figures.explode(CLIP, (8, 8, 12), zoom=1)
    assert torch.allclose(block[:, -7:-1, 1:11], CLIP[:, 0, 1:7, 1:11], atol=0.01)  # inside the outline, at the foot


def test_every_box_shows_its_front():
    drawing = figures.explode(CLIP, (4, 4, 4), zoom=1, pause=200)
    fronts = {tuple(c) for c in ((CLIP[:, ::4, 1, 1].T + 1) * 127.5).round().int().flatten(0, -2).tolist()}
    assert fronts <= colours_of(drawing)


def test_frames_that_are_not_kept_are_not_drawn():
    marked = torch.full((3, 8, 8, 12), 0.5)
    marked[:, 3] = -1.0
    black = (0, 0, 0)
    assert black in colours_of(figures.explode(marked, (1, 4, 4), kept=[0, 3], pause=9))
    assert black not in colours_of(figures.explode(marked, (1, 4, 4), kept=[0, 4], pause=9))


def test_only_one_tower_is_drawn_where_one_is_asked_for():
    marked = torch.full((3, 8, 8, 12), 0.5)
    marked[:, :, 4:, 8:] = -1.0  # place 5 of 2 x 3
    black = (0, 0, 0)
    assert black in colours_of(figures.explode(marked, (2, 4, 4), only=[5]))
    assert black not in colours_of(figures.explode(marked, (2, 4, 4), only=[0, 4]))


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_the_tower_numbers_its_tokens(depth):
    picture = figures.tower_of(CLIP, 4, 4, count=3)(4, depth)
    texts = {text.get_text() for axes in picture.axes for text in axes.texts}
    assert {str(layer * 6 + 4) for layer in range(8 // depth)} <= texts
    dots = [line.get_xdata()[0] for line in picture.axes[-1].lines if line.get_marker() == "o"]
    assert len(dots) == 3  # frames 0, 3, 7


def test_another_place_is_another_picture_and_the_same_place_the_same_bytes():
    draw = figures.tower_of(CLIP, 4, 4)
    assert draw(1, 4).png() == draw(1, 4).png() != draw(2, 4).png()


def test_sampled_frames_are_in_colour_and_the_others_pale():
    picture = figures.show_sampled(CLIP, [0, 7])
    means = [float(ax.images[0].get_array().mean()) for ax in picture.axes]
    assert max(means[0], means[7]) < min(means[1:7])
    assert [ax.get_title() for ax in picture.axes] == [str(i) for i in range(8)]


def test_cubes_stand_side_by_side():
    picture = figures.show_cubes({"a": figures.explode(CLIP, (8, 8, 12)), "b": figures.explode(CLIP, (4, 4, 4))})
    assert [ax.get_title() for ax in picture.axes] == ["a", "b"] and picture.png()
