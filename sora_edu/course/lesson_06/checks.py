"""The checks of lesson 06, forward noising. Functions of learners run on hidden clips and hidden schedules."""

import math
from dataclasses import replace

import torch
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from sora_edu.course.grading import (
    Result,
    Wrong,
    all_right,
    as_array,
    as_number,
    call_answer,
    check_function,
    check_number,
    exercise,
    hint as hint,
    not_a_function,
    once_answered,
    right,
    same,
    wrong,
)
from sora_edu.diffusion.noising import alpha_bars, cosine_betas, linear_betas, q_sample as reference_q_sample, snr

LINEAR, COSINE = alpha_bars(linear_betas()), alpha_bars(cosine_betas())
STEP = 500
PIXEL = 0.8
NUMBERS = 3 * 224 * 224  # in the white or black picture
LATENT_STD = 5.49  # of Stable Diffusion's latents before they are scaled: 1 / 0.18215


@exercise("06.1")
@once_answered
def one_shot(mean: object, variance: object, draws: object) -> Result:
    """Mean and variance of a pixel of 0.8 after step 500 (linear), and how many noises training draws for it."""
    alpha_bar_s = LINEAR[STEP - 1].item()
    alpha_bar_next = LINEAR[STEP].item()
    first = check_number(
        "mean",
        mean,
        alpha_bar_s**0.5 * PIXEL,
        recipe="eps is 0 on average, so only sqrt(alpha_bar_500) x_0 stays.",
        wrongs=[
            Wrong(alpha_bar_s * PIXEL, "alpha_bar is a share of variance; the pixel itself is scaled by its root."),
            Wrong(PIXEL, "noise is added, but the picture is scaled down as well, at every step."),
            Wrong(0.0, "a part of the picture is still there at step 500.", 11),
            Wrong(alpha_bar_next**0.5 * PIXEL, "alpha_bar[500] belongs to step 501; s counts from 1, Python from 0."),
        ],
        tolerance=6e-4,
    )
    second = check_number(
        "variance",
        variance,
        1 - alpha_bar_s,
        recipe="A fixed x_0 has none, so only the noise counts, and its factor is squared.",
        wrongs=[
            Wrong((1 - alpha_bar_s) ** 0.5, "that is the standard deviation; square it."),
            Wrong(1.0, "close to 1, but a share alpha_bar of it is not noise yet.", 11),
            Wrong(linear_betas()[:STEP].sum().item(), "that sums the betas; each step also scales the rest."),
            Wrong(linear_betas()[STEP - 1].item(), "that is what step 500 alone adds."),
        ],
        tolerance=1e-3,
    )
    walked = "all 500 steps together are one normal number of known variance, so training draws that one."
    third = check_number(
        "draws",
        draws,
        1,
        recipe="How many eps are in the closed form?",
        wrongs=[
            Wrong(500, walked, 9),
            Wrong(1000, walked + " Nor does it go on to 1000.", 9),
            Wrong(2, "s is drawn too, but once for the whole clip, and it is not a normal number."),
            Wrong(0, "without a draw there would be no noise."),
        ],
    )
    return all_right(first, second, third, why="One draw, and mean and variance are those of 500 steps.")


# --- q_sample ---------------------------------------------------------------------------------------------------------


def column(values: Tensor, x: Tensor) -> Tensor:
    """One value a sample, shaped to multiply x."""
    return values.reshape(-1, *[1] * (x.ndim - 1))


def noised(signal: float | int, spread: float | int, *, offset: int = 1):
    """A twin of q_sample with other powers of alpha_bar and 1 - alpha_bar, or another place in the table."""

    def twin(x_0: Tensor, s: Tensor, eps: Tensor, alpha_bar: Tensor) -> Tensor:
        alpha_bar_s = column(alpha_bar[(s - offset).clamp(max=len(alpha_bar) - 1)], x_0)
        return alpha_bar_s**signal * x_0 + (1 - alpha_bar_s) ** spread * eps

    return twin


