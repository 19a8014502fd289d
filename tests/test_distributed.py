"""Two processes on one CPU, over gloo: the same training as one, whichever way the model is spread."""

import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import time
import traceback
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from sora_edu import checkpoint, cli, compute, config
from sora_edu.checkpoint import load_tensors
from sora_edu.compute import choose_device
from sora_edu.config import DiTConfig, TextConfig, TrainConfig, VAEConfig
from sora_edu.errors import InputError, Stopped, TrainingError
from sora_edu.pipeline import Pipeline
from sora_edu.train import latents as cached, loop as training, recipe, run_folder, watching
from sora_edu.train.distributed import ALONE, Ranks, environment, started
from sora_edu.train.loop import Stage, fit
from sora_edu.train.run_folder import RunFolder

SOON = 1800  # seconds after which processes that still run are taken to hang; no slow machine comes near it
# In fp32, after 12 steps; measured with either optimiser: 3e-7 for the losses, 6e-8 for the states.
CLOSE = dict(rtol=1e-6, atol=1e-6)
MUON_CLOSE = dict(rtol=1e-4, atol=1e-4)  # Muon multiplies in bf16, where another processor may round another way


@pytest.fixture(autouse=True)
def in_fp32(monkeypatch):
    """In bf16 the sums over other shares of the batch round otherwise, and a comparison would say little."""
    monkeypatch.setattr(compute, "fast_bf16", lambda device: False)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def child(work, rank: int, world: int, port: int, log: Path) -> None:
    """Do the work in the surroundings that torchrun makes, and leave with an exit status."""
    status = 1
    try:
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(log.with_suffix(f".{name}"), os.O_WRONLY | os.O_CREAT), number)
            setattr(sys, name, os.fdopen(number, "w", closefd=False))
        names = dict(RANK=rank, WORLD_SIZE=world, LOCAL_RANK=rank, MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
        os.environ.update({name: str(value) for name, value in names.items()})
        work(rank)
        status = 0
    except SystemExit as stop:  # through the command line
        status = stop.code or 0
    except Stopped as stop:
        status = 128 + stop.signal if stop.signal else 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def together(work, folder: Path, world: int = 2) -> tuple[list[int], list[str], list[str]]:
    """Exit statuses, stdout and stderr of ``work(rank)`` in so many processes; none may hang."""
    port, children = free_port(), []
    folder.mkdir(parents=True, exist_ok=True)
    for rank in range(world):
        if (pid := os.fork()) == 0:
            child(work, rank, world, port, folder / f"rank{rank}")
        children.append(pid)
    statuses, end = {}, time.monotonic() + SOON
    while len(statuses) < world and time.monotonic() < end:
        for pid in set(children) - set(statuses):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                statuses[pid] = os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    for pid in set(children) - set(statuses):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    told = [[(folder / f"rank{rank}.{name}").read_text() for rank in range(world)] for name in ("stdout", "stderr")]
    return [statuses.get(pid, "hung") for pid in children], *told


# A model with hidden matrices, sizes that two do not divide, and a buffer


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.layer = nn.LayerNorm(7), nn.Linear(7, 7)

    def forward(self, x):
        return x + self.layer(self.norm(x)).tanh()


class Toy(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.head = nn.Linear(6, 7), nn.Linear(7, 3)
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.register_buffer("scale", torch.ones(1))

    def forward(self, x):
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x) * self.scale


ADAMW = TrainConfig(steps=12, batch=8, lr=1e-2, warmup=5, save_every=4, log_every=1, ema=0.9)
MUON = replace(ADAMW, muon_lr=1e-2)


def stage(ranks: Ranks = ALONE, config: TrainConfig = ADAMW, *, signal_at: int = 0, nan_at: int = 0) -> Stage:
    """Regression on rows drawn for the whole batch; the last rank may receive SIGTERM, or a loss that is no number."""
    mine, calls, last = ranks.rows(config.batch), [], ranks.rank == ranks.world - 1

    def losses(module, generator):
        calls.append(1)
        x = torch.randn(config.batch, 6, generator=generator)[mine]
        if len(calls) == signal_at and last:
            os.kill(os.getpid(), signal.SIGTERM)
        bad = len(calls) == nan_at and last
        return {"loss": (module(x) - x[:, :3]).square().mean() * (float("nan") if bad else 1)}

    return Stage("toy", 1, Toy(), losses, config, blocks=(Block,))


def train_toy(folder: Path, *, world: int = 2, sharded: bool = False, resume: bool = False, **options) -> list[int]:
    """Train in so many processes; their exit statuses."""

    def work(rank):
        with started("cpu", sharded=sharded) as (ranks, _):
            assert ranks == Ranks(rank, world, sharded)
            if not ranks.first:
                forbid_writing()
            ema = fit(stage(ranks, **options), folder, resume=resume, ranks=ranks)
            torch.save({k: v.clone() for k, v in ema.state_dict().items()}, folder / f"ema{rank}.pt")

    statuses, _, errors = together(work, folder, world)
    assert "Traceback" not in "".join(errors), errors
    return statuses


def forbid_writing() -> None:
    """Whoever writes now fails."""

    def refuse(*_, **__):
        raise AssertionError("a rank other than the first writes")

    run_folder.open = refuse  # it opens for appending only
    for module in (run_folder, checkpoint, cached, watching, recipe):
        for name in ("locked", "save_tensors", "write_atomically", "save_strips", "export"):
            if hasattr(module, name):
                setattr(module, name, refuse)


def curve(folder: Path) -> list[list[float]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [[line["step"], line["loss"], line["norm"]] for line in lines]


def assert_same_training(a: Path, b: Path, *, exact: bool = False, close: dict = CLOSE) -> None:
    """Curves and last states agree; the states have the same names."""
    close = dict(rtol=0, atol=0, equal_nan=True) if exact else {**close, "equal_nan": True}
    torch.testing.assert_close(torch.tensor(curve(a)), torch.tensor(curve(b)), **close)
    (one, meta), (two, other) = RunFolder(a).newest("toy"), RunFolder(b).newest("toy")
    assert meta["step"] == other["step"] == 12 and one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(one[name], two[name], **close, msg=lambda text, name=name: f"{name}: {text}")


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Uninterrupted runs of one process, with AdamW alone and with Muon."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compute, "fast_bf16", lambda device: False)
        folders = {}
        for config in (ADAMW, MUON):
            folders[config] = tmp_path_factory.mktemp("alone")
            fit(stage(config=config), folders[config])
    return folders


SPREADS = pytest.mark.parametrize("sharded", [False, True], ids=["ddp", "fsdp2"])


@SPREADS
@pytest.mark.parametrize(("config", "close"), [(ADAMW, CLOSE), (MUON, MUON_CLOSE)], ids=["adamw", "muon"])
def test_two_processes_train_as_one(alone, tmp_path, sharded, config, close):
    assert train_toy(tmp_path, sharded=sharded, config=config) == [0, 0]
    assert_same_training(tmp_path, alone[config], close=close)
    emas = [torch.load(tmp_path / f"ema{rank}.pt", weights_only=True) for rank in (0, 1)]
    saved = RunFolder(tmp_path).newest("toy")[0]
    assert all(torch.equal(ema[name], saved[f"ema.{name}"]) for ema in emas for name in ema)


@SPREADS
def test_a_run_moves_from_one_process_to_two_and_back(alone, tmp_path, sharded):
    assert train_toy(tmp_path, world=1, signal_at=4) == [143]
    assert RunFolder(tmp_path).newest("toy")[1]["step"] == 4
    assert train_toy(tmp_path, sharded=sharded, resume=True, signal_at=3) == [143, 143]  # one hears it, both stop
    assert RunFolder(tmp_path).newest("toy")[1]["step"] == 7
    assert train_toy(tmp_path, world=1, resume=True) == [0]
    assert_same_training(tmp_path, alone[ADAMW])


@SPREADS
def test_the_same_number_of_processes_goes_on_bit_by_bit(tmp_path, sharded):
    assert train_toy(tmp_path / "whole", sharded=sharded, config=MUON) == [0, 0]
    assert train_toy(tmp_path / "cut", sharded=sharded, config=MUON, signal_at=5) == [143, 143]
    assert train_toy(tmp_path / "cut", sharded=sharded, config=MUON, resume=True) == [0, 0]
    assert_same_training(tmp_path / "cut", tmp_path / "whole", exact=True)


@SPREADS
def test_a_loss_that_is_no_number_on_one_rank_is_skipped_by_all(tmp_path, sharded):
    assert train_toy(tmp_path, sharded=sharded, nan_at=3) == [0, 0]
    assert RunFolder(tmp_path).newest("toy")[0]["optimiser.adamw.0.step"] == 11
    assert [step for step, loss, _ in curve(tmp_path) if loss != loss] == [3]


@SPREADS
def test_processes_that_look_seldom_take_a_bad_gradient_for_zero(monkeypatch, tmp_path, sharded):
    monkeypatch.setattr(training, "sync_every", lambda device, config: config.log_every)
    assert train_toy(tmp_path, sharded=sharded, nan_at=3, config=replace(MUON, log_every=4)) == [0, 0]
    state = RunFolder(tmp_path).newest("toy")[0]
    assert state["optimiser.adamw.0.step"] == 12 and all(tensor.isfinite().all() for tensor in state.values())
    assert [step for step, loss, _ in curve(tmp_path) if loss == loss] == [4, 8, 12]


def test_time_that_is_up_on_one_rank_stops_all(tmp_path):
    def work(rank):
        with started("cpu") as (ranks, _):
            fit(stage(ranks), tmp_path, ranks=ranks, deadline=0.0 if rank else math.inf)

    assert together(work, tmp_path)[0] == [0, 0]
    assert RunFolder(tmp_path).newest("toy")[1]["step"] == 1


def test_a_folder_that_only_one_rank_sees_is_refused(tmp_path):
    for rank in (0, 1):
        (tmp_path / str(rank)).mkdir()
    fit(stage(), tmp_path / "0")

    def work(rank):
        with started("cpu") as (ranks, _), pytest.raises(InputError, match="--out must be a folder that all ranks"):
            fit(stage(ranks), tmp_path / str(rank), resume=True, ranks=ranks)

    assert together(work, tmp_path)[0] == [0, 0]


# The whole recipe, through the command line

MINI = replace(
    config.TINY,
    vae=VAEConfig(channels=4, widths=(8, 8, 8), enc_blocks=1, dec_blocks=1),
    text=TextConfig(width=16, depth=1, heads=2),
    dit=DiTConfig(channels=4, width=24, depth=1, heads=2, text_width=16),
    vae_train=replace(config.TINY.vae_train, steps=3, batch=2, save_every=2, log_every=1),
    dit_train=replace(config.TINY.dit_train, steps=3, batch=4, save_every=2, log_every=1, image_fraction=0.5),
    clips=24,
)


@pytest.fixture
def mini(monkeypatch):
    monkeypatch.setitem(config.PRESETS, "mini", MINI)
    monkeypatch.setattr(watching, "quick_accuracy", lambda sampler, seed: {"all": 0.0})


def command(out: Path, *options: str, plant=lambda rank: None):
    """The command line as each rank runs it, after a fault was planted in it."""

    def work(rank):
        plant(rank)
        cli.main(["train", "--preset", "mini", "--out", str(out), "--device", "cpu", *options])

    return work


def losses_by_stage(out: Path) -> list:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [(line["stage"], line["step"], line["loss"]) for line in lines if "loss" in line]


def test_the_command_trains_the_same_model_in_two_processes(mini, tmp_path):
    cli.main(["train", "--preset", "mini", "--out", str(tmp_path / "one"), "--device", "cpu"])
    expected = losses_by_stage(tmp_path / "one")

    def plant(rank):
        if rank:
            forbid_writing()

    for name, options in (("ddp", []), ("fsdp2", ["--fsdp"])):
        out = tmp_path / name / "run"
        statuses, answers, errors = together(command(out, *options, plant=plant), tmp_path / name)
        assert statuses == [0, 0], errors
        assert answers == [f"{out / 'model.safetensors'}\n", ""]
        assert "dit: 100%" in errors[0] and "100%" not in errors[1]  # one rank shows the progress
        got = losses_by_stage(out)
        assert [line[:2] for line in got] == [line[:2] for line in expected]
        assert [line[2] for line in got] == pytest.approx([line[2] for line in expected], rel=1e-5)  # measured: 1.2e-6
        assert (out / "samples" / "dit_000003.strip.png").exists()
        assert Pipeline.load(out)("a red circle falls", steps=2).shape == (1, 3, 17, 32, 32)
        names = [load_tensors(folder / "dit.state1.safetensors")[0].keys() for folder in (out, tmp_path / "one")]
        assert names[0] == names[1]


def only_error(errors: list[str]) -> str:
    """The one line in which one of the ranks says what went wrong; the others are silent."""
    (line,) = re.findall(r"^error: .*$", "\n".join(errors), re.MULTILINE)
    assert "Traceback" not in "".join(errors), errors
    return line


def test_a_batch_that_cannot_be_shared_is_refused_once(mini, tmp_path):
    statuses, _, errors = together(command(tmp_path / "run", "--batch", "3"), tmp_path)
    assert sorted(statuses) == [1, 2]
    assert only_error(errors) == "error: a batch of 3 cannot be shared evenly by 2 processes; use 2 or 4"
    assert not (tmp_path / "run").exists()


def test_a_folder_with_a_run_is_refused_once(mini, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.safetensors").touch()
    statuses, _, errors = together(command(tmp_path / "run"), tmp_path)
    assert 0 not in statuses and "hung" not in statuses
    assert "already holds a run; add --resume" in only_error(errors)


@pytest.mark.parametrize("failing", [0, 1])
def test_a_rank_that_fails_ends_all_and_is_told_once(mini, tmp_path, failing):
    def plant(rank):
        real, calls = recipe.vae_loss, []

        def broken(*arguments, **options):
            calls.append(1)
            if rank == failing and len(calls) == 2:
                raise TrainingError("a planted fault")
            return real(*arguments, **options)

        recipe.vae_loss = broken

    statuses, _, errors = together(command(tmp_path / "run", plant=plant), tmp_path)
    assert statuses[failing] == 2 and statuses[1 - failing] not in (0, "hung")
    assert only_error(errors) == "error: a planted fault"


@pytest.mark.parametrize("killed", [0, 1])
def test_a_rank_that_is_killed_ends_the_other_which_says_so(mini, tmp_path, killed):
    def plant(rank):
        real, calls = recipe.vae_loss, []

        def deadly(*arguments, **options):
            calls.append(1)
            if rank == killed and len(calls) == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)

        recipe.vae_loss = deadly

    statuses, _, errors = together(command(tmp_path / "run", plant=plant), tmp_path)
    assert statuses[killed] == -signal.SIGKILL and statuses[1 - killed] not in (0, "hung")
    if killed:  # the store dies with rank 0 here; under torchrun it stays
        assert only_error(errors) == "error: process 0 lost another one; go on from the last saved state with --resume"
    assert RunFolder(tmp_path / "run").newest("vae")[1]["step"] == 2


def test_torchrun_starts_it(tmp_path):
    script = tmp_path / "mini.py"
    script.write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import torch, test_distributed as t\n"
        "torch.set_num_threads(1)\n"
        "t.config.PRESETS['mini'] = t.MINI\n"
        "t.watching.quick_accuracy = lambda sampler, seed: {'all': 0.0}\n"
        "t.cli.main()\n"
    )
    out = tmp_path / "run"
    arguments = [str(script), "train", "--preset", "mini", "--out", str(out), "--device", "cpu"]
    status, answer, errors = torchrun(*arguments)
    assert status == 0, errors
    assert answer == f"{out / 'model.safetensors'}\n" and "Warning" not in errors
    status, _, errors = torchrun(*arguments)
    assert status != 0 and len(re.findall("^error: .* already holds a run", errors, re.MULTILINE)) == 1


def torchrun(*arguments: str) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of two processes; where they hang, all are killed."""
    address = ["--nproc-per-node", "2", "--master-addr", "127.0.0.1", "--master-port", str(free_port())]
    command, pipe = [sys.executable, "-m", "torch.distributed.run", *address, *arguments], subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True) as process:
        try:
            answer, errors = process.communicate(timeout=SOON)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGTERM)  # torchrun and those that it started
            raise
    return process.returncode, answer, errors


# What needs no second process


@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_the_rows_of_all_ranks_are_the_batch_once(world):
    rows = torch.arange(12)
    assert torch.equal(torch.cat([rows[Ranks(rank, world).rows(12)] for rank in range(world)]), rows)


@pytest.mark.parametrize(("batch", "world", "fits"), [(8, 3, "6 or 9"), (2, 4, "4"), (64, 7, "63 or 70")])
def test_a_batch_that_does_not_divide_names_the_nearest(batch, world, fits):
    with pytest.raises(
        InputError, match=f"a batch of {batch} cannot be shared evenly by {world} processes; use {fits}$"
    ):
        Ranks(0, world).rows(batch)


def test_one_process_needs_no_group():
    with started("cpu") as (ranks, device):
        assert ranks == ALONE and ranks.first and device == torch.device("cpu")
        assert not torch.distributed.is_initialized()
        ranks.wait()
        assert ranks.mean({"a": torch.tensor(2.5)}) == {"a": 2.5} and ranks.largest(15, device) == 15


def test_one_process_has_nothing_to_shard():
    with pytest.raises(
        InputError, match="--fsdp cuts a model into pieces for several processes; start them with torchrun"
    ):
        with started("cpu", sharded=True):
            pass


@pytest.mark.parametrize(
    "values", [{"RANK": "2"}, {"RANK": "x"}, {"RANK": None}, {"LOCAL_RANK": "-1"}, {"WORLD_SIZE": "two"}]
)
def test_a_broken_environment_is_refused(monkeypatch, values):
    for name, value in ({"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"} | values).items():
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match="torchrun"):
        environment()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has what the test expects to be missing")
def test_a_device_that_this_machine_lacks_is_refused_before_anything_begins(tmp_path, capsys):
    with pytest.raises(InputError, match=r"--device cuda cannot be used here \(.*\); use cpu, or leave it out"):
        choose_device("cuda")
    with pytest.raises(SystemExit):
        cli.main(["train", "--preset", "tiny", "--device", "cuda", "--out", str(tmp_path)])
    assert "error: --device cuda cannot be used here" in capsys.readouterr().err and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("device", "words"), [("mps", "use cpu, or cuda for a GPU each"), ("cuda:1", "for a GPU each"), ("gpu", "unknown")]
)
def test_devices_that_several_processes_cannot_share_are_refused(device, words):
    with pytest.raises(InputError, match=words):
        choose_device(device, world=2)


def test_each_process_gets_the_gpu_of_its_number(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("cuda", world=4, local=1) == torch.device("cuda", 1)
    with pytest.raises(InputError, match="process 3 of this machine has no GPU: there are 2"):
        choose_device("cuda", world=4, local=2)
