"""Every lesson reads as the course promises, keeps its pictures, and runs with its own solutions filled in.

That the notebooks run as they stand is nbval's work (``make test``); here is what it does not look at.
"""

import importlib.util
import re
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest

from sora_edu.course.exercises import EXERCISE, filled, solutions
from sora_edu.course.forms import BUILT, Built

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
LESSONS = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
BUDGET = 500_000  # bytes a notebook
LINES = 15  # a cell, unless it is the package's text

TRACES = {  # what must not be in a kept output
    "a path of one machine": r"(?<![\w.])/(?:home|root|work|tmp|Users|usr|opt|private|mnt)/|\b[A-Z]:\\\\Users",
    "an address in memory": r"\b0x[0-9a-f]{6,}",
    "a time of day": r"\b\d\d?:\d\d:\d\d\b",
    "a date": r"\b20\d\d-\d\d-\d\d\b",
    "a running time": r"\b(?:CPU times|Wall time|it/s|s/it)\b",
    "a warning": r"Warning: ",
}


def load(name: str):
    """A script of the notebooks' folder as a module."""
    spec = importlib.util.spec_from_file_location(f"notebook_{name}", NOTEBOOKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(path: Path) -> nbformat.NotebookNode:
    """A notebook as it is kept."""
    return nbformat.read(path, as_version=4)


def code(book: dict) -> list[dict]:
    """Its code cells."""
    return [cell for cell in book["cells"] if cell["cell_type"] == "code"]


def texts(cell: dict) -> str:
    """All that a cell's outputs show as text."""
    shown = []
    for output in cell["outputs"]:
        data = {k: v for k, v in output.get("data", {}).items() if not k.startswith("image/")}
        shown += [str(output.get("text", "")), *map(str, data.values())]
    return "\n".join(shown)


def traces(text: str) -> list[str]:
    """Which forbidden traces of a machine or a moment a text holds."""
    return [what for what, pattern in TRACES.items() if re.search(pattern, text)]


every_lesson = pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)


@every_lesson
def test_the_file_keeps_to_its_budget(path):
    assert path.stat().st_size <= BUDGET, f"{path.stat().st_size} bytes; make pictures smaller or fewer"


@every_lesson
def test_the_lesson_opens_with_its_one_title(path):
    first, *rest = read(path)["cells"]
    assert first["cell_type"] == "markdown" and first["source"].startswith("# ")
    assert "running time" in first["source"].lower() and "two cpu cores" in first["source"].lower()
    assert not [c for c in rest if c["cell_type"] == "markdown" and re.match(r"# ", c["source"])], "one H1 only"


@every_lesson
def test_prose_stands_before_every_code_cell(path):
    cells = read(path)["cells"]
    for before, cell in pairwise(cells):
        if cell["cell_type"] == "code":
            assert before["cell_type"] == "markdown" and before["source"].strip(), cell["source"]


@every_lesson
def test_cells_are_short(path):
    for cell in code(read(path)):
        if not cell["source"].startswith("#| same-as:"):
            assert len(cell["source"].splitlines()) <= LINES, cell["source"]


@every_lesson
def test_the_notebook_was_run_from_top_to_bottom(path):
    cells = code(read(path))
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1)), "run `make notebooks`"
    assert not [o for cell in cells for o in cell["outputs"] if o["output_type"] == "error"]
    assert sum("image/png" in o.get("data", {}) for cell in cells for o in cell["outputs"]) >= 3, "pictures are kept"


@every_lesson
def test_outputs_hold_nothing_of_one_machine_or_moment(path):
    book = read(path)
    for cell in code(book):
        assert not traces(texts(cell)), f"{traces(texts(cell))} in {texts(cell)}"
        assert not [o for o in cell["outputs"] if o.get("name") == "stderr"], texts(cell)
        assert "widget-view" not in str(cell["outputs"]), "run `make notebooks`: a widget's id is kept"
    assert set(book["metadata"]) == {"kernelspec", "language_info"}


@pytest.mark.parametrize(
    "text",
    [
        "saved /home/ann/clip.gif",
        "<f at 0x7f001122aabb>",
        "at 10:24:01",
        "2026-11-22",
        "Wall time: 3 ms",
        "FutureWarning: x",
    ],
)
def test_a_planted_trace_is_found(text):
    assert traces(text)


def test_ordinary_outputs_leave_no_trace():
    assert not traces("196 tokens of 768, b/h/w, 224/16 = 14, 0x10, ratio 3:2, runs/clip.gif, 3.72 s a clip")


@every_lesson
def test_exercises_have_solutions_and_run_unfilled(path):
    book = read(path)
    exercises = [cell for cell in code(book) if EXERCISE.match(cell["source"])]
    assert 3 <= len(exercises) <= 8
    assert sorted(solutions(book)) == sorted(EXERCISE.match(cell["source"])[1] for cell in exercises)
    for cell in exercises:
        assert "..." in cell["source"] and cell["source"].rstrip().splitlines()[-1].startswith("checks.")
        assert "not answered yet" in texts(cell), cell["source"]


