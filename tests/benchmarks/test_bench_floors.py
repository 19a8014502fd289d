"""Verdicts and reports, from times that are written down by hand."""

import json

import pytest

from sora_edu.bench import report
from sora_edu.bench.floors import COME, FLOORS, SAME, Comparison, Floor, judge, judge_all
from sora_edu.bench.report import (
    BEGIN,
    END,
    all_met,
    as_text,
    contestant_figures,
    markdown,
    outcome_figures,
    shown,
    summary,
)
from sora_edu.bench.rounds import Contestant, Rounds
from sora_edu.errors import InputError

AMD = "AMD with avx512_bf16"

OURS = Contestant("ours", int, work=100, unit="token", flops=2 * 10**9, parameters=3, peak="peak", held=lambda: 2**20)
THEIRS = Contestant("theirs", int, work=50, unit="token", flops=3 * 10**9, peak="peak")
PEAK = Contestant("peak", int, flops=8 * 10**9, peak="peak")
ROUNDS = Rounds({"ours": [1.0] * 7, "theirs": [1.0] * 7, "peak": [1.0] * 7}, dropped=2)


def judged(rounds: Rounds = ROUNDS, floor=None, aim=None, near=None, **options):
    comparison = Comparison(**({"title": "it", "ours": "ours", "theirs": "theirs"} | options))
    named = {contestant.name: contestant for contestant in (OURS, THEIRS, PEAK)}
    return judge(comparison, Floor(floor, aim, near), named, rounds, least=7)


def test_floors_are_judged_on_the_kind_of_processor_they_were_set_on_and_on_no_other():
    rows = [Comparison("LTX", "ours", "theirs", group) for group in (COME, SAME)]
    here, there = (judge_all(rows, [OURS, THEIRS], ROUNDS, kind=kind) for kind in (AMD, AMD + ", forced to fp32"))
    assert [(o.asked.floor, o.verdict) for o in here] == [(0.41, "missed"), (0.75, "met")]
    assert [(o.asked.floor, o.verdict, o.ratio) for o in there] == [(None, "", 0.5)] * 2


def test_the_cost_of_a_unit_of_work_is_compared():
    assert judged().ratio == 0.5  # equal times, twice the work


@pytest.mark.parametrize(("floor", "verdict"), [(0.51, "met"), (0.5, "met"), (0.49, "missed"), (None, "")])
def test_a_ratio_must_not_exceed_its_floor(floor, verdict):
    assert judged(floor=floor).verdict == verdict


@pytest.mark.parametrize(("floor", "verdict"), [(0.24, "met"), (0.25, "met"), (0.26, "missed")])
def test_a_share_must_reach_its_floor(floor, verdict):
    outcome = judged(theirs="peak", share=True, floor=floor)
    assert (outcome.ratio, outcome.verdict) == (0.25, verdict)


def test_six_rounds_decide_nothing():
    few = Rounds({name: values[:6] for name, values in ROUNDS.seconds.items()})
    outcome = judged(few, floor=0.9)
    assert (outcome.verdict, outcome.reason) == ("undecided", "only 6 undisturbed rounds of 7")
    assert outcome.ratio == 0.5


def test_a_contestant_that_could_not_run_leaves_its_floor_undecided():
    outcome = judged(theirs="gone", floor=0.9)
    assert (outcome.verdict, outcome.reason) == ("undecided", "not run: gone")
    json.dumps(outcome_figures(outcome), allow_nan=False)


def test_the_ratio_by_flops_is_that_of_flops_a_unit():
    assert judged().expected == pytest.approx((2 / 100) / (3 / 50))
    assert judged(theirs="peak", share=True).expected is None


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
    assert judged(**options).aim_met is met


def result(**options) -> dict:
    return {
        "about": "by hand",
        "kind": AMD,
        "rounds": {"kept": 7, "dropped": 2},
        "contestants": contestant_figures([OURS, THEIRS, PEAK], ROUNDS, {"ours": 2**20, "theirs": None}, {}),
        "comparisons": [outcome_figures(judged(**options))],
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
        "1 of 3 floors met; missed: b, beside: it (0.5, floor 0.4); undecided: c, beside: it (not run: gone)"
    )
    assert summary({"a": result()}) == "no floor is set in a"
    assert all_met({"a": met}) and all_met({"a": result()})
    assert not all_met({"a": met, "b": missed}) and not all_met({"c": open_})


def test_numbers_are_shown_short():
    assert [shown(x) for x in (None, 0.12345, 12.345, 12345.6)] == ["-", "0.123", "12.3", "12,346"]


def test_another_processor_is_told_that_no_floor_is_for_it():
    assert summary({"a": result() | {"kind": "arm64 without bf16"}}) == (
        f"no floor for this processor (arm64 without bf16); there are floors for {AMD}"
    )


def record(kind: str = AMD, **options) -> dict:
    machine = {"kind": kind, "processor": "EPYC", "cores": 2, "torch": "2.13.0"}
    return {"machine": machine, "suites": {"step": result(**options)}}


def test_readme_tables_hold_floor_aim_and_figure_and_set_a_missed_one_in_bold():
    assert "| it | 0.60 | 0.50 | 0.50 (0.50 to 0.50) |" in markdown([record(floor=0.6, aim=0.5)])
    assert "| it | 0.40 |  | **0.50** (0.50 to 0.50) |" in markdown([record(floor=0.4)])
    assert "| it | 20 % | 30 % | 25 % (25 % to 25 %) |" in markdown(
        [record(theirs="peak", share=True, floor=0.2, aim=0.3)]
    )
    assert "| it |  | by FLOPs ±5% | 0.50 (" in markdown([record(near=0.05)])
    assert "| it |  |  | not run (not run: gone) |" in markdown([record(theirs="gone")])


def test_readme_tables_are_one_for_each_kind_of_processor_and_group():
    peers = {"machine": record()["machine"], "suites": {"vae": result(group=COME)}}
    tables = markdown([record(), record("other"), peers])
    assert tables.count("### AMD with avx512_bf16\n") == tables.count("### other\n") == 1
    assert tables.index("others as they come |") < tables.index("| Beside these |") < tables.index("### other")
    old = record()
    del old["machine"]["kind"]
    assert markdown([old]) == markdown([]) == "Not measured yet."


def test_tables_go_between_the_marks_of_a_file(tmp_path):
    readme, figures = tmp_path / "README.md", tmp_path / "step.json"
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    figures.write_text(json.dumps(record()))
    report.main([str(figures), "--into", str(readme)])
    assert readme.read_text() == f"before\n{BEGIN}\n{markdown([record()])}\n{END}\nafter\n"
    readme.write_text("no marks")
    with pytest.raises(InputError, match="needs one line <!-- figures of sora-edu bench -->"):
        report.main([str(figures), "--into", str(readme)])


def test_every_floor_has_a_reasonable_aim_behind_it():
    for floors in FLOORS.values():
        for (_, title), asked in floors.items():
            if asked.floor is not None and asked.aim is not None:
                assert asked.aim > asked.floor if title.startswith("share") else asked.aim < asked.floor
