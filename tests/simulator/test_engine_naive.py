"""The event engine against a model that steps every unit cycle by cycle, with the ideal memory: equal to the cycle."""

from __future__ import annotations

import random
from typing import Any

import pytest
from attention_ops import attention
from naive_spatten import Naive

from simulator.designs.registry import make
from simulator.designs.spatten.blocks import SAMPLE
from simulator.engine.interface import UnitCycles
from simulator.errors import UnsupportedError
from simulator.workload.ir import AttentionOp


def small_op(rng: random.Random) -> AttentionOp:
    """Heads 1 to 3 (or grouped), queries 1 to 12, keys 1 to 40, with and without local V and low bits."""
    keys, kv_heads = rng.randint(1, 40), rng.randint(1, 3)
    heads = kv_heads * rng.choice([1, 1, 2, 3])
    queries = rng.choice([1, rng.randint(1, min(12, keys))])
    local = rng.choice([keys, rng.randint(0, keys)])
    return attention(
        keys,
        queries,
        heads,
        rng.choice([8, 32, 64, 80, 128]),
        phase="generate" if queries == 1 else "summarise",
        context=keys + rng.choice([0, rng.randint(0, 40)]),
        kv_heads=kv_heads,
        values=tuple(rng.randint(local, keys) for _ in range(heads)),
        local_values=local,
        lsb_queries=tuple(rng.choice([0, rng.randint(0, queries)]) for _ in range(heads)),
        token_select=rng.choice([None, (keys, rng.randint(1, keys))]),
        head_select=rng.choice([None, (heads, rng.randint(1, heads))]),
        key_msb_bits=rng.choice([4, 6, 8, 12]),
        key_lsb_bits=rng.choice([0, 4]),
        value_bits=rng.choice([6, 8, 12]),
        query_bits=rng.choice([8, 12]),
    )


def small_machine(rng: random.Random) -> dict[str, Any]:
    """Random sizes of every unit, the ideal memory among them."""
    multipliers = rng.choice([8, 32, 64, 256, 512])
    lanes = rng.choice([8, 64])
    return {
        "dram.standard": "ideal",
        "dram.ideal_latency": rng.choice([0, 1, 10, 60]),
        "dram.ideal_bytes_per_cycle": rng.choice([16, 32, 100, 512, 2048]),
        "array.multipliers": multipliers,
        "array.minimum_lanes": lanes,
        "softmax.parallelism": rng.choice([1, 3, 8]),
        "softmax.fifo_depth": rng.choice([1, 4, 16, 128]),
        "softmax.dequantise": rng.choice([0, 7]),
        "softmax.exponent": rng.choice([0, 21]),
        "softmax.accumulate": rng.choice([0, 1]),
        "softmax.divide": rng.choice([0, 29]),
        "softmax.quantise": rng.choice([0, 2]),
        "topk.parallelism": rng.choice([1, 2, 16]),
        "topk.cycles_per_round": rng.choice([0, 3]),
        "topk.output_hidden": rng.choice([True, False]),
        "pipeline.undecided": rng.choice([1, 2, 3, 8]),
        "pipeline.decided": rng.choice([1, 2, 8]),
        "sram.bytes": rng.choice([1 << 12, 1 << 14, 1 << 16]),
        "sram.buffers": rng.choice([1, 2]),
        "sram.outstanding": rng.choice([1, 2, 16]),
        "sram.fill_lines": rng.choice([1, 2, 4]),
        "sram.shared_port": rng.choice([True, False]),
        "fetcher.lanes": rng.choice([1, 4, 32]),
        "fetcher.fifo_depth": rng.choice([1, 8, 64]),
        "fetcher.in_order": rng.choice([True, False]),
        "write.outputs": rng.choice([True, True, False]),
        "write.new_key_value": rng.choice([True, False]),
    }


def compare(machine: dict[str, Any], op: AttentionOp) -> None:
    design = make("spatten", machine)[0]
    cost = design.cost(op, None, 0)
    naive = Naive(design.settings, op, design.machine.block(op))
    assert cost.cycles == naive.run()
    accounts = {name: UnitCycles(*counts) for name, counts in naive.busy(cost.cycles).items()}
    assert cost.units == accounts


@pytest.mark.parametrize("case", range(40))
def test_cycles_and_accounts_equal_the_stepped_model(case: int, seed: int) -> None:
    rng = random.Random(seed * 1000 + case)
    done = 0
    while done < 10:
        machine, op = small_machine(rng), small_op(rng)
        try:
            compare(machine, op)
        except UnsupportedError:  # the keys do not fit in the SRAM that was drawn
            continue
        except AssertionError:
            print(machine, op)
            raise
        done += 1


@pytest.mark.parametrize("case", range(8))
def test_keys_that_stream_by_equal_the_stepped_model(case: int, seed: int) -> None:
    rng = random.Random(seed * 1000 + case)
    done = 0
    while done < 8:
        op = small_op(rng)
        machine = small_machine(rng) | {"kv_tiling": "stream", "sram.bytes": rng.choice([1 << 10, 1 << 12])}
        machine["pipeline.held_scores"] = rng.randint(1, 400)
        design = make("spatten", machine)[0]
        block = design.machine.block(op)
        if block is None or -(-op.queries * len(op.heads) // op.kv_heads // block) * op.kv_heads > 2 * SAMPLE:
            continue
        try:
            compare(machine, op)
        except UnsupportedError:  # not even one row fits
            continue
        except AssertionError:
            print(machine, op)
            raise
        done += 1
