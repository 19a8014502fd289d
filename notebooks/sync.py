"""Keep the notebooks' code equal to the package's.

    python notebooks/sync.py            write the package's text into the marked cells
    python notebooks/sync.py --check    only compare: print each difference, exit with 1 if there is one
    python notebooks/sync.py --map      print README's table: which modules a lesson builds

A code cell that starts with ``#| same-as: sora_edu.model.patches`` holds definitions of that module. The package is the
source of truth; docstrings and comments may differ, and the cells leave ``@checked`` out. ``lessons.toml`` says which
modules a lesson builds, and which public names it leaves out and why. ``faults`` is the whole test.
"""

import argparse
import ast
import builtins
import importlib
import re
import symtable
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import nbformat
from IPython.core.inputtransformer2 import TransformerManager

from sora_edu.checked import checked

FOLDER = Path(__file__).resolve().parent
MARK = re.compile(r"^#\| same-as: ([\w.]+)[ \t]*$", re.MULTILINE)
MISSING = object()
PACKAGE = FOLDER.parent / "sora_edu"
LESSON = re.compile(r"\(lesson (\d\d)\)\.?$")
ROOMS = ("world", "model", "diffusion", "train", "media")  # each of their modules belongs to a lesson
DEFINITIONS = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


# ---------------------------------------------------------------- reading definitions


def module_of(cell: dict) -> str | None:
    """The module that a marked cell copies, or None for any other cell."""
    found = MARK.match(cell["source"]) if cell["cell_type"] == "code" else None
    return found[1] if found else None


def parse(source: str) -> ast.Module:
    """The syntax tree of a cell; magics and ``!commands`` become ordinary calls."""
    return ast.parse(TransformerManager().transform_cell(source))


def source_of(module: ModuleType) -> str:
    """A module's text as lessons show it: without the lines ``@checked``, which only refuse calls that do not fit."""
    text = Path(module.__file__).read_text()
    return (
        re.sub(r"^ *@checked(\(empty=True\))?\n", "", text, flags=re.MULTILINE)
        if vars(module).get("checked") is checked
        else text
    )


def name_of(node: ast.stmt) -> str | None:
    """The one name that a top-level function, class or constant defines; None for every other statement."""
    if isinstance(node, DEFINITIONS):
        return node.name
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return targets[0].id if len(targets) == 1 and isinstance(targets[0], ast.Name) else None


def definitions(tree: ast.Module) -> dict[str, ast.stmt]:
    """Every top-level definition by its name; the last one wins, as it does when Python runs."""
    return {name: node for node in tree.body if (name := name_of(node))}


def text_of(source: str, node: ast.stmt) -> str:
    """The lines of a definition, decorators included."""
    first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
    return "\n".join(source.splitlines()[first - 1 : node.end_lineno])


def normal(node: ast.AST) -> str:
    """A definition as text without positions and docstrings: equal text means equal code."""
    node = ast.parse(ast.unparse(node))
    for part in ast.walk(node):
        if isinstance(part, DEFINITIONS) and ast.get_docstring(part) is not None:
            part.body = part.body[1:] or [ast.Pass()]
    return ast.dump(node)


