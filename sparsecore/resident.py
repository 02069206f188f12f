"""The resident form: a weight in the layout of the running machine, one 1-D uint8 tensor with a checked header.

Every index is checked once, when a tensor is first seen. A tensor is remembered by weak reference together with its
version counter, so that a later call costs O(1) and notices a change in place.
"""

from __future__ import annotations

import math
import weakref
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sparsecore.backends.reference.formats import code_bits, uses_codes
from sparsecore.dtypes import is_quantised
from sparsecore.errors import ResidentError, UnsupportedError
from sparsecore.fallback import cuda_trouble, require_allowed
from sparsecore.formats import StoredWeight
from sparsecore.memory import zeros
from sparsecore.native import DTYPE_NAMES, Span, core, span
from sparsecore.patterns import NM, Block, Pattern, Unstructured

__all__ = ["Expected", "Resident", "check", "make", "place", "stored_beside", "to_stored"]

# Sections of each form that the compiled module reads; sizes travel as numbers.
_SECTIONS = {
    "nm": ("compressed", "bitmask", "codes", "scales"),
    "bitmask": ("compressed", "bitmask", "row_offsets", "scales"),
    "block": ("blocks", "block_cols", "block_row_offsets", "scales"),
}
_ALIGNMENT = 64  # bytes
_DTYPES = {name: dtype for dtype, name in DTYPE_NAMES.items()}


# What a caller takes a resident weight for: (kind, rows, cols, first size, second size); kind "" is any kind and sizes.
Expected = tuple[str, int, int, int, int]


@dataclass(frozen=True, slots=True)
class Resident:
    """What the header of a resident tensor says, after all of it was checked.

    plain: whether the layout is the stored form itself.
    """

    pattern: Pattern
    shape: tuple[int, int]
    dtype: torch.dtype
    isa: str
    kept: int
    key: Expected
    span: Span
    layout: int

    @property
    def plain(self) -> bool:
        """Whether the sections are the stored tensors themselves."""
        return self.layout == 0


_seen: dict[int, tuple[weakref.ref[Tensor], int, Resident]] = {}


def make(stored: StoredWeight, target: str | None = None) -> Tensor:
    """Return the resident tensor (uint8, 1-D) of a weight on the CPU.

    target: an instruction set, by default that of this process, or "cuda" for the layout of the GPU kernels; what has
    none there gets the portable one, too: weights of a type or pattern without kernels, and those so small or narrow
    that they would not fill the tiles.
    """
    target = target or core.runtime_isa()
    sections = {k: span(t) for k, t in stored.tensors.items() if k in _SECTIONS[stored.pattern.kind]}
    header = (stored.pattern.kind, *stored.shape, *stored.pattern.sizes, sections, target)
    resident = zeros((core.resident_size(*header),), torch.uint8)
    core.resident_make(*header, span(resident))
    return resident


def place(stored: StoredWeight, isa: str | None = None, device: torch.device | str | None = None) -> tuple[str, Tensor]:
    """Return (instruction set of the layout, resident tensor) of a weight on `device`, by default its own.

    On the CPU the layout is for `isa`; a CUDA device gets that of its kernels ("cuda") where they have one (see
    `make`), any other device the portable one. Raises CudaError for a CUDA device whose kernels cannot run, unless the
    user allows torch to compute there (`sparsecore.fallback`).
    """
    target = stored.device if device is None else torch.device(device)
    layout = isa if target.type == "cpu" else _layout_on(target)
    host = make(stored.to("cpu"), layout)
    with torch.inference_mode(False):
        resident = host.to(target)
    if target.type not in ("cpu", "cuda"):
        return check(resident).isa, resident
    # Made here from a stored form that was validated in full: there is nothing to look for in it, and a first call may
    # already be captured in a CUDA graph.
    return _remember(resident, replace(_describe(host), span=span(resident))).isa, resident


def _layout_on(device: torch.device) -> str:
    if device.type != "cuda":
        return "portable"
    trouble = cuda_trouble(device.index)
    if trouble is not None:
        require_allowed(trouble)
    return "cuda" if trouble is None else "portable"


def check(resident: Tensor, expected: Expected | None = None) -> Resident:
    """Return what the header says: after a check of every index at first sight, in O(1) later.

    Raises ResidentError if the tensor is damaged, was modified in place since, is no resident tensor or not `expected`.
    """
    entry = _seen.get(id(resident))
    if entry is None or entry[0]() is not resident:
        record = _check_fully(resident)
    else:
        record = entry[2]
        if entry[1] != resident._version or record.span[0] != resident.data_ptr():
            raise ResidentError(
                "a resident weight was modified in place",
                expected="the tensor as PackedWeight made it",
                hint="change the dense weight and pack it again",
            )
    if expected is not None and expected != record.key and (expected[0] or expected[1:3] != record.shape):
        raise ResidentError(
            f"the resident weight is {record.pattern.name} {list(record.shape)}",
            where="packed",
            expected=" ".join(str(field) for field in expected if field != ""),
        )
    return record


