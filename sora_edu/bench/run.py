"""How fast we are against what a reader would use instead: ``sora-edu bench``.

Each suite times its contestants in shuffled, interleaved rounds (``rounds``), compares them (``floors``) and
writes tables and JSON (``report``). Who runs against whom is in ``transformers`` and ``suites``.
"""

import gc
import sys
import warnings
from dataclasses import replace

import torch

from sora_edu.bench.floors import judge_all
from sora_edu.bench.machine import keep_memory, kind_of, other_cpu_seconds, peak_memory, settler
from sora_edu.bench.report import contestant_figures, outcome_figures
from sora_edu.bench.rounds import LEAST_ROUNDS, Contestant, run_rounds, warm_up
from sora_edu.bench.steps import shipped
from sora_edu.bench.suites import SUITES
from sora_edu.bench.transformers import Setup, Suite
from sora_edu.errors import InputError

SMOKE_ROUNDS = 2


def prepare(suite: Suite, device: torch.device, settle, *, smoke: bool):
    """Make and warm up every contestant; one that fails is named and left out, and its floors stay undecided."""
    ready: list[Contestant] = []
    calls, memory, failed = {}, {}, {}
    for name, make in suite.makers.items():
        print(f"  preparing {name}", file=sys.stderr, flush=True)
        try:
            contestant = make()
            calls[name] = warm_up(contestant, least=0.0 if smoke else 0.5, settle=settle)
            memory[name] = peak_memory(contestant.run, device)
        except Exception as error:
            if smoke:
                raise
            failed[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        else:
            ready.append(contestant)
    return ready, calls, memory, failed


def run_suite(
    name: str,
    *,
    rounds: int = 11,
    tolerance: float = 0.1,
    smoke: bool = False,
    device: torch.device | str = "cpu",
    seed: int = 0,
    fp32: bool = False,
) -> dict:
    """Run one suite and return its figures.

    smoke: tiny sizes and two rounds, to see that all runs; compiles and judges nothing. fp32: leave bf16 products off
    where the processor has them, as a reader without them would see it; another kind of processor for the floors.
    Raises InputError for an unknown suite, fewer rounds than seven, another device than cpu or cuda, or peers
    that are not installed.
    """
    if name not in SUITES:
        raise InputError(f"suite {name!r} is unknown; use one of {', '.join(SUITES)}")
    if not smoke and rounds < LEAST_ROUNDS:
        raise InputError(f"rounds={rounds} is too few for a median to trust; use {LEAST_ROUNDS} or more")
    device = torch.device(device)
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"device {device} cannot be timed here, for nothing waits for it; use cpu or cuda")
    keep_memory()
    settle = settler(device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the peers' own, about their past and future
        switches = shipped(device, fp32=fp32)
        setup = Setup(device, replace(switches, compiled=switches.compiled and not smoke), smoke)
        suite = SUITES[name](setup)
        ready, calls, memory, failed = prepare(suite, device, settle, smoke=smoke)
        measured = run_rounds(
            ready, calls, rounds=SMOKE_ROUNDS if smoke else rounds, tolerance=tolerance, seed=seed, settle=settle,
            other_cpu=(lambda: None) if smoke else other_cpu_seconds, progress=name,
        )  # fmt: skip
        kind = kind_of(device, fp32=fp32)
        outcomes = judge_all(suite.comparisons, ready, measured, kind=kind)
        result = {
            "about": suite.about,
            "kind": kind,
            "rounds": {"kept": measured.kept, "dropped": measured.dropped},
            "contestants": contestant_figures(ready, measured, memory, calls),
            "comparisons": [outcome_figures(outcome) for outcome in outcomes],
            "failed": failed,
            "afterwards": suite.afterwards(measured) if measured.kept else {},
        }
    del ready, suite
    torch.compiler.reset()
    gc.collect()
    return result
