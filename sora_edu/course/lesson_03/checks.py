"""The checks of lesson 03, spacetime patches. Functions of learners are run on hidden videos of other sizes."""

from collections.abc import Callable

import torch
from einops import rearrange

from sora_edu.course.grading import (
    Result,
    Wrong,
    all_right,
    check_function,
    check_number,
    exercise,
    hint as hint,
    once_answered,
    wrong,
)
from sora_edu.model.patches import patchify
from sora_edu.model.spacetime import patchify_video


def videos(*sizes: tuple[int, int, int, int, int]) -> list[torch.Tensor]:
    """Random videos in [-1, 1], the same on every machine; every value is different, so that order shows."""
    generator = torch.Generator().manual_seed(3)
    return [torch.rand(size, generator=generator) * 2 - 1 for size in sizes]


def pattern(code: str) -> Callable:
    """A function of (video, pf, ph, pw) that follows an einops pattern with named sizes."""
    return lambda x, pf, ph, pw: rearrange(x, code, pf=pf, ph=ph, pw=pw)


def plain_reshape(x: torch.Tensor, pf: int, ph: int, pw: int) -> torch.Tensor:
    """What a learner gets who takes reshape for rearrange: the right shape, the wrong numbers."""
    return x.reshape(x.shape[0], -1, pf * ph * pw * x.shape[1])


def channels_last_reshape(x: torch.Tensor, pf: int, ph: int, pw: int) -> torch.Tensor:
    """The same with colours moved to the end first: lines of pixels, not boxes."""
    return plain_reshape(x.permute(0, 2, 3, 4, 1).reshape(x.shape), pf, ph, pw)


def frame_by_frame(x: torch.Tensor, pf: int, ph: int, pw: int) -> torch.Tensor:
    """Every frame cut on its own and laid end to end: tubelets of one frame, whatever pf is."""
    return torch.cat([patchify(frame, ph=ph, pw=pw) for frame in x.unbind(2)], dim=1)


def first_frames(x: torch.Tensor, pf: int, ph: int, pw: int) -> torch.Tensor:
    """One frame of each layer of time: what flat tokens keep."""
    return frame_by_frame(x[:, :, ::pf], pf, ph, pw)


@exercise("03.1")
def patchify_video_by_hand(function: object) -> Result:
    """A function ``(video, pf, ph, pw)`` that equals patchify_video."""
    first, second = videos((2, 3, 6, 6, 10), (1, 2, 12, 4, 6))
    head = "b c (nf pf) (nh ph) (nw pw) -> b"
    lines = "The shape is right and the numbers are not: reshape cuts along the lines of memory, not into boxes."
    return check_function(
        function,
        lambda x, pf, ph, pw: patchify_video(x, pf=pf, ph=ph, pw=pw),
        [(first, 2, 3, 2), (second, 3, 2, 1)],
        why="Boxes in the order time, down, right; in each, frames, rows, columns and colours.",
        recipe="Take lesson 02's pattern and add the frames in front: (nf nh nw) outside, (pf ph pw c) inside.",
        wrongs=[
            Wrong(plain_reshape, lines, 2),
            Wrong(channels_last_reshape, lines, 2),
            Wrong(
                frame_by_frame, "Each token holds one frame: that is flat, and pf is never used. Reach through time."
            ),
            Wrong(first_frames, "Flat tokens: only one frame of every pf is in them, the others are lost.", 5),
            Wrong(
                pattern(f"{head} (nf nh nw) (c pf ph pw)"), "The boxes are right, but colour comes last: (pf ph pw c)."
            ),
            Wrong(pattern(f"{head} (nf nh nw) (ph pw pf c)"), "In a token frames come first: (pf ph pw c)."),
            Wrong(pattern(f"{head} (nf nh nw) (ph pw c pf)"), "In a token frames come first: (pf ph pw c)."),
            Wrong(pattern(f"{head} (nf nh nw) (pf pw ph c)"), "Inside a box you read down the columns: ph before pw."),
            Wrong(pattern(f"{head} (nh nw nf) (pf ph pw c)"), "Time is the slowest axis of the grid: (nf nh nw)."),
            Wrong(pattern(f"{head} (nf nw nh) (pf ph pw c)"), "Boxes run left to right, then down: nh before nw.", 1),
            Wrong(
                pattern("b c (pf nf) (nh ph) (nw pw) -> b (nf nh nw) (pf ph pw c)"),
                "Each token holds frames that are nf apart; a tubelet holds neighbours: (nf pf), pf changing fastest.",
            ),
            Wrong(
                pattern(f"{head} (pf ph pw) (nf nh nw c)"), "Each token is a coarse copy of it all: n and p swapped.", 2
            ),
        ],
    )


