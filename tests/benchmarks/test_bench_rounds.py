"""The runner, on a clock of our own: what it finds is known beforehand, and faults are planted."""

import random
import statistics

import pytest

from sora_edu.bench.floors import Comparison, Floor, judge
from sora_edu.bench.rounds import Contestant, disturbed, median_interval, run_rounds, warm_up
from sora_edu.errors import InputError


class Machine:
    """A clock that moves only when a contestant works, at a speed that drifts, beside others who take CPU time."""

    def __init__(self, *, drift: float = 0.0, disturbed_calls: dict[int, float] | None = None):
        self.now, self.others, self.calls, self.drift = 0.0, 0.0, 0, drift
        self.disturbed_calls = disturbed_calls or {}
        self.log: list[str] = []

    def contestant(self, name: str, seconds: float, **options) -> Contestant:
        def run() -> None:
            stolen = self.disturbed_calls.get(self.calls, 0.0)
            self.now += seconds * (1 + self.drift * self.calls) + stolen
            self.others += stolen
            self.calls += 1
            self.log.append(name)

        return Contestant(name, run, **options)

    def run(self, *contestants: Contestant, see_others: bool = True, **options):
        options = {"rounds": 7, "clock": lambda: self.now} | options
        if see_others:
            options["other_cpu"] = lambda: self.others
        return run_rounds(contestants, {}, **options)


def outcome_of(rounds, asked: Floor | None = None):
    names = {name: Contestant(name, int) for name in ("fast", "slow")}
    return judge(Comparison("", "fast", "slow"), asked or Floor(), names, rounds, least=7)


def ratio(rounds) -> float:
    return outcome_of(rounds).ratio


def test_a_contestant_twice_as_slow_is_found_so_on_a_machine_that_slows_down():
    machine = Machine(drift=0.1)
    rounds = machine.run(machine.contestant("fast", 1.0), machine.contestant("slow", 2.0), rounds=51, most=51)
    assert max(rounds.seconds["fast"]) > 5 * min(rounds.seconds["fast"])  # the drift is there
    assert ratio(rounds) == pytest.approx(0.5, rel=0.05)


def test_equal_contestants_are_found_equal_and_the_interval_holds_one():
    machine = Machine(drift=0.01)
    rounds = machine.run(machine.contestant("fast", 1.0), machine.contestant("slow", 1.0), rounds=31)
    outcome = outcome_of(rounds)
    assert outcome.low <= 1 <= outcome.high and outcome.ratio == pytest.approx(1, rel=0.02)


def test_disturbed_rounds_are_dropped_and_others_run_in_their_place():
    calls = {2 * i + 1: 30.0 for i in range(4)}  # a round ends with its first disturbed call that is timed
    machine = Machine(disturbed_calls=calls)
    rounds = machine.run(machine.contestant("fast", 1.0), machine.contestant("slow", 2.0))
    assert (rounds.kept, rounds.dropped) == (7, 4)
    assert rounds.seconds == {"fast": [1.0] * 7, "slow": [2.0] * 7}


def test_a_blip_beside_one_short_contestant_drops_a_long_round():
    machine = Machine(disturbed_calls={3: 1.0})
    long = machine.contestant("long", 100.0)  # of the whole round, the blip is less than one per cent
    rounds = machine.run(machine.contestant("short", 1.0), long, rounds=3, seed=1)
    assert (rounds.kept, rounds.dropped) == (3, 1) and rounds.seconds["short"] == [1.0] * 3


def test_without_the_drop_the_same_disturbance_spoils_the_ratio():
    machine = Machine(disturbed_calls={i: 30.0 for i in range(20)})
    rounds = machine.run(machine.contestant("fast", 1.0), machine.contestant("slow", 2.0), see_others=False)
    assert rounds.dropped == 0 and ratio(rounds) > 0.9


