"""Writing models with packed weights to safetensors."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sparsecore.errors import UnsupportedError
from sparsecore.io.checkpoint import LoadedCheckpoint
from sparsecore.io.container import write_safetensors
from sparsecore.io.header import METADATA_KEY, Header, ModuleEntry
from sparsecore.io.names import join, type_name
from sparsecore.nn import SparseLinear
from sparsecore.nn.state_dict import STORED_NAMES

__all__ = ["save"]


def save(model: nn.Module | LoadedCheckpoint, path: str | os.PathLike[str]) -> None:
    """Write `model` to the safetensors file `path`; never a pickle.

    For a packed layer `p` the file holds its stored tensors, `p.shape` ([2, 1], as compressed-tensors has it),
    `p.compressed`, `p.bitmask` and so on; every other parameter and persistent buffer is there under its own name.
    Tensors that are one (tied weights) are stored once. The write is atomic: whatever stops it, the file that was there
    stays.

    Raises
    ------
    UnsupportedError: no model; a state that is not a dense tensor, is on the meta device, or has a type unknown to
        safetensors.
    FileMissingError: the folder of `path` does not exist.
    OSError: the disk refuses.
    """
    if not isinstance(model, nn.Module | LoadedCheckpoint):
        raise UnsupportedError(
            f"cannot save a {type(model).__name__}", where="save", expected="a model, or what sparsecore.load returned"
        )
    state = _checkpoint_state(model) if isinstance(model, LoadedCheckpoint) else _model_state(model)
    modules, aliases = state.modules, state.aliases
    tensors, tied = _once_each(state.tensors)
    for module in modules:
        if (name := join(module, "shape")) in tensors:
            tensors[name] = tensors[name].reshape(2, 1)
    header = Header(modules, {**aliases, **tied})
    write_safetensors(path, {n: _plain(n, t) for n, t in tensors.items()}, {METADATA_KEY: header.to_json()})


class _State(NamedTuple):
    """Tensors by name, packed modules, and the aliases of layers that sit in the model twice."""

    tensors: dict[str, Tensor]
    modules: dict[str, ModuleEntry]
    aliases: dict[str, str]


def _model_state(model: nn.Module) -> _State:
    tensors = dict(model.state_dict())
    modules: dict[str, ModuleEntry] = {}
    aliases: dict[str, str] = {}
    first: dict[int, str] = {}
    for name, layer in _packed_layers(model):
        shape = (layer.out_features, layer.in_features)
        modules[name] = _entry(layer.pattern.name, shape, layer.weight_dtype, layer.transposed)
        original = first.setdefault(id(layer), name)
        if original != name:
            # Each occurrence unpacked its own copy, so comparing memory would not show that they are one.
            for short in (*STORED_NAMES, "bias"):
                if tensors.pop(join(name, short), None) is not None:
                    aliases[join(name, short)] = join(original, short)
    return _State(tensors, modules, aliases)


def _packed_layers(model: nn.Module) -> Iterator[tuple[str, SparseLinear]]:
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, SparseLinear):
            yield name, module


def _checkpoint_state(checkpoint: LoadedCheckpoint) -> _State:
    stored = {
        join(module, name): tensor
        for module, entry in checkpoint.packed.items()
        for name, tensor in entry.stored.tensors.items()
    }
    modules = {
        module: _entry(entry.form.pattern.name, entry.form.shape, entry.form.dtype, bool(entry.transposed))
        for module, entry in checkpoint.packed.items()
    }
    first: dict[object, str] = {}
    aliases: dict[str, str] = {}
    for name, tensor in checkpoint.tensors.entries().items():
        original = first.setdefault(tensor.place, name)
        if original != name:
            aliases[name] = original
    plain = {name: checkpoint.tensors[name] for name in first.values()}
    return _State({**plain, **stored}, modules, aliases)


def _entry(pattern: str, shape: tuple[int, int], dtype: torch.dtype, transposed: bool) -> ModuleEntry:
    return ModuleEntry(pattern, shape, type_name(dtype), transposed)


def _once_each(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return (each tensor once, names left out -> name kept): one if memory, shape, strides and type are."""
    kept: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    seen: dict[tuple[object, ...], str] = {}
    for name, tensor in tensors.items():
        if isinstance(tensor, Tensor) and tensor.layout == torch.strided and tensor.numel() and not tensor.is_meta:
            place = (tensor.data_ptr(), tensor.device, tensor.dtype, tuple(tensor.shape), tensor.stride())
            original = seen.setdefault(place, name)
            if original != name:
                aliases[name] = original
                continue
        kept[name] = tensor
    return kept, aliases


def _plain(name: str, tensor: object) -> Tensor:
    """Return `tensor` on the CPU, contiguous, in memory of its own (safetensors refuses views of a common storage)."""
    if not isinstance(tensor, Tensor) or tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
        kind = f"{tensor.layout} tensor on {tensor.device}" if isinstance(tensor, Tensor) else type(tensor).__name__
        raise UnsupportedError(
            f"a model with a {kind} in its state cannot be saved", where=name, expected="dense tensors with values"
        )
    plain = tensor.detach().cpu().contiguous()
    return plain if plain.untyped_storage().nbytes() == plain.numel() * plain.element_size() else plain.clone()
