"""Converting a checkpoint from any form that can be read into one of three: packed, dense, or 2:4 as
compressed-tensors has it.

Weights of a folder go through one by one, in shards of bounded size, so that a checkpoint larger than memory can be
converted.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from sparsecore.dtypes import DTYPES, dense_dtype, is_quantised
from sparsecore.errors import UnknownNameError, nearest
from sparsecore.formats import StoredWeight, pack
from sparsecore.io.checkpoint import LoadedCheckpoint, PackedEntry
from sparsecore.io.container import write_safetensors
from sparsecore.io.folder_writer import require_free, write_folder
from sparsecore.io.header import METADATA_KEY, Header, ModuleEntry
from sparsecore.io.loading import read
from sparsecore.io.names import join, type_name
from sparsecore.pattern_search import look
from sparsecore.patterns import NM

__all__ = ["Conversion", "Form", "convert"]

Form = Literal["sparsecore", "dense", "sparse-24-bitmask"]

_SHARD_BYTES = 2 * 2**30
_TWO_OF_FOUR = NM(2, 4)


@dataclass(slots=True)
class Conversion:
    """What was written.

    path: file or folder. before, after: bytes of the weights in the source and in the target.
    packed: (pattern, bytes dense, bytes packed) of each packed layer.
    """

    path: Path
    before: int = 0
    after: int = 0
    packed: dict[str, tuple[str, int, int]] = field(default_factory=dict)


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    to: Form,
    *,
    trust_pickle: bool = False,
    shard_bytes: int = _SHARD_BYTES,
) -> Conversion:
    """Write the checkpoint `source` as `target`: a folder where `source` is one, else a safetensors file.

    Parameters
    ----------
    source: whatever `sparsecore.load` reads. target: must not exist yet, or be an empty folder.
    to: "sparsecore" packs every linear layer that has a pattern and gets smaller by it; "dense" unpacks all, for any
        tool; "sparse-24-bitmask" packs the 2:4 layers as compressed-tensors does, and writes all others dense.
    trust_pickle: allow a source that runs code when it is read.
    shard_bytes: size at which a file of a folder is closed; about as much memory is used.

    Files of a folder that are no weights (tokenizer, generation settings) are copied. Whatever stops the conversion,
    nothing half-written stays.

    Raises
    ------
    UnknownNameError: no such form. InvalidValueError: the target exists, or lies inside the source.
    MissingDependencyError: a folder is to be packed and transformers, which knows its layers, is not installed.
    The errors of `sparsecore.load` about the source, OSError where the disk refuses.
    """
    if to not in get_args(Form):
        raise UnknownNameError(f"no form {to!r}", where="to", hint=nearest(to, get_args(Form)))
    origin, place = Path(source), Path(target)
    require_free(place, origin)
    checkpoint = read(origin, trust_pickle=trust_pickle)
    result = Conversion(place)
    if not origin.is_dir():
        work = _Work(checkpoint, to, None, result)
        tensors = {name: tensor for piece in work.pieces() for name, tensor in piece.items()}
        write_safetensors(place, tensors, work.metadata())
    else:
        work = _Work(checkpoint, to, _layers(checkpoint, origin) if to != "dense" else {}, result)
        write_folder(place, work.pieces(), work.config, origin, shard_bytes)
    return result


def _layers(checkpoint: LoadedCheckpoint, folder: Path) -> Mapping[str, bool]:
    """Linear layers by the name that they have in the checkpoint; True for a Conv1D."""
    from sparsecore.huggingface.skeleton import linear_layers

    return linear_layers(folder, {name.removesuffix(".weight") for name in checkpoint if name.endswith(".weight")})


def _dense_bytes(stored: StoredWeight) -> int:
    return stored.shape[0] * stored.shape[1] * dense_dtype(stored.dtype).itemsize


class _Work:
    """One conversion: yields the tensors to write and keeps account of them.

    layers: the layers that may be packed, True for a Conv1D; None: every matrix may, and lies [out, in].
    """

    def __init__(
        self, checkpoint: LoadedCheckpoint, to: Form, layers: Mapping[str, bool] | None, result: Conversion
    ) -> None:
        self._checkpoint, self._to, self._layers, self._result = checkpoint, to, layers, result
        self._modules: dict[str, ModuleEntry] = {}
        self._tensors: dict[str, dict[str, tuple[str, tuple[int, ...]]]] = {}
        self._aliases: dict[str, str] = {}

    def pieces(self) -> Iterator[dict[str, Tensor]]:
        """Tensors by name, those of one weight together; a tensor that goes by two names comes once."""
        first: dict[object, str] = {}
        plain = self._checkpoint.tensors
        for name in self._checkpoint:
            original = name if self._checkpoint.is_packed(name) else first.setdefault(plain.entry(name).place, name)
            if original != name:
                self._aliases[name] = original
                continue
            piece = self._piece(name)
            self._result.before += self._checkpoint.nbytes(name)
            self._result.after += sum(tensor.numel() * tensor.element_size() for tensor in piece.values())
            yield piece

    def metadata(self) -> dict[str, str]:
        """Metadata of a single file; a file for other tools holds every name and needs none."""
        return {METADATA_KEY: Header(self._modules, self._aliases).to_json()} if self._to == "sparsecore" else {}

    def config(self) -> dict[str, Any]:
        """config.json of a folder."""
        config = {key: value for key, value in self._checkpoint.config.items() if key != "quantization_config"}
        if self._modules and self._to == "sparsecore":
            from sparsecore.huggingface.layers import LayerEntry, described

            entries = {name: LayerEntry(module, self._tensors[name]) for name, module in self._modules.items()}
            config["quantization_config"] = described(entries)
        elif self._modules:
            config["quantization_config"] = self._compressed_tensors()
        return config

    def _piece(self, name: str) -> dict[str, Tensor]:
        module = "" if name == "weight" else name.removesuffix(".weight")
        entry = self._entry(name, module) if join(module, "weight") == name else None
        if entry is None:
            return {name: self._dense(name, module)}
        stored = entry.stored
        self._result.packed[module] = (stored.pattern.name, _dense_bytes(stored), stored.nbytes)
        self._modules[module] = ModuleEntry(
            stored.pattern.name, stored.shape, type_name(stored.dtype), bool(entry.transposed)
        )
        tensors = dict(stored.tensors)
        if self._to == "sparse-24-bitmask":
            tensors["shape"] = tensors["shape"].reshape(2, 1)  # as compressed-tensors writes it
        self._tensors[module] = {short: (type_name(t.dtype), tuple(t.shape)) for short, t in tensors.items()}
        return {join(module, short): tensor.contiguous() for short, tensor in tensors.items()}

    def _entry(self, name: str, module: str) -> PackedEntry | None:
        """The weight in the form that it is to be packed in; None where it is to be dense."""
        if self._to == "dense":
            return None
        if self._checkpoint.is_packed(name):
            entry = self._checkpoint.packed[module]
            turned = self._transposed(module, entry)
            if not self._fits(entry.form.pattern, turned):
                return None
            if self._to != "sparsecore":  # compressed-tensors has no scales there
                return PackedEntry(self._floating(entry.stored), turned)
            return PackedEntry(entry.form, turned, entry.read)
        if self._layers is not None and module not in self._layers:
            return None
        return self._packed_smaller(name, bool((self._layers or {}).get(module)))

    def _fits(self, pattern: object, transposed: bool) -> bool:
        return self._to == "sparsecore" or (pattern == _TWO_OF_FOUR and not transposed)

    def _packed_smaller(self, name: str, transposed: bool) -> PackedEntry | None:
        found = self._checkpoint.finding(name)
        if found is None:
            return None
        dense = self._checkpoint[name]
        matrix = (dense.t() if transposed else dense).contiguous()
        pattern = look(matrix).pattern if transposed else found.pattern
        if pattern is None or not self._fits(pattern, transposed):
            return None
        stored = pack(matrix, pattern)
        return PackedEntry(stored, transposed) if stored.nbytes < _dense_bytes(stored) else None

    def _transposed(self, module: str, entry: PackedEntry) -> bool:
        """Whether a packed weight stands for a Conv1D: by its file, or by the model."""
        return bool((self._layers or {}).get(module)) if entry.transposed is None else entry.transposed

    def _dense(self, name: str, module: str) -> Tensor:
        if not self._checkpoint.is_packed(name):
            return self._checkpoint[name].contiguous()
        weight = self._floating(self._checkpoint.packed[module].stored).unpack()
        turned = self._transposed(module, self._checkpoint.packed[module])
        return weight.t().contiguous() if turned else weight

    def _floating(self, stored: StoredWeight) -> StoredWeight:
        """Quantised values times their scales, in the element type that config.json gives the model, else float32."""
        if not is_quantised(stored.dtype):
            return stored
        said = self._checkpoint.config.get("dtype", self._checkpoint.config.get("torch_dtype"))
        return stored.to(dtype={type_name(kind): kind for kind in DTYPES}.get(str(said), torch.float32))

    def _compressed_tensors(self) -> dict[str, Any]:
        """What compressed-tensors 0.14 puts into config.json."""
        return {
            "quant_method": "compressed-tensors",
            "format": "dense",
            "sparsity_config": {
                "format": "sparse-24-bitmask",
                "sparsity_structure": "2:4",
                "global_sparsity": 0.5,
                "targets": ["Linear"],
                "ignore": sorted(set(self._layers or ()) - self._modules.keys()),
            },
        }
