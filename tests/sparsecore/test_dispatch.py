"""Prediction from a calibration, and the measurement of both forms."""

from __future__ import annotations

import time

import pytest
import torch
from sparse_models import generator, linear

from sparsecore import dispatch, trial
from sparsecore.calibration import Calibration, Entry, FormSpeed
from sparsecore.dispatch import LayerCost, Ratio, interleaved_ratio, predict, token_grid
from sparsecore.nn import SparseLinear
from sparsecore.patterns import NM, Block, Unstructured
from sparsecore.trial import Pair, observed_tokens, time_pairs

DENSE = FormSpeed(2e-6, 10e9, ((1, 80e-12), (64, 20e-12)))
PACKED = FormSpeed(8e-6, 20e9, ((1, 40e-12), (64, 16e-12)))


def calibration(trust: float = 1.0) -> Calibration:
    entries = (Entry("dense", "float32", 1.0, DENSE), Entry("2:4", "float32", 0.5, PACKED))
    return Calibration("kind", "avx512", 2, "2.13", "0.1", entries, trust=trust)


def test_token_grid_has_both_ends() -> None:
    assert token_grid((1, 2048), 8) == (1, 8, 64, 512, 2048)
    assert token_grid((3, 20), 2) == (3, 6, 12, 20)
    assert token_grid((7, 7), 2) == (7,)


@pytest.mark.parametrize("trust", [1.0, 0.5])
def test_prediction_is_dense_time_over_packed_time(monkeypatch: pytest.MonkeyPatch, trust: float) -> None:
    monkeypatch.setattr(dispatch, "applicable", lambda: calibration(trust))
    cost = LayerCost(NM(2, 4), 0.5, (300, 700), torch.float32, 300 * 700 * 4, 300 * 700 * 2)
    for found in predict(cost, (1, 100)):
        slow = DENSE.seconds(found.tokens, 300 * 700, cost.dense_bytes)
        fast = PACKED.seconds(found.tokens, 300 * 700, cost.packed_bytes)
        assert found.kind == "predicted"
        assert found.ratio == pytest.approx(trust * slow / fast)


def test_what_was_not_calibrated_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "applicable", calibration)
    for pattern, dtype in ((Unstructured(), torch.float32), (NM(2, 4), torch.bfloat16)):
        cost = LayerCost(pattern, 0.5, (64, 64), dtype, 16384, 8192)
        assert predict(cost, (1, 8)) == (Ratio(1, 0.0, "unknown"), Ratio(8, 0.0, "unknown"))
    monkeypatch.setattr(dispatch, "applicable", lambda: None)
    assert predict(LayerCost(NM(2, 4), 0.5, (64, 64), torch.float32, 1, 1), (1,))[0].kind == "unknown"


