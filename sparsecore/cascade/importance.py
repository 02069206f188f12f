"""How the attention that a token received becomes one number: raw sum, mean over the queries that could see it, decay.

A probability p counts as round(p * 2^SCORE_BITS) and everything is summed in int64, so that neither the order of
additions nor the number of threads matters. Probabilities count after any recomputation with the low bits of K and
before local value pruning.

`paper` is SpAtten's sum (arXiv 2012.09852, section III-A). Under a causal mask it favours early tokens, which more
queries can see, and drops the newest; `mean` divides by the number of those queries. `decay` is the same mean with
exponentially falling weights of older updates.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sparsecore.errors import InvalidValueError, UnknownNameError, nearest

__all__ = ["OPTIONS", "SCORE_BITS", "Importance", "importance_of", "queries_that_see"]

SCORE_BITS = 20
OPTIONS = ("paper", "mean", "decay")
_MEAN_BITS = 12  # a mean is below 1 and needs finer steps than a sum
_DECAY_BITS = 16


@dataclass(frozen=True)
class Importance:
    """A rule over two int64 tensors of one shape, [B, n], that the caller owns, gathers and extends; both start at 0.

    `total` is the fixed-point sum of probabilities, `seen` the number of (query, head) pairs that could see the key.
    An update is one layer of one pass or of one decoding step.

    Parameters
    ----------
    option: one of OPTIONS. decay: what an update leaves of the earlier ones, in (0, 1]; only `decay` reads it.

    Raises
    ------
    UnknownNameError: no such option. InvalidValueError: `decay` out of range.
    """

    option: str = "paper"
    decay: float = 0.9

    def __post_init__(self) -> None:
        if self.option not in OPTIONS:
            raise UnknownNameError(
                f"there is no importance option {self.option!r}",
                expected=", ".join(OPTIONS),
                hint=nearest(self.option, OPTIONS),
            )
        if isinstance(self.decay, bool) or not isinstance(self.decay, int | float) or not 0 < self.decay <= 1:
            raise InvalidValueError(f"decay is {self.decay!r}", where="Importance", expected="a number in (0, 1]")

    def add(self, total: Tensor, seen: Tensor, sums: Tensor, queries: Tensor | int) -> tuple[Tensor, Tensor]:
        """Return (total, seen) after an update with `sums` int64 [B, n] from `queries` [B, n], or what broadcasts."""
        if self.option == "decay":
            factor = round(self.decay * (1 << _DECAY_BITS))
            total, seen = (total * factor) >> _DECAY_BITS, (seen * factor) >> _DECAY_BITS
            queries = queries << _DECAY_BITS  # the count keeps a fraction, or it would decay in steps of whole queries
        return total + sums, seen + queries

    def ranking(self, total: Tensor, seen: Tensor) -> Tensor:
        """Return the importance, int64 [B, n]: the larger the better; 0 for what nothing could see."""
        if self.option == "paper":
            return total
        bits = _MEAN_BITS + (_DECAY_BITS if self.option == "decay" else 0)
        # Both are far below 2^53, so the quotient is that of the integers, correctly rounded on every device.
        return (total.double() / seen.clamp_min(1).double() * (1 << bits)).to(torch.int64)


def importance_of(given: str | Importance) -> Importance:
    """Return the rule of a name with its default settings, or `given` itself.

    Raises
    ------
    UnknownNameError: no such option. InvalidValueError: neither a name nor an Importance.
    """
    if not isinstance(given, str | Importance):
        raise InvalidValueError(f"scores is a {type(given).__name__}", expected="a name or an Importance")
    return given if isinstance(given, Importance) else Importance(given)


def queries_that_see(counted: Tensor, causal: bool) -> Tensor:
    """Return how many of the counted queries can see each key, int64 [B, n], where every token is query and key.

    Parameters
    ----------
    counted: bool [B, n], queries whose probabilities are summed. causal: key j is seen by the queries i >= j.
    """
    number = counted.to(torch.int64)
    if causal:
        return number.flip(1).cumsum(1).flip(1)
    return number.sum(1, keepdim=True).expand(counted.shape)
