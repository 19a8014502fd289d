import itertools
import json
import os
import signal
import time
import warnings
from dataclasses import replace

import pytest
import torch
from torch import nn

from sora_edu import files
from sora_edu.checkpoint import load_tensors, save_tensors
from sora_edu.config import TrainConfig
from sora_edu.errors import CheckpointError, InputError, Stopped, TrainingError
from sora_edu.train import loop as training
from sora_edu.train.loop import (
    Stage,
    fit,
    lr_factor,
    update_ema,
    zero_where,
)
from sora_edu.train.run_folder import RunFolder

CONFIG = TrainConfig(steps=40, batch=8, lr=1e-2, warmup=5, save_every=4, log_every=1, ema=0.9)


def stage(config: TrainConfig = CONFIG, loss_fn=None, evaluate=None) -> Stage:
    """Linear regression, the smallest thing that trains."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 2))

    def regression(module, generator):
        x = torch.randn(config.batch, 6, generator=generator)
        return {"loss": (module(x) - x[:, :2]).square().mean()}

    return Stage("toy", 1, module, loss_fn or regression, config, evaluate, 10)


def losses_of(folder) -> list:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"], line["norm"]) for line in lines if "loss" in line]


def newest(folder) -> dict:
    return RunFolder(folder).newest("toy")[0]


def equal(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run to compare with."""
    folder = tmp_path_factory.mktemp("whole")
    fit(stage(), folder)
    return folder


def test_training_lowers_the_loss(whole):
    losses = [loss for _, loss, _ in losses_of(whole)]
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


def test_kill_9_at_any_point_and_resume_is_bit_exact(whole, tmp_path):
    for delay in (0.0, 0.01, 0.02, 0.03, 0.05):
        child = os.fork()
        if child == 0:  # the run that is killed
            try:
                fit(stage(), tmp_path, resume=True)
            finally:
                os._exit(0)
        while not any(tmp_path.glob("*.safetensors")):
            time.sleep(0.002)
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    fit(stage(), tmp_path, resume=True)
    assert equal(newest(tmp_path), newest(whole))
    assert losses_of(tmp_path) == losses_of(whole)


def kill(*_) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def in_a_step(folder) -> None:
    fit(stage(loss_fn=at_call(7, kill)), folder, resume=True)


def in_the_first_write(folder) -> None:
    """Of a state, or of the metrics where a resumed run drops lines: at the rename, which makes the new file count."""
    files.os.replace = kill
    fit(stage(), folder, resume=True)


@pytest.mark.parametrize("deaths", [[in_a_step] * 2, [in_the_first_write] * 2, [in_a_step, in_the_first_write]])
def test_kill_9_at_its_worst_moments_and_resume_is_bit_exact(whole, tmp_path, deaths):
    for death in deaths:
        child = os.fork()
        if child == 0:
            try:
                death(tmp_path)
            finally:
                os._exit(0)
        status = os.waitpid(child, 0)[1]
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        assert bool(list(tmp_path.glob(".*.tmp"))) == (death is in_the_first_write)
    fit(stage(), tmp_path, resume=True)
    assert equal(newest(tmp_path), newest(whole)) and losses_of(tmp_path) == losses_of(whole)


def at_call(number: int, do):
    """The toy's losses; at a call of this number something happens."""
    calls = itertools.count(1)

    def loss_fn(module, generator):
        if next(calls) == number:
            do()
        x = torch.randn(8, 6, generator=generator)
        return {"loss": (module(x) - x[:, :2]).square().mean()}

    return loss_fn


def test_sigterm_saves_at_the_end_of_the_step_and_says_so(whole, tmp_path):
    def evaluate(ema, step):
        os.kill(os.getpid(), signal.SIGTERM)
        return {}

    with pytest.raises(Stopped, match="stopped by signal 15") as stopped:
        fit(stage(evaluate=evaluate), tmp_path)
    assert stopped.value.signal == signal.SIGTERM
    assert RunFolder(tmp_path).newest("toy")[1]["step"] == 10
    fit(stage(), tmp_path, resume=True)
    assert equal(newest(tmp_path), newest(whole))


