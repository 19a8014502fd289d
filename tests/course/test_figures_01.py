"""The pictures of lesson 01 show things where they are."""

import torch

from sora_edu.course.lesson_01 import figures


def test_a_stroboscope_shows_every_place():
    clip = -torch.ones(3, 9, 8, 8)
    for frame in range(9):
        clip[:, frame, 4, frame % 8] = 1.0
    assert figures.stroboscope(clip, every=2)[0, 4].tolist() == [1, -1, 1, -1, 1, -1, 1, -1]


def test_a_path_stands_where_the_object_is():
    video = -torch.ones(1, 3, 5, 32, 32)
    picture = figures.show_paths(video, torch.tensor([[[4.5, 20.5]] * 5]), ["path"])
    assert picture.axes[0].lines[0].get_xydata()[0].tolist() == [4.0, 20.0]  # the middle of column 4, row 20
