"""Set-up: the dependency files agree, make builds what it says, torchvision imports, shapes are checked."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

import pytest
import torch
import yaml
from jaxtyping import TypeCheckError
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import sora_edu
from sora_edu import torchvision_repair
from sora_edu.diffusion.flow import interpolate

ROOT = Path(__file__).parents[1]
CONDA_NAMES = {"pytorch": "torch", "matplotlib-base": "matplotlib"}


def bounds(requirements: list[str]) -> dict[str, str]:
    parsed = map(Requirement, requirements)
    return {canonicalize_name(r.name): str(r.specifier) for r in parsed}


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return bounds([line for line in lines if line and not line.startswith("#")])


def test_environment_yml_repeats_the_names_and_bounds_of_pyproject(project):
    extras = project["optional-dependencies"]
    declared = bounds(project["dependencies"] + extras["lab"] + extras["dev"])
    declared["python"] = project["requires-python"]
    entries = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    conda = bounds([entry for entry in entries if isinstance(entry, str) and entry != "pip"])
    assert {CONDA_NAMES.get(name, name): bound for name, bound in conda.items()} == declared
    assert {"pip": ["-e ."]} in entries


def test_every_dependency_is_pinned_within_its_bounds(project, pins):
    extras = project["optional-dependencies"]
    for requirement in map(Requirement, [*project["dependencies"], *chain(*extras.values())]):
        pin = pins[canonicalize_name(requirement.name)]
        assert pin.startswith("==") and "+" not in pin, f"{requirement.name}: pin one public version, not {pin}"
        assert requirement.specifier.contains(pin[2:]), f"{requirement.name} {pin} lies outside {requirement}"


def test_licence_is_apache(project):
    assert project["license"] == "Apache-2.0"
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text and "END OF TERMS AND CONDITIONS" in text


def test_importing_the_package_stays_cheap():
    code = "import sys, sora_edu; sys.exit(bool({'torch', 'numpy', 'torchvision'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    assert re.fullmatch(r"\d+\.\d+\.\d+", sora_edu.__version__)


@pytest.mark.parametrize(
    "code",
    [
        "import sora_edu; from torchvision import transforms; transforms.Resize(8)",
        # a first attempt without sora_edu may have failed already, as in a notebook
        "import importlib, contextlib\n"
        "with contextlib.suppress(RuntimeError): import torchvision\n"
        "import sora_edu; from torchvision import transforms; transforms.Resize(8)",
    ],
)
def test_torchvision_imports_plainly(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_repair_declares_only_what_is_missing():
    import torchvision  # noqa: F401  the watcher has acted by now, if it had to

    assert torchvision_repair.declare_missing_operators() == []
    assert all(hasattr(torch.ops.torchvision, name) for name in torchvision_repair.SCHEMAS)


def test_install_twice_leaves_one_watcher():
    torchvision_repair.install()
    assert sum(finder is torchvision_repair._Watcher for finder in sys.meta_path) == 1


def test_shapes_in_signatures_are_checked_while_testing():
    video, t = torch.zeros(2, 3, 4, 5, 6), torch.zeros(3)
    with pytest.raises(TypeCheckError):
        interpolate.__wrapped__(video, video, t)  # behind the package's own check


needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def dry_run(*arguments: str, **variables: str) -> str:
    return subprocess.run(
        ["make", "--dry-run", "--always-make", *arguments],
        cwd=ROOT, capture_output=True, text=True, check=True, env=os.environ | variables,
    ).stdout  # fmt: skip


@needs_make
@pytest.mark.parametrize("target", ["lab", "test", "video", "notebooks", "lint", "doctor"])
def test_each_target_sets_up_first_and_torch_before_the_package(target):
    lines = dry_run(target)
    order = [lines.index(step) for step in ("-m venv", " torch\n", " torchvision\n", "-e '.[lab,dev]'")]
    assert order == sorted(order)
    assert lines.count("-c constraints.txt") == 3


@needs_make
def test_make_tests_lint_and_notebooks():
    lines = dry_run("test")
    for part in ("ruff check .", "ruff format --check .", "--nbval-lax", "--nbval-current-env", "--dist loadfile"):
        assert part in lines
    assert "make test" in (ROOT / ".ci/run").read_text() and os.access(ROOT / ".ci/run", os.X_OK)


@needs_make
@pytest.mark.parametrize("prompt", ['it\'s "red"', "$(touch OWNED) `touch OWNED`; touch OWNED", "--seed", "a\\b #c"])
def test_a_prompt_reaches_the_command_as_typed(prompt, tmp_path):
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    command = tmp_path / ".venv/bin/sora-edu"
    command.parent.mkdir(parents=True)
    command.write_text('#!/bin/sh\nprintf "%s|" "$@"\n')
    command.chmod(0o755)
    (tmp_path / ".venv/.installed").touch()
    done = subprocess.run(["make", "-s", "video", f"PROMPT={prompt}"], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == f"sample|--out|runs/clip.gif|--|{prompt}|", done.stderr
    assert not (tmp_path / "OWNED").exists()


FAKE_PYTHON = """#!/bin/sh
case "$*" in
    "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
    "-m pip "*) echo "pip: $*" >> pip.log ;;
esac
"""


@needs_make
def test_make_works_in_a_folder_with_spaces_and_with_such_a_python(tmp_path):
    folder = tmp_path / "my own  sora (copy)"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    python = folder / "a python"
    python.write_text(FAKE_PYTHON)
    python.chmod(0o755)
    command = folder / ".venv/bin/sora-edu"
    command.parent.mkdir(parents=True)
    command.write_text('#!/bin/sh\nprintf "%s|" "$@" "$MPLCONFIGDIR"\n')
    command.chmod(0o755)
    plain = {name: value for name, value in os.environ.items() if name not in ("MAKELEVEL", "MAKEFLAGS", "MFLAGS")}
    for number in (1, 2):  # the second time everything is set up
        command = ["make", "doctor", f"PYTHON={python}"]
        done = subprocess.run(command, cwd=folder, env=plain, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.endswith(f"doctor|{folder}/.venv/home/matplotlib|")
        assert ("Setting up" in done.stderr) == (number == 1)
    assert (folder / "pip.log").read_text().count("install -c constraints.txt") == 3
    assert (folder / ".venv/home").is_dir() and (folder / ".venv/.installed").exists()
    left = {"Makefile", "pyproject.toml", "constraints.txt", "a python", ".venv", "pip.log"}
    assert {path.name for path in folder.iterdir()} == left and list(tmp_path.iterdir()) == [folder]


def test_readme_names_every_make_target_and_command():
    readme = (ROOT / "README.md").read_text()
    for words in ("make lab", "make test", "make video", "pip install -c constraints.txt", "conda env create"):
        assert words in readme
    for command in ("sample", "train", "evaluate", "reconstruct", "doctor"):
        assert f"sora-edu {command}" in readme
