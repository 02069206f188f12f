"""What `load` returns without a model: the weights of a checkpoint by name, packed ones unpacked when asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from sparsecore.dtypes import DTYPES, dense_dtype
from sparsecore.errors import CorruptFileError
from sparsecore.formats import StoredWeight, pack
from sparsecore.io.names import join
from sparsecore.io.tensors import LazyTensor, LazyTensors
from sparsecore.pattern_search import Finding, look, look_both_ways
from sparsecore.patterns import Pattern

__all__ = ["LoadedCheckpoint", "PackedEntry"]


@dataclass(frozen=True)
class PackedEntry:
    """A packed weight of a checkpoint.

    form: its pattern, shape [out_features, in_features] and sizes; on the meta device where the values stay in the
    file.
    transposed: the module's dense weight is [in_features, out_features]; None where the file does not say.
    read: gives the weight with its values; None where `form` has them.
    """

    form: StoredWeight
    transposed: bool | None = None
    read: Callable[[], StoredWeight] | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        return f"PackedEntry({self.form.pattern.name}, {list(self.form.shape)}, transposed={self.transposed})"

    @property
    def stored(self) -> StoredWeight:
        """The weight; read from its file at each access and checked in full. Raises the errors of the file."""
        return self.form if self.read is None else self.read()

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of `dense()`."""
        rows, cols = self.form.shape
        return (cols, rows) if self.transposed else (rows, cols)

    def dense(self) -> Tensor:
        """The dense weight in the module's own orientation."""
        weight = self.stored.unpack()
        return weight.t().contiguous() if self.transposed else weight


class LoadedCheckpoint(Mapping[str, Tensor]):
    """A checkpoint as a read-only mapping from names to dense tensors, as a state dict has them.

    Tensors are read from the file, and packed weights (module `p` appears as `p.weight`) unpacked, at each access; the
    checkpoint itself holds none of a safetensors file. `model.load_state_dict(dict(checkpoint))` fills a model without
    packed layers.

    Attributes
    ----------
    source: the file or folder read.
    kind: "sparsecore", "compressed-tensors", "safetensors", "exported program" or "state dict".
    version: format version of our own files, else None.
    tensors: everything that is not a packed weight.
    packed: packed weights by module name.
    config: config.json of a Hugging Face folder, else empty.
    """

    def __init__(
        self,
        source: str,
        kind: str,
        tensors: Mapping[str, Tensor],
        packed: Mapping[str, PackedEntry],
        version: str | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self.source = source
        self.kind = kind
        self.version = version
        self.tensors = LazyTensors.of(tensors)
        self.packed: Mapping[str, PackedEntry] = MappingProxyType(dict(packed))
        self.config: Mapping[str, Any] = MappingProxyType(dict(config or {}))
        self._by_weight = {join(module, "weight"): entry for module, entry in packed.items()}
        if twice := self._by_weight.keys() & self.tensors.keys():
            raise CorruptFileError("a weight is there packed and dense", where=f"{source}: {min(twice)}")

    def __getitem__(self, name: str) -> Tensor:
        entry = self._by_weight.get(name)
        return self.tensors[name] if entry is None else entry.dense()

    def __iter__(self) -> Iterator[str]:
        yield from self.tensors
        yield from self._by_weight

    def __len__(self) -> int:
        return len(self.tensors) + len(self._by_weight)

    def __contains__(self, name: object) -> bool:
        return name in self.tensors or name in self._by_weight

    def __repr__(self) -> str:
        return f"LoadedCheckpoint({self.source!r}, kind={self.kind!r}, {len(self)} tensors, {len(self.packed)} packed)"

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of the dense tensor `name`, without reading it."""
        entry = self._by_weight.get(name)
        return self.tensors.entry(name).shape if entry is None else entry.shape

    def dtype(self, name: str) -> torch.dtype:
        """Element type of the dense tensor `name`, without reading it."""
        entry = self._by_weight.get(name)
        return self.tensors.entry(name).dtype if entry is None else dense_dtype(entry.form.dtype)

    def is_packed(self, name: str) -> bool:
        """Whether `name` is the weight of a packed module."""
        return name in self._by_weight

    def nbytes(self, name: str) -> int:
        """Bytes that `name` takes as it is stored: packed weights count packed."""
        entry = self._by_weight.get(name)
        return self.tensors.entry(name).nbytes if entry is None else entry.form.nbytes

    def verify(self) -> None:
        """Read every packed weight and every masked one once, checking all of their values; nothing is kept.

        Raises the errors of the file. `sparsecore.load` without a model has done it.
        """
        for entry in self.packed.values():
            _ = entry.stored
        for tensor in self.tensors.entries().values():
            if tensor.derived:
                tensor.read()

    def finding(self, name: str) -> Finding | None:
        """What the zeros of the dense weight `name` [out, in] look like; reads it.

        None for packed weights and for tensors that are not matrices of fp32, fp16 or bf16.
        """
        if self.is_packed(name) or not _is_weight(self.tensors.entry(name)):
            return None
        return look(self.tensors[name])

    def pattern(self, name: str) -> Pattern | None:
        """Sparsity pattern of `name`: that of a packed weight, or the one found in a dense weight [out, in].

        None for tensors that are not matrices of fp32, fp16 or bf16 and for those that no pattern makes smaller.
        """
        entry = self._by_weight.get(name)
        if entry is not None:
            return entry.form.pattern
        found = self.finding(name)
        return found.pattern if found is not None else None

    def pack(self, pattern: Pattern | None = None) -> LoadedCheckpoint:
        """Return the checkpoint with every matrix named `*.weight` packed, in memory, that gets smaller by it.

        `pattern`: the one to use; default: the one found in each weight. Matrices are taken as [out_features,
        in_features], or as [in_features, out_features] (transformers' Conv1D) where only so an N:M pattern is found. A
        tensor that goes by two names stays dense, so that it stays one.
        """
        entries, packed = self.tensors.entries(), dict(self.packed)
        names: dict[object, int] = {}
        for entry in entries.values():
            names[entry.place] = names.get(entry.place, 0) + 1
        for name, entry in self.tensors.entries().items():
            module, _, last = name.rpartition(".")
            if last != "weight" or not _is_weight(entry) or names[entry.place] > 1:
                continue
            smaller = _packed_smaller(entry.read(), pattern)
            if smaller is not None:
                packed[module] = smaller
                del entries[name]
        return LoadedCheckpoint(self.source, self.kind, LazyTensors(entries), packed, self.version, self.config)


def _is_weight(entry: LazyTensor) -> bool:
    return len(entry.shape) == 2 and entry.dtype in DTYPES


def _packed_smaller(dense: Tensor, pattern: Pattern | None) -> PackedEntry | None:
    """The weight packed, if that takes fewer bytes."""
    chosen, transposed = pattern, False
    if chosen is None:
        found, transposed = look_both_ways(dense)
        chosen = found.pattern
    if chosen is None:
        return None
    stored = pack((dense.t() if transposed else dense).contiguous(), chosen)
    return PackedEntry(stored, transposed) if stored.nbytes < dense.numel() * dense.element_size() else None
