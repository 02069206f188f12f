"""What one forward pass of a pruned model knows about its tokens and heads; nothing lives longer than the pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from simulator.workload.ir import ModelInfo
from sparsecore.cascade.attention import Wanted, attend, probabilities
from sparsecore.cascade.rules import Rules
from sparsecore.cascade.run import CascadeRun
from sparsecore.cascade.schedule import Schedule
from sparsecore.cascade.selectors import View, choose
from sparsecore.errors import InvalidValueError, ShapeError
from sparsecore.ops import gather_rows, ragged_topk, scatter_rows_

__all__ = ["CascadeState"]


class CascadeState:
    """The kept tokens and heads of B sequences of up to L positions, while they go through the layers of a model.

    Hidden states stand in slots: slot s of sequence b holds the token of original position `positions[b, s]`; the first
    `counts[b]` slots hold tokens, in ascending order of position, the others hold padding, at position -1. A pass is

        hidden = state.begin(embeddings, mask)       # [B, L, C] -> the slots [B, n, C]
        for layer in layers:
            ...  out = state.attend(q, k, v)         # [B, H, n, D], once a layer
            hidden = state.advance(hidden)           # the slots that go on; after the last layer all L positions again

    and `begin` forgets the pass before. Nothing here looks at values of tensors while torch compiles: then the slots of
    a layer are as many as sequences of L tokens would need, else as many as the longest of the batch.

    Parameters
    ----------
    rules: what decides; `CascadeState.of` makes them.
    """

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.reset()

    @classmethod
    def of(cls, schedule: Schedule, layers: int, heads: int, **choices: Any) -> CascadeState:
        """Return a state for a model of `layers` layers of `heads` heads.

        choices: selector, scores and head_choice, as for `Rules.of`, which names the errors.
        """
        return cls(Rules.of(schedule, layers, heads, **choices))

    def reset(self) -> None:
        """Forget the pass; `begin` does it too."""
        self.layer = 0
        self._over = False
        self.length = 0  # L
        self.widths: tuple[int, ...] = ()  # slots of every layer
        self.ragged = False  # whether some slots hold padding
        self.padded = False  # whether some positions do
        self.head_ids: Tensor | None = None  # int64 [B, h]; None: all heads
        self._places: Tensor | None = None  # int64 [B, L]: which token of its sequence a position holds, where padded
        self._seen = _Seen()
        self._memory: Tensor | None = None
        self._output: Tensor | None = None
        self._log: list[_Layer] = []

    @property
    def counts(self) -> Tensor:
        """Tokens of the layer that runs now, int64 [B]."""
        return self.totals[self.layer]

    @property
    def valid(self) -> Tensor | None:
        """Slots of the layer that runs now that hold a token, bool [B, n]; None: all of them."""
        if not self.ragged:
            return None
        return torch.arange(self.widths[self.layer], device=self.totals.device) < self.counts[:, None]

    @property
    def wanted(self) -> Wanted:
        """Which scores of the layer that runs now a later layer decides by."""
        plan, layer = self.rules.plan, self.layer
        heads = self.rules.fixed is None and plan.heads[-1] < plan.heads[layer]
        return Wanted(plan.tokens[-1] < plan.tokens[layer], heads)

    def begin(self, hidden: Tensor, mask: Tensor | None = None) -> Tensor:
        """Start a pass on embeddings [B, L, C] and return them in slots [B, n, C].

        mask: bool [B, L], true (or not 0) where a position holds a token, in any pattern; None: everywhere.

        Raises
        ------
        ShapeError: the mask is not [B, L]. InvalidValueError: a list of counts whose first is below a length.
        """
        self.reset()
        batch, self.length = hidden.shape[:2]
        if mask is not None and mask.shape != (batch, self.length):
            raise ShapeError(f"the mask is {list(mask.shape)}", where="mask", expected=f"[{batch}, {self.length}]")
        mask = None if mask is None else mask.bool()
        lengths, longest = self._measure(hidden, mask)
        plan = self.rules.plan
        plan.check_whole(longest)
        self.widths = plan.token_counts(longest)
        self.totals = plan.counts(lengths)  # int64 [layers, B]: tokens of every layer
        self.token_total, self.token_seen = (
            torch.zeros((batch, longest), dtype=torch.int64, device=hidden.device) for _ in range(2)
        )
        self.head_importance = torch.zeros((batch, self.rules.heads), dtype=torch.int64, device=hidden.device)
        if plan.heads[0] < self.rules.heads:
            self._keep_heads(0)
        if mask is None or not self.padded:
            self.positions = torch.arange(longest, device=hidden.device).expand(batch, -1)
            return hidden
        # Tokens first, padding behind them, each in its own order.
        slots = torch.argsort((~mask).to(torch.int8), dim=1, stable=True)[:, :longest]
        valid = self.valid
        self.positions = slots if valid is None else torch.where(valid, slots, -1)
        self._places = mask.cumsum(1) - 1
        return gather_rows(hidden, slots)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, scale: float | None = None) -> Tensor:
        """Attend over the slots; a pruned head gives zeros.

        q, k, v: [B, H, n, D], or [B, h, n, D] with the kept heads only. scale: default D ** -0.5.
        Returns a tensor of the shape of q.

        Raises
        ------
        InvalidValueError: not between `begin` and `advance`, or a second time in a layer.
        """
        self._check_turn(len(self._log) == self.layer)
        scale = q.shape[-1] ** -0.5 if scale is None else scale
        rows = torch.arange(len(q), device=q.device)[:, None]
        pruned = self.head_ids is not None and q.shape[1] == self.rules.heads
        if pruned:
            q, k, v = (x[rows, self.head_ids] for x in (q, k, v))
        wanted, valid = self.wanted, self.valid
        done = attend(q, k, v, valid, scale, self.rules.schedule, self.layer, wanted)
        if done.token_scores is not None:
            pairs = self.counts[:, None] * q.shape[1]
            sums = done.token_scores.sum(1)
            self.token_total, self.token_seen = self.rules.scores.add(self.token_total, self.token_seen, sums, pairs)
            needs = self.rules.selector.needs
            p = probabilities(q, k, valid, scale) if "probabilities" in needs else None
            self._seen = _Seen(p, k if "keys" in needs else None, v if "values" in needs else None)
        if done.head_scores is not None:
            self.head_importance = self.head_importance + done.head_scores
        self._log.append(_Layer(self.positions, self.head_ids, done.value_rows, done.low_queries))
        if not pruned:
            return done.out
        out = done.out.new_zeros((len(q), self.rules.heads, *done.out.shape[2:]))
        return out.index_put((rows, self.head_ids), done.out)

    def advance(self, hidden: Tensor) -> Tensor:
        """Leave the layer whose result [B, n, C] is given: decide who goes on.

        Returns the slots of the next layer [B, n', C]; after the last one [B, L, C]: every position with its state when
        it was pruned, zeros where there was no token.

        Raises
        ------
        InvalidValueError: the layer has not attended, or the pass is over.
        """
        self._check_turn(len(self._log) == self.layer + 1 and not self._over)
        if self.layer + 1 == self.rules.layers:
            self._over = True
            return self._restore(hidden)
        heads = self.rules.plan.heads
        if heads[self.layer + 1] < heads[self.layer]:
            self._keep_heads(self.layer + 1)
        if self.wanted.tokens:
            hidden = self._keep_tokens(hidden)
        self._seen = _Seen()
        self.layer += 1
        return hidden

    def record(self, info: ModelInfo) -> CascadeRun:
        """Return what the finished pass kept, for a model of these sizes.

        Raises
        ------
        InvalidValueError: the pass has not gone through all layers.
        """
        layers, heads = self.rules.layers, self.rules.heads
        if len(self._log) < layers:
            raise InvalidValueError(
                f"{len(self._log)} of {layers} layers have run", where="CascadeState", expected="a finished pass"
            )
        batch = self.totals.shape[1]
        # One column more than positions: what padding slots write lands there.
        survived = torch.zeros((batch, self.length + 1), dtype=torch.int32)
        heads_survived = torch.zeros((batch, heads), dtype=torch.int32)
        values = torch.zeros((layers, batch, heads), dtype=torch.int32)
        low = torch.zeros_like(values)
        every_head = torch.arange(heads).expand(batch, -1)
        for index, layer in enumerate(self._log):
            positions = layer.positions.cpu()
            number = torch.full_like(positions, index + 1, dtype=torch.int32)
            survived.scatter_(1, torch.where(positions < 0, self.length, positions), number)
            ids = every_head if layer.heads is None else layer.heads.cpu()
            heads_survived.scatter_(1, ids, torch.full_like(ids, index + 1, dtype=torch.int32))
            values[index].scatter_(1, ids, layer.values.cpu())
            if layer.low_queries is not None:
                low[index].scatter_(1, ids, layer.low_queries.cpu())
        lengths = tuple(self.totals[0].tolist())
        survived = survived[:, : self.length].contiguous()
        return CascadeRun(self.rules.schedule, info, lengths, survived, heads_survived, values, low, self.rules.narrows)

    def _check_turn(self, right: bool) -> None:
        if not (right and self.widths):
            raise InvalidValueError(
                f"a call out of turn, with {len(self._log)} of {self.rules.layers} layers done",
                where="CascadeState",
                expected="begin() once a pass, then attend() and advance() once a layer",
            )

    def _measure(self, hidden: Tensor, mask: Tensor | None) -> tuple[Tensor, int]:
        """Return the lengths of the sequences and how many slots the longest needs; notes what padding there is."""
        if mask is None:
            return torch.full((len(hidden),), self.length, device=hidden.device), self.length
        lengths = mask.sum(1)
        if torch.compiler.is_compiling():
            self.padded = self.ragged = True
            return lengths, self.length
        each = lengths.tolist()
        longest, shortest = max(each, default=0), min(each, default=0)
        self.padded, self.ragged = shortest < self.length, shortest < longest
        return lengths, longest

    def _shrinks(self) -> bool:
        """Whether any sequence loses a token between this layer and the next."""
        here, there = self.layer, self.layer + 1
        if self.ragged and not torch.compiler.is_compiling():
            return not torch.equal(self.totals[there], self.totals[here])
        return self.widths[there] < self.widths[here]

    def _keep_heads(self, layer: int) -> None:
        """Decide which heads `layer` computes."""
        scores, kept = self.head_importance, self.rules.plan.heads[layer]
        if self.rules.fixed is not None:
            self.head_ids = torch.tensor(self.rules.fixed[layer], device=scores.device).expand(len(scores), -1)
            return
        if self.rules.shared:
            scores = scores.sum(0, keepdim=True)
        there, go_on = (torch.full(scores.shape[:1], size, device=scores.device) for size in (scores.shape[1], kept))
        index = ragged_topk(scores, there, go_on, kept).expand(len(self.head_importance), -1)
        self.head_ids = index if self.head_ids is None else self.head_ids.gather(1, index)
        self.head_importance = self.head_importance.gather(1, index)

    def _view(self, hidden: Tensor) -> View:
        seen, plan = self._seen, self.rules.plan
        keep, width = self.totals[self.layer + 1], self.widths[self.layer + 1]
        slots = torch.arange(self.positions.shape[1], device=hidden.device)
        # Slots keep the order of positions and nothing protected has left: it stands at either end.
        protected = (slots < plan.sink) | (slots >= self.counts[:, None] - plan.recent)
        places = self.positions if self._places is None else self._places.gather(1, self.positions.clamp(min=0))
        return View(
            importance=self.rules.scores.ranking(self.token_total, self.token_seen),
            positions=places,
            counts=self.counts,
            keep=keep,
            protected=protected,
            layer=self.layer,
            layers=self.rules.layers,
            width=width,
            memory=self._memory,
            probabilities=seen.probabilities,
            hidden=hidden if "hidden" in self.rules.selector.needs else None,
            keys=seen.keys,
            values=seen.values,
        )

    def _keep_tokens(self, hidden: Tensor) -> Tensor:
        view = self._view(hidden)
        self._memory = self.rules.selector.observe(view)
        if not self._shrinks():
            return hidden
        index = choose(self.rules.selector, view)
        stays = None
        if self.ragged:
            stays = torch.arange(view.width, device=hidden.device) < view.keep[:, None]
        self._store(hidden, _leaving(self.positions, index, stays))
        self.token_total, self.token_seen = self.token_total.gather(1, index), self.token_seen.gather(1, index)
        if self._memory is not None:
            self._memory = self._memory.gather(1, index)
        positions = self.positions.gather(1, index)
        self.positions = positions if stays is None else torch.where(stays, positions, -1)
        return gather_rows(hidden, index)

    def _store(self, hidden: Tensor, positions: Tensor) -> None:
        """Note the last state of the tokens in those slots whose position is not negative."""
        if self._output is None:
            shape = (len(hidden), self.length, hidden.shape[2])
            self._output = hidden.new_zeros(shape) if self.padded else hidden.new_empty(shape)
        self._output = scatter_rows_(self._output, positions, hidden)

    def _restore(self, hidden: Tensor) -> Tensor:
        kept = torch.zeros((len(hidden), self.length + 1), dtype=torch.bool, device=hidden.device)
        index = torch.where(self.positions < 0, self.length, self.positions)
        self.keep_mask = kept.scatter(1, index, True)[:, : self.length]  # positions that went through all layers
        if self._output is None and not self.padded:
            return hidden
        self._store(hidden, self.positions)
        output, self._output = self._output, None
        assert output is not None
        return output


@dataclass(frozen=True, slots=True)
class _Layer:
    """What one layer computed: positions [B, n], heads [B, h] (None: all), and per kept head V rows, low queries."""

    positions: Tensor
    heads: Tensor | None
    values: Tensor
    low_queries: Tensor | None


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a selector asked for of the attention of the layer that runs now, as in View."""

    probabilities: Tensor | None = None
    keys: Tensor | None = None
    values: Tensor | None = None


def _leaving(positions: Tensor, index: Tensor, stays: Tensor | None) -> Tensor:
    """Return positions [B, n] with -1 in the slots of `index` [B, m], where `stays` (None: all of them)."""
    if stays is None:
        return positions.scatter(1, index, -1)
    # One slot more takes what the padding of the index writes.
    behind = positions.shape[1]
    return functional.pad(positions, (0, 1)).scatter(1, torch.where(stays, index, behind), -1)[:, :behind]