def test_where_no_round_is_undisturbed_nothing_is_judged():
    machine = Machine(disturbed_calls={i: 30.0 for i in range(1000)})
    fast, slow = machine.contestant("fast", 1.0), machine.contestant("slow", 2.0)
    rounds = machine.run(fast, slow)
    assert (rounds.kept, rounds.dropped) == (0, 35)
    outcome = outcome_of(rounds, Floor(0.9))
    assert (outcome.verdict, outcome.reason) == ("undecided", "no undisturbed round")


def test_the_median_of_ratios_is_taken_not_the_ratio_of_means():
    machine = Machine(disturbed_calls={1: 500.0})
    rounds = machine.run(machine.contestant("fast", 1.0), machine.contestant("slow", 2.0), see_others=False)
    means = [statistics.mean(rounds.seconds[name]) for name in ("fast", "slow")]
    assert ratio(rounds) == 0.5 and not 0.4 < means[0] / means[1] < 0.6


def test_the_order_is_shuffled_anew_in_every_round_and_the_seed_repeats_it():
    logs = []
    for seed in (0, 0, 1):
        machine = Machine()
        machine.run(*(machine.contestant(name, 1.0) for name in "abc"), rounds=20, seed=seed)
        turns = machine.log[::2]
        assert turns == machine.log[1::2]  # one call that is not timed, one that is
        assert all(sorted(turns[i : i + 3]) == list("abc") for i in range(0, 60, 3))  # each once a round
        logs.append(turns)
    assert logs[0] == logs[1] != logs[2]
    assert set(logs[0][::3]) == set("abc")


def test_calls_are_averaged_and_the_warm_up_is_not_timed():
    machine = Machine()
    short = machine.contestant("short", 0.03)
    calls = {"short": warm_up(short, least=0.2, clock=lambda: machine.now)}
    assert calls == {"short": 7} and machine.calls == 3
    rounds = run_rounds([short], calls, rounds=2, clock=lambda: machine.now)
    assert rounds.seconds["short"] == pytest.approx([0.03, 0.03]) and machine.calls == 3 + 2 * (1 + 7)


def test_the_first_call_of_a_turn_is_not_timed_whoever_came_before():
    machine = Machine(disturbed_calls={0: 30.0, 2: 30.0, 4: 30.0})
    rounds = machine.run(machine.contestant("fast", 1.0), machine.contestant("slow", 2.0), see_others=False)
    assert rounds.seconds == {"fast": [1.0] * 7, "slow": [2.0] * 7}


def test_a_tick_or_two_of_others_is_forgiven_and_silence_counts_as_peace():
    assert not disturbed(1.0, 1.03, 0.1, 0.1)
    assert not disturbed(1.0, 2.0, 10.0, 0.1)
    assert disturbed(1.0, 2.1, 10.0, 0.1)
    assert not disturbed(None, None, 1.0, 0.1)


@pytest.mark.parametrize(
    ("n", "low", "high", "coverage"),
    [(5, 1, 5, 1 - 2 / 2**5), (7, 1, 7, 1 - 2 / 2**7), (9, 2, 8, 1 - 20 / 2**9), (15, 4, 12, 1 - 2 * 576 / 2**15)],
)
def test_the_interval_is_the_binomial_one(n, low, high, coverage):
    values = [float(i) for i in range(1, n + 1)]
    random.Random(0).shuffle(values)
    assert median_interval(values) == (low, high, pytest.approx(coverage))


def test_the_interval_holds_the_median_as_often_as_it_says():
    draw = random.Random(0).expovariate  # far from a normal curve; its median is log 2
    held = 0
    for _ in range(2000):
        low, high, coverage = median_interval([draw(1.0) for _ in range(9)])
        held += low <= 0.6931 <= high
    assert held / 2000 == pytest.approx(coverage, abs=0.015)


@pytest.mark.parametrize(("names", "rounds"), [("aa", 7), ("ab", 0), ("", 7)])
def test_no_rounds_no_contestants_or_one_name_for_two_are_refused(names, rounds):
    with pytest.raises(InputError, match="use at least one of each, and a name for each"):
        run_rounds([Contestant(name, int) for name in names], {}, rounds=rounds)
