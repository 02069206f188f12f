"""Importance of the tokens and heads of a generation, accumulated over queries, heads, layers and steps."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from sparsecore.cascade.generation.settings import Settings

__all__ = ["Tokens"]

# Above every sum of probabilities: a protected token comes first whatever the others have.
_LIFTED = 1 << 62
_ROOM = 256


class Tokens:
    """What B sequences know of their tokens. The id of a token is its place in its own sequence, without padding.

    Parameters
    ----------
    settings: what was asked for.
    prompt: int64 [B], tokens of each prompt. capacity: ids that fit without growing.

    Attributes
    ----------
    scores: int64 [B, capacity], probability received, in units of 2^-SCORE_BITS.
    queries: int64 [B, capacity], the queries times heads that could see the token; None where the importance is a sum.
    protected: bool [B, capacity], tokens that are never pruned.
    head_scores: int64 [B, H], importance of the heads.
    seen: int64 [B], tokens of each sequence so far.
    """

    def __init__(self, settings: Settings, prompt: Tensor, capacity: int) -> None:
        self.settings = settings
        self.prompt = prompt
        self.seen = torch.zeros_like(prompt)
        self.scores = prompt.new_zeros((len(prompt), capacity))
        self.queries = None if settings.importance.option == "paper" else torch.zeros_like(self.scores)
        self.protected = torch.zeros_like(self.scores, dtype=torch.bool)
        self.head_scores = prompt.new_zeros((len(prompt), settings.info.heads))

    def reserve(self, capacity: int) -> None:
        """Make room for ids below `capacity`."""
        if (missing := capacity - self.scores.shape[1]) > 0:
            missing += _ROOM
            self.scores, self.protected = pad(self.scores, (0, missing)), pad(self.protected, (0, missing))
            if self.queries is not None:
                self.queries = pad(self.queries, (0, missing))

    def see(self, counts: Tensor | int) -> None:
        """Take in the next `counts` tokens of each sequence (int64 [B] or a number), the last of their prompts."""
        self.seen = self.seen + counts
        self.prompt = self.seen
        ids = torch.arange(self.scores.shape[1], device=self.scores.device)
        newest = (ids >= self.seen[:, None] - self.settings.recent) & (ids < self.seen[:, None])
        self.protected = newest | (ids < self.settings.sink) | (ids == self.prompt[:, None] - 1)

    def see_one(self) -> None:
        """Take in one generated token of each sequence: it is protected, and the window of recent tokens moves on."""
        newest = self.seen[:, None]
        self.seen = self.seen + 1
        leaves = (newest - self.settings.recent).clamp_(min=0)
        stays = (leaves < self.settings.sink) | (leaves == self.prompt[:, None] - 1)
        self.protected.scatter_(1, leaves, stays).scatter_(1, newest, True)

    def forget(self, count: int) -> None:
        """Take back the newest `count` tokens of each sequence."""
        self.seen = self.seen - count
        gone = torch.arange(self.scores.shape[1], device=self.scores.device) >= self.seen[:, None]
        self.scores.masked_fill_(gone, 0)
        if self.queries is not None:
            self.queries.masked_fill_(gone, 0)
        self.see(0)

    def importance(self, ids: Tensor | None, width: int) -> Tensor:
        """Return the importance of the tokens `ids` [B, n] (None: of the first `width`), int64 [B, n]."""
        scores = self.scores[:, :width] if ids is None else self.scores.gather(1, ids)
        if self.queries is None:
            return scores
        queries = self.queries[:, :width] if ids is None else self.queries.gather(1, ids)
        return self.settings.importance.ranking(scores, queries)

    def ranks(self, ids: Tensor | None, width: int) -> Tensor:
        """Return the importance of tokens as `importance` does, with the protected ones above all others."""
        protected = self.protected[:, :width] if ids is None else self.protected.gather(1, ids)
        return self.importance(ids, width).masked_fill(protected, _LIFTED)

    def add(self, ids: Tensor | None, counts: Tensor, scores: Tensor, queries: Tensor | int) -> None:
        """Add what one layer of one pass gave.

        Parameters
        ----------
        ids: int64 [B, n], tokens that were read; None: 0 ... n - 1. counts: int64 [B], how many of them were.
        scores: int64 [B, heads, n], 0 for those behind the last one read.
        queries: int64 [B, n] or a number: the queries times heads that could see each token.
        """
        sums = scores.sum(1)
        if self.queries is None:
            if ids is None:
                self.scores[:, : sums.shape[1]].add_(sums)
            else:
                self.scores.scatter_add_(1, ids, sums)
            return
        inside = torch.arange(sums.shape[1], device=sums.device) < counts[:, None]
        both: list[Tensor] = [sums, inside * queries]
        if ids is None:
            both = [pad(x, (0, self.scores.shape[1] - x.shape[1])) for x in both]
        else:
            both = [torch.zeros_like(self.scores).scatter_add_(1, ids, x) for x in both]
        self.scores, self.queries = self.settings.importance.add(self.scores, self.queries, both[0], both[1])

    def take(self, rows: Tensor) -> None:
        """Put sequences `rows` (int64 [B']) in the place of what was there."""
        for name in ("prompt", "seen", "scores", "protected", "head_scores", "queries"):
            if (tensor := getattr(self, name)) is not None:
                setattr(self, name, tensor[rows])
