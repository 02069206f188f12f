"""Finding packed weights among the tensors of a file, by header or by name, and checking them before they are used.

Sizes and types are checked when the file is opened, every index when the weight is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from sparsecore.dtypes import DTYPES, is_quantised
from sparsecore.errors import CorruptFileError, NamedError, UnsupportedError
from sparsecore.formats import StoredWeight, from_tensors
from sparsecore.io.channel_scales import NAMES, channel_scales
from sparsecore.io.checkpoint import PackedEntry
from sparsecore.io.expansion import check_expansion
from sparsecore.io.header import Header
from sparsecore.io.names import join
from sparsecore.io.tensors import LazyTensor, LazyTensors
from sparsecore.nn.state_dict import STORED_NAMES

__all__ = ["groups_by_header", "groups_by_name"]

_LARGEST_EMPTY_BLOCK = 2**16


def groups_by_header(tensors: LazyTensors, header: Header, where: str) -> dict[str, PackedEntry]:
    """Return the packed weight of every module that `header` lists.

    Raises CorruptFileError where tensors are missing, do not form a weight, or differ from what the header says.
    """
    found = {}
    for module, entry in header.modules.items():
        packed = _packed(module, _group(tensors, module), where, entry.transposed)
        said = (entry.parsed(), entry.shape, entry.dtype)
        held = (packed.form.pattern, packed.form.shape, str(packed.form.dtype).removeprefix("torch."))
        if said != held:
            raise CorruptFileError(
                f"the header says {entry.pattern} {list(entry.shape)} {entry.dtype}",
                where=f"{where}: {module}",
                expected=f"what the tensors are: {held[0].name} {list(held[1])} {held[2]}",
            )
        found[module] = packed
    return found


def groups_by_name(
    tensors: LazyTensors, where: str, transposed: Mapping[str, bool]
) -> tuple[dict[str, PackedEntry], set[str]]:
    """Return (packed weights by module, names of the tensors used) of a file without our header.

    `transposed` says of modules, as far as it is known, whether their dense weight is [in_features, out_features].

    Recognised are the sparse-24-bitmask and sparse-bitmask files of compressed-tensors, whose tensors may be named
    `p.shape` or `p.weight.shape`, with `p.weight_scale` beside int8 and fp8 values, and the state dict of a model with
    packed layers.

    Raises CorruptFileError where such a group is damaged, UnsupportedError for elements other than fp32, fp16, bf16,
    int8 and fp8 with scales, and for weights in the layout of marlin-24.
    """
    found: dict[str, PackedEntry] = {}
    used: set[str] = set()
    _refuse_marlin(tensors, where)
    for prefix in _prefixes(tensors):
        group = _group(tensors, prefix)
        values = group.get("compressed", group.get("blocks"))
        if values is None or not ({"bitmask", "codes", "block_cols"} & group.keys()):
            continue
        module = "" if prefix == "weight" else prefix.removesuffix(".weight")
        bare = is_quantised(values.dtype) and "bitmask" in group and "scales" not in group
        beside = NAMES if bare else ()
        if beside and (scales := channel_scales(tensors, module, group["bitmask"].shape[0], where)):
            group["scales"] = scales
        if values.dtype not in DTYPES and not (is_quantised(values.dtype) and "scales" in group):
            raise UnsupportedError(
                f"the packed weight has elements of {values.dtype}",
                where=f"{where}: {prefix}",
                expected="float32, float16 or bfloat16, or int8 or fp8 with its scales",
                hint="quantised sparse weights must be decoded with the tool that wrote them",
            )
        if module in found:
            raise CorruptFileError("two packed weights for one module", where=f"{where}: {module}")
        found[module] = _packed(module, group, where, transposed.get(module))
        used |= {join(prefix, n) for n in group} | {name for n in beside if (name := join(module, n)) in tensors}
    return found, used


def _prefixes(tensors: Iterable[str]) -> list[str]:
    return ["" if name == "shape" else name[: -len(".shape")] for name in tensors if ("." + name).endswith(".shape")]


def _group(tensors: LazyTensors, prefix: str) -> dict[str, LazyTensor]:
    return {name: tensors.entry(join(prefix, name)) for name in STORED_NAMES if join(prefix, name) in tensors}


def _refuse_marlin(tensors: LazyTensors, where: str) -> None:
    for name in tensors:
        prefix = name.removesuffix("weight_packed")
        if prefix != name and f"{prefix}scale_packed" in tensors and f"{prefix}meta" in tensors:
            raise UnsupportedError(
                "the weights are in the layout 'marlin-24', made for one GPU kernel",
                where=f"{where}: {prefix}",
                expected="dense weights with zeros, sparse-24-bitmask or sparse-bitmask",
            )


def _packed(module: str, group: Mapping[str, LazyTensor], where: str, transposed: bool | None) -> PackedEntry:
    place = f"{where}: {module or 'the model itself'}"

    def read() -> StoredWeight:
        with _damage_named(place):
            return from_tensors({name: entry.read() for name, entry in group.items()})

    with _damage_named(place):
        sizes = {name: _sizes_only(name, entry) for name, entry in group.items()}
        _check_expansion(sizes)
        return PackedEntry(from_tensors(sizes), transposed, read)


def _sizes_only(name: str, entry: LazyTensor) -> Tensor:
    """The tensor itself where it is a pair of sizes, else one without values."""
    if name in ("shape", "nm", "block") and entry.nbytes <= 16:
        return entry.read()
    return torch.empty(entry.shape, dtype=entry.dtype, device="meta")


@contextmanager
def _damage_named(place: str) -> Iterator[None]:
    try:
        yield
    except NamedError as error:
        raise CorruptFileError(
            f"a packed weight is damaged: {error.what}",
            where=f"{place}: {error.where}" if error.where else place,
            expected=error.expected,
            hint="copy or download the file again",
        ) from error


def _check_expansion(group: Mapping[str, Tensor]) -> None:
    """Refuse sizes that would ask for memory out of proportion to the file."""
    shape, block = group.get("shape"), group.get("block")
    values = group.get("compressed", group.get("blocks"))
    if shape is None or values is None or shape.numel() != 2 or shape.is_floating_point():
        return  # from_tensors names what is wrong
    rows, cols = (int(size) for size in shape.flatten())
    held = sum(tensor.numel() * tensor.element_size() for tensor in group.values())
    check_expansion((rows, cols), values.element_size(), held, "shape")
    if block is not None and values.numel() == 0 and not block.is_floating_point() and block.numel() == 2:
        largest = max(_LARGEST_EMPTY_BLOCK, rows, cols)
        if any(int(size) > largest for size in block.flatten()):
            raise CorruptFileError(f"blocks {block.flatten().tolist()} in a weight of {rows} x {cols}", where="block")
