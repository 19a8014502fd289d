"""Every lesson runs in a real JupyterLab, and each of its controls does something that a reader can see.

`make ui` installs playwright and runs this; Chromium must be there already.
"""

import re
import time
from collections.abc import Callable

import nbformat
import pytest
from lesson import NOTEBOOKS, TIMEOUT, Lesson

from sora_edu.checkpoint import shipped_checkpoints

LESSONS = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
INTERACTIVE = re.compile(r"^widgets\.(\w+)\(", re.MULTILINE)


def move_slider(output, number: int = 0) -> None:
    """Take a slider's handle and press the arrow key, a few steps to the right."""
    handle = output.locator(".noUi-handle").nth(number)
    handle.focus()
    for _step in range(3):
        handle.press("ArrowRight")


def click(number: int) -> Callable:
    """A click on the button of this number."""
    return lambda output: output.locator("button").nth(number).click()


def choose(number: int, name: str) -> Callable:
    """An entry of the menu of this number."""
    return lambda output: output.locator("select").nth(number).select_option(name)


def generate(output) -> None:
    """Another colour by the menu, then the button."""
    choose(1, "blue")(output)
    output.get_by_role("button", name="generate").click()


def unfold(output) -> None:
    """The first of six slips."""
    output.get_by_role("button", name="unfold one").click()


def digests(lesson: Lesson, output) -> list[str]:
    """What counts as seen where a control draws a picture."""
    return lesson.digests(output)


def words(lesson: Lesson, output) -> str:
    """What counts as seen where a control shows text."""
    return output.inner_text()


# What a reader does with each interactive of sora_edu.course.widgets, and what must change: pictures or words.
GESTURES: dict[str, list[tuple[Callable, Callable]]] = {
    "interactive": [(move_slider, digests)],
    "click_patches": [(click(0), digests), (click(100), digests)],
    "throw_ball": [(move_slider, digests), (lambda o: move_slider(o, 1), digests), (choose(0, "cyan"), digests)],
    "PromptBox": [(generate, digests)],
    "ClaimBoard": [(lambda o: o.locator("button.jupyter-button").nth(-1).click(), words)],
    "SlipsGame": [(unfold, digests)],
}


def code_cells(name: str) -> list[tuple[str, list]]:
    """Source and kept outputs of a lesson's code cells."""
    cells = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)["cells"]
    return [(cell["source"], cell["outputs"]) for cell in cells if cell["cell_type"] == "code"]


def interactives(name: str) -> list[str]:
    """The interactives that a lesson shows, by name."""
    return [found for source, _outputs in code_cells(name) for found in INTERACTIVE.findall(source)]


def changes(lesson: Lesson, output, gesture: Callable, look: Callable, seconds: float = TIMEOUT) -> bool:
    """Whether what a reader sees differs some time after the gesture."""
    before, end = look(lesson, output), time.monotonic() + seconds
    gesture(output)
    while time.monotonic() < end:
        after = look(lesson, output)
        if after and after != before:
            return True
        lesson.page.wait_for_timeout(500)
    return False


every_lesson = pytest.mark.parametrize("name", [path.stem for path in LESSONS])


@every_lesson
def test_every_interactive_has_a_gesture(name):
    missing = set(interactives(name)) - set(GESTURES)
    assert not missing, f"say in GESTURES what a reader does with {sorted(missing)}"


@every_lesson
def test_a_picture_stands_for_every_interactive_before_a_kernel_runs(name, open_lesson):
    controls = interactives(name)
    for source, outputs in code_cells(name):
        if INTERACTIVE.search(source):
            assert "image/png" in str(outputs), f"{source}: no picture is kept; python notebooks/execute.py {name}"
    lesson = open_lesson(name)
    lesson.screenshot("opened")
    for place, control in enumerate(controls):
        output = lesson.output(f"widgets.{control}(", controls[:place].count(control))
        output.locator("img").first.wait_for()
        lesson.screenshot(f"{control}_{place}_static", output)


@every_lesson
def test_the_lesson_runs_and_its_controls_answer(name, open_lesson):
    if "Pipeline.load(" in (NOTEBOOKS / f"{name}.ipynb").read_text() and "tiny" not in shipped_checkpoints():
        pytest.skip("the tiny checkpoint is not there yet: data/checkpoints/tiny/model.safetensors")
    lesson = open_lesson(name)
    lesson.clear()
    lesson.run_all()
    assert lesson.errors() == []
    assert all(cell["count"] for cell in lesson.cells())

    controls = interactives(name)
    for place, control in enumerate(controls):
        output = lesson.output(f"widgets.{control}(", controls[:place].count(control))
        output.locator(".jupyter-widgets").first.wait_for()
        lesson.screenshot(f"{control}_{place}_before", output)
        for number, (gesture, look) in enumerate(GESTURES[control]):
            assert changes(lesson, output, gesture, look), f"{control}: gesture {number} changed nothing"
        lesson.screenshot(f"{control}_{place}_after", output)
        lesson.screenshot(f"{control}_{place}_window")


def test_a_dead_control_and_an_error_are_noticed(open_lesson, write_lesson):
    dead = """
import ipywidgets
from sora_edu.course import plotting, widgets
import torch
card = widgets.image_of(plotting.show_image(torch.zeros(3, 4, 4)))
ipywidgets.VBox([ipywidgets.IntSlider(), card])"""
    lesson = open_lesson(write_lesson("planted", dead, "1 / 0"))
    lesson.run_all()
    assert lesson.errors() == ["ZeroDivisionError: division by zero"]
    output = lesson.output("IntSlider")
    output.locator("img").wait_for()
    assert len(lesson.digests(output)) == 1
    assert not changes(lesson, output, move_slider, digests, seconds=5)
