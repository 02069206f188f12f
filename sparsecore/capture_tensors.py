"""Q, K and V of a model with nothing pruned, layer by layer, and what designs and a pruned run decide about them."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from simulator.designs.decision import Rule
from simulator.designs.offline import decide_layer
from simulator.designs.pruned_run import decide_run
from simulator.workload import AttentionOp, Decision, Workload
from simulator.workload.ir import IntArray
from simulator.workload.tensors import LayerTensors, TensorWriter
from sparsecore.cascade.handle import Handle, handle_of
from sparsecore.errors import UnsupportedError
from sparsecore.models import body_of

__all__ = ["AttentionTap", "TensorSink", "tensor_sink", "without_cascade"]

_IMPLEMENTATION = "sparsecore_tap"
_TAP = "sparsecore_tap"  # keyword argument that carries the tap through the model's own forward
_REFUSED = ("softcap", "position_bias", "s_aux", "sinks")  # what changes scores beyond scale and mask
Seen = Callable[[int, Tensor, Tensor, Tensor, "Tensor | None", float], None]


class AttentionTap:
    """While it is entered, every attention of `model` is shown to `seen` before it is computed, in order of layers.

    `seen` is called with the layer, q [B, H, L, D], k and v [B, Hkv, L, D] after all position encodings, the mask (bool
    [B, 1, L, L], True where a query sees a key; None: everything) and the scale of the scores.

    Raises
    ------
    UnsupportedError: a model without transformers' attention interface, or whose attention does more than scale and
        mask its scores.
    """

    def __init__(self, model: nn.Module, seen: Seen) -> None:
        self._body, self._seen = body_of(model), seen
        self._layer = 0
        self._configs: list[tuple[Any, Any]] = []

    def __enter__(self) -> AttentionTap:
        config: Any = getattr(self._body, "config", None)
        if config is None or not getattr(self._body, "_can_set_attn_implementation", lambda: False)():
            raise UnsupportedError(
                f"the attention of {type(self._body).__name__} cannot be looked into",
                expected="a Hugging Face model that calls its attention through transformers' AttentionInterface",
            )
        _register()
        own = copy.copy(config)
        own._attn_implementation = _IMPLEMENTATION
        self._configs = [
            (module, config) for module in self._body.modules() if getattr(module, "config", None) is config
        ]
        for module, _ in self._configs:
            module.config = own
        self._hook = self._body.register_forward_pre_hook(self._begin, with_kwargs=True)
        return self

    def __exit__(self, *error: object) -> None:
        self._hook.remove()
        for module, config in self._configs:
            module.config = config

    def _begin(self, body: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        self._layer = 0
        return args, kwargs | {_TAP: self}

    def show(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> None:
        """Show one attention, and count it."""
        self._seen(self._layer, q, k, v, mask, scale)
        self._layer += 1


def _register() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(_IMPLEMENTATION, _attention)
    AttentionMaskInterface.register(_IMPLEMENTATION, _mask)


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    tap = kwargs.pop(_TAP, None)
    where = type(module).__name__
    if not isinstance(tap, AttentionTap):
        raise UnsupportedError("a part of the model was called by itself, without the model around it", where=where)
    if found := [name for name in _REFUSED if kwargs.get(name) is not None]:
        raise UnsupportedError(f"attention with {found[0]} cannot be decided about", where=where)
    mask = attention_mask
    if mask is None and query.shape[2] > 1 and kwargs.get("is_causal", getattr(module, "is_causal", False)):
        mask = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool).tril(key.shape[2] - query.shape[2])[
            None, None
        ]
    tap.show(query, key, value, mask, query.shape[-1] ** -0.5 if scaling is None else float(scaling))
    output: tuple[Tensor, None] = sdpa_attention_forward(
        module, query, key, value, attention_mask, scaling=scaling, **kwargs
    )
    return output


def _mask(**kwargs: Any) -> Tensor | None:
    """The mask in full, so that what a query sees never has to be guessed."""
    from transformers.masking_utils import sdpa_mask

    full: Tensor | None = sdpa_mask(**kwargs | {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False})
    return full


@dataclass(slots=True)
class TensorSink:
    """Takes a batch's tensors layer by layer: `rules` decide, `writer` keeps them; nothing else stays in memory.

    Parameters
    ----------
    mask: bool [B, L], which positions hold a token. prompts: tokens of each sequence before generated ones.
    first: number of the batch's first sequence. pruned: the ops of its pruned run, by sequence and layer; arrays: what
        they name. decisions: of all rules so far, and of the run itself. layers: seen of this batch.
    """

    rules: Sequence[Rule]
    writer: TensorWriter | None
    mask: Tensor = field(default_factory=lambda: torch.zeros((0, 0), dtype=torch.bool))
    prompts: Sequence[int] = ()
    first: int = 0
    pruned: Mapping[tuple[int, int], Sequence[AttentionOp]] = field(default_factory=dict)
    arrays: Mapping[str, IntArray] = field(default_factory=dict)
    decisions: list[Decision] = field(default_factory=list)
    layers: int = 0

    def begin(
        self,
        mask: Tensor,
        prompts: Sequence[int],
        first: int,
        pruned: Iterable[AttentionOp] = (),
        arrays: Mapping[str, IntArray] | None = None,
    ) -> None:
        """Take the next batch; `pruned`: the attention ops of its run with a cascade handle, and the arrays of ids."""
        self.mask, self.prompts, self.first = mask, prompts, first
        grouped: dict[tuple[int, int], list[AttentionOp]] = {}
        for op in (op for op in pruned if op.context):  # rules decide nothing about a sequence without tokens
            grouped.setdefault((op.sequence, op.layer), []).append(op)
        self.pruned, self.arrays = grouped, arrays or {}

    def take(self, layer: int, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> None:
        """Take one layer of the batch; see `AttentionTap`."""
        self.layers = layer + 1
        for row, prompt in enumerate(self.prompts):
            held = self.mask[row].nonzero().flatten()
            tensors = _layer_tensors(q[row], k[row], v[row], mask, row, held, scale)
            if self.writer is not None:
                self.writer.add(self.first + row, layer, tensors)
            for rule in self.rules:
                self.decisions.extend(decide_layer(rule, tensors, self.first + row, layer, prompt))
            for op in self.pruned.get((self.first + row, layer), ()):
                ids = self.arrays[op.key_ids] if op.key_ids is not None else None
                self.decisions.append(decide_run(op, ids, tensors))

    def finish(self, workload: Workload) -> Workload:
        """Return `workload` with the decisions, and with the tensors if they are kept."""
        expected = workload.model.layers
        if workload.attention and self.layers != expected:
            raise UnsupportedError(f"{self.layers} attentions were seen in {expected} layers", where=workload.name)
        kept = self.writer.finish() if self.writer is not None else None
        return replace(workload, decisions=tuple(self.decisions), tensors=kept)


def _layer_tensors(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, row: int, held: Tensor, scale: float
) -> LayerTensors:
    """Return a sequence's tensors [heads, tokens, D] without its padding, and what its queries see."""
    parts = (x[:, held].float() if x.dtype == torch.bfloat16 else x[:, held] for x in (q, k, v))
    rows = [part.detach().cpu().numpy() for part in parts]
    arrays = LayerTensors(rows[0], rows[1], rows[2], scale)
    if mask is None:
        return arrays
    if mask.dtype != torch.bool or mask.shape[1] != 1:
        raise UnsupportedError(
            f"an attention mask of {mask.dtype} and shape {tuple(mask.shape)} cannot be decided about",
            expected="which keys each query sees, the same for all heads",
        )
    seen = mask[min(row, len(mask) - 1), 0][held][:, held].cpu().numpy()
    if seen.all():
        return arrays
    causal = np.array_equal(seen, np.tri(len(held), dtype=bool))
    return replace(arrays, causal=causal, visible=None if causal else seen)