@exercise("03.2")
@once_answered
def counts(answers: object) -> Result:
    """Tokens of four videos: flat, tubelets, tubelets of a portrait video, boxes of the tiny model's latent."""
    if isinstance(answers, torch.Tensor) or hasattr(answers, "tolist"):
        answers = answers.tolist()
    if not isinstance(answers, list | tuple) or len(answers) != 4:
        return wrong("expected four numbers, a, b, c and d")
    colours = "the three colours are inside a token; they do not make more of them."
    known = {
        "a": (
            1568,
            "8 frames, and 14 * 14 patches in each.",
            [
                Wrong(196, "196 is one frame; 8 frames are cut."),
                Wrong(3136, "16 frames are there, but only the 8 sampled ones become tokens.", 5),
                Wrong(4704, colours),
                Wrong(112, "14 is one row of the grid; a frame has 14 such rows."),
            ],
        ),
        "b": (
            1568,
            "16 / 2 layers of time, 224 / 16 down and 224 / 16 across.",
            [
                Wrong(196, "196 is one layer of time; there are 16 / 2 of them."),
                Wrong(3136, "16 frames make 16 / 2 layers, because a box is 2 frames deep."),
                Wrong(2940, "boxes lie side by side, so a frame is in one of them only: 16 / 2 layers, not 15."),
                Wrong(784, "a box is 2 frames deep, not 4."),
                Wrong(4704, colours),
            ],
        ),
        "c": (
            1024,
            "32 / 4 layers, 256 / 16 down, 128 / 16 across.",
            [
                Wrong(1568, "h and w differ from the others here: 256 / 16 down and 128 / 16 across."),
                Wrong(2048, "256 / 16 down, but only 128 / 16 across: the video is not square."),
                Wrong(512, "128 / 16 across, but 256 / 16 down: the video is not square."),
                Wrong(4096, "32 frames make 32 / 4 layers of boxes."),
                Wrong(128, "that is one layer of time; there are 32 / 4."),
            ],
        ),
        "d": (
            80,
            "5 / 1 layers, 8 / 2 down, 8 / 2 across.",
            [
                Wrong(16, "that is one latent frame; there are 5."),
                Wrong(320, "each box is 2 x 2 latent cells."),
                Wrong(64, "5 latent frames, each its own layer."),
                Wrong(1280, "the 16 channels are inside a token; they do not make more of them."),
                Wrong(5, "a latent frame is cut too: 4 * 4 boxes."),
            ],
        ),
    }
    parts = []
    for answer, (name, (expected, recipe, wrongs)) in zip(answers, known.items(), strict=True):
        parts.append(check_number(name, answer, expected, recipe=recipe, wrongs=wrongs))
    return all_right(
        *parts,
        why="8 * 196, 8 * 196 again, 8 * 16 * 8, and 5 * 4 * 4. "
        "a and b are as many, but a token of b is twice as long: 1,536 numbers against 768.",
    )


@exercise("03.3")
@once_answered
def changed(flat_6: object, flat_5: object, tubelets_6: object) -> Result:
    """Tokens that change: flat with frame 6 painted (not sampled), flat with frame 5 (sampled), tubelets with 6."""
    blind = "frames 0, 5, 10 and 15 are sampled; frame 6 is in no token, so nothing can tell that it changed."
    first = check_number(
        "flat_6",
        flat_6,
        0,
        recipe="Is frame 6 among the frames that are sampled?",
        wrongs=[
            Wrong(16, blind, 5),
            Wrong(64, blind, 5),
            Wrong(32, blind + " Its neighbour 5 is not it.", 5),
            Wrong(1, blind, 5),
        ],
    )
    second = check_number(
        "flat_5",
        flat_5,
        16,
        recipe="Frame 5 is sampled, and cut into 4 * 4 patches.",
        wrongs=[
            Wrong(0, "frame 5 is one of the sampled frames, 0, 5, 10 and 15."),
            Wrong(64, "the patches of the other three frames do not hold frame 5.", 5),
            Wrong(1, "the frame is cut into 4 * 4 patches, each a token."),
            Wrong(4, "4 is one row of patches; the frame has 4 rows."),
        ],
    )
    third = check_number(
        "tubelets_6",
        tubelets_6,
        16,
        recipe="Which layer of time holds frame 6, and how many boxes are in a layer?",
        wrongs=[
            Wrong(0, "every frame is in some tubelet; frame 6 is in the layer of frames 4 to 7."),
            Wrong(64, "only the layer of frames 4 to 7 holds frame 6."),
            Wrong(1, "the layer of frames 4 to 7 has 4 * 4 boxes, and the whole frame was painted."),
            Wrong(4, "4 is one row of boxes; a layer has 4 rows, and frame 6 is in one layer only."),
            Wrong(32, "boxes do not overlap; frame 6 is in the layer of frames 4 to 7 alone."),
        ],
    )
    return all_right(
        first,
        second,
        third,
        why="None, 16 and 16. Sampling decides what flat tokens can know; tubelets hold every frame.",
    )


