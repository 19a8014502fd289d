"""Suites ``vae``, ``attention`` and ``data``, and the list of all five; ``transformers`` holds the other two."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from PIL import Image, ImageDraw

from sora_edu.bench.floors import Comparison
from sora_edu.bench.models import SMOKE, Size, class_dit, sparse_dit
from sora_edu.bench.peers import check_peers
from sora_edu.bench.rounds import Contestant, Rounds
from sora_edu.bench.steps import backward_contestant
from sora_edu.bench.transformers import Maker, Suite, fast, matmuls, sample_suite, step_suite
from sora_edu.bench.vaes import CODERS, SMOKE_CLIPS, WIDE_CODERS, ClipSize, psnr_after, vae_contestant
from sora_edu.captions import caption
from sora_edu.config import TINY, WorldConfig
from sora_edu.render import render
from sora_edu.sparse import StridedAttention, WindowAttention
from sora_edu.tokenizer import Tokenizer
from sora_edu.world import sample_state


def vae_suite(device: torch.device, smoke: bool) -> Suite:
    """A training step of the video VAEs on 17x32x32 clips, and how good they are after equal time."""
    check_peers()
    size = SMOKE_CLIPS if smoke else ClipSize()
    makers = matmuls(device, smoke)
    for name, build in CODERS.items():
        fused = True if build is CODERS["ours"] else None
        makers[name] = partial(vae_contestant, name, build, size, device=device, fused=fused)
        makers[f"{name}, fast"] = fast(device, smoke, vae_contestant, f"{name}, fast", build, size)
    for name, build in WIDE_CODERS.items():
        makers[name] = partial(vae_contestant, name, build, size, device=device)
    comparisons = [
        Comparison("VAE step, fp32, against CogVideoX's", "ours", "CogVideoX VAE", 0.25, 0.10),
        Comparison("VAE step, fp32, against TAEHV-like", "ours", "TAEHV-like", 0.90, 0.60),
        Comparison("VAE step, fp32, against CogVideoX's at our widths", "ours", "CogVideoX VAE, our widths"),
        Comparison("VAE step, fp32, against TAEHV-like at our widths", "ours", "TAEHV-like, our widths"),
        Comparison("bf16 and compiled, against CogVideoX's with the same", "ours, fast", "CogVideoX VAE, fast"),
        Comparison("bf16 and compiled, against TAEHV-like with the same", "ours, fast", "TAEHV-like, fast"),
        Comparison("bf16 and compiled, against the same in fp32 eager", "ours, fast", "ours"),
    ]

    def quality(rounds: Rounds) -> dict:
        """Steps from the median time, so that load while it trains changes nothing."""
        figures = {}
        for name, build in CODERS.items():
            if rounds.seconds.get(name):
                steps = max(1, round(size.seconds / rounds.median(name)))
                decibels = psnr_after(build, size, steps=steps, device=device)
                figures[name] = {"seconds": size.seconds, "steps": steps, "psnr": decibels}
        return figures

    world = size.world
    about = f"VAE training step, clips of {world.frames}x{world.height}x{world.width}, batch {size.batch}"
    return Suite(makers, comparisons, quality, about)


def attention_suite(device: torch.device, smoke: bool) -> Suite:
    """What a token costs, forward and backward, in short sequences and in long ones; 2,048 tokens a step throughout."""
    base = replace(SMOKE, grid=(2, 2, 2), batch=8) if smoke else Size(grid=(4, 4, 4), batch=32)
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
    makers = matmuls(device, smoke)
    for name, (build, size) in entries.items():
        makers[name] = partial(backward_contestant, name, build, size, device=device)
    lengths = f"n = {long.tokens} over n = {base.tokens}"
    comparisons = [
        Comparison(f"cost per token, {lengths}, full", "full, long", "full, short", 1.75, near=0.05),
        Comparison(f"cost per token, {lengths}, windowed", "windowed, long", "windowed, short", 1.15, near=0.05),
        Comparison(
            f"the same, n = {middle.tokens}, full",
            "full, middle",
            "full, short",
        ),
        Comparison(f"windowed over full, n = {long.tokens}", "windowed, long", "full, long"),
        Comparison(f"strided over full, n = {long.tokens}", "strided, long", "full, long"),
    ]
    about = f"forward and backward, width {base.width}, depth {base.depth}, {base.batch * base.tokens} tokens a step"
    return Suite(makers, comparisons, about=about)


def data_suite(device: torch.device, smoke: bool) -> Suite:
    """Clips, captions and cached latents, and what share of a step they take."""
    world, many = (SMOKE_CLIPS.world, 4) if smoke else (TINY.world, 512)
    size = SMOKE_CLIPS if smoke else ClipSize()

    def clips(n: int) -> torch.Tensor:
        return render(sample_state(n, world), world)

    latents = torch.randn(50 * many, *Size().latent, dtype=torch.float16, device=device)
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
        vae_contestant, "a step of the VAE", CODERS["ours"], size, device=device, fused=True
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


SUITES: dict[str, Callable[[torch.device, bool], Suite]] = {
    "step": step_suite,
    "sample": sample_suite,
    "vae": vae_suite,
    "attention": attention_suite,
    "data": data_suite,
}
