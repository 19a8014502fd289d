"""The folder of a run holds one whole state whatever happens, and what it cannot use it names or passes over."""

import json
import os
import signal
import time

import pytest
import torch

from sora_edu import files
from sora_edu.checkpoint import load_tensors, save_tensors
from sora_edu.errors import CheckpointError, InputError, TrainingError
from sora_edu.train.run_folder import RunFolder, check_disk, locked, read_metrics

COUNTS = {"step": 4, "seconds": 1.5, "bad": 0}


def slots(folder) -> dict[str, int]:
    return {path.name: load_tensors(path)[1]["step"] for path in sorted(folder.glob("*.state?.safetensors"))}


def save(run: RunFolder, step: int) -> None:
    run.save("toy", {"w": torch.tensor([float(step)])}, COUNTS | {"step": step})


# States


def test_a_state_is_written_over_the_older_one_whatever_the_steps(tmp_path):
    run = RunFolder(tmp_path)
    for step in (4, 5, 6):  # as when SIGTERM comes twice in a row
        save(run, step)
    assert slots(tmp_path) == {"toy.state0.safetensors": 6, "toy.state1.safetensors": 5}
    again = RunFolder(tmp_path)
    assert again.newest("toy")[1]["step"] == 6
    save(again, 7)
    assert slots(tmp_path) == {"toy.state0.safetensors": 6, "toy.state1.safetensors": 7}


def test_a_damaged_state_is_the_next_to_be_written_over(tmp_path):
    run = RunFolder(tmp_path)
    save(run, 4), save(run, 8)
    (tmp_path / "toy.state1.safetensors").write_bytes(b"gone")
    again = RunFolder(tmp_path)
    with pytest.warns(UserWarning, match="going on from the state saved before it"):
        assert again.newest("toy")[1]["step"] == 4
    save(again, 5)
    assert slots(tmp_path) == {"toy.state0.safetensors": 4, "toy.state1.safetensors": 5}


def test_a_state_that_holds_nan_is_passed_over_and_alone_it_is_named_with_the_mend(tmp_path):
    run = RunFolder(tmp_path)
    save(run, 4)
    run.save("toy", {"w": torch.tensor([float("nan")])}, COUNTS | {"step": 8})
    with pytest.warns(UserWarning, match="state1.safetensors holds values that are not finite in w; going on from"):
        assert RunFolder(tmp_path).newest("toy")[1]["step"] == 4
    (tmp_path / "toy.state0.safetensors").unlink()
    mend = r"no saved state of toy can be read: .*; or delete the files toy.state\* to begin toy anew"
    with pytest.raises(CheckpointError, match=mend):
        RunFolder(tmp_path).newest("toy")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("step", None),
        ("step", "x"),
        ("step", -1),
        ("step", True),
        ("step", 4.0),
        ("seconds", None),
        ("seconds", "1"),
        ("seconds", float("inf")),
        ("seconds", float("nan")),
        ("bad", None),
        ("bad", [0]),
    ],
)
def test_a_state_that_does_not_say_how_far_it_is_gives_way_to_the_other(tmp_path, name, value):
    run, path = RunFolder(tmp_path), tmp_path / "toy.state1.safetensors"
    save(run, 4)
    save_tensors(path, {"w": torch.zeros(1)}, COUNTS | {"step": 8} | {name: value})
    with pytest.warns(UserWarning, match=f"is no training state: its {name} is"):
        assert RunFolder(tmp_path).newest("toy")[1]["step"] == 4
    (tmp_path / "toy.state0.safetensors").unlink()
    with pytest.raises(CheckpointError, match=f"no saved state of toy can be read.*its {name} is"):
        RunFolder(tmp_path).newest("toy")


@pytest.mark.parametrize("name", COUNTS)
def test_a_state_without_one_of_its_counts_is_refused(tmp_path, name):
    counts = {key: value for key, value in COUNTS.items() if key != name}
    save_tensors(tmp_path / "toy.state0.safetensors", {"w": torch.zeros(1)}, counts)
    with pytest.raises(CheckpointError, match=f"its {name} is None"):
        RunFolder(tmp_path).newest("toy")


def test_who_does_not_write_reads_and_leaves_everything_as_it_is(tmp_path):
    save(RunFolder(tmp_path), 4)
    other = RunFolder(tmp_path, writes=False)
    other.log({"stage": "toy", "step": 1})
    save(other, 8)
    RunFolder(tmp_path / "none", writes=False).begun_with({"seed": 0})
    assert slots(tmp_path) == {"toy.state0.safetensors": 4} and len(list(tmp_path.iterdir())) == 1
    assert other.has_state("toy") and not other.has_state("dit")


# Metrics

LINES = [b'{"stage": "toy", "step": 1}\n', b'{"a": 1}\n', b"\xff\xfe\n", b'{"stage": "toy", "step": "x"}\n', b"[1]\n"]


