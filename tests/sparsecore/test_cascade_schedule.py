from __future__ import annotations

import itertools
import math
import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparsecore.cascade import Schedule
from sparsecore.errors import CorruptFileError, InvalidValueError


def untouched(share_percent: int, layers: int) -> int:
    return -(-share_percent * layers // 100)


@given(
    keep=st.floats(0.02, 1.0),
    spread=st.floats(0, 1),
    length=st.integers(1, 600),
    layers=st.integers(1, 24),
)
def test_token_counts_meet_the_mean_of_all_layers(keep: float, spread: float, length: int, layers: int) -> None:
    whole = untouched(15, layers)
    schedule = Schedule(token_keep=keep, spread=spread)
    if keep < 1 and keep * layers <= whole:
        with pytest.raises(InvalidValueError, match="cannot be reached"):
            schedule.token_counts(length, layers)
        return
    counts = schedule.token_counts(length, layers)
    assert len(counts) == layers
    assert list(counts) == sorted(counts, reverse=True)
    assert counts[:whole] == (length,) * whole
    assert min(counts) >= 1
    # Each count is rounded down, and no layer is left without a token.
    ideal = keep * length * layers
    assert ideal - (layers - whole) - 1e-6 <= sum(counts) <= max(ideal, whole * length) + (layers - whole) + 1e-6
    if min(counts) > 1:
        assert sum(counts) <= ideal + 1e-6


def test_published_line() -> None:
    """12 layers: 2 whole ones, then r_start + r_end = 2 r_avg."""
    counts = Schedule(token_keep=0.5, spread=0.5).token_counts(10_000, 12)
    assert counts[:2] == (10_000, 10_000)
    steps = [a - b for a, b in itertools.pairwise(counts[2:])]
    assert max(steps) - min(steps) <= 1
    assert counts[2] + counts[-1] == pytest.approx(2 * (0.5 * 12 - 2) / 10 * 10_000, abs=1)
    assert Schedule(token_keep=0.5, spread=0).token_counts(1000, 12)[2:] == (400,) * 10


def test_head_counts_of_the_first_layers_are_whole() -> None:
    counts = Schedule(head_keep=0.8).head_counts(12, 6)
    assert counts[:2] == (12, 12)
    assert sum(counts) == round(0.8 * 12 * 6)
    assert Schedule().head_counts(12, 6) == (12,) * 6


def test_released_workload_counts() -> None:
    """K rows of the released GPT-2-Medium workload: 1024 tokens, ratios per layer, rounded down."""
    ratios = [1.0, 1.0, 0.9, 0.8, 0.8] + [0.6] * 6 + [0.3] * 13
    counts = Schedule(token_keep=ratios).token_counts(1024, 24)
    assert sorted(set(counts), reverse=True) == [1024, 921, 819, 614, 307]
    assert Schedule(value_keep=0.3).value_count(921, 0) == 276


def test_ratios_refer_to_the_original_length(seed: int) -> None:
    draw = random.Random(seed)
    ratios = [1.0, *sorted((draw.uniform(0.1, 1) for _ in range(4)), reverse=True)]
    length = draw.randint(50, 500)
    expected = tuple(max(1, math.floor(ratio * length + 1e-9)) for ratio in ratios)
    assert Schedule(token_keep=ratios).token_counts(length, 5) == expected


def test_short_sequences() -> None:
    schedule = Schedule(token_keep=0.3, value_keep=0.1)
    assert schedule.token_counts(0, 6) == (0,) * 6
    assert schedule.token_counts(1, 6) == (1,) * 6
    assert schedule.token_counts(2, 6) == (2, 1, 1, 1, 1, 1)
    assert Schedule(token_keep=0.3, sink=2, recent=2).token_counts(3, 6) == (3,) * 6
    assert Schedule(token_keep=0.3, sink=2, recent=2).token_counts(9, 6)[-1] == 4
    assert [schedule.value_count(keys, 0) for keys in (0, 1, 9, 10, 29, 30)] == [0, 1, 1, 1, 2, 3]


@pytest.mark.parametrize(
    "fields",
    [
        {"token_keep": 0.0},
        {"token_keep": 1.5},
        {"token_keep": -0.1},
        {"token_keep": float("nan")},
        {"token_keep": True},
        {"token_keep": "half"},
        {"token_keep": []},
        {"token_keep": [1.0, 0.5, 0.6]},
        {"token_keep": [1.0, 0.0]},
        {"token_keep": [384, 0.5]},
        {"token_keep": [384, 200.5]},
        {"token_keep": [200, 384]},
        {"head_keep": [12, -1]},
        {"value_keep": [2, 1]},
        {"recent": -1},
        {"sink": 0.5},
        {"head_keep": 2},
        {"value_keep": 0},
        {"spread": 1.1},
        {"token_untouched": -0.1},
        {"msb_bits": 0},
        {"msb_bits": 2.5},
        {"msb_bits": 8, "lsb_bits": 9},
        {"lsb_threshold": 1.01},
    ],
)
def test_bad_values_are_named(fields: dict[str, object]) -> None:
    with pytest.raises(InvalidValueError) as caught:
        Schedule(**fields)  # type: ignore[arg-type]
    assert next(iter(fields)) in str(caught.value) or "lsb_bits" in str(caught.value)


def test_resolve_gives_the_counts_of_every_sequence(seed: int) -> None:
    draw = random.Random(seed)
    lengths = [draw.randint(0, 300) for _ in range(5)]
    schedule = Schedule(token_keep=draw.uniform(0.3, 1), head_keep=0.8, value_keep=0.5, sink=3, recent=2)
    found = schedule.resolve(lengths, layers=6, heads=12)
    assert found.lengths == tuple(lengths)
    assert found.heads == schedule.head_counts(12, 6)
    shares = []
    for sequence, length in enumerate(lengths):
        for layer, count in enumerate(schedule.token_counts(length, 6)):
            assert found.tokens[layer][sequence] == count
            assert found.values[layer][sequence] == schedule.value_count(count, layer)
            shares += [count / length] if length else []
    assert found.token_keep == pytest.approx(sum(shares) / len(shares) if shares else 1.0)
    assert schedule.resolve(torch.tensor(lengths), layers=6, heads=12) == found
    assert schedule.resolve(lengths[0], layers=6, heads=12).tokens == tuple((layer[0],) for layer in found.tokens)
    plan = schedule.plan(6, 12)
    assert plan.counts(torch.tensor(lengths)).tolist() == [list(layer) for layer in found.tokens]
    with pytest.raises(InvalidValueError, match=r"more than 0\.167, the smallest possible mean"):
        Schedule(token_keep=0.1).resolve(10, layers=6, heads=12)
    for lengths in (-1, [3, -2], "a", [2.5], None):
        with pytest.raises(InvalidValueError, match="a length is"):
            schedule.resolve(lengths, layers=6, heads=12)  # type: ignore[arg-type]
    for layers, heads, what in ((0, 12, "0 layers"), (6, 0, "0 heads")):
        with pytest.raises(InvalidValueError, match=what):
            schedule.resolve(10, layers=layers, heads=heads)


def test_lists_of_counts() -> None:
    schedule = Schedule(token_keep=[384, 200, 64, 2], head_keep=[12, 12, 6, 1])
    assert schedule.token_counts(384, 4) == (384, 200, 64, 2)
    assert schedule.token_counts(100, 4) == (100, 100, 64, 2)
    assert schedule.head_counts(12, 4) == (12, 12, 6, 1)
    assert Schedule.from_json(schedule.to_json()) == schedule
    with pytest.raises(InvalidValueError, match="384 for a sequence of 385 tokens"):
        schedule.resolve(385, layers=4, heads=12)
    with pytest.raises(InvalidValueError, match="at most 8"):
        schedule.check(4, 8)
    with pytest.raises(InvalidValueError, match=r"starts with 16: \[16, 12, ...\]"):
        schedule.check(4, 16)


def test_check_against_the_depth() -> None:
    with pytest.raises(InvalidValueError, match="3 ratios for a model of 4 layers"):
        Schedule(token_keep=[1, 0.5, 0.5]).check(4, 12)
    with pytest.raises(InvalidValueError, match="value_keep"):
        Schedule(value_keep=[1, 0.5, 0.5]).check(4, 12)
    with pytest.raises(InvalidValueError, match="head_keep"):
        Schedule(head_keep=0.2).check(6, 12)
    Schedule(token_keep=[1, 0.5, 0.5, 0.5], value_keep=[0.5, 1, 0.2, 1]).check(4, 12)


def test_json_round_trip() -> None:
    schedule = Schedule(token_keep=[1, 0.5], value_keep=0.25, msb_bits=6, name="mine")
    assert Schedule.from_json(schedule.to_json()) == schedule
    with pytest.raises(CorruptFileError, match="tokenkeep"):
        Schedule.from_json({"tokenkeep": 0.5})
    with pytest.raises(CorruptFileError):
        Schedule.from_json({"token_keep": 3.0})
