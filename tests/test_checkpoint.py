import json
import os
import struct

import pytest
import torch
from safetensors.torch import save_file

from sora_edu import checkpoint
from sora_edu.checkpoint import find_checkpoint, load_tensors, load_weights, save_tensors, verify, write_atomically
from sora_edu.errors import CheckpointError

TENSORS = {"a": torch.arange(12.0).view(3, 4), "b.c": torch.tensor([1, 2, 3]), "h": torch.ones(5, dtype=torch.bfloat16)}


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "model.safetensors"
    save_tensors(path, TENSORS, {"step": 7, "names": ["x", "y"]})
    return path


def test_what_was_saved_is_loaded(saved):
    tensors, meta = load_tensors(saved)
    assert meta == {"step": 7, "names": ["x", "y"]}
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[k], v) and tensors[k].dtype == v.dtype for k, v in TENSORS.items())


def test_same_content_same_file(saved, tmp_path):
    other = tmp_path / "other.safetensors"
    save_tensors(other, dict(reversed(TENSORS.items())), {"names": ["x", "y"], "step": 7})
    assert verify(other) == verify(saved)
    assert other.read_bytes() == saved.read_bytes() or load_tensors(other)[1] == load_tensors(saved)[1]


def test_a_flipped_bit_anywhere_is_found(saved):
    raw = bytearray(saved.read_bytes())
    for position in range(len(raw)):
        for bit in (0, 5):
            raw[position] ^= 1 << bit
            saved.write_bytes(raw)
            try:
                load_tensors(saved)
            except CheckpointError:
                pass
            else:  # only white space in the header may change without a change of meaning
                assert position >= 8 and raw[position : position + 1].isspace(), (position, bit)
            raw[position] ^= 1 << bit


def test_a_file_cut_anywhere_is_refused(saved):
    raw = saved.read_bytes()
    for length in range(len(raw)):
        saved.write_bytes(raw[:length])
        with pytest.raises(CheckpointError):
            load_tensors(saved)


def test_a_huge_header_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "bomb.safetensors"
    path.write_bytes(struct.pack("<Q", 1 << 40) + b"{" + b" " * 1000)
    with pytest.raises(CheckpointError, match="header is missing, cut off or too long"):
        load_tensors(path)


@pytest.mark.parametrize("content", [b"", b"abc", b"\x80\x04K\x01." * 40, b"PK\x03\x04" * 50, b"<html>" * 30])
def test_foreign_files_are_refused(tmp_path, content):
    path = tmp_path / "foreign.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        load_tensors(path)


def test_a_plain_safetensors_file_is_not_ours(tmp_path):
    save_file(TENSORS, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match="lacks the format mark"):
        load_tensors(tmp_path / "x.safetensors")


def test_another_format_is_named(saved, monkeypatch):
    monkeypatch.setattr(checkpoint, "FORMAT", "sora_edu/2")
    with pytest.raises(CheckpointError, match="has format 'sora_edu/1', but this version reads 'sora_edu/2'"):
        load_tensors(saved)


def test_a_deep_header_is_refused(tmp_path):
    path = tmp_path / "deep.safetensors"
    header = b"[" * 100_000
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(CheckpointError):
        load_tensors(path)


def test_a_failed_write_leaves_the_old_file(saved, monkeypatch):
    before = saved.read_bytes()

    def full(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match="No space left on device; what stood there before is untouched"):
        write_atomically(saved, b"new")
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("weight"), "missing .'weight'."),
        (lambda t: t.update(extra=torch.ones(1)), "unexpected .'extra'."),
        (lambda t: t.update(weight=torch.ones(3, 2)), r"weight is \(3, 2\), expected \(2, 3\)"),
        (lambda t: t["bias"].fill_(float("nan")), "not finite in bias"),
    ],
)
def test_weights_of_another_model_are_refused(change, message):
    layer = torch.nn.Linear(3, 2)
    before = layer.weight.clone()
    tensors = {k: v.clone() for k, v in layer.state_dict().items()}
    tensors["weight"] += 1
    change(tensors)
    with pytest.raises(CheckpointError, match=message):
        load_weights(layer, tensors)
    assert torch.equal(layer.weight, before)


def test_a_run_is_found_by_its_folder_and_an_unknown_name_lists_the_known(saved, monkeypatch, tmp_path):
    assert find_checkpoint(saved.parent) == find_checkpoint(saved) == saved
    monkeypatch.setattr(checkpoint, "SHIPPED", tmp_path / "shipped")
    (tmp_path / "shipped" / "mini").mkdir(parents=True)
    os.rename(saved, tmp_path / "shipped" / "mini" / "model.safetensors")
    assert find_checkpoint("mini").parent.name == "mini"
    with pytest.raises(CheckpointError, match="no checkpoint 'huge'; shipped: mini"):
        find_checkpoint("huge")


def test_verify_gives_the_checksum_in_the_header(saved):
    raw = saved.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    assert verify(saved) == json.loads(raw[8 : 8 + length])["__metadata__"]["sha256"]


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(CheckpointError, match="No such file"):
        load_tensors(tmp_path / "none.safetensors")
    with pytest.raises(CheckpointError, match="is a folder"):
        load_tensors(tmp_path)


def test_older_files_are_read_under_todays_names(tmp_path):
    older = {"ema.blocks.0.table": torch.zeros(6, 4), "table": torch.ones(1), "stable": torch.ones(2)}
    save_tensors(tmp_path / "older.safetensors", older, {})
    tensors, _ = load_tensors(tmp_path / "older.safetensors")
    assert sorted(tensors) == ["ema.blocks.0.scale_shift_table", "stable", "table"]
    assert torch.equal(tensors["ema.blocks.0.scale_shift_table"], older["ema.blocks.0.table"])
