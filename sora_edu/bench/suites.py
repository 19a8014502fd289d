"""Suites ``vae``, ``attention`` and ``data``, and the list of all five; ``transformers`` holds the other two."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from PIL import Image, ImageDraw

from sora_edu.bench.floors import COME, Comparison
from sora_edu.bench.models import SMOKE, Size, class_dit, sparse_dit
from sora_edu.bench.peers import check_peers
from sora_edu.bench.rounds import Contestant, Rounds
from sora_edu.bench.steps import backward_contestant
from sora_edu.bench.transformers import Maker, Setup, Suite, both_ways, matmuls, sample_suite, step_suite
from sora_edu.bench.vaes import CODERS, SMOKE_CLIPS, WIDE_CODERS, ClipSize, psnr_after, vae_contestant
from sora_edu.config import TINY, WorldConfig
from sora_edu.model.sparse import StridedAttention, WindowAttention
from sora_edu.model.tokenizer import Tokenizer
from sora_edu.world.captions import caption
from sora_edu.world.render import render
from sora_edu.world.scenes import sample_state


def vae_suite(setup: Setup) -> Suite:
    """A training step of the video VAEs on 17x32x32 clips, and how good they are after equal time."""
    check_peers()
    size = SMOKE_CLIPS if setup.smoke else ClipSize()
    step = partial(vae_contestant, device=setup.device)
    makers, comparisons = matmuls(setup), []
    makers["ours"] = partial(step, "ours", CODERS["ours"], size, switches=setup.shipped)
    makers["ours, as it comes"] = partial(step, "ours, as it comes", CODERS["ours"], size)
    for name, build in CODERS.items():
        if name != "ours":
            found, compared = both_ways(f"VAE: {name}", "ours", partial(step, build=build, size=size), setup.shipped)
            makers |= found
            comparisons += compared
    for name, build in WIDE_CODERS.items():
        makers[f"VAE: {name}"] = partial(step, f"VAE: {name}", build, size)
        comparisons.append(Comparison(f"VAE: {name}", "ours", f"VAE: {name}", COME))
    comparisons.append(Comparison("VAE as shipped, against our own in fp32, eager", "ours", "ours, as it comes"))

    def quality(rounds: Rounds) -> dict:
        """Ours as shipped, the others as they come; steps from the median time, whatever the load is meanwhile."""
        figures = {}
        for name, build in CODERS.items():
            timed = name if name == "ours" else f"VAE: {name}"
            if rounds.seconds.get(timed):
                steps = max(1, round(size.seconds / rounds.median(timed)))
                decibels = psnr_after(build, size, steps=steps, device=setup.device)
                figures[name] = {"seconds": size.seconds, "steps": steps, "psnr": decibels}
        return figures

    world = size.world
    about = f"VAE training step, clips of {world.frames}x{world.height}x{world.width}, batch {size.batch}"
    return Suite(makers, comparisons, quality, about)


def attention_suite(setup: Setup) -> Suite:
    """What a token costs, forward and backward, in short sequences and in long ones; 2,048 tokens a step throughout."""
    base = replace(SMOKE, grid=(2, 2, 2), batch=8) if setup.smoke else Size(grid=(4, 4, 4), batch=32)
    nf, nh, nw = base.grid
    middle = replace(base, grid=(nf, 2 * nh, 2 * nw), batch=base.batch // 4)
    long = replace(base, grid=(4 * nf, 2 * nh, 2 * nw), batch=max(1, base.batch // 16))
    window = sparse_dit(partial(WindowAttention, window=base.grid))
    stride = sparse_dit(partial(StridedAttention, stride=(2, 2, 2)))
    entries = {
        "full, short": (class_dit, base),
        "full, middle": (class_dit, middle),
        "full, long": (class_dit, long),
        "windowed, short": (window, base),
        "windowed, long": (window, long),
        "strided, long": (stride, long),
    }
    makers = matmuls(setup)
    for name, (build, size) in entries.items():
        makers[name] = partial(backward_contestant, name, build, size, device=setup.device, switches=setup.shipped)
    over = f"over one at n = {base.tokens}"
    comparisons = [
        Comparison(f"a token at n = {long.tokens} {over}, full attention", "full, long", "full, short"),
        Comparison(f"a token at n = {long.tokens} {over}, windowed", "windowed, long", "windowed, short"),
        Comparison(f"a token at n = {middle.tokens} {over}, full attention", "full, middle", "full, short"),
        Comparison(f"windowed over full, n = {long.tokens}", "windowed, long", "full, long"),
        Comparison(f"strided over full, n = {long.tokens}", "strided, long", "full, long"),
    ]
    about = f"forward and backward, width {base.width}, depth {base.depth}, {base.batch * base.tokens} tokens a step"
    return Suite(makers, comparisons, about=about)


def data_suite(setup: Setup) -> Suite:
    """Clips, captions and cached latents, and what share of a step they take."""
    world, many = (SMOKE_CLIPS.world, 4) if setup.smoke else (TINY.world, 512)
    size = SMOKE_CLIPS if setup.smoke else ClipSize()

    def clips(n: int) -> torch.Tensor:
        return render(sample_state(n, world), world)

    latents = torch.randn(50 * many, *Size().latent, dtype=torch.float16, device=setup.device)
    states, tokenizer = sample_state(many, world), Tokenizer()

    def entry(name: str, run: Callable[[], object], work: int) -> dict[str, Maker]:
        return {name: lambda: Contestant(name, run, work=work, unit="clip")}

    makers = entry("ours, a batch", lambda: clips(many), many)
    makers |= entry("ours, eight at a time", lambda: clips(size.batch), size.batch)
    makers |= entry("ours, clip by clip", lambda: [clips(1) for _ in range(8)], 8)
    makers |= entry("Pillow, circles alone", lambda: [draw_with_pillow(world) for _ in range(8)], 8)
    makers |= entry("captions to ids", lambda: tokenizer.encode(caption(states), max_tokens=32), many)
    makers |= entry("cached latents, 64 rows", lambda: latents[torch.randint(len(latents), (64,))].float(), 64)
    makers["a step of the VAE"] = partial(
        vae_contestant, "a step of the VAE", CODERS["ours"], size, device=setup.device, switches=setup.shipped
    )
    comparisons = [
        Comparison("a batch, against clip by clip", "ours, a batch", "ours, clip by clip"),
        Comparison("a batch, against Pillow's circles", "ours, a batch", "Pillow, circles alone"),
        Comparison("drawing, over the VAE's step on what was drawn", "ours, eight at a time", "a step of the VAE"),
    ]
    return Suite(makers, comparisons, about=f"clips of {world.frames}x{world.height}x{world.width}")


def draw_with_pillow(world: WorldConfig) -> torch.Tensor:
    """A falling circle, frame by frame at four times the size and then shrunk: the plain way to smooth edges."""
    height, width = world.height, world.width
    frames = []
    for i in range(world.frames):
        image = Image.new("RGB", (4 * width, 4 * height), (5, 5, 15))
        x, y = 2 * width, 4 * height * i / world.frames
        ImageDraw.Draw(image).ellipse((x - 16, y - 16, x + 16, y + 16), fill=(230, 25, 25))
        frames.append(np.asarray(image.resize((width, height), Image.Resampling.BOX)))
    return torch.from_numpy(np.stack(frames)).permute(3, 0, 1, 2).float() / 127.5 - 1


SUITES: dict[str, Callable[[Setup], Suite]] = {
    "step": step_suite,
    "sample": sample_suite,
    "vae": vae_suite,
    "attention": attention_suite,
    "data": data_suite,
}
