"""Every lesson holds the package's code, and the comparison that says so bites: each planted fault fails it."""

import importlib.util
import sys
import textwrap
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
spec = importlib.util.spec_from_file_location("notebook_sync", NOTEBOOKS / "sync.py")
sync = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sync)

PACKAGE = '''
"""A small module to compare with."""

import math
from functools import cache

from einops import rearrange
from sora_edu.checked import checked

SCALE = 2.0
LIMIT = 10


@checked
def double(x, *, by=SCALE):
    """Multiply."""
    return by * x + math.sqrt(4.0)


@cache
@checked(empty=True)
def rows(n):
    # a comment
    return sum(range(n)) + LIMIT


class Box:
    """Holds a number."""

    size = LIMIT

    @checked
    def turn(self, x, y: "int" = 3):
        return rearrange(x, "h w -> w h") if y > 2 else double(x)
'''

IMPORTS = "import math\nfrom functools import cache\nfrom einops import rearrange"
MARKED = ["SCALE = 0\nLIMIT = 0", "def double(): ...", "def rows(): ...", "class Box: ..."]


def cell(source: str) -> dict:
    """A code cell."""
    return nbformat.v4.new_code_cell(textwrap.dedent(source).strip())


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The name of the importable example module."""
    (tmp_path / "sameness_example.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "sameness_example"
    sys.modules.pop("sameness_example", None)


@pytest.fixture
def notebook(home):
    """A notebook that sync.py has filled from stubs."""
    cells = [cell(IMPORTS), *(cell(f"#| same-as: {home}\n{stub}") for stub in MARKED), cell("double(3.0)")]
    book = nbformat.v4.new_notebook(cells=cells)
    assert sync.write(book)
    return book


def edit(book: dict, old: str, new: str) -> dict:
    """Replace text in the one cell that holds it."""
    (target,) = [c for c in book["cells"] if old in c["source"]]
    target["source"] = target["source"].replace(old, new)
    return book


def test_written_cells_hold_the_packages_text(notebook, home):
    assert sync.faults(notebook, [home]) == []
    text = "\n".join(c["source"] for c in notebook["cells"])
    assert "@cache\ndef rows(n):\n    # a comment" in text
    assert not sync.write(notebook), "a second run changes nothing"
    assert "checked" not in text, "what checks the package's arguments is no part of a lesson"


def test_only_the_packages_own_check_is_left_out(tmp_path, monkeypatch):
    source = "from functools import cache as checked\n\n\n@checked\ndef double(x):\n    return x"
    (tmp_path / "sameness_impostor.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    book = nbformat.v4.new_notebook(cells=[cell("#| same-as: sameness_impostor\ndef double(x):\n    return x")])
    assert any("double differs" in fault for fault in sync.faults(book))


def test_docstrings_and_comments_may_differ(notebook, home):
    edit(notebook, '"""Multiply."""', '"""Multiply by a number, as the lesson tells it."""')
    edit(notebook, '    """Holds a number."""\n\n', "")
    edit(notebook, "# a comment", "# another one")
    assert sync.faults(notebook, [home]) == []
    assert not sync.write(notebook), "a cell with equal code keeps its own docstring"


@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        pytest.param("by * x +", "by * x -", "double", id="operator"),
        pytest.param("by=SCALE", "by=2.0", "double", id="default"),
        pytest.param("x, *, by", "x, by", "double", id="signature"),
        pytest.param("SCALE = 2.0", "SCALE = 2.5", "SCALE", id="module constant"),
        pytest.param("sqrt(4.0)", "sqrt(4.1)", "double", id="constant in a body"),
        pytest.param("+ LIMIT", "+ SCALE", "rows", id="another name in a body"),
        pytest.param("@cache\n", "", "rows", id="missing decorator"),
        pytest.param("def rows", "@checked\ndef rows", "rows", id="another decorator"),
        pytest.param("def double", "@checked\ndef double", "double", id="a decorator that lessons leave out"),
        pytest.param("    def turn", "    @cache\n    def turn", "Box", id="a method's decorator"),
        pytest.param("size = LIMIT", "size = SCALE", "Box", id="class attribute"),
        pytest.param('y: "int"', 'y: "float"', "Box", id="annotation"),
        pytest.param("y > 2", "y >= 2", "Box", id="comparison in a method"),
        pytest.param("def rows(n)", "def lines(n)", "lines", id="a name that the package lacks"),
        pytest.param("range(n)) + LIMIT", "range(n)) + LIMIT\n\nrows(3)", "not a definition", id="call"),
        pytest.param("import cache", "import lru_cache as cache", "cache", id="free decorator"),
        pytest.param("import math", "import cmath as math", "math", id="free module"),
        pytest.param("import rearrange", "import repeat as rearrange", "rearrange", id="free name"),
        pytest.param("from einops import rearrange", "", "rearrange", id="free name without an import"),
    ],
)
def test_a_changed_copy_fails(notebook, home, old, new, names):
    found = sync.faults(edit(notebook, old, new), [home])
    assert any(names in fault for fault in found), found


@pytest.mark.parametrize(
    "source",
    [
        "double = lambda x: x",
        "def double(x): return x",
        "double: object = 1",
        "for double in range(3): pass",
        "with open('f') as double: pass",
        "(double := 3)",
        "[double := n for n in range(3)]",
        "from math import sqrt as double",
        "from math import *",
        "LIMIT = 10",
        "LIMIT += 1",
        "del double",
        "Box.turn = None",
        "Box.size += 1",
        "def f():\n    global double\n    double = 3",
        "if True:\n    double = 3",
        "double, other = 1, 2",
        "%time double = 3\ndouble = 4",
        "rearrange = None",
        "math = 3",
        "sum = 3",
        "range = list",
        "def cache(f): return f",
    ],
)
def test_a_rebinding_in_an_unmarked_cell_fails(notebook, home, source):
    notebook["cells"].append(cell(source))
    assert sync.faults(notebook, [home]) != []


@pytest.mark.parametrize(
    "source",
    [
        "double_with_loops = lambda x: x",
        "def draft():\n    double = 3\n    return double",
        "[double for double in range(3)]",
        "from sameness_example import double",
        "import sameness_example\nsameness_example.double(2.0) == double(2.0)",
        "box = Box()\nbox.colour = 3",
        "%matplotlib inline\n!ls",
    ],
)
def test_ordinary_cells_pass(notebook, home, source):
    notebook["cells"].append(cell(source))
    assert sync.faults(notebook, [home]) == []


def test_a_public_name_that_is_missing_needs_a_reason(notebook, home):
    notebook["cells"] = [c for c in notebook["cells"] if "def rows" not in c["source"]]
    assert any("rows does not appear" in fault for fault in sync.faults(notebook, [home]))
    assert sync.faults(notebook, [home], {"rows": ""}) != []
    assert sync.faults(notebook, [home], {"rows": "it repeats double"}) == []


def test_a_name_that_is_only_imported_appears(notebook, home):
    (target,) = [c for c in notebook["cells"] if "def rows" in c["source"]]
    target["source"] = "from sameness_example import rows"
    assert sync.faults(notebook, [home]) == []


def test_a_stub_of_an_unknown_name_says_what_there_is(home):
    book = nbformat.v4.new_notebook(cells=[cell(f"#| same-as: {home}\ndef dubble(): ...")])
    with pytest.raises(SystemExit, match="dubble not in sameness_example, which has SCALE"):
        sync.write(book)


@pytest.mark.parametrize("path", sync.lessons(), ids=lambda path: path.stem)
def test_the_lesson_is_the_packages_code(path):
    section = sync.lessons()[path]
    found = sync.faults(nbformat.read(path, as_version=4), section.get("modules", []), section.get("not_shown"))
    assert not found, "\n".join(found)


def test_every_lesson_has_a_section_and_every_section_a_lesson():
    import tomllib

    sections = tomllib.loads((NOTEBOOKS / "lessons.toml").read_text())
    assert set(sections) == {path.stem for path in sync.lessons()}


# --- the map from lessons to modules


def test_lessons_toml_and_the_docstrings_agree_on_every_module():
    assert not sync.misplaced(sync.mapped())


def test_a_module_in_a_room_without_a_lesson_or_under_another_one_is_found(tmp_path):
    room = tmp_path / "sora_edu" / "model"
    room.mkdir(parents=True)
    (room / "patches.py").write_text('"""Patches (lesson 02)."""\n')
    (room / "stray.py").write_text('"""A module that nobody teaches."""\n')
    assert not [line for line in sync.misplaced({"sora_edu.model.patches": "02"}, room.parent) if "patches" in line]
    assert any("stray belongs to no lesson" in line for line in sync.misplaced({}, room.parent))
    assert any("ends with lesson 02" in line for line in sync.misplaced({"sora_edu.model.patches": "03"}, room.parent))


def test_a_lesson_named_in_the_middle_of_a_docstring_is_no_place():
    assert sync.lesson_of('"""As in (lesson 04), but smaller."""') is None
    assert sync.lesson_of('"""As in (lesson 04), but smaller (lesson 05)."""') == "05"


def test_readme_prints_the_map():
    assert sync.map_table() in (NOTEBOOKS.parent / "README.md").read_text()
