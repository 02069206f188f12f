"""Decisions: what a rule answers, how a workload carries and stores it, how a design finds it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attention_ops import attention

from simulator.designs.decision import AttentionTensors, HeadChoice, Rule, decide, exact_attention
from simulator.errors import CorruptFileError, InvalidValueError
from simulator.workload import Decision, ModelInfo, Sequence, Workload


class Largest(Rule):
    """Keeps the keys of the `count` largest scores; answers what `change` makes of that."""

    def __init__(self, count: int, **change: Any) -> None:
        self.count, self.change = count, change

    @property
    def name(self) -> str:
        return f"largest {self.count}"

    def decide(self, q: Any, k: Any, v: Any, scale: float, visible: Any) -> HeadChoice:
        scores = np.where(np.True_ if visible is None else visible, q @ k.T, -np.inf)
        order = np.argsort(-scores, axis=1, kind="stable")[:, : self.count]
        kept = np.zeros(scores.shape, bool)
        np.put_along_axis(kept, order, True, axis=1)
        kept &= np.isfinite(scores)
        scored = np.isfinite(scores)
        extra = {"passes": kept.sum(axis=1) // 2}
        made = HeadChoice(scored, kept, exact_attention(q, k, v, scale, kept), extra)
        return dataclasses.replace(made, **self.change)


def tensors(rng: np.random.Generator, queries: int, keys: int, heads: int = 4, kv_heads: int = 2) -> AttentionTensors:
    shapes = ((heads, queries, 6), (kv_heads, keys, 6), (kv_heads, keys, 5))
    q, k, v = (rng.standard_normal(shape).astype(np.float32) for shape in shapes)
    visible = np.tril(np.ones((queries, keys), bool), keys - queries)
    return AttentionTensors(q, k, v, 0.3, visible)


def by_hand(given: AttentionTensors, head: int, query: int, rows: list[int]) -> np.ndarray[Any, Any]:
    q, k, v = given.head(head)
    weights = [float(np.exp(given.scale * sum(float(a) * float(b) for a, b in zip(q[query], k[row])))) for row in rows]
    total = sum(weights)
    return np.array([sum(w * float(v[row][i]) for w, row in zip(weights, rows)) / total for i in range(v.shape[1])])


def test_exact_attention_is_the_sum_of_shares(seed: int) -> None:
    given = tensors(np.random.default_rng(seed), 5, 7)
    assert given.visible is not None
    for head in range(4):
        found = exact_attention(*given.head(head), given.scale, given.visible)
        for query in range(5):
            rows = [key for key in range(7) if given.visible[query, key]]
            np.testing.assert_allclose(found[query], by_hand(given, head, query, rows), rtol=1e-9)


@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (5, 7), (1, 9), (3, 3)])
def test_decide_counts_what_the_rule_keeps(queries: int, keys: int, seed: int) -> None:
    given = tensors(np.random.default_rng(seed), queries, keys)
    assert given.visible is not None
    made = decide(Largest(3), (2, 1, "summarise", 0), given, keep_mask=True)
    assert (made.rule, made.place, made.kind) == ("largest 3", (2, 1, "summarise", 0), "measured")
    assert made.mask is not None
    missed, whole = 0.0, 0.0
    for head in range(4):
        for query in range(queries):
            seen = given.visible[query].sum()
            assert made.candidates[head, query] == seen
            assert made.values[head, query] == min(3, seen) == made.mask[head, query].sum()
            assert made.extra["passes"][head, query] == min(3, seen) // 2
            rows = np.flatnonzero(made.mask[head, query]).tolist()
            dense = by_hand(given, head, query, np.flatnonzero(given.visible[query]).tolist())
            missed += float(((by_hand(given, head, query, rows) - dense) ** 2).sum())
            whole += float((dense**2).sum())
        assert made.value_rows[head] == made.mask[head].any(axis=0).sum()
        assert made.key_rows[head] == keys
    assert made.output_error == pytest.approx((missed / whole) ** 0.5, abs=1e-9)


def test_nothing_to_decide(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for queries, keys in ((0, 4), (3, 0), (0, 0)):
        shapes = ((2, queries, 6), (2, keys, 6), (2, keys, 6))
        q, k, v = (rng.standard_normal(shape) for shape in shapes)
        made = decide(Largest(2), (0, 0, "summarise", 0), AttentionTensors(q, k, v, 1.0))
        assert made.output_error == 0
        assert made.candidates.shape == (2, queries)
        assert made.key_rows == made.value_rows == (0, 0)


def test_bad_tensors_and_answers_are_named(seed: int) -> None:
    given = tensors(np.random.default_rng(seed), 5, 7)
    for change, what in (
        ({"k": given.k[:, :, :5]}, "do not fit"),
        ({"k": np.concatenate([given.k, given.k[:1]]), "v": np.concatenate([given.v, given.v[:1]])}, "do not fit"),
        ({"visible": np.ones((7, 5), bool)}, "visible"),
        ({"q": given.q * np.nan}, "not finite"),
    ):
        with pytest.raises(InvalidValueError, match=what):
            dataclasses.replace(given, **change)
    for answer, what in (
        ({"kept": np.ones((5, 7), bool)}, "may not see"),
        ({"scored": np.ones((7, 5), bool)}, "answers scored"),
    ):
        with pytest.raises(InvalidValueError, match=what):
            decide(Largest(2, **answer), (0, 0, "summarise", 0), given)


def decided(seed: int, rules: int = 2) -> Workload:
    rng = np.random.default_rng(seed)
    model = ModelInfo("bert", 2, 4, 4, 6, 24, 48, 10, 100, "f32")
    ops = [attention(9, 9, 4, 6, layer=layer) for layer in range(2)]
    step = attention(9, 1, 4, 6, layer=1, step=3)
    made = []
    for count in range(rules):
        for op in (*ops, step):
            given = tensors(rng, op.queries, op.keys)
            made.append(decide(Largest(count + 1), op.place, given, keep_mask=count == 0))
    return Workload("d", model, (Sequence(0, 9),), (*ops, step), (), (), decisions=tuple(made))


def same(a: Decision, b: Decision) -> bool:
    ours, theirs = a.arrays(), b.arrays()
    return a == b and ours.keys() == theirs.keys() and all(np.array_equal(ours[name], theirs[name]) for name in ours)


def test_decisions_are_kept_in_the_file(tmp_path: Path, seed: int) -> None:
    workload, path = decided(seed), tmp_path / "w.json"
    workload.save(path)
    again = Workload.load(path)
    assert again == workload
    assert all(same(a, b) for a, b in zip(again.decisions, workload.decisions, strict=True))
    assert len(list(tmp_path.iterdir())) == 2
    assert set(again.decided("largest 2")) == {op.place for op in workload.attention}
    assert again.decided("largest 3") == {}
    assert len(again.dense().decisions) == 6
    assert {made.phase for made in again.only("generate").decisions} == {"generate"}


def test_workloads_without_decisions_still_load(tmp_path: Path, seed: int) -> None:
    workload, path = dataclasses.replace(decided(seed), decisions=()), tmp_path / "w.json"
    workload.save(path)
    document = json.loads(path.read_text())
    assert "decisions" not in document
    path.write_text(json.dumps({**document, "version": "1.1"}))
    assert Workload.load(path) == workload


def test_damaged_decisions_are_named(tmp_path: Path, seed: int) -> None:
    from safetensors.numpy import load_file, save_file

    path = tmp_path / "w.json"

    def damaged(change: Any, array: Any = None) -> None:
        decided(seed).save(path)
        document = json.loads(path.read_text())
        change(document["decisions"])
        if array is not None:
            stored = load_file(tmp_path / document["arrays"]["file"])
            array(stored)
            save_file(stored, tmp_path / "w.bad.safetensors")
            document |= {"arrays": {"file": "w.bad.safetensors"}, "version": "1.0"}
        path.write_text(json.dumps(document))

    for change, array, what in (
        (lambda d: d[1].pop("rule"), None, "rule"),
        (lambda d: d[1].update(layer=7), None, "no such op"),
        (lambda d: d[1].update(shape=[1]), None, "unknown key 'shape'"),
        (lambda d: d[1].update(output_error=-1.0), None, "error is -1"),
        (lambda d: d[1].update(key_rows=[1, 2]), None, "counts of shape"),
        (lambda d: d[1].update(key_rows=[1, 2, 3, 40]), None, "40 rows"),
        (lambda d: d.pop(), None, "belongs to no decision"),
        (lambda d: d.__setitem__(1, 3), None, "not an object"),
        (lambda d: None, lambda a: a.pop("decision.1.values"), "decision.1.values is missing"),
        (lambda d: None, lambda a: a.update({"decision.1.values": a["decision.1.values"][:, :4]}), "values"),
        (lambda d: None, lambda a: a.update({"decision.1.values": a["decision.1.values"] * -1}), "below 0"),
    ):
        damaged(change, array)
        with pytest.raises(CorruptFileError, match=what):
            Workload.load(path)