@exercise("03.4")
def tower(function: object) -> Result:
    """A function ``(tokens, grid, place)`` that returns the tokens of one place in the order of time, b nf d."""
    first, second = videos((2, 1, 1, 30, 4), (1, 1, 1, 24, 3))
    cases = [(first[:, 0, 0], (5, 2, 3), 4), (second[:, 0, 0], (4, 3, 2), 0), (second[:, 0, 0], (2, 3, 4), 3)]
    cases.append((first[:, 0, 0], (5, 2, 3), 5))  # the last place of a layer ends the tokens, too
    return check_function(
        function,
        lambda tokens, grid, place: tokens[:, place :: grid[1] * grid[2]],
        cases,
        why="Time is the slowest axis, so the next token of the same place comes nh * nw later.",
        recipe="Token (i, y, x) has the number i * nh * nw + y * nw + x, and place is y * nw + x.",
        wrongs=[
            Wrong(
                lambda t, g, p: t[:, p : p + g[0]],
                "These are neighbours within one layer of time; the same place comes again nh * nw tokens later.",
            ),
            Wrong(
                lambda t, g, p: t[:, p * g[0] : (p + 1) * g[0]],
                "That would be right if time were the fastest axis; it is the slowest: (nf nh nw).",
            ),
            Wrong(
                lambda t, g, p: t[:, p :: g[0]], "The step is nh * nw, the tokens of a layer, not the number of layers."
            ),
            Wrong(lambda t, g, p: t[:, p :: g[2]], "The step is nh * nw: nw leads to the next row of the same layer."),
            Wrong(lambda t, g, p: t[:, p :: g[1]], "The step is nh * nw, the tokens of one layer of time."),
            Wrong(lambda t, g, p: t[:, p : p + 1], "That is the tower's first token only; it has nf of them."),
            Wrong(
                lambda t, g, p: t[:, p * g[1] * g[2] : (p + 1) * g[1] * g[2]],
                "That is a whole layer: all places at one time, instead of one place at all times.",
            ),
        ],
    )


@exercise("03.5")
@once_answered
def overlap(count: object, with_frame_0: object, with_frame_7: object) -> Result:
    """Tubelets of 4 frames that start every 2 frames, of 16x224x224: how many, and how often two frames occur."""
    first = check_number(
        "count",
        count,
        1372,
        recipe="Starts are 0, 2, 4, ... and the last box has to end with frame 15; 196 places for each start.",
        wrongs=[
            Wrong(784, "that is without overlap, a start every 4 frames."),
            Wrong(1568, "8 starts fit, but the last box would need frames 16 and 17: 7."),
            Wrong(2548, "that is a start at every frame; here it is every second one."),
            Wrong(7, "7 starts, and at each of them 196 places."),
            Wrong(7 * 729, "only time overlaps; in space the boxes lie side by side, 196 of them."),
            Wrong(392, "half the step gives more boxes, not fewer."),
        ],
    )
    second = check_number(
        "with_frame_0",
        with_frame_0,
        1,
        recipe="Which starts reach frame 0?",
        wrongs=[Wrong(2, "no box starts before frame 0, so only the first one holds it.")],
    )
    third = check_number(
        "with_frame_7",
        with_frame_7,
        2,
        recipe="Which of the boxes 0-3, 2-5, 4-7, 6-9, ... hold frame 7?",
        wrongs=[
            Wrong(1, "boxes 4-7 and 6-9 both hold it; that is what overlap means."),
            Wrong(4, "that would be a start at every frame."),
        ],
    )
    return all_right(
        first, second, third, why="7 * 196 = 1372. Inside, every frame is in two boxes; at the ends in one."
    )


@exercise("03.6")
@once_answered
def pairs(flat: object, tubelets: object) -> Result:
    """Pairs that one layer of full attention compares, for 64 flat tokens (4 frames of 16) and for 64 tubelets."""
    choice = "Which tokens may look at which is the attention's choice, made after the cutting."
    frame_only = "4 * 16 * 16 compares within one layer of time only. The layer was said to be full. "
    factorised = "space and then time is a factorised attention; here the layer is full. "
    wrongs = [
        Wrong(1024, frame_only + choice, 6),
        Wrong(256, "these are the pairs of a single frame or of time alone; all 64 tokens take part.", 6),
        Wrong(1280, factorised + choice, 6),
        Wrong(64, "64 counts the tokens; each of them looks at 64."),
        Wrong(4032, "a token looks at itself as well."),
        Wrong(2016, "a pair counts twice, as each of the two looks at the other, and itself as well."),
    ]
    recipe = "Every token looks at every token, itself included."
    first = check_number("pairs_of_flat_tokens", flat, 4096, recipe=recipe, wrongs=wrongs)
    second = check_number("pairs_of_tubelets", tubelets, 4096, recipe=recipe, wrongs=wrongs)
    return all_right(first, second, why="64 * 64 both times: attention sees a row of 64 tokens, not how they were cut.")
