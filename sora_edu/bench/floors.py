"""Which times are compared, what the ratio must reach, and whether it did."""

import math
import statistics
from dataclasses import dataclass

from sora_edu.bench.rounds import LEAST_ROUNDS, Contestant, Rounds, median_interval


@dataclass(frozen=True)
class Comparison:
    """Cost of ours over theirs for the same work; or, as a share, FLOP/s of ours over theirs."""

    title: str
    ours: str  # names of contestants
    theirs: str
    floor: float | None = None  # what must be reached: at most this, or for a share at least
    aim: float | None = None  # what is hoped for
    share: bool = False
    near: float | None = None  # an aim of another kind: within this share of what the FLOP counts alone would give


@dataclass(frozen=True)
class Outcome:
    """A comparison, measured."""

    comparison: Comparison
    ratio: float  # median of the rounds' ratios
    low: float
    high: float
    coverage: float  # chance that low and high hold the median
    rounds: int
    expected: float | None  # by the FLOP counts
    verdict: str  # "met", "missed", "undecided", or "" where nothing is asked
    reason: str = ""

    @property
    def aim_met(self) -> bool | None:
        """Whether the aim was reached; None where there is none, or too little was measured."""
        c = self.comparison
        if self.verdict == "undecided" or math.isnan(self.ratio) or (c.aim is None and c.near is None):
            return None
        if c.near is not None:
            return self.expected is not None and abs(self.ratio / self.expected - 1) <= c.near
        return reached(c, self.ratio, c.aim)


def reached(comparison: Comparison, ratio: float, bound: float) -> bool:
    """Costs must stay at or below the bound, shares at or above it."""
    return ratio >= bound if comparison.share else ratio <= bound


def ratios(comparison: Comparison, contestants: dict[str, Contestant], rounds: Rounds) -> list[float]:
    """One ratio for each round: seconds a unit of work, or FLOP/s where a share is asked."""
    ours, theirs = contestants[comparison.ours], contestants[comparison.theirs]
    pairs = zip(rounds.seconds[ours.name], rounds.seconds[theirs.name], strict=True)
    if comparison.share:
        return [(ours.flops / a) / (theirs.flops / b) for a, b in pairs]
    return [(a / ours.work) / (b / theirs.work) for a, b in pairs]


def flop_ratio(comparison: Comparison, contestants: dict[str, Contestant]) -> float | None:
    """What the ratio would be if every FLOP took the same time; None where it is not counted."""
    ours, theirs = contestants[comparison.ours], contestants[comparison.theirs]
    if comparison.share or not ours.flops or not theirs.flops:
        return None
    return (ours.flops / ours.work) / (theirs.flops / theirs.work)


def judge(comparison: Comparison, contestants: dict[str, Contestant], rounds: Rounds, *, least: int) -> Outcome:
    """Measure one comparison and hold its median against the floor."""
    missing = [name for name in (comparison.ours, comparison.theirs) if name not in contestants]
    nan = float("nan")
    if missing or rounds.kept == 0:
        reason = f"not run: {', '.join(missing)}" if missing else "no undisturbed round"
        return Outcome(comparison, nan, nan, nan, 0.0, 0, None, verdict(comparison, nan, False), reason)
    values = ratios(comparison, contestants, rounds)
    middle, enough = statistics.median(values), len(values) >= least
    low, high, coverage = median_interval(values)
    reason = "" if enough else f"only {len(values)} undisturbed rounds of {least}"
    expected = flop_ratio(comparison, contestants)
    given = verdict(comparison, middle, enough)
    return Outcome(comparison, middle, low, high, coverage, len(values), expected, given, reason)


def verdict(comparison: Comparison, ratio: float, enough: bool) -> str:
    """``met`` or ``missed``; ``undecided`` where too little was measured; nothing where there is no floor."""
    if comparison.floor is None:
        return ""
    if not enough:
        return "undecided"
    return "met" if reached(comparison, ratio, comparison.floor) else "missed"


def judge_all(
    comparisons: list[Comparison], contestants: list[Contestant], rounds: Rounds, *, least: int = LEAST_ROUNDS
) -> list[Outcome]:
    """All outcomes, in order."""
    named = {contestant.name: contestant for contestant in contestants}
    return [judge(comparison, named, rounds, least=least) for comparison in comparisons]