@contextmanager
def tensor_sink(
    designs: Sequence[str | Rule], keep_tensors: str | os.PathLike[str] | None
) -> Iterator[TensorSink | None]:
    """Yield what takes the tensors for some designs (names or rules), None where nobody wants them.

    Raises
    ------
    UnknownNameError: no such design. FileMissingError: the folder of `keep_tensors` does not exist.
    """
    rules = {rule.name: rule for design in designs if (rule := _rule_of(design)) is not None}
    if not rules and keep_tensors is None:
        yield None
        return
    writer = TensorWriter(Path(keep_tensors)) if keep_tensors is not None else None
    try:
        yield TensorSink(tuple(rules.values()), writer)
    finally:
        if writer is not None:
            writer.close()


def _rule_of(design: str | Rule) -> Rule | None:
    if isinstance(design, Rule):
        return design
    from simulator.designs.registry import make

    return make(design)[0].rule


@contextmanager
def without_cascade(model: nn.Module) -> Iterator[None]:
    """Run the model as it is without its cascade handle; the handle is back afterwards."""
    handle = handle_of(model)
    if handle is None:
        yield
        return
    held = [
        (hooks, key, hooks.pop(key))
        for module in model.modules()
        for hooks in (module._forward_pre_hooks, module._forward_hooks)
        for key in [key for key, hook in hooks.items() if isinstance(getattr(hook, "__self__", None), Handle)]
    ]
    try:
        yield
    finally:
        for hooks, key, hook in held:
            hooks[key] = hook
