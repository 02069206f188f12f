"""Reading checkpoints of every supported kind, alone or into a model."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar, overload

from torch import nn

from simulator.files import is_torch_file
from sparsecore.errors import CorruptFileError, FileMissingError, InvalidValueError, UnsupportedError
from sparsecore.io.checkpoint import LoadedCheckpoint
from sparsecore.io.container import read_safetensors
from sparsecore.io.folder import files_of, read_config, read_sharded
from sparsecore.io.header import METADATA_KEY, Header
from sparsecore.io.into import expected_names, load_into
from sparsecore.io.masks import fold_masks
from sparsecore.io.names import join
from sparsecore.io.stored_groups import groups_by_header, groups_by_name
from sparsecore.io.tensors import LazyTensors
from sparsecore.io.torch_files import read_torch_file
from sparsecore.nn.state_dict import STORED_NAMES

__all__ = ["load", "read"]

Model = TypeVar("Model", bound=nn.Module)
_INDEX = ".index.json"


@overload
def load(
    path: str | os.PathLike[str],
    into: None = None,
    *,
    dense: bool = False,
    pack: bool = False,
    strict: bool = True,
    trust_pickle: bool = False,
) -> LoadedCheckpoint: ...
@overload
def load(
    path: str | os.PathLike[str],
    into: Model,
    *,
    dense: bool = False,
    pack: bool = False,
    strict: bool = True,
    trust_pickle: bool = False,
) -> Model: ...
def load(
    path: str | os.PathLike[str],
    into: nn.Module | None = None,
    *,
    dense: bool = False,
    pack: bool = False,
    strict: bool = True,
    trust_pickle: bool = False,
) -> LoadedCheckpoint | nn.Module:
    """Read a checkpoint: our own files, other safetensors, Hugging Face folders, or state dicts of torch.save.

    Without `into` the result is a LoadedCheckpoint, a mapping from names to dense tensors that also shows the packed
    ones. With a model, its values are replaced and it is returned: an nn.Linear (or transformers' Conv1D) whose weight
    the file holds packed becomes a SparseLinear, unless `sc.report` would give a reason to keep it dense; a packed
    layer takes a dense `p.weight` as well, if that satisfies its pattern. Element types follow the model. Names, shapes
    and types are compared before anything changes; a dense weight that breaks a pattern is found on the way.

    Parameters
    ----------
    path: file or folder. Its kind is told by its content, not its name. Besides dense weights with zeros, the formats
        sparse-24-bitmask and sparse-bitmask of compressed-tensors and the `_orig`/`_mask` pairs of torch.nn.utils.prune
        are understood.
    into: the model to fill.
    dense: unpack instead of replacing layers; layers of `into` that are packed already stay so.
    pack: afterwards, pack what has a pattern and gains by it: `sparsify(into)`, without a model
        `LoadedCheckpoint.pack()`.
    strict: every name must be on both sides. Otherwise what is on both sides is loaded; there must be something.
    trust_pickle: allow files that run code when they are read. Only for files from someone you trust.

    Raises
    ------
    FileMissingError, CorruptFileError, FormatVersionError, PickleRefusedError, UnsupportedError: about the file.
    KeyMismatchError, ShapeError, DtypeError, PatternError: about what the file and the model have in common.
    """
    if into is None:
        if dense and pack:
            raise InvalidValueError("dense=True and pack=True exclude each other", where="load")
        checkpoint = read(path, trust_pickle=trust_pickle)
        checkpoint.verify()
        if dense:
            kind, version = checkpoint.kind, checkpoint.version
            return LoadedCheckpoint(checkpoint.source, kind, dict(checkpoint), {}, version, checkpoint.config)
        return checkpoint.pack() if pack else checkpoint
    load_into(into, read(path, trust_pickle=trust_pickle, masked=expected_names(into)), dense=dense, strict=strict)
    if pack:
        from sparsecore.sparsify import sparsify

        return sparsify(into)
    return into


def read(path: str | os.PathLike[str], *, trust_pickle: bool = False, masked: Collection[str] = ()) -> LoadedCheckpoint:
    """Open the checkpoint at `path`: names, sizes and types are checked, values when they are read.

    `masked` are names of `X_orig` tensors that are wanted as they are.
    """
    source = Path(path)
    if not source.exists():
        raise FileMissingError("no such checkpoint", where=str(source), hint="check the path")
    file = files_of(source) if source.is_dir() else source
    config = read_config(file.parent) if file.parent == source or file.name.endswith(_INDEX) else {}
    if file.name.endswith(_INDEX):
        tensors, metadata = read_sharded(file, lambda shard: _read_file(shard, trust_pickle)[0]), None
    else:
        tensors, metadata = _read_file(file, trust_pickle)
    if metadata is not None and METADATA_KEY in metadata:
        return _ours(file, tensors, metadata[METADATA_KEY], masked, config)
    packed, used = groups_by_name(tensors, str(source))
    plain = fold_masks({n: t for n, t in tensors.entries().items() if n not in used}, str(source), masked)
    kind = "state dict" if metadata is None and not file.name.endswith(_INDEX) else "safetensors"
    if packed and kind == "safetensors":
        kind = "compressed-tensors"
    return LoadedCheckpoint(str(source), kind, plain, packed, None, config)


def _ours(
    file: Path, tensors: LazyTensors, text: str, masked: Collection[str], config: Mapping[str, Any]
) -> LoadedCheckpoint:
    header = Header.from_json(text, str(file))
    entries = tensors.entries()
    for alias, name in header.aliases.items():
        if name not in tensors or alias in tensors:
            raise CorruptFileError(f"the alias {alias!r} of {name!r} does not fit the tensors", where=str(file))
        entries[alias] = entries[name]
    packed = groups_by_header(LazyTensors(entries), header, str(file))
    used = {join(module, name) for module in packed for name in STORED_NAMES}
    plain = fold_masks({n: t for n, t in entries.items() if n not in used}, str(file), masked)
    return LoadedCheckpoint(str(file), "sparsecore", plain, packed, header.version, config)


def _read_file(file: Path, trust_pickle: bool) -> tuple[LazyTensors, dict[str, str] | None]:
    """Return (tensors, metadata) of one file; metadata is None for torch files. What it is, its first bytes tell."""
    if not file.is_file():
        raise UnsupportedError("not a regular file", where=str(file), expected="a checkpoint file or folder")
    with file.open("rb") as opened:
        start = opened.read(9)
    if file.suffix == ".safetensors" or (start[8:] == b"{" and start[:2] != b"PK"):
        return read_safetensors(file)
    if not start:
        raise CorruptFileError("the file is empty", where=str(file))
    if is_torch_file(file):
        return LazyTensors.of(read_torch_file(file, trust_pickle)), None
    raise UnsupportedError(
        "not a checkpoint of a known kind",
        where=str(file),
        expected="safetensors, a Hugging Face folder, or a state dict of torch.save",
    )
