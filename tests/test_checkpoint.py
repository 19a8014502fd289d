import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sora_edu import checkpoint
from sora_edu.checkpoint import (
    expected_weights,
    find_checkpoint,
    load_tensors,
    load_weights,
    save_tensors,
    verify,
    write_atomically,
)
from sora_edu.errors import CheckpointError, InputError

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
    assert other.read_bytes() == saved.read_bytes()


def test_another_process_writes_the_same_bytes(saved, tmp_path):
    code = (
        "import sys, torch; from sora_edu.checkpoint import save_tensors; "
        "save_tensors(sys.argv[1], {'h': torch.ones(5).bfloat16(), 'a': torch.arange(12.0).view(3, 4), "
        "'b.c': torch.tensor([1, 2, 3])}, {'names': ['x', 'y'], 'step': 7})"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "other.safetensors"], check=True)
    assert (tmp_path / "other.safetensors").read_bytes() == saved.read_bytes()


def test_the_data_begin_at_a_multiple_of_eight(saved):
    assert struct.unpack("<Q", saved.read_bytes()[:8])[0] % 8 == 0


def test_mapped_tensors_are_those_of_the_file(saved):
    mapped, loaded = load_tensors(saved, mapped=True)[0], load_tensors(saved)[0]
    assert mapped.keys() == loaded.keys()
    assert all(torch.equal(mapped[name], loaded[name]) for name in loaded)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system does not tell the peak of memory")
