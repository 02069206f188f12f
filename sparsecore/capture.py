"""A model run once on real inputs, as a workload for the simulator: what really happened, op by op."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from simulator.designs.decision import Rule
from simulator.workload import AttentionOp, Kind, LinearOp, ModelInfo, OtherOp, Workload
from simulator.workload import Sequence as InputSequence
from simulator.workload.build import element_bits
from simulator.workload.schedule import BitWidths, default_schedule
from sparsecore.capture_decoder import capture_decoder, is_decoder
from sparsecore.capture_ops import Caller, Recorder
from sparsecore.capture_tensors import AttentionTap, TensorSink, tensor_sink, without_cascade
from sparsecore.cascade import CascadeRun, Handle, handle_of
from sparsecore.errors import InvalidValueError
from sparsecore.inputs import Inputs, batches, evaluating
from sparsecore.models import Family, body_of, family_of
from sparsecore.models.call import token_mask
from sparsecore.models.info import model_info

__all__ = ["capture"]

_DECISIONS = ("tokens", "heads", "values", "lsb")


def capture(
    model: nn.Module,
    inputs: Inputs,
    *,
    name: str = "",
    texts: Sequence[str] | None = None,
    bits: BitWidths | None = None,
    designs: Sequence[str | Rule] = (),
    keep_tensors: str | os.PathLike[str] | None = None,
    generate: int = 0,
) -> Workload:
    """Run `model` once, without gradients and in eval mode, and return everything it computed.

    With a cascade handle the workload has the very tokens, heads, V rows and low-bit decisions of that run
    (`handle.last_run` is the run); without one, everything is kept. Every module call is an op: Linears with their
    pattern and density, norms, activations and residual sums counted by `simulator.workload.build.RULES`. Padding is
    not counted, and neither is the gather between pruned layers, which each design accounts for itself. Linear and
    other ops of one batch stand for all its sequences at once (sequence None); where several batches of more than one
    sequence are given, they are split by sequence.

    `designs` decide about the model with nothing pruned, from its real Q, K and V in every layer; with a cascade handle
    that is a second run, without it, and what the first one kept is compared with dense on the same Q, K and V
    (`simulator.designs.pruned_run`): the output error of SpAtten. One layer of one batch is in memory at a time. A
    decoder without a handle is described by its sizes, and generates greedily.

    Parameters
    ----------
    model: a Hugging Face model of a family in `sparsecore.models`, packed or not; or a decoder.
    inputs: as for `sparsify`: keyword arguments of the forward as a tokenizer returns them, a tensor of ids [B, L], or
        a list of such batches.
    texts: shown for each sequence. name: of the workload.
    bits: stored widths of Q, K and V where the run had no bit planes (then they are marked assumed); the default is
        that of the family's documented schedule.
    designs: names or YAML files of designs (`simulate archs`), or rules; those without a rule of their own decide
        nothing here. keep_tensors: path of the workload file beside which Q, K and V are written for later decisions;
        save the workload there.
    generate: tokens that a decoder generates after each input.

    Raises
    ------
    UnsupportedError: another kind of model, or a call that cannot be described (`sparsecore.models.call`); attention
        that designs cannot decide about (`sparsecore.capture_tensors`).
    InvalidValueError: no inputs, another number of texts than of sequences, or `generate` for an encoder or no count.
    UnknownNameError: no such design.
    """
    if isinstance(generate, bool) or not isinstance(generate, int) or generate < 0:
        raise InvalidValueError(f"generate is {generate!r}", where="capture", expected="a whole number of tokens")
    with tensor_sink(designs, keep_tensors) as sink:
        if is_decoder(model):
            workload = capture_decoder(model, inputs, generate, sink, bits)
        elif generate:
            raise InvalidValueError(f"{type(model).__name__} generates nothing", where="generate", expected="0")
        else:
            workload = _captured(model, inputs, bits, sink)
        return _named(sink.finish(workload) if sink is not None else workload, name or type(model).__name__, texts)


def _named(workload: Workload, name: str, texts: Sequence[str] | None) -> Workload:
    if texts is None:
        return replace(workload, name=name)
    if len(texts) != len(workload.sequences):
        raise InvalidValueError(f"{len(texts)} texts for {len(workload.sequences)} sequences", where="texts")
    sequences = tuple(InputSequence(s.index, s.tokens, t) for s, t in zip(workload.sequences, texts, strict=True))
    return replace(workload, name=name, sequences=sequences)


def _captured(model: nn.Module, inputs: Inputs, bits: BitWidths | None, sink: TensorSink | None) -> Workload:
    """Run an encoder, or what has a handle, and return the record."""
    family = family_of(model)
    info = model_info(model, family.name)
    handle = handle_of(model)
    parts = _Parts(info, handle, bits or default_schedule(family.name).bits)
    recorder = Recorder(model, family, info)
    calls = batches(inputs)
    with evaluating(model):
        for args, kwargs in calls:
            first, ops, body_call = len(parts.sequences), len(parts.attention), _BodyCall(model, family)
            with recorder, body_call:
                model(*args, **kwargs)
            parts.add(body_call.mask, recorder, alone=len(calls) == 1)
            if sink is not None:
                pruned = parts.attention[ops:] if parts.handle is not None else ()
                sink.begin(body_call.mask, body_call.mask.sum(1).tolist(), first, pruned, parts.arrays)
                with without_cascade(model), AttentionTap(model, sink.take):
                    model(*args, **kwargs)
    return parts.workload([*parts.notes, *recorder.notes])


class _BodyCall:
    """Sees the arguments with which the body of a model is called, whatever head stands on it."""

    def __init__(self, model: nn.Module, family: Family) -> None:
        self.mask = torch.zeros((0, 0), dtype=torch.bool)
        self._body, self._names = body_of(model), family.inputs

    def __enter__(self) -> None:
        self._hook = self._body.register_forward_pre_hook(self._see, with_kwargs=True)

    def __exit__(self, *error: object) -> None:
        self._hook.remove()

    def _see(self, body: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.mask = token_mask(dict(zip(self._names, args, strict=False)) | kwargs)


@dataclass(frozen=True, slots=True)
class _Pass:
    """One batch: tokens before pruning by sequence, and per layer and sequence after it; the run, if it was pruned."""

    first: int
    lengths: list[int]
    counts: list[list[int]]
    run: CascadeRun | None


class _Parts:
    """The ops of a workload, while the model runs batch after batch."""

    def __init__(self, info: ModelInfo, handle: Handle | None, bits: BitWidths) -> None:
        self.info = info
        self.handle = handle
        self.bits = bits
        self.sequences: list[InputSequence] = []
        self.attention: list[AttentionOp] = []
        self.linear: list[LinearOp] = []
        self.other: list[OtherOp] = []
        self.arrays: dict[str, np.ndarray[Any, np.dtype[np.int32]]] = {}
        self.notes: list[str] = []
        if handle is None or handle.schedule.msb_bits is None:
            self.notes.append("the run was not quantised: the stored widths of Q, K and V are assumed")

    def add(self, mask: Tensor, recorder: Recorder, alone: bool) -> None:
        """Add the ops of one batch; `alone`: there is no other batch."""
        lengths = mask.sum(1).tolist()
        run = self.handle.last_run if self.handle is not None else None
        counts = run.token_counts.tolist() if run is not None else [lengths] * self.info.layers
        now = _Pass(len(self.sequences), lengths, counts, run)
        self.sequences += [InputSequence(now.first + row, length) for row, length in enumerate(lengths)]
        for layer in range(self.info.layers):
            self.attention += [self._attention(now, layer, row) for row in range(len(lengths))]
        if alone or len(lengths) == 1:
            sequence = now.first if len(lengths) == 1 else None
            callers = [Caller(sequence, lengths, counts)]
        else:
            callers = [
                Caller(now.first + row, [length], [[layer[row]] for layer in counts])
                for row, length in enumerate(lengths)
            ]
        linear, other = recorder.take(callers)
        self.linear += linear
        self.other += other

    def workload(self, notes: Sequence[str]) -> Workload:
        """Return the whole, without a name."""
        schedule = self.handle.schedule.name if self.handle is not None else ""
        return Workload(
            name="",
            model=self.info,
            sequences=tuple(self.sequences),
            attention=tuple(self.attention),
            linear=tuple(self.linear),
            other=tuple(self.other),
            arrays=self.arrays,
            schedule=f"measured run of {schedule}" if schedule else "measured run",
            source="capture",
            notes=tuple(notes),
        )

    def _attention(self, now: _Pass, layer: int, row: int) -> AttentionOp:
        keys, run = now.counts[layer][row], now.run
        heads = tuple(range(self.info.heads)) if run is None else tuple(run.heads(layer, row).tolist())
        values, low = (keys,) * len(heads), (0,) * len(heads)
        if run is not None:
            values, low = (tuple(x[layer, row, list(heads)].tolist()) for x in (run.values, run.low_queries))
        query_bits, key_msb_bits, key_lsb_bits, value_bits = self._widths()
        return AttentionOp(
            layer=layer,
            sequence=now.first + row,
            phase="summarise",
            step=0,
            context=now.lengths[row],
            queries=keys,
            keys=keys,
            heads=heads,
            kv_heads=len(heads),
            head_dim=self.info.head_dim,
            values=values,
            local_values=keys if run is None else run.local_values(layer, row),
            lsb_queries=low,
            query_bits=query_bits,
            key_msb_bits=key_msb_bits,
            key_lsb_bits=key_lsb_bits,
            value_bits=value_bits,
            token_select=_select(keys, now.counts[layer + 1][row] if layer + 1 < self.info.layers else keys),
            head_select=self._head_select(run, layer, row),
            key_ids=self._key_ids(now, layer, row),
            kind=cast("dict[str, Kind]", dict.fromkeys(_DECISIONS, "measured") | {"bits": self._bits_kind()}),
            protected=min(keys, int(self.handle is not None and self.handle.schedule.protect_first)),
        )

    def _widths(self) -> tuple[int, int, int, int]:
        """Return the stored bits of Q, of K's high and low parts, and of V."""
        schedule = self.handle.schedule if self.handle is not None else None
        if schedule is None or schedule.msb_bits is None:
            # No query was asked whether it needs the low bits: K is read in one pass.
            key = self.bits.key_msb + self.bits.key_lsb
            return self.bits.query, key, 0, self.bits.value
        value = schedule.value_bits or element_bits(self.info.dtype)
        return schedule.msb_bits + schedule.lsb_bits, schedule.msb_bits, schedule.lsb_bits, value

    def _bits_kind(self) -> Kind:
        return "measured" if self.handle is not None and self.handle.schedule.msb_bits is not None else "assumed"

    def _head_select(self, run: CascadeRun | None, layer: int, row: int) -> tuple[int, int] | None:
        if run is None or layer + 1 == self.info.layers:
            return None
        return _select(len(run.heads(layer, row)), len(run.heads(layer + 1, row)))

    def _key_ids(self, now: _Pass, layer: int, row: int) -> str | None:
        """Store the kept positions once for all layers that keep the same; None where nothing is pruned."""
        keys = now.counts[layer][row]
        if now.run is None or keys == now.lengths[row]:
            return None
        name = f"sequence{now.first + row}.keys{keys}"
        if name not in self.arrays:
            # Positions count from the sequence's first token, wherever its padding stands.
            real = (now.run.survived[row] > 0).nonzero().flatten()
            kept = torch.searchsorted(real, now.run.tokens(layer, row))
            self.arrays[name] = kept.to(torch.int32).numpy()
        return name


def _select(candidates: int, kept: int) -> tuple[int, int] | None:
    """Return a top-k after an op, where the next layer has fewer."""
    return (candidates, kept) if kept < candidates else None
