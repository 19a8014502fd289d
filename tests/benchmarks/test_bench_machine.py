"""What is read of the machine: its load, its memory, its matmul."""

import time
from collections import namedtuple

import pytest
import torch

from sora_edu.bench import machine
from sora_edu.bench.machine import (
    describe,
    keep_memory,
    kind_of,
    layer_matmul,
    matmul,
    matmul_peak,
    other_cpu_seconds,
    peak_memory,
)

CPU = torch.device("cpu")


def test_load_is_that_of_our_cores_without_our_own_and_without_idling(monkeypatch):
    times = namedtuple("times", "user nice system idle iowait irq softirq steal")
    cores = [times(5, 1, 1, 100, 100, 1, 1, 1), times(50, 0, 0, 0, 0, 0, 0, 0)]
    monkeypatch.setattr(machine.psutil, "cpu_times", lambda percpu: cores)
    monkeypatch.setattr(machine, "cores", lambda: [0])
    monkeypatch.setattr(machine.time, "process_time", lambda: 2.0)
    assert other_cpu_seconds() == 5 + 1 + 1 + 1 + 1 + 1 - 2


def test_a_system_that_does_not_tell_its_load_says_nothing(tmp_path, monkeypatch):
    def refused(percpu):
        raise PermissionError

    monkeypatch.setattr(machine, "PROC", tmp_path / "none")
    monkeypatch.setattr(machine.psutil, "cpu_times", refused)
    assert other_cpu_seconds() is None and peak_memory(int, CPU) is None
    assert describe(CPU)["load_seen"] is False


@pytest.mark.parametrize(
    ("vendor", "bf16", "amx", "compiler", "fp32", "kind"),
    [
        ("AuthenticAMD", True, False, True, False, "AMD with avx512_bf16"),
        ("AuthenticAMD", True, False, True, True, "AMD with avx512_bf16, forced to fp32"),
        ("GenuineIntel", True, True, True, False, "Intel with amx"),
        ("GenuineIntel", False, False, True, False, "x86_64 without bf16"),
        ("GenuineIntel", False, False, True, True, "x86_64 without bf16"),  # nothing was forced
        ("AuthenticAMD", True, False, False, False, "AMD with avx512_bf16, nothing compiled"),
    ],
)
def test_kinds_of_processor(vendor, bf16, amx, compiler, fp32, kind, tmp_path, monkeypatch):
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nvendor_id\t: {vendor}\nmodel name\t: EPYC 9\n")
    monkeypatch.setattr(machine, "PROC", tmp_path)
    monkeypatch.setattr(machine, "fast_bf16", lambda device: bf16)
    monkeypatch.setattr(machine, "can_compile", lambda: compiler)
    monkeypatch.setattr(machine.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert kind_of(CPU, fp32=fp32) == kind and machine.processor_name() == "EPYC 9"


@pytest.mark.parametrize(("dtype", "name"), [(torch.float32, "matmul fp32"), (torch.bfloat16, "matmul bf16")])
def test_the_peak_is_one_of_the_products_and_counts_two_flops_a_multiply_add(dtype, name):
    peak = matmul_peak(dtype, CPU, sides=(16, 32))
    assert peak.name == peak.peak == name and peak.flops in (2 * 16**3, 2 * 32**3)
    assert peak.run().dtype == dtype


def test_matmul_multiplies():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(8, 8, generator=generator), torch.randn(8, 8, generator=generator)
    assert torch.allclose(matmul(8, torch.float32, CPU)(), a @ b)


@pytest.mark.parametrize("slow", [0, 1])
def test_the_peak_is_the_faster_of_both_ways_to_multiply(slow, monkeypatch):
    makers = [matmul, layer_matmul]

    monkeypatch.setattr(machine, makers[slow].__name__, lambda *args: lambda: time.sleep(0.01))
    assert matmul_peak(torch.float32, CPU, sides=(16,)).run() is not None  # sleep gives None


def test_memory_is_asked_to_stay_and_other_systems_are_left_alone(monkeypatch):
    asked = []

    class Library:
        def mallopt(self, *args):
            asked.append(args)

    monkeypatch.setattr(machine.ctypes, "CDLL", lambda name: Library())
    keep_memory()
    assert [what for what, _ in asked] == [-1, -3]

    def missing(name):
        raise OSError(name)

    monkeypatch.setattr(machine.ctypes, "CDLL", missing)
    keep_memory()


def test_memory_that_a_call_takes_and_gives_back_is_seen():
    if peak_memory(int, CPU) is None:
        pytest.skip("this system has no high-water mark to set back")
    small, large = (peak_memory(lambda n=n: torch.ones(n, 2**20), CPU) for n in (1, 64))  # 4 and 256 MiB
    assert 250 * 2**20 < large < 300 * 2**20
    assert small < 50 * 2**20
