"""A3: its rule against one read from the paper's words, its machine against formulas worked out by hand."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from attention_ops import attention, cost, design, useful
from naive_a3 import attention as naive_attention
from naive_a3 import candidates, fixed

from simulator.designs.a3.decide import A3Rule
from simulator.engine.heads import chain_cycles
from simulator.engine.interface import Cost
from simulator.errors import UnsupportedError
from simulator.workload import Decision, ModelInfo, Sequence, Workload

RULES = (
    A3Rule(0.5, 5.0, 4, 4),
    A3Rule(0.125, 10.0, 4, 4),
    A3Rule(1.0, None, 2, 3),
    A3Rule(None, 2.5, 4, 4),
    A3Rule(None, None, 4, 4),
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
@pytest.mark.parametrize(("queries", "keys", "size"), [(5, 13, 7), (1, 1, 4), (3, 2, 1), (4, 40, 8), (9, 9, 5)])
@pytest.mark.parametrize("causal", [False, True])
def test_rule_is_that_of_the_paper(rule: A3Rule, queries: int, keys: int, size: int, causal: bool, seed: int) -> None:
    rng = np.random.default_rng((seed, queries, keys, size))
    spread = rng.choice([0.3, 1.5, 12.0])  # many equal values, few, and saturated ones
    q, k, v = (spread * rng.standard_normal((rows, size)) for rows in (queries, keys, keys))
    q[0] = 0.0  # products of nothing
    visible = np.tril(np.ones((queries, keys), bool), rng.integers(-1, keys)) if causal else None
    made = rule.decide(q, k, v, 0.4, visible)
    q8, k8, v8 = ([[fixed(x, rule.integer_bits, rule.fraction_bits) for x in row] for row in m] for m in (q, k, v))
    for query in range(queries):
        seen = list(range(keys)) if visible is None else np.flatnonzero(visible[query]).tolist()
        rows = seen
        if rule.search is not None:
            iterations = min(max(math.floor(rule.search * len(seen)), 1), len(seen))
            assert made.extra["iterations"][query] == iterations
            rows = candidates(q8[query], k8, seen, iterations)
        assert np.flatnonzero(made.scored[query]).tolist() == sorted(rows)
        kept, output = naive_attention(q8[query], k8, v8, sorted(rows), 0.4, rule.post_scoring, rule.fraction_bits)
        assert np.flatnonzero(made.kept[query]).tolist() == kept
        np.testing.assert_allclose(made.output[query], output, rtol=0, atol=1e-9)


def test_rule_on_nothing() -> None:
    for rule in RULES:
        for queries, keys in ((0, 3), (3, 0), (0, 0)):
            made = rule.decide(np.ones((queries, 4)), np.ones((keys, 4)), np.ones((keys, 4)), 1.0, None)
            assert made.scored.shape == made.kept.shape == (queries, keys)
            assert made.output.shape == (queries, 4)


def test_search_in_parts_is_the_whole(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    rng = np.random.default_rng(seed)
    q, k, v = (rng.standard_normal((21, 6)) for _ in range(3))
    whole = RULES[0].decide(q, k, v, 0.4, None)
    monkeypatch.setattr("simulator.designs.a3.decide.CHUNK_ELEMENTS", 21 * 6 * 4)
    parts = RULES[0].decide(q, k, v, 0.4, None)
    assert np.array_equal(whole.scored, parts.scored)


def test_names_tell_rules_apart() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)
    assert RULES[0].name != dataclasses.replace(RULES[0], fraction_bits=5).name


def ideal(**changes: object) -> dict[str, object]:
    """A memory whose part of the time is known: 10 cycles, then 1024 bytes a cycle."""
    memory = {"dram__standard": "ideal", "dram__channels": None}
    return {**memory, "dram__ideal_latency": 10, "dram__ideal_bytes_per_cycle": 1024, **changes}


def slowest(rows: list[list[int]]) -> int:
    """The chain stepped query by query, each module holding a query until the next one takes it, from the last back."""
    leaves = [0] * len(rows[0])
    for times in rows:
        at = 0
        entered = []
        for module, time in enumerate(times):
            entered.append(max(at, leaves[module]))
            at = entered[-1] + time
        for module in reversed(range(len(times) - 1)):  # a later module may refuse for longer
            entered[module + 1] = max(entered[module + 1], leaves[module + 1], entered[module] + times[module])
        leaves = [*entered[1:], entered[-1] + times[-1]]
    return leaves[-1]


@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (7, 4), (30, 3)])
def test_chain_is_that_of_single_steps(shape: tuple[int, int], seed: int) -> None:
    rows = np.random.default_rng(seed).integers(0, 20, shape).tolist()
    found = chain_cycles(np.array(rows, np.int64).reshape(shape).T)
    assert found == (slowest(rows) if rows else 0)


def test_base_takes_n_plus_9_a_query_and_3_n_plus_27_for_one() -> None:
    """A3, section III: the throughput and the latency of base A3."""
    for queries in (1, 2, 50):
        chain = np.full((3, queries), 320 + 9, np.int64)
        assert chain_cycles(chain) == (queries - 1) * (320 + 9) + 3 * 320 + 27
    # With one buffer two heads follow each other: a head is read, worked on, and the next one is read.
    op = attention(100, 7, heads=2)
    load = 10 + -(-(2 * 100 + 7) * 96 // 1024) + 1  # rows of 72 bytes are whole bursts of 32 in the ideal memory
    result = cost(op, "a3-base", **ideal())
    one = (7 - 1) * 109 + 3 * 109
    assert 2 * (10 + one) < result.cycles < 2 * (load + one) + 30
    assert result.busy_cycles["dot_product"] == 2 * 7 * 109
    assert result.busy_cycles["search"] == 0


def test_search_sets_the_pace_of_the_approximation() -> None:
    op = attention(320, heads=1)
    result = cost(op, "a3", **ideal(sort__cycles_per_element=0.0))
    candidates, kept = round(0.205 * 320), round(0.066 * 320)
    fill = max(320 // 16, candidates) + 9 + 2 * (kept + 9)
    assert result.busy_cycles["search"] == 320 * (160 + 4)
    read = result.dram_active_cycles  # before the first query, but for the outputs behind the last one
    assert 320 * 164 + fill < result.cycles <= 320 * 164 + fill + read
    sorting = cost(op, "a3", **ideal()).cycles - result.cycles
    assert sorting == math.ceil(0.193 * 320 * 64)
    with_more = cost(op, "a3", **ideal(sort__cycles_per_element=0.0, search__share=1.0))
    assert with_more.busy_cycles["search"] == 320 * 324


def test_bytes_are_those_of_whole_heads() -> None:
    op = attention(100, 7, heads=2)
    rows = {"key": 100, "value": 100, "query": 7, "output": 7}
    expected = {name: 2 * count * 72 for name, count in rows.items()}
    assert useful(cost(op, "a3-base")) == expected | {"sorted_key": 0}
    assert useful(cost(op, "a3")) == expected | {"sorted_key": 2 * 100 * 128}  # 9 bits and a row number of 7
    assert useful(cost(op, "a3", sort__fetched=False)) == expected | {"sorted_key": 0}


def test_grouped_heads_share_their_keys() -> None:
    grouped, single = attention(64, heads=4, kv_heads=2), attention(64, heads=4)
    for arch in ("a3", "mnnfast"):
        shared, own = useful(cost(grouped, arch)), useful(cost(single, arch))
        assert 2 * shared["key"] == own["key"]
        assert shared["query"] == own["query"]
        assert cost(grouped, arch).busy_cycles["output"] == cost(single, arch).busy_cycles["output"]


def test_energy_is_table_i_times_the_work() -> None:
    op = attention(320, heads=1)
    machine = design("a3-base")
    found = machine.on_chip_energy(machine.cost(op, None, 0))
    pairs = 320 * 320
    dynamic = {"logic.dot_product": 14.338, "logic.exponent": 0.224, "logic.output": 50.918, "sram.key": 2.901}
    for name, pj in dynamic.items():
        assert found[name].pj == pytest.approx(pj * pairs)
    assert "logic.search" not in found
    assert sum(area.mm2 for area in design("a3").areas()) == pytest.approx(2.082)
    # Static power: 1.265 + 0.053 + 0.070 + 5.08 + 0.147 and 0.987 + 0.987 + 2.913 mW.
    approximate = design("a3").on_chip_energy(Cost(1000))
    assert approximate["logic.leakage"].pj == pytest.approx(6615)
    assert approximate["sram.leakage"].pj == pytest.approx(4887)


def test_what_does_not_fit_says_what_would() -> None:
    with pytest.raises(UnsupportedError, match=r"(?s)321 keys; a3 is built for 320.*size\.keys=321"):
        cost(attention(321), "a3")
    with pytest.raises(UnsupportedError, match=r"heads of 128 elements"):
        cost(attention(10, head_dim=128), "a3")
    larger = design("a3", size__keys=640)
    assert larger.cost(attention(321), None, 0).cycles > 0
    assert sum(a.mm2 for a in larger.areas()) == pytest.approx(2.082 + 0.35 + 0.35 + 0.919)
    for op in (attention(0), attention(5, 0), attention(5, heads=0)):
        assert cost(op, "a3").cycles == 0


def test_measured_decisions_replace_the_fractions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    op = attention(40, heads=2)
    counts = rng.integers(1, 40, (2, 40)).astype(np.int32)
    machine = design("a3")
    made = Decision(
        machine.rule.name, 0, 0, "summarise", 0, (40, 40), (40, 40), counts, counts // 2, {"iterations": counts}
    )
    model = ModelInfo("bert", 1, 2, 2, 64, 128, 0, 10, 10, "f32")
    workload = Workload("w", model, (Sequence(0, 40),), (op,), (), (), decisions=(made,))
    machine.begin(workload)
    result = machine.cost(op, None, 0)
    assert result.busy_cycles["dot_product"] == np.maximum(counts, 3).sum() + 80 * 9
    assert result.busy_cycles["search"] == counts.sum() + 80 * 4
    assert machine.operations(op) == 2 * 64 * (counts.sum() + (counts // 2).sum())
    assert machine.inputs(op)["decisions"][1] == "measured"
    machine.begin(dataclasses.replace(workload, decisions=()))
    assert machine.inputs(op)["decisions"][1] == "assumed"
    assert machine.inputs(attention(320, heads=2))["decisions"][1] == "published"


@pytest.mark.parametrize("arch", ["a3", "a3-base", "a3-aggressive", "mnnfast"])
def test_closed_forms_are_near_the_events(arch: str) -> None:
    for op in (attention(300, heads=3), attention(30, heads=2), attention(300, 1, heads=12), attention(128, 40)):
        machine = design(arch)
        event = machine.cost(op, None, 0)
        closed = machine.estimated(op, None, "analytical")
        for name, size in useful(event).items():  # a line that waits to be written is not read
            assert useful(closed)[name] == pytest.approx(size, rel=2e-3)
        assert closed.busy_cycles.keys() == event.busy_cycles.keys()
        assert closed.events == event.events
        assert closed.cycles == pytest.approx(event.cycles, rel=0.15)


def test_more_candidates_never_take_less(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(10):
        keys = int(rng.integers(1, 320))
        shares = np.sort(rng.random(2))
        first, second = (
            cost(attention(keys, heads=2), "a3", **ideal(fractions__candidates=float(share))).cycles for share in shares
        )
        assert first <= second


def test_units_share_the_heads() -> None:
    op = attention(200, heads=8)
    one, four = (design("a3", units=units, **ideal()) for units in (1, 4))
    alone, together = one.cost(op, None, 0), four.cost(op, None, 0)
    assert together.cycles == pytest.approx(alone.cycles / 4, rel=0.02)
    assert together.busy_cycles["search"] == alone.busy_cycles["search"] // 4
    assert together.events == alone.events
    assert sum(area.mm2 for area in four.areas()) == pytest.approx(4 * sum(area.mm2 for area in one.areas()))
    assert four.estimated(op, None, "analytical").cycles == pytest.approx(together.cycles, rel=0.05)
    assert (one.peak_gops, four.peak_gops) == (256, 1024)
    odd = design("a3", units=3, **ideal()).cost(op, None, 0)  # the fullest of them has three of the eight heads
    assert odd.cycles == pytest.approx(alone.cycles * 3 / 8, rel=0.02)
