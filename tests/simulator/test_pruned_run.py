"""The pruning of a run applied to dense Q, K and V: against attention read number by number, and in results."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attention_ops import attention

from simulator import api
from simulator.designs.pruned_run import decide_run
from simulator.errors import InvalidValueError
from simulator.workload import AttentionOp, ModelInfo, Sequence, Workload
from simulator.workload.decisions import OF_THE_RUN
from simulator.workload.tensors import LayerTensors

HEADS, KV_HEADS, SIZE, TOKENS = 4, 2, 6, 13
MODEL = ModelInfo("gpt2", 1, HEADS, KV_HEADS, SIZE, 24, 48, 10, 100, "f32")


def tensors(rng: np.random.Generator, causal: bool, tokens: int = TOKENS) -> LayerTensors:
    q = rng.standard_normal((HEADS, tokens, SIZE)).astype(np.float32) * 2
    k, v = (rng.standard_normal((KV_HEADS, tokens, SIZE)).astype(np.float32) for _ in range(2))
    return LayerTensors(q, k, v, 0.4, causal=causal)


def pruned(rng: np.random.Generator, phase: str) -> tuple[AttentionOp, np.ndarray[Any, Any]]:
    """An op that keeps 8 keys and three heads, each at other counts, and the positions of its keys."""
    ids = np.sort(rng.choice(TOKENS, 8, replace=False)).astype(np.int32)
    queries = 8 if phase == "summarise" else 1
    op = attention(
        8,
        queries,
        3,
        SIZE,
        phase=phase,
        context=TOKENS,
        kv_heads=KV_HEADS,
        values=(8, 5, 8) if queries > 1 else (5, 3, 4),
        local_values=5,
        lsb_queries=tuple(int(n) for n in rng.integers(0, queries + 1, 3)),
        key_msb_bits=4,
        value_bits=5,
        query_bits=6,
        key_ids="ids",
    )
    return dataclasses.replace(op, heads=(0, 1, 3)), ids


def whole_numbers(row: Any, bits: int) -> tuple[list[int], float]:
    scale = max(abs(float(x)) for x in row) / (2 ** (bits - 1) - 1)
    return [round(float(x) / scale) for x in row], scale


def shares(scores: dict[int, float]) -> dict[int, float]:
    total = sum(math.exp(score) for score in scores.values())
    return {key: math.exp(score) / total for key, score in scores.items()}


def probabilities(op: AttentionOp, given: LayerTensors, head: int, query: int, keys: list[int], low: bool) -> Any:
    """Shares of `keys` for one query: integers times their scales, K without its low bits unless `low`."""
    asked, by = whole_numbers(given.q[head, query], op.query_bits)
    scores, step = {}, 2**op.key_lsb_bits
    for key in keys:
        row, scale = whole_numbers(given.k[head * KV_HEADS // HEADS, key], op.key_msb_bits + op.key_lsb_bits)
        known = row if low else [x // step * step + step // 2 for x in row]
        scores[key] = given.scale * sum(a * by * b * scale for a, b in zip(asked, known, strict=True))
    return shares(scores)


def outputs(op: AttentionOp, ids: list[int], given: LayerTensors) -> tuple[Any, Any]:
    """The output of the pruned run and of dense attention, [heads, queries, SIZE], read number by number."""
    first = 0 if op.phase == "summarise" else op.context - 1
    made = np.zeros((HEADS, op.context - first, SIZE))
    dense = np.zeros_like(made)
    for head in range(HEADS):
        v = given.v[head * KV_HEADS // HEADS]
        seen = {query: query + 1 if given.causal else op.context for query in range(first, op.context)}
        for query, end in seen.items():
            scores = {
                key: given.scale * float(given.q[head, query].astype(float) @ given.k[head * KV_HEADS // HEADS, key])
                for key in range(end)
            }
            dense[head, query - first] = sum(p * v[key] for key, p in shares(scores).items())
        if head not in op.heads:
            continue
        place = op.heads.index(head)
        asked = [query for query in seen if query in ids or op.phase == "generate"]
        keys = {query: [key for key in ids if key < seen[query]] for query in asked}
        rough = {query: probabilities(op, given, head, query, keys[query], low=False) for query in asked}
        unsure = sorted(asked, key=lambda query: max(rough[query].values(), default=0.0))
        again = unsure[: op.lsb_queries[place]]
        for query in asked:
            p = probabilities(op, given, head, query, keys[query], low=True) if query in again else rough[query]
            for key in sorted(p, key=lambda key: -p[key])[: min(op.values[place], op.local_values)]:
                row, scale = whole_numbers(v[key], op.value_bits)
                made[head, query - first] += p[key] * scale * np.array(row)
    return made, dense


@pytest.mark.parametrize("phase", ["summarise", "generate"])
@pytest.mark.parametrize("causal", [True, False])
def test_the_error_is_that_of_attention_read_number_by_number(phase: str, causal: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    given = tensors(rng, causal)
    op, ids = pruned(rng, phase)
    made = decide_run(op, ids, given)
    ours, dense = outputs(op, ids.tolist(), given)
    assert made.output_error == pytest.approx(np.linalg.norm(ours - dense) / np.linalg.norm(dense), rel=1e-6)
    assert (made.rule, made.place, made.kind) == (OF_THE_RUN, op.place, "measured")
    assert not made.candidates[2].any() and not made.values[2].any()  # the pruned head
    queries = range(TOKENS) if phase == "summarise" else [TOKENS - 1]
    for place, query in enumerate(queries):
        seen = sum(key <= query or not causal for key in ids) if query in ids or phase == "generate" else 0
        for head, number in zip(op.heads, range(3), strict=True):
            assert made.candidates[head, place] == seen
            assert made.values[head, place] == min(seen, op.local_values, op.values[number])


def test_nothing_pruned_and_wide_numbers_are_dense(seed: int) -> None:
    rng = np.random.default_rng(seed)
    whole = attention(TOKENS, heads=HEADS, head_dim=SIZE, kv_heads=KV_HEADS)
    wide = dataclasses.replace(whole, query_bits=32, key_msb_bits=32, key_lsb_bits=0, value_bits=32)
    for given in (tensors(rng, causal=True), tensors(rng, causal=False)):
        assert decide_run(wide, None, given).output_error == pytest.approx(0, abs=1e-7)
        fewer = [dataclasses.replace(wide, value_bits=bits) for bits in (12, 8, 4)]
        errors = [decide_run(op, None, given).output_error or 0.0 for op in fewer]
        assert 0 < errors[0] < errors[1] < errors[2] < 0.2
    gone = dataclasses.replace(wide, heads=(), kv_heads=0, values=(), lsb_queries=())
    assert decide_run(gone, None, given).output_error == pytest.approx(1)  # a head that is missing is wholly wrong
    given.q[0, 0, 0] = np.nan
    with pytest.raises(InvalidValueError, match="not finite"):
        decide_run(wide, None, given)


def test_results_show_it_where_it_was_captured(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    given = tensors(rng, causal=False)
    op, ids = pruned(rng, "summarise")
    made = decide_run(op, ids, given)
    plain = Workload("w", MODEL, (Sequence(0, TOKENS),), (op,), (), (), arrays={"ids": ids})
    captured = dataclasses.replace(plain, decisions=(made,))
    captured.save(tmp_path / "w.json")
    for arch in ("spatten", "spatten-eighth"):
        result = api.run(str(tmp_path / "w.json"), arch)
        assert (result.output_error, result.error_kind) == (made.output_error, "measured")
        assert api.run(plain, arch).error_kind == "not captured"
    # Run in their dense form the ops keep something else.
    assert api.run(captured.dense(), "spatten").error_kind == "not captured"
    assert api.run(captured, "systolic").error_kind == "dense"
