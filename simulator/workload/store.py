"""The workload file: versioned JSON, with the arrays in a safetensors file beside it (docs/workload.md).

A set of kept positions is written as a bitmap over the context: uint8, the lowest bit of a byte first. Version 1.0 had
lists of positions (int32); they are still read. Decisions came with version 1.2: their counts are arrays
"decision.<number>.<name>", int32 [heads, queries].
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors import numpy as safetensors_numpy

from simulator.codec import decode, encode
from simulator.errors import CorruptFileError, FileMissingError
from simulator.files import check_version, read_bytes, read_json, write_atomic
from simulator.workload.decisions import Decision
from simulator.workload.ir import AttentionOp, IntArray, LinearOp, ModelInfo, OtherOp, Sequence, Workload
from simulator.workload.tensors import TensorsFile, require_beside

__all__ = ["FORMAT", "VERSION", "digest", "load", "save"]

FORMAT = "sparsecore-workload"
VERSION = "1.2"

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
# The fields of a decision that the JSON holds; the others are arrays.
_DECISION = {
    name: hint
    for name, hint in get_type_hints(Decision).items()
    if name not in ("candidates", "values", "extra", "mask")
}


def save(workload: Workload, path: str | os.PathLike[str]) -> None:
    """Write `workload`; the name of the arrays file holds its digest, so that the old pair stays whole to the end."""
    target, document = Path(path), _document(workload)
    if workload.tensors is not None:
        require_beside(workload.tensors, target)
        document["tensors"] = {"file": workload.tensors.path.name, "sha256": workload.tensors.sha256}
    keep = None
    if arrays := _packed(workload):
        raw = safetensors_numpy.save(arrays)
        digest = hashlib.sha256(raw).hexdigest()
        keep = f"{target.stem}.{digest[:12]}.safetensors"
        document["arrays"] = {"file": keep, "sha256": digest}
        write_atomic(target.with_name(keep), raw)
    keeps = {keep, workload.tensors.path.name if workload.tensors is not None else None}
    previous = _beside(target)
    write_atomic(target, _dump(document))
    for old in previous:
        if old.name not in keeps:
            old.unlink(missing_ok=True)


def digest(workload: Workload) -> str:
    """Return a hash of what is computed and decided; where the workload came from does not matter."""
    document = {name: value for name, value in _document(workload).items() if name not in ("source", "notes")}
    found = hashlib.sha256(_dump(document).encode())
    if arrays := _packed(workload):
        found.update(safetensors_numpy.save(arrays))
    if workload.tensors is not None:
        found.update(workload.tensors.sha256.encode())
    return found.hexdigest()


def _document(workload: Workload) -> dict[str, Any]:
    """Return everything but the arrays."""
    document: dict[str, Any] = {"format": FORMAT, "version": VERSION}
    document |= {name: encode(getattr(workload, name)) for name in _PARTS}
    if workload.decisions:
        document["decisions"] = [
            {name: encode(getattr(made, name)) for name in _DECISION} for made in workload.decisions
        ]
    return document


def _packed(workload: Workload) -> dict[str, Any]:
    """Return the arrays by name, sets of kept positions as bitmaps, with those of the decisions."""
    lengths: dict[str, int] = {}
    for op in workload.attention:
        if op.key_ids is not None:
            lengths[op.key_ids] = max(op.context, lengths.get(op.key_ids, 0))
    packed: dict[str, Any] = {}
    for name, array in sorted(workload.arrays.items()):
        packed[name] = _bitmap(array, lengths[name]) if name in lengths else array
    for number, made in enumerate(workload.decisions):
        for name, array in made.arrays().items():
            packed[f"decision.{number}.{name}"] = np.ascontiguousarray(array)
    return packed


def _bitmap(positions: IntArray, length: int) -> npt.NDArray[np.uint8]:
    kept = np.zeros(length, bool)
    kept[positions] = True
    return np.packbits(kept, bitorder="little")


def _beside(path: Path) -> list[Path]:
    """Return the files with arrays and tensors of the workload that `path` held so far, if it is one."""
    found = []
    for part in ("arrays", "tensors"):
        try:
            name = read_json(path).get(part, {}).get("file")
        except (FileMissingError, CorruptFileError, AttributeError):
            continue
        plain = isinstance(name, str) and Path(name).name == name and name.startswith(path.stem + ".")
        if plain and name.endswith(".safetensors"):
            found.append(path.with_name(name))
    return found


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
    found = _load_arrays(document.get("arrays"), Path(path), hashed=document["version"] != "1.0")
    theirs = {name: found.pop(name) for name in list(found) if name.startswith("decision.")}
    arrays = {name: _positions(array, f"{where}: {name}") for name, array in found.items()}
    try:
        decisions = _decisions(document.get("decisions", []), theirs, where, newer)
        return Workload(**parts, arrays=arrays, decisions=decisions, tensors=_tensors(document.get("tensors"), path))
    except ValueError as error:
        raise CorruptFileError(getattr(error, "what", str(error)), where=where) from error


def _decode_part(hint: Any, data: object, where: str, newer: bool) -> Any:
    return decode(hint, data, where, ignore_unknown=newer)


def _tensors(entry: object, path: str | os.PathLike[str]) -> TensorsFile | None:
    """Return where the tensors are; they are read and checked when they are needed."""
    if entry is None:
        return None
    name, digest = (entry.get(key) if isinstance(entry, dict) else None for key in ("file", "sha256"))
    if not isinstance(name, str) or not isinstance(digest, str) or Path(name).name != name:
        raise CorruptFileError("the reference to the tensors is damaged", where=str(path), expected="file and sha256")
    return TensorsFile(Path(path).with_name(name), digest)


def _decisions(entries: object, arrays: dict[str, Any], where: str, newer: bool) -> tuple[Decision, ...]:
    """Return the decisions with their arrays; both sides must name the same ones."""
    if not isinstance(entries, list):
        raise CorruptFileError("the decisions are not an array", where=f"{where}: decisions")
    made = []
    for number, entry in enumerate(entries):
        place, start = f"{where}: decisions[{number}]", f"decision.{number}."
        if not isinstance(entry, dict):
            raise CorruptFileError("a decision is not an object", where=place)
        if not newer and (unknown := entry.keys() - _DECISION.keys()):
            raise CorruptFileError(
                f"unknown key {min(unknown)!r}", where=place, expected="one of " + ", ".join(_DECISION)
            )
        own = {name.removeprefix(start): arrays.pop(name) for name in list(arrays) if name.startswith(start)}
        if missing := {"candidates", "values"} - own.keys():
            raise CorruptFileError(f"the array {start}{min(missing)} is missing", where=place)
        known = entry.keys() & _DECISION.keys()
        fields = {name: decode(_DECISION[name], entry[name], f"{place}.{name}") for name in known}
        fields |= {name: own.pop(name) for name in ("candidates", "values", "mask") if name in own}
        try:
            made.append(Decision(**fields, extra=own))
        except (TypeError, ValueError) as error:
            raise CorruptFileError(getattr(error, "what", str(error)), where=place) from error
    if arrays:
        raise CorruptFileError(f"the array {min(arrays)!r} belongs to no decision", where=where)
    return tuple(made)


def _load_arrays(entry: object, path: Path, hashed: bool) -> dict[str, Any]:
    """Read the arrays; a file whose version is older than the hash of the arrays may lack it (`hashed` False)."""
    if entry is None:
        return {}
    name = entry.get("file") if isinstance(entry, dict) else None
    digest = entry.get("sha256") if isinstance(entry, dict) else None
    known = isinstance(digest, str) or (digest is None and not hashed)
    if not isinstance(name, str) or not known or Path(name).name != name:
        raise CorruptFileError("the reference to the arrays is damaged", where=str(path), expected="file and sha256")
    beside = path.with_name(name)
    raw = read_bytes(beside)
    if digest is not None and hashlib.sha256(raw).hexdigest() != digest:
        raise CorruptFileError(
            "the arrays do not belong to this workload",
            where=str(beside),
            expected=f"sha256 {digest}",
            hint="copy the workload and its arrays together, or capture it again",
        )
    try:
        arrays = safetensors_numpy.load(raw)
    except (SafetensorError, struct.error) as error:
        raise CorruptFileError(f"the arrays cannot be read: {error}", where=str(beside)) from error
    return dict(arrays)


def _positions(array: npt.NDArray[Any], where: str) -> IntArray:
    """Return the positions in a bitmap, or the array itself where it lists them."""
    if array.dtype == np.uint8 and array.ndim == 1:
        return np.flatnonzero(np.unpackbits(array, bitorder="little")).astype(np.int32)
    if array.dtype != np.int32:
        raise CorruptFileError(
            f"an array of {array.dtype}", where=where, expected="a bitmap (uint8) or positions (int32)"
        )
    return array
