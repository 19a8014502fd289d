"""The doctor names each fault and its mend, and survives a check that breaks."""

import shutil
import sys
import types
from pathlib import Path

import pytest

from sora_edu import doctor
from sora_edu.doctor import Finding, examine, report

GIB = doctor.GIB


def one(check) -> Finding:
    (finding,) = check()
    return finding


def test_every_part_of_the_machine_is_reported():
    names = " ".join(finding.name for finding in examine())
    for part in ("Python", "torch", "devices", "torchvision", "PyAV", "Jupyter kernel", "free disk", "free memory"):
        assert part in names
    assert "checkpoint" in names


def test_whatever_is_not_ok_says_what_to_do():
    assert all(finding.mend for finding in examine() if finding.state != "ok")


def test_a_check_that_breaks_is_a_problem_and_the_others_go_on(monkeypatch):
    def broken():
        raise OSError("no such thing")
        yield

    monkeypatch.setattr(doctor, "CHECKS", {"torch": broken, "Python": doctor.check_python})
    first, second = examine()
    assert (first.state, first.detail) == ("problem", "OSError: no such thing")
    assert second.name == "Python"


@pytest.mark.parametrize(("free", "state"), [(50 * GIB, "ok"), (1 * GIB, "note"), (0.1 * GIB, "problem")])
def test_little_disk_is_told(monkeypatch, free, state):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: types.SimpleNamespace(free=free))
    assert one(doctor.check_disk).state == state


@pytest.mark.parametrize(("memory", "state"), [(8.0, "ok"), (1.0, "note")])
def test_little_memory_is_told(monkeypatch, memory, state):
    monkeypatch.setattr(doctor, "available_memory", lambda: memory)
    assert one(doctor.check_memory).state == state


@pytest.mark.parametrize(
    ("limit", "used", "gib"), [(None, None, 8), ("max", "5", 8), (3 * GIB, GIB, 2), (90 * GIB, GIB, 8)]
)
def test_free_memory_is_that_of_the_machine_within_the_limit_of_a_container(monkeypatch, limit, used, gib):
    def read_text(path):
        value = {"memory.max": limit, "memory.current": used}[path.name]
        if value is None:
            raise FileNotFoundError(path)
        return f"{value}\n"

    monkeypatch.setattr("psutil.virtual_memory", lambda: types.SimpleNamespace(available=8 * GIB))
    monkeypatch.setattr(Path, "read_text", read_text)
    assert doctor.available_memory() == gib


def test_a_system_that_does_not_tell_its_memory_is_a_problem_of_that_check_alone(monkeypatch):
    def unknown():
        raise RuntimeError("no such counter")

    monkeypatch.setattr("psutil.virtual_memory", unknown)
    monkeypatch.setattr(doctor, "CHECKS", {"free memory": doctor.check_memory, "Python": doctor.check_python})
    first, second = examine()
    assert (first.name, first.state, second.state) == ("free memory", "problem", "ok")


def test_a_torchvision_that_does_not_import_is_a_problem(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    finding = one(doctor.check_torchvision)
    assert finding.state == "problem" and "constraints.txt" in finding.mend


@pytest.mark.parametrize(("needed", "state"), [(True, "note"), (False, "ok")])
def test_a_repaired_torchvision_is_told(monkeypatch, needed, state):
    monkeypatch.setattr("sora_edu.torchvision_repair.repaired", lambda: needed)
    finding = one(doctor.check_torchvision)
    assert finding.state == state and ("repaired" in finding.detail) == needed


def test_a_kernel_of_another_python_is_a_problem(monkeypatch):
    spec = types.SimpleNamespace(argv=["/elsewhere/bin/python", "-m", "ipykernel_launcher"], resource_dir="/elsewhere")
    monkeypatch.setattr("jupyter_client.kernelspec.KernelSpecManager.get_kernel_spec", lambda self, name: spec)
    finding = one(doctor.check_kernel)
    assert finding.state == "problem" and "/elsewhere" in finding.detail and "kernelspec remove" in finding.mend


def fake_checkpoints(monkeypatch, shipped, verify):
    module = types.ModuleType("sora_edu.checkpoint")
    module.shipped_checkpoints, module.verify = lambda: shipped, verify
    monkeypatch.setitem(sys.modules, "sora_edu.checkpoint", module)


def test_no_checkpoint_is_a_problem(monkeypatch):
    fake_checkpoints(monkeypatch, {}, None)
    assert one(doctor.check_checkpoints).state == "problem"


def test_an_altered_checkpoint_is_a_problem_and_a_sound_one_is_not(monkeypatch, tmp_path):
    def verify(path):
        if path.name == "bad":
            raise ValueError("checksum differs")
        return "0123456789abcdef"

    (tmp_path / "good").touch()
    fake_checkpoints(monkeypatch, {"good": tmp_path / "good", "bad": tmp_path / "bad"}, verify)
    good, bad = doctor.check_checkpoints()
    assert good.state == "ok" and "0123456789ab" in good.detail
    assert (bad.state, bad.detail) == ("problem", "checksum differs") and "git checkout" in bad.mend


def test_report_is_aligned_and_sums_up():
    lines = report([Finding("a", "fine"), Finding("long name", "two\nlines", "problem", "mend it")]).splitlines()
    assert lines[0].index("fine") == lines[1].index("two lines") == lines[2].index("-> mend it")
    assert lines[-1] == "1 problem"
    assert report([Finding("a", "fine")]).endswith("all is well")


def test_report_is_inert_on_a_terminal():
    text = report([Finding("a", "at /tmp/\u202eb\x1b[31m", "note", "look at \udc80")])
    assert r"at /tmp/\u202eb\x1b[31m" in text and r"look at \udc80" in text
