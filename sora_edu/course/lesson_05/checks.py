"""The checks of lesson 05, the video VAE. Functions of learners are run on hidden tensors of other sizes."""

from collections.abc import Callable, Mapping

import torch
from einops import rearrange
from torch.nn import functional as F

from sora_edu.course.grading import (
    Result,
    Wrong,
    all_right,
    as_number,
    check_function,
    check_number,
    exercise,
    hint as hint,
    once_answered,
    right,
    wrong,
)
from sora_edu.shapes import Video
from sora_edu.world.tracker.track import track

NEAR = 0.3  # dB that count as equally good
NOTHING_SAID = 0.1  # nats below which a code says nothing


def normals(seed: int, *sizes: tuple[int, ...]) -> list[torch.Tensor]:
    """Normal tensors of these sizes, the same on every machine."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(size, generator=generator) for size in sizes]


# --- 05.1 ------------------------------------------------------------------------------------------------------------


@exercise("05.1")
@once_answered
def counts(numbers_in: object, numbers_out: object, ratio: object, patched: object) -> Result:
    """Numbers in a clip of 17x32x32, in its latent of 16 channels and 5x8x8, their ratio, and what patching adds."""
    first = check_number(
        "numbers_in",
        numbers_in,
        52_224,
        recipe="Frames times height times width times colours.",
        wrongs=[
            Wrong(17_408, "those are pixels; each holds three numbers."),
            Wrong(3_072, "that is one frame; the clip has 17."),
        ],
    )
    second = check_number(
        "numbers_out",
        numbers_out,
        5_120,
        recipe="Channels times latent frames times latent height times latent width.",
        wrongs=[
            Wrong(320, "those are the places, 5 * 8 * 8; each place holds 16 channels."),
            Wrong(960, "a latent has no colours. Each place holds 16 channels, not 3."),
            Wrong(1_024, "that is one latent frame; there are 5."),
        ],
    )
    third = check_number(
        "ratio",
        ratio,
        10.2,
        recipe="Divide the numbers that go in by those that come out.",
        tolerance=0.06,
        wrongs=[
            Wrong(163.2, "you left out the 16 channels of the latent."),
            Wrong(54.4, "that is pixels over places; a pixel holds 3 numbers, a place 16."),
            Wrong(64, "4 * 4 * 4 is how many pixels share a place; the places then hold 16 numbers each."),
            Wrong(5_120 / 52_224, "upside down; how many times smaller is asked for."),
        ],
    )
    fourth = check_number(
        "patched",
        patched,
        1,
        recipe="Count the tokens, and multiply by the length of one.",
        wrongs=[
            Wrong(4, "four times fewer tokens, but each is four times as long.", 3),
            Wrong(0.25, "a quarter of the tokens, but each is four times as long.", 3),
            Wrong(10.2, "the VAE did that, before anything was cut into patches.", 3),
        ],
    )
    return all_right(
        first,
        second,
        third,
        fourth,
        why="52,224 / 5,120 = 10.2. Cutting the latent into patches gives 80 tokens of 64 numbers, 5,120 again.",
    )


# --- 05.2 ------------------------------------------------------------------------------------------------------------


@exercise("05.2")
def kl(function: object) -> Result:
    """KL(N(mean, var) || N(0, 1)) for every value, from mean and log-variance."""
    shapes = [(2, 3), (4,), (1, 2, 3, 2, 2)]
    cases = list(zip(normals(1, *shapes), normals(2, *shapes), strict=True))

    def half(f):
        return lambda m, v: 0.5 * f(m, v)

    return check_function(
        function,
        half(lambda m, v: m**2 + v.exp() - 1 - v),
        cases,
        why="Zero only where mean = 0 and variance = 1, positive everywhere else.",
        recipe="Average log q(z) - log p(z) over z of q: the mean of z^2 is mean^2 + var, that of (z - mean)^2 is var.",
        wrongs=[
            Wrong(lambda m, v: m**2 + v.exp() - 1 - v, "Twice too much: both log-densities carry a factor 1/2."),
            Wrong(half(lambda m, v: 1 + v - m**2 - v.exp()), "The sign is turned: a KL divergence is never negative."),
            Wrong(
                half(lambda m, v: m**2 + (2 * v).exp() - 1 - 2 * v),
                "You read logvar as the log of the standard deviation; it is the log of the variance.",
            ),
            Wrong(
                half(lambda m, v: m**2 + (v / 2).exp() - 1 - v),
                "That is the standard deviation where the variance belongs: var = exp(logvar).",
            ),
            Wrong(
                half(lambda m, v: m**2 + v.exp() - v),
                "The -1 is missing: at mean = 0 and variance = 1 the divergence must be 0.",
            ),
            Wrong(half(lambda m, v: v.exp() - 1 - v), "The mean is missing: a shifted code must cost something."),
            Wrong(
                half(lambda m, v: (1 + m**2) / v.exp() - 1 + v),
                "That is KL(p || q), the other way round; z is drawn from q here.",
            ),
            Wrong(half(lambda m, v: m**2 + v - 1 - v.exp()), "log and exp are swapped: + var - log var."),
        ],
    )


# --- 05.3 ------------------------------------------------------------------------------------------------------------


@exercise("05.3")
@once_answered
def trade(sharpest: object, reaching: object, collapsed: object, table: Mapping[float, Mapping]) -> Result:
    """Three KL weights out of a measured table: best copies, best reach of noise, and a code that says nothing."""
    values = {
        name: as_number(v)
        for name, v in zip(("sharpest", "reaching", "collapsed"), (sharpest, reaching, collapsed), strict=True)
    }
    chosen = {}
    for name, value in values.items():
        chosen[name] = next((w for w in table if value is not None and abs(value / w - 1) < 1e-3), None)
        if chosen[name] is None:
            return wrong(f"{name}: expected one of the trained weights, {', '.join(f'{w:g}' for w in sorted(table))}")
    least, largest = min(table), max(table)
    best = {key: max(row[key] for row in table.values()) for key in ("psnr", "reach")}
    for name, key in (("sharpest", "psnr"), ("reaching", "reach")):
        weight = chosen[name]
        short = best[key] - table[weight][key]
        if short <= NEAR:
            continue
        said = f"{name}: at kl_weight = {weight:g} the figure is {short:.1f} dB below the best."
        if weight == largest:
            return wrong(f"{said} There the code is the same for every disc, and nothing can be told apart.", 21)
        if name == "reaching" and weight == least:
            return wrong(f"{said} The codes lie far outside the circle, and noise finds only those in the middle.")
        if weight > max(w for w in table if best[key] - table[w][key] <= NEAR):
            return wrong(f"{said} More weight than that blurs.", 21)
        return wrong(f"{said} Look for the highest point of its curve.")
    silent = sorted(w for w in table if table[w]["nats"] < NOTHING_SAID)
    if chosen["collapsed"] not in silent:
        nats = table[chosen["collapsed"]]["nats"]
        return wrong(f"collapsed: that code still tells {nats:.1f} nats; one that says nothing has a KL of 0.")
    return right(
        "A small weight copies best, a larger one fills the place where noise falls, and too large a one says nothing."
    )


# --- 05.4 ------------------------------------------------------------------------------------------------------------


def padded(left, right, mode: str = "replicate"):
    """A function of (x, size) that pads time by so many frames at each end."""
    return lambda x, size: F.pad(x, (0, 0, 0, 0, left(size), right(size)), mode=mode)


@exercise("05.4")
def causal_pad(function: object) -> Result:
    """Frames put before a video so that a convolution over ``size`` frames keeps its length and sees no later one."""
    shapes = [(1, 2, 5, 2, 3), (2, 1, 4, 3, 2), (1, 3, 6, 2, 2), (1, 1, 1, 2, 2)]
    cases = list(zip(normals(3, *shapes), (3, 4, 2, 3), strict=True))

    def nothing(size):
        return 0

    return check_function(
        function,
        padded(lambda size: size - 1, nothing),
        cases,
        why="size - 1 frames in front and none behind: frame 0 depends on itself alone, and the length stays.",
        recipe="size - 1 copies of x[:, :, :1] go in front of x, along dim 2, and nothing goes behind.",
        wrongs=[
            Wrong(
                padded(lambda size: (size - 1) // 2, lambda size: size // 2),
                "You padded both ends. The shapes agree, but each output sees frames that come later.",
            ),
            Wrong(
                padded(lambda size: size // 2, lambda size: (size - 1) // 2),
                "You padded both ends. The shapes agree, but each output sees frames that come later.",
            ),
            Wrong(padded(nothing, lambda size: size - 1), "You padded the end: now every output looks ahead."),
            Wrong(
                padded(lambda size: size - 1, nothing, "constant"),
                "Causal, but with zeros: a grey flash before every video. Repeat the first frame instead.",
            ),
            Wrong(padded(lambda size: size, nothing), "One frame too many: the output is longer than the input."),
            Wrong(lambda x, size: x, "Nothing is padded: the output is size - 1 frames too short."),
            Wrong(
                lambda x, size: torch.cat((x[:, :, -1:].expand(-1, -1, size - 1, -1, -1), x), 2),
                "You repeated the last frame in front: the first output sees the end of the video.",
            ),
            Wrong(
                lambda x, size: F.pad(x, (size - 1, 0, 0, 0, 0, 0), mode="replicate"),
                "You padded the width; time is axis 2 of b c f h w, and F.pad counts from the last axis.",
            ),
        ],
    )


# --- 05.7 ------------------------------------------------------------------------------------------------------------


@exercise("05.7")
def mended_double(function: object) -> Result:
    """A function of ``b (two c) f h w`` that gives ``b c 2f-1 h w``: pairs side by side, the first frame dropped."""
    cases = [(y,) for y in normals(57, (2, 6, 5, 3, 4), (1, 2, 4, 3, 2), (3, 4, 1, 2, 5))]

    def ordered(code: str, cut: slice = slice(1, None)) -> Callable:
        return lambda y: rearrange(y, code, two=2)[:, :, cut]

    right_order = "b (two c) f h w -> b c (f two) h w"
    return check_function(
        function,
        ordered(right_order),
        cases,
        why="The two frames of a pair stand side by side in time, and the first pair gives one frame only.",
        recipe="rearrange(y, 'b (two c) f h w -> b c (f two) h w', two=2), and then [:, :, 1:].",
        wrongs=[
            Wrong(
                ordered("b (two c) f h w -> b c (two f) h w"),
                "This is still the line with the bug. Which of two names in brackets changes fastest?",
                2,
            ),
            Wrong(
                ordered("b (c two) f h w -> b c (f two) h w"),
                "The channels are packed as (two c): all those of the first frame, then all those of the second.",
            ),
            Wrong(
                ordered("b (two c) f h w -> b c (two f) h w", slice(None)),
                "One frame too many, and the order of the frames still has the bug.",
            ),
            Wrong(ordered(right_order, slice(None)), "One frame too many: drop the first; 1 + k become 1 + 2k."),
            Wrong(ordered(right_order, slice(None, -1)), "You dropped the last frame; the first one has no partner."),
            Wrong(
                lambda y: ordered(right_order, slice(None))(y[:, :, 1:]),
                "You dropped a whole pair: one frame alone goes, after the doubling.",
            ),
            Wrong(
                lambda y: y.reshape(len(y), y.shape[1] // 2, -1, *y.shape[3:])[:, :, 1:],
                "reshape moves no number: it cuts the channels where the time should be cut.",
                2,
            ),
            Wrong(
                lambda y: ordered(right_order)(torch.cat(y.chunk(2, 1)[::-1], 1)),
                "Each pair is turned round: the second frame stands before the first.",
            ),
            Wrong(
                lambda y: y[:, : y.shape[1] // 2].repeat_interleave(2, 2)[:, :, 1:],
                "Each frame is shown twice, and the second half of the channels is never used.",
            ),
        ],
    )


# --- 05.5 ------------------------------------------------------------------------------------------------------------


@exercise("05.5")
def standardise(function: object) -> Result:
    """Latents shifted and scaled to mean 0 and standard deviation 1 in every channel."""
    cases = []
    for noise in normals(4, (6, 3, 4, 5, 5), (5, 4, 3, 6, 4), (8, 2, 5, 4, 6)):
        c = noise.shape[1]
        spread, shift = (torch.linspace(a, b, c).reshape(c, 1, 1, 1) for a, b in ((0.3, 5.5), (1.5, -2.0)))
        cases.append((noise * spread + shift,))
    each = {"dim": (0, 2, 3, 4), "keepdim": True}

    return check_function(
        function,
        lambda z: (z - z.mean(**each)) / z.std(**each),
        cases,
        why="Every channel has mean 0 and standard deviation 1, as the noise has that will be added to it.",
        recipe="Mean and standard deviation over dim=(0, 2, 3, 4), with keepdim=True: one pair for each channel.",
        tolerance=0.03,  # whether one divides by n or n - 1 is the learner's choice
        wrongs=[
            Wrong(lambda z: (z - z.mean(**each)) * z.std(**each), "Upside down: latent_scale = 1 / std."),
            Wrong(
                lambda z: (z - z.mean(**each)) / z.var(**each), "You divided by the variance; latent_scale = 1 / std."
            ),
            Wrong(
                lambda z: (z - z.mean()) / z.std(),
                "One pair of numbers for all channels: some are still five times as wide as others.",
            ),
            Wrong(
                lambda z: z / z.std(), "One scale for all channels, as Stable Diffusion has it; here each has its own."
            ),
            Wrong(lambda z: z / z.std(**each), "The spread is right, the mean is not 0 yet."),
            Wrong(lambda z: z - z.mean(**each), "The mean is right, the spread is not 1 yet."),
            Wrong(
                lambda z: (z - z.mean(0, keepdim=True)) / z.std(0, keepdim=True),
                "One pair for each place and time: that erases what all clips have in common at a place.",
            ),
            Wrong(
                lambda z: (z - z.mean((2, 3, 4), keepdim=True)) / z.std((2, 3, 4), keepdim=True),
                "Each clip got its own scale: its decoder would have to know it. Measure over the batch too.",
            ),
        ],
    )


# --- 05.6 ------------------------------------------------------------------------------------------------------------

MAKERS = ("videodit", "dit", "transformer", "diffusiontransformer", "diffusionmodel", "diffusion")


@exercise("05.6")
@once_answered
def noise(shapes_in_noise: object, maker: object, clips: Video) -> Result:
    """How many clips of decoded noise the tracker finds a shape in, and which part turns noise into a clip."""
    found = int((track(clips).shape >= 0).any(1).sum())
    value = as_number(shapes_in_noise)
    if value is None:
        return wrong(f"shapes_in_noise: got a {type(shapes_in_noise).__name__}, expected a count of clips")
    if value != found:
        if value > found and value >= len(clips) / 2:
            return wrong(f"shapes_in_noise: the tracker names a shape in {found} of {len(clips)}.", 20)
        return wrong("shapes_in_noise: count the rows of track(clips).shape that hold an index of 0 or more.")
    if not isinstance(maker, str):
        return wrong(f"maker: got a {type(maker).__name__}, expected the name of a part of the pipeline")
    name = "".join(c for c in maker.lower() if c.isalpha()).removeprefix("the")
    if "vae" in name or ("coder" in name and "text" not in name):
        return wrong("maker: the VAE only translates. Given noise it answers with debris, as you saw.", 20)
    if "text" in name:
        return wrong("maker: the text encoder turns words into vectors; it never touches the latent.")
    if name not in MAKERS:
        return wrong(
            "maker: expected a part of the map of lesson 00: VAE encoder, VAE decoder, text encoder, VideoDiT."
        )
    return right("The VAE translates between pixels and latents; what the latent says is the transformer's work.")
