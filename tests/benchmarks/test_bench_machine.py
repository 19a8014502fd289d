"""What is read of the machine: its load, its memory, its matmul."""

import os
import time

import pytest
import torch

from sora_edu.bench import machine
from sora_edu.bench.machine import (
    busy_ticks,
    describe,
    keep_memory,
    layer_matmul,
    matmul,
    matmul_peak,
    other_cpu_seconds,
    peak_memory,
)

CPU = torch.device("cpu")


def test_busy_ticks_leave_out_idle_and_waiting_and_count_steal():
    assert busy_ticks("cpu0 1 2 4 1000 2000 8 16 32 0 0") == 1 + 2 + 4 + 8 + 16 + 32


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system does not tell a process its cores")
def test_load_is_that_of_our_cores_without_our_own(tmp_path, monkeypatch):
    tick = os.sysconf("SC_CLK_TCK")
    (tmp_path / "stat").write_text(
        f"cpu  999999 0 0 0 0 0 0 0 0 0\ncpu0 {5 * tick} 0 0 7 7 0 0 0 0 0\ncpu1 {9 * tick} 0 0 7 7 0 0 0 0 0\nintr 1\n"
    )
    monkeypatch.setattr(machine, "PROC", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    monkeypatch.setattr(machine.time, "process_time", lambda: 2.0)
    assert other_cpu_seconds() == 3.0


def test_a_system_without_proc_says_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "PROC", tmp_path / "none")
    assert other_cpu_seconds() is None and peak_memory(int, CPU) is None
    assert describe(CPU)["load_seen"] is False


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
