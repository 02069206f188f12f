"""Magnitude pruning to V:N:M: 2 of m in which blocks of rows share four columns of every group.

The weights that are left are 2:4 within these columns, which is what sparse tensor cores multiply; the stored form is
plain 2:m. Source: R. L. Castro et al., "VENOM: A Vectorized N:M Format for Unleashing the Power of Sparse Tensor
Cores", SC 2023.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sparsecore.errors import InvalidValueError
from sparsecore.patterns import NM, Block, Pattern
from sparsecore.prune import criteria
from sparsecore.prune.units import expand, keep_of_groups, unit_scores

__all__ = ["ROWS", "magnitude_vnm"]

ROWS = 128  # of a block, V
_SHARED = 4  # columns of a group that a block keeps


def magnitude_vnm(weights: Sequence[Tensor], pattern: Pattern, sparsity: float, scope: str) -> list[Tensor]:
    """Keep masks, bool [out, in] each, for `weights`; see `sparsecore.prune.one_shot`.

    Every 128 rows keep the four columns of each group with the largest sum of |w|, and each row its two largest |w| in
    these; ties go to the lower index. Raises InvalidValueError unless the pattern is 2:m with m > 4.
    """
    if not isinstance(pattern, NM) or pattern.n != 2 or pattern.m <= _SHARED:
        raise InvalidValueError(
            f"no V:N:M mask for {pattern.name}", where="pattern", expected="2:m with m > 4", hint='pattern="2:8"'
        )
    return [_keep(criteria.magnitude(weight), pattern) for weight in weights]


def _keep(scores: Tensor, pattern: NM) -> Tensor:
    rows, cols = scores.shape
    column = Block(ROWS, 1)
    of_blocks = unit_scores(scores, column).reshape(-(-rows // ROWS), cols)
    shared = expand(keep_of_groups(of_blocks, NM(_SHARED, pattern.m)), (rows, cols), column)
    return keep_of_groups(scores.masked_fill(~shared, -0.5), pattern)  # below every score: never kept
