"""The stored form of a sparse weight: portable, immutable, validated tensors, the same in memory and in files.

docs/formats.md draws each form. A weight is [rows, cols] = [out_features, in_features].
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from sparsecore import backends
from sparsecore.backends.reference import formats as reference
from sparsecore.backends.reference import quantised
from sparsecore.dtypes import DTYPES, QUANTISED, dense_dtype, is_quantised
from sparsecore.errors import CorruptFileError, DtypeError, IndexTableError, InvalidValueError, ShapeError
from sparsecore.pattern_search import look
from sparsecore.patterns import NM, Block, Pattern, Unstructured, parse

__all__ = [
    "StoredWeight",
    "find_pattern",
    "from_tensors",
    "pack",
    "require_memory",
    "require_value_dtype",
]

# A sum of so many products of int8 values in [-127, 127] fits 32 bits, and one of fp8 values is exact in float64.
_MOST_QUANTISED_COLS = (2**31 - 1) // 127**2

_MEMORY_BYTES = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@dataclass(frozen=True)
class StoredWeight:
    """One sparse weight as named tensors; creating it checks every size and every index.

    Raises ShapeError, DtypeError or IndexTableError for tensors that do not form a weight.
    """

    pattern: Pattern
    shape: tuple[int, int]
    dtype: torch.dtype
    tensors: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        require_value_dtype(self.dtype)
        owned = {name: tensor.detach().contiguous() for name, tensor in self.tensors.items()}
        object.__setattr__(self, "tensors", MappingProxyType(owned))
        _check_layout(self)
        if self.device.type != "meta":
            if is_quantised(self.dtype):
                _check_quantised(self)
            backends.formats(self.device).validate(self.pattern, self.shape, _as_bits(self))

    @classmethod
    def assemble(cls, pattern: Pattern, shape: tuple[int, int], parts: Mapping[str, Tensor]) -> StoredWeight:
        """Make a weight from the parts that a back end packed: `shape` and the tensor of the pattern are added."""
        values = parts[_values_name(pattern)]
        return cls(pattern, shape, values.dtype, {"shape": torch.tensor(shape), **_tag(pattern), **parts})

    def __reduce__(self) -> tuple[object, ...]:
        # As bits: torch cannot read a pickled tensor of fp8.
        return _from_bits, (self.pattern, self.shape, self.dtype, dict(_as_bits(self)))

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.tensors[_values_name(self.pattern)].device

    @property
    def nbytes(self) -> int:
        """Bytes of all the tensors."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors.values())

    @property
    def stored_values(self) -> int:
        """Positions that are kept, padding of ragged blocks not counted."""
        if not isinstance(self.pattern, Block):
            return self.tensors["compressed"].numel()
        return reference.count_in_blocks(self.pattern, self.shape, self.tensors)

    @property
    def density(self) -> float:
        """Kept positions over all positions; 1 for a weight without elements."""
        total = self.shape[0] * self.shape[1]
        return self.stored_values / total if total else 1.0

    def unpack(self) -> Tensor:
        """Dense weight [rows, cols]: kept values bit for bit, +0 elsewhere; int8 and fp8 as value * scale in float32.

        Raises ShapeError where this machine has not the memory for it: a few blocks may stand for any size.
        """
        require_memory(self.shape, dense_dtype(self.dtype), self.device)
        dense = self._unpack_values()
        return dense.float() * self.tensors["scales"][:, None] if is_quantised(self.dtype) else dense

    def unpack_quantised(self) -> tuple[Tensor, Tensor]:
        """Return (values [rows, cols] as they are stored, scales fp32 [rows]) of a weight with int8 or fp8 values.

        Raises DtypeError for another weight, ShapeError as `unpack` does.
        """
        if not is_quantised(self.dtype):
            expected = _named(QUANTISED.values())
            raise DtypeError(f"the values are {self.dtype}", where="unpack_quantised", expected=expected)
        require_memory(self.shape, self.dtype, self.device)
        return self._unpack_values(), self.tensors["scales"]

    def _unpack_values(self) -> Tensor:
        return backends.formats(self.device).unpack(self.pattern, self.shape, _as_bits(self)).view(self.dtype)

    def keep_mask(self) -> Tensor:
        """Bool [rows, cols]: the stored positions. Raises ShapeError as `unpack` does."""
        require_memory(self.shape, torch.bool, self.device)
        return reference.keep_mask(self.pattern, self.shape, self.tensors)

    def validate(self) -> None:
        """Check sizes and every index again; raises as the constructor does."""
        StoredWeight(self.pattern, self.shape, self.dtype, self.tensors)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> StoredWeight:
        """Return the same weight with its tensors on `device` and its values as `dtype`; the positions stay.

        To int8 and fp8 values are quantised (InvalidValueError where one is not finite), from these multiplied by their
        scale.
        """
        dtype = dtype or self.dtype
        require_value_dtype(dtype)
        moved = {name: tensor.to(device) for name, tensor in self.tensors.items()}
        return StoredWeight(self.pattern, self.shape, dtype, self._converted(moved, dtype))

    def _converted(self, tensors: Mapping[str, Tensor], dtype: torch.dtype) -> Mapping[str, Tensor]:
        if dtype is self.dtype:
            return tensors
        if is_quantised(self.dtype):
            tensors = quantised.dequantise(self.pattern, self.shape, tensors, dense_dtype(dtype))
        if is_quantised(dtype):
            return quantised.quantise(self.pattern, self.shape, tensors, dtype)
        return {name: t.to(dtype) if t.is_floating_point() else t for name, t in tensors.items()}


