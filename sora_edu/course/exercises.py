"""The exercises of the lessons, read from the notebooks: what is asked, the folded solution, and the line of checks.

A solution leans on names of its notebook; those statements, and only those, that it needs are run.
"""

import ast
import builtins
import dis
import json
import re
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path

from sora_edu.errors import InputError

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
SOLUTION = re.compile(
    r"<details><summary>Solution (\d\d\.\d+)</summary>\n\n```python\n(.*?)```\n.*?</details>", re.DOTALL
)
EXERCISE = re.compile(r"# Exercise (\d\d\.\d+)\n")


class NeedsTheLessonError(Exception):
    """A solution reads a name that only the whole lesson, run from the top, could give."""


def source_of(cell: Mapping) -> str:
    """A cell's text, whether it is kept as one or as a list of lines."""
    return "".join(cell["source"])


def solutions(book: Mapping) -> dict[str, str]:
    """The folded solutions of a notebook by the number of their exercise."""
    prose = "\n".join(source_of(cell) for cell in book["cells"] if cell["cell_type"] == "markdown")
    return dict(SOLUTION.findall(prose))


def line_of_checks(source: str) -> str:
    """An exercise's cell from its line of checks on."""
    return source[re.search(r"^checks\.", source, re.MULTILINE).start() :]


def filled(source: str, answers: Mapping[str, str]) -> str:
    """An exercise's cell with the solution in place of what the learner fills in, up to its line of checks."""
    number = EXERCISE.match(source)[1]
    return f"# Exercise {number}\n{answers[number]}\n\n{line_of_checks(source)}"


def codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """A code object and those within it."""
    yield code
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield from codes(inner)


@cache
def bound(source: str) -> frozenset[str]:
    """Names that a text binds at its top level."""
    steps = dis.get_instructions(compile(source, "cell", "exec"))
    return frozenset(step.argval for step in steps if step.opname == "STORE_NAME")


@cache
def read(source: str) -> tuple[str, ...]:
    """Names that a text looks up and neither binds nor finds among Python's own, in order."""
    steps = [step for code in codes(compile(source, "cell", "exec")) for step in dis.get_instructions(code)]
    names = dict.fromkeys(step.argval for step in steps if step.opname in ("LOAD_NAME", "LOAD_GLOBAL"))
    return tuple(name for name in names if name not in bound(source) and not hasattr(builtins, name))


@dataclass
class Exercise:
    """One exercise: its number, the folded solution, its check, and what the check is given.

    arguments: the texts between the brackets of the line of checks.
    before: the statements of the notebook that stand above it.
    names: what was run of these so far; what is put there beforehand is not run.
    """

    number: str
    solution: str
    check_name: str
    arguments: list[str]
    before: list[str]
    names: dict[str, object] = field(default_factory=dict)

    @property
    def lesson(self) -> str:
        return self.number[:2]

    @property
    def module(self) -> types.ModuleType:
        """The lesson's checks."""
        return import_module(f"sora_edu.course.lesson_{self.lesson}.checks")

    @property
    def check(self) -> Callable:
        return getattr(self.module, self.check_name)

    @property
    def asked(self) -> list[bool]:
        """Which of the check's arguments the learner gives; the others are the lesson's own."""
        return [set(read(text)) <= bound(self.solution) for text in self.arguments]

    def answers(self, source: str) -> list:
        """The check's arguments where ``source`` stands in place of the solution; raises what ``source`` raises.

        NeedsTheLessonError: a name is not to be had.
        """
        self.find(source, self.before)
        for text, asked in zip(self.arguments, self.asked, strict=True):
            if not asked:
                self.find(text, self.before)
        names = dict(self.names)
        exec(compile(source, f"<answer to {self.number}>", "exec"), names)
        return [eval(text, names) for text in self.arguments]

    def find(self, source: str, before: list[str]) -> None:
        """Run the last statement ``before`` that binds each name that a text reads, and what that reads in its turn."""
        for name in read(source):
            if name not in self.names:
                place = next((i for i in reversed(range(len(before))) if name in bound(before[i])), None)
                if place is None:
                    raise NeedsTheLessonError(f"{name} is not to be had without running lesson {self.lesson}")
                self.find(before[place], before[:place])
                exec(compile(before[place], f"<lesson {self.lesson}>", "exec"), self.names)


def statements(source: str) -> list[str]:
    """The statements of a cell; a cell that is no Python has none."""
    try:
        return [ast.unparse(statement) for statement in ast.parse(source).body]
    except SyntaxError:
        return []


def exercises_of(book: Mapping) -> list[Exercise]:
    """The exercises of a notebook, in its order."""
    answers, found, before = solutions(book), [], []
    for source in (source_of(cell) for cell in book["cells"] if cell["cell_type"] == "code"):
        match = EXERCISE.match(source)
        if match is None:
            before += statements(source)
            continue
        call = ast.parse(line_of_checks(source)).body[0].value
        arguments = [ast.unparse(argument) for argument in call.args]
        found.append(Exercise(match[1], answers[match[1]], call.func.attr, arguments, list(before)))
    return found


def find_exercises(lesson: str | None = None, *, folder: Path = NOTEBOOKS) -> list[Exercise]:
    """The exercises of one lesson, such as "04", or of all. Raises InputError for a lesson that there is not."""
    paths = {path.name[:2]: path for path in sorted(folder.glob("[0-9][0-9]_*.ipynb"))}
    if not paths:
        raise InputError(
            f"no lessons in {folder}: the exercises are read from the notebooks, and this package is installed without "
            "its repository; clone that, and run there: pip install -e ."
        )
    if lesson is not None and lesson.zfill(2) not in paths:
        raise InputError(f"there is no lesson {lesson!r}; there are {', '.join(paths)}")
    wanted = paths.values() if lesson is None else [paths[lesson.zfill(2)]]
    return [one for path in wanted for one in exercises_of(json.loads(path.read_text(encoding="utf-8")))]


def listing(exercises: list[Exercise]) -> str:
    """The exercises with their lesson and check, one a line."""
    return "\n".join(f"{one.number:7}lesson {one.lesson}  checks.{one.check_name}" for one in exercises)
