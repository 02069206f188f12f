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
from sparsecore.io.folder import files_of, read_config, read_sharded, transposed_by_config
from sparsecore.io.header import METADATA_KEY, Header
from sparsecore.io.into import expected_names, load_into
from sparsecore.io.masks import apply_masks, fold_masks
from sparsecore.io.names import join
from sparsecore.io.opened import Opened
from sparsecore.io.resizing import resize_layers
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
    resize: bool = False,
    masks: str | os.PathLike[str] | None = None,
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
    resize: bool = False,
    masks: str | os.PathLike[str] | None = None,
    trust_pickle: bool = False,
) -> Model: ...
def load(
    path: str | os.PathLike[str],
    into: nn.Module | None = None,
    *,
    dense: bool = False,
    pack: bool = False,
    strict: bool = True,
    resize: bool = False,
    masks: str | os.PathLike[str] | None = None,
    trust_pickle: bool = False,
) -> LoadedCheckpoint | nn.Module:
    """Read a checkpoint: our own files, other safetensors, Hugging Face folders, or state dicts of torch.save.

    Without `into` the result is a LoadedCheckpoint, a mapping from names to dense tensors that also shows the packed
    ones. With a model, its values are replaced and it is returned: an nn.Linear (or transformers' Conv1D) whose weight
    the file holds packed becomes a SparseLinear, unless `sc.report` would give a reason to keep it dense; a packed
    layer takes a dense `p.weight` as well, if that satisfies its pattern. Element types follow the model. Names, shapes
    and types are compared before anything changes; a dense weight that breaks a pattern is found on the way. Layers on
    the meta device get memory as they are filled; the file is read tensor by tensor.

    Parameters
    ----------
    path: file or folder. Its kind is told by its content, not its name. Besides dense weights with zeros it may hold
        the formats sparse-24-bitmask and sparse-bitmask of compressed-tensors, the `_orig`/`_mask` pairs of
        torch.nn.utils.prune, the masks of NNCF, sparse tensors of torch (CSR, BSR, ...) and semi-structured ones in the
        layout of CUTLASS; or it is an exported program (.pt2). docs/formats.md has the table.
    into: the model to fill.
    dense: unpack instead of replacing layers; layers of `into` that are packed already stay so.
    pack: afterwards, pack what has a pattern and gains by it: `sparsify(into)`, without a model
        `LoadedCheckpoint.pack()`.
    strict: every name must be on both sides. Otherwise what is on both sides is loaded; there must be something.
    resize: give layers of `into` the sizes that they have in the file: for structurally pruned models, whose config no
        longer says their shapes. Heads of Hugging Face models follow; names are not compared before.
    masks: a file of masks, 1 where a weight is kept and 0 elsewhere, named as the weights are (or `fc.weight_mask`, or
        by layer: `{"fc": {"weight": mask}}`, as NNI saves them).
    trust_pickle: allow files that run code when they are read. Only for files from someone you trust.

    Raises
    ------
    FileMissingError, CorruptFileError, FormatVersionError, PickleRefusedError, UnsupportedError: about the file.
    KeyMismatchError, ShapeError, DtypeError, PatternError: about what the file and the model have in common.
    """
    if into is None:
        if dense and pack:
            raise InvalidValueError("dense=True and pack=True exclude each other", where="load")
        checkpoint = read(path, trust_pickle=trust_pickle, masks=masks)
        checkpoint.verify()
        if dense:
            kind, version = checkpoint.kind, checkpoint.version
            return LoadedCheckpoint(checkpoint.source, kind, dict(checkpoint), {}, version, checkpoint.config)
        return checkpoint.pack() if pack else checkpoint
    if not isinstance(into, nn.Module):
        raise InvalidValueError(f"into is no model: {into!r}", where="load", expected="an nn.Module")
    checkpoint = read(path, trust_pickle=trust_pickle, masked=expected_names(into), masks=masks)
    if resize:
        resize_layers(into, checkpoint)
    load_into(into, checkpoint, dense=dense, strict=strict)
    if pack:
        from sparsecore.sparsify import sparsify

        return sparsify(into)
    return into


def read(
    path: str | os.PathLike[str],
    *,
    trust_pickle: bool = False,
    masked: Collection[str] = (),
    masks: str | os.PathLike[str] | None = None,
) -> LoadedCheckpoint:
    """Open the checkpoint at `path`: names, sizes and types are checked, values when they are read.

    `masked` are names of `X_orig` tensors that are wanted as they are; `masks` is a file of masks to apply.
    """
    checkpoint = _read(path, trust_pickle, masked)
    if masks is None:
        return checkpoint
    if not Path(masks).exists():
        raise FileMissingError("no such file of masks", where=str(masks), hint="check the path")
    tensors = apply_masks(checkpoint.tensors, _read_file(Path(masks), False, nested=True).tensors, str(masks))
    kind, version = checkpoint.kind, checkpoint.version
    return LoadedCheckpoint(checkpoint.source, kind, tensors, checkpoint.packed, version, checkpoint.config)


def _read(path: str | os.PathLike[str], trust_pickle: bool, masked: Collection[str]) -> LoadedCheckpoint:
    source = Path(path)
    if not source.exists():
        raise FileMissingError("no such checkpoint", where=str(source), hint="check the path")
    file = files_of(source) if source.is_dir() else source
    config = read_config(file.parent) if file.parent == source or file.name.endswith(_INDEX) else {}
    found = _read_file(file, trust_pickle)
    if METADATA_KEY in found.metadata:
        return _ours(file, found, masked, config)
    packed, used = groups_by_name(found.tensors, str(source), transposed_by_config(config))
    plain = fold_masks({n: t for n, t in found.tensors.entries().items() if n not in used}, str(source), masked)
    kind = "compressed-tensors" if packed and found.kind == "safetensors" else found.kind
    return LoadedCheckpoint(str(source), kind, plain, {**found.packed, **packed}, None, config)


def _ours(file: Path, found: Opened, masked: Collection[str], config: Mapping[str, Any]) -> LoadedCheckpoint:
    header = Header.from_json(found.metadata[METADATA_KEY], str(file))
    entries = found.tensors.entries()
    for alias, name in header.aliases.items():
        if name not in found.tensors or alias in found.tensors:
            raise CorruptFileError(f"the alias {alias!r} of {name!r} does not fit the tensors", where=str(file))
        entries[alias] = entries[name]
    packed = groups_by_header(LazyTensors(entries), header, str(file))
    used = {join(module, name) for module in packed for name in STORED_NAMES}
    plain = fold_masks({n: t for n, t in entries.items() if n not in used}, str(file), masked)
    return LoadedCheckpoint(str(file), "sparsecore", plain, packed, header.version, config)


def _read_file(file: Path, trust_pickle: bool, nested: bool = False) -> Opened:
    """Open one file, or the shards of an index. What it is, its first bytes tell."""
    if not file.is_file():
        raise UnsupportedError("not a regular file", where=str(file), expected="a checkpoint file or folder")
    if file.name.endswith(_INDEX):
        return read_sharded(file, lambda shard: _read_file(shard, trust_pickle))
    with file.open("rb") as opened:
        start = opened.read(9)
    if file.suffix == ".safetensors" or (start[8:] == b"{" and start[:2] != b"PK"):
        return read_safetensors(file)
    if not start:
        raise CorruptFileError("the file is empty", where=str(file))
    if is_torch_file(file):
        return read_torch_file(file, trust_pickle, nested)
    raise UnsupportedError(
        "not a checkpoint of a known kind",
        where=str(file),
        expected="safetensors, a Hugging Face folder, an exported program, or a state dict of torch.save",
    )