def to_stored(resident: Tensor, expected: Expected | None = None) -> StoredWeight:
    """Return the stored form of a resident weight on any device, as CPU tensors. Raises as `check` does."""
    record = check(resident, expected)
    parts = {name: torch.zeros(shape, dtype=dtype) for name, (dtype, shape) in _sections(record).items()}
    core.resident_to_stored(span(resident.cpu()), {name: span(part) for name, part in parts.items()})
    return StoredWeight.assemble(record.pattern, record.shape, parts)


def stored_beside(resident: Tensor, expected: Expected | None = None) -> StoredWeight:
    """`to_stored` on the weight's own device; where the layout is the stored form, on the same memory."""
    record = check(resident, expected)
    if resident.is_cpu or not record.plain:
        return to_stored(resident, expected).to(resident.device)
    return StoredWeight.assemble(record.pattern, record.shape, _views(resident, record))


def _views(resident: Tensor, record: Resident) -> dict[str, Tensor]:
    """The tensors of a weight whose layout is the stored form: sections in this order, the last one at the end."""
    sections = _sections(record)
    sizes = [math.prod(shape) * dtype.itemsize for dtype, shape in sections.values()]
    aligned = [-(-size // _ALIGNMENT) * _ALIGNMENT for size in sizes]
    start = resident.numel() - sum(aligned)
    views = {}
    for (name, (dtype, shape)), size, step in zip(sections.items(), sizes, aligned, strict=True):
        views[name] = resident[start : start + size].view(dtype).view(shape)
        start += step
    return views


def _check_fully(resident: Tensor) -> Resident:
    if resident.dtype is not torch.uint8 or resident.dim() != 1 or not resident.is_contiguous():
        raise ResidentError(
            f"not a resident weight: {resident.dtype}, shape {list(resident.shape)}",
            expected="the contiguous 1-D uint8 tensor of PackedWeight.resident",
        )
    if resident.device.type == "meta":
        raise ResidentError("the resident weight is on meta, without values", expected="a device with memory")
    if resident.is_cuda and torch.cuda.is_current_stream_capturing():
        raise UnsupportedError(
            "a resident weight is seen for the first time while a CUDA graph is captured",
            where="packed",
            expected="the tensor as PackedWeight made it, or one that a call has checked before",
            hint="call the layer once before the capture",
        )
    record = _describe(resident)
    core.resident_validate(span(resident.cpu()))
    return _remember(resident, record)


def _describe(resident: Tensor) -> Resident:
    """What the header says; sections are not looked into."""
    info = core.resident_info(span(resident.cpu()))
    pattern, shape = _pattern(info["kind"], info["p0"], info["p1"]), (info["rows"], info["cols"])
    isa = "cuda" if info["layout"] == "cuda" else info["isa"]
    key = (pattern.kind, *shape, *pattern.sizes)
    return Resident(pattern, shape, _DTYPES[info["dtype"]], isa, info["kept"], key, span(resident), info["layout_id"])


def _remember(resident: Tensor, record: Resident) -> Resident:
    """Keep `record` for later calls; an inference tensor has no version counter and is checked anew each time."""
    if not resident.is_inference():
        name = id(resident)
        _seen[name] = (weakref.ref(resident, lambda _: _forget(name)), resident._version, record)
    return record


def _forget(key: int) -> None:
    entry = _seen.get(key)
    # The id may already belong to a newer tensor.
    if entry is not None and entry[0]() is None:
        del _seen[key]


def _pattern(kind: str, first: int, second: int) -> Pattern:
    if kind == "nm":
        return NM(first, second)
    return Block(first, second) if kind == "block" else Unstructured()


def _sections(info: Resident) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    """Dtype and shape of the stored tensors of a resident weight."""
    scales = {"scales": (torch.float32, (info.shape[0],))} if is_quantised(info.dtype) else {}
    return {**_pattern_sections(info), **scales}


def _pattern_sections(info: Resident) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    (rows, cols), pattern = info.shape, info.pattern
    if isinstance(pattern, Block):
        return {
            "blocks": (info.dtype, (info.kept, *pattern.sizes)),
            "block_cols": (torch.int32, (info.kept,)),
            "block_row_offsets": (torch.int64, (-(-rows // pattern.rows) + 1,)),
        }
    bitmask = (torch.uint8, (rows, -(-cols // 8)))
    if isinstance(pattern, Unstructured):
        return {
            "compressed": (info.dtype, (info.kept,)),
            "bitmask": bitmask,
            "row_offsets": (torch.int64, (rows,)),
        }
    kept = pattern.kept_per_row(cols)
    values = (info.dtype, (rows, kept))
    if not uses_codes(pattern):
        return {"compressed": values, "bitmask": bitmask}
    return {"compressed": values, "codes": (torch.uint8, (rows, -(-kept * code_bits(pattern.m) // 8)))}
