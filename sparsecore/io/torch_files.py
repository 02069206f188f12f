"""torch.save files (.pt, .pth, .bin): state dicts through the weights-only reader, and nothing else without consent."""

from __future__ import annotations

import io
import pickle
import pickletools
import struct
import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sparsecore.errors import CorruptFileError, PickleRefusedError, UnsupportedError
from sparsecore.io import semi_structured, sparse_tensors
from sparsecore.io.archive import Entry, is_script, read_archive
from sparsecore.io.checkpoint import PackedEntry
from sparsecore.io.exported import is_exported, read_exported, state_dict_inside
from sparsecore.io.file_bytes import FileBytes
from sparsecore.io.opened import Opened
from sparsecore.io.tensors import LazyTensor, LazyTensors, held

__all__ = ["read_torch_file"]

_WRAPPERS = ("state_dict", "model_state_dict", "model", "module")
_PREFIXES = ("module.", "_orig_mod.")
_LONGEST_PICKLE = 2**26


def read_torch_file(path: Path, trust_pickle: bool = False, nested: bool = False) -> Opened:
    """Return the tensors of a state dict or of an exported program, on the CPU, mapped or read when asked for.

    A state dict may sit under one of the usual keys ("state_dict", "model", ...); the prefixes that DDP and
    torch.compile put before all names are removed; entries that are no tensors (an epoch) are left out, unless they are
    dictionaries of tensors and `nested` asks for them: {"fc": {"weight": t}} is then `fc.weight`. Sparse tensors and
    semi-structured ones in the layout of CUTLASS are weights that are packed already.

    Raises
    ------
    PickleRefusedError: reading needs code from the file (a pickled module, a TorchScript archive) and `trust_pickle` is
        False.
    CorruptFileError: damaged, truncated, compressed, or a tensor that claims more memory than it has.
    UnsupportedError: no tensors, or quantised or meta tensors, or a cuSPARSELt blob.
    """
    file = FileBytes(path)
    entries = read_archive(file)
    if entries is not None and is_exported(entries):
        inside = state_dict_inside(file, entries)
        if inside is None:
            return Opened("exported program", read_exported(file, entries))
        return _sorted(_named(_load(inside, path, entries), path, nested), path, "exported program")
    if entries is not None and is_script(entries):
        if not trust_pickle:
            raise _refused(path, "the file is a TorchScript archive")
        script = torch.jit.load(str(path), map_location="cpu").state_dict()  # type: ignore[no-untyped-call]
        return _sorted(_named(script, path, nested), path, "state dict")
    try:
        found = _named(_load(path, path, entries), path, nested)
        if entries is not None:
            _check_storages(found, entries, path)
        return _sorted(found, path, "state dict")
    except PickleRefusedError:
        if not trust_pickle:
            raise
    return _sorted(_named(torch.load(path, map_location="cpu", weights_only=False), path, nested), path, "state dict")


def _load(source: Path | io.BytesIO, path: Path, entries: Mapping[str, Entry] | None) -> Any:
    """Run the weights-only reader; semi-structured tensors, which it does not know, become stand-ins."""
    try:
        return _weights_only(source, path, entries)
    except PickleRefusedError as refusal:
        if "SparseSemiStructuredTensor" not in refusal.what:
            raise
    if isinstance(source, io.BytesIO):
        source.seek(0)
    with torch.serialization.safe_globals(semi_structured.STAND_INS):  # type: ignore[arg-type]
        return _weights_only(source, path, entries)


