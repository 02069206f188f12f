"""The search: what it finds against trying everything, and that it goes on from its journal."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import Simulate

from simulator.errors import InvalidValueError
from simulator.explore import Plan, Store, front, parse_axis, sweep
from simulator.explore.search import search
from simulator.explore.table import objectives

SHORT = "bert-base@sts-b~assumed"


def plan(*more: str) -> Plan:
    texts = ("topk.parallelism=1:8:x2", "clock_ghz=0.6:1.4:0.4", "array.multipliers=128:1024:x2", *more)
    return Plan((SHORT,), ("spatten",), tuple(map(parse_axis, texts)), fidelity="analytical")


def test_the_front_of_a_search_beside_that_of_everything(tmp_path: Path) -> None:
    with Store(tmp_path / "all") as store:
        everything = sweep(plan(), store)
    values = {record.key: objectives(record, "attention") for record in everything.records}
    known = [value for value in values.values() if value is not None]
    assert len(known) == 48
    best = {known[index] for index in front(known)}
    with Store(tmp_path / "all") as store:
        found = search(plan(), store, 48)
        assert found.simulated == 0, "a sweep has simulated all of them"
    assert {record.key for record in found.records} <= values.keys()
    ours = {values[record.key] for record in found.records}
    assert len(best & ours) >= len(best) / 2  # type: ignore[operator]


def test_a_search_goes_on(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    with Store(tmp_path / "s") as store:
        first = search(plan(), store, 8)
    assert 1 <= first.simulated <= 8
    with Store(tmp_path / "s") as store:
        again = search(plan(), store, 8)
        assert again.simulated == 0
        assert again.records == first.records
        more = search(plan(), store, 28, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(24, 28), (28, 28)]
    assert {record.key for record in first.records} <= {record.key for record in more.records}


def test_refused_points_count_as_tried(tmp_path: Path) -> None:
    with Store(tmp_path / "s") as store:
        done = search(plan("dram.channels=3,16", "sram.bytes=12288,196608"), store, 12)
    assert 0 < len(done.records) <= 12
    assert any(record.metrics is not None for record in done.records)


def test_several_designs_and_words(tmp_path: Path) -> None:
    axes = (
        parse_axis("memory=hbm2,ddr4-3200"),
        parse_axis("spatten:layout.generate=compact,original", ("spatten", "systolic")),
    )
    two = Plan((SHORT,), ("spatten", "systolic"), axes, fidelity="analytical")
    with Store(tmp_path / "s") as store:
        done = search(two, store, 16)
    assert {record.arch for record in done.records} == {"spatten", "systolic"}
    assert all("layout.generate" not in record.values for record in done.records if record.arch == "systolic")


def test_only_equal_work_is_searched(tmp_path: Path) -> None:
    with Store(tmp_path / "s") as store:
        with pytest.raises(InvalidValueError, match="one model"):
            search(Plan((SHORT, "bert-base"), ("spatten",), (parse_axis("seed=1,2"),)), store, 4)
        with pytest.raises(InvalidValueError, match="seq_len is to stay"):
            search(Plan(("bert-base",), ("spatten",), (parse_axis("seq_len=8,16"),)), store, 4)


def test_the_command(tmp_path: Path, simulate: Simulate) -> None:
    vary = ("--vary", "topk.parallelism=1:16:x2", "--vary", "clock_ghz=0.6:1.4:0.2", "--fidelity", "analytical")
    code, out, err = simulate("sweep", SHORT, *vary, "-j", "1", "-o", tmp_path / "s", "--search", "8")
    assert (code, err) == (0, "")
    assert "Best points" in out
    assert (tmp_path / "s" / "search.journal").exists()