def test_a_damaged_file_costs_little_memory(tmp_path):
    """A quarter of a gigabyte, a hole on disk, is hashed in a stream: memory stays flat."""
    path = tmp_path / "large.safetensors"
    size = 1 << 28
    meta = {"format": checkpoint.FORMAT, "sha256": "0" * 64}
    entry = {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}
    header = json.dumps({"__metadata__": meta, "a": entry}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    os.truncate(path, path.stat().st_size + size)
    code = (
        "import sys; from pathlib import Path; from sora_edu.checkpoint import load_tensors, CheckpointError\n"
        "def peak(): return int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])\n"
        "before = peak()\n"
        "try: load_tensors(Path(sys.argv[1]))\n"
        "except CheckpointError as error: print((peak() - before) // 1024, error)"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    megabytes, message = done.stdout.split(" ", 1)
    assert "does not fit its SHA-256" in message and int(megabytes) < 100


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


META = {"format": "sora_edu/1", "sha256": "0" * 64}
FLOATS = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "header",
    [
        [1, 2],
        {"__metadata__": [1], "a": FLOATS},
        {"__metadata__": {"format": 3}, "a": FLOATS},
        {"__metadata__": META, "a": FLOATS, "b": FLOATS | {"data_offsets": [4, 12]}},  # they overlap
        {"__metadata__": META, "a": FLOATS, "b": FLOATS | {"data_offsets": [12, 20]}},  # a hole between them
        {"__metadata__": META, "a": FLOATS | {"shape": [3]}},
        {"__metadata__": META, "a": FLOATS | {"shape": [-2]}},
        {"__metadata__": META, "a": FLOATS | {"shape": [2**62, 4]}},
        {"__metadata__": META, "a": FLOATS | {"shape": [0, 2**63 + 5], "data_offsets": [0, 0]}},
        {"__metadata__": META, "a": FLOATS | {"dtype": "F99"}},
        {"__metadata__": META, "a": FLOATS | {"data_offsets": [8, 0]}},
        {"__metadata__": META, "a": 5},
        {"__metadata__": META, "a": FLOATS},  # sound, but for the checksum
    ],
)
def test_crafted_headers_are_refused(tmp_path, header):
    path = tmp_path / "crafted.safetensors"
    header = json.dumps(header).encode()
    for data in (b"", bytes(8), bytes(12), bytes(20)):
        path.write_bytes(struct.pack("<Q", len(header)) + header + data)
        with pytest.raises(CheckpointError):
            load_tensors(path)


def test_a_name_that_comes_twice_is_refused(tmp_path):
    entry = json.dumps(FLOATS)
    header = f'{{"__metadata__": {json.dumps(META)}, "a": {entry}, "a": {entry}}}'.encode()
    (tmp_path / "twice.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    with pytest.raises(CheckpointError):
        load_tensors(tmp_path / "twice.safetensors")


@pytest.mark.parametrize("value", ["{", "[" * 400_000, "1" * 5000, ""])
def test_metadata_that_are_no_json_are_refused_though_the_checksum_holds(tmp_path, monkeypatch, value):
    path = tmp_path / "x.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr(json, "dumps", lambda v, dumps=json.dumps, **how: value if v == "here" else dumps(v, **how))
        save_tensors(path, TENSORS, {"preset": "here"})
    with pytest.raises(CheckpointError, match="its metadata are no JSON"):
        load_tensors(path)


def test_a_failed_write_leaves_the_old_file(saved, monkeypatch):
    before = saved.read_bytes()

    def full(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match="No space left on device; what was there before is untouched"):
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
        (lambda t: t.update(bias=t["bias"].long()), "holds int64 in bias; weights are float32, float16 or bfloat16"),
        (lambda t: t.update(bias=t["bias"].bool()), "holds bool in bias"),
        (lambda t: t.update(bias=t["bias"].cfloat()), "holds complex64 in bias"),
        (lambda t: t.update(bias=t["bias"].double()), "holds float64 in bias"),
        (lambda t: t.update(bias=t["bias"].to(torch.float8_e4m3fn)), "holds float8_e4m3fn in bias"),
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


@pytest.mark.parametrize("name", [None, 5, ["tiny"]])
def test_what_is_no_name_names_no_checkpoint(as_a_user, name):
    with pytest.raises(CheckpointError, match=r"a checkpoint is a name or a path, such as 'tiny', not "):
        find_checkpoint(name)


def test_an_installation_without_weights_says_where_it_looked_and_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(checkpoint, "SHIPPED", tmp_path / "nothing")
    cure = r"none are shipped in .*nothing, since .* a clone of it \(pip install -e .\), or train one"
    with pytest.raises(CheckpointError, match=f"no checkpoint 'tiny'; {cure}"):
        find_checkpoint("tiny")


@pytest.mark.parametrize("name", ["x" * 10_000, "a\0b", "\udc80"])
def test_names_that_no_file_can_have_are_refused(name):
    with pytest.raises(CheckpointError, match="no checkpoint"):
        find_checkpoint(name)


def test_what_a_build_would_hold_is_known_without_values_and_leaves_the_generator_alone():
    state = torch.get_rng_state()
    expected = expected_weights(lambda: torch.nn.ModuleDict({"a": torch.nn.Embedding(5, 1 << 40)}))
    assert {name: (tuple(t.shape), t.device.type) for name, t in expected.items()} == {
        "a.weight": ((5, 1 << 40), "meta")
    }
    assert torch.equal(torch.get_rng_state(), state)


def test_ctrl_c_while_writing_leaves_the_old_file_and_nothing_beside_it(saved, monkeypatch):
    def interrupted(fd):
        raise KeyboardInterrupt

    before = saved.read_bytes()
    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(saved, b"new")
    assert saved.read_bytes() == before and list(saved.parent.iterdir()) == [saved]


def test_what_a_killed_write_left_is_gone_after_the_next_one(saved):
    saved.with_name("model.safetensors.part").write_bytes(b"half of a file, and longer than the next one" * 1000)
    write_atomically(saved, b"new")
    assert saved.read_bytes() == b"new" and list(saved.parent.iterdir()) == [saved]


def test_a_folder_that_is_a_file_is_named(saved):
    with pytest.raises(CheckpointError, match="cannot write"):
        write_atomically(saved / "inside.json", b"new")


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


@pytest.mark.parametrize("path", [None, 5, ["a"]])
@pytest.mark.parametrize("call", [load_tensors, lambda path: save_tensors(path, TENSORS, {})])
def test_what_is_no_path_is_refused(as_a_user, call, path):
    with pytest.raises(CheckpointError, match=r"path=.* is of type \w+; give the path of a file"):
        call(path)


@pytest.mark.parametrize("tensors", [None, 5, [torch.ones(2)], {"a": 1}])
def test_what_is_no_table_of_tensors_is_not_saved(as_a_user, tmp_path, tensors):
    with pytest.raises(InputError, match="must be a dict of names and tensors"):
        save_tensors(tmp_path / "a.safetensors", tensors, {})
    assert not any(tmp_path.iterdir())


def test_a_folder_of_states_alone_says_that_its_training_is_not_finished(tmp_path):
    save_tensors(tmp_path / "vae.state0.safetensors", TENSORS, {"step": 7})
    with pytest.raises(CheckpointError, match=r"not finished, and no model.safetensors yet; go on with: .* --resume"):
        find_checkpoint(tmp_path)
