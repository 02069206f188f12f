"""Schedules: the published rule, ranges, errors with line and nearest key."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.errors import ConfigError, FileMissingError, UnknownNameError
from simulator.workload import ModelInfo
from simulator.workload.schedule import Ramp, builtin_names, default_schedule, kept, load_schedule


@given(st.integers(0, 5000), st.floats(1e-6, 1))
def test_kept_is_a_floor_that_leaves_at_least_one(count: int, ratio: float) -> None:
    result = kept(count, ratio)
    assert 0 <= result <= count
    assert result >= min(count, 1)
    assert result == max(min(count, 1), int(count * ratio)) or abs(result - count * ratio) < 1e-6


def test_kept_is_not_fooled_by_binary_fractions() -> None:
    assert [kept(100, ratio) for ratio in (0.29, 0.57, 0.58)] == [29, 57, 58]
    assert kept(1024, 0.9) == 921


@given(st.integers(1, 48), st.floats(0, 1), st.floats(0.05, 1))
def test_ramp_keeps_its_average_and_never_rises(layers: int, unpruned: float, average: float) -> None:
    start = min(1.0, 1.5 * average)
    ramp = Ramp(unpruned=unpruned, average=average, start=start)
    ratios = ramp.ratios(layers)
    whole = [ratio for ratio in ratios if ratio == 1.0]
    assert len(ratios) == layers
    assert len(whole) >= min(layers, unpruned * layers - 1e-6)
    assert all(b <= a + 1e-12 for a, b in pairwise(ratios))
    pruning = ratios[min(layers, -(-round(unpruned * layers * 10**9) // 10**9)) :]
    if pruning:
        assert sum(pruning) / len(pruning) == pytest.approx(average)


def test_spatten_bert_follows_the_published_rule() -> None:
    plan = load_schedule("spatten-bert").plan(24)
    assert [layer.token_keep for layer in plan[:4]] == [1.0] * 4
    assert [layer.head_keep for layer in plan[:8]] == [1.0] * 8
    assert plan[4].token_keep == 0.9
    assert plan[4].token_keep + plan[-1].token_keep == pytest.approx(2 * 0.62)
    assert plan[8].head_keep + plan[-1].head_keep == pytest.approx(2 * 0.87)


def test_spatten_gpt2_is_published_only_for_its_own_set_up() -> None:
    schedule = load_schedule("spatten-gpt2")
    medium = ModelInfo("gpt2", 24, 16, 16, 64, 1024, 4096, 50257, 0, "f32")
    assert schedule.kind(medium, 992, 32, "generate") == "published"
    assert schedule.kind(medium, 992, 32, "summarise") == "assumed"
    assert schedule.kind(medium, 991, 32, "generate") == "assumed"
    small = ModelInfo("gpt2", 12, 12, 12, 64, 768, 3072, 50257, 0, "f32")
    assert schedule.kind(small, 992, 32, "generate") == "assumed"
    plan = schedule.plan(12)
    assert (plan[0].token_keep, plan[11].token_keep, plan[11].head_keep) == (1.0, 0.3, 0.625)


def test_defaults_by_family() -> None:
    assert default_schedule("bert").name == "spatten-bert"
    assert default_schedule("gpt2").name == "spatten-gpt2"
    assert default_schedule("llama").name == "none"
    assert set(builtin_names()) >= {"none", "spatten-bert", "spatten-gpt2"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("description: x\ntoken_kep: 0.5\n", r"'token_kep': did you mean 'token_keep'[\s\S]*line 2"),
        ("token_keep: 1.5\n", r"1\.5[\s\S]*line 1"),
        ("token_keep: 0\n", r"greater than 0[\s\S]*line 1"),
        ("lsb_share: -0.1\n", r"line 1"),
        ("layers: 2\ntoken_keep:\n  - 0.5\n  - 0.7\n", "rises"),
        ("layers: 3\ntoken_keep: [0.5, 0.4]\n", "token_keep has 2"),
        ("token_keep: 1\ntoken_keep_ramp: {unpruned: 0.1, average: 0.5, start: 0.9}\n", "one is enough"),
        ("token_keep_ramp: {unpruned: 0.1, average: 0.2, start: 0.9}\n", "outside"),
        ("token_keep_ramp:\n  averag: 0.5\n", r"4 problems[\s\S]*line 2[\s\S]*'averag': did you mean 'average'"),
        ("bits: {key_msb: 0}\n", r"line 1"),
        ("phases: []\n", "no phase"),
        ("a: 1\na: 2\n", r"given twice[\s\S]*line 2"),
        ("token_keep: [1, 2\n", r"not valid YAML[\s\S]*line 2"),
        ("name: 2001-99-01\n", "not readable"),
        ("name: '\x7f'\n", "not valid YAML"),
        ("token_keep: .nan\n", "line 1"),
        ("- 1\n", "no keys"),
        ("", "no keys"),
    ],
)
def test_bad_schedules_are_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "half.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said) as caught:
        load_schedule(path)
    assert "half.yaml" in str(caught.value)


def test_json_is_read_too_and_the_name_is_that_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "half.json"
    path.write_text('{"token_keep": [1, 0.5], "bits": {"key_msb": 6, "key_lsb": 4}, "lsb_share": 0.1}')
    schedule = load_schedule(path)
    assert schedule.name == "half"
    assert [layer.token_keep for layer in schedule.plan(4)] == [1, 1, 0.5, 0.5]
    assert (schedule.bits.key_msb, schedule.bits.key_lsb, schedule.plan(1)[0].lsb_share) == (6, 4, 0.1)


def test_unknown_names(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'spatten-bert'"):
        load_schedule("spaten-bert")
    with pytest.raises(FileMissingError):
        load_schedule(tmp_path / "absent.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not text"):
        load_schedule(tmp_path / "binary.yaml")
