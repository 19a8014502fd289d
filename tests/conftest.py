"""Shared set-up of the tests. The shape checks come from pyproject.toml's `--jaxtyping-packages`."""

import threading

import jaxtyping
import pytest
import torch
from tqdm import tqdm

import sora_edu  # noqa: F401  so that every test may import torchvision first


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Two test processes share two cores, and one thread gives the same bits everywhere."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def bars_of_one_process():
    """tqdm's lock is shared by forks: one that is killed while it holds it would leave the others waiting for ever."""
    tqdm.set_lock(threading.RLock())
    tqdm.monitor_interval = 0  # no thread that might hold it at a fork


@pytest.fixture
def generator() -> torch.Generator:
    """Randomness for one test, the same in every run."""
    return torch.Generator().manual_seed(0)


@pytest.fixture
def as_a_user():
    """Without the type checks of the tests, which a user does not have before the package's own."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
