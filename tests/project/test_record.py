"""The comparison of a short benchmark run with the record of its machine, and the verdicts of the table."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

SUITE = Path(__file__).resolve().parents[2] / "benchmarks" / "suite"


@pytest.fixture
def suite() -> Iterator[dict[str, ModuleType]]:
    """The modules of benchmarks/suite, which is a folder to run and no package."""
    names = ("cases", "record", "table")
    sys.path.insert(0, str(SUITE))
    try:
        yield {name: importlib.import_module(name) for name in names}
    finally:
        sys.path.remove(str(SUITE))
        for name in names:
            sys.modules.pop(name, None)


def test_rows_that_fell_by_a_fifth_are_listed_worst_first(suite: dict[str, ModuleType]) -> None:
    record = {"a": 2.0, "b": 2.0, "c": 2.0, "gone": 2.0}
    now = {"a": 1.7, "b": 1.5, "c": 0.9, "new": 0.1}
    found = suite["record"].fallen(now, record)
    assert [(row.name, row.share) for row in found] == [("c", 0.45), ("b", 0.75)]
    assert str(found[0]) == "c: 0.90, was 2.00 (-55%)"


@pytest.mark.parametrize(
    ("tries", "listed", "failed", "asked"),
    [
        ([{"a": 2.0, "b": 2.1}], [], [], 1),
        ([{"a": 1.2, "b": 2.0}], ["a"], [], 1),
        ([{"a": 0.9, "b": 2.0}, {"a": 1.9}], [], [], 2),
        ([{"a": 0.9, "b": 2.0}, {"a": 0.8}, {"a": 1.2}], ["a"], [], 3),
        ([{"a": 0.9, "b": 2.0}, {"a": 0.8}, {"a": 0.95}], ["a"], ["a"], 3),
        ([{"a": 0.5, "b": 0.5}, {"a": 2.0, "b": 0.4}, {"b": 0.6}], ["b"], ["b"], 3),
    ],
)
def test_only_what_stays_below_half_in_three_tries_fails(
    suite: dict[str, ModuleType], tries: list[dict[str, float]], listed: list[str], failed: list[str], asked: int
) -> None:
    wanted: list[set[str]] = []

    def measure(names: set[str]) -> dict[str, float]:
        wanted.append(names)
        return tries[len(wanted) - 1]

    fell, broke = suite["record"].check({"a": 2.0, "b": 2.0}, measure)
    assert ([row.name for row in fell], [row.name for row in broke]) == (listed, failed)
    assert len(wanted) == asked
    assert wanted[0] == {"a", "b"}
    assert all(names == set(again) for names, again in zip(wanted[1:], tries[1:]))


def test_a_record_is_read_back_and_a_damaged_one_is_named(suite: dict[str, ModuleType], tmp_path: Path) -> None:
    record = suite["record"]
    path = record.write(tmp_path / "records", "some-machine-2t", {"b": 1.23456, "a": 2.0})
    assert path.name == "some-machine-2t.json"
    assert record.read(path) == {"a": 2.0, "b": 1.235}
    for damaged in ("[]", '{"ratios": {"a": "2"}}', '{"ratios": {"a": 0}}'):
        path.write_text(damaged)
        with pytest.raises(ValueError, match="no record"):
            record.read(path)


def test_records_in_the_repository_are_readable(suite: dict[str, ModuleType]) -> None:
    for path in suite["record"].RECORDS.glob("*.json"):
        assert suite["record"].read(path)
        assert json.loads(path.read_text())["machine"] == path.stem


def test_verdicts_of_a_cell(suite: dict[str, ModuleType]) -> None:
    verdict, bar = suite["table"].verdict, suite["cases"].Bar(1.5, 2.0)
    assert verdict([1.6, 2.6], bar) == "aim"
    assert verdict([1.6, 1.7], bar) == "met"
    assert verdict([1.4, 2.0], bar) == "mean"
    assert verdict([1.4, 1.5], bar) == "missed"
    assert verdict([9.0], suite["cases"].Bar(1.5)) == "met"
    assert verdict([9.0], None) == verdict([], bar) == ""


def test_the_must_between_columns_is_a_line_in_the_logarithm(suite: dict[str, ModuleType]) -> None:
    line, row = suite["table"].must_line, suite["cases"].ROWS[0]
    assert [line(row, t) for t in (1, 16, 20, 32, 64, 100, 128, 512, 2048)] == pytest.approx(
        [1.8, 2.2, 2.2, 2.2, 1.5, 1.5, 1.5, 1.0, 1.0]
    )
    assert line(row, 4) == pytest.approx(2.0)
    assert line(row, 256) == pytest.approx(1.25)


def test_cases_cover_every_column_of_every_shape(suite: dict[str, ModuleType]) -> None:
    cases = suite["cases"]
    for shape in cases.SHAPES:
        assert {cases.column_of(t) for t in cases.tokens_of(shape)} == {0, 1, 2, 3}
    assert {row.name for row in cases.ROWS} > set(cases.CLIFF_ROWS)
    assert cases.CLIFF_TOKENS[0] == 1
    assert {15, 16, 17, 2047, 2048} < set(cases.CLIFF_TOKENS)
