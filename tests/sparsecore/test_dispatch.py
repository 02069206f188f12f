"""The cost model's formula, its calibration on this machine, and the measurement of both forms."""

from __future__ import annotations

import math
import time

import pytest
import torch
from sparse_models import generator, linear

from sparsecore.dispatch import FormSpeed, LayerCost, calibrate, interleaved_ratio, predict, read_bandwidth, token_grid
from sparsecore.native import runtime_isa
from sparsecore.nn import SparseLinear
from sparsecore.patterns import NM, Block, Pattern, Unstructured
from sparsecore.trial import Pair, observed_tokens, time_pairs

SPEED = FormSpeed(call_s=1e-6, rates=((1, 1e9), (8, 4e9), (64, 10e9)))


def test_token_grid_has_both_ends() -> None:
    assert token_grid((1, 2048), 8) == (1, 8, 64, 512, 2048)
    assert token_grid((3, 20), 2) == (3, 6, 12, 20)
    assert token_grid((7, 7), 2) == (7,)


def test_rate_is_linear_in_the_logarithm_and_constant_outside() -> None:
    assert SPEED.rate(1) == 1e9
    assert SPEED.rate(8) == 4e9
    assert SPEED.rate(64) == SPEED.rate(10**6) == 10e9
    assert SPEED.rate(2) == pytest.approx(1e9 + 3e9 * math.log(2) / math.log(8))
    assert SPEED.rate(32) == pytest.approx(4e9 + 6e9 * math.log(4) / math.log(8))


def test_seconds_are_a_call_and_the_larger_of_bytes_and_operations() -> None:
    # 2 x 64 x 1000 operations at 10 Gop/s: 12.8 us; 1000 bytes at 1 GB/s: 1 us.
    assert SPEED.seconds(64, 1000, 1000, 1e9) == pytest.approx(1e-6 + 12.8e-6)
    assert SPEED.seconds(64, 1000, 10**6, 1e9) == pytest.approx(1e-6 + 1e-3)
    assert SPEED.seconds(0, 1000, 1000, 1e9) == pytest.approx(2e-6)


@pytest.mark.parametrize("pattern", [NM(2, 4), Block(32, 32), Unstructured()], ids=lambda p: p.name)
def test_prediction_is_the_formula_on_calibrated_speeds(pattern: Pattern) -> None:
    threads = torch.get_num_threads()
    cost = LayerCost(pattern, 0.5, (300, 700), torch.float32, 300 * 700 * 4, 300 * 700 * 2)
    dense, packed = calibrate(pattern, 0.5, torch.float32, threads, runtime_isa())
    bandwidth = read_bandwidth(threads)
    assert bandwidth > 1e8
    for speed in (dense, packed):
        assert speed.call_s > 0
        assert [tokens for tokens, _ in speed.rates] == [1, 8, 64, 512][: len(speed.rates)]
        assert all(rate > 0 for _, rate in speed.rates)
    for found in predict(cost, (1, 100)):
        slow = dense.seconds(found.tokens, 300 * 700, cost.dense_bytes, bandwidth)
        fast = packed.seconds(found.tokens, 300 * 350, cost.packed_bytes, bandwidth)
        assert found.kind == "predicted"
        assert found.ratio == pytest.approx(slow / fast)


def test_calibration_is_done_once_and_leaves_the_random_state_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first = calibrate(NM(1, 4), 0.25, torch.float32, torch.get_num_threads(), runtime_isa())
    assert torch.equal(torch.rand(3), expected)
    assert calibrate(NM(1, 4), 0.25, torch.float32, torch.get_num_threads(), runtime_isa()) is first


def test_ratio_is_dense_time_over_packed_time() -> None:
    slow, fast = (lambda: time.sleep(0.008)), (lambda: time.sleep(0.002))
    assert 1.5 < interleaved_ratio([slow, slow], [fast, fast], 0.1) < 8
    assert 0.1 < interleaved_ratio([fast], [slow], 0.05) < 0.7


def test_every_member_of_a_group_takes_its_turn() -> None:
    seen: list[str] = []
    dense = [lambda: seen.append("d0"), lambda: seen.append("d1"), lambda: seen.append("d2")]
    interleaved_ratio(dense, [lambda: seen.append("p0")], 0.0)
    assert {seen.count(name) for name in ("d0", "d1", "d2")} == {2}
    assert seen.count("p0") == 6


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
    ratios = time_pairs({pair.key: [pair]}, {pair.key: {9, 1}})[pair.key]
    assert [(r.tokens, r.kind) for r in ratios] == [(1, "measured"), (9, "measured")]
    assert all(r.ratio > 0 for r in ratios)
    for tokens in (1, 9):
        assert calls.count(("dense", tokens)) == calls.count(("packed", tokens)) >= 5