def same_noise_again(x_0: Tensor, s: Tensor, eps: Tensor, alpha_bar: Tensor) -> Tensor:
    """A walk that uses the one eps in every step: the shares add up as lengths, not as variances."""
    alpha = alpha_bar / torch.cat((alpha_bar.new_ones(1), alpha_bar[:-1]))
    x_s = x_0.clone()
    for row, last in enumerate(s.tolist()):
        for a in alpha[:last]:
            x_s[row] = a.sqrt() * x_s[row] + (1 - a).sqrt() * eps[row]
    return x_s


def along_width(x_0: Tensor, s: Tensor, eps: Tensor, alpha_bar: Tensor) -> Tensor | None:
    """No new axes: where b equals w, broadcasting gives each column, not each sample, a step of its own."""
    if len(s) != x_0.shape[-1]:
        return None
    alpha_bar_s = alpha_bar[s - 1]
    return alpha_bar_s.sqrt() * x_0 + (1 - alpha_bar_s).sqrt() * eps


def straight(x_0: Tensor, s: Tensor, eps: Tensor, alpha_bar: Tensor) -> Tensor:
    """The linear interpolant with t = s / steps."""
    t = column(s / len(alpha_bar), x_0)
    return (1 - t) * x_0 + t * eps


@exercise("06.2")
def q_sample(function: object) -> Result:
    """A function ``(x_0, s, eps, alpha_bar)`` that takes all s noising steps at once, each sample its own number."""
    g = torch.Generator().manual_seed(6)
    cases = []
    for shape, s, steps in (
        ((4, 2, 3, 5, 4), [3, 1, 12, 8], 12),
        ((2, 3, 5, 4, 6), [7, 2], 7),
        ((3, 10), [1, 5, 9], 9),
    ):
        x_0, eps = (torch.randn(shape, generator=g) for _ in range(2))
        alpha_bar = (1 - 0.4 * torch.rand(steps, generator=g)).cumprod(0)
        cases.append((x_0, torch.tensor(s), eps, alpha_bar))
    if callable(function):  # what else is wrong with it, the check below says
        once, again = (call_answer(function, cases[0], "it") for _ in range(2))
        if torch.is_tensor(once) and torch.is_tensor(again) and not same(once, again, 0.0):
            return wrong("Two calls gave two results: use the eps that is handed in, once, and draw no other.", 9)
    return check_function(
        function,
        reference_q_sample,
        cases,
        why="A step of its own for each sample, in one shot, for clips and for tokens alike.",
        recipe="Reshape alpha_bar[s - 1] to b 1 1 ...; its root times x_0, plus the root of 1 minus it times eps.",
        wrongs=[
            Wrong(same_noise_again, "You walked through the steps with one eps: its shares add up to too much.", 9),
            Wrong(along_width, "Broadcasting gave each column a step; each sample needs its own: reshape to b 1 1 ..."),
            Wrong(noised(0.5, 0.5, offset=0), "One step off: s counts from 1, so step s is alpha_bar[s - 1]."),
            Wrong(noised(1, 1), "alpha_bar and 1 - alpha_bar are variances; the factors are their roots."),
            Wrong(noised(1, 0.5), "x_0's factor is sqrt(alpha_bar), not alpha_bar."),
            Wrong(noised(0.5, 1), "eps' factor is sqrt(1 - alpha_bar): 1 - alpha_bar is its variance."),
            Wrong(noised(0, 0.5), "x_0 has to shrink as noise comes in, or the variance grows beyond 1."),
            Wrong(lambda x_0, s, eps, ab: noised(0.5, 0.5)(eps, s, x_0, ab), "x_0 and eps have changed places."),
            Wrong(straight, "That is the straight mix of lesson 07; DDPM takes its factors from alpha_bar."),
        ],
    )


# --- numbers ----------------------------------------------------------------------------------------------------------


def first_below(alpha_bar: Tensor, power: float = 1.0) -> int:
    """The first step whose signal, of variance ``power``, is not stronger than the noise."""
    return int((power * snr(alpha_bar) <= 1).nonzero()[0]) + 1


