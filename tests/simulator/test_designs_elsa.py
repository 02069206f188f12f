"""ELSA: its rule read one vector at a time, its machine against the limits that the paper states."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from attention_ops import attention, cost, design, useful

from simulator.designs.elsa import Elsa
from simulator.designs.elsa.decide import ElsaRule, hash_matrix, hash_multiplies, kronecker_factors
from simulator.engine.interface import Cost
from simulator.errors import UnsupportedError


def naive(rule: ElsaRule, q: np.ndarray, k: np.ndarray, scale: float, seen: np.ndarray) -> list[list[int]]:
    """The candidates of each query."""
    size, matrix = q.shape[1], hash_matrix(q.shape[1])

    def bits(x: np.ndarray) -> list[bool]:
        return [float(row @ x) >= 0 for row in matrix]

    norms = [math.sqrt(float(key @ key)) for key in k]
    smallest = []
    for i, query in enumerate(q):
        keys = np.flatnonzero(seen[i]).tolist()
        weights = {j: math.exp(scale * float(query @ k[j])) for j in keys}
        large = [j for j in keys if weights[j] / sum(weights.values()) > rule.approximation / len(keys)]
        length = math.sqrt(float(query @ query)) * max((norms[j] for j in keys), default=0.0)
        if large:
            smallest.append(min(float(query @ k[j]) for j in large) / (length or 1.0))
    threshold = sum(smallest) / len(smallest) if smallest else 0.0
    found = []
    for i, query in enumerate(q):
        own, estimates = bits(query), {}
        for j in np.flatnonzero(seen[i]).tolist():
            distance = sum(a != b for a, b in zip(own, bits(k[j])))
            estimates[j] = math.cos(max(math.pi * distance / size - rule.bias, 0.0)) * norms[j]
        chosen = [j for j, value in estimates.items() if value >= threshold * max(norms[i] for i in estimates)]
        found.append(chosen or ([max(estimates, key=lambda j: estimates[j])] if estimates else []))
    return found


@pytest.mark.parametrize(("queries", "keys", "size"), [(6, 17, 8), (1, 1, 4), (9, 9, 16), (4, 30, 5)])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("approximation", [0.0, 1.0, 3.0])
def test_rule_is_that_of_the_paper(
    queries: int, keys: int, size: int, causal: bool, approximation: float, seed: int
) -> None:
    rng = np.random.default_rng((seed, queries, keys, size))
    rule = ElsaRule(approximation, 0.127, 5, 3)
    # Multiples of 1/8 within the format: the rule sees these very numbers.
    q, k, v = (np.round(8 * rng.standard_normal((rows, size))) / 8 for rows in (queries, keys, keys))
    visible = np.tril(np.ones((queries, keys), bool), rng.integers(-1, keys)) if causal else None
    seen = np.ones((queries, keys), bool) if visible is None else visible
    made = rule.decide(q, k, v, 0.4, visible)
    expected = naive(rule, q, k, 0.4, seen) if approximation else [np.flatnonzero(row).tolist() for row in seen]
    for i in range(queries):
        assert np.flatnonzero(made.scored[i]).tolist() == expected[i]
        weights = {j: math.exp(0.4 * float(q[i] @ k[j])) for j in expected[i]}
        total = sum(weights.values())
        output = sum((w / total * v[j] for j, w in weights.items()), np.zeros(size))
        np.testing.assert_allclose(made.output[i], output, atol=1e-12)


def test_rule_on_nothing() -> None:
    for queries, keys in ((0, 3), (3, 0), (0, 0)):
        rows = np.ones((keys, 4))
        made = ElsaRule(1.0, 0.127, 5, 3).decide(np.ones((queries, 4)), rows, rows, 1.0, None)
        assert made.scored.shape == (queries, keys)
        assert made.output.shape == (queries, 4)


@pytest.mark.parametrize("size", [1, 7, 12, 64, 80, 128])
def test_hash_matrix_is_orthogonal_and_cheap(size: int) -> None:
    matrix = hash_matrix(size)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(size), atol=1e-12)
    factors = kronecker_factors(size)
    assert math.prod(factors) == size
    others = ((a, b, size // (a * b)) for a in range(1, size + 1) for b in range(1, size + 1) if size % (a * b) == 0)
    assert sum(factors) == min(map(sum, others))
    assert hash_multiplies(64) == 768  # three factors of 4 x 4, as published


def test_more_approximation_keeps_fewer_keys(seed: int) -> None:
    q, k, v = (np.random.default_rng((seed, i)).standard_normal((64, 32)) for i in range(3))
    shares = [ElsaRule(p, 0.127, 5, 3).decide(q, k, v, 1.0, None).kept.mean() for p in (0.0, 1.0, 2.0, 8.0)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == 1.0 > shares[-1]


def test_a_query_takes_the_slowest_of_four() -> None:
    """ELSA, section IV: max(768 / m_h, n / (P_a P_c), c / P_a, d / m_o)."""
    machine = design("elsa", dram__standard="ideal", dram__channels=None)
    for candidates, slowest in ((200, 50), (10, 16)):
        assert machine.cycles(512, np.full(3, candidates), 64).max(axis=0).tolist() == [slowest] * 3
    assert machine.cycles(512, np.array([200]), 64)[:, 0].tolist() == [3, 16, 50, 4]
    op = attention(512, heads=1)
    result = machine.cost(op, None, 0)
    assert result.busy_cycles["attention"] == 512 * math.ceil(round(0.4 * 512) / 4)
    assert machine.hashing(op) == 768 * 512 // 256
    assert useful(result) == {**dict.fromkeys(("key", "value", "query", "output"), 512 * 72), "key_hash": 0}


def test_a_generated_token_reads_the_hashes_of_the_keys_before() -> None:
    op = attention(300, 1, heads=2, phase="generate")
    for name, read in (("elsa", 2 * 299 * math.ceil((64 + 9) / 8)), ("elsa-base", 0)):
        machine = design(name)
        assert useful(machine.cost(op, None, 0))["key_hash"] == read
        assert machine.hashing(op) == (3 if read else 0)


def test_energy_and_area_are_those_of_the_table() -> None:
    machine = design("elsa", dram__standard="ideal", dram__channels=None)
    events = {"hash": 10.0, "selection": 7.0, "attention": 5.0, "division": 3.0}
    energies = {name: energy.pj for name, energy in machine.on_chip_energy(Cost(1, events=events)).items()}
    assert energies["logic.hash"] == pytest.approx(1150)
    assert energies["logic.attention"] == pytest.approx(2830)
    assert energies["sram.hash_memory"] == pytest.approx(980)
    areas = {area.component: area.mm2 for area in machine.areas()}
    assert sum(areas.values()) - areas["matrices"] == pytest.approx(1.255)  # one unit, as published
    assert areas["matrices"] == pytest.approx(0.892)


def test_energy_and_area_follow_the_size() -> None:
    """A quarter of the attention modules takes a quarter of the power, and four times the cycles."""
    changes: dict[str, Any] = {"attention_modules": 1, "size__keys": 1024, "hash_multipliers": 128}
    small, whole = design("elsa", **changes), design("elsa")
    events = Cost(1, events=dict.fromkeys(Elsa.modules, 10.0))
    energies = [{name: e.pj for name, e in machine.on_chip_energy(events).items()} for machine in (small, whole)]
    ratios = {name: energies[0][name] / energies[1][name] for name in energies[0]}
    quarter = ("logic.attention", "logic.selectors", "sram.hash_memory", "sram.norm_memory", "sram.matrices")
    assert ratios == {**dict.fromkeys(ratios, 1.0), **dict.fromkeys(quarter, 0.25), "logic.hash": 0.5}
    areas = [{area.component: area.mm2 for area in machine.areas()} for machine in (small, whole)]
    ratios = {name: areas[0][name] / areas[1][name] for name in areas[0]}
    memories = dict.fromkeys(("hash_memory", "norm_memory", "matrices"), 2.0)
    logic = {"attention": 0.25, "selectors": 0.25, "hash": 0.5}
    assert ratios == pytest.approx({**dict.fromkeys(ratios, 1.0), **memories, **logic})


def test_what_does_not_fit_says_what_would() -> None:
    with pytest.raises(UnsupportedError, match=r"(?s)513 keys; elsa is built for 512.*size\.keys=513"):
        cost(attention(513, 1), "elsa")
