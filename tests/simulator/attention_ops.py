"""Attention ops for the tests of designs, and short ways to run one."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

from simulator.designs.registry import make
from simulator.engine.interface import Cost, Design
from simulator.workload.ir import AttentionOp, LinearOp


def attention(
    keys: int = 128, queries: int | None = None, heads: int = 4, head_dim: int = 64, **changes: Any
) -> AttentionOp:
    queries = keys if queries is None else queries
    base = AttentionOp(
        layer=0,
        sequence=0,
        phase="summarise" if queries > 1 else "generate",
        step=0,
        context=max(keys, queries),
        queries=queries,
        keys=keys,
        heads=tuple(range(heads)),
        kv_heads=heads,
        head_dim=head_dim,
        values=(keys,) * heads,
        local_values=keys,
        lsb_queries=(0,) * heads,
        query_bits=12,
        key_msb_bits=8,
        key_lsb_bits=4,
        value_bits=12,
    )
    return dataclasses.replace(base, **changes)


def design(arch: str = "spatten", **changes: Any) -> Design:
    return make(arch, {name.replace("__", "."): value for name, value in changes.items()})[0]


def cost(op: AttentionOp | LinearOp, arch: str = "spatten", **changes: Any) -> Cost:
    return design(arch, **changes).cost(op, None, 0)


def useful(result: Cost) -> dict[str, int]:
    return {name: traffic.useful_bytes for name, traffic in result.traffic.items()}


def random_op(rng: random.Random) -> AttentionOp:
    keys = rng.randint(1, 150)
    heads = rng.randint(1, 6)
    queries = rng.choice([1, rng.randint(1, keys)])
    union = tuple(rng.randint(1, keys) for _ in range(heads))
    return attention(
        keys,
        queries,
        heads,
        rng.choice([32, 64, 80, 128]),
        phase="generate" if queries == 1 else "summarise",
        context=keys + rng.randint(0, 100),
        values=union,
        local_values=min(union),
        lsb_queries=tuple(rng.randint(0, queries) for _ in range(heads)),
        token_select=rng.choice([None, (keys, max(keys // 2, 1))]),
        key_msb_bits=rng.choice([4, 6, 8]),
        value_bits=rng.choice([6, 8, 12]),
        query_bits=rng.choice([8, 12]),
    )
