"""Timing on a machine that is never quite at rest: shuffled rounds, and ratios within a round.

Clock rates and temperatures drift, so two times measured a minute apart cannot be compared. Here every round runs each
contestant once, in a new order, and only times of the same round are divided. A round in which other programs took CPU
time beside any of them is dropped whole, whatever it measured: dropping by the result would flatter it.
"""

import contextlib
import gc
import math
import random
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from tqdm.auto import tqdm

from sora_edu.errors import InputError

LEAST_ROUNDS = 7  # the median of fewer has no interval worth printing


@dataclass(frozen=True)
class Contestant:
    """Something to time, and what its work amounts to."""

    name: str
    run: Callable[[], object]  # one call does all the work below
    work: int = 1  # units in one call
    unit: str = "call"  # what is counted: tokens, clips
    flops: int | None = None  # of one call
    parameters: int | None = None  # of the model behind it
    peak: str | None = None  # the contestant whose FLOP/s count as 100 %
    held: Callable[[], int] = int  # bytes that stay between calls: weights and optimiser state


@dataclass(frozen=True)
class Rounds:
    """Seconds a call of each contestant, one entry a round kept, and the number of rounds dropped."""

    seconds: dict[str, list[float]]
    dropped: int = 0

    @property
    def kept(self) -> int:
        return min(map(len, self.seconds.values()), default=0)

    def median(self, name: str) -> float:
        """Median seconds of a call."""
        return statistics.median(self.seconds[name])


def do_nothing() -> None:
    """What there is to wait for after a call on a CPU; on a GPU it is ``torch.cuda.synchronize``."""


def warm_up(
    contestant: Contestant, *, least: float = 0.5, clock: Callable[[], float] = time.perf_counter, settle=do_nothing
) -> int:
    """Call twice, for compilation and caches, then return how many calls last ``least`` seconds."""
    for _ in range(2):
        contestant.run()
    settle()
    started = clock()
    contestant.run()
    settle()
    return max(1, math.ceil(least / max(clock() - started, 1e-9)))


def run_rounds(
    contestants: Sequence[Contestant],
    calls: dict[str, int],
    *,
    rounds: int,
    tolerance: float = 0.1,
    most: int | None = None,
    seed: int = 0,
    other_cpu: Callable[[], float | None] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
    settle: Callable[[], object] = do_nothing,
    progress: str | None = None,
) -> Rounds:
    """Time all contestants in shuffled rounds until ``rounds`` of them passed undisturbed, or ``most`` in all.

    calls: calls of each in one round. other_cpu: CPU seconds that others have used so far, None where the system does
    not say; a round is dropped where, beside any contestant, they took more than ``tolerance`` of one core.
    most: 5 * rounds without it.
    Raises InputError for no round, no contestant, or two of one name.
    """
    names = [contestant.name for contestant in contestants]
    if rounds < 1 or not names or len(set(names)) < len(names):
        raise InputError(f"rounds={rounds}, contestants {names}: use at least one of each, and a name for each")
    order, shuffle = list(contestants), random.Random(seed).shuffle
    seconds, dropped = {name: [] for name in names}, 0
    with tqdm(total=rounds, desc=progress, disable=progress is None) as bar, no_garbage_collector() as collect:
        for _ in range(most or 5 * rounds):
            shuffle(order)
            collect()
            times = one_round(order, calls, tolerance=tolerance, other_cpu=other_cpu, clock=clock, settle=settle)
            if times is None:
                dropped += 1
                continue
            for name, value in times.items():
                seconds[name].append(value)
            bar.update()
            if len(seconds[names[0]]) == rounds:
                break
    return Rounds(seconds, dropped)


def one_round(
    order: Sequence[Contestant], calls: dict[str, int], *, tolerance: float, other_cpu, clock, settle
) -> dict[str, float] | None:
    """Time each contestant once; None as soon as others took their share of the CPU beside one of them.

    The first call of each is not timed: it finds caches and memory as the one before left them.
    """
    times = {}
    for contestant in order:
        contestant.run()
        others, started = other_cpu(), clock()
        times[contestant.name] = time_calls(contestant.run, calls.get(contestant.name, 1), clock=clock, settle=settle)
        if disturbed(others, other_cpu(), clock() - started, tolerance):
            return None
    return times


@contextlib.contextmanager
def no_garbage_collector() -> Iterator[Callable[[], int]]:
    """Keep it out of the timed calls. What is there already is frozen, so that a collection between is quick."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield gc.collect
    finally:
        gc.enable()
        gc.unfreeze()


def time_calls(run: Callable[[], object], calls: int, *, clock: Callable[[], float], settle) -> float:
    """Mean seconds of a call."""
    settle()
    started = clock()
    for _ in range(calls):
        run()
    settle()
    return (clock() - started) / calls


def disturbed(before: float | None, after: float | None, wall: float, tolerance: float) -> bool:
    """Whether others took more than ``tolerance`` of a core; 0.03 s are forgiven, for the system counts in ticks."""
    return before is not None and after is not None and after - before > tolerance * wall + 0.03


def median_interval(values: Iterable[float], *, level: float = 0.95) -> tuple[float, float, float]:
    """Bounds of the median, and the chance that they hold it: the k-th values from below and above, whatever their law.

    The median lies below the k-th value only if fewer than k of n coin tosses fall heads; k is the largest that keeps
    ``level``. With fewer than six values none does: then smallest and largest, and the lower chance that they give.
    """
    ordered = sorted(values)
    n = len(ordered)
    if n == 0:
        return math.nan, math.nan, 0.0

    def coverage(k: int) -> float:
        return 1 - 2 * sum(math.comb(n, i) for i in range(k)) / 2**n

    k = max((k for k in range(1, (n + 1) // 2 + 1) if coverage(k) >= level), default=1)
    return ordered[k - 1], ordered[n - k], max(0.0, coverage(k))
