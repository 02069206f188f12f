"""A3's pruning rule: greedy search for candidate keys, then post-scoring (T. J. Ham et al., HPCA 2020).

Greedy search. Each column of K is sorted beforehand. A query's products q[d] k[j, d] then lie in order along every
column, from the largest at one end (which one, the sign of q[d] says) to the smallest at the other. An iteration takes
the largest product that is left, over the heads of all columns, and the column moves on; a positive one is added to the
greedy score of its key. It then does the same with the smallest one, a negative one being added, unless the sum of all
that was added so far is negative. After M iterations the keys with a positive greedy score are candidates.

Post-scoring. Candidates whose score is more than t below the largest one are dropped: their share would be below
exp(-t) of the largest. T, in percent, is 100 / e^t.

Left open by the paper, and decided here: of equal products the lower column goes first, and within a column the order
of the sorted array, equal values by key number; M is at least 1; a query without candidates takes the key of its
largest product; the scale of the scores is applied after the dot product, t to the scaled scores.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simulator.designs.decision import Bools, Floats, HeadChoice, Ints, Rule

__all__ = ["A3Rule", "greedy_candidates", "quantised"]

Whole = npt.NDArray[np.int64]
CHUNK_ELEMENTS = 1 << 23  # of [queries, keys, D] that are held at a time


@dataclass(frozen=True, slots=True)
class A3Rule(Rule):
    """What A3 decides; without `search` every visible key is a candidate, without `post_scoring` every one is kept.

    Parameters
    ----------
    search: M as a share of the keys that a query sees. post_scoring: T in percent.
    integer_bits, fraction_bits: of Q, K and V, beside the sign.
    """

    search: float | None
    post_scoring: float | None
    integer_bits: int
    fraction_bits: int

    @property
    def name(self) -> str:
        """The rule with its parameters."""
        search = "all keys" if self.search is None else f"M = {self.search:g} n"
        post = "" if self.post_scoring is None else f", T = {self.post_scoring:g} %"
        return f"a3: {search}{post}, 1+{self.integer_bits}+{self.fraction_bits} bit"

    @property
    def keeps_all(self) -> bool:
        """Whether nothing is pruned: base A3."""
        return self.search is None and self.post_scoring is None

    def iterations(self, keys: Ints) -> Whole:
        """Return M for so many visible keys."""
        assert self.search is not None
        wanted = np.floor(self.search * keys).astype(np.int64)
        return np.asarray(np.minimum(np.maximum(wanted, 1), keys), np.int64)

    def decide(self, q: Floats, k: Floats, v: Floats, scale: float, visible: Bools | None) -> HeadChoice:
        """Decide for one head; see `Rule.decide`. extra: "iterations", M of each query, where there is a search."""
        q8, k8, v8 = (quantised(x, self.integer_bits, self.fraction_bits) for x in (q, k, v))
        seen = np.ones((len(q), len(k)), bool) if visible is None else visible
        extra = {}
        scored = seen
        if self.search is not None:
            extra["iterations"] = self.iterations(seen.sum(axis=1))
            scored = greedy_candidates(q8, k8, extra["iterations"], visible)
        scores = (q8 @ k8.T) * (scale * 4.0**-self.fraction_bits)
        largest = np.where(scored, scores, -np.inf).max(axis=1, initial=-np.inf, keepdims=True)
        kept = scored
        if self.post_scoring is not None:
            kept = scored & (scores >= largest - math.log(100 / self.post_scoring))
        return HeadChoice(scored, kept, self._output(scores - largest, kept, v8), extra)

    def _output(self, below: Floats, kept: Bools, v8: Whole) -> Floats:
        """Return the weighted sum of V: exponents and weights are rounded to 2 f fraction bits, products are exact."""
        step = 4.0**self.fraction_bits
        exponents = np.round(np.exp(np.where(kept, below, -np.inf)) * step) / step
        total = exponents.sum(axis=1, keepdims=True)
        weights = np.round(exponents / np.where(total > 0, total, 1.0) * step) / step
        return np.asarray(weights @ v8 * 2.0**-self.fraction_bits)


def quantised(x: Floats, integer_bits: int, fraction_bits: int) -> Whole:
    """Return x in units of 2^-fraction_bits, rounded to nearest and saturated symmetrically."""
    most = (1 << (integer_bits + fraction_bits)) - 1
    scaled = np.round(np.asarray(x, np.float64) * (1 << fraction_bits))
    return np.clip(scaled, -most, most).astype(np.int64)


def greedy_candidates(q: Whole, k: Whole, iterations: Whole, visible: Bools | None) -> Bools:
    """Return which keys the search finds for each query, bool [queries, keys].

    Parameters
    ----------
    q: [queries, D]. k: [keys, D]; integers. iterations: of each query. visible: bool [queries, keys]; the others are
        in no column.
    """
    found = np.zeros((len(q), len(k)), bool)
    if not found.size or not q.shape[1]:
        return found
    order = np.argsort(k, axis=0, kind="stable").T  # [D, keys]: of equal values the lower key first
    step = max(CHUNK_ELEMENTS // k.size, 1)
    for start in range(0, len(q), step):
        part = slice(start, start + step)
        seen = None if visible is None else visible[part]
        found[part] = _Search(q[part], k, order, seen).run(iterations[part])
    return found


class _Search:
    """The queues of a group of queries: for each column where its largest and its smallest product that is left lie."""

    def __init__(self, q: Whole, k: Whole, order: Whole, visible: Bools | None) -> None:
        self.q, self.k = q, k
        self.queries = np.arange(len(q))
        self.columns = np.arange(q.shape[1])
        if visible is None:
            self.order, self.counts = order[None], np.full(len(q), len(k))
        else:  # columns without the keys that a query does not see: these go to the end
            hidden = np.argsort(~visible[:, order], axis=2, kind="stable")
            self.order = np.take_along_axis(np.broadcast_to(order, hidden.shape), hidden, axis=2)
            self.counts = visible.sum(axis=1)

    def run(self, iterations: Whole) -> Bools:
        """Return the candidates."""
        scores = np.zeros((len(self.q), len(self.k)), np.int64)
        added = np.zeros(len(self.q), np.int64)
        largest, smallest = _Queue(self, 1), _Queue(self, -1)
        first = np.full(len(self.q), -1)
        for done in range(int(iterations.max(initial=0))):
            active = self.queries[done < iterations]
            for queue in (largest, smallest):
                now = active if queue is largest else active[added[active] >= 0]
                values, keys = queue.pop(now)
                if queue is largest and not done:
                    first[now] = keys
                values = np.where(values * queue.sign > 0, values, 0)
                scores[now, keys] += values
                added[now] += values
        found = scores > 0
        none = (first >= 0) & ~found.any(axis=1)
        found[self.queries[none], first[none]] = True
        return found


class _Queue:
    """The heads of all columns from one side: `sign` 1 for the largest products, -1 for the smallest."""

    def __init__(self, search: _Search, sign: int) -> None:
        self.search, self.sign = search, sign
        self.from_top = (search.q >= 0) if sign > 0 else (search.q < 0)  # [queries, D]
        self.taken = np.zeros(search.q.shape, np.int64)
        rows, columns = np.meshgrid(search.queries, search.columns, indexing="ij")
        self.heads = self._product(rows, columns)

    def pop(self, queries: Whole) -> tuple[Whole, Whole]:
        """Take the next product of each of `queries`; return it and its key."""
        columns = (self.heads[queries] * self.sign).argmax(axis=1)
        values, keys = self.heads[queries, columns], self._key(queries, columns)
        self.taken[queries, columns] += 1
        self.heads[queries, columns] = self._product(queries, columns)
        return values, keys

    def _key(self, queries: Whole, columns: Whole) -> Whole:
        """Return the key at the head of a column of each query."""
        search, taken = self.search, self.taken[queries, columns]
        last = search.counts[queries] - 1
        place = np.clip(np.where(self.from_top[queries, columns], last - taken, taken), 0, np.maximum(last, 0))
        shared = len(search.order) == 1
        return np.asarray(search.order[0 if shared else queries, columns, place])

    def _product(self, queries: Whole, columns: Whole) -> Whole:
        """Return the product at the head of a column; behind its end one that is never taken before any other."""
        search = self.search
        found = search.q[queries, columns] * search.k[self._key(queries, columns), columns]
        ended = self.taken[queries, columns] >= search.counts[queries]
        return np.where(ended, -self.sign << 40, found)
