"""`sora-edu bench`: what is printed and written, and the exit status."""

import json
import tomllib
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement

from sora_edu import cli
from sora_edu.bench import machine, run as bench
from sora_edu.bench.peers import PACKAGES

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(capsys):
    def run(*args: str) -> tuple[int, str, str]:
        try:
            cli.main(["bench", *args])
            status = 0
        except SystemExit as stop:
            status = stop.code or 0
        return status, *capsys.readouterr()

    return run


def fake(verdict: str, ratio: float | None = 0.5):
    """A suite with one contestant and one comparison."""
    comparison = {
        "title": "ours against theirs",
        "group": "beside",
        "ours": "a",
        "theirs": "b",
        "kind": "time for the same work",
    }
    comparison |= {"ratio": ratio, "interval": [0.4, 0.6], "coverage": 0.98, "rounds": 7, "by_flops": None}
    comparison |= {
        "floor": 0.45,
        "aim": None,
        "aim_near_flops": None,
        "aim_met": None,
        "verdict": verdict,
        "reason": "",
    }
    base = {"about": "made up", "rounds": {"kept": 7, "dropped": 0}, "contestants": [], "failed": {}, "afterwards": {}}
    base |= {"kind": "AMD with avx512_bf16"}
    return lambda name, **options: base | {"comparisons": [comparison]}


@pytest.mark.parametrize(("verdict", "status"), [("met", 0), ("", 0), ("missed", 1), ("undecided", 1)])
def test_the_exit_status_is_one_where_a_floor_is_not_met(run, monkeypatch, verdict, status):
    monkeypatch.setattr(bench, "run_suite", fake(verdict))
    got, out, _ = run("--suite", "data")
    last = out.splitlines()[-1]
    assert got == status and ("floors met" in last if verdict else last == "no floor is set in data")
    assert ("missed: data, beside: ours against theirs (0.5, floor 0.45)" in last) == (verdict == "missed")


def test_all_suites_run_and_the_json_holds_machine_and_figures(run, monkeypatch, tmp_path):
    monkeypatch.setattr(bench, "run_suite", fake("met"))
    path = tmp_path / "new" / "bench.json"
    status, out, _ = run("--json", str(path))
    written = json.loads(path.read_text())
    assert status == 0 and list(written["suites"]) == ["step", "sample", "vae", "attention", "data"]
    assert written["machine"]["torch"] == torch.__version__
    assert out.splitlines()[-2:] == [str(path), "5 of 5 floors met"]


def test_another_processor_is_told_so_and_ends_well(run, monkeypatch):
    monkeypatch.setattr(bench, "run_suite", lambda name, **options: fake("")(name) | {"kind": "toaster"})
    status, out, _ = run("--suite", "data")
    assert status == 0 and out.splitlines()[-1].startswith("no floor for this processor (toaster); there are floors")


def test_fp32_is_forced_and_said_to_be(run, monkeypatch, tmp_path):
    asked = {}
    monkeypatch.setattr(bench, "run_suite", lambda name, **options: asked.update(options) or fake("")(name))
    monkeypatch.setattr(machine, "fast_bf16", lambda device: True)
    _, out, _ = run("--suite", "data", "--fp32", "--json", str(tmp_path / "it.json"))
    assert asked["fp32"] and "forced to fp32" in out
    assert "forced to fp32" in json.loads((tmp_path / "it.json").read_text())["machine"]["kind"]


def test_a_smoke_run_judges_nothing(run, tmp_path):
    path = tmp_path / "attention.json"
    status, out, _ = run("--suite", "attention", "--smoke", "--json", str(path))
    assert status == 0 and out.splitlines()[-1] == "smoke: everything ran, nothing was judged"
    contestants = json.loads(path.read_text())["suites"]["attention"]["contestants"]
    assert {"full, long", "windowed, long"} <= {c["name"] for c in contestants}
    assert all(len(c["rounds"]) == 2 for c in contestants)


def test_mistakes_end_in_one_line_and_status_two(run):
    status, _, err = run("--suite", "data", "--rounds", "3")
    assert status == 2 and err.splitlines()[-1].startswith("error: rounds=3 is too few")
    status, _, err = run("--suite", "data", "--device", "toaster")
    assert status == 2 and "error: --device 'toaster' is unknown; use cpu" in err


def test_the_extra_names_every_peer_and_make_installs_it_pinned():
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["bench"]
    assert {Requirement(line).name.replace("-", "_") for line in extra} == set(PACKAGES)
    target = (ROOT / "Makefile").read_text().split("\nbench:")[1].split("\n\n")[0]
    assert "install -c constraints.txt -e '.[bench]'" in target and all(name in target for name in PACKAGES)
