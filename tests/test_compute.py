"""What sampling shares with training is a room of its own: whoever draws a clip loads no trainer."""

import subprocess
import sys

import pytest

TRAINER = {"training", "optimiser", "run_folder", "interrupt", "distributed", "recipe", "cached"}


@pytest.mark.parametrize("module", ["pipeline", "evaluate", "compute", "seeds"])
def test_sampling_and_measuring_load_nothing_of_the_trainer(module):
    code = f"import sys, sora_edu.{module}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert f"sora_edu.{module}" in loaded
    assert {name for name in TRAINER if f"sora_edu.{name}" in loaded} == set()
