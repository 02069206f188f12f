"""What `load` returns without a model: the weights of a checkpoint by name, packed ones unpacked when asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from torch import Tensor

from sparsecore.errors import CorruptFileError
from sparsecore.formats import DTYPES, StoredWeight, find_pattern, pack
from sparsecore.io.stored_groups import join
from sparsecore.patterns import Pattern

__all__ = ["LoadedCheckpoint", "PackedEntry"]


@dataclass(frozen=True)
class PackedEntry:
    """A packed weight of a checkpoint.

    stored: the weight, [out_features, in_features].
    transposed: the module's dense weight is [in_features, out_features]; None where the file does not say.
    """

    stored: StoredWeight
    transposed: bool | None = None

    def __repr__(self) -> str:
        return f"PackedEntry({self.stored.pattern.name}, {list(self.stored.shape)}, transposed={self.transposed})"

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of `dense()`."""
        rows, cols = self.stored.shape
        return (cols, rows) if self.transposed else (rows, cols)

    def dense(self) -> Tensor:
        """The dense weight in the module's own orientation."""
        weight = self.stored.unpack()
        return weight.t().contiguous() if self.transposed else weight


class LoadedCheckpoint(Mapping[str, Tensor]):
    """A checkpoint as a read-only mapping from names to dense tensors, as a state dict has them.

    The packed weight of module `p` appears as `p.weight` and is unpacked at each access. Tensors may be views of the
    mapped file. `model.load_state_dict(dict(checkpoint))` fills a model without packed layers.

    Attributes
    ----------
    source: the file or folder read.
    kind: "sparsecore", "compressed-tensors", "safetensors" or "state dict".
    version: format version of our own files, else None.
    tensors: everything that is not a packed weight.
    packed: packed weights by module name.
    """

    def __init__(
        self,
        source: str,
        kind: str,
        tensors: Mapping[str, Tensor],
        packed: Mapping[str, PackedEntry],
        version: str | None = None,
    ) -> None:
        self.source = source
        self.kind = kind
        self.version = version
        self.tensors: Mapping[str, Tensor] = MappingProxyType(dict(tensors))
        self.packed: Mapping[str, PackedEntry] = MappingProxyType(dict(packed))
        self._by_weight = {join(module, "weight"): entry for module, entry in packed.items()}
        if twice := self._by_weight.keys() & tensors.keys():
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
        """Shape of the dense tensor `name`, without unpacking it."""
        entry = self._by_weight.get(name)
        return tuple(self.tensors[name].shape) if entry is None else entry.shape

    def is_packed(self, name: str) -> bool:
        """Whether `name` is the weight of a packed module."""
        return name in self._by_weight

    def nbytes(self, name: str) -> int:
        """Bytes that `name` takes as it is held: packed weights count packed."""
        entry = self._by_weight.get(name)
        if entry is not None:
            return entry.stored.nbytes
        return self.tensors[name].numel() * self.tensors[name].element_size()

    def pattern(self, name: str) -> Pattern | None:
        """Sparsity pattern of `name`: that of a packed weight, or the one found in a dense weight [out, in].

        None for tensors that are not matrices of fp32, fp16 or bf16 and for those that no pattern makes smaller.
        """
        entry = self._by_weight.get(name)
        if entry is not None:
            return entry.stored.pattern
        tensor = self.tensors[name]
        return find_pattern(tensor) if tensor.dim() == 2 and tensor.dtype in DTYPES else None

    def pack(self, pattern: Pattern | None = None) -> LoadedCheckpoint:
        """Return the checkpoint with every matrix named `*.weight` packed that gets smaller by it.

        `pattern`: the one to use; default: the one found in each weight. Matrices are taken as [out_features,
        in_features]. A tensor that goes by two names stays dense, so that it stays one.
        """
        names: dict[int, int] = {}
        for tensor in self.tensors.values():
            names[tensor.data_ptr()] = names.get(tensor.data_ptr(), 0) + 1
        tensors, packed = dict(self.tensors), dict(self.packed)
        for name, tensor in self.tensors.items():
            module, _, last = name.rpartition(".")
            if last != "weight" or tensor.dim() != 2 or tensor.dtype not in DTYPES or names[tensor.data_ptr()] > 1:
                continue
            chosen = pattern or find_pattern(tensor)
            stored = pack(tensor.contiguous(), chosen) if chosen is not None else None
            if stored is not None and stored.nbytes < tensor.numel() * tensor.element_size():
                packed[module] = PackedEntry(stored, transposed=False)
                del tensors[name]
        return LoadedCheckpoint(self.source, self.kind, tensors, packed, self.version)