def test_broken_lines_of_metrics_are_passed_over_and_stay(tmp_path):
    path, more = tmp_path / "metrics.jsonl", [b'{"stage": "toy", "step": 3}\n', b'{"stage": "vae", "step": 9}\n']
    path.write_bytes(b"".join(LINES + more) + b'{"stage": "toy", "st')
    assert [line["step"] for line in read_metrics(path)] == [1, 3, 9]
    RunFolder(tmp_path).drop_metrics("toy", after=2)
    assert path.read_bytes() == b"".join([*LINES, more[1]])
    assert read_metrics(tmp_path / "none.jsonl") == []


def test_metrics_are_written_again_only_where_a_line_must_go(tmp_path, monkeypatch):
    run = RunFolder(tmp_path)
    run.log({"stage": "toy", "step": 1})
    before = (tmp_path / "metrics.jsonl").stat()
    run.drop_metrics("toy", after=1)
    after = (tmp_path / "metrics.jsonl").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_kill_while_metrics_are_written_again_loses_none(tmp_path, monkeypatch):
    run, path = RunFolder(tmp_path), tmp_path / "metrics.jsonl"
    for step in (1, 2, 3):
        run.log({"stage": "toy", "step": step})

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "replace", killed)  # the last moment at which the old file is there
    with pytest.raises(KeyboardInterrupt):
        run.drop_metrics("toy", after=1)
    assert [line["step"] for line in read_metrics(path)] == [1, 2, 3]


# What a run was begun with


def test_other_settings_are_refused_with_both_values_and_only_steps_may_grow(tmp_path):
    run, begun = RunFolder(tmp_path), {"seed": 0, "clips": 24, "steps": 10}
    assert run.begun_with(begun, growing=("steps",)) == {}
    assert run.begun_with(begun, growing=("steps",)) == begun
    message = r"was begun with seed=0 and clips=24, not seed=1 and clips=25; resume with the former, or choose .*steps"
    with pytest.raises(InputError, match=message):
        run.begun_with(begun | {"seed": 1, "clips": 25}, growing=("steps",))
    run.begun_with(begun | {"steps": 12}, growing=("steps",))
    with pytest.raises(InputError, match="was begun with steps=12, not steps=11"):
        run.begun_with(begun | {"steps": 11}, growing=("steps",))


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff", b"3"])
def test_damaged_settings_are_named(tmp_path, content):
    (tmp_path / "settings.json").write_bytes(content)
    with pytest.raises(InputError, match="settings.json is damaged"):
        RunFolder(tmp_path).begun_with({"seed": 0})


# One run at a time


def test_the_folder_is_locked_against_a_second_run_and_freed_by_a_kill(tmp_path):
    child = os.fork()
    if child == 0:
        try:
            with locked(tmp_path):
                (tmp_path / "held").touch()
                time.sleep(600)
        finally:
            os._exit(0)
    while not (tmp_path / "held").exists():
        time.sleep(0.005)
    with pytest.raises(TrainingError, match="is in use by another run"), locked(tmp_path):
        pass
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with locked(tmp_path):
        pass


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(TrainingError, match="cannot write to"), locked(tmp_path / "file" / "run"):
        pass


def test_a_full_disk_is_refused_early(tmp_path):
    with pytest.raises(TrainingError, match="GB free, but the run writes about"):
        check_disk(tmp_path / "deep" / "run", 1 << 60)
    check_disk(tmp_path / "deep" / "run", 1)


def test_what_a_kill_left_half_written_is_swept_at_the_next_start(tmp_path):
    (tmp_path / "samples").mkdir()
    left = [tmp_path / "vae.state0.safetensors.part", tmp_path / "samples" / ".0123.tmp"]
    kept = [tmp_path / "notes.txt", tmp_path / "samples" / "vae_000001.strip.png"]
    for path in left + kept:
        path.touch()
    with RunFolder(tmp_path).claimed(resume=True, needed=1):
        assert not any(path.exists() for path in left) and all(path.exists() for path in kept)


def test_a_folder_in_use_is_not_swept(tmp_path):
    (tmp_path / "a.part").touch()
    with locked(tmp_path), pytest.raises(TrainingError), RunFolder(tmp_path).claimed(resume=True, needed=1):
        pass
    assert (tmp_path / "a.part").exists()


def test_a_run_is_gone_on_with_only_when_asked(tmp_path):
    save(RunFolder(tmp_path), 4)
    with pytest.raises(InputError, match="already holds a run; add --resume"):
        with RunFolder(tmp_path).claimed(resume=False, needed=1):
            pass
    with RunFolder(tmp_path).claimed(resume=True, needed=1):
        pass
    assert json.dumps(slots(tmp_path)) == '{"toy.state0.safetensors": 4}'
