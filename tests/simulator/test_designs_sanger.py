"""Sanger: its rule one probability at a time, its rows packed by trying all ways, its machine by the published rule."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
from attention_ops import attention, cost, design, useful

import simulator
from simulator.designs.offline import decide_layer
from simulator.designs.sanger.decide import SangerRule, packed_rows
from simulator.errors import UnsupportedError
from simulator.workload.tensors import LayerTensors

RULE = SangerRule(0.05, 4, 4, 8, 2)


def rounded(x: np.ndarray) -> np.ndarray:
    largest = max((abs(float(value)) for value in x.ravel()), default=0.0)
    return np.array([[round(float(v) / (largest / 7)) * largest / 7 for v in row] for row in x]).reshape(x.shape)


@pytest.mark.parametrize(("queries", "keys"), [(6, 17), (1, 1), (9, 9), (0, 3), (3, 0)])
@pytest.mark.parametrize("causal", [False, True])
def test_rule_keeps_what_four_bits_predict(queries: int, keys: int, causal: bool, seed: int) -> None:
    rng = np.random.default_rng((seed, queries, keys))
    q, k, v = (rng.standard_normal((rows, 5)) for rows in (queries, keys, keys))
    visible = np.tril(np.ones((queries, keys), bool), rng.integers(-1, max(keys, 1))) if causal else None
    made = RULE.decide(q, k, v, 0.7, visible)
    assert made.output.shape == (queries, 5)
    q4, k4 = rounded(q), rounded(k)
    for i in range(queries):
        seen = [j for j in range(keys) if visible is None or visible[i, j]]
        weights = {j: math.exp(0.7 * float(q4[i] @ k4[j])) for j in seen}
        shares = {j: w / sum(weights.values()) for j, w in weights.items()}
        wanted = [j for j in seen if shares[j] >= 0.05] or sorted(seen, key=lambda j: -shares[j])[:1]
        assert np.flatnonzero(made.kept[i]).tolist() == wanted
        exact = {j: math.exp(0.7 * float(q[i] @ k[j])) for j in wanted}
        output = sum((w / sum(exact.values()) * v[j] for j, w in exact.items()), np.zeros(5))
        np.testing.assert_allclose(made.output[i], output, atol=1e-12)


def test_flat_attention_keeps_the_best_key() -> None:
    made = RULE.decide(np.zeros((3, 4)), np.ones((50, 4)), np.ones((50, 4)), 1.0, None)
    assert made.kept.sum(axis=1).tolist() == [1, 1, 1]


def fewest_rows(counts: tuple[int, ...], width: int) -> int:
    """Full rows, and the best of all ways to put the rests alone or two in a row."""
    full = sum(count // width for count in counts)

    @cache
    def best(rest: tuple[int, ...]) -> int:
        if not rest:
            return 0
        first, others = rest[0], rest[1:]
        alone = 1 + best(others)
        pairs = [1 + best(others[:i] + others[i + 1 :]) for i, other in enumerate(others) if first + other <= width]
        return min([alone, *pairs])

    return full + best(tuple(count % width for count in counts if count % width))


@pytest.mark.parametrize("width", [1, 4, 16])
def test_packing_takes_the_fewest_rows(width: int, seed: int) -> None:
    rng = np.random.default_rng((seed, width))
    for _ in range(30):
        counts = rng.integers(0, 3 * width + 1, rng.integers(0, 8))
        assert packed_rows(counts, width) == fewest_rows(tuple(counts.tolist()), width)


def test_rows_are_counted_by_block_and_chunk(seed: int) -> None:
    kept = np.random.default_rng(seed).random((10, 20)) < 0.4
    rows = RULE.array_rows(kept)
    assert np.flatnonzero(rows).tolist() == [0, 4, 8]
    for first in (0, 4, 8):
        chunks = [kept[first : first + 4, start : start + 8].sum(axis=1) for start in (0, 8, 16)]
        assert rows[first] == sum(packed_rows(counts, 2) for counts in chunks)


def test_stages_follow_the_published_rule() -> None:
    """Dense: 2 operations an element and cycle. Sparse: density over load balance of it, for scores and output."""
    op = attention(512, heads=1)
    result = cost(op, "sanger", dram__standard="ideal", dram__channels=None)
    dense = 512 * 512 * 64 / 1024
    assert result.busy_cycles["prediction"] == dense
    assert result.busy_cycles["attention"] == pytest.approx(2 * dense * 0.24 / 0.65, rel=0.01)
    assert result.cycles < dense + result.busy_cycles["attention"]  # the stages work at the same time
    assert useful(result) == dict.fromkeys(("key", "value", "query", "output"), 512 * 128)


def test_a_single_query_takes_the_array_once() -> None:
    machine = design("sanger", dram__standard="ideal", dram__channels=None)
    for rows, taken in ((12, 2 * 64), (65, 130), (0, 0)):
        cycles = machine.cycles(attention(512, 1, heads=1), np.array([rows], np.int32))
        assert cycles[:, 0].tolist() == [512 * 64 // 1024, taken]


def test_each_generated_token_has_rows_of_its_own(seed: int) -> None:
    """Steps are not a block: they come one after the other."""
    rng = np.random.default_rng(seed)
    q, k, v = (rng.standard_normal((2, 9, 5)) for _ in range(3))
    made = list(decide_layer(RULE, LayerTensors(q, k, v, 0.7, causal=True), 0, 0, 4))
    assert [decision.place[2:] for decision in made] == [("summarise", 0), *(("generate", step) for step in range(5))]
    for decision in made[1:]:
        assert (decision.extra["array_rows"] >= 1).all()


def test_power_and_area_are_the_published_ones() -> None:
    machine = design("sanger")
    made = machine.cost(attention(100), None, 0)
    assert machine.on_chip_energy(made)["logic.chip"].pj == pytest.approx(2760 * made.cycles / 0.5)
    assert machine.areas()[0].mm2 == pytest.approx(16.9)
    small = design("sanger", array__rows=8)  # an eighth of the elements
    assert small.on_chip_energy(made)["logic.chip"].pj == pytest.approx(2760 * made.cycles / 0.5 / 8)
    assert small.areas()[0].mm2 == pytest.approx(16.9 / 8)


def test_what_stands_in_for_a_capture_is_said() -> None:
    result = simulator.run("bert-base", "sanger", fidelity="analytical")
    assert any(
        note.startswith("0.242 of the keys scored") and "published; not captured" in note for note in result.notes
    )


def test_what_does_not_fit_says_what_would() -> None:
    with pytest.raises(UnsupportedError, match=r"(?s)513 keys; sanger is built for 512.*size\.keys=513"):
        cost(attention(513, 1), "sanger")
