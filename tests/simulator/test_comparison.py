"""Designs side by side: equal resources, what turns their order against brute force, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import random
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import Simulate
from hypothesis import given
from hypothesis import strategies as st
from sample_result import make_result

import simulator as sim
from simulator.comparison import orders, require_comparable, side_by_side
from simulator.config import validate
from simulator.designs.decision import HeadChoice, Rule
from simulator.designs.iso import equalised
from simulator.designs.registry import design_names, make, resolve
from simulator.engine.accounting import Ledger
from simulator.engine.resources import Resource
from simulator.errors import ConfigError, FormatVersionError, InvalidValueError, UnsupportedError
from simulator.result import EnergyItem, Result, dump_results
from simulator.workload import ReadRequest, Workload
from simulator.workload.decisions import Decision
from simulator.workload.ir import AttentionOp
from simulator.workload.reader import read_workload


@pytest.fixture
def random_(seed: int) -> random.Random:
    return random.Random(seed)


class TestResource:
    @given(st.lists(st.integers(1, 200), min_size=1, max_size=3), st.integers(1, 5000), st.integers(1, 4))
    def test_the_amount_asked_for_is_reached(self, values: list[int], units: int, factor: int) -> None:
        settings = {"part": {f"k{i}": value for i, value in enumerate(values)}}
        keys = tuple(f"part.k{i}" for i in range(len(values)))
        for combine in ("product", "sum"):
            resource = Resource(keys, combine, factor=factor)  # type: ignore[arg-type]
            wanted = factor * max(units, len(values))
            changes = resource.changes(settings, wanted)
            after = {"part": settings["part"] | {key.removeprefix("part."): new for key, new in changes.items()}}
            assert resource.amount(after) == wanted
            assert all(new >= 1 for new in changes.values())
            assert resource.changes(after, wanted) == {} or len(values) > 1

    def test_proportions_are_kept(self) -> None:
        assert Resource(("r", "c")).changes({"r": 32, "c": 32}, 256) == {"r": 16, "c": 16}
        assert Resource(("r", "c")).changes({"r": 64, "c": 16}, 256) == {"r": 32, "c": 8}
        assert Resource(("a", "b"), "sum").changes({"a": 300, "b": 100}, 200) == {"a": 150, "b": 50}
        assert Resource(("a",), factor=2).changes({"a": 8}, 7) == {"a": 3}  # the nearest below


@pytest.mark.parametrize("base", ["spatten", "spatten-eighth"])
@pytest.mark.parametrize("arch", design_names())
def test_every_design_gets_the_resources_or_says_why_not(arch: str, base: str) -> None:
    found = equalised(arch, base)
    now, _ = make(arch, found.changes)
    wanted, _ = make(base)
    left = [note for note in found.notes if note.startswith("not equalised")]
    for name, words in {"multipliers": "multipliers", "bandwidth_gbps": "GB/s", "sram_bytes": "SRAM"}.items():
        equal = now.amounts.get(name) == wanted.amounts.get(name)
        assert equal or any(words in note or name in note for note in left), (name, found)
        assert (words in found.notes[0]) == equal


def test_iso_changes_the_run_and_says_so() -> None:
    small = {"array.multipliers": 256, "sram.bytes": 65536}
    result = sim.run("bert-base", "systolic", iso="spatten", iso_set=small, fidelity="analytical")
    assert result.resources == {"multipliers": 512, "bandwidth_gbps": 512, "sram_bytes": 131072}
    assert "array.rows=16" in result.notes[0]
    changed = {field.name: field.source for field in result.inputs if "--iso" in field.source}
    assert changed == {"design.array.rows": "--iso spatten", "design.sram.bytes": "--iso spatten"}
    with pytest.raises(ConfigError, match=r"array\.rows is set"):
        sim.run("bert-base", "systolic", iso="spatten", iso_set=small, set={"array.rows": 64})
    with pytest.raises(ConfigError, match=r"dram\.\w+ is set"):
        equalised("systolic", "spatten", {"dram.standard": "ddr4-3200", "dram.channels": 1})
    other = equalised("systolic", "spatten", None, {"dram.standard": "ddr4-3200", "dram.channels": 1})
    assert other.changes == {"dram.standard": "ddr4-3200", "dram.channels": 1}
    slow = equalised("systolic", "spatten", {"clock_ghz": 0.5})
    assert slow.changes == {}
    assert any("clock of 0.5 GHz" in note for note in slow.notes)


def with_energy(design: str, parts: dict[str, tuple[float, float, float]], time_s: float = 1e-6) -> Result:
    base = make_result(design=design)
    items = {
        name: EnergyItem(pj, "dram", f"source of {name}", "published", low, high, {"attention": pj / 2})
        for name, (pj, low, high) in parts.items()
    }
    total = sum(item.energy_pj for item in items.values()) / 2
    scope = dataclasses.replace(base.scopes["attention"], energy_pj=total, time_s=time_s)
    return dataclasses.replace(base, energy=items, scopes={**base.scopes, "attention": scope})


def test_turns_are_those_of_brute_force(random_: random.Random) -> None:
    """Every corner of the intervals, a constant that both share moving on both."""
    seen = set()
    for _ in range(300):
        factors = {name: sorted(random_.uniform(0.3, 2) for _ in range(2)) for name in "abcd"}
        factors = {name: (min(1, low), max(1, high)) for name, (low, high) in factors.items()}

        def draw(names: str, factors: dict[str, tuple[float, float]] = factors) -> dict[str, tuple[float, ...]]:
            values = {name: random_.uniform(1, 10) for name in names}
            return {name: (pj, pj * factors[name][0], pj * factors[name][1]) for name, pj in values.items()}

        one, other = draw("abc"), draw("abd")
        (order,) = (o for o in orders([with_energy("x", one), with_energy("y", other)]) if o.quantity == "energy")  # type: ignore[arg-type]
        ours, theirs = (one, other) if order.better == "x" else (other, one)

        def ratio(ends: dict[str, float], ours: dict = ours, theirs: dict = theirs) -> float:  # type: ignore[type-arg]
            totals = [sum(part[0] * ends.get(name, 1.0) for name, part in side.items()) for side in (theirs, ours)]
            return totals[0] / totals[1]

        alone = {name for name in "abcd" if min(ratio({name: factors[name][0]}), ratio({name: factors[name][1]})) <= 1}
        corners = [dict(zip("abcd", ends)) for ends in product(*(factors[name] for name in "abcd"))]
        assert order.factor == pytest.approx(ratio({}))
        if len([turn for turn in order.turns if len(turn.constants) == 1]):
            assert {turn.constants[0] for turn in order.turns} == alone
            for turn in order.turns:
                assert turn.at is not None
                assert ratio({turn.constants[0]: turn.at}) == pytest.approx(1)
        else:
            assert not alone
            assert bool(order.turns) == (min(map(ratio, corners)) <= 1)
        assert order.least == pytest.approx(min(map(ratio, corners)))
        seen.add(len(order.turns) and len(order.turns[0].constants))
    assert seen >= {0, 1, 2}


def test_times_turn_only_by_the_kind_of_model() -> None:
    def timed(design: str, time_s: float, closed: float | None) -> Result:
        base = make_result(design=design)
        scope = dataclasses.replace(base.scopes["attention"], time_s=time_s, analytical_s=closed)
        return dataclasses.replace(base, scopes={**base.scopes, "attention": scope})

    def turns(*results: Result) -> list[tuple[str, ...]]:
        return [turn.constants for o in orders(results) if o.quantity == "time" for turn in o.turns]

    assert turns(timed("a", 1, 1.1), timed("b", 2, 1.9)) == []
    assert turns(timed("a", 1, 2.1), timed("b", 2, 1.9)) == [("closed forms instead of the event engine",)]
    assert turns(timed("a", 1, 2.1), timed("b", 2, None)) == []


def test_sides_have_what_the_results_have() -> None:
    fast = sim.run("bert-base", "spatten", fidelity="analytical")
    slow = sim.run("bert-base", "systolic", fidelity="analytical")
    compared = side_by_side([fast, slow])
    side = compared.sides[1]
    scope = slow.scopes["attention"]
    assert (side.time_s, side.energy_pj, side.dram_fetched_bytes) == (
        scope.time_s,
        scope.energy_pj,
        scope.dram_fetched_bytes,
    )
    assert side.area_mm2 == pytest.approx(sum(item.mm2 for item in slow.area))
    assert side.speedup == pytest.approx(sim.compare(fast, slow).speedup)
    assert side.energy_low_pj is not None and side.energy_high_pj is not None and side.energy_pj is not None
    assert side.energy_low_pj < side.energy_pj < side.energy_high_pj
    assert side.resources["multipliers"] == 1024
    linear = side_by_side([fast, slow], "linear").sides
    assert linear[0].time_s is None and linear[1].speedup is None and linear[1].time_s
    ends = [sum(getattr(item, end) for item in fast.energy.values()) for end in ("low_pj", "high_pj")]
    assert [compared.sides[0].energy_low_pj, compared.sides[0].energy_high_pj] == pytest.approx(ends)


def test_the_error_of_the_output_is_that_of_the_decisions() -> None:
    workload = read_workload("bert-base", ReadRequest(seq_len=6)).dense()
    result = with_rule(workload)
    assert (result.output_error, result.error_kind) == (None, "not captured")
    errors = {op.layer: (op.layer + 1) / 100 for op in workload.attention}
    made = [decision(op, error) for op, error in zip(workload.attention, errors.values(), strict=True)]
    result = with_rule(dataclasses.replace(workload, decisions=tuple(made)))
    mean = sum(error**2 for error in errors.values()) / len(errors)
    assert result.output_error == pytest.approx(mean**0.5)
    assert result.error_kind == "measured"
    assert side_by_side([result]).sides[0].output_error == result.output_error
    part = with_rule(dataclasses.replace(workload, decisions=tuple(made[:3])))
    assert part.error_kind == "measured on 3 of 12 ops"
    assert sim.run(workload, "systolic").error_kind == "dense"


class FirstRows(Rule):
    """A rule of which only the name matters here."""

    name = "first rows"

    def decide(self, q: Any, k: Any, v: Any, scale: float, visible: Any) -> HeadChoice:
        raise NotImplementedError


def decision(op: AttentionOp, error: float) -> Decision:
    counts = np.full((len(op.heads), op.queries), 2, np.int32)
    rows = (2,) * len(op.heads)
    return Decision("first rows", *op.place, rows, rows, counts, counts, output_error=error)


def with_rule(workload: Workload) -> Result:
    """What the systolic array with a rule of its own says."""
    design, resolved = make("systolic")
    ruled = type("Ruled", (type(design),), {"rule": FirstRows()})
    ledger = Ledger(workload, ruled(validate(resolved.design.settings_model, resolved.document)))
    error, kind = ledger.output_error()
    return make_result(output_error=error, error_kind=kind)


def test_what_cannot_be_compared_is_named(simulate: Simulate, tmp_path: Path) -> None:
    base = make_result()
    older = make_result(design="old", schema_version="1.1")
    host = dataclasses.replace(base.scopes["attention"], modelled_by="host", cycles=None, energy_pj=None)
    on_host = make_result(design="cpu", scopes={**base.scopes, "attention": host})
    other = dataclasses.replace(base, model=dataclasses.replace(base.model, layers=3))
    with pytest.raises(InvalidValueError, match="one result"):
        require_comparable([base])
    for error, results, scope, words in (
        (FormatVersionError, [base, older], "attention", "schemas 1.1 and"),
        (UnsupportedError, [base, on_host], "attention", "on a host"),
        (UnsupportedError, [base, other], "attention", "different workloads"),
        (UnsupportedError, [base, make_result()], "linear", "not modelled in both"),
    ):
        with pytest.raises(error, match=words):
            require_comparable(results, scope)
        (tmp_path / "r.json").write_text(dump_results(results))
        code, _, err = simulate("compare", tmp_path / "r.json", "--scope", scope)
        assert code == 2 and words in err


def test_the_command_writes_json_and_a_page(simulate: Simulate, tmp_path: Path) -> None:
    for arch in ("spatten", "systolic"):
        code, _, _ = simulate("bert-base", "-a", arch, "--fidelity", "analytical", "--json", tmp_path / arch, "-q")
        assert code == 0
    page = tmp_path / "page.html"
    code, out, _ = simulate("compare", tmp_path / "spatten", tmp_path / "systolic", "--html", page)
    assert code == 0
    for words in ("not captured", "How sure the order is", "spatten needs less energy", "SRAM"):
        assert words in out and words in page.read_text()
    assert 'aria-label="energy of the attention with its interval"' in page.read_text()
    code, out, _ = simulate("compare", tmp_path / "spatten", tmp_path / "systolic", "--json", "-")
    document = json.loads(out)
    assert document["format"] == "sparsecore-comparison"
    assert [side["design"] for side in document["sides"]] == ["spatten", "systolic"]
    assert document["orders"][0]["better"] == "spatten"
    assert document["sides"][0]["error_kind"] == "not captured"


def test_iso_of_the_command(simulate: Simulate) -> None:
    options = ("--fidelity", "analytical", "--iso", "spatten", "--set", "spatten:array.multipliers=256", "--json", "-")
    code, out, _ = simulate("bert-base", "-a", "spatten", "-a", "systolic", *options)
    assert code == 0
    assert [result["resources"]["multipliers"] for result in json.loads(out)] == [512, 512]
    code, _, err = simulate("bert-base", "--iso", "spaten", "-q")
    assert code == 2 and "did you mean 'spatten'" in err


def test_settings_of_resources_exist() -> None:
    for arch in design_names():
        resolved = resolve(arch)
        settings = validate(resolved.design.settings_model, resolved.document)
        for resource in resolved.design.resources.values():
            assert resource.amount(settings) > 0
