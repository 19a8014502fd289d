"""How long lesson 10's live training may be: as long as asked for on a quick machine, shorter on a slow one."""

import copy
import time
from dataclasses import replace

from sora_edu.train.loop import Stage, TrainState

REHEARSED = 4  # steps that are timed; the first also pays for what is set up once


def seconds_a_step(stage: Stage) -> float:
    """The fastest of a few steps of a stage, in seconds; they train a copy, and the stage's module stays as it is."""
    rehearsal, times = TrainState(replace(stage, module=copy.deepcopy(stage.module))), []
    for _ in range(REHEARSED):
        started = time.perf_counter()
        rehearsal.step()
        times.append(time.perf_counter() - started)
    return min(times[1:])


def steps_within(seconds: float | int, asked: int, *, a_step: float, least: int = 20) -> int:
    """The steps asked for, or a half of them, a quarter, ...: the most that fit into so many seconds.

    Halves, so that machines of about one speed train the same. a_step: seconds of one step. Where not even ``least``
    steps fit, the last half that is not below it: a training of fewer shows nothing.
    """
    steps = asked
    while steps * a_step > seconds and steps // 2 >= least:
        steps //= 2
    return steps