def require_value_dtype(dtype: torch.dtype) -> None:
    """Raise DtypeError unless stored values may be of `dtype`."""
    if dtype not in DTYPES and not is_quantised(dtype):
        raise DtypeError(f"weights of {dtype!r} are not supported", expected=_named((*DTYPES, *QUANTISED.values())))


def pack(dense: Tensor, pattern: Pattern | str, dtype: torch.dtype | None = None) -> StoredWeight:
    """Return the stored form of `dense` [rows, cols], which must satisfy `pattern`, with values of `dtype`.

    dtype: default that of `dense`; torch.int8 and torch.float8_e4m3fn quantise. A semi-structured tensor of
    torch stands for the matrix that it was made from (see `sparsecore.semi_structured`).

    Raises PatternError where a group of N:M has too many non-zeros, ShapeError or DtypeError for other tensors,
    InvalidValueError where a value to quantise is not finite.
    """
    pattern = parse(pattern)
    if type(dense) not in (Tensor, torch.nn.Parameter):
        from sparsecore import semi_structured  # it makes stored weights of this module

        if semi_structured.is_semi_structured(dense):
            stored = semi_structured.to_stored(dense, pattern)
            return stored if dtype in (None, stored.dtype) else stored.to(dtype=dtype)
    if dense.dim() != 2:
        raise ShapeError(
            f"a weight has {dense.dim()} dimensions: {tuple(dense.shape)}", expected="[out_features, in_features]"
        )
    if dense.dtype not in DTYPES:
        raise DtypeError(f"weights of {dense.dtype} are not supported", expected="float32, float16 or bfloat16")
    parts = backends.formats(dense.device).pack(dense.detach(), pattern)
    stored = StoredWeight.assemble(pattern, (dense.shape[0], dense.shape[1]), parts)
    return stored if dtype in (None, dense.dtype) else stored.to(dtype=dtype)


