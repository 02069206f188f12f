"""A3's rule read from the paper's words, one query at a time, with nothing vectorised."""

from __future__ import annotations

import math
from fractions import Fraction

Matrix = list[list[int]]


def fixed(value: float, integer: int, fraction: int) -> int:
    """Round to nearest, ties to even, in units of 2^-fraction; saturate."""
    most = 2 ** (integer + fraction) - 1
    return max(-most, min(most, round(value * 2**fraction)))


def candidates(q: list[int], k: Matrix, visible: list[int], iterations: int) -> list[int]:
    """The keys that the greedy search finds among `visible`, by walking through every column of sorted keys."""
    if not visible:
        return []
    columns = [sorted((k[j][d], j) for j in visible) for d in range(len(q))]
    streams = {}
    for largest in (True, False):
        streams[largest] = [
            [(q[d] * value, j) for value, j in (reversed(column) if (q[d] >= 0) == largest else column)]
            for d, column in enumerate(columns)
        ]
    score = dict.fromkeys(visible, 0)
    added, first = 0, None
    for _ in range(iterations):
        for largest in (True, False):
            if not largest and added < 0:
                continue
            heads = [stream[0][0] if stream else None for stream in streams[largest]]
            left = [head for head in heads if head is not None]
            best = max(left) if largest else min(left)
            value, j = streams[largest][heads.index(best)].pop(0)
            first = j if first is None else first
            if (value > 0) == largest and value != 0:
                score[j] += value
                added += value
    found = [j for j in visible if score[j] > 0]
    return found or [first] if first is not None else []


def attention(
    q: list[int], k: Matrix, v: Matrix, rows: list[int], scale: float, threshold: float | None, fraction: int
) -> tuple[list[int], list[float]]:
    """The keys that post-scoring leaves of `rows`, and the output."""
    scores = {j: sum(a * b for a, b in zip(q, k[j])) * scale / 4**fraction for j in rows}
    if not rows:
        return [], [0.0] * (len(v[0]) if v else 0)
    most = max(scores.values())
    kept = [j for j in rows if threshold is None or scores[j] >= most - math.log(100 / threshold)]
    step = 4**fraction
    exponents = {j: Fraction(round(math.exp(scores[j] - most) * step), step) for j in kept}
    total = sum(exponents.values())
    weights = {j: Fraction(round(exponents[j] / total * step), step) for j in kept}
    return kept, [float(sum(weights[j] * v[j][i] for j in kept) / 2**fraction) for i in range(len(v[0]))]
