"""The measured figures that the repository holds: README says what they say."""

import json
from pathlib import Path

from sora_edu.bench.report import between_marks, markdown

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "data/benchmarks").rglob("*.json"))


def test_every_suite_was_measured_undisturbed_and_whole():
    suites = {name: suite for path in FILES for name, suite in json.loads(path.read_text())["suites"].items()}
    assert set(suites) == {"step", "sample", "vae", "attention", "data"}
    for suite in suites.values():
        assert suite["rounds"]["kept"] >= 7 and not suite["failed"]


def test_readme_shows_what_was_measured():
    records = [json.loads(path.read_text()) for path in FILES]
    readme = (ROOT / "README.md").read_text()
    assert between_marks(readme, markdown(records)) == readme, "run python -m sora_edu.bench.report … --into README.md"