def from_tensors(tensors: Mapping[str, Tensor]) -> StoredWeight:
    """Recognise the kind of a stored weight from the names of its tensors and check it in full.

    The 2:4 and unstructured forms are those of compressed-tensors (sparse-24-bitmask, sparse-bitmask), whose names may
    begin with "weight." and whose `shape` may be [2, 1]. Raises CorruptFileError for a set of names that is no weight.
    """
    named = {name.removeprefix("weight."): tensor for name, tensor in tensors.items()}
    shape = _pair(named, "shape")
    names = set(named) - {"shape", "scales"}
    pattern: Pattern
    if names == {"blocks", "block_cols", "block_row_offsets", "block"}:
        pattern = Block(*_pair(named, "block"))
    elif names == {"compressed", "bitmask", "row_offsets"}:
        pattern = Unstructured()
    elif names == {"compressed", "bitmask"}:
        pattern = NM(2, 4)
    elif names in ({"compressed", "bitmask", "nm"}, {"compressed", "codes", "nm"}):
        pattern = NM(*_pair(named, "nm"))
    else:
        raise CorruptFileError(
            f"these tensors are no stored weight: {sorted(named)}",
            expected="shape, compressed and bitmask or codes (and nm, or row_offsets), or shape, block and the blocks; "
            "scales beside int8 or fp8 values",
        )
    values = named[_values_name(pattern)]
    plain = {"shape": torch.tensor(shape), **_tag(pattern)}
    return StoredWeight(pattern, shape, values.dtype, {k: plain.get(k, t) for k, t in named.items()})


def require_memory(shape: tuple[int, int], dtype: torch.dtype, device: torch.device) -> None:
    """Raise ShapeError for a dense matrix on the CPU that is larger than the memory of this machine."""
    needed = shape[0] * shape[1] * dtype.itemsize
    if device.type == "cpu" and needed > _MEMORY_BYTES:
        raise ShapeError(
            f"a dense weight {list(shape)} of {dtype} takes {needed} bytes",
            where="shape",
            expected=f"at most the {_MEMORY_BYTES} bytes of memory of this machine",
            hint="the file may be damaged",
        )


def find_pattern(dense: Tensor) -> Pattern | None:
    """Return the most specific pattern of a weight with zeros that saves bytes: N:M, then block, then unstructured.

    An N:M or block pattern counts only if at least three quarters of the values that it would store are not zero. None:
    no pattern makes the weight smaller, or its zeros take fewer bytes than one bit for each position.
    `pattern_search.look` tells more of it.
    """
    return look(dense).pattern


def _values_name(pattern: Pattern) -> str:
    return "blocks" if isinstance(pattern, Block) else "compressed"


def _tag(pattern: Pattern) -> dict[str, Tensor]:
    """Tensor that tells the pattern; 2:4 and unstructured are told by the names alone, as compressed-tensors does."""
    if isinstance(pattern, Block):
        return {"block": torch.tensor(pattern.sizes)}
    if isinstance(pattern, NM) and pattern != NM(2, 4):
        return {"nm": torch.tensor(pattern.sizes)}
    return {}


def _pair(tensors: Mapping[str, Tensor], name: str) -> tuple[int, int]:
    """Two sizes from an integer tensor of two elements."""
    tensor = tensors.get(name)
    if tensor is None or tensor.numel() != 2 or tensor.dtype not in (torch.int64, torch.int32):
        raise CorruptFileError(
            "the stored weight has no such pair of sizes" if tensor is None else "the sizes are not two integers",
            where=name,
            expected="an int64 tensor of 2 elements",
        )
    first, second = (int(value) for value in tensor.flatten())
    if first < 0 or second < 0:
        raise CorruptFileError(f"negative sizes: {first}, {second}", where=name)
    return first, second


def _layout(weight: StoredWeight) -> dict[str, tuple[torch.dtype, tuple[int | None, ...]]]:
    """Dtype and shape of every tensor of a form; None: any size."""
    scales = {"scales": (torch.float32, (weight.shape[0],))} if is_quantised(weight.dtype) else {}
    return {**_pattern_layout(weight), **scales}


