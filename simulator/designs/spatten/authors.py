"""The behaviour model for BERT that SpAtten's authors released, as a formula.

Source: spatten_hardware/simulator/src/bert.cpp in github.com/mit-han-lab/spatten. The program reads one row for each
kept head of each layer and adds, for a layer, four parts that do not overlap. All divisions are of whole numbers:

    rows_wide = multipliers / D                words = (n + rows_wide - 1) / rows_wide
    DRAM  = sum over heads and over K and V of ceil(t / channels),  t = words x rows_wide x D x bits / 8 / 32
    fill  = sum over heads of L x words        (L: the length of the sentence, n: the rows kept of it)
    drain = 11 + (87 + words) + 1 + 1 + 3      once, for the last head
    top-k = for each head with a selection: words + sum over rounds (n_i / P + 4) + ceil(k / rows_wide)

Widths of 6 bits, and those above 8, are taken as 8. The rounds follow from random numbers whose sequence depends on the
C++ library, and whose pivot may lie one element behind the array; here their mean is taken, or counts that are given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from simulator.errors import UnsupportedError
from simulator.settings import Settings
from simulator.units.topk import quick_select_mean
from simulator.workload.ir import AttentionOp

if TYPE_CHECKING:
    from simulator.designs.spatten.settings import SpAttenSettings  # which has AuthorsSettings

__all__ = ["AuthorsSettings", "HeadRow", "LayerCycles", "Program", "program_cycles", "rows_of"]

TRANSACTION_BYTES = 32
SCORES = 1 + 1 + 9  # SRAM, multiplier, reduction tree
SOFTMAX = 7 + 21 + 23 + 29 + 7  # dequantise, exponent, accumulate, divide, quantise
SKIPPED = 1 + 1  # the decision on low bits and the selection of V rows, which it does not model
OUTPUTS = 1 + 1 + 1  # SRAM, multiplier, accumulator
ROUND = 3 + 1  # comparators, zero eliminator and FIFO; the state after a round

Rounds = Literal["quick_select", "as_released"]


class AuthorsSettings(Settings):
    """What the program has beside the sizes of the machine (channels and multipliers are those of the design)."""

    topk_parallelism: int = Field(ge=1)
    topk_rounds: Rounds = Field(description="mean of a quick-select, or of the loop as it is written")
    topk_heads: Literal["one", "all"] = Field(description="heads whose row asks for the selection of a layer")


@dataclass(frozen=True, slots=True)
class HeadRow:
    """One row of the program's input; `select` is what its columns if_topk and topk ask for, or None.

    `rounds` are the candidates in each round of the selection, where they are known.
    """

    head_dim: int
    length: int
    kept: int
    key_bits: int
    value_bits: int
    select: int | None = None
    rounds: Sequence[int] | None = None


@dataclass(frozen=True, slots=True)
class LayerCycles:
    """The four parts of a layer; a selection's part is a mean and need not be whole."""

    dram: int
    fill: int
    drain: int
    topk: float

    @property
    def total(self) -> int:
        """Their sum, to the nearest cycle."""
        return round(self.dram + self.fill + self.drain + self.topk)