@exercise("06.4")
@once_answered
def equal_steps(linear_step: object, cosine_step: object) -> Result:
    """The first steps at which noise is at least as strong as the signal, in the two schedules."""

    def first_step(name: str, answer: object, alpha_bar: Tensor) -> Result:
        step = first_below(alpha_bar)
        wrongs = [
            Wrong(step - 1, "one early. The first element of the table is step 1, so add 1 to its index."),
            Wrong(500, "half of the steps is not half of the noise; look where SNR falls below 1."),
            Wrong(first_below(alpha_bar, 3.0), "there the signal's root share is 1/2; compare variances."),
            Wrong(1000, "noise catches up long before the end.", 11),
        ]
        recipe = "The first s with snr(alpha_bar)[s - 1] <= 1."
        return check_number(name, answer, step, recipe=recipe, wrongs=wrongs)

    one, two = as_number(linear_step), as_number(cosine_step)
    if (one, two) == (first_below(COSINE), first_below(LINEAR)):
        return wrong("The two have changed places: the linear schedule destroys faster.")
    return all_right(
        first_step("linear_step", linear_step, LINEAR),
        first_step("cosine_step", cosine_step, COSINE),
        why="Step 260 and step 497: the same s means quite different noise in two schedules.",
    )


@exercise("06.5")
@once_answered
def last_step(factor: object, distance: object) -> Result:
    """x_0's factor in x_1000 (linear), and how many standard deviations a white picture's mean is from 0."""
    alpha_bar_s = LINEAR[-1].item()
    root = alpha_bar_s**0.5
    first = check_number(
        "factor",
        factor,
        root,
        recipe="sqrt of the last alpha_bar.",
        wrongs=[
            Wrong(0.0, "small, but not 0. The schedule stops before the signal is gone.", 11),
            Wrong(alpha_bar_s, "that is alpha_bar, a share of variance; x_0's factor is its root."),
            Wrong(1 - alpha_bar_s, "that is the noise's share.", 11),
            Wrong(1.0, "that is the noise's, nearly.", 11),
        ],
        tolerance=1e-5 if abs(as_number(factor) or 0.0) < 1e-3 else 6e-5,  # tells 0 from alpha_bar, and takes 0.0064
    )
    second = check_number(
        "distance",
        distance,
        root * NUMBERS**0.5,
        recipe="The mean of n noises has standard deviation 1 / sqrt(n), so factor / (1 / sqrt(n)).",
        wrongs=[
            Wrong(root, "one number alone hides it, but the mean of n has sqrt(n) times less noise.", 11),
            Wrong(root * NUMBERS, "noise does not fall like 1 / n; variances add, so like 1 / sqrt(n)."),
            Wrong(root * 224, "the three colours count too: n = 3 * 224 * 224."),
        ],
        tolerance=4e-2,  # 2.47 and 2.5 are right
    )
    return all_right(
        first, second, why="0.0064, and yet 2.5 standard deviations: the last step still tells white from black."
    )


@exercise("06.6")
@once_answered
def unscaled(ratio: object, step: object) -> Result:
    """How much larger the SNR of latents of std 5.49 is, and the linear step at which noise catches up with them."""
    power = LATENT_STD**2
    first = check_number(
        "ratio",
        ratio,
        power,
        recipe="SNR compares variances, and the variance of 5.49 x is 5.49 squared times that of x.",
        wrongs=[
            Wrong(LATENT_STD, "that compares sizes; SNR compares variances, so square it."),
            Wrong(1.0, "the schedule is the same, but its noise is measured against a larger signal."),
            Wrong(1 / power, "upside down; a larger signal drowns later."),
            Wrong(1 / LATENT_STD, "upside down, and not squared."),
        ],
        tolerance=0.2,
    )
    early = first_below(LINEAR, 1 / power)
    second = check_number(
        "step",
        step,
        first_below(LINEAR, power),
        recipe="The first s with ratio * snr(alpha_bar)[s - 1] <= 1.",
        wrongs=[
            Wrong(first_below(LINEAR), "that is the step for a signal of variance 1."),
            Wrong(first_below(LINEAR, power) - 1, "one early; s counts from 1, Python's index from 0."),
            Wrong(first_below(LINEAR, LATENT_STD), "you multiplied by 5.49; variances need its square."),
            Wrong(early, "upside down; a larger signal drowns later, not earlier."),
            Wrong(first_below(COSINE, power), "that is the cosine schedule; the question is about the linear."),
        ],
    )
    return all_right(
        first, second, why="30 times the SNR at every s: the model would see another schedule than you chose."
    )


