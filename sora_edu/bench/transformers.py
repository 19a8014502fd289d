"""Suites ``step`` and ``sample``: the transformers, ours and others', trained for a step and asked for a clip.

"fast" in a name: bf16 autocast, compiled blocks and fused AdamW, for us and for them. Without it: fp32, eager, and
AdamW fused for us but as it comes for them, as their readers would have it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch

from sora_edu.bench.floors import Comparison
from sora_edu.bench.machine import MATMUL_SIDES, matmul_peak
from sora_edu.bench.models import SMOKE, Size, class_dit, image_dit, video_dit, with_onednn
from sora_edu.bench.peers import check_peers, cogvideox, latte, ltx, textbook_dit, unet_3d, unfused_dit, wan
from sora_edu.bench.rounds import Contestant, Rounds
from sora_edu.bench.steps import clip_contestant, muon, step_contestant
from sora_edu.compute import can_compile, fast_bf16
from sora_edu.errors import InputError
from sora_edu.pipeline import Pipeline

FP32, BF16 = "matmul fp32", "matmul bf16"
LINEAR = "oneDNN linear layers"
Maker = Callable[[], Contestant]


@dataclass(frozen=True)
class Suite:
    """How to make the contestants, what to compare, and what to measure once their times are known."""

    makers: dict[str, Maker]
    comparisons: list[Comparison]
    afterwards: Callable[[Rounds], dict] = lambda rounds: {}
    about: str = ""


def matmuls(device: torch.device, smoke: bool) -> dict[str, Maker]:
    """The peaks that shares refer to."""
    sides = (64,) if smoke else MATMUL_SIDES
    return {
        FP32: partial(matmul_peak, torch.float32, device, sides=sides),
        BF16: partial(matmul_peak, torch.bfloat16, device, sides=sides),
    }


def fast(device: torch.device, smoke: bool, maker: Callable[..., Contestant], *args, **options) -> Maker:
    """A maker with all optimisations on. Where the machine lacks them the maker says so when it is called."""

    def make() -> Contestant:
        if not smoke and not (fast_bf16(device) and can_compile()):
            raise InputError("this machine has no fast bf16, or no C++ compiler")
        return maker(*args, device=device, fast=True, compiled=not smoke, fused=True, **options)

    return make


PEERS = {  # with text: how to build it, floor and aim of the ratio in fp32
    "LTX": (ltx, 0.75, 0.60),
    "Wan": (wan, 0.75, 0.60),
    "CogVideoX": (cogvideox, 0.88, 0.70),
    "Latte": (latte, None, None),
    "3-D U-Net": (unet_3d, 0.75, 0.45),
}


def step_suite(device: torch.device, smoke: bool) -> Suite:
    """A training step of the transformers at width 256, depth 6, 128 tokens a clip: eight clips, one, and 32."""
    check_peers()
    size = SMOKE if smoke else Size()
    one, many = replace(size, batch=1), replace(size, batch=4 * size.batch)

    def eager(name, build, size=size, **options):
        return {name: partial(step_contestant, name, build, size, device=device, **options)}

    def quick(name, build, size=size, **options):
        return {name: fast(device, smoke, step_contestant, name, build, size, **options)}

    makers = matmuls(device, smoke)
    makers |= eager("ours", class_dit, fused=True) | quick("ours, fast", class_dit)
    makers |= eager("ours, one clip", class_dit, one, fused=True)
    makers |= eager(f"ours, {LINEAR}", with_onednn(class_dit), fused=True)
    makers |= eager(f"ours with text, {LINEAR}", with_onednn(video_dit), fused=True)
    makers |= eager("ours, 32 clips", class_dit, many, fused=True) | quick("ours, fast, 32 clips", class_dit, many)
    makers |= eager("lesson's DiT", image_dit, fused=True)
    makers |= eager("textbook DiT", textbook_dit) | eager("textbook DiT, fused AdamW", textbook_dit, fused=True)
    makers |= eager("textbook DiT, one clip", textbook_dit, one)
    makers |= eager(f"textbook DiT, {LINEAR}", with_onednn(textbook_dit))
    makers |= quick("textbook DiT, fast", textbook_dit) | quick("textbook DiT, fast, plain attention", unfused_dit)
    makers |= eager("ours with text", video_dit, fused=True) | quick("ours with text, fast", video_dit)
    makers |= eager("ours with text, one clip", video_dit, one, fused=True)
    makers |= quick("ours with text, fast, Muon", video_dit, optimisers=muon)
    for name, (build, _, _) in PEERS.items():
        makers |= eager(name, build) | eager(f"{name}, one clip", build, one) | quick(f"{name}, fast", build)
        makers |= eager(f"{name}, {LINEAR}", with_onednn(build))
    about = f"training step, width {size.width}, depth {size.depth}, {size.tokens} tokens, batch {size.batch}"
    return Suite(makers, [*label_comparisons(), *text_comparisons()], about=about)


def label_comparisons() -> list[Comparison]:
    """Models without words: against the DiT of the paper, and against the machine."""
    return [
        Comparison("fp32, against a textbook DiT with default AdamW", "ours", "textbook DiT", 0.95, 0.80),
        Comparison("the same, both with fused AdamW", "ours", "textbook DiT, fused AdamW"),
        Comparison(f"the same, default AdamW, {LINEAR} in both", f"ours, {LINEAR}", f"textbook DiT, {LINEAR}"),
        Comparison("the same, default AdamW, one clip a step", "ours, one clip", "textbook DiT, one clip"),
        Comparison("bf16 and compiled, against the same in fp32 eager", "ours, fast", "ours", 0.55, 0.40),
        Comparison("bf16 and compiled, against that DiT with the same", "ours, fast", "textbook DiT, fast", 0.85, 0.65),
        Comparison("the same, with timm's attention unfused", "ours, fast", "textbook DiT, fast, plain attention"),
        Comparison("share of the matmul peak, fp32, 32 clips", "ours, 32 clips", FP32, 0.50, 0.65, share=True),
        Comparison("share of the matmul peak, bf16, 32 clips", "ours, fast, 32 clips", BF16, 0.40, 0.55, share=True),
        Comparison("share of the matmul peak, fp32, 8 clips", "ours", FP32, share=True),
        Comparison("share of the matmul peak, bf16, 8 clips", "ours, fast", BF16, share=True),
    ]


def text_comparisons() -> list[Comparison]:
    """Models that read a prompt."""
    with_text, ours = "with text, fp32 eager, against", "ours with text"
    comparisons = [Comparison(f"{with_text} {name}", ours, name, floor, aim) for name, (_, floor, aim) in PEERS.items()]
    comparisons += [
        Comparison(f"{with_text} {name}, {LINEAR} in both", f"{ours}, {LINEAR}", f"{name}, {LINEAR}") for name in PEERS
    ]
    comparisons += [
        Comparison(f"{with_text} {name}, one clip a step", f"{ours}, one clip", f"{name}, one clip") for name in PEERS
    ]
    comparisons += [
        Comparison(f"with text, bf16 and compiled, against {name} with the same", f"{ours}, fast", f"{name}, fast")
        for name in PEERS
    ]
    return [*comparisons, Comparison("Muon's cost: against AdamW", f"{ours}, fast, Muon", f"{ours}, fast")]


def sample_suite(device: torch.device, smoke: bool) -> Suite:
    """A clip drawn: 25 guided steps of the same transformers; and from prompt to pixels with the shipped model."""
    check_peers()
    size = SMOKE if smoke else Size()
    full = 3 if smoke else 25

    def draw(name, build, steps=full, **options):
        return {name: partial(clip_contestant, name, build, size, device=device, steps=steps, **options)}

    makers = matmuls(device, smoke)
    makers |= draw("ours", video_dit) | draw("ours, bf16", video_dit, fast=True)
    makers |= draw("ours, guidance in two passes", video_dit, batched=False)
    makers |= draw("ours, 4 unguided, bf16", video_dit, steps=4, cfg_scale=1.0, fast=True)
    comparisons = [
        Comparison("bf16, against fp32", "ours, bf16", "ours"),
        Comparison("guidance in one pass, against two", "ours", "ours, guidance in two passes"),
        Comparison(
            "4 steps without guidance, against 25 with",
            "ours, 4 unguided, bf16",
            "ours, bf16",
            aim=0.15,
        ),
    ]
    for name, build in {"LTX": ltx, "Wan": wan, "CogVideoX": cogvideox}.items():
        makers |= draw(name, build) | draw(f"{name}, bf16", build, fast=True)
        comparisons += [
            Comparison(f"fp32, against {name}", "ours", name),
            Comparison(f"bf16, against {name}", "ours, bf16", f"{name}, bf16"),
        ]
    if not smoke:
        makers["prompt to clip, tiny"] = partial(prompt_contestant, "prompt to clip, tiny", device)
    return Suite(makers, comparisons, about=f"one clip's latent, {size.tokens} tokens, {full} Euler steps, guidance 3")


def prompt_contestant(name: str, device: torch.device) -> Contestant:
    """Everything that a reader waits for: text, 25 guided steps, decoder."""
    pipe = Pipeline.load("tiny", device=str(device))
    parameters = sum(p.numel() for p in [*pipe.model.parameters(), *pipe.vae.parameters()])
    return Contestant(name, lambda: pipe("a red circle falls"), unit="clip", parameters=parameters)