@every_lesson
def test_the_lesson_has_a_quiz_with_folded_answers(path):
    assert "<details><summary>Answer</summary>" in str(read(path)["cells"])


FINGERPRINT = """
def _print(x):
    x = x.detach().double().flatten()
    rays = torch.randn(3, len(x), generator=torch.Generator().manual_seed(0), dtype=x.dtype)
    print("fingerprint", *(f"{v:.9g}" for v in rays @ x / len(x) ** 0.5))
_print({probe})
"""


def tried(built: Built, answer: str, exercise: str, demonstration: str, *, accepted: bool = False) -> list[dict]:
    """Cells that give another answer to an exercise, run the demonstration again, and say what it then computes."""
    check = exercise.rstrip().splitlines()[-1]
    if accepted:  # as if the check had found it right
        check = f"from sora_edu.course import grading\ngrading.FOUND_RIGHT.add({check.split('(')[1].strip(')')})"
    texts = (f"{answer}\n{check}", demonstration, FINGERPRINT.replace("{probe}", built.probe))
    return [nbformat.v4.new_code_cell(text) for text in texts]


def fingerprint(cell: dict) -> list[float]:
    """The numbers that a cell printed by FINGERPRINT's function."""
    return [float(number) for number in re.search("fingerprint (.*)", texts(cell))[1].split()]


@every_lesson
def test_every_check_accepts_the_solution_and_later_cells_run_what_the_learner_wrote(path):
    execute, book = load("execute"), read(path)
    answers = solutions(book)
    exercises = {EXERCISE.match(cell["source"])[1]: cell for cell in code(book) if EXERCISE.match(cell["source"])}
    for cell in exercises.values():
        cell["source"] = filled(cell["source"], answers)
    trials = {}
    for built in (one for one in BUILT if one.exercise in exercises):
        exercise = exercises[built.exercise]["source"]
        name = exercise.rstrip().splitlines()[-1].split("(")[1].strip(")")
        place = next(i for i, cell in enumerate(book["cells"]) if f"yours({name}," in cell["source"])
        demonstration = book["cells"][place]["source"]
        kinds = {"other": built.other, "wrong": built.wrong, "solution": answers[built.exercise]}
        cells = {k: tried(built, v, exercise, demonstration, accepted=k == "wrong") for k, v in kinds.items()}
        book["cells"][place + 1 : place + 1] = [cell for three in cells.values() for cell in three]
        trials[built.exercise] = cells
    assert trials or path.stem[:2] in ("00", "01"), "no later cell runs what the learner wrote"
    execute.execute(book)
    for cell in exercises.values():
        assert "right" in texts(cell) and "not right" not in texts(cell), f"{cell['source']}\n{texts(cell)}"
    for number, cells in trials.items():
        for checked, demonstration, _ in cells.values():
            assert "This runs your own" in texts(demonstration), f"{number}: {texts(checked)}"
        other, wrong, solution = (fingerprint(three[2]) for three in cells.values())
        assert other == pytest.approx(solution, rel=1e-4, abs=1e-4), number
        assert wrong != pytest.approx(solution, rel=1e-2, abs=1e-2), number


def output(**parts) -> dict:
    """One output of a cell."""
    return nbformat.from_dict(parts)


def test_cleaning_keeps_pictures_and_drops_what_changes():
    execute = load("execute")
    cell = nbformat.v4.new_code_cell("1", metadata={"execution": {"iopub": "now"}, "collapsed": True, "tags": ["a"]})
    cell["outputs"] = [
        output(output_type="stream", name="stdout", text="one "),
        output(output_type="stream", name="stdout", text="two"),
        output(
            output_type="display_data",
            metadata={"image/png": {"width": 3}},
            data={"image/png": "x", execute.WIDGET: {}},
        ),
    ]
    book = nbformat.v4.new_notebook(
        cells=[cell], metadata={"widgets": {"state": 1}, "language_info": {"name": "python", "version": "3"}}
    )
    cleaned = execute.clean(book)
    assert cleaned["cells"][0]["metadata"] == {"tags": ["a"]} and "widgets" not in cleaned["metadata"]
    assert [o.get("text") or o["data"] for o in cleaned["cells"][0]["outputs"]] == ["one two", {"image/png": "x"}]
    assert nbformat.writes(execute.clean(cleaned)) == nbformat.writes(cleaned)


def test_a_solution_takes_the_place_of_the_blanks():
    cell = "# Exercise 07.3\ndef f(x):\n    return ...\n\n\nchecks.f(f)"
    text = "<details><summary>Solution 07.3</summary>\n\n```python\ndef f(x):\n    return x\n```\n\nWhy.\n</details>"
    answers = solutions({"cells": [nbformat.v4.new_markdown_cell(text)]})
    assert filled(cell, answers) == "# Exercise 07.3\ndef f(x):\n    return x\n\n\nchecks.f(f)"