# --- noise or blur ----------------------------------------------------------------------------------------------------


def cloud(size: int, std: float, g: torch.Generator) -> Tensor:
    """A random picture ``3 n n`` whose power falls with frequency as a photograph's does."""
    f = torch.fft.fftfreq(size) * size
    radius = (f[:, None].square() + f.square()).sqrt().clamp(min=1.0)
    x = torch.fft.ifft2(torch.fft.fft2(torch.randn(3, size, size, generator=g)) / radius**1.5).real
    return x / x.std() * std


def pairs() -> list[tuple[Tensor, Tensor, bool]]:
    """Hidden pictures before and after, and whether it was noise; contrast tells nothing here, detail does."""
    g = torch.Generator().manual_seed(66)
    found = []
    for size, std, alpha_bar_s in ((24, 1.0, 0.5), (32, 0.4, 0.97), (40, 2.5, 0.5), (28, 2.0, 0.8)):
        x = cloud(size, std, g)
        eps = torch.randn(x.shape, generator=g)
        found.append((x, alpha_bar_s**0.5 * x + (1 - alpha_bar_s) ** 0.5 * eps, True))
    for size, std, sigma, contrast in (
        (32, 1.0, 1.0, 1.0),
        (24, 0.6, 2.5, 1.0),
        (40, 0.5, 3.0, 1.5),
        (28, 2.0, 1.5, 1.0),
    ):
        x = cloud(size, std, g)
        found.append((x, contrast * gaussian_blur(x, 13, sigma), False))
    smooth, rough = gaussian_blur(cloud(32, 0.5, g), 13, 4.0), 3 * torch.randn(3, 32, 32, generator=g)
    found.append((smooth, 0.9999**0.5 * smooth + 0.01 * torch.randn(smooth.shape, generator=g), True))
    found.append((rough, gaussian_blur(rough, 5, 0.6), False))  # finer still than what was noised: compare
    return found


@exercise("06.3")
def is_noised(function: object) -> Result:
    """A function ``(before, after)`` of pictures ``c n n`` that is true where after was noised, false where blurred."""
    if (refusal := not_a_function(function, "a function")) is not None:
        return refusal
    answers = []
    cases = pairs()
    for before, after, _truth in cases:
        value = call_answer(function, (before, after), f"on pictures of shape {tuple(before.shape)} it")
        if isinstance(value, Result):
            return value
        if as_number(value) not in (0.0, 1.0):
            return wrong(f"it returned {type(value).__name__}, expected True for noise and False for blur")
        answers.append(bool(as_number(value)))
    truth = [noise for _before, _after, noise in cases]
    contrast = [bool(after.std() > before.std()) for before, after, _noise in cases]
    if answers == truth:
        return right("Noise raises the high frequencies, blur lowers them: contrast, size and strength do not matter.")
    if not any(answers):
        return wrong("Everything counts as blur for it, but half of the hidden pictures were noised.", 10)
    if answers == [not noise for noise in truth]:
        return wrong("The wrong way round: it is blur that takes detail away, noise adds it.", 10)
    if answers == contrast:
        return wrong("You compared contrast, all frequencies at once. Noising also scales down: look at the high ones.")
    hits = sum(a == b for a, b in zip(answers, truth, strict=True))
    return wrong(
        f"{hits} of {len(truth)} hidden pairs are right. Compare power at high frequencies alone, after with before."
    )


# --- 06.7: noise that is shared ---------------------------------------------------------------------------------------


