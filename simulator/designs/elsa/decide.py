"""ELSA's pruning rule: an approximate similarity from hashes, compared with a threshold (T. J. Ham et al., ISCA 2021).

Hash. Queries and keys are multiplied with a fixed orthogonal matrix of D x D, the Kronecker product of three small
ones, and only the signs are kept: D bits. Two vectors at an angle theta differ in a share of theta / pi of them.

Selection. cos(pi * distance / D - bias) times the key's norm estimates the score over the query's norm. A key whose
estimate reaches t times the largest norm of the keys that the query sees is a candidate. The bias makes the estimate
err on the high side.

Threshold. t follows from the degree of approximation p: over queries, the mean of the smallest q k / (|q| max |k|)
among the keys whose softmax probability exceeds p / n. The paper learns it on training data for each head; here it is
learned on the tensors themselves, for generated tokens on those of all steps. p = 0 keeps every key.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from simulator.designs.a3.decide import quantised
from simulator.designs.decision import Bools, Floats, HeadChoice, Rule, softmax

__all__ = ["ElsaRule", "hash_multiplies", "kronecker_factors"]

HASH_SEED = 2021  # of the fixed orthogonal matrix
Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ElsaRule(Rule):
    """What ELSA decides.

    Parameters
    ----------
    approximation: p, the degree of approximation; 0: base ELSA, every key. bias: subtracted from the angle, in radians.
    integer_bits, fraction_bits: of the inputs, beside the sign.
    """

    approximation: float
    bias: float
    integer_bits: int
    fraction_bits: int

    @property
    def name(self) -> str:
        """The rule with its parameters."""
        format_ = f"Q1.{self.integer_bits}.{self.fraction_bits}"
        return f"elsa: p = {self.approximation:g}, bias {self.bias:g}, {format_}, threshold learned on the input"

    @property
    def keeps_all(self) -> bool:
        """Whether it is base ELSA."""
        return not self.approximation

    def decide(self, q: Floats, k: Floats, v: Floats, scale: float, visible: Bools | None) -> HeadChoice:
        """Decide for one head; see `Rule.decide`. A query without a candidate takes the key of the largest estimate."""
        step = 2.0**-self.fraction_bits
        q9, k9, v9 = (quantised(x, self.integer_bits, self.fraction_bits) * step for x in (q, k, v))
        seen = np.ones((len(q), len(k)), bool) if visible is None else visible
        scores = q9 @ k9.T
        kept = seen
        if self.approximation and scores.size:
            norms = np.linalg.norm(k9, axis=1)
            largest = np.where(seen, norms, 0.0).max(axis=1, keepdims=True)
            estimate = np.where(seen, self._estimate(q9, k9, norms), -np.inf)
            kept = seen & (estimate >= self._threshold(q9, scores, scale, seen, largest) * largest)
            none = seen.any(axis=1) & ~kept.any(axis=1)
            kept[none, estimate[none].argmax(axis=1)] = True
        return HeadChoice(kept, kept, softmax(scale * scores, kept) @ v9)

    def _estimate(self, q: Floats, k: Floats, norms: Floats) -> Vector:
        """Return the estimated scores over the norm of the query, [queries, keys]."""
        size = q.shape[1]
        if not size:
            return np.zeros((len(q), len(k)))
        matrix = hash_matrix(size)
        q_signs, k_signs = (np.where(x @ matrix.T >= 0, 1.0, -1.0) for x in (q, k))
        distance = (size - q_signs @ k_signs.T) / 2  # equal signs less different ones are the product; exact
        angle = np.maximum(math.pi * distance / size - self.bias, 0.0)
        return np.asarray(np.cos(angle) * norms)

    def _threshold(self, q: Floats, scores: Floats, scale: float, seen: Bools, largest: Vector) -> float:
        """Return t; 0 where no query has a key of so large a probability, or all are zero."""
        least = self.approximation / np.maximum(seen.sum(axis=1, keepdims=True), 1)
        wanted = seen & (softmax(scale * scores, seen) > least)
        lengths = np.linalg.norm(q, axis=1, keepdims=True) * largest
        similarity = np.where(wanted, scores / np.where(lengths > 0, lengths, 1.0), np.inf).min(axis=1)
        found = similarity[np.isfinite(similarity)]
        return float(found.mean()) if len(found) else 0.0


def kronecker_factors(size: int) -> tuple[int, int, int]:
    """Return three whole numbers with the product `size` and the smallest sum: the factors of the hash matrix."""
    found = [
        (a, b, size // (a * b))
        for a in range(1, size + 1)
        if size % a == 0
        for b in range(a, size // a + 1)
        if size // a % b == 0 and size // (a * b) >= b
    ]
    return min(found, key=sum)


def hash_multiplies(size: int) -> int:
    """Return the multiplications of hashing one vector: D (a + b + c), 768 for D = 64 = 4 x 4 x 4."""
    return size * sum(kronecker_factors(size))


@lru_cache(maxsize=8)
def hash_matrix(size: int) -> Vector:
    """Return the orthogonal matrix [size, size]: the Kronecker product of three random orthogonal ones."""
    generator = np.random.default_rng(HASH_SEED)
    whole = np.ones((1, 1))
    for factor in kronecker_factors(size):
        orthogonal, triangle = np.linalg.qr(generator.standard_normal((factor, factor)))
        whole = np.kron(whole, orthogonal * np.sign(np.diag(triangle)))
    return np.asarray(whole)
