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
    """

    op: AttentionOp
    region_bytes: int
    output_bits: int
    positions: Rows
    rows: int
    heads: int

    @property
    def high_bytes(self) -> int:
        """Bytes of a row of K's high bits."""
        return row_bytes(self.op.head_dim, self.op.key_msb_bits)

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
            self.rows * self.high_bytes,
            self.rows * self.low_bytes,
            self.rows * self.value_bytes,
            queries * self.query_bytes,
            queries * self.output_bytes,
        )
        strides = [-(-max(size, 1) // self.region_bytes) * self.region_bytes for size in sizes]
        return tuple(accumulate(strides[:-1], initial=group * sum(strides)))

    def high(self, group: int) -> Rows:
        """Addresses of the kept rows of K's high bits."""
        return self._bases(group)[0] + self.positions * self.high_bytes

    def low(self, group: int) -> Rows:
        """Addresses of the kept rows of K's low bits."""
        return self._bases(group)[1] + self.positions * self.low_bytes

    def values(self, group: int, chosen: Rows) -> Rows:
        """Addresses of the V rows whose numbers among the kept ones are `chosen`."""
        return self._bases(group)[2] + self.positions[chosen] * self.value_bytes

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
        return tuple((np.array([base + last * size], dtype=np.int64), size) for base, size in planes if size)
