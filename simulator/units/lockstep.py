"""A pipeline whose modules advance together, as in A3 (T. J. Ham et al., HPCA 2020)."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["A3_BASE", "LockstepPipeline"]


@dataclass(frozen=True, slots=True)
class LockstepPipeline:
    """Modules that each take one of n rows a cycle and hand a whole query on when the slowest of them is done.

    Parameters
    ----------
    latencies: cycles of each module from a row to its result, beyond one row a cycle.
    """

    latencies: tuple[int, ...]

    def cycles_per_query(self, rows: int) -> int:
        """Cycles between two queries: rows + the longest latency."""
        return rows + max(self.latencies)

    def latency(self, rows: int) -> int:
        """Cycles of one query through all modules: one interval in each."""
        return len(self.latencies) * self.cycles_per_query(rows)


# Dot product, exponent, output. A3 prints the latency of the last: divide 7 cycles, multiply-accumulate 2. The other
# two are no longer; how long they are does not matter then. Candidate selection and post-scoring are not modelled.
A3_BASE = LockstepPipeline((9, 9, 7 + 2))
