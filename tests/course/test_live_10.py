"""A live training is as long as the machine's speed allows, and the rehearsal that measures it leaves no trace."""

import pytest
import torch
from torch import nn

from sora_edu.config import TrainConfig
from sora_edu.course.lesson_10.live import REHEARSED, seconds_a_step, steps_within
from sora_edu.seeds import Stream
from sora_edu.train.loop import Stage


@pytest.mark.parametrize(
    ("a_step", "steps"), [(0.01, 320), (0.14, 320), (0.15, 160), (0.3, 80), (1.1, 40), (1.5, 20), (60.0, 20)]
)
def test_a_slower_machine_gets_a_half_a_quarter_an_eighth(a_step, steps):
    assert steps_within(45, 320, a_step=a_step) == steps


def test_what_is_asked_for_is_never_exceeded_and_the_least_never_undercut():
    assert steps_within(1e9, 7, a_step=1e-9) == 7
    assert steps_within(0, 7, a_step=1.0, least=5) == 7  # its half is below
    assert steps_within(0, 41, a_step=1.0, least=20) == 20


def test_a_rehearsal_changes_neither_weights_nor_randomness():
    module, calls = nn.Linear(3, 2), []
    before, state = module.weight.detach().clone(), torch.get_rng_state()

    def losses(net, generator):
        calls.append(net)
        return {"loss": net(torch.randn(4, 3, generator=generator)).square().mean()}

    config = TrainConfig(steps=1000, batch=4, lr=0.1)
    assert seconds_a_step(Stage("toy", Stream.VAE, module, losses, config)) > 0
    assert len(calls) == REHEARSED and all(net is not module for net in calls)
    assert torch.equal(module.weight, before) and module.weight.grad is None
    assert torch.equal(torch.get_rng_state(), state)
