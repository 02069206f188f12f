"""Finding packed weights among the tensors of a file, by header or by name, and checking them before they are used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

from sparsecore.errors import CorruptFileError, NamedError, UnsupportedError
from sparsecore.formats import DTYPES, StoredWeight, from_tensors
from sparsecore.io.header import Header
from sparsecore.nn.state_dict import STORED_NAMES

__all__ = ["dtype_name", "groups_by_header", "groups_by_name", "join"]

# A file of a few bytes can claim any number of all-zero blocks. What it may expand to is bounded by its own size
# (N:M and bitmask forms stay below this factor by their layout), with room for real layers that are all zero.
_MOST_EXPANSION = 64
_FREE_BYTES = 2**30
_LARGEST_EMPTY_BLOCK = 2**16


def join(prefix: str, name: str) -> str:
    """Name of a tensor of the module at `prefix`; the model itself has the prefix ""."""
    return f"{prefix}.{name}" if prefix else name


def dtype_name(tensor: Tensor) -> str:
    """torch's short name of the element type: "bfloat16"."""
    return str(tensor.dtype).removeprefix("torch.")


def groups_by_header(tensors: Mapping[str, Tensor], header: Header, where: str) -> dict[str, StoredWeight]:
    """Return the packed weight of every module that `header` lists.

    Raises CorruptFileError where tensors are missing, do not form a weight, or differ from what the header says.
    """
    found = {}
    for module, entry in header.modules.items():
        stored = _stored(module, {n: t for n in STORED_NAMES if (t := tensors.get(join(module, n))) is not None}, where)
        said = (entry.parsed(), entry.shape, entry.dtype)
        held = (stored.pattern, stored.shape, str(stored.dtype).removeprefix("torch."))
        if said != held:
            raise CorruptFileError(
                f"the header says {entry.pattern} {list(entry.shape)} {entry.dtype}",
                where=f"{where}: {module}",
                expected=f"what the tensors are: {held[0].name} {list(held[1])} {held[2]}",
            )
        found[module] = stored
    return found


def groups_by_name(tensors: Mapping[str, Tensor], where: str) -> tuple[dict[str, StoredWeight], set[str]]:
    """Return (packed weights by module, names of the tensors used) of a file without our header.

    Recognised are the sparse-24-bitmask and sparse-bitmask files of compressed-tensors, whose tensors may be named
    `p.shape` or `p.weight.shape`, and the state dict of a model with packed layers.

    Raises CorruptFileError where such a group is damaged, UnsupportedError for elements other than fp32, fp16, bf16.
    """
    found: dict[str, StoredWeight] = {}
    used: set[str] = set()
    for prefix in _prefixes(tensors):
        group = {n: t for n in STORED_NAMES if (t := tensors.get(join(prefix, n))) is not None}
        values = group.get("compressed", group.get("blocks"))
        if values is None or not ({"bitmask", "codes", "block_cols"} & group.keys()):
            continue
        if values.dtype not in DTYPES:
            raise UnsupportedError(
                f"the packed weight has elements of {values.dtype}",
                where=f"{where}: {prefix}",
                expected="float32, float16 or bfloat16",
                hint="quantised sparse weights must be decoded with the tool that wrote them",
            )
        module = "" if prefix == "weight" else prefix.removesuffix(".weight")
        if module in found:
            raise CorruptFileError("two packed weights for one module", where=f"{where}: {module}")
        found[module] = _stored(module, group, where)
        used |= {join(prefix, n) for n in group}
    return found, used


def _prefixes(tensors: Iterable[str]) -> list[str]:
    return ["" if name == "shape" else name[: -len(".shape")] for name in tensors if ("." + name).endswith(".shape")]


def _stored(module: str, group: Mapping[str, Tensor], where: str) -> StoredWeight:
    place = f"{where}: {module or 'the model itself'}"
    try:
        _check_expansion(group)
        return from_tensors({name: tensor.contiguous() for name, tensor in group.items()})
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
    if rows * cols * values.element_size() > _MOST_EXPANSION * held + _FREE_BYTES:
        raise CorruptFileError(f"{held} bytes claim to be a weight of {rows} x {cols}", where="shape")
    if block is not None and values.numel() == 0 and not block.is_floating_point() and block.numel() == 2:
        largest = max(_LARGEST_EMPTY_BLOCK, rows, cols)
        if any(int(size) > largest for size in block.flatten()):
            raise CorruptFileError(f"blocks {block.flatten().tolist()} in a weight of {rows} x {cols}", where="block")
