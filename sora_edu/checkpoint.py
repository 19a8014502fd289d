"""Checkpoints: safetensors files that carry their configuration and a checksum, written so that a kill loses nothing.

safetensors loads a flipped bit silently, so every file holds a SHA-256 over its header and its data, and every
load checks it before a value is read. No pickle is ever opened. A file may come from anybody: its size, header,
checksum, names, shapes and types are checked in this order, and nothing is built or copied before they fit (lesson 10).
"""

import hashlib
import json
import os
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import MISSING, asdict, fields
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open, torch as safetensors_torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sora_edu.errors import CheckpointError, InputError, shown
from sora_edu.files import as_path, write_whole

FORMAT = "sora_edu/1"
HEADER_LIMIT = 1 << 20  # bytes; the header of a real checkpoint takes a few tens of thousands
FILE_LIMIT = 4 << 30  # bytes
RENAMED = {".table": ".scale_shift_table"}  # ends of tensors' names in older files, and what they are now
WEIGHTS = (torch.float32, torch.float16, torch.bfloat16)  # what weights may be stored as
SHIPPED = Path(__file__).resolve().parent.parent / "data" / "checkpoints"


def _digest(entries: dict, meta: dict, data: Iterable[bytes | memoryview]) -> str:
    """SHA-256 over what the header says of the tensors, the metadata without the checksum, and the data."""
    meta = {k: v for k, v in meta.items() if k != "sha256"}
    digest = hashlib.sha256(json.dumps([entries, meta], sort_keys=True).encode())
    for chunk in data:
        digest.update(chunk)
    return digest.hexdigest()


def _chunks(path: Path, start: int) -> Iterator[bytes]:
    """The file's bytes from ``start`` on, a megabyte at a time."""
    with open(path, "rb") as file:
        file.seek(start)
        while chunk := file.read(1 << 20):
            yield chunk


def write_atomically(path: Path, *content: bytes | memoryview) -> None:
    """``files.write_whole`` into a folder that is made where it is missing; CheckpointError where that fails."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, *content)
        path.with_name(f"{path.name}.part").unlink(missing_ok=True)  # what a kill left of an older version's write
    except OSError as error:
        raise CheckpointError(f"cannot write {path}: {error.strerror}; what was there before is untouched") from error


def save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict) -> str:
    """Save tensors with JSON metadata and a checksum, atomically; return the checksum. Raises CheckpointError.

    The same content gives the same bytes: safetensors would shuffle the metadata, so its header is written sorted.
    """
    path = as_path(path, error=CheckpointError)
    if not isinstance(tensors, dict) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise InputError(f"tensors={shown(tensors)} must be a dict of names and tensors, such as a state_dict()")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    meta = {"format": FORMAT, **{k: json.dumps(v, sort_keys=True) for k, v in metadata.items()}}
    raw = memoryview(safetensors_torch.save(tensors))
    start = 8 + struct.unpack("<Q", raw[:8])[0]
    entries = json.loads(bytes(raw[8:start]))
    data = raw[start:]
    meta["sha256"] = _digest(entries, meta, [data])
    header = json.dumps({"__metadata__": meta, **entries}, sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # so that the data begin at a multiple of 8
    write_atomically(path, struct.pack("<Q", len(header)), header, data)
    return meta["sha256"]


def _data_start(path: Path) -> int:
    """Where the data begin, for a file whose size and length of header a checkpoint may have."""
    try:
        size = path.stat().st_size
        if not path.is_file() or size > FILE_LIMIT:
            what = "a folder" if path.is_dir() else f"{size:,} bytes long"
            raise CheckpointError(f"{path} is not a checkpoint: it is {what}")
        with open(path, "rb") as file:
            head = file.read(8)
    except OSError as error:
        raise CheckpointError(f"cannot read checkpoint {path}: {error.strerror}") from error
    length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
    if not 2 <= length <= min(HEADER_LIMIT, size - 8):
        raise CheckpointError(
            f"{path} is not a checkpoint: its header is missing, cut off or too long; copy or train it again"
        )
    return 8 + length


def _open(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors, their data still in the file, and the metadata; CheckpointError unless the checksum holds."""
    start = _data_start(path)
    entries = {}
    end = 0
    try:
        with safe_open(path, framework="pt") as file:
            meta = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.offset_keys()}
            for name, tensor in tensors.items():
                begin, end = end, end + tensor.nbytes
                kind, shape = file.get_slice(name).get_dtype(), file.get_slice(name).get_shape()
                entries[name] = {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}
    except (SafetensorError, ValueError, TypeError, RuntimeError, OverflowError, OSError) as error:
        raise CheckpointError(
            f"{path} is damaged, or is not a checkpoint: {str(error)[:200]}; copy or train it again"
        ) from error
    if "format" not in meta or "sha256" not in meta:
        raise CheckpointError(f"{path} is not a checkpoint of this library: it lacks the format mark and the checksum")
    if meta["format"] != FORMAT:
        found = meta["format"][:40]
        raise CheckpointError(
            f"{path} has format {found!r}, but this version reads {FORMAT!r}; use the version that wrote it"
        )
    if _digest(entries, meta, _chunks(path, start)) != meta["sha256"]:
        raise CheckpointError(
            f"{path} is damaged: its content does not fit its SHA-256; copy it again or restore it with git"
        )
    return tensors, meta