def _weights_only(source: Path | io.BytesIO, path: Path, entries: Mapping[str, Entry] | None) -> Any:
    mapped = entries is not None and source is path
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected pickle protocol")  # the error says it in our words
            warnings.filterwarnings("ignore", "Sparse .* tensor support is in beta state")
            return torch.load(source, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        if source is not path or _is_pickle(path, entries):
            raise _refused(path, _reason(error)) from error
        raise _corrupt(path, "not a file of torch.save") from error
    # The reader meets damaged bytes with whatever its steps raise; all of it means the same here.
    except (
        RuntimeError,
        EOFError,
        ValueError,
        TypeError,
        AttributeError,
        LookupError,
        AssertionError,
        MemoryError,
        OverflowError,
        ImportError,
        struct.error,
    ) as error:
        raise _corrupt(path, str(error).partition("\n")[0] or type(error).__name__) from error


def _check_storages(found: Mapping[str, Tensor], entries: Mapping[str, Entry], path: Path) -> None:
    """Check each storage against the lengths in the archive: the mapped reader takes the pickle's word for it."""
    lengths = Counter(entry.size for name, entry in entries.items() if name.partition("/")[2].startswith("data/"))
    strided = [part for tensor in found.values() for part in _parts(tensor)]
    storages = {part.untyped_storage().data_ptr(): part.untyped_storage().nbytes() for part in strided}
    if Counter(storages.values()) - lengths:
        raise _corrupt(path, "its tensors are longer than the data in the archive")


def _parts(tensor: Tensor) -> tuple[Tensor, ...]:
    """The strided tensors on the CPU that `tensor` is or consists of; none for kinds that `_sorted` refuses."""
    if isinstance(tensor, semi_structured.Cutlass | semi_structured.Cusparselt):
        return semi_structured.parts(tensor)
    if tensor.layout in sparse_tensors.SPARSE:
        return sparse_tensors.parts(tensor)
    return () if tensor.is_meta or tensor.layout != torch.strided else (tensor,)


def _is_pickle(path: Path, entries: Mapping[str, Entry] | None) -> bool:
    """Tell whether the opcodes of the pickle can be walked to the end; no opcode is executed."""
    file = FileBytes(path)
    place = next((entry for name, entry in (entries or {}).items() if name.endswith("/data.pkl")), None)
    if entries is not None and place is None:
        return False
    start, length = (0, file.size) if place is None else (place.offset, place.size)
    data = file.read(start, min(length, _LONGEST_PICKLE)).numpy().tobytes()
    try:
        for _ in pickletools.genops(io.BytesIO(data)):
            pass
    except (ValueError, IndexError, OverflowError, MemoryError):
        return False
    return True


def _named(loaded: Any, path: Path, nested: bool) -> dict[str, Tensor]:
    """The tensors of a state dict, wherever it sits, by their names without wrappers' prefixes."""
    if isinstance(loaded, nn.Module):
        loaded = loaded.state_dict()
    for key in _WRAPPERS:
        inner = loaded.get(key) if isinstance(loaded, Mapping) else None
        if isinstance(inner, nn.Module):
            inner = inner.state_dict()
        if isinstance(inner, Mapping) and not any(isinstance(value, Tensor) for value in loaded.values()):
            loaded = inner
    if not isinstance(loaded, Mapping):
        raise UnsupportedError(f"the file holds a {type(loaded).__name__}", where=str(path), expected="a state dict")
    flat = dict(loaded)
    for outer, inner in loaded.items() if nested else ():
        if isinstance(inner, Mapping):
            flat.update({f"{outer}.{name}": value for name, value in inner.items()})
    found = {name: value for name, value in flat.items() if isinstance(value, Tensor)}
    if not found:
        raise UnsupportedError("the file holds no tensors", where=str(path), expected="a state dict: names to tensors")
    if odd := [name for name in found if not isinstance(name, str)]:
        raise _corrupt(path, f"the key {odd[0]!r} is not a name")
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in found):
            found = {name.removeprefix(prefix): tensor for name, tensor in found.items()}
    return found


def _sorted(found: Mapping[str, Tensor], path: Path, kind: str) -> Opened:
    """Tell packed weights from ordinary tensors, checking both."""
    tensors: dict[str, LazyTensor] = {}
    packed: dict[str, PackedEntry] = {}
    for name, value in found.items():
        read = _read_one(value, f"{path}: {name}")
        if isinstance(read, PackedEntry) and f".{name}".endswith(".weight"):
            packed[name.removesuffix("weight").removesuffix(".")] = read
        else:
            tensors[name] = held(read.dense()) if isinstance(read, PackedEntry) else read
    return Opened(kind, LazyTensors(tensors), packed)


def _read_one(value: Tensor, where: str) -> LazyTensor | PackedEntry:
    """Return what `value` is; one whose memory does not back its shape is refused."""
    if any(part.numel() * part.element_size() > part.untyped_storage().nbytes() for part in _parts(value)):
        raise CorruptFileError(f"a tensor of shape {list(value.shape)} is backed by less memory", where=where)
    if isinstance(value, semi_structured.Cutlass | semi_structured.Cusparselt):
        return semi_structured.read_semi_structured(value, where)
    tensor = value.detach()
    if tensor.layout in sparse_tensors.SPARSE:
        return sparse_tensors.read_sparse(tensor, where)
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta or type(tensor) is not Tensor:
        raise UnsupportedError(
            f"a tensor of another kind: {type(value).__name__}, {tensor.layout}, {tensor.dtype}",
            where=where,
            expected="dense or sparse tensors",
            hint="call .to_dense() or .dequantize() on it before saving the state dict",
        )
    return held(_aligned(tensor))


def _aligned(tensor: Tensor) -> Tensor:
    """Return `tensor`, or a copy where its elements do not lie at multiples of their size, as kernels ask for."""
    return tensor.clone() if tensor.data_ptr() % max(tensor.element_size(), 1) else tensor


def _reason(error: pickle.UnpicklingError) -> str:
    lines = str(error).splitlines()
    found = next((line for line in lines if "GLOBAL" in line or "Unsupported" in line), "")
    _, _, tail = found.partition("WeightsUnpickler error: ")
    # What follows is torch's advice to allow the function, which is not ours.
    return (tail or found or "it holds more than tensors").partition(" by default. Please")[0].strip()


def _refused(path: Path, reason: str) -> PickleRefusedError:
    return PickleRefusedError(
        f"reading this file would run code from it: {reason}",
        where=str(path),
        expected="a state dict of tensors, or safetensors",
        hint="save model.state_dict() instead; trust_pickle=True (--trust-pickle) only for a file that you trust",
    )


def _corrupt(path: Path, problem: str) -> CorruptFileError:
    return CorruptFileError(
        f"not a readable torch file: {problem}", where=str(path), hint="copy or download the file again"
    )
