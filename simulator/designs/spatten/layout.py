"""Where the rows of an op lie in DRAM."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from simulator.engine.interface import Rows, row_bytes
from simulator.workload.ir import AttentionOp

__all__ = ["Layout"]


@dataclass(frozen=True, slots=True)
class Layout:
    """Regions of the matrices of one op, each at a multiple of `region_bytes`, K/V head by K/V head.

    A region holds one matrix of one head, row by row: the high bits of K, the low bits of K, V, Q, or the output.
    Rows start at whole bytes, bits of a row are packed.

    Parameters
    ----------
    positions: row numbers of the kept keys inside a region.
    rows: rows in a region (the context, where rows keep their original positions).
    heads: heads that share a K/V head, at most.
    align_bytes: rows of K and V start at multiples of this.
    fused_bits: rows of K's high bits of this width lie as one with those of the next K/V head (0 with 1, 2 with 3 and
        so on), and are read with the first of the two; None: never.
    """

    op: AttentionOp
    region_bytes: int
    output_bits: int
    positions: Rows
    rows: int
    heads: int
    align_bytes: int = 1
    fused_bits: int | None = None

    @property
    def fused(self) -> bool:
        """Whether rows of K's high bits are those of two heads."""
        return self.op.key_msb_bits == self.fused_bits

    @property
    def high_bytes(self) -> int:
        """Bytes of a row of K's high bits, of both heads where they are fused."""
        return row_bytes(self.op.head_dim, self.op.key_msb_bits) * (2 if self.fused else 1)

    @property
    def low_bytes(self) -> int:
        """Bytes of a row of K's low bits."""
        return row_bytes(self.op.head_dim, self.op.key_lsb_bits)

    @property
    def value_bytes(self) -> int:
        """Bytes of a row of V."""
        return row_bytes(self.op.head_dim, self.op.value_bits)

    @property
    def query_bytes(self) -> int:
        """Bytes of a row of Q."""
        return row_bytes(self.op.head_dim, self.op.query_bits)

    @property
    def output_bytes(self) -> int:
        """Bytes of a row of the output."""
        return row_bytes(self.op.head_dim, self.output_bits)

    def _bases(self, group: int) -> tuple[int, ...]:
        """Starts of the regions of K's high bits, K's low bits, V, Q and the output."""
        queries = self.op.queries * self.heads
        sizes = (
            self.rows * self._stride(self.high_bytes),
            self.rows * self._stride(self.low_bytes),
            self.rows * self._stride(self.value_bytes),
            queries * self.query_bytes,
            queries * self.output_bytes,
        )
        strides = [-(-max(size, 1) // self.region_bytes) * self.region_bytes for size in sizes]
        return tuple(accumulate(strides[:-1], initial=group * sum(strides)))

    def high(self, group: int) -> Rows:
        """Addresses of the kept rows of K's high bits; none for a head whose rows are read with those before."""
        rows = self.positions[:0] if self.fused and group % 2 else self.positions
        return self._bases(group)[0] + rows * self._stride(self.high_bytes)

    def low(self, group: int) -> Rows:
        """Addresses of the kept rows of K's low bits."""
        return self._bases(group)[1] + self.positions * self._stride(self.low_bytes)

    def values(self, group: int, chosen: Rows) -> Rows:
        """Addresses of the V rows whose numbers among the kept ones are `chosen`."""
        return self._bases(group)[2] + self.positions[chosen] * self._stride(self.value_bytes)

    def query(self, group: int) -> Rows:
        """Address of the queries of a group, one block."""
        return np.array([self._bases(group)[3]], dtype=np.int64)

    def output(self, group: int) -> Rows:
        """Address of the outputs of a group, one block."""
        return np.array([self._bases(group)[4]], dtype=np.int64)

    def appended(self, group: int) -> tuple[tuple[Rows, int], ...]:
        """Addresses and lengths of the K (both planes) and V rows of a new token, at the end of the context."""
        last = max(self.rows - 1, 0)
        sizes = (self.high_bytes, self.low_bytes, self.value_bytes)
        planes = zip(self._bases(group)[:3], sizes, strict=True)
        found = [(np.array([base + last * self._stride(size)], dtype=np.int64), size) for base, size in planes if size]
        if self.fused and group % 2:  # written with the head before
            found[0] = (found[0][0][:0], found[0][1])
        return tuple(found)

    def _stride(self, size: int) -> int:
        """Bytes from one row to the next."""
        return -(-size // self.align_bytes) * self.align_bytes
