"""Loading a checkpoint into a model: names, shapes and types are compared first, then values go in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import cast

from torch import Tensor, nn

from sparsecore.dtypes import DTYPES, is_quantised
from sparsecore.errors import DtypeError, KeyMismatchError, NamedError, ShapeError
from sparsecore.huggingface import attach
from sparsecore.io.checkpoint import LoadedCheckpoint, PackedEntry
from sparsecore.io.filling import Filler, require_values
from sparsecore.io.names import join
from sparsecore.models import expert_layout, is_conv1d
from sparsecore.nn import SparseExperts, SparseLinear
from sparsecore.packed import PackedWeight
from sparsecore.survey import ON_META, survey

__all__ = ["expected_names", "load_into"]

_SHOWN = 5


def load_into(model: nn.Module, checkpoint: LoadedCheckpoint, *, dense: bool, strict: bool) -> None:
    """Fill `model` in place, module by module; `sparsecore.load` says what is compared and raised."""
    checkpoint = _oriented(model, checkpoint)
    expected = _expected(model)
    canonical = _Canonical(model)
    wanted = {canonical(name) for name in expected}
    common = {name for name in checkpoint if canonical(name) in wanted}
    mismatch = _mismatch(model, checkpoint, expected, canonical)
    if mismatch is not None and (strict or not common):
        raise mismatch
    for name in sorted(common & expected.keys()):
        _check_tensor(name, checkpoint, expected[name])
    require_values(model, {canonical(name) for name in common})
    packed = {module: entry for module, entry in checkpoint.packed.items() if join(module, "weight") in common}
    made, wanting = _replace_layers(model, packed, dense=dense, where=checkpoint.source)
    filler = Filler(model)
    for name in checkpoint:
        module = name.removesuffix(".weight") if name != "weight" else ""
        if name not in common or module in made:
            continue  # a new layer was made with its weight
        if module in wanting:
            filler.add(module, packed[module])
        else:
            filler.add_dense(name, canonical(name).rpartition(".")[0], checkpoint)
    filler.fill()
    attach(model)


def expected_names(model: nn.Module) -> set[str]:
    """Names of the dense tensors that a checkpoint of `model` has."""
    return set(_expected(model))


def _expected(model: nn.Module) -> dict[str, nn.Module | Tensor]:
    """Map each name to its tensor, or to the SparseLinear whose weight it is. Tied tensors appear under every name."""
    found: dict[str, nn.Module | Tensor] = {}
    for prefix, module in model.named_modules(remove_duplicate=False):
        tensors = {
            **module._parameters,
            **{n: b for n, b in module._buffers.items() if n not in module._non_persistent_buffers_set},
        }
        found.update({join(prefix, name): tensor for name, tensor in tensors.items() if tensor is not None})
        if isinstance(module, SparseLinear):
            found[join(prefix, "weight")] = module
    return found


class _Canonical:
    """Gives the weight of expert i, `experts.up.i.weight`, the name of the 3-D parameter, `experts.up`.

    A checkpoint may have either of the two where the model has the other.
    """

    def __init__(self, model: nn.Module) -> None:
        stacks = []
        for prefix, module in model.named_modules(remove_duplicate=False):
            layout = module.layout if isinstance(module, SparseExperts) else expert_layout(module)
            if layout is not None:
                stacks += [join(prefix, layout.up), join(prefix, layout.down)]
        names = "|".join(re.escape(stack) for stack in stacks)
        self._slice = re.compile(rf"({names})\.\d+\.weight") if stacks else None

    def __call__(self, name: str) -> str:
        match = self._slice.fullmatch(name) if self._slice else None
        return match[1] if match else name


def _mismatch(
    model: nn.Module, checkpoint: LoadedCheckpoint, expected: Mapping[str, nn.Module | Tensor], canonical: _Canonical
) -> KeyMismatchError | None:
    """The error that names what only one side has, or None."""
    found = {canonical(name) for name in checkpoint}
    wanted = {canonical(name): tensor for name, tensor in expected.items()}
    # Hugging Face files name a tied tensor once.
    filled = {id(tensor) for name, tensor in wanted.items() if name in found}
    missing = sorted(name for name, tensor in wanted.items() if name not in found and id(tensor) not in filled)
    unexpected = sorted(found - wanted.keys() - _recomputed(model))
    sides = (("missing", missing), ("unexpected", unexpected))
    problems = "; ".join(f"{what}: {_listed(names)}" for what, names in sides if names)
    if not problems:
        return None
    return KeyMismatchError(
        f"the checkpoint and {type(model).__name__} have different tensors; {problems}",
        where=checkpoint.source,
        expected=f"the {len(wanted)} tensors of the model",
        hint=_prefix_hint(found, set(wanted)) or "strict=False loads what is on both sides",
    )


def _recomputed(model: nn.Module) -> set[str]:
    """Names of buffers that the model makes itself; older files hold some of them (BERT's position_ids)."""
    modules = model.named_modules(remove_duplicate=False)
    return {join(prefix, name) for prefix, module in modules for name in module._non_persistent_buffers_set}


def _listed(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _prefix_hint(found: Iterable[str], wanted: set[str]) -> str:
    """A hint for checkpoints of a model with a task head, whose names all begin with the name of the inner model."""
    prefixes = {name.partition(".")[0] for name in found if name.partition(".")[2] in wanted}
    inner = {name.partition(".")[0] for name in wanted if name.partition(".")[2] in set(found)}
    if len(prefixes) == 1:
        return f'the names in the file begin with "{prefixes.pop()}.": load it into a model that has this part'
    if len(inner) == 1:
        return f"the names in the file lack the prefix: load(..., into=model.{inner.pop()})"
    return ""


def _check_tensor(name: str, checkpoint: LoadedCheckpoint, target: nn.Module | Tensor) -> None:
    shape = target.weight_shape if isinstance(target, SparseLinear) else tuple(cast(Tensor, target).shape)
    if checkpoint.shape(name) != tuple(shape):
        raise ShapeError(
            f"{name} is {list(checkpoint.shape(name))} in the checkpoint and {list(shape)} in the model",
            where=f"{checkpoint.source}: {name}",
            expected=str(list(shape)),
        )
    dtype = checkpoint.dtype(name)
    floating = isinstance(target, SparseLinear) or cast(Tensor, target).is_floating_point()
    if dtype.is_floating_point != floating:
        raise DtypeError(
            f"{name} is {dtype} in the checkpoint",
            where=f"{checkpoint.source}: {name}",
            expected="floating point" if floating else "integers",
        )


def _oriented(model: nn.Module, checkpoint: LoadedCheckpoint) -> LoadedCheckpoint:
    """Return `checkpoint` with the orientation of packed weights taken from `model` where the file does not say it."""
    if all(entry.transposed is not None for entry in checkpoint.packed.values()):
        return checkpoint
    modules = dict(model.named_modules(remove_duplicate=False))
    packed = {
        name: entry if entry.transposed is not None else replace(entry, transposed=_is_transposed(modules.get(name)))
        for name, entry in checkpoint.packed.items()
    }
    version, config = checkpoint.version, checkpoint.config
    return LoadedCheckpoint(checkpoint.source, checkpoint.kind, checkpoint.tensors, packed, version, config)


def _is_transposed(module: nn.Module | None) -> bool:
    return module is not None and (is_conv1d(module) or (isinstance(module, SparseLinear) and module.transposed))


def _replace_layers(
    model: nn.Module, packed: Mapping[str, PackedEntry], *, dense: bool, where: str
) -> tuple[set[str], set[str]]:
    """Replace the layers that become packed; return (names of those, names of packed ones that want their weight).

    Every new layer is made before the first one is put in: damage found on the way leaves the model as it was.
    """
    replaceable = set() if dense else _replaceable(model)
    wanting: set[str] = set()
    made: dict[str, SparseLinear] = {}
    modules = dict(model.named_modules(remove_duplicate=False))
    for name, entry in packed.items():
        module = modules.get(name)
        if module is None or entry.transposed != _is_transposed(module):
            continue
        if isinstance(module, SparseLinear):
            wanting.add(name)
        elif name in replaceable:
            made[name] = _packed_layer(module, entry, f"{where}: {name}")
    for name, layer in made.items():
        model.set_submodule(name, layer)
    return set(made), wanting


def _replaceable(model: nn.Module) -> set[str]:
    """Names of the layers that may be packed; a model that is one single layer cannot be replaced in itself."""
    found = (one for one in survey(model) if one.kind in ("Linear", "Conv1D") and one.weight.dtype in DTYPES)
    return {one.name for one in found if one.reason in ("", ON_META)} - {""}


def _packed_layer(module: nn.Module, entry: PackedEntry, where: str) -> SparseLinear:
    weight, bias = cast(Tensor, module.weight), cast("nn.Parameter | None", module.bias)
    stored = entry.stored
    try:
        packed = PackedWeight.from_stored(
            stored if stored.dtype is weight.dtype or is_quantised(stored.dtype) else stored.to(dtype=weight.dtype)
        )
        layer = SparseLinear.from_packed(packed, bias, transposed=_is_transposed(module))
    except NamedError as error:
        raise type(error)(error.what, where=where, expected=error.expected, hint=error.hint) from error
    return layer.train(module.training)
