"""The calls of a model's modules, as linear and other ops of a workload."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from simulator.workload import Kind, LinearOp, ModelInfo, OtherOp
from simulator.workload.build import RULES, Rule, element_bits
from sparsecore.errors import UnsupportedError
from sparsecore.models import Family, body_of
from sparsecore.models.info import dtype_name
from sparsecore.packed import PackedWeight

__all__ = ["Caller", "Recorder"]

_MEASURED: dict[str, Kind] = {"tokens": "measured"}
_NO_OPS = (nn.Dropout, nn.Identity, nn.Embedding)  # the embedding block counts its lookups as one sum


@dataclass(frozen=True, slots=True)
class Caller:
    """For whom ops are counted: one sequence, or all of a batch (sequence None).

    lengths: tokens before pruning, by sequence. counts: after it, by layer and sequence.
    """

    sequence: int | None
    lengths: list[int]
    counts: list[list[int]]


@dataclass(frozen=True, slots=True)
class _Call:
    """One call of a leaf module, or of the embedding block: where it stands, the shape of its result, and the features
    of its input (a projection may leave out those of pruned heads)."""

    layer: int | None
    name: str
    module: nn.Module
    shape: torch.Size
    features: int


class Recorder:
    """Records, while it is entered, the calls of all modules that compute something, in order.

    Attributes
    ----------
    notes: what a reader of the workload must know.
    """

    def __init__(self, model: nn.Module, family: Family, info: ModelInfo) -> None:
        self.family = family
        self.info = info
        self.notes: list[str] = []
        self._calls: list[_Call] = []
        self._hooks: list[Any] = []
        self._model = model
        body = body_of(model)
        self._embeddings = body.get_submodule(family.embeddings)
        self._body = next(name for name, module in model.named_modules() if module is body)

    def __enter__(self) -> Recorder:
        for name, module in self._model.named_modules():
            leaf = next(module.children(), None) is None
            if (leaf and not isinstance(module, _NO_OPS)) or module is self._embeddings:
                layer, inner = self._place(name)
                self._hooks.append(module.register_forward_hook(self._hook(layer, inner)))
        return self

    def __exit__(self, *error: object) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def take(self, callers: list[Caller]) -> tuple[list[LinearOp], list[OtherOp]]:
        """Return the ops of the calls since the last time, once for each of `callers`."""
        calls = _summed(self._calls)
        self._calls = []
        linear: list[LinearOp] = []
        other: list[OtherOp] = []
        for caller in callers:
            for call in calls:
                tokens = self._tokens(call, caller)
                if hasattr(call.module, "in_features"):
                    linear.append(self._linear(call, caller, tokens))
                else:
                    other += self._other(call, caller, tokens)
        return linear, other

    def _place(self, name: str) -> tuple[int | None, str]:
        """Split a module's name into the layer that it is in, if any, and its name from there (or from the body)."""
        if self._body and name.startswith(f"{self._body}."):
            name = name.removeprefix(f"{self._body}.")
        stack = f"{self.family.encoder}.{self.family.layers}."
        if not name.startswith(stack):
            return None, name
        number, _, inner = name.removeprefix(stack).partition(".")
        return int(number), inner

    def _hook(self, layer: int | None, name: str) -> Any:
        def record(module: nn.Module, args: Any, output: Any) -> None:
            if not isinstance(output, Tensor):
                raise UnsupportedError(f"the result of {name} is not a tensor", where=name, expected="a tensor")
            first = args[0] if args and isinstance(args[0], Tensor) else output
            self._calls.append(_Call(layer, name, module, output.shape, first.shape[-1]))

        return record

    def _tokens(self, call: _Call, caller: Caller) -> int:
        """Return the rows of a call that hold tokens: kept ones in a layer, one a sequence behind the pooling."""
        if len(call.shape) < 3:
            return len(caller.lengths)
        counts = caller.lengths if call.layer is None else caller.counts[call.layer]
        if call.shape[-2] < max(counts, default=0):
            raise UnsupportedError(
                f"{call.name} ran on {call.shape[-2]} positions, fewer than the {max(counts)} tokens recorded for it",
                where=f"layer {call.layer}",
                expected="a model in which only cascade pruning removes tokens",
            )
        return sum(counts)

    def _linear(self, call: _Call, caller: Caller, tokens: int) -> LinearOp:
        module: Any = call.module
        pattern, density, dtype = "dense", 1.0, None
        if (packed := getattr(module, "packed", None)) is not None:
            stored = packed.stored() if isinstance(packed, PackedWeight) else packed
            pattern, density, dtype = packed.pattern.name, stored.density, packed.dtype
        return LinearOp(
            layer=call.layer,
            name=call.name,
            sequence=caller.sequence,
            phase="summarise",
            step=0,
            tokens=tokens,
            in_features=call.features,
            out_features=call.shape[-1],
            pattern=pattern,
            density=density,
            weight_bits=element_bits(dtype_name(dtype or module.weight.dtype)),
            kind=_MEASURED | {"pattern": "measured"},
        )

    def _other(self, call: _Call, caller: Caller, tokens: int) -> list[OtherOp]:
        def op(name: str, rule: Rule) -> OtherOp:
            elements = tokens * call.shape[-1]
            return OtherOp(
                layer=call.layer,
                name=name,
                sequence=caller.sequence,
                phase="summarise",
                step=0,
                tokens=tokens,
                elements=elements,
                operations=rule.operations * elements,
                bytes=(rule.inputs + 1) * elements * element_bits(self.info.dtype) // 8,
                kind=_MEASURED,
            )

        if call.module is self._embeddings:
            tables = self.family.summed_embeddings
            return [op("embeddings", Rule(tables - 1, tables))]
        if isinstance(call.module, nn.LayerNorm):
            return self._norm(call, op)
        name = "activation" if call.layer is not None else call.name
        return [op(name, self._activation(call.module))]

    def _norm(self, call: _Call, op: Any) -> list[OtherOp]:
        if call.layer is None:
            return [op(f"{call.name.rpartition('.')[0]}.layer_norm", RULES["layer_norm"])]
        place = "attention." if call.name == self.family.attention_norm else ""
        norm = op(f"{place}layer_norm", RULES["layer_norm"])
        if call.name in (self.family.attention_norm, self.family.output_norm):
            return [op(f"{place}residual", RULES["residual"]), norm]
        return [norm]

    def _activation(self, module: nn.Module) -> Rule:
        kind = type(module).__name__
        if "GELU" in kind.upper():
            return RULES["gelu"]
        note = f"{kind} is counted as one operation per element"
        if not isinstance(module, nn.Tanh | nn.ReLU) and note not in self.notes:
            self.notes.append(note)
        return RULES["tanh"]


def _summed(calls: list[_Call]) -> list[_Call]:
    """Put the embedding block, whose hook runs after those inside it, where its sum is made: before its norm."""
    blocks = [call for call in calls if next(call.module.children(), None) is not None]
    return blocks + [call for call in calls if call not in blocks]
