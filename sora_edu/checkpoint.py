"""Checkpoints: safetensors files that carry their configuration and a checksum, written so that a kill loses nothing.

safetensors loads a flipped bit silently, so every file holds a SHA-256 over its header and its data, and every
load checks it before a tensor is made. No pickle is ever opened.
"""

import hashlib
import json
import os
import struct
from dataclasses import asdict
from pathlib import Path

from safetensors import SafetensorError
from safetensors import torch as safetensors_torch
from torch import Tensor, nn

from sora_edu.errors import CheckpointError

FORMAT = "sora_edu/1"
HEADER_LIMIT = 1 << 20  # bytes; the header of a real checkpoint takes a few tens of thousands
FILE_LIMIT = 4 << 30  # bytes
RENAMED = {".table": ".scale_shift_table"}  # ends of tensors' names in older files, and what they are now
SHIPPED = Path(__file__).resolve().parent.parent / "data" / "checkpoints"


def _digest(header: dict, data: bytes | memoryview) -> str:
    """SHA-256 over the header, without the checksum itself, and the data."""
    meta = {k: v for k, v in header.get("__metadata__", {}).items() if k != "sha256"}
    entries = {k: v for k, v in header.items() if k != "__metadata__"}
    digest = hashlib.sha256(json.dumps([entries, meta], sort_keys=True).encode())
    digest.update(data)
    return digest.hexdigest()


def _split(raw: bytes) -> tuple[dict, memoryview]:
    """Header and data of a safetensors file's bytes."""
    (length,) = struct.unpack("<Q", raw[:8])
    return json.loads(raw[8 : 8 + length]), memoryview(raw)[8 + length :]


def write_atomically(path: Path, content: bytes) -> None:
    """Write beside the file, flush to disk, then rename: at any moment the old file or the new one is whole."""
    path = Path(path)
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise CheckpointError(f"cannot write {path}: {error.strerror}; what stood there before is untouched") from error


def save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict) -> str:
    """Save tensors with JSON metadata and a checksum, atomically; return the checksum. Raises CheckpointError."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    meta = {"format": FORMAT, **{k: json.dumps(v, sort_keys=True) for k, v in metadata.items()}}
    header, data = _split(safetensors_torch.save(tensors, meta))
    meta["sha256"] = _digest(header, data)
    write_atomically(path, safetensors_torch.save(tensors, meta))
    return meta["sha256"]


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict]:
    """Load what ``save_tensors`` wrote: the tensors and the metadata, after the checksum held.

    Raises CheckpointError where the file is missing, truncated, altered, oversized, or not of this library.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if not path.is_file() or size > FILE_LIMIT:
            raise CheckpointError(
                f"{path} is not a checkpoint: it is {'a folder' if path.is_dir() else f'{size:,} bytes long'}"
            )
        with open(path, "rb") as file:
            head = file.read(8)
            length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
            if not 2 <= length <= min(HEADER_LIMIT, size - 8):
                raise CheckpointError(
                    f"{path} is not a checkpoint: its header is missing, cut off or too long; copy or train it again"
                )
            raw = head + file.read()
    except OSError as error:
        raise CheckpointError(f"cannot read checkpoint {path}: {error.strerror}") from error
    try:
        header, data = _split(raw)
        meta = dict(header["__metadata__"])
        expected, found = meta.pop("sha256"), meta.pop("format")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is not a checkpoint of this library: it lacks the format mark and the checksum"
        ) from error
    if found != FORMAT:
        raise CheckpointError(
            f"{path} has format {found!r}, but this version reads {FORMAT!r}; use the version that wrote it"
        )
    if _digest(header, data) != expected:
        raise CheckpointError(
            f"{path} is damaged: its content does not fit its SHA-256; copy it again or restore it with git"
        )
    try:
        return rename(safetensors_torch.load(raw)), {k: json.loads(v) for k, v in meta.items()}
    except (SafetensorError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}; copy it again or restore it with git") from error


def rename(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of an older file under the names of this version."""
    for old, new in RENAMED.items():
        tensors = {name.removesuffix(old) + new if name.endswith(old) else name: x for name, x in tensors.items()}
    return tensors


def load_weights(
    module: nn.Module, tensors: dict[str, Tensor], *, prefix: str = "", source: str = "checkpoint"
) -> None:
    """Copy tensors under a prefix into a module; names, shapes and finiteness must all fit, or CheckpointError."""
    own = module.state_dict()
    given = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    missing, extra = sorted(own.keys() - given.keys()), sorted(given.keys() - own.keys())
    if missing or extra:
        raise CheckpointError(
            f"{source} is for another model: missing {missing[:3]}, unexpected {extra[:3]}; train it with this version"
        )
    for name, tensor in given.items():
        if tensor.shape != own[name].shape:
            raise CheckpointError(
                f"{source} is for another model: {name} is {tuple(tensor.shape)}, expected {tuple(own[name].shape)}"
            )
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise CheckpointError(f"{source} holds values that are not finite in {name}; use an earlier checkpoint")
    module.load_state_dict(given)


def shipped_checkpoints() -> dict[str, Path]:
    """Names and files of the checkpoints that come with the repository."""
    return {path.parent.name: path for path in sorted(SHIPPED.glob("*/model.safetensors"))}


def find_checkpoint(name_or_path: str | Path) -> Path:
    """The file of a shipped name, of a training run's folder, or of a path; CheckpointError names what there is."""
    shipped = shipped_checkpoints()
    if str(name_or_path) in shipped:
        return shipped[str(name_or_path)]
    path = Path(name_or_path)
    path = path / "model.safetensors" if path.is_dir() else path
    if not path.exists():
        known = ", ".join(shipped) or "none"
        raise CheckpointError(
            f"no checkpoint {str(name_or_path)[:200]!r}; shipped: {known}; or give a file or a run's folder"
        )
    return path


def verify(name_or_path: str | Path) -> str:
    """Check a checkpoint's checksum and return it; CheckpointError says what is wrong."""
    path = find_checkpoint(name_or_path)
    load_tensors(path)
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        return json.loads(file.read(length))["__metadata__"]["sha256"]


def config_to_json(config) -> dict:
    """A frozen dataclass of settings as plain JSON."""
    return json.loads(json.dumps(asdict(config)))


def config_from_json(kind, values: dict):
    """The dataclass again; lists become tuples. CheckpointError where names or values do not fit."""
    try:
        return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"the checkpoint's {kind.__name__} does not fit this version: {error}") from error
