"""The record of one generation: which tokens and heads each layer read in each step."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from sparsecore.cascade.generation.settings import Mode, Settings
from sparsecore.cascade.schedule import Schedule
from sparsecore.errors import InvalidValueError
from sparsecore.models.info import ModelInfo

__all__ = ["GenerationRun", "Record"]


@dataclass(frozen=True, slots=True, eq=False)
class GenerationRun:
    """What the decoding steps of B sequences read: T steps, behind a prompt that was read as a whole.

    Where beams were reordered or sequences selected, a step tells of the sequences as they stood in it.

    Parameters
    ----------
    schedule, model, mode: what was asked for, and the sizes of the model.
    prompts: tokens of each prompt. prompt_ids: prompt_ids[layer][sequence], int64, its tokens that a layer computed.
    seen: [T, B] tokens so far, the step's own included.
    counts: int64 [T, layers, B] tokens read. heads: bool [T, layers, B, H] heads computed.
    low: bool [T, layers, B, H] queries that read the low bits of K. values: int32 [T, layers, B, H] V rows multiplied.
    ids: ids[step][layer][sequence], int64, the tokens read, ascending; empty unless `record=True` was given to `apply`.
    cache_bytes: bytes of the cache after the last step.
    """

    schedule: Schedule
    model: ModelInfo
    mode: Mode
    prompts: tuple[int, ...]
    prompt_ids: tuple[tuple[Tensor, ...], ...]
    seen: Tensor
    counts: Tensor
    heads: Tensor
    low: Tensor
    values: Tensor
    ids: tuple[tuple[tuple[Tensor, ...], ...], ...]
    cache_bytes: int

    @property
    def steps(self) -> int:
        """Number of decoding steps."""
        return len(self.seen)

    @property
    def rows_read(self) -> Tensor:
        """Mean rows read by each layer, over steps and sequences, float64 [layers]."""
        return self.counts.double().mean((0, 2))

    @property
    def token_keep(self) -> float:
        """Mean over steps, layers and sequences of tokens read over tokens seen; 1 where there were no steps."""
        if not self.steps:
            return 1.0
        return float((self.counts / self.seen[:, None]).mean())

    @property
    def head_counts(self) -> Tensor:
        """Query heads that were computed, int64 [T, layers, B]."""
        return self.heads.sum(-1)

    @property
    def kv_head_counts(self) -> Tensor:
        """Key heads that were read, int64 [T, layers, B]: those with a query head that was not pruned."""
        return self.heads.view(*self.heads.shape[:3], self.model.kv_heads, -1).any(-1).sum(-1)

    @property
    def head_keep(self) -> float:
        """Mean share of the query heads that were computed; 1 where there were no steps."""
        return float(self.head_counts.double().mean()) / self.model.heads if self.steps else 1.0

    @property
    def kv_head_keep(self) -> float:
        """Mean share of the key heads that were read; 1 where there were no steps."""
        return float(self.kv_head_counts.double().mean()) / self.model.kv_heads if self.steps else 1.0

    @property
    def value_keep(self) -> float:
        """V rows multiplied over tokens read, of all heads that were computed; 1 where there were none."""
        rows = int((self.counts[..., None] * self.heads).sum())
        return int(self.values.sum(dtype=torch.int64)) / rows if rows else 1.0

    @property
    def low_share(self) -> Tensor:
        """Share of each layer's queries (one a head that is left) that read the low bits, float64 [layers]."""
        return self.low.sum((0, 2, 3)).double() / self.heads.sum((0, 2, 3)).clamp(min=1)

    def tokens(self, step: int, layer: int, sequence: int) -> Tensor:
        """Return the ids of the tokens that were read, int64, ascending.

        Raises
        ------
        InvalidValueError: ids were not recorded.
        """
        if not self.ids and self.steps:
            raise InvalidValueError("the run has no token ids", where="tokens", hint="apply(..., record=True)")
        return self.ids[step][layer][sequence]


@dataclass(slots=True)
class _Step:
    seen: list[int]
    layers: list[tuple[Tensor | None, Tensor, Tensor | None, Tensor, Tensor]] = field(default_factory=list)


class Record:
    """Collects what the steps of one cache do. Nothing is copied but ids: the tensors of a step are its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._steps: list[_Step] = []
        self._now = _Step([])
        self._prompt: list[tuple[Tensor | None, Tensor]] = []

    def add_prompt(self, ids: Tensor | None, counts: Tensor) -> None:
        """Add the next layer of the prompt's pass: ids [B, n] (None: 0 ... n - 1) and counts [B] of its tokens."""
        self._prompt.append((ids, counts))

    def begin(self, seen: list[int]) -> None:
        """Begin a step, at whose end `seen[b]` tokens are known."""
        self._now = _Step(seen)
        self._steps.append(self._now)

    def add(self, ids: Tensor | None, counts: Tensor, heads: Tensor | None, low: Tensor, values: Tensor) -> None:
        """Add the next layer: ids [B, n] (None: 0 ... n - 1) and counts [B] of what it read; the rest as in the run."""
        if not self._settings.record:
            ids = None
        elif self._settings.mode == "evict" and ids is not None:
            ids = ids.clone()
        self._now.layers.append((ids, counts, heads, low, values))

    def run(self, info: ModelInfo, prompts: list[int], cache_bytes: int) -> GenerationRun:
        """Return the record of the steps since the prompt."""
        steps = self._steps
        batch = len(prompts)

        def stacked(place: int, shape: tuple[int, ...], kind: torch.dtype) -> Tensor:
            rows = [[layer[place] for layer in step.layers] for step in steps]
            full = torch.ones(shape, dtype=kind)
            whole = [torch.stack([full if row is None else row for row in step]) for step in rows]
            return torch.stack(whole).cpu() if whole else torch.zeros((0, info.layers, *shape), dtype=kind)

        heads = (batch, info.heads)
        return GenerationRun(
            schedule=self._settings.schedule,
            model=info,
            mode=self._settings.mode,
            prompts=tuple(prompts),
            prompt_ids=tuple(_split(ids, counts) for ids, counts in self._prompt),
            seen=torch.tensor([step.seen for step in steps], dtype=torch.int64).reshape(len(steps), batch),
            counts=stacked(1, (batch,), torch.int64),
            heads=stacked(2, heads, torch.bool),
            low=stacked(3, heads, torch.bool),
            values=stacked(4, heads, torch.int32),
            ids=tuple(tuple(_split(layer[0], layer[1]) for layer in step.layers) for step in steps)
            if self._settings.record
            else (),
            cache_bytes=cache_bytes,
        )


def _split(ids: Tensor | None, counts: Tensor) -> tuple[Tensor, ...]:
    """Return the first counts[b] of ids[b] [B, n] (None: 0, 1, ...) of each sequence b."""
    numbers = counts.tolist()
    full = torch.arange(max(numbers, default=0)).expand(len(numbers), -1) if ids is None else ids.cpu()
    return tuple(row[:number] for row, number in zip(full, numbers, strict=True))