def test_ctrl_c_waits_for_the_end_of_the_step(whole, tmp_path):
    calls, before = [], signal.getsignal(signal.SIGINT)  # whoever runs the tests may have it ignored

    def losses(module, generator):
        calls.append(1)
        if len(calls) == 7:
            os.kill(os.getpid(), signal.SIGINT)
        x = torch.randn(8, 6, generator=generator)
        return {"loss": (module(x) - x[:, :2]).square().mean()}

    with pytest.raises(KeyboardInterrupt):
        fit(stage(loss_fn=losses), tmp_path)
    assert RunFolder(tmp_path).newest("toy")[1]["step"] == 7
    fit(stage(), tmp_path, resume=True)
    assert equal(newest(tmp_path), newest(whole))
    assert signal.getsignal(signal.SIGINT) is before


def test_when_time_is_up_it_saves_and_says_so_and_goes_on_bit_by_bit(whole, tmp_path):
    for step in (1, 2):
        with pytest.raises(Stopped, match="the time is up") as stopped:
            fit(stage(), tmp_path, resume=True, deadline=time.monotonic())
        assert stopped.value.signal is None and RunFolder(tmp_path).newest("toy")[1]["step"] == step
    fit(stage(), tmp_path, resume=True, deadline=time.monotonic() + 1000)
    assert equal(newest(tmp_path), newest(whole)) and losses_of(tmp_path) == losses_of(whole)


# As on a GPU, where the loop looks at the numbers only when it logs them


@pytest.fixture
def seldom(monkeypatch):
    monkeypatch.setattr(training, "sync_every", lambda device, config: config.log_every)
    return replace(CONFIG, log_every=4)


def bad_at(*steps: int, factor: float = float("nan")):
    """Losses that are not finite at these steps, the first being 1."""
    calls = itertools.count(1)

    def losses(module, generator):
        x = torch.randn(8, 6, generator=generator)
        return {"loss": (module(x) - x[:, :2]).square().mean() * (factor if next(calls) in steps else 1)}

    return losses


def test_a_loop_that_looks_seldom_trains_the_same(whole, tmp_path, seldom):
    fit(stage(seldom), tmp_path)
    assert equal(newest(tmp_path), newest(whole))
    assert losses_of(tmp_path) == losses_of(whole)[3::4]


@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_between_looks_a_gradient_that_is_not_finite_counts_as_zero(tmp_path, seldom, factor):
    fit(stage(seldom, bad_at(6, 7, factor=factor)), tmp_path)
    state = newest(tmp_path)
    assert all(tensor.isfinite().all() for tensor in state.values()) and state["optimiser.adamw.0.step"] == 40
    assert all(loss == loss for _, loss, _ in losses_of(tmp_path))


def test_a_loop_that_looks_seldom_stops_too_and_saves_finite_weights(tmp_path, seldom):
    with pytest.raises(TrainingError, match=r"not finite for 6 steps up to 31; lower lr=0.01"):
        fit(stage(seldom, bad_at(*range(10, 41))), tmp_path)
    assert all(tensor.isfinite().all() for tensor in newest(tmp_path).values())


def test_zero_where_zeroes_all_or_nothing():
    tensors = [torch.tensor([1.0, float("nan")]), torch.tensor(float("inf"))]
    zero_where(torch.tensor(False), tensors)
    assert tensors[0][0] == 1 and tensors[1].isinf()
    zero_where(torch.tensor(True), tensors)
    assert torch.equal(tensors[0], torch.zeros(2)) and tensors[1] == 0


def test_a_damaged_newest_state_falls_back_loudly(whole, tmp_path):
    fit(stage(), tmp_path)
    states = {load_tensors(path)[1]["step"]: path for path in tmp_path.glob("*.state?.safetensors")}
    assert sorted(states) == [36, 40]
    states[40].write_bytes(states[40].read_bytes()[:-9])
    with pytest.warns(UserWarning, match="is damaged.*going on from the state saved before it"):
        fit(stage(), tmp_path, resume=True)
    assert equal(newest(tmp_path), newest(whole))
    for path in states.values():
        path.write_bytes(b"gone")
    with pytest.raises(CheckpointError, match="no saved state of toy can be read"):
        fit(stage(), tmp_path, resume=True)


@pytest.mark.parametrize("part", ["ema.0.weight", "optimiser.adamw.2.exp_avg", "model.2.bias"])
def test_a_missing_part_is_refused(tmp_path, part):
    fit(stage(), tmp_path)
    for path in tmp_path.glob("*.state?.safetensors"):
        tensors, meta = load_tensors(path)
        del tensors[part]
        save_tensors(path, tensors, meta)
    with pytest.raises(CheckpointError, match="does not fit this model"):
        fit(stage(), tmp_path, resume=True)


