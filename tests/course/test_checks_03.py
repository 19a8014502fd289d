"""The checks of lesson 03 accept every right form, and tell the planted mistakes apart."""

import numpy as np
import pytest
import torch
from einops import rearrange
from verdicts import says

from sora_edu.course.lesson_03 import checks
from sora_edu.model.patches import patchify
from sora_edu.model.spacetime import flat_frame_tokens, patchify_video, sliding_tubelets


@pytest.mark.parametrize(
    "result",
    [
        lambda: checks.patchify_video_by_hand(lambda video, pf, ph, pw: ...),
        lambda: checks.counts([..., ..., ..., ...]),
        lambda: checks.counts([1568, 1568, ..., 80]),
        lambda: checks.changed(..., ..., ...),
        lambda: checks.changed(0, 16, None),
        lambda: checks.tower(lambda tokens, grid, place: ...),
        lambda: checks.overlap(..., 1, 2),
        lambda: checks.pairs(..., ...),
    ],
)
def test_an_unfilled_exercise_is_not_answered_yet(result):
    assert result().verdict == "not answered yet"


# --- patchify_video ---------------------------------------------------------------------------------------------------


def by_permute(video, pf, ph, pw):
    """reshape and permute alone."""
    b, c, f, h, w = video.shape
    boxes = video.reshape(b, c, f // pf, pf, h // ph, ph, w // pw, pw)
    return boxes.permute(0, 2, 4, 6, 3, 5, 7, 1).reshape(b, -1, pf * ph * pw * c)


def by_loops(video, pf, ph, pw):
    """Three loops."""
    f, h, w = video.shape[2:]
    tokens = []
    for t in range(0, f, pf):
        for y in range(0, h, ph):
            for x in range(0, w, pw):
                tokens.append(rearrange(video[:, :, t : t + pf, y : y + ph, x : x + pw], "b ... -> b ..."))
    return torch.stack([rearrange(box, "b c f h w -> b (f h w c)") for box in tokens], dim=1)


def from_images(video, pf, ph, pw):
    """Lesson 02's patchify on frames stacked as channels, in numpy."""
    stacked = rearrange(video, "b c (nf pf) h w -> (b nf) (pf c) h w", pf=pf)
    patches = patchify(stacked, ph=ph, pw=pw)
    order = "(b nf) n (ph pw pf c) -> b (nf n) (pf ph pw c)"
    return rearrange(patches, order, b=len(video), ph=ph, pw=pw, pf=pf).numpy()


@pytest.mark.parametrize("function", [by_permute, by_loops, from_images])
def test_patchify_video_in_any_right_form(function):
    assert checks.patchify_video_by_hand(function)


def code(pattern):
    return lambda video, pf, ph, pw: rearrange(video, pattern, pf=pf, ph=ph, pw=pw)


HEAD = "b c (nf pf) (nh ph) (nw pw) ->"


@pytest.mark.parametrize(
    ("function", "part"),
    [
        (lambda v, pf, ph, pw: v.reshape(len(v), -1, pf * ph * pw * v.shape[1]), "misconception 2"),
        (lambda v, pf, ph, pw: v.movedim(1, -1).reshape(len(v), -1, pf * ph * pw * v.shape[1]), "misconception 2"),
        (code(f"{HEAD} b (pf ph pw) (nf nh nw c)"), "misconception 2"),
        (lambda v, pf, ph, pw: flat_frame_tokens(v, count=v.shape[2], ph=ph, pw=pw), "that is flat"),
        (lambda v, pf, ph, pw: patchify_video(v[:, :, ::pf], pf=1, ph=ph, pw=pw), "misconception 5"),
        (code(f"{HEAD} b (nf nh nw) (c pf ph pw)"), "colour comes last"),
        (code(f"{HEAD} b (nf nh nw) (ph pw pf c)"), "frames come first"),
        (code(f"{HEAD} b (nf nh nw) (pf pw ph c)"), "ph before pw"),
        (code(f"{HEAD} b (nh nw nf) (pf ph pw c)"), "slowest axis"),
        (code(f"{HEAD} b (nf nw nh) (pf ph pw c)"), "misconception 1"),
        (code("b c (pf nf) (nh ph) (nw pw) -> b (nf nh nw) (pf ph pw c)"), "apart"),
        (code(f"{HEAD} b nf nh nw (pf ph pw c)"), "shape"),
        (lambda v, pf, ph, pw: v.nothing, "raised AttributeError"),
        (lambda v, pf, ph, pw: torch.zeros(2, 30, 36), "values are"),  # the right shape of the first hidden video
    ],
)
def test_patchify_video_names_the_mistake(function, part):
    assert says(checks.patchify_video_by_hand(function), part)


# --- counts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        [1568, 1568, 1024, 80],
        (8 * 196, 8 * 14 * 14.0, 8 * 16 * 8, 5 * 16),
        torch.tensor([1568, 1568, 1024, 80]),
        np.array([1568, 1568, 1024, 80]),
    ],
)
def test_counts_in_any_form(answer):
    assert checks.counts(answer)