def load_tensors(path: Path, *, mapped: bool = False) -> tuple[dict[str, Tensor], dict]:
    """Load what ``save_tensors`` wrote: the tensors and the metadata, after the checksum held.

    With ``mapped`` the data stay in the file until they are read, so that a large file of another model costs nothing;
    copy what you keep. Raises CheckpointError where the file is missing, truncated, altered, oversized, or foreign.
    """
    path = as_path(path, error=CheckpointError)
    tensors, meta = _open(path)
    try:
        metadata = {k: json.loads(v) for k, v in meta.items() if k not in ("format", "sha256")}
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read: its metadata are no JSON; use another copy") from error
    return rename(tensors if mapped else {name: tensor.clone() for name, tensor in tensors.items()}), metadata


def rename(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of an older file under the names of this version."""
    for old, new in RENAMED.items():
        tensors = {name.removesuffix(old) + new if name.endswith(old) else name: x for name, x in tensors.items()}
    return tensors


class _WithoutValues(TorchFunctionMode):
    """Skips the first values of weights: on the meta device some of them import a compiler, which takes seconds."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if getattr(function, "__module__", None) == nn.init.__name__:
            return args[0] if args else kwargs["tensor"]
        return function(*args, **(kwargs or {}))


def expected_weights(build: Callable[[], nn.Module]) -> dict[str, Tensor]:
    """Names and shapes of a module's weights without building it: tensors on the meta device, which hold no data."""
    with torch.device("meta"), _WithoutValues():
        return build().state_dict()


def check_weights(tensors: dict[str, Tensor], expected: dict[str, Tensor], *, source: str = "checkpoint") -> None:
    """Names, shapes and types of a file's weights must be as expected, or CheckpointError; no value is read."""
    missing, extra = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    if missing or extra:
        missing, extra = ([name[:100] for name in names[:3]] for names in (missing, extra))
        raise CheckpointError(
            f"{source} is for another model: missing {missing}, unexpected {extra}; train it with this version"
        )
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            got, fits = tuple(tensor.shape), tuple(expected[name].shape)
            raise CheckpointError(f"{source} is for another model: {name} is {got}, expected {fits}")
        if tensor.dtype not in WEIGHTS:
            kind = str(tensor.dtype).removeprefix("torch.")
            raise CheckpointError(f"{source} holds {kind} in {name}; weights are float32, float16 or bfloat16")


def load_weights(module: nn.Module, tensors: dict[str, Tensor], *, source: str = "checkpoint") -> None:
    """Copy tensors into a module; names, shapes, types and finiteness must all fit, or CheckpointError."""
    check_weights(tensors, module.state_dict(), source=source)
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise CheckpointError(f"{source} holds values that are not finite in {name}; use an earlier checkpoint")
    module.load_state_dict(tensors)


def shipped_checkpoints() -> dict[str, Path]:
    """Names and files of the checkpoints that come with the repository."""
    return {path.parent.name: path for path in sorted(SHIPPED.glob("*/model.safetensors"))}


def find_checkpoint(name_or_path: str | Path) -> Path:
    """The file of a shipped name, of a training run's folder, or of a path; CheckpointError names what there is."""
    if not isinstance(name_or_path, str | os.PathLike):
        raise CheckpointError(f"a checkpoint is a name or a path, such as 'tiny', not {shown(name_or_path)}")
    shipped = shipped_checkpoints()
    if str(name_or_path) in shipped:
        return shipped[str(name_or_path)]
    path = Path(name_or_path)
    with suppress(OSError):  # such as a name that is too long
        path = path / "model.safetensors" if path.is_dir() else path
        if path.exists():
            return path
        if any(path.parent.glob("*.state?.safetensors")):
            raise CheckpointError(
                f"{path.parent} holds a training that is not finished, and no {path.name} yet; go on with: "
                f"sora-edu train --resume --out {path.parent} (and the options that it was begun with)"
            )
    known = f"shipped: {', '.join(shipped)}" if shipped else (
        f"none are shipped in {SHIPPED}, since they come with the repository: work from a clone of it "
        "(pip install -e .), or train one (sora-edu train --out runs/mine)"
    )  # fmt: skip
    raise CheckpointError(f"no checkpoint {str(name_or_path)[:200]!r}; {known}; or give a file or a run's folder")


def verify(name_or_path: str | Path) -> str:
    """Check a checkpoint's checksum and return it; CheckpointError says what is wrong."""
    return _open(find_checkpoint(name_or_path))[1]["sha256"]


def config_to_json(config) -> dict:
    """A frozen dataclass of settings as plain JSON."""
    return json.loads(json.dumps(asdict(config)))


def _as_tuples(value: object) -> object:
    """Lists, and lists in lists, as tuples."""
    return tuple(_as_tuples(item) for item in value) if isinstance(value, list) else value


def config_from_json(kind, values: object):
    """The dataclass again; lists become tuples. CheckpointError where names, types or ranges do not fit."""
    unfit = f"the checkpoint's {kind.__name__} does not fit this version"
    if not isinstance(values, dict):
        raise CheckpointError(f"{unfit}: it is a {type(values).__name__}, not a table of settings")
    if unknown := sorted(values.keys() - {field.name for field in fields(kind)}):
        raise CheckpointError(f"{unfit}: unknown settings {[name[:40] for name in unknown[:3]]}")
    needed = {field.name for field in fields(kind) if field.default is MISSING}
    if missing := sorted(needed - values.keys()):
        raise CheckpointError(f"{unfit}: settings {missing} are missing")
    try:
        return kind(**{k: _as_tuples(v) for k, v in values.items()})
    except InputError as error:
        raise CheckpointError(f"{unfit}: {error}") from error
