"""MNNFast: its rule one probability at a time, its machine against formulas worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from attention_ops import attention, cost, design, useful

from simulator.designs.mnnfast.decide import MnnFastRule
from simulator.errors import InvalidValueError, UnsupportedError


@pytest.mark.parametrize(("queries", "keys"), [(6, 17), (1, 1), (9, 4), (0, 3), (3, 0)])
@pytest.mark.parametrize("causal", [False, True])
def test_rule_skips_small_probabilities(queries: int, keys: int, causal: bool, seed: int) -> None:
    rng = np.random.default_rng((seed, queries, keys))
    q, k, v = (rng.standard_normal((rows, 5)) for rows in (queries, keys, keys))
    visible = np.tril(np.ones((queries, keys), bool), rng.integers(-1, max(keys, 1))) if causal else None
    made = MnnFastRule(0.1).decide(q, k, v, 0.7, visible)
    assert made.output.shape == (queries, 5)
    for query in range(queries):
        seen = [key for key in range(keys) if visible is None or visible[query, key]]
        weights = {key: math.exp(0.7 * float(q[query] @ k[key])) for key in seen}
        total = sum(weights.values())
        output = np.zeros(5)
        for key in range(keys):
            assert made.scored[query, key] == (key in weights)
            share = weights.get(key, 0.0) / total if total else 0.0
            assert made.kept[query, key] == (share >= 0.1) or abs(share - 0.1) < 1e-5
            if made.kept[query, key]:
                output += share * v[key]
        np.testing.assert_allclose(made.output[query], output, atol=1e-5)


def test_a_query_takes_all_its_scores_and_the_latency() -> None:
    """One row a cycle and multiplier group: n + 8 a query, as the product with few V rows hides behind the scores."""
    result = cost(attention(320, heads=2), "mnnfast", dram__standard="ideal", dram__channels=None)
    assert result.busy_cycles["scores"] == 2 * 320 * (320 + 8)
    assert result.busy_cycles["output"] == 2 * 320 * (round(0.03 * 320) + 3)
    assert 2 * 320 * 328 < result.cycles < 2 * 320 * 328 + 1500  # K, V and Q of the first head, and the last output
    assert useful(result) == dict.fromkeys(("key", "value", "query", "output"), 2 * 320 * 256)


def test_skipping_changes_operations_not_time() -> None:
    op = attention(320, heads=1)
    few, all_ = (design("mnnfast", fractions__kept=share) for share in (0.03, 1.0))
    assert few.cost(op, None, 0).cycles == pytest.approx(all_.cost(op, None, 0).cycles, rel=0.01)
    assert few.operations(op) == 2 * 64 * 320 * (320 + 10)
    assert all_.operations(op) == op.operations


def test_power_is_the_published_one() -> None:
    machine = design("mnnfast")
    made = machine.cost(attention(100), None, 0)
    assert machine.on_chip_energy(made)["logic.chip"].pj == pytest.approx(1000 * made.cycles)
    assert machine.areas() == ()
    with pytest.raises(InvalidValueError, match="28 nm"):
        design("mnnfast", technology__node_nm=40.0)


def test_what_does_not_fit_says_what_would() -> None:
    with pytest.raises(UnsupportedError, match=r"(?s)1025 keys; mnnfast is built for 1024.*size\.keys=1025"):
        cost(attention(1025, 1), "mnnfast")