def test_the_counts_are_those_of_the_package():
    shapes = [(16, 224, 224), (32, 256, 128), (5, 8, 8)]
    boxes = [(2, 16, 16), (4, 16, 16), (1, 2, 2)]
    counted = [
        patchify_video(torch.zeros(1, 1, *shape), pf=box[0], ph=box[1], pw=box[2]).shape[1]
        for shape, box in zip(shapes, boxes, strict=True)
    ]
    flat = flat_frame_tokens(torch.zeros(1, 1, 16, 224, 224), count=8, ph=16, pw=16).shape[1]
    assert checks.counts([flat, *counted])


@pytest.mark.parametrize(
    ("index", "value", "part"),
    [
        (0, 196, "a: 196 is one frame"),
        (0, 3136, "misconception 5"),
        (0, 4704, "colours"),
        (1, 196, "one layer"),
        (1, 3136, "16 / 2 layers"),
        (1, 2940, "side by side"),
        (1, 1000, "b: got 1000, which is not right. 16 / 2"),
        (2, 2048, "not square"),
        (2, 4096, "32 / 4"),
        (3, 16, "one latent frame"),
        (3, 320, "2 x 2"),
        (3, 1280, "channels"),
        (3, "eighty", "expected one number"),
    ],
)
def test_counts_name_the_mistake(index, value, part):
    answer = [1568, 1568, 1024, 80]
    answer[index] = value
    assert says(checks.counts(answer), part)


def test_counts_of_another_form_are_refused():
    assert says(checks.counts(1568), "four numbers") and says(checks.counts([1568, 1568]), "four numbers")


# --- changed ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [(0, 16, 16), (torch.tensor(0), 4 * 4, np.int64(16)), ([0], 16.0, 16)])
def test_changed_tokens_in_any_form(answer):
    assert checks.changed(*answer)


def test_changed_tokens_are_those_of_the_package():
    (video,) = checks.videos((1, 3, 16, 32, 32))
    painted = {frame: video.clone() for frame in (5, 6)}
    for frame, clip in painted.items():
        clip[:, :, frame] = 1.0

    def count(cut, frame):
        return int((cut(video) != cut(painted[frame])).any(-1).sum())

    def flat(x):
        return flat_frame_tokens(x, count=4, ph=8, pw=8)

    assert checks.changed(count(flat, 6), count(flat, 5), count(lambda x: patchify_video(x, pf=4, ph=8, pw=8), 6))


@pytest.mark.parametrize(
    ("answer", "part"),
    [
        ((16, 16, 16), "misconception 5"),
        ((64, 16, 16), "misconception 5"),
        ((0, 64, 16), "misconception 5"),
        ((0, 0, 16), "one of the sampled"),
        ((0, 16, 0), "every frame is in some tubelet"),
        ((0, 16, 64), "only the layer"),
        ((0, 16, 4), "one row"),
        ((7, 16, 16), "among the frames"),
    ],
)
def test_changed_tokens_name_the_mistake(answer, part):
    assert says(checks.changed(*answer), part)


