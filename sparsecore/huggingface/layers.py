"""One packed layer on its way from a folder into a model: its description, and its stand-in while files are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sparsecore.dtypes import is_quantised
from sparsecore.errors import CorruptFileError, NamedError
from sparsecore.formats import from_tensors
from sparsecore.io.header import ModuleEntry
from sparsecore.io.names import type_name
from sparsecore.nn import SparseLinear
from sparsecore.nn.state_dict import STORED_NAMES
from sparsecore.packed import PackedWeight

__all__ = ["FORMAT_VERSION", "METHOD", "LayerEntry", "StoredSlots", "described"]

METHOD = "sparsecore"
FORMAT_VERSION = "1.0"


@dataclass(frozen=True, slots=True)
class LayerEntry:
    """A packed layer without its values.

    module: pattern, shape [out_features, in_features], element type, transposed.
    tensors: (torch's name of the type, shape) of each stored tensor by its short name.
    """

    module: ModuleEntry
    tensors: Mapping[str, tuple[str, tuple[int, ...]]]

    @classmethod
    def of(cls, layer: SparseLinear) -> LayerEntry:
        """Describe `layer`."""
        dtype = type_name(layer.weight_dtype)
        module = ModuleEntry(layer.pattern.name, (layer.out_features, layer.in_features), dtype, layer.transposed)
        stored = layer.stored().tensors
        return cls(module, {name: (type_name(tensor.dtype), tuple(tensor.shape)) for name, tensor in stored.items()})

    def to_json(self) -> dict[str, Any]:
        """Return plain lists, strings and numbers."""
        return {
            "pattern": self.module.pattern,
            "shape": list(self.module.shape),
            "dtype": self.module.dtype,
            "transposed": self.module.transposed,
            "tensors": {name: [dtype, list(shape)] for name, (dtype, shape) in self.tensors.items()},
        }

    @classmethod
    def from_json(cls, data: Any, where: str) -> LayerEntry:
        """Read what `to_json` wrote; CorruptFileError for anything else."""
        module = ModuleEntry.from_json(data, "the entry of a packed layer is malformed", where)
        tensors = data.get("tensors")
        if not isinstance(tensors, dict) or not tensors.keys() <= set(STORED_NAMES):
            raise CorruptFileError(
                "the stored tensors of a packed layer are not listed", where=where, expected=", ".join(STORED_NAMES)
            )
        return cls(module, {name: _description(entry, f"{where}: {name}") for name, entry in tensors.items()})


def described(entries: Mapping[str, LayerEntry]) -> dict[str, Any]:
    """Return the `quantization_config` of a folder with these packed layers."""
    modules = {name: entry.to_json() for name, entry in entries.items()}
    return {"quant_method": METHOD, "version": FORMAT_VERSION, "modules": modules}


def _description(entry: Any, where: str) -> tuple[str, tuple[int, ...]]:
    """(type, shape) of one tensor, checked."""
    if isinstance(entry, list) and len(entry) == 2:
        dtype, shape = entry
        known = isinstance(dtype, str) and isinstance(getattr(torch, dtype, None), torch.dtype)
        if known and isinstance(shape, list) and all(type(size) is int and size >= 0 for size in shape):
            return dtype, tuple(shape)
    raise CorruptFileError(
        f"a stored tensor is described by {entry!r}", where=where, expected='["uint8", [rows, bytes]]'
    )


class StoredSlots(nn.Module):
    """Stands for a packed layer while a checkpoint is read: its stored tensors as buffers, at first on the meta device.

    `dtype` is the element type that the values shall have; positions, sizes and scales keep their own. The
    bias is that of the layer it replaces.
    """

    def __init__(self, entry: LayerEntry, bias: nn.Parameter | None, dtype: torch.dtype) -> None:
        super().__init__()
        self.entry = entry
        self.bias = bias
        rows, cols = entry.module.shape
        # Some models initialise the weight of a layer by name. Marked as initialised it is left alone, without memory.
        self.weight = torch.empty((cols, rows) if entry.module.transposed else (rows, cols), dtype=dtype, device="meta")
        self.weight._is_hf_initialized = True  # type: ignore[attr-defined]
        for name, (own, shape) in entry.tensors.items():
            kind = getattr(torch, own)
            if name in ("compressed", "blocks") and not is_quantised(kind):
                kind = dtype
            self.register_buffer(name, torch.empty(shape, dtype=kind, device="meta"))

    def packed(self, where: str) -> SparseLinear:
        """Make the layer from the tensors read, which are checked in full.

        Raises CorruptFileError where they do not form the weight that was announced.
        """
        tensors: dict[str, Tensor] = {name: self.get_buffer(name).contiguous() for name in self.entry.tensors}
        # transformers marks what it read, and fills what it did not find with whatever lies in memory.
        missing = sorted(name for name in tensors if not _was_read(self.get_buffer(name)))
        if missing:
            raise CorruptFileError(f"the checkpoint lacks {', '.join(missing)}", where=where)
        try:
            stored = from_tensors(tensors)
        except NamedError as error:
            raise CorruptFileError(
                f"a packed weight is damaged: {error.what}", where=f"{where}: {error.where}", expected=error.expected
            ) from error
        said, held = self.entry.module, (stored.pattern, stored.shape)
        if (said.parsed(), said.shape) != held:
            raise CorruptFileError(
                f"config.json says {said.pattern} {list(said.shape)}",
                where=where,
                expected=f"what the tensors are: {held[0].name} {list(held[1])}",
            )
        return SparseLinear.from_packed(PackedWeight.from_stored(stored), self.bias, transposed=said.transposed)


def _was_read(tensor: Tensor) -> bool:
    return not tensor.is_meta and bool(getattr(tensor, "_is_hf_initialized", False))
