"""A schedule for a model of known depth: how many tokens, heads and V rows each layer computes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sparsecore.errors import InvalidValueError

__all__ = ["ROUNDING", "Counts", "Plan"]

# The published counts are rounded down; 0.29 * 100 is 28.999... in binary and means 29.
ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Counts:
    """What every layer computes of B sequences.

    Parameters
    ----------
    lengths: tokens of each sequence. tokens: kept ones, [layers][B]. heads: kept ones, [layers].
    values: V rows that a query multiplies, [layers][B].
    """

    lengths: tuple[int, ...]
    tokens: tuple[tuple[int, ...], ...]
    heads: tuple[int, ...]
    values: tuple[tuple[int, ...], ...]

    @property
    def token_keep(self) -> float:
        """Mean over sequences and layers of kept tokens over the sequence's own length; 1 where there are none."""
        shares = [count / n for layer in self.tokens for count, n in zip(layer, self.lengths, strict=True) if n]
        return sum(shares) / len(shares) if shares else 1.0


@dataclass(frozen=True, slots=True)
class Plan:
    """A schedule, resolved to one entry a layer.

    Parameters
    ----------
    tokens: kept shares of the sequence's own length, in (0, 1]; or counts of tokens, at least 1, where `absolute`.
    heads: counts. values: shares of the kept keys.
    sink, recent: tokens at the start and at the end of a sequence that are never pruned.
    """

    tokens: tuple[float, ...]
    absolute: bool
    heads: tuple[int, ...]
    values: tuple[float, ...]
    sink: int
    recent: int

    def token_counts(self, length: int) -> tuple[int, ...]:
        """Return how many of `length` tokens each layer computes: rounded down, at least 1 and the protected ones."""
        least = min(length, max(1, self.sink + self.recent))
        shares = self.tokens if self.absolute else [share * length + ROUNDING for share in self.tokens]
        return tuple(max(least, min(length, math.floor(share))) for share in shares)

    def counts(self, lengths: Tensor) -> Tensor:
        """Return `token_counts` of each of `lengths` [B] as int64 [layers, B], without looking at them."""
        shares = torch.tensor(self.tokens, dtype=torch.float64, device=lengths.device)[:, None]
        if not self.absolute:
            shares = shares * lengths + ROUNDING
        least = lengths.clamp(max=max(1, self.sink + self.recent))
        return torch.maximum(torch.minimum(shares.floor().long(), lengths), least)

    def value_count(self, keys: int, layer: int) -> int:
        """Return how many of `keys` V rows a query of `layer` multiplies: rounded down, at least 1 if there are any."""
        return min(keys, max(1, math.floor(self.values[layer] * keys + ROUNDING)))

    def resolve(self, lengths: Sequence[int]) -> Counts:
        """Return the counts for sequences of these lengths."""
        tokens = tuple(zip(*(self.token_counts(length) for length in lengths), strict=True))
        tokens = tokens or ((),) * len(self.tokens)
        values = tuple(tuple(self.value_count(keys, layer) for keys in counts) for layer, counts in enumerate(tokens))
        return Counts(tuple(lengths), tokens, self.heads, values)

    def check_whole(self, length: int) -> None:
        """Raise InvalidValueError where the first layer would not compute all of `length` tokens."""
        if (first := self.token_counts(length)[0]) < length:
            raise InvalidValueError(
                f"token_keep[0] is {first} for a sequence of {length} tokens",
                where="Schedule",
                expected=f"at least {length}: no importance is known before the first layer",
            )
