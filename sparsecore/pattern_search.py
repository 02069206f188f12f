"""Looks at a dense weight for the pattern of its zeros: one that holds, one that almost holds, rows and columns gone.

The weight is read once, in strips of rows: its non-zero mask becomes bits, and all that is asked of it are counts over
those bits. A histogram of the 16-bit words gives the groups of every N:M with m up to 16 at once; what is left after
or-ing rows together gives the blocks. Scratch stays near two bytes an element of a strip.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sparsecore.backends.reference.formats import code_bits, uses_codes
from sparsecore.errors import ShapeError
from sparsecore.patterns import NM, Block, Pattern, Unstructured

__all__ = ["Finding", "Near", "look", "look_both_ways", "stored_bytes"]

# Tried in these orders: N:M from the sparsest on, blocks from the largest on.
_NM_CANDIDATES = tuple(NM(n, m) for n, m in ((1, 16), (1, 8), (2, 16), (1, 4), (2, 8), (4, 16), (1, 2), (2, 4), (4, 8)))
_BLOCK_CANDIDATES = (
    *(Block(side, side) for side in (64, 32, 16, 8, 4)),
    *(Block(*sizes) for side in (32, 16, 8, 4) for sizes in ((side, 1), (1, side))),
)
_FIT = 0.75
"""Share of the values that an N:M or block pattern would store which must not be zero."""
_DENSE = 0.99
"""Share of non-zeros from which on the rest of a structurally pruned weight counts as dense."""
_NEAR = 0.95
"""Share of the groups from which on an N:M pattern almost holds; a random mask of its density stays below 0.9."""
_STRAY_FILL, _MOST_STRAYS = 16, 0.05
"""A block with at most 1/16 of its values is a stray; blocks almost hold with at most one stray in twenty."""
_STRIP = 2**22
_WIDE = 64  # rows and columns are filled up to a multiple of the largest block

Bits = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Near:
    """A pattern that almost holds: in `share` of the groups (N:M) or of the blocks."""

    pattern: Pattern
    share: float

    def __str__(self) -> str:
        parts = "groups" if isinstance(self.pattern, NM) else "blocks"
        # Rounded down: what is broken must not read as 100 %.
        return f"{self.pattern.name} in {int(self.share * 1000) / 10:.1f} % of the {parts}"


@dataclass(frozen=True, slots=True)
class Finding:
    """What the zeros of a weight [rows, cols] look like.

    shape: rows, cols. nonzeros: values that are not zero.
    pattern: the one to store it in, None where no pattern saves bytes. packed_bytes: what it then takes, else the
    dense bytes.
    near: a more regular pattern that all but a few groups or blocks follow.
    zero_rows, zero_cols: rows (outputs) and columns (inputs) in which every value is zero.
    """

    shape: tuple[int, int]
    nonzeros: int
    pattern: Pattern | None
    packed_bytes: int
    near: Near | None
    zero_rows: tuple[int, ...]
    zero_cols: tuple[int, ...]

    @property
    def density(self) -> float:
        """Non-zeros over all values; 1 for a weight without elements."""
        elements = self.shape[0] * self.shape[1]
        return self.nonzeros / elements if elements else 1.0

    @property
    def explained(self) -> bool:
        """Whether the zero rows and columns are all there is: what is left of the weight is dense."""
        left = (self.shape[0] - len(self.zero_rows)) * (self.shape[1] - len(self.zero_cols))
        return self.nonzeros >= _DENSE * left and bool(self.zero_rows or self.zero_cols)

    def describe(self) -> str:
        """One line: "2:4", "2:4 in 99.7 % of the groups", "96 of 768 rows zero", "no zeros"."""
        rows, cols = self.shape
        if self.nonzeros in (rows * cols, 0):
            return "no zeros" if self.nonzeros or not rows * cols else "all zero"
        gone = (("rows", len(self.zero_rows), rows), ("columns", len(self.zero_cols), cols))
        parts = [f"{count} of {total} {name} zero" for name, count, total in gone if count]
        if not self.explained:
            found = self.near or (self.pattern.name if self.pattern is not None else None)
            parts[:0] = [str(found)] if found else []
        return ", ".join(parts) or "few zeros"


def look(dense: Tensor) -> Finding:
    """Return what the zeros of `dense` [rows, cols] look like; zeros of either sign count.

    `pattern` is the most specific one that saves bytes: N:M, then block, then unstructured. An N:M or block pattern
    counts only if at least three quarters of the values that it would store are not zero.
    """
    if dense.dim() != 2:
        raise ShapeError(
            f"a weight has {dense.dim()} dimensions: {tuple(dense.shape)}", expected="[out_features, in_features]"
        )
    counts = _Counts(*dense.shape)
    step = max(_STRIP // max(dense.shape[1], 1) // _WIDE, 1) * _WIDE
    for start in range(0, dense.shape[0], step):
        counts.add(dense.detach()[start : start + step])
    pattern = counts.best(dense.element_size())
    dense_bytes = dense.numel() * dense.element_size()
    return Finding(
        shape=(dense.shape[0], dense.shape[1]),
        nonzeros=counts.nonzeros,
        pattern=pattern,
        packed_bytes=dense_bytes if pattern is None else counts.bytes(pattern, dense.element_size()),
        near=None if isinstance(pattern, NM) else counts.near(),
        zero_rows=counts.zero_rows(),
        zero_cols=counts.zero_cols(),
    )


def look_both_ways(dense: Tensor) -> tuple[Finding, bool]:
    """Return what `look` finds, and whether it is in the transposed weight.

    That is [in_features, out_features], as transformers' Conv1D has it, where only so an N:M pattern holds or almost.
    """
    found = look(dense)
    if isinstance(found.pattern, NM) or found.pattern is None or (found.near and isinstance(found.near.pattern, NM)):
        return found, False
    turned = look(dense.t())
    regular = isinstance(turned.pattern, NM) or (turned.near is not None and isinstance(turned.near.pattern, NM))
    return (turned, True) if regular else (found, False)


def stored_bytes(pattern: Pattern, shape: tuple[int, int], kept: int, size: int) -> int:
    """Bytes of the stored form (docs/formats.md) of a weight [rows, cols] with values of `size` bytes.

    kept: blocks of a block pattern, non-zeros of an unstructured one; of N:M the shape says it.
    """
    rows, cols = shape
    if isinstance(pattern, Block):
        return kept * (pattern.rows * pattern.cols * size + 4) + 8 * (-(-rows // pattern.rows) + 1) + 32
    if isinstance(pattern, Unstructured):
        return kept * size + rows * (-(-cols // 8) + 8) + 16
    values = pattern.kept_per_row(cols)
    bits = values * code_bits(pattern.m) if uses_codes(pattern) else cols
    return rows * (values * size + -(-bits // 8)) + (16 if pattern == NM(2, 4) else 32)


class _Counts:
    """Sums over the strips of one weight."""

    def __init__(self, rows: int, cols: int) -> None:
        self.rows, self.cols, self.nonzeros = rows, cols, 0
        self._words = np.zeros(2**16, np.int64)
        self._kept = dict.fromkeys(_BLOCK_CANDIDATES, 0)
        self._strays = {block: 0 for block in _BLOCK_CANDIDATES if block.rows == block.cols >= 8}
        self._rows: list[NDArray[np.bool_]] = []
        self._cols = np.zeros(-(-cols // _WIDE) * _WIDE // 8, np.uint8)

    def add(self, strip: Tensor) -> None:
        mask = (strip != 0).cpu().numpy()
        high, wide = -(-len(mask) // _WIDE) * _WIDE, len(self._cols)
        bits = np.zeros((high, wide), np.uint8)
        bits[: len(mask), : -(-self.cols // 8)] = np.packbits(mask, axis=1, bitorder="little")
        self._rows.append(np.bitwise_or.reduce(bits[: len(mask)], axis=1) != 0)
        self._cols |= np.bitwise_or.reduce(bits, axis=0)
        self._words += np.bincount(bits.view(np.uint16).ravel(), minlength=2**16)
        fill = np.bitwise_count(bits)
        self.nonzeros += int(fill.sum(dtype=np.int64))
        self._count_blocks(bits)
        self._count_strays(fill)

    def _count_blocks(self, bits: Bits) -> None:
        merged = {1: bits}
        for side in (4, 8, 16, 32, 64):
            merged[side] = np.bitwise_or.reduce(bits.reshape(-1, side, bits.shape[1]), axis=1)
        for block in self._kept:
            self._kept[block] += _occupied(merged[block.rows], block.cols)

    def _count_strays(self, fill: Bits) -> None:
        for block in self._strays:
            side = block.rows
            sums: NDArray[Any] = fill.reshape(len(fill) // side, side, -1, side // 8).sum((1, 3), dtype=np.uint16)
            self._strays[block] += int(((sums > 0) & (sums <= side * side // _STRAY_FILL)).sum())

    def zero_rows(self) -> tuple[int, ...]:
        any_ = np.concatenate(self._rows) if self._rows else np.zeros(0, np.bool_)
        return tuple(np.flatnonzero(~any_).tolist())

    def zero_cols(self) -> tuple[int, ...]:
        any_ = np.unpackbits(self._cols, bitorder="little")[: self.cols]
        return tuple(np.flatnonzero(any_ == 0).tolist()) if self.rows else ()

    def bytes(self, pattern: Pattern, size: int) -> int:
        kept = self._kept[pattern] if isinstance(pattern, Block) else self.nonzeros
        return stored_bytes(pattern, (self.rows, self.cols), kept, size)

    def best(self, size: int) -> Pattern | None:
        """The most specific pattern that saves bytes; None also where the zeros take less than a bit a position."""
        elements = self.rows * self.cols
        if (elements - self.nonzeros) * size * 8 <= elements:
            return None
        for nm in _NM_CANDIDATES:
            if self._fills(nm) and not self._broken(nm):
                return nm if self.bytes(nm, size) < elements * size else None
        for block in _BLOCK_CANDIDATES:
            values = self._kept[block] * block.rows * block.cols
            if self.nonzeros >= _FIT * values and self.bytes(block, size) < elements * size:
                return block
        return Unstructured() if self.bytes(Unstructured(), size) < elements * size else None

    def near(self) -> Near | None:
        """The sparsest N:M, else the largest block, that almost holds."""
        for nm in _NM_CANDIDATES:
            share = 1 - self._broken(nm) / max(self.rows * -(-self.cols // nm.m), 1)
            if self._fills(nm) and _NEAR <= share < 1:
                return Near(nm, share)
        for block, strays in self._strays.items():
            total = -(-self.rows // block.rows) * -(-self.cols // block.cols)
            regular = (self._kept[block] - strays) * block.rows * block.cols
            if 0 < strays <= _MOST_STRAYS * total and regular and self.nonzeros >= _FIT * regular:
                return Near(block, 1 - strays / total)
        return None

    def _fills(self, nm: NM) -> bool:
        return self.nonzeros >= _FIT * nm.kept_per_row(self.cols) * self.rows

    def _broken(self, nm: NM) -> int:
        """Groups with more than n non-zeros; a short last group of the row is one too."""
        return int(self._words @ (_group_counts(nm.m) > nm.n).sum(axis=1))


@cache
def _group_counts(m: int) -> NDArray[np.uint8]:
    """Set bits of each group of m of every 16-bit word, [65536, 16 / m]."""
    words = np.arange(2**16, dtype=np.uint16)
    groups = [np.bitwise_count((words >> np.uint16(start)) & np.uint16(2**m - 1)) for start in range(0, 16, m)]
    return np.stack(groups, axis=1)


def _occupied(bits: Bits, cols: int) -> int:
    """Runs of `cols` bits, aligned, in which any is set."""
    if cols == 1:
        return int(np.bitwise_count(bits).sum(dtype=np.int64))
    if cols == 4:
        return int(np.count_nonzero(bits & 15) + np.count_nonzero(bits & 240))
    return int(np.count_nonzero(bits.view(f"u{cols // 8}")))
