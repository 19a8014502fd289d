"""Every name that a function of the package reads exists: an import that was forgotten shows here, not when it runs."""

import builtins
import dis
import importlib
import pkgutil
import types
from collections.abc import Iterator

import pytest

import sora_edu

MODULES = [info.name for info in pkgutil.walk_packages(sora_edu.__path__, "sora_edu.")]


def globals_read(code: types.CodeType) -> Iterator[str]:
    """Names that a code object, or one within it, looks up outside of its functions."""
    for step in dis.get_instructions(code):
        if step.opname == "LOAD_GLOBAL":
            yield step.argval
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield from globals_read(inner)


def unknown_names(source: str, known: dict) -> set[str]:
    """Names that the functions of a module read, and that neither the module nor Python has."""
    return {name for name in globals_read(compile(source, "module", "exec")) if name not in known} - set(dir(builtins))


@pytest.mark.parametrize("name", MODULES)
def test_the_functions_of_a_module_read_only_names_that_there_are(name):
    if name.startswith("sora_edu.bench"):
        pytest.importorskip("diffusers", reason="the peers of the benchmark are not installed")
    module = importlib.import_module(name)
    with open(module.__file__) as file:
        assert not unknown_names(file.read(), vars(module))


def test_a_forgotten_import_is_found_even_in_a_function_within_a_function():
    source = "import os\n\ndef f():\n    def g(x):\n        return os.getcwd(), len(x), chdir('.')\n    return g\n"
    assert unknown_names(source, {"os": 0, "f": 0}) == {"chdir"}