# --- tower ------------------------------------------------------------------------------------------------------------


def by_grid(tokens, grid, place):
    """Lay the tokens on their grid."""
    laid = tokens.reshape(len(tokens), *grid, -1)
    return laid[:, :, place // grid[2], place % grid[2]]


def by_numbers(tokens, grid, place):
    """A list of token numbers."""
    return tokens[:, [i * grid[1] * grid[2] + place for i in range(grid[0])]].numpy()


@pytest.mark.parametrize("function", [by_grid, by_numbers, lambda t, g, p: t[:, p :: g[1] * g[2]]])
def test_a_tower_in_any_right_form(function):
    assert checks.tower(function)


@pytest.mark.parametrize(
    ("function", "part"),
    [
        (lambda t, g, p: t[:, p : p + g[0]], "neighbours"),
        (lambda t, g, p: t[:, p * g[0] : (p + 1) * g[0]], "fastest"),
        (lambda t, g, p: t[:, p :: g[0]], "not the number of layers"),
        (lambda t, g, p: t[:, p :: g[2]], "next row"),
        (lambda t, g, p: t[:, p : p + 1], "first token only"),
        (lambda t, g, p: t.reshape(len(t), *g, -1)[:, g[0] - 1].flatten(1, 2), "whole layer"),
        (lambda t, g, p: t[:, p], "shape"),
        (lambda t, g, p: t[:, 4::6], "place"),  # made for the first hidden case
        (lambda t, g, p: t[p, 99], "raised IndexError"),
    ],
)
def test_a_tower_names_the_mistake(function, part):
    assert says(checks.tower(function), part)


# --- overlap ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [(1372, 1, 2), (7 * 196.0, torch.tensor(1), np.int64(2)), ([1372], 1, 2)])
def test_overlap_in_any_form(answer):
    assert checks.overlap(*answer)


def test_overlap_is_that_of_the_package():
    frames = torch.arange(16.0).view(1, 1, 16, 1, 1).expand(1, 1, 16, 14, 14)
    boxes = sliding_tubelets(frames, patch=(4, 1, 1), stride=(2, 1, 1))
    held = [int((boxes[0, ::196] == frame).any(-1).sum()) for frame in (0, 7)]
    assert checks.overlap(boxes.shape[1], *held)


@pytest.mark.parametrize(
    ("answer", "part"),
    [
        ((784, 1, 2), "without overlap"),
        ((1568, 1, 2), "last box"),
        ((2548, 1, 2), "every second"),
        ((7, 1, 2), "196 places"),
        ((5103, 1, 2), "only time overlaps"),
        ((1000, 1, 2), "Starts are 0, 2, 4"),
        ((1372, 2, 2), "before frame 0"),
        ((1372, 1, 1), "what overlap means"),
    ],
)
def test_overlap_names_the_mistake(answer, part):
    assert says(checks.overlap(*answer), part)


# --- pairs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [(4096, 4096), (64**2, torch.tensor(4096.0)), (np.int64(4096), [4096])])
def test_pairs_in_any_form(answer):
    assert checks.pairs(*answer)


@pytest.mark.parametrize(
    ("answer", "part"),
    [
        ((1024, 1280), "misconception 6"),
        ((4096, 1280), "misconception 6"),
        ((1024, 4096), "misconception 6"),
        ((4096, 256), "misconception 6"),
        ((64, 64), "counts the tokens"),
        ((4032, 4096), "itself as well"),
        ((2016, 4096), "counts twice"),
        ((5000, 4096), "Every token looks at every token"),
    ],
)
def test_pairs_name_the_mistake(answer, part):
    assert says(checks.pairs(*answer), part)