@dataclass(frozen=True, slots=True)
class Program:
    """The program with its arguments; the defaults are its own."""

    channels: int = 16
    multipliers: int = 512
    topk_parallelism: int = 4
    topk_rounds: Rounds = "quick_select"

    def layer(self, rows: Sequence[HeadRow]) -> LayerCycles:
        """Return the cycles of one layer, given its heads; a layer without rows is never run and takes none.

        Raises
        ------
        UnsupportedError: a head wider than the array (the program divides by zero).
        """
        if not rows:
            return LayerCycles(0, 0, 0, 0.0)
        dram = sum(self._transfer(row, bits) for row in rows for bits in (row.key_bits, row.value_bits))
        fill = sum(row.length * self._words(row) for row in rows)
        drain = SCORES + (SOFTMAX + self._words(rows[-1])) + SKIPPED + OUTPUTS
        return LayerCycles(dram, fill, drain, sum(self._select(row) for row in rows))

    def _rows_wide(self, row: HeadRow) -> int:
        if row.head_dim > self.multipliers:
            raise UnsupportedError(
                f"heads of size {row.head_dim} are wider than the {self.multipliers} multipliers of an array",
                where="--fidelity authors",
                expected="heads no wider than array.multipliers: the authors' program folds no row",
                hint="--fidelity event or analytical",
            )
        return self.multipliers // row.head_dim

    def _words(self, row: HeadRow) -> int:
        return -(-row.kept // self._rows_wide(row))

    def _transfer(self, row: HeadRow, bits: int) -> int:
        stored = 8 if bits == 6 or bits > 8 else bits
        elements = self._words(row) * self._rows_wide(row) * row.head_dim
        return -(-(elements * stored // 8 // TRANSACTION_BYTES) // self.channels)

    def _select(self, row: HeadRow) -> float:
        if row.select is None:
            return 0.0
        if row.rounds is not None:
            rounds = float(sum(left // self.topk_parallelism + ROUND for left in row.rounds))
        elif self.topk_rounds == "as_released":
            rounds = _as_released(row.kept, row.select, self.topk_parallelism)
        else:
            rounds = _quick_select(row.kept, row.select, self.topk_parallelism)
        return self._words(row) + rounds + -(-row.select // self._rows_wide(row))


def _quick_select(n: int, k: int, parallelism: int) -> float:
    """Mean cycles of the rounds for the k-th of n values; a target that is not among them empties the list."""
    if 0 < k <= n:
        return quick_select_mean(n, k, parallelism, ROUND, whole_words=True)
    return float(_emptying(n, parallelism)[n])


def _as_released(n: int, k: int, parallelism: int) -> float:
    """Mean cycles of the rounds of the loop as it is written, with pivots among the candidates.

    It ends at once if the first pivot is the k-th smallest. Otherwise it keeps the side without it (the smaller values
    where the target is larger, and the reverse), after which the target is out of range and only smaller values are
    kept, until none are left: with W(m) the mean of that,
    c(n) + (1 / n) [ sum over m < k - 1 of W(m) + sum over m < n - k of W(m) ],  c(n) = n / P + 4.
    """
    if n == 0:
        return 0.0
    left = _emptying(n, parallelism)
    return n // parallelism + ROUND + float(left[: max(k - 1, 0)].sum() + left[: max(n - k, 0)].sum()) / n


@lru_cache(maxsize=64)
def _emptying(n: int, parallelism: int) -> npt.NDArray[np.float64]:
    """Return W(0) .. W(n): mean cycles until nothing is left if the values below the pivot are kept in each round."""
    means, total = np.zeros(n + 1), 0.0
    for size in range(1, n + 1):
        means[size] = size // parallelism + ROUND + total / size
        total += means[size]
    return means


def program_cycles(op: AttentionOp, settings: SpAttenSettings, channels: int) -> LayerCycles:
    """Return what the program says for `op` on a machine with these settings; raises as `rows_of` and `layer`.

    A layer drains once, behind its last head: not where the next op has more of them.
    """
    own = settings.authors
    program = Program(channels, settings.array.multipliers, own.topk_parallelism, own.topk_rounds)
    layer = program.layer(rows_of(op, own))
    return replace(layer, drain=0) if op.continues else layer


def rows_of(op: AttentionOp, settings: AuthorsSettings) -> list[HeadRow]:
    """Return the program's input for `op`: one row for each kept head, of the length that the sentence had at first.

    Raises
    ------
    UnsupportedError: the program has no generation, grouped heads, low bits of K or local V pruning.
    """
    why = _beyond(op)
    if why is not None:
        raise UnsupportedError(
            f"the authors' model cannot express layer {op.layer}: {why}",
            where="--fidelity authors",
            expected="summarisation, a K/V head for each head, K read in one pass, all kept V rows used",
            hint="--fidelity event or analytical; --phase summarise where the model generates",
        )
    select = op.token_select[1] if op.token_select else None
    flagged = len(op.heads) if settings.topk_heads == "all" else 1
    return [
        HeadRow(op.head_dim, op.context, op.keys, op.key_msb_bits, op.value_bits, select if head < flagged else None)
        for head in range(len(op.heads))
    ]


def _beyond(op: AttentionOp) -> str | None:
    """Return what the program cannot express about `op`, or None."""
    if op.phase == "generate":
        return "it generates a token (the program is for BERT)"
    if op.kv_heads != len(op.heads):
        return f"{len(op.heads)} heads share {op.kv_heads} K/V heads"
    if op.recomputed:
        return f"{op.recomputed} queries are computed again with the low bits of K"
    if op.local_values < op.keys or any(count < op.keys for count in op.values):
        return "V rows are selected for each query"
    return None