def tables(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    """A symbol table and all that are nested in it."""
    yield table
    for child in table.get_children():
        yield from tables(child)


def free_names(node: ast.stmt) -> set[str]:
    """Names that a definition takes from its module: in its body, defaults, decorators and annotations."""
    top, *inner = tables(symtable.symtable(ast.unparse(node), "definition", "exec"))
    names = {s.get_name() for s in top.get_symbols() if s.is_referenced()}
    names |= {s.get_name() for table in inner for s in table.get_symbols() if s.is_global() and s.is_referenced()}
    for part in ast.walk(node):
        for hint in (getattr(part, "annotation", None), getattr(part, "returns", None)):
            names |= {n.id for n in ast.walk(hint) if isinstance(n, ast.Name)} if hint else set()
    return names - {name_of(node)}


# ---------------------------------------------------------------- what a notebook binds


def imported(tree: ast.Module) -> Iterator[tuple[str, object]]:
    """Each (name, object) that the import statements of a cell bind."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                home = importlib.import_module(node.module)
                value = getattr(home, alias.name, MISSING)
                if value is MISSING and alias.name != "*":
                    value = importlib.import_module(f"{node.module}.{alias.name}")
                yield alias.asname or alias.name, value
        elif isinstance(node, ast.Import):
            for alias in node.names:
                whole = importlib.import_module(alias.name)
                yield (alias.asname, whole) if alias.asname else (root := alias.name.split(".")[0], sys.modules[root])


def assigned(source: str) -> set[str]:
    """Names that a cell binds in the notebook by anything but an import, also through ``global`` or an attribute."""
    tree = parse(source)
    top, *inner = tables(symtable.symtable(ast.unparse(tree), "cell", "exec"))
    names = {s.get_name() for s in top.get_symbols() if s.is_assigned()}
    nested = [s for table in inner for s in table.get_symbols()]
    names |= {s.get_name() for s in nested if s.is_declared_global() and s.is_assigned()}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del):
            root = node
            while isinstance(root, ast.Attribute):
                names.add(root.attr)
                root = root.value
            names |= {root.id} if isinstance(root, ast.Name) else set()
    return names


def mentioned(tree: ast.Module) -> set[str]:
    """Every identifier of a cell: what it defines, imports, calls, or takes from a module with a dot."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.Attribute):
            names.add(node.attr)
        elif isinstance(node, ast.alias):
            names |= {node.name, node.asname}
        elif name_of(node):
            names.add(name_of(node))
    return names


def public_names(module: ModuleType) -> list[str]:
    """What a module defines and does not hide: ``__all__``, or its definitions without a leading underscore."""
    tree = ast.parse(Path(module.__file__).read_text())
    return list(getattr(module, "__all__", None) or [name for name in definitions(tree) if not name.startswith("_")])


# ---------------------------------------------------------------- the comparison


def compare_cell(cell: dict, module: ModuleType) -> Iterator[str]:
    """Differences between one marked cell and its module."""
    theirs = definitions(ast.parse(source_of(module)))
    for node in parse(cell["source"]).body:
        name = name_of(node)
        if name is None:
            yield f"line {node.lineno} of a marked cell is not a definition; move it to a cell of its own"
        elif name not in theirs:
            yield f"{name} is not in {module.__name__}; drafts take other names, in unmarked cells"
        elif normal(node) != normal(theirs[name]):
            yield f"{name} differs from {module.__name__}.{name}; run notebooks/sync.py, or change the package"


def faults(notebook: dict, modules: list[str] = (), not_shown: dict[str, str] | None = None) -> list[str]:
    """Everything that keeps a notebook from being the same code as the package; an empty list means equal."""
    found, not_shown = [], not_shown or {}
    codes = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    marked = [(cell, importlib.import_module(module_of(cell))) for cell in codes if module_of(cell)]
    unmarked = [(number, cell["source"]) for number, cell in enumerate(codes, 1) if not module_of(cell)]
    homes = {module.__name__: module for _, module in marked} | {m: importlib.import_module(m) for m in modules}

    values: dict[str, list[object]] = {}  # all that the notebook binds to each name
    for cell, module in marked:
        found += compare_cell(cell, module)
        for name in definitions(parse(cell["source"])):
            values.setdefault(name, []).append(vars(module).get(name, MISSING))
    for _, source in unmarked:
        for name, value in imported(parse(source)):
            values.setdefault(name, []).append(value)
        for name in assigned(source):
            values.setdefault(name, []).append(MISSING)

    for cell, module in marked:
        for name, node in definitions(parse(cell["source"])).items():
            for free in sorted(free_names(node)):
                expected = vars(module).get(free, getattr(builtins, free, MISSING))
                bound = values.get(free, [getattr(builtins, free, MISSING)])
                if expected is MISSING or any(value is not expected for value in bound):
                    found.append(f"{name} uses {free}, which is not {module.__name__}'s {free} in this notebook")

    for number, source in unmarked:
        if "*" in dict(imported(parse(source))):
            found.append(f"code cell {number} imports *, which hides where names come from")
        for module in homes.values():
            names = set(public_names(module))
            other = {name for name, value in imported(parse(source)) if value is not vars(module).get(name)}
            for name in sorted(names & (assigned(source) | other)):
                found.append(f"code cell {number} rebinds {name} of {module.__name__}; give a draft another name")

    seen = set().union(*(mentioned(parse(cell["source"])) for cell in codes)) if codes else set()
    for module in map(importlib.import_module, modules):
        for name in public_names(module):
            if name not in seen and not not_shown.get(name, "").strip():
                found.append(f"{module.__name__}.{name} does not appear; show it, or give a reason in lessons.toml")
    return list(dict.fromkeys(found))


def write(notebook: dict) -> bool:
    """Put the package's text into each marked cell whose code differs; True if any cell changed."""
    changed = False
    for cell in notebook["cells"]:
        if not (home := module_of(cell)):
            continue
        module = importlib.import_module(home)
        source = source_of(module)
        theirs, ours = definitions(ast.parse(source)), definitions(parse(cell["source"]))
        if unknown := [name for name in ours if name not in theirs]:
            raise SystemExit(f"error: {', '.join(unknown)} not in {home}, which has {', '.join(theirs)}")
        if all(normal(ours[name]) == normal(theirs[name]) for name in ours):
            continue
        cell["source"] = f"#| same-as: {home}\n" + "\n\n\n".join(text_of(source, theirs[name]) for name in ours)
        changed = True
    return changed


def lessons() -> dict[Path, dict]:
    """Every notebook of the course with its section of lessons.toml: ``modules`` and ``not_shown``."""
    table = tomllib.loads((FOLDER / "lessons.toml").read_text())
    return {path: table.get(path.stem, {}) for path in sorted(FOLDER.glob("[0-9][0-9]_*.ipynb"))}


# ---------------------------------------------------------------- the map from lessons to modules


def lesson_of(source: str) -> str | None:
    """The number of the lesson that a module's docstring names at its end: "(lesson 04)"."""
    found = LESSON.search(ast.get_docstring(ast.parse(source)) or "")
    return found[1] if found else None


def mapped() -> dict[str, str]:
    """The number of the lesson of each module that lessons.toml names, as built or as belonging to it ("also")."""
    return {
        module: path.stem[:2]
        for path, section in lessons().items()
        for key in ("modules", "also")
        for module in section.get(key, [])
    }


def misplaced(table: dict[str, str], package: Path = PACKAGE) -> list[str]:
    """Where lessons.toml and the ends of the modules' docstrings disagree; each module of a room has a lesson."""
    sources = {path: path.read_text() for path in sorted(package.rglob("*.py")) if path.name != "__init__.py"}
    found = []
    for path, source in sources.items():
        parts = path.relative_to(package.parent).with_suffix("").parts
        name, said = ".".join(parts), lesson_of(source)
        told = table.get(name)
        if said != told:
            found.append(f"{name}: its docstring ends with lesson {said}, but lessons.toml has it under {told}")
        elif told is None and parts[1] in ROOMS:
            found.append(f"{name} belongs to no lesson; add it to lessons.toml, and (lesson NN) to its docstring")
    return found


def map_table() -> str:
    """README's table of lessons and modules, in Markdown."""
    rows = ["| Lesson | builds | and beside it |", "|---|---|---|"]
    for path, section in lessons().items():
        names = [
            [f"`{module.removeprefix('sora_edu.').replace('.', '/')}`" for module in section.get(key, [])]
            for key in ("modules", "also")
        ]
        rows.append(f"| `{path.stem}` | {', '.join(names[0])} | {', '.join(names[1])} |")
    return "\n".join(rows)


def main() -> int:
    """Write or check all notebooks; the exit status is 1 where a check finds a difference."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare only, change nothing")
    parser.add_argument("--map", action="store_true", help="print README's table of lessons and modules")
    asked, bad = parser.parse_args(), 0
    if asked.map:
        print(map_table())
        return 0
    for path, section in lessons().items():
        notebook = nbformat.read(path, as_version=4)
        if not asked.check and write(notebook):
            nbformat.write(notebook, path)
            print(f"{path.name}: written")
        for fault in faults(notebook, section.get("modules", []), section.get("not_shown")):
            print(f"{path.name}: {fault}")
            bad += 1
    for fault in misplaced(mapped()):
        print(fault)
        bad += 1
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