def _pattern_layout(weight: StoredWeight) -> dict[str, tuple[torch.dtype, tuple[int | None, ...]]]:
    (rows, cols), pattern = weight.shape, weight.pattern
    if isinstance(pattern, Block):
        return {
            "shape": (torch.int64, (2,)),
            "block": (torch.int64, (2,)),
            "blocks": (weight.dtype, (None, pattern.rows, pattern.cols)),
            "block_cols": (torch.int32, (None,)),
            "block_row_offsets": (torch.int64, (-(-rows // pattern.rows) + 1,)),
        }
    bitmask = (torch.uint8, (rows, -(-cols // 8)))
    if isinstance(pattern, Unstructured):
        return {
            "shape": (torch.int64, (2,)),
            "compressed": (weight.dtype, (None,)),
            "bitmask": bitmask,
            "row_offsets": (torch.int64, (rows,)),
        }
    kept = pattern.kept_per_row(cols)
    codes = (torch.uint8, (rows, -(-kept * reference.code_bits(pattern.m) // 8)))
    return {
        "shape": (torch.int64, (2,)),
        "compressed": (weight.dtype, (rows, kept)),
        **({"codes": codes} if reference.uses_codes(pattern) else {"bitmask": bitmask}),
        **({} if pattern == NM(2, 4) else {"nm": (torch.int64, (2,))}),
    }


def _check_quantised(weight: StoredWeight) -> None:
    scales, name = weight.tensors["scales"], _values_name(weight.pattern)
    wrong = ~((scales > 0) & scales.isfinite())
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        raise InvalidValueError(
            f"the scale of row {row} is {float(scales[row])}", where="scales", expected="finite numbers above 0"
        )
    values = weight.tensors[name]
    if weight.dtype is torch.int8 and bool((values == -128).any()):
        raise InvalidValueError("an int8 value is -128", where=name, expected="values in [-127, 127]")
    if weight.dtype.is_floating_point and bool(values.isnan().any()):
        raise InvalidValueError("an fp8 value is NaN", where=name, expected="finite values")


def _as_bits(weight: StoredWeight) -> Mapping[str, Tensor]:
    """The tensors with fp8 values as int8, which have as many bits: what moves values does not ask what they mean."""
    if weight.dtype is not torch.float8_e4m3fn:
        return weight.tensors
    name = _values_name(weight.pattern)
    return {**weight.tensors, name: weight.tensors[name].view(torch.int8)}


def _from_bits(
    pattern: Pattern, shape: tuple[int, int], dtype: torch.dtype, tensors: Mapping[str, Tensor]
) -> StoredWeight:
    name = _values_name(pattern)
    return StoredWeight(pattern, shape, dtype, {**tensors, name: tensors[name].view(dtype)})


def _named(dtypes: Iterable[torch.dtype]) -> str:
    *most, last = (str(dtype) for dtype in dtypes)
    return f"{', '.join(most)} or {last}"


def _check_layout(weight: StoredWeight) -> None:
    layout = _layout(weight)
    if is_quantised(weight.dtype) and weight.shape[1] > _MOST_QUANTISED_COLS:
        raise ShapeError(
            f"a quantised weight of {weight.shape[1]} columns",
            where="shape",
            expected=f"at most {_MOST_QUANTISED_COLS}, so that sums are exact",
        )
    if set(layout) != set(weight.tensors):
        raise ShapeError(
            f"a stored {weight.pattern.name} weight has other tensors: {sorted(weight.tensors)}",
            expected=", ".join(sorted(layout)),
        )
    for name, (dtype, shape) in layout.items():
        tensor = weight.tensors[name]
        if tensor.dtype != dtype:
            raise DtypeError(f"{name} is {tensor.dtype}", where=name, expected=str(dtype))
        fits = tensor.dim() == len(shape) and all(w in (None, s) for w, s in zip(shape, tensor.shape, strict=False))
        if not fits:
            raise ShapeError(
                f"{name} is {list(tensor.shape)}",
                where=name,
                expected=f"{['any' if size is None else size for size in shape]} for a weight {list(weight.shape)}",
            )
    if isinstance(weight.pattern, Block) and len(weight.tensors["block_cols"]) != len(weight.tensors["blocks"]):
        raise IndexTableError("one column index a block", where="block_cols", expected="as many as blocks")
