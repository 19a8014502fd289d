"""Device, precision and compilation, in a room of their own: whoever draws a clip loads no trainer."""

import os
import subprocess
import sys
import warnings

import pytest
import torch

from sora_edu import compute
from sora_edu.compute import can_compile, compiler_works, should_compile
from sora_edu.errors import RunWarning

TRAINER = {"training", "optimiser", "run_folder", "interrupt", "distributed", "recipe", "cached"}


@pytest.mark.parametrize("module", ["pipeline", "evaluate", "compute", "seeds"])
def test_sampling_and_measuring_load_nothing_of_the_trainer(module):
    code = f"import sys, sora_edu.{module}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert f"sora_edu.{module}" in loaded
    assert {name for name in TRAINER if f"sora_edu.{name}" in loaded} == set()


@pytest.fixture
def untried():
    """As in a fresh process."""
    compiler_works.cache_clear()
    yield
    compiler_works.cache_clear()


def test_a_tool_chain_that_fails_is_noted_once_and_nothing_is_compiled(untried, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("\n  C++ compile error\n" + "140 lines\n" * 140)

    monkeypatch.setattr(compute, "can_compile", lambda: True)
    monkeypatch.setattr(compute.torch, "compile", broken)
    with pytest.warns(RunWarning, match=r"torch.compile fails here \(C\+\+ compile error\); going on without it"):
        assert not should_compile(1000, None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not should_compile(1000, True)


def test_only_long_trainings_are_compiled_unless_wished_and_nothing_is_tried_for_the_others(untried, monkeypatch):
    tried = []
    monkeypatch.setattr(compute, "compiler_works", lambda: tried.append(1) or True)
    assert not should_compile(999, None) and not should_compile(10**6, False) and not tried
    assert should_compile(1000, None) and should_compile(1, True) and len(tried) == 2


def test_without_a_compiler_nothing_is_tried(untried, monkeypatch):
    monkeypatch.setattr(compute.shutil, "which", lambda name: None)
    monkeypatch.setattr(compute.torch, "compile", lambda *_, **__: pytest.fail("tried"))
    assert not should_compile(1000, None)


@pytest.mark.skipif(not can_compile(), reason="no C++ compiler here")
@pytest.mark.parametrize(("cxx", "works"), [("no-such-compiler", False), (None, " " not in torch.__file__)])
def test_the_trial_tells_a_tool_chain_that_works_from_one_that_does_not(tmp_path, cxx, works):
    """In a process and a cache of its own: what was compiled once needs no compiler. No path may hold a space."""
    own = {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path)} | ({"CXX": cxx} if cxx else {})
    code = "from sora_edu.compute import should_compile; print(should_compile(1000, None))"
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | own, capture_output=True, text=True)
    assert done.stdout == f"{works}\n", done.stderr
    assert ("torch.compile fails here" in done.stderr) is not works and "Traceback" not in done.stderr