def correlation(eps: Tensor) -> tuple[float, str]:
    """How alike noise is to itself when it is moved along: the largest correlation, and the axes of that move.

    It is near 0 where each number has a noise of its own. Moves go round: what leaves at the end comes in in front.
    """
    power = torch.fft.fftn(eps - eps.mean()).abs().square()
    moved = torch.fft.ifftn(power).real / power.mean()
    moved.view(-1)[0] = 0  # not moved at all: that one is 1
    move = torch.unravel_index(moved.abs().argmax(), moved.shape)
    axes = [name for name, far in zip(("clips", "colours", "frames", "rows", "columns"), move, strict=True) if far]
    return moved[move].item(), " and ".join(axes)


@exercise("06.7")
def mended_noising(function: object) -> Result:
    """A function ``(x_0, s, alpha_bar, generator)`` that noises clips, each of their numbers on its own."""
    if (refusal := not_a_function(function, "a function")) is not None:
        return refusal
    alpha_bar = (1 - 0.4 * torch.rand(9, generator=torch.Generator().manual_seed(67))).cumprod(0)
    x_0 = 3 * torch.randn(6, 3, 5, 12, 10, generator=torch.Generator().manual_seed(68))
    s = torch.tensor([9, 2, 5, 7, 3, 8])
    recipe = "eps = torch.randn(x_0.shape, generator=generator), then q_sample."
    draws = []
    for seed in (1, 2):
        generator = torch.Generator().manual_seed(seed)
        x_s = call_answer(function, (x_0, s, alpha_bar, generator), f"on clips of shape {tuple(x_0.shape)} it")
        if isinstance(x_s, Result):
            return replace(x_s, recipe=recipe)
        values = as_array(x_s)
        if values is None or values.shape != tuple(x_0.shape):
            got = type(x_s).__name__ if values is None else f"shape {values.shape}"
            return wrong(f"got {got}, expected clips of shape {tuple(x_0.shape)}", recipe=recipe)
        draws.append(torch.from_numpy(values).float())
    told = wrong_noise(draws[0], x_0, alpha_bar[s - 1])
    if not told and torch.equal(*draws):
        told = "two calls gave the same noise: draw it from the generator, at each call."
    if told:
        return wrong(told, recipe=recipe)
    return right("Each number has a noise of its own: no difference of two frames gives the clip away.")


def wrong_noise(x_s: Tensor, x_0: Tensor, kept: Tensor) -> str:
    """What is wrong with noisy clips of which ``kept`` should be left, or nothing: the noise is what x_0 is not."""
    ones = (-1, *[1] * (x_0.ndim - 1))
    eps = (x_s - kept.sqrt().view(ones) * x_0) / (1 - kept).sqrt().view(ones)
    alike, axes = correlation(eps)
    if abs(alike) > 0.1:
        still = " This is still the bug." if axes == "frames" and alike > 0.95 else ""
        return f"the {axes} share noise: on average it correlates at {alike:.2f}, expected 0.{still}"
    came, spread = (x_s * x_0).flatten(1).mean(1) / x_0.square().flatten(1).mean(1), eps.flatten(1).std(1)
    for clip, (got, level) in enumerate(zip(came.tolist(), kept.tolist(), strict=True)):
        if not abs(got - level**0.5) < 0.05:
            return f"clip {clip} came through times {got:.2f}, where at its own step q_sample has {level**0.5:.2f}."
    if (spread - (1 - kept).sqrt()).abs().max() < 0.06:
        return "the noise has the factor 1 - alpha_bar, which is a variance: numbers are multiplied by its root."
    if not ((spread > 0.9) & (spread < 1.1)).all():
        return f"q_sample's eps should have a standard deviation of 1, in each clip; yours has {spread.mean():.2f}."
    if not abs(eps.mean().item()) < 0.05:
        return f"the noise has a mean of {eps.mean():.2f}, expected 0."
    if not abs((eps.abs().mean() / eps.std()).item() - (2 / math.pi) ** 0.5) < 0.03:
        return "the noise has the right mean and spread, but it is not normal: draw it with torch.randn."
    return ""