def test_a_loss_that_stays_not_finite_stops_the_run_and_is_never_saved(tmp_path):
    def losses(module, generator):
        bad = len(list(tmp_path.glob("*.safetensors"))) >= 2  # good until two states are saved
        x = torch.randn(8, 6, generator=generator)
        return {"loss": (module(x) - x[:, :2]).square().mean() * (float("nan") if bad else 1)}

    with pytest.raises(TrainingError, match=r"not finite for 6 steps up to 13; lower lr=0.01"):
        fit(stage(loss_fn=losses), tmp_path)
    assert all(v.isfinite().all() for v in newest(tmp_path).values())


def test_a_few_bad_steps_are_skipped(tmp_path):
    calls = []

    def losses(module, generator):
        calls.append(1)
        x = torch.randn(8, 6, generator=generator)
        return {"loss": (module(x) - x[:, :2]).square().mean() * (float("inf") if len(calls) in (3, 4, 9) else 1)}

    fit(stage(loss_fn=losses), tmp_path)
    assert newest(tmp_path)["optimiser.adamw.0.step"] == 37


def test_out_of_memory_names_a_batch_that_is_smaller(tmp_path):
    def losses(module, generator):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes")

    with pytest.raises(TrainingError, match="memory ran out at a batch of 8; try a batch of 4"):
        fit(stage(loss_fn=losses), tmp_path)


def test_lr_factor_warms_up_holds_and_falls_to_zero():
    config = TrainConfig(steps=100, batch=1, lr=0.1, warmup=10, decay=0.4)
    rates = [lr_factor(step, config) for step in range(101)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == rates[59] == 1
    assert rates[80] == pytest.approx(0.5) and rates[100] == 0
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))


def test_ema_closed_form():
    a, b = nn.Linear(2, 2), nn.Linear(2, 2)
    expected = 0.9 * a.weight + 0.1 * b.weight
    update_ema(a, b, 0.9)
    torch.testing.assert_close(a.weight, expected)


@pytest.mark.parametrize(
    "part", ["model.0.weight", "ema.2.bias", "optimiser.adamw.0.exp_avg", "optimiser.adamw.1.step"]
)
def test_a_part_in_half_precision_is_refused(tmp_path, part):
    fit(stage(), tmp_path)
    for path in tmp_path.glob("*.state?.safetensors"):
        tensors, meta = load_tensors(path)
        save_tensors(path, tensors | {part: tensors[part].half()}, meta)
    with pytest.raises(CheckpointError, match=f"does not fit this model: {part} is .*float16, expected .*float32"):
        fit(stage(), tmp_path, resume=True)


def test_a_memory_of_another_shape_is_refused(tmp_path):
    fit(stage(), tmp_path)
    for path in tmp_path.glob("*.state?.safetensors"):
        tensors, meta = load_tensors(path)
        save_tensors(path, tensors | {"optimiser.adamw.0.exp_avg": torch.zeros(6, 8)}, meta)
    with pytest.raises(CheckpointError, match=r"exp_avg is \(6, 8\) of torch.float32, expected \(8, 6\)"):
        fit(stage(), tmp_path, resume=True)


def test_a_state_beyond_the_last_step_is_refused_with_both_numbers(tmp_path):
    fit(stage(), tmp_path)
    with pytest.raises(InputError, match="of toy is of step 40, but 12 are asked for; ask for 40 or more"):
        fit(stage(replace(CONFIG, steps=12)), tmp_path, resume=True)


def test_a_state_trained_on_other_data_is_refused(tmp_path):
    fit(replace(stage(), data="one"), tmp_path)
    fit(replace(stage(), data="one"), tmp_path, resume=True)
    with pytest.raises(InputError, match="trained on the work of another VAE; choose another --out"):
        fit(replace(stage(), data="two"), tmp_path, resume=True)


@pytest.mark.parametrize(("field", "value"), [("steps", 0), ("batch", -1), ("lr", 0.0), ("lr", 2.0), ("muon_lr", -1.0)])
def test_settings_that_cannot_train_are_refused(field, value):
    with pytest.raises(InputError, match=f"{field}={value}"):
        TrainConfig(**{"steps": 1, "batch": 1, "lr": 0.1, field: value})


def test_no_warning_in_a_whole_run(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(stage(), tmp_path)