def test_int8_is_held_against_the_dense_type(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = (*calibration().entries, Entry("2:4", "int8", 0.5, PACKED))
    monkeypatch.setattr(dispatch, "applicable", lambda: Calibration("kind", "avx512", 2, "2.13", "0.1", entries))
    cost = LayerCost(NM(2, 4), 0.5, (64, 64), torch.float32, 16384, 2048, packed_dtype=torch.int8)
    expected = DENSE.seconds(5, 4096, 16384) / PACKED.seconds(5, 4096, 2048)
    assert predict(cost, (5,))[0].ratio == pytest.approx(expected)


def test_this_machine_is_predicted_without_measuring() -> None:
    """What ships knows every family and type of every instruction set, and answers at once."""
    start = time.perf_counter()
    for pattern in (NM(2, 4), NM(5, 7), Block(32, 32), Block(3, 200), Unstructured()):
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            cost = LayerCost(pattern, 0.3, (1024, 1024), dtype, 2**20 * dtype.itemsize, 2**19 * dtype.itemsize)
            found = predict(cost, (1, 7, 300, 10**6))
            assert all(r.kind == "predicted" and r.ratio > 0 for r in found)
    assert time.perf_counter() - start < 1


def test_ratio_is_dense_time_over_packed_time() -> None:
    slow, fast = (lambda: time.sleep(0.008)), (lambda: time.sleep(0.002))
    assert 1.5 < interleaved_ratio([slow, slow], [fast, fast], 0.1) < 8
    assert 0.1 < interleaved_ratio([fast], [slow], 0.05) < 0.7


def test_every_member_of_a_group_takes_its_turn() -> None:
    seen: list[str] = []
    dense = [lambda: seen.append("d0"), lambda: seen.append("d1"), lambda: seen.append("d2")]
    interleaved_ratio(dense, [lambda: seen.append("p0")], 0.0)
    assert {"d0", "d1", "d2"} <= set(seen)
    assert seen.count("p0") == sum(seen.count(name) for name in ("d0", "d1", "d2")) == 4


def test_observed_tokens_of_a_real_run(seed: int) -> None:
    rng = generator(seed)
    model = torch.nn.Sequential(linear(8, 6, NM(2, 4), rng), torch.nn.Dropout(), linear(6, 4, NM(2, 4), rng)).train()
    seen = observed_tokens(model, [torch.zeros(2, 5, 8), (torch.zeros(3, 8),)], [model[0], model[2]])
    assert seen == {id(model[0]): {10, 3}, id(model[2]): {10, 3}}
    assert model.training
    assert all(module.training for module in model.modules())
    assert not model[0]._forward_pre_hooks


def test_both_forms_are_measured_at_each_count_in_order(seed: int) -> None:
    rng = generator(seed)
    dense = linear(64, 48, NM(2, 4), rng)
    sparse = SparseLinear.from_dense(dense, "2:4")
    calls: list[tuple[str, int]] = []
    cost = LayerCost(sparse.pattern, 0.5, (48, 64), torch.float32, 48 * 64 * 4, sparse.held_bytes)
    pair = Pair(
        cost,
        lambda x: calls.append(("dense", len(x))) or dense(x),
        lambda x: calls.append(("packed", len(x))) or sparse(x),
    )
    start = time.perf_counter()
    ratios = time_pairs({pair.key: [pair]}, {pair.key: {9, 1}})[pair.key]
    assert time.perf_counter() - start < 5
    assert [(r.tokens, r.kind) for r in ratios] == [(1, "measured"), (9, "measured")]
    assert all(r.ratio > 0 for r in ratios)
    for tokens in (1, 9):
        assert calls.count(("dense", tokens)) == calls.count(("packed", tokens)) >= 3


@pytest.mark.parametrize(("first", "asked"), [(0.98, 2), (0.93, 2), (1.5, 1), (0.5, 1)])
def test_a_close_answer_is_asked_for_again(monkeypatch: pytest.MonkeyPatch, first: float, asked: int) -> None:
    budgets: list[float] = []

    def answer(dense: object, packed: object, seconds: float, device: torch.device) -> float:
        budgets.append(seconds)
        return first if len(budgets) == 1 else 1.25

    monkeypatch.setattr(trial, "interleaved_ratio", answer)
    cost = LayerCost(NM(2, 4), 0.5, (4, 4), torch.float32, 64, 32)
    pair = Pair(cost, lambda x: x, lambda x: x)
    (ratio,) = time_pairs({pair.key: [pair, pair]}, {pair.key: {3}})[pair.key]
    assert len(budgets) == asked
    assert budgets[0] == pytest.approx(0.04), "20 ms for each of two layers"
    assert ratio.ratio == (1.25 if asked == 2 else first)


def test_what_the_time_is_too_short_for_is_predicted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_BUDGET_S", -1.0)
    monkeypatch.setattr(dispatch, "applicable", calibration)
    cost = LayerCost(NM(2, 4), 0.5, (4, 4), torch.float32, 64, 32)
    pair = Pair(cost, lambda x: x, lambda x: x)
    assert {r.kind for r in time_pairs({pair.key: [pair]}, {pair.key: {3, 5}})[pair.key]} == {"predicted"}
