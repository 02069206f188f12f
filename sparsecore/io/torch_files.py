"""torch.save files (.pt, .pth, .bin): state dicts through the weights-only reader, and nothing else without consent."""

from __future__ import annotations

import io
import pickle
import pickletools
import struct
import warnings
import zipfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sparsecore.errors import CorruptFileError, PickleRefusedError, UnsupportedError

__all__ = ["read_torch_file"]

_WRAPPERS = ("state_dict", "model_state_dict", "model", "module")
_PREFIXES = ("module.", "_orig_mod.")
_LONGEST_PICKLE = 2**26


def read_torch_file(path: Path, trust_pickle: bool = False) -> dict[str, Tensor]:
    """Return the tensors of a state dict, on the CPU, mapped where the file allows it.

    A state dict may sit under one of the usual keys ("state_dict", "model", ...); the prefixes that DDP and
    torch.compile put before all names are removed; entries that are no tensors (an epoch) are left out.

    Raises
    ------
    PickleRefusedError: reading needs code from the file (a pickled module, a TorchScript or torch.export archive) and
        `trust_pickle` is False.
    CorruptFileError: damaged, truncated, compressed, or a tensor that claims more memory than it has.
    UnsupportedError: no tensors, or sparse, quantised or meta tensors.
    """
    entries = _archive_entries(path)
    if entries is not None:
        if kind := _program_kind([entry.filename for entry in entries], path):
            if not trust_pickle:
                raise _refused(path, f"the file is a {kind}")
            return _tensors(_load_program(path, kind), path)
        _check_stored(entries, path)
    try:
        tensors = _tensors(_load(path, entries is not None), path)
        if entries is not None:
            _check_storages(tensors, entries, path)
        return {name: _aligned(tensor) for name, tensor in tensors.items()}
    except PickleRefusedError:
        if not trust_pickle:
            raise
    return _tensors(torch.load(path, map_location="cpu", weights_only=False), path)


def _load(path: Path, mapped: bool) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected pickle protocol")  # the error says it in our words
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        if _is_pickle(path, mapped):
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


def _archive_entries(path: Path) -> list[zipfile.ZipInfo] | None:
    """Entries of a zip archive, or None for another file."""
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return None
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, UnicodeDecodeError) as error:
        raise _corrupt(path, f"a damaged archive ({error})") from error


def _check_stored(entries: list[zipfile.ZipInfo], path: Path) -> None:
    """Refuse compressed entries: torch.save never writes them.

    Its mapped reader would hand out the compressed bytes as values, the other one would expand them without limit.
    """
    if any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 for entry in entries):
        raise _corrupt(path, "an archive with compressed or encrypted entries, which torch.save never writes")


def _check_storages(tensors: Mapping[str, Tensor], entries: list[zipfile.ZipInfo], path: Path) -> None:
    """Check each storage against the lengths in the archive: the mapped reader takes the pickle's word for it."""
    lengths = Counter(entry.file_size for entry in entries if entry.filename.partition("/")[2].startswith("data/"))
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors.values()}
    if Counter(storages.values()) - lengths:
        raise _corrupt(path, "its tensors are longer than the data in the archive")


def _program_kind(names: list[str], path: Path) -> str:
    inner = {name.partition("/")[2] for name in names}
    if path.suffix == ".pt2" or "archive_format" in inner or "models/model.json" in inner:
        return "torch.export archive"
    if "serialized_exported_program.json" in names:
        return "torch.export archive"
    return "TorchScript archive" if "constants.pkl" in inner else ""


def _load_program(path: Path, kind: str) -> Any:
    if kind == "TorchScript archive":
        return torch.jit.load(str(path), map_location="cpu").state_dict()  # type: ignore[no-untyped-call]
    return torch.export.load(path).state_dict


def _is_pickle(path: Path, archive: bool) -> bool:
    """Tell whether the opcodes of the pickle can be walked to the end; no opcode is executed."""
    try:
        if archive:
            with zipfile.ZipFile(path) as zipped:
                name = next(name for name in zipped.namelist() if name.endswith("/data.pkl"))
                data = zipped.read(name)
        else:
            with path.open("rb") as file:
                data = file.read(_LONGEST_PICKLE)
        for _ in pickletools.genops(io.BytesIO(data)):
            pass
    except (ValueError, StopIteration, zipfile.BadZipFile, IndexError, OverflowError, MemoryError):
        return False
    return True


def _tensors(loaded: Any, path: Path) -> dict[str, Tensor]:
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
    found = {name: _plain(name, value, path) for name, value in loaded.items() if isinstance(value, Tensor)}
    if not found:
        raise UnsupportedError("the file holds no tensors", where=str(path), expected="a state dict: names to tensors")
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in found):
            found = {name.removeprefix(prefix): tensor for name, tensor in found.items()}
    return found


def _plain(name: object, value: Tensor, path: Path) -> Tensor:
    """Return `value` as an ordinary tensor; one whose memory does not back its shape is refused."""
    where = f"{path}: {name}"
    tensor = value.detach()
    if not isinstance(name, str):
        raise _corrupt(path, f"the key {name!r} is not a name")
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta or type(tensor) is not Tensor:
        raise UnsupportedError(
            f"a tensor of another kind: {type(value).__name__}, {tensor.layout}, {tensor.dtype}",
            where=where,
            expected="dense tensors",
            hint="call .to_dense() or .dequantize() on it before saving the state dict",
        )
    held = tensor.untyped_storage().nbytes()
    if tensor.numel() * tensor.element_size() > held:
        raise CorruptFileError(f"a tensor of shape {list(tensor.shape)} is backed by {held} bytes", where=where)
    return tensor


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
