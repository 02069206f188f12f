"""The workloads that the targets are about, by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from simulator.errors import UnknownNameError, nearest
from simulator.workload.ir import AttentionOp, Workload
from simulator.workload.named import builtin_workloads
from simulator.workload.reader import read_workload
from simulator.workload.request import ReadRequest
from simulator.workload.schedule import Ramp, kept

__all__ = ["CASES", "BertPlan", "make", "pruned_bert", "with_all_heads"]


def attention_only(workload: Workload) -> Workload:
    """Return the attention ops alone."""
    return dataclasses.replace(workload, linear=(), other=())


def linear_only(workload: Workload) -> Workload:
    """Return the linear ops inside the layers alone: the paper's FC layers; lm_head is none of them."""
    inside = tuple(op for op in workload.linear if op.layer is not None)
    return dataclasses.replace(workload, attention=(), linear=inside, other=())


def with_all_heads(workload: Workload) -> Workload:
    """Return the schedule without head pruning: removed heads come back with their layer's own counts."""
    heads, kv_heads = workload.model.heads, workload.model.kv_heads

    def whole(op: AttentionOp) -> AttentionOp:
        values, low = (op.local_values,) * heads, (0,) * heads
        return dataclasses.replace(
            op, heads=tuple(range(heads)), kv_heads=kv_heads, values=values, lsb_queries=low, head_select=None
        )

    return dataclasses.replace(workload, attention=tuple(map(whole, workload.attention)))


@lru_cache(maxsize=64)
def dense_bert(model: str, tokens: int) -> Workload:
    """Return the attention of a BERT with nothing pruned."""
    return attention_only(read_workload(model, ReadRequest(seq_len=tokens, schedule="none")))


@dataclass(frozen=True, slots=True)
class BertPlan:
    """Averages of SpAtten's published rule for BERT, none of which is published: over the layers that prune.

    Parameters
    ----------
    token_keep, head_keep: mean share kept. bits: stored width of Q, K and V.
    """

    token_keep: float
    head_keep: float
    bits: int

    def __str__(self) -> str:
        return f"{self.token_keep:g} of tokens, {self.head_keep:g} of heads, {self.bits} bit"


def _falling(unpruned: float, average: float, layers: int) -> tuple[float, ...]:
    """Return the rule's ratios, from as near to 1 as an end above 0 allows."""
    return Ramp(unpruned=unpruned, average=average, start=min(1.0, 2 * average - 0.1)).ratios(layers)


@lru_cache(maxsize=512)
def pruned_bert(model: str, tokens: int, plan: BertPlan) -> Workload:
    """Return the attention of a BERT under a plan; all V rows are kept."""
    dense = dense_bert(model, tokens)
    layers, heads = dense.model.layers, dense.model.heads
    keep = zip(_falling(0.15, plan.token_keep, layers), _falling(0.30, plan.head_keep, layers), strict=True)
    ops = []
    for op, (token_keep, head_keep) in zip(dense.attention, keep, strict=True):
        left, some = kept(tokens, token_keep), kept(heads, head_keep)
        ops.append(_keep(op, left, some, plan.bits))
    name = f"{model}, {tokens} tokens, {plan}"
    return dataclasses.replace(dense, name=name, attention=tuple(ops), schedule=str(plan))


def _keep(op: AttentionOp, tokens: int, heads: int, bits: int) -> AttentionOp:
    return dataclasses.replace(
        op,
        queries=tokens,
        keys=tokens,
        local_values=tokens,
        heads=tuple(range(heads)),
        kv_heads=heads,
        values=(tokens,) * heads,
        lsb_queries=(0,) * heads,
        query_bits=bits,
        key_msb_bits=bits,
        value_bits=bits,
    )


def _generation(model: str, schedule: str) -> Workload:
    return attention_only(read_workload(model, ReadRequest(schedule=schedule)).only("generate"))


CASES: dict[str, Callable[[], Workload]] = {
    "gpt2-medium@wikitext2, all heads": lambda: with_all_heads(make("gpt2-medium@wikitext2")),
    "gpt2-medium, small's schedule": lambda: _generation("gpt2-medium", "spatten-gpt2-small"),
    "gpt2-small, medium's schedule": lambda: _generation("gpt2", "spatten-gpt2"),
    "gpt2-medium, 32 tokens, FC": lambda: linear_only(read_workload("gpt2-medium@wikitext2")),
    "bert-base, 320 tokens, dense": lambda: dense_bert("bert-base", 320),
    "bert-base, 384 tokens, dense": lambda: dense_bert("bert-base", 384),
}


def make(name: str) -> Workload:
    """Return the workload of a case: one of `CASES`, or the attention of a built-in workload.

    Raises
    ------
    UnknownNameError: neither.
    """
    if name in CASES:
        return CASES[name]()
    if name not in builtin_workloads():
        known = (*CASES, *builtin_workloads())
        raise UnknownNameError(f"no case named {name!r}", where="case of a target", hint=nearest(name, known))
    return attention_only(read_workload(name))
