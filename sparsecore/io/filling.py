"""Values into a model, one module at a time: what a module takes is read, loaded and dropped before the next one.

Modules on the meta device get their tensors by assignment, in the element types that the module has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from torch import Tensor, nn

from sparsecore.dtypes import is_quantised
from sparsecore.errors import UnsupportedError
from sparsecore.io.checkpoint import LoadedCheckpoint, PackedEntry
from sparsecore.io.names import join
from sparsecore.nn import SparseLinear
from sparsecore.nn.state_dict import dense_state_dict

__all__ = ["Filler", "require_values"]


def require_values(model: nn.Module, given: set[str]) -> None:
    """Raise UnsupportedError for a tensor on the meta device that is not `given` values under any of its names."""
    filled = {id(tensor) for name, tensor in _tensors(model) if name in given}
    for name, tensor in _tensors(model):
        if tensor.is_meta and name not in given and id(tensor) not in filled:
            module, _, short = name.rpartition(".")
            computed = short in model.get_submodule(module)._non_persistent_buffers_set
            raise UnsupportedError(
                "the model is on the meta device here and the checkpoint has no values for it",
                where=name,
                hint="the model computes it when it is made: set it on the CPU first, or use from_pretrained"
                if computed
                else 'model.to_empty(device="cpu") gives it memory',
            )
    for name, module in model.named_modules():
        if isinstance(module, SparseLinear) and module.weight_device.type == "meta":
            weight = join(name, "weight")
            if weight not in given:
                raise UnsupportedError("the packed weight is on the meta device and gets no values", where=weight)


class Filler:
    """Collects what goes where, by module, and then loads it."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._modules = dict(model.named_modules(remove_duplicate=False))
        self._wanted: dict[str, list[Callable[[], Mapping[str, Tensor]]]] = {}

    def add(self, module: str, packed: PackedEntry) -> None:
        """The SparseLinear `module` takes `packed`."""
        layer = self._modules[module]
        assert isinstance(layer, SparseLinear)

        def read() -> Mapping[str, Tensor]:
            stored = packed.stored
            return (stored if stored.dtype == layer.weight_dtype else stored.to(dtype=layer.weight_dtype)).tensors

        self._wanted.setdefault(module, []).append(read)

    def add_dense(self, name: str, module: str, checkpoint: LoadedCheckpoint) -> None:
        """`module` takes the dense tensor `name`, which may be that of a module below it."""
        short = name[len(module) + 1 :] if module else name
        self._wanted.setdefault(module, []).append(lambda: {short: checkpoint[name]})

    def fill(self) -> None:
        """Read and load everything; tensors that the model shares stay shared."""
        shared = _shared_meta(self._model)
        for name, readers in self._wanted.items():
            module = self._modules[name]
            state: dict[str, Tensor] = {}
            for read in readers:
                state.update(read())
            # Slices of experts become the 3-D parameters of a dense model; everything else stays as it is.
            state = dense_state_dict(state, like=module) if not isinstance(module, SparseLinear) else state
            assign = _on_meta(module)
            module.load_state_dict(_typed(module, state) if assign else state, strict=False, assign=assign)
        for places in shared:
            _share_again(places)


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for prefix, module in model.named_modules(remove_duplicate=False):
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is not None:
                yield join(prefix, name), tensor


def _on_meta(module: nn.Module) -> bool:
    if isinstance(module, SparseLinear) and module.weight_device.type == "meta":
        return True
    own = (*module._parameters.values(), *module._buffers.values())
    return any(tensor is not None and tensor.is_meta for tensor in own)


def _typed(module: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Values in the types of the tensors that they are assigned to: those on the meta device know theirs."""
    own: dict[str, Tensor | None] = {**module._parameters, **module._buffers}
    typed = {}
    for name, tensor in state.items():
        target = own.get(name)
        typed[name] = tensor if target is None else tensor.to(target.dtype)
    # A quantised layer quantises a dense weight itself: rounded here it would lose its values.
    if isinstance(module, SparseLinear) and "weight" in state and not is_quantised(module.weight_dtype):
        typed["weight"] = state["weight"].to(module.weight_dtype)
    return typed


_Place = tuple[dict[str, "Tensor | None"], str]


def _shared_meta(model: nn.Module) -> list[list[_Place]]:
    """Where each tensor on the meta device sits that sits in several places."""
    places: dict[int, list[_Place]] = {}
    for module in model.modules():
        for table in (module._parameters, module._buffers):
            for name, tensor in table.items():
                if tensor is not None and tensor.is_meta:
                    places.setdefault(id(tensor), []).append((table, name))  # type: ignore[arg-type]
    return [found for found in places.values() if len(found) > 1]


def _share_again(places: list[_Place]) -> None:
    given = [tensor for table, name in places if (tensor := table[name]) is not None and not tensor.is_meta]
    for table, name in places if given else ():
        table[name] = given[0]
