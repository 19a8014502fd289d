"""Suites ``step`` and ``sample``: the transformers, ours and others', trained for a step and asked for a clip.

Ours run as shipped: in bf16 where the processor has it, blocks compiled for training, fused AdamW. The others run
twice: as they come (fp32, eager, default AdamW), and with the same switches as ours.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch

from sora_edu.bench.floors import COME, LINEAR, SAME, Comparison
from sora_edu.bench.machine import MATMUL_SIDES, matmul_peak
from sora_edu.bench.models import SMOKE, Size, class_dit, video_dit, with_onednn
from sora_edu.bench.peers import check_peers, cogvideox, latte, ltx, textbook_dit, unet_3d, unfused_dit, wan
from sora_edu.bench.rounds import Contestant, Rounds
from sora_edu.bench.steps import AS_IT_COMES, Switches, clip_contestant, muon, step_contestant
from sora_edu.pipeline import Pipeline

Maker = Callable[[], Contestant]
TEXT_PEERS = {"LTX": ltx, "Wan": wan, "CogVideoX": cogvideox, "Latte": latte, "3-D U-Net": unet_3d}


@dataclass(frozen=True)
class Setup:
    """Where a suite runs, and the switches that our own training turns on there."""

    device: torch.device
    shipped: Switches
    smoke: bool = False  # tiny sizes, to see that all runs


@dataclass(frozen=True)
class Suite:
    """How to make the contestants, what to compare, and what to measure once their times are known."""

    makers: dict[str, Maker]
    comparisons: list[Comparison]
    afterwards: Callable[[Rounds], dict] = lambda rounds: {}
    about: str = ""


def matmuls(setup: Setup) -> dict[str, Maker]:
    """The peaks that shares refer to: in fp32, and in bf16 where that is used."""
    sides = (64,) if setup.smoke else MATMUL_SIDES
    dtypes = {AS_IT_COMES.peak: torch.float32}
    if setup.shipped.bf16:
        dtypes[setup.shipped.peak] = torch.bfloat16
    return {name: partial(matmul_peak, dtype, setup.device, sides=sides) for name, dtype in dtypes.items()}


def both_ways(name: str, ours: str, make: Callable[..., Contestant], switches: Switches) -> tuple[dict, list]:
    """Another's model as it comes and with our switches, and the two comparisons; ``make(name=, switches=)``."""
    same = f"{name}, same switches"
    makers = {name: partial(make, name=name), same: partial(make, name=same, switches=switches)}
    return makers, [Comparison(name, ours, name, COME), Comparison(name, ours, same, SAME)]


def step_suite(setup: Setup) -> Suite:
    """A training step of the transformers at width 256, depth 6, 128 tokens a clip, eight clips."""
    check_peers()
    size = SMOKE if setup.smoke else Size()
    many = replace(size, batch=4 * size.batch)
    step = partial(step_contestant, device=setup.device)
    makers, comparisons = matmuls(setup), []

    def add(name: str, build, size=size, switches=setup.shipped, **options) -> None:
        makers[name] = partial(step, name, build, size, switches=switches, **options)

    add("ours", class_dit)
    add("ours with text", video_dit)
    add("ours with text, Muon", video_dit, optimisers=muon)
    add("ours, 32 clips", class_dit, many)
    unfused = "textbook DiT, same switches, plain attention"
    add(unfused, unfused_dit)
    peers = {"textbook DiT": (textbook_dit, "ours")}
    peers |= {name: (build, "ours with text") for name, build in TEXT_PEERS.items()}
    for name, (build, ours) in peers.items():
        found, compared = both_ways(name, ours, partial(step, build=build, size=size), setup.shipped)
        makers |= found
        comparisons += compared
    comparisons += [
        Comparison("textbook DiT, timm's attention unfused", "ours", unfused, SAME),
        Comparison("as shipped, against our own in fp32, eager, default AdamW", "ours", "ours, as it comes"),
        Comparison("Muon, as the presets train, against AdamW", "ours with text, Muon", "ours with text"),
        Comparison("share of the matmul peak, 32 clips", "ours, 32 clips", setup.shipped.peak, share=True),
        Comparison("share of the matmul peak, 8 clips", "ours", setup.shipped.peak, share=True),
    ]
    plain, compared = library_rows(step, size, peers)
    about = f"training step, width {size.width}, depth {size.depth}, {size.tokens} tokens, batch {size.batch}"
    return Suite(makers | plain, [*comparisons, *compared], about=about)


def library_rows(step, size: Size, peers: dict) -> tuple[dict[str, Maker], list[Comparison]]:
    """All in fp32, eager, default AdamW, with ``nn.Linear`` and with ``bench.linear`` in both: whose lead is it?"""
    makers, comparisons = {}, []
    for ours, build in (("ours", class_dit), ("ours with text", video_dit)):
        makers[f"{ours}, as it comes"] = partial(step, f"{ours}, as it comes", build, size)
        makers[f"{ours}, oneDNN"] = partial(step, f"{ours}, oneDNN", with_onednn(build), size)
    for name, (build, ours) in peers.items():
        makers[f"{name}, oneDNN"] = partial(step, f"{name}, oneDNN", with_onednn(build), size)
        comparisons += [
            Comparison(f"{name}, nn.Linear", f"{ours}, as it comes", name, LINEAR),
            Comparison(f"{name}, bench.linear", f"{ours}, oneDNN", f"{name}, oneDNN", LINEAR),
        ]
    return makers, comparisons


def sample_suite(setup: Setup) -> Suite:
    """A clip drawn: 25 guided steps of the same transformers; and from prompt to pixels with the shipped model."""
    check_peers()
    size = SMOKE if setup.smoke else Size()
    full = 3 if setup.smoke else 25
    switches = Switches(bf16=setup.shipped.bf16)  # a clip is drawn without compiling
    draw = partial(clip_contestant, device=setup.device)
    makers, comparisons = matmuls(setup), []

    def add(name: str, steps: int = full, switches=switches, **options) -> None:
        makers[name] = partial(draw, name, video_dit, size, steps=steps, switches=switches, **options)

    add("ours")
    add("ours, as it comes", switches=AS_IT_COMES)
    add("ours, guidance in two passes", batched=False)
    add("ours, 4 unguided", steps=4, cfg_scale=1.0)
    for name, build in {"LTX": ltx, "Wan": wan, "CogVideoX": cogvideox}.items():
        found, compared = both_ways(
            f"a clip: {name}", "ours", partial(draw, build=build, size=size, steps=full), switches
        )
        makers |= found
        comparisons += compared
    comparisons += [
        Comparison("a clip as shipped, against our own in fp32", "ours", "ours, as it comes"),
        Comparison("guidance in one pass, against two", "ours", "ours, guidance in two passes"),
        Comparison("4 steps without guidance, against 25 with", "ours, 4 unguided", "ours"),
    ]
    if not setup.smoke:
        makers["prompt to clip, tiny"] = partial(prompt_contestant, "prompt to clip, tiny", setup.device)
    return Suite(makers, comparisons, about=f"one clip's latent, {size.tokens} tokens, {full} Euler steps, guidance 3")


def prompt_contestant(name: str, device: torch.device) -> Contestant:
    """Everything that a reader waits for: text, 25 guided steps, decoder."""
    pipe = Pipeline.load("tiny", device=str(device))
    parameters = sum(p.numel() for p in [*pipe.model.parameters(), *pipe.vae.parameters()])
    return Contestant(name, lambda: pipe("a red circle falls"), unit="clip", parameters=parameters)
