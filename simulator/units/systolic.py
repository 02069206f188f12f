"""A systolic array: how long a product keeps it in each dataflow, and what it reads and writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Dataflow", "Product", "SystolicArray"]

Dataflow = Literal["ws", "os", "is"]
Product = tuple[int, int, int]  # m, k, n: [m x k] times [k x n]


@dataclass(frozen=True, slots=True)
class SystolicArray:
    """`rows` x `columns` multipliers; one operand or the outputs stay, the others stream through.

    A product is cut in folds. `ws`: rows x columns weights stay, the m rows of the input stream; `is`: the
    inputs stay, the n columns of the weights stream; `os`: outputs stay, k products are added up in each cell. With the
    two sizes that are laid over the array Sr and Sc and the streamed one T there are ceil(Sr / rows) ceil(Sc / columns)
    folds, each from its first operand to its last result

        T + rows + columns - 2            os
        T + 2 rows + columns - 2          ws, is: `rows` cycles before that, to load what stays

    Formula: the timing of SCALE-Sim v3 (Samajdar et al., ISPASS 2020; github.com/scalesim-project/SCALE-Sim), which
    runs one fold after the other.

    Parameters
    ----------
    overlap: folds overlap instead: a second set of registers is loaded (or, `os`, emptied) beside the stream of a fold,
        so that it keeps the array for max(T, rows) cycles and only the last one drains (Jouppi et al., ISCA 2017: the
        matrix unit of the TPU holds two tiles of weights to hide the loading).
    """

    rows: int
    columns: int
    dataflow: Dataflow = "ws"
    overlap: bool = False

    @property
    def multipliers(self) -> int:
        """Multiply-adds per cycle at most."""
        return self.rows * self.columns

    def mapped(self, product: Product) -> tuple[int, int, int]:
        """Return Sr, Sc and T: what lies along the rows, along the columns, and in time."""
        m, k, n = product
        return {"ws": (k, n, m), "os": (m, n, k), "is": (k, m, n)}[self.dataflow]

    def granule(self) -> Product:
        """Return the sizes (m, k, n) of a tile that fills the array once; 1 along the streamed one."""
        rows, columns = self.rows, self.columns
        return {"ws": (1, rows, columns), "os": (rows, 1, columns), "is": (columns, rows, 1)}[self.dataflow]

    def folds(self, product: Product) -> int:
        """Return how many folds a product is cut in."""
        down, across, _ = self.mapped(product)
        return -(-down // self.rows) * -(-across // self.columns)

    def occupied_cycles(self, product: Product) -> int:
        """Cycles that a product keeps the array: no other can use them."""
        streamed = self.mapped(product)[2]
        if self.overlap:
            each = max(streamed, self.rows)
        else:
            each = streamed + self.rows + self.columns - 2 + (0 if self.dataflow == "os" else self.rows)
        return self.folds(product) * each

    def drain_cycles(self) -> int:
        """Cycles from when the array is free again to the last result; 0 where folds do not overlap."""
        return self.rows + self.columns - 2 if self.overlap else 0

    def stall_free_cycles(self, product: Product) -> int:
        """Cycles of a product whose operands are always there.

        Without overlap SCALE-Sim's "Total Cycles": the number of the last cycle, counted from 0.
        """
        return max(self.occupied_cycles(product) + (self.drain_cycles() if self.overlap else -1), 1)

    def accesses(self, product: Product) -> tuple[int, int, int, int]:
        """Return elements of inputs and of weights that are read, and partial sums that are written and read again.

        What streams is read once for each fold across it, what stays once; sums leave the array with each fold along k.
        """
        m, k, n = product
        down, across, _ = self.mapped(product)
        vertical, horizontal = -(-down // self.rows), -(-across // self.columns)
        sums = 1 if self.dataflow == "os" else vertical
        inputs = m * k * (1 if self.dataflow == "is" else horizontal)
        weights = k * n * {"ws": 1, "os": vertical, "is": horizontal}[self.dataflow]
        return inputs, weights, m * n * sums, m * n * (sums - 1)
