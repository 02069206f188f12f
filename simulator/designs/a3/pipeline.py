"""What A3's modules do for a query (T. J. Ham et al., HPCA 2020, sections IV and V).

Every module takes one row a cycle and works on one query at a time. Beside the rows it has a latency, which is what
makes n + 9 cycles between two queries and 3 n + 27 for one of n rows in the three modules of base A3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simulator.designs.a3.settings import A3Settings
from simulator.workload.decisions import Decision

__all__ = ["MODULES", "Work"]

MODULES = ("search", "dot_product", "exponent", "output")
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Work:
    """Rows of each module for some queries, in order: M, C and K of A3's formulas; M and `keys` are None and n there.

    Parameters
    ----------
    search: iterations; None without the search. candidates: keys whose score is computed. kept: V rows multiplied.
    keys: rows that the scan for candidates looks at.
    """

    settings: A3Settings
    search: Counts | None
    candidates: Counts
    kept: Counts
    keys: int

    @staticmethod
    def of(settings: A3Settings, decision: Decision, heads: slice, keys: int) -> Work:
        """Return the work of the queries of some heads, head by head."""
        candidates, kept = (x[heads].ravel().astype(np.int64) for x in (decision.candidates, decision.values))
        search = decision.extra.get("iterations")
        wanted = None if search is None else search[heads].ravel().astype(np.int64)
        return Work(settings, wanted, candidates, kept, keys)

    @property
    def scanned(self) -> Counts:
        """Cycles of finding candidates among the greedy scores: max(n / scores a cycle, C); C without search."""
        if self.search is None or self.settings.search is None:
            return self.candidates
        return np.maximum(-(-self.keys // self.settings.search.scan_per_cycle), self.candidates)

    @property
    def compared(self) -> Counts:
        """Cycles in which post-scoring looks at the scores of the candidates; 0 without it."""
        post = self.settings.post_scoring
        return np.zeros_like(self.candidates) if post is None else -(-self.candidates // post.per_cycle)

    def cycles(self) -> Counts:
        """Return the cycles of each module for each query, [modules, queries].

        search: M + fill, none in base A3. dot product: max(n / 16, C) + latency. exponent: max(C / 16, K) + latency.
        output: K + latency.
        """
        late = self.settings.module_latency
        fill = 0 if self.settings.search is None else self.settings.search.fill_cycles
        search = np.zeros_like(self.kept) if self.search is None else self.search + fill
        exponent = np.maximum(self.compared, self.kept) + late
        return np.stack([search, self.scanned + late, exponent, self.kept + late])

    def events(self) -> dict[str, float]:
        """Return the rows that each module and SRAM works on, for the energy."""
        search = 0.0 if self.search is None else float(self.cycles()[0].sum())
        candidates, kept = float(self.candidates.sum()), float(self.kept.sum())
        return {
            "search": search,
            "dot_product": candidates,
            "post_scoring": float(self.compared.sum()),
            "exponent": kept,
            "output": kept,
        }
