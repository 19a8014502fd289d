"""Verdicts and reports, from times that are written down by hand."""

import json

import pytest

from sora_edu.bench.floors import Comparison, judge_all
from sora_edu.bench.report import all_met, as_text, contestant_figures, outcome_figures, shown, summary
from sora_edu.bench.rounds import Contestant, Rounds

OURS = Contestant("ours", int, work=100, unit="token", flops=2 * 10**9, parameters=3, peak="peak", held=lambda: 2**20)
THEIRS = Contestant("theirs", int, work=50, unit="token", flops=3 * 10**9, peak="peak")
PEAK = Contestant("peak", int, flops=8 * 10**9, peak="peak")
ROUNDS = Rounds({"ours": [1.0] * 7, "theirs": [1.0] * 7, "peak": [1.0] * 7}, dropped=2)


def judge(rounds: Rounds = ROUNDS, **options):
    comparison = Comparison(**({"title": "it", "ours": "ours", "theirs": "theirs"} | options))
    return judge_all([comparison], [OURS, THEIRS, PEAK], rounds)[0]


def test_the_cost_of_a_unit_of_work_is_compared():
    assert judge().ratio == 0.5  # equal times, twice the work


@pytest.mark.parametrize(("floor", "verdict"), [(0.51, "met"), (0.5, "met"), (0.49, "missed"), (None, "")])
def test_a_ratio_must_not_exceed_its_floor(floor, verdict):
    assert judge(floor=floor).verdict == verdict


@pytest.mark.parametrize(("floor", "verdict"), [(0.24, "met"), (0.25, "met"), (0.26, "missed")])
def test_a_share_must_reach_its_floor(floor, verdict):
    outcome = judge(theirs="peak", share=True, floor=floor)
    assert (outcome.ratio, outcome.verdict) == (0.25, verdict)


def test_six_rounds_decide_nothing():
    few = Rounds({name: values[:6] for name, values in ROUNDS.seconds.items()})
    outcome = judge(few, floor=0.9)
    assert (outcome.verdict, outcome.reason) == ("undecided", "only 6 undisturbed rounds of 7")
    assert outcome.ratio == 0.5


def test_a_contestant_that_could_not_run_leaves_its_floor_undecided():
    outcome = judge(theirs="gone", floor=0.9)
    assert (outcome.verdict, outcome.reason) == ("undecided", "not run: gone")
    json.dumps(outcome_figures(outcome), allow_nan=False)


def test_the_ratio_by_flops_is_that_of_flops_a_unit():
    assert judge().expected == pytest.approx((2 / 100) / (3 / 50))
    assert judge(theirs="peak", share=True).expected is None


@pytest.mark.parametrize(
    ("options", "met"),
    [
        ({"aim": 0.5}, True),
        ({"aim": 0.49}, False),
        ({"theirs": "peak", "share": True, "aim": 0.25}, True),
        ({"theirs": "peak", "share": True, "aim": 0.26}, False),
        ({"near": 0.51}, True),  # 0.5 measured, 1/3 by FLOPs
        ({"near": 0.49}, False),
        ({}, None),
        ({"theirs": "gone", "aim": 0.5, "floor": 0.5}, None),
    ],
)
def test_aims_are_judged_beside_floors_and_without_them(options, met):
    assert judge(**options).aim_met is met


def result(**options) -> dict:
    return {
        "about": "by hand",
        "rounds": {"kept": 7, "dropped": 2},
        "contestants": contestant_figures([OURS, THEIRS, PEAK], ROUNDS, {"ours": 2**20, "theirs": None}, {}),
        "comparisons": [outcome_figures(judge(**options))],
        "failed": {"Latte": "ValueError: no"},
        "afterwards": {"ours": {"psnr": 30.0}},
    }


def test_rates_shares_and_memory_stand_beside_the_times():
    ours, theirs, peak = result()["contestants"]
    assert (ours["rate"], ours["flops_per_second"], ours["peak_share"]) == (100, 2e9, 0.25)
    assert ours["peak_memory"] == 2**21 and theirs["peak_memory"] is None
    assert peak["peak_share"] == 1


def test_the_tables_show_every_contestant_comparison_and_failure():
    text = as_text("step", result(floor=0.4))
    for part in ("7 rounds, 2 dropped", "ours", "theirs", "MISSED", "left out: Latte: ValueError: no", "psnr 30"):
        assert part in text
    lines = text.splitlines()
    assert all(line == line.rstrip() for line in lines)


def test_the_summary_counts_floors_and_names_those_not_met():
    met, missed, open_ = result(floor=0.6), result(floor=0.4), result(floor=0.4, theirs="gone")
    assert summary({"a": met}) == "1 of 1 floors met"
    assert summary({"a": met, "b": missed, "c": open_}) == (
        "1 of 3 floors met; missed: b: it (0.5, floor 0.4); undecided: c: it (not run: gone)"
    )
    assert summary({"a": result()}) == "no floor is set in a"
    assert all_met({"a": met}) and all_met({"a": result()})
    assert not all_met({"a": met, "b": missed}) and not all_met({"c": open_})


def test_numbers_are_shown_short():
    assert [shown(x) for x in (None, 0.12345, 12.345, 12345.6)] == ["-", "0.123", "12.3", "12,346"]
