"""The measured figures that the repository holds: README says what they say, and every floor is among them."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "data/benchmarks").glob("*.json"))


def comparisons() -> list[dict]:
    """All comparisons of all suites."""
    return [
        comparison
        for path in FILES
        for suite in json.loads(path.read_text())["suites"].values()
        for comparison in suite["comparisons"]
    ]


def test_every_suite_was_measured_undisturbed_and_whole():
    suites = {name: suite for path in FILES for name, suite in json.loads(path.read_text())["suites"].items()}
    assert set(suites) == {"step", "sample", "vae", "attention", "data"}
    for suite in suites.values():
        assert suite["rounds"]["kept"] >= 7 and not suite["failed"]


def shown(c: dict) -> str:
    """A comparison as README's table shows it: bold where its floor is missed."""
    low, high = c["interval"]
    if c["kind"] == "share of FLOP/s":
        ratio, interval = f"{100 * c['ratio']:.0f} %", f"({100 * low:.0f} to {100 * high:.0f})"
    else:
        ratio, interval = f"{c['ratio']:.2f}", f"({low:.2f} to {high:.2f})"
    return f"| **{ratio}** {interval} |" if c["verdict"] == "missed" else f"| {ratio} {interval} |"


@pytest.mark.parametrize("comparison", [c for c in comparisons() if c["floor"]], ids=lambda c: c["title"])
def test_readme_shows_every_floor_and_what_was_measured(comparison):
    rows = [row for row in (ROOT / "README.md").read_text().splitlines() if shown(comparison) in row]
    floor, share = comparison["floor"], comparison["kind"] == "share of FLOP/s"
    assert any((f"{100 * floor:.0f} %" if share else f"{floor:.2f}") in row.split("|")[2] for row in rows)
