"""The workload file: versioned JSON, with the arrays in a safetensors file beside it (docs/workload.md)."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors import numpy as safetensors_numpy

from simulator.codec import decode, encode
from simulator.errors import CorruptFileError, FileMissingError
from simulator.files import check_version, read_bytes, read_json, write_atomic
from simulator.workload.ir import AttentionOp, IntArray, LinearOp, ModelInfo, OtherOp, Sequence, Workload

__all__ = ["FORMAT", "VERSION", "load", "save"]

FORMAT = "sparsecore-workload"
VERSION = "1.0"

_PARTS: dict[str, Any] = {
    "name": str,
    "model": ModelInfo,
    "sequences": tuple[Sequence, ...],
    "attention": tuple[AttentionOp, ...],
    "linear": tuple[LinearOp, ...],
    "other": tuple[OtherOp, ...],
    "schedule": str,
    "source": str,
    "notes": tuple[str, ...],
}


def save(workload: Workload, path: str | os.PathLike[str]) -> None:
    """Write `workload`; the name of the arrays file holds its digest, so that the old pair stays whole to the end."""
    target = Path(path)
    document: dict[str, Any] = {"format": FORMAT, "version": VERSION}
    document |= {name: encode(getattr(workload, name)) for name in _PARTS}
    keep = None
    if workload.arrays:
        raw = safetensors_numpy.save(dict(sorted(workload.arrays.items())))
        digest = hashlib.sha256(raw).hexdigest()
        keep = f"{target.stem}.{digest[:12]}.safetensors"
        document["arrays"] = {"file": keep, "sha256": digest}
        write_atomic(target.with_name(keep), raw)
    previous = _arrays_file(target)
    write_atomic(target, _dump(document))
    if previous is not None and previous.name != keep:
        previous.unlink(missing_ok=True)


def _arrays_file(path: Path) -> Path | None:
    """Return the arrays file of the workload that `path` held so far, if it is one."""
    try:
        name = read_json(path).get("arrays", {}).get("file")
    except (FileMissingError, CorruptFileError, AttributeError):
        return None
    plain = isinstance(name, str) and Path(name).name == name and name.startswith(path.stem + ".")
    return path.with_name(name) if plain and name.endswith(".safetensors") else None


def _dump(document: dict[str, Any]) -> str:
    """One op a line: a diff of two workloads then shows the ops that differ."""
    lines = []
    for key, value in document.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            rows = ",\n  ".join(json.dumps(row) for row in value)
            lines.append(f"{json.dumps(key)}: [\n  {rows}\n ]")
        else:
            lines.append(f"{json.dumps(key)}: {json.dumps(value)}")
    return "{\n " + ",\n ".join(lines) + "\n}\n"


def load(path: str | os.PathLike[str]) -> Workload:
    """Read a workload file; see `Workload.load` for the errors."""
    where = str(path)
    document = read_json(path)
    if document.get("format") != FORMAT:
        raise CorruptFileError(
            "the file is not a saved workload",
            where=where,
            expected=f'"format": "{FORMAT}"',
            hint="simulate show prints a saved result" if document.get("format") == "sparsecore-result" else "",
        )
    newer = check_version(document.get("version"), VERSION, where)
    if missing := _PARTS.keys() - document.keys():
        raise CorruptFileError(f"the key {min(missing)!r} is missing", where=where, hint="the file may be truncated")
    parts: dict[str, Any] = {
        name: _decode_part(hint, document[name], f"{where}: {name}", newer) for name, hint in _PARTS.items()
    }
    arrays = _load_arrays(document.get("arrays"), Path(path))
    try:
        return Workload(**parts, arrays=arrays)
    except ValueError as error:
        raise CorruptFileError(getattr(error, "what", str(error)), where=where) from error


def _decode_part(hint: Any, data: object, where: str, newer: bool) -> Any:
    return decode(hint, data, where, ignore_unknown=newer)


def _load_arrays(entry: object, path: Path) -> dict[str, IntArray]:
    if entry is None:
        return {}
    name = entry.get("file") if isinstance(entry, dict) else None
    digest = entry.get("sha256") if isinstance(entry, dict) else None
    if not isinstance(name, str) or not isinstance(digest, str) or Path(name).name != name:
        raise CorruptFileError("the reference to the arrays is damaged", where=str(path), expected="file and sha256")
    beside = path.with_name(name)
    raw = read_bytes(beside)
    if hashlib.sha256(raw).hexdigest() != digest:
        raise CorruptFileError(
            "the arrays do not belong to this workload", where=str(beside), expected=f"sha256 {digest}"
        )
    try:
        arrays = safetensors_numpy.load(raw)
    except (SafetensorError, struct.error) as error:
        raise CorruptFileError(f"the arrays cannot be read: {error}", where=str(beside)) from error
    if wrong := [key for key, value in arrays.items() if value.dtype != np.int32]:
        raise CorruptFileError(f"the array {wrong[0]!r} is not int32", where=str(beside))
    return arrays
