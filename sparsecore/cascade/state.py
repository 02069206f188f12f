"""What one forward pass of a pruned model knows about its tokens and heads; nothing lives longer than the pass."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sparsecore.cascade.attention import Attended, Wanted, rows_by
from sparsecore.cascade.schedule import Schedule
from sparsecore.models.info import ModelInfo
from sparsecore.ops import topk_select

__all__ = ["CascadeState"]


class CascadeState:
    """The kept tokens and heads of B sequences, padded to L positions, while they go through the layers.

    Hidden states stand in slots: slot s of sequence b holds the token of original position `positions[b, s]`; the first
    `counts[b]` slots hold tokens, in ascending order of position, the others hold padding.

    Parameters
    ----------
    schedule: what to keep. info: sizes of the model.
    mask: [B, L], true where a position holds a token.

    Raises
    ------
    InvalidValueError: the schedule cannot be met by this number of layers.
    """

    def __init__(self, schedule: Schedule, info: ModelInfo, mask: Tensor) -> None:
        self.schedule = schedule
        self.info = info
        batch, self.width = mask.shape
        self.lengths: list[int] = mask.sum(dim=1).tolist()
        self.token_plan = [schedule.token_counts(length, info.layers) for length in self.lengths]
        self.head_plan = schedule.head_counts(info.heads, info.layers)
        self.counts = list(self.lengths)
        # Tokens first, padding behind them, each in its own order.
        self.positions = torch.argsort((~mask).to(torch.int8), dim=1, stable=True)
        self.in_order = bool((mask[:, :-1] >= mask[:, 1:]).all())
        self.head_ids = torch.arange(info.heads, device=mask.device).expand(batch, -1)
        self.token_importance = mask.new_zeros((batch, self.width), dtype=torch.float32)
        self.head_importance = mask.new_zeros((batch, info.heads), dtype=torch.float32)
        # One column more than positions: what padding slots write lands there.
        self.survived = mask.new_zeros((batch, self.width + 1), dtype=torch.int32)
        self.heads_survived = mask.new_zeros((batch, info.heads), dtype=torch.int32)
        counters = (info.layers, batch, info.heads)
        self.values = torch.zeros(counters, dtype=torch.int32)
        self.low_queries = torch.zeros(counters, dtype=torch.int32)
        self._output: Tensor | None = None

    @property
    def changes_nothing(self) -> bool:
        """Whether the unmodified model computes the same."""
        whole = all(plan[-1] == length for plan, length in zip(self.token_plan, self.lengths, strict=True))
        values = all(self.schedule.value_ratio(layer) == 1 for layer in range(self.info.layers))
        bits = self.schedule.msb_bits is None and self.schedule.value_bits is None
        return whole and values and bits and self.head_plan[-1] == self.info.heads

    def wanted(self, layer: int) -> Wanted:
        """Return which importance scores of `layer` a later layer decides by."""
        return Wanted(
            tokens=any(plan[-1] < plan[layer] for plan in self.token_plan),
            heads=self.head_plan[-1] < self.head_plan[layer],
        )

    def begin(self, hidden: Tensor) -> Tensor:
        """Take the embeddings [B, L, hidden] and return them in slots."""
        batch, _, features = hidden.shape
        self._output = hidden.new_empty((batch, self.width + 1, features))
        return hidden if self.in_order else _take(hidden, self.positions)

    def after(self, layer: int, hidden: Tensor, attended: Attended) -> Tensor:
        """Record what `layer` did, decide who goes on, and return the slots of the next layer [B, n', hidden]."""
        self._count(layer, attended)
        if attended.token_sums is not None:
            self.token_importance = self.token_importance + attended.token_sums
        if attended.head_sums is not None:
            self.head_importance = self.head_importance + attended.head_sums
        self._leave(layer, hidden)
        if layer + 1 == self.info.layers:
            return hidden
        if (heads := self.head_plan[layer + 1]) < self.head_plan[layer]:
            self._keep_heads(heads)
        kept = [plan[layer + 1] for plan in self.token_plan]
        return hidden if kept == self.counts else self._keep_tokens(kept, hidden)

    def finish(self) -> Tensor:
        """Return the last state of every position, [B, L, hidden]."""
        assert self._output is not None
        output, self._output = self._output[:, : self.width], None
        return output.contiguous()

    def skip(self) -> None:
        """Record a pass of the unmodified model, in which every layer computes everything."""
        self.survived.scatter_(1, self.positions, self._slots_hold(self.info.layers))
        self.heads_survived.fill_(self.info.layers)
        self.values[:] = torch.tensor(self.lengths, dtype=torch.int32)[None, :, None]

    def _slots_hold(self, number: int) -> Tensor:
        """Return int32 [B, n]: `number` in the slots that hold a token, 0 in the others."""
        slots = torch.arange(self.positions.shape[1], device=self.positions.device)
        counts = torch.tensor(self.counts, device=slots.device)
        return (slots < counts[:, None]).to(torch.int32) * number

    def _count(self, layer: int, attended: Attended) -> None:
        rows = attended.value_rows
        if rows is None:
            rows = torch.tensor(self.counts, dtype=torch.int32)[:, None].expand(self.head_ids.shape)
        ids = self.head_ids.cpu()
        self.values[layer].scatter_(1, ids, rows.cpu())
        if attended.low_queries is not None:
            self.low_queries[layer].scatter_(1, ids, attended.low_queries.cpu())

    def _leave(self, layer: int, hidden: Tensor) -> None:
        """Store the state of all slots; those that go on overwrite it later."""
        assert self._output is not None
        self.survived.scatter_(1, self.positions, self._slots_hold(layer + 1))
        self.heads_survived.scatter_(1, self.head_ids, torch.full_like(self.head_ids, layer + 1, dtype=torch.int32))
        last = layer + 1 == self.info.layers
        if last or any(plan[layer + 1] < count for plan, count in zip(self.token_plan, self.counts, strict=True)):
            index = self.positions[..., None].expand(hidden.shape)
            self._output.scatter_(1, index, hidden)

    def _keep_heads(self, kept: int) -> None:
        index = topk_select(self.head_importance, kept)[1]
        self.head_ids = self.head_ids.gather(1, index)
        self.head_importance = self.head_importance.gather(1, index)

    def _keep_tokens(self, kept: list[int], hidden: Tensor) -> Tensor:
        scores = self.token_importance
        if self.schedule.protect_first and scores.shape[1]:
            scores = scores.clone()
            scores[:, 0] = torch.inf
        index = _select(scores, self.counts, kept)
        self.counts = kept
        self.token_importance = self.token_importance.gather(1, index)
        self.positions = self.positions.gather(1, index)
        self.positions = self.positions.where(self._slots_hold(1).bool(), self.width)
        return _take(hidden, index)


def _select(scores: Tensor, counts: Sequence[int], kept: Sequence[int]) -> Tensor:
    """Return the slots of the `kept[b]` highest of the first `counts[b]` scores of each row b, ascending, 0-padded."""
    index = torch.zeros((len(kept), max(kept, default=0)), dtype=torch.int64, device=scores.device)
    for (count, keep), group in rows_by(counts, kept).items():
        if keep:
            own = scores[group, :count].contiguous()
            index[group, :keep] = topk_select(own, keep)[1]
    return index


def _take(hidden: Tensor, index: Tensor) -> Tensor:
    """Gather slots: [B, n, hidden] by [B, m] -> [B, m, hidden]."""
    return hidden.gather(1, index[..., None].expand(*index.shape, hidden.shape[-1]))
