"""The systolic array: SCALE-Sim's cycles, tilings against brute force, linear layers, attention, what is refused."""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator
from itertools import product as every
from pathlib import Path

import pytest
from attention_ops import attention

import simulator
from simulator.designs.registry import make
from simulator.designs.systolic.design import Systolic
from simulator.designs.systolic.linear import LINEAR_READS, LINEAR_WRITES
from simulator.designs.systolic.tiling import ORDERS, Storage, Tiling, least_traffic, parse_tiling
from simulator.errors import ConfigError, InvalidValueError, NamedError, UnsupportedError
from simulator.units import SystolicArray
from simulator.units.systolic import Dataflow, Product
from simulator.workload.ir import LinearOp

DATAFLOWS: tuple[Dataflow, ...] = ("ws", "os", "is")
SCALESIM = Path(__file__).parents[1] / "data" / "scalesim-3.0.0.csv"


def design(**changes: object) -> Systolic:
    made = make("systolic", {name.replace("__", "."): value for name, value in changes.items()})[0]
    assert isinstance(made, Systolic)
    return made


def linear(tokens: int, inner: int, outputs: int) -> LinearOp:
    return LinearOp(0, "x", 0, "summarise" if tokens > 1 else "generate", 0, tokens, inner, outputs)


def test_cycles_equal_those_of_scalesim() -> None:
    with SCALESIM.open(newline="") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    assert len(rows) > 300
    assert {row["dataflow"] for row in rows} == set(DATAFLOWS)
    designs: dict[SystolicArray, Systolic] = {}
    for row in rows:
        array = SystolicArray(int(row["rows"]), int(row["columns"]), row["dataflow"])  # type: ignore[arg-type]
        whole = (int(row["m"]), int(row["k"]), int(row["n"]))
        assert array.stall_free_cycles(whole) == int(row["cycles"]), row
        # The whole design: a buffer that holds everything cuts nothing, and its array takes as long.
        if array not in designs:
            shape = {"array.rows": array.rows, "array.columns": array.columns, "array.dataflow": array.dataflow}
            designs[array] = design(sram__bytes=1 << 30, **shape)
        assert designs[array].mapping(linear(*whole)).array_cycles == int(row["cycles"])


@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_a_fold_equals_a_stepped_array(dataflow: Dataflow, seed: int) -> None:
    """Operands move right and down, one cell a cycle; what stays moved down first, a row a cycle."""
    rng = random.Random(seed)
    for _ in range(20):
        rows, columns, streamed = rng.randint(1, 6), rng.randint(1, 6), rng.randint(2, 9)
        loaded = 0 if dataflow == "os" else rows
        last = max(loaded + t + r + c for t in range(streamed) for r in range(rows) for c in range(columns))
        whole = {"ws": (streamed, rows, columns), "os": (rows, streamed, columns), "is": (columns, rows, streamed)}
        assert SystolicArray(rows, columns, dataflow).stall_free_cycles(whole[dataflow]) == last


@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_accesses_equal_a_count_over_folds(dataflow: Dataflow, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(20):
        array = SystolicArray(rng.randint(1, 5), rng.randint(1, 5), dataflow)
        whole = (rng.randint(1, 12), rng.randint(1, 12), rng.randint(1, 12))
        streamed = {"ws": 0, "os": 1, "is": 2}[dataflow]
        ranges = []
        for axis, (size, unit) in enumerate(zip(whole, array.granule(), strict=True)):
            width = size if axis == streamed else unit
            ranges.append([(start, min(start + width, size)) for start in range(0, size, width)])
        inputs = weights = sums = 0
        for (m0, m1), (k0, k1), (n0, n1) in every(*ranges):
            inputs += (m1 - m0) * (k1 - k0)
            weights += (k1 - k0) * (n1 - n0)
            sums += (m1 - m0) * (n1 - n0)
        assert array.accesses(whole) == (inputs, weights, sums, sums - whole[0] * whole[2])


def test_overlapped_folds_drain_once() -> None:
    array = SystolicArray(32, 32, overlap=True)
    assert array.folds((384, 64, 384)) == 2 * 12
    assert array.occupied_cycles((384, 64, 384)) == 24 * 384
    assert array.occupied_cycles((1, 64, 384)) == 24 * 32  # a fold cannot be loaded faster than its rows
    assert array.stall_free_cycles((384, 64, 384)) == 24 * 384 + 62


def stepped_traffic(tiling: Tiling, whole: Product, storage: Storage) -> dict[str, int]:
    """Walk the loops and keep one tile of each operand: bytes that cross the pins."""
    spans = {
        name: [(start, min(start + size, limit)) for start in range(0, limit, size)]
        for name, size, limit in zip("mkn", tiling.sizes, whole, strict=True)
    }
    held: dict[str, object] = {}
    started: set[object] = set()
    bits = dict.fromkeys((*LINEAR_READS, *LINEAR_WRITES), 0)

    def leave(tile: object, size: int, left: set[object]) -> None:
        bits["linear_output" if tile not in left else "sum_write"] += size

    order = list(every(*(spans[name] for name in tiling.order)))
    places = [dict(zip(tiling.order, step, strict=True)) for step in order]
    last_use = {(place["m"], place["n"]): index for index, place in enumerate(places)}
    for index, place in enumerate(places):
        size = {name: high - low for name, (low, high) in place.items()}
        for name, (a, b), width in (("activation", "mk", storage.input_bits), ("weight", "kn", storage.weight_bits)):
            tile = (place[a], place[b])
            if held.get(name) != tile:
                bits[name] += size[a] * size[b] * width
                held[name] = tile
        tile = (place["m"], place["n"])
        if held.get("sum") != tile and tile in started:
            bits["sum_read"] += size["m"] * size["n"] * storage.sum_bits
        started.add(tile)
        held["sum"] = tile
        following = places[index + 1] if index + 1 < len(places) else None
        if following is None or (following["m"], following["n"]) != tile:
            done = last_use[tile] == index
            width = storage.output_bits if done else storage.sum_bits
            bits["linear_output" if done else "sum_write"] += size["m"] * size["n"] * width
    return {name: -(-value // 8) for name, value in bits.items()}


def legal(whole: Product, array: SystolicArray, storage: Storage) -> Iterator[Tiling]:
    ranges = (
        sorted({min(size, tile * unit) for tile in range(1, -(-size // unit) + 1)})
        for size, unit in zip(whole, array.granule(), strict=True)
    )
    for (m, k, n), order in every(every(*ranges), ORDERS):
        tiling = Tiling(m, k, n, order)
        if tiling.held_bytes(whole, storage) <= storage.bytes:
            yield tiling


def random_case(rng: random.Random) -> tuple[Product, SystolicArray, Storage]:
    array = SystolicArray(rng.randint(1, 4), rng.randint(1, 4), rng.choice(DATAFLOWS))
    whole = (rng.randint(1, 11), rng.randint(1, 14), rng.randint(1, 11))
    bits = [rng.choice((8, 16)), rng.choice((8, 16)), rng.choice((16, 32)), rng.choice((8, 16))]
    return whole, array, Storage(rng.randint(40, 900), rng.random() < 0.5, *bits)


def test_traffic_equals_a_walk_through_the_loops(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(60):
        whole, _, storage = random_case(rng)
        sizes = [rng.randint(1, size) for size in whole]
        tiling = Tiling(*sizes, rng.choice(ORDERS))
        assert tiling.traffic(whole, storage) == stepped_traffic(tiling, whole, storage), (whole, tiling)


def test_the_search_finds_the_least_of_all(seed: int) -> None:
    rng = random.Random(seed)
    found = 0
    for _ in range(25):
        whole, array, storage = random_case(rng)
        totals = {tiling: sum(tiling.traffic(whole, storage).values()) for tiling in legal(whole, array, storage)}
        if not totals:
            with pytest.raises(UnsupportedError, match="no tile"):
                least_traffic(whole, array, storage)
            continue
        found += 1
        least = least_traffic(whole, array, storage)
        least.check(whole, array, storage)
        assert totals[least] == min(totals.values())
    assert found


def test_more_buffer_never_moves_more(seed: int) -> None:
    rng = random.Random(seed)
    whole = (rng.randint(1, 300), rng.randint(1, 1000), rng.randint(1, 1000))
    array = SystolicArray(16, 8, rng.choice(DATAFLOWS))
    totals = []
    for size in (10_000, 30_000, 100_000, 300_000, 1_000_000, 1 << 40):
        storage = Storage(size, True, 8, 8, 32, 8)
        totals.append(sum(least_traffic(whole, array, storage).traffic(whole, storage).values()))
    assert totals == sorted(totals, reverse=True)
    m, k, n = whole
    assert totals[-1] == m * k + k * n + m * n


def test_a_size_that_holds_no_tile_names_one_that_does() -> None:
    op = linear(100, 500, 500)
    with pytest.raises(UnsupportedError, match="no tile of a product 100 x 500 x 500") as caught:
        design(sram__bytes=2000).cost(op, None, 0)
    size = int(caught.value.hint.rsplit("=", 1)[1])
    assert design(sram__bytes=size).cost(op, None, 0).cycles
    with pytest.raises(UnsupportedError):
        design(sram__bytes=size - 1).cost(op, None, 0)


@pytest.mark.parametrize(
    ("tiling", "said"),
    [
        ("128x64", "not understood"),
        ("0x64x64:mnk", "not understood"),
        ("32x64x64:mnn", "not understood"),
        ("32x33x64:mnk", "does not fill the array of 32 x 32"),
        ("128x768x768:mnk", "at most sram.bytes = 393216"),
    ],
)
def test_a_tiling_that_is_not_legal_is_refused(tiling: str, said: str) -> None:
    with pytest.raises((InvalidValueError, ConfigError), match=said):
        simulator.run("bert-base", "systolic", set={"tiling": tiling}, fidelity="analytical")


def test_a_fixed_tiling_is_used_and_said() -> None:
    op = linear(128, 768, 3072)
    machine = design(tiling="64x96x256:nmk")
    mapping = machine.mapping(op)
    assert str(mapping.tiles) == "64x96x256:nmk"
    assert sum(mapping.bytes.values()) > sum(design().mapping(op).bytes.values())
    assert "tiling 64x96x256:nmk" in machine.remarks(op)[0]
    assert parse_tiling("least") is None
    small = machine.mapping(linear(1, 100, 40))
    assert small.tiles.sizes == (1, 96, 40)
    notes = simulator.run("bert-base", "systolic", fidelity="analytical").notes
    assert sum(note.startswith("linear ") for note in notes) == 4  # projections, up, down, pooler


@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_a_linear_layer_is_the_larger_of_array_and_memory(dataflow: Dataflow) -> None:
    machine = design(array__dataflow=dataflow)
    op = linear(128, 768, 3072)
    result, mapping = machine.cost(op, None, 0), machine.mapping(op)
    assert mapping.array_cycles < result.cycles < mapping.array_cycles + 400  # the first operands, the last outputs
    assert result.traffic["weight"].useful_bytes >= 768 * 3072 * 12 // 8
    assert machine.dense(LinearOp(0, "x", 0, "summarise", 0, 128, 768, 3072, "2:4", 0.5)).operations == op.operations


@pytest.mark.parametrize("dataflow", ["ws", "os"])
def test_a_vector_waits_for_its_weights(dataflow: Dataflow) -> None:
    wide = design(array__dataflow=dataflow, array__rows=1, array__columns=1024, array__overlap=True)
    result = wide.cost(linear(1, 768, 3072), None, 0)
    assert result.dram_active_cycles <= result.cycles <= result.dram_active_cycles + 1023


def test_a_product_whose_operands_are_there_takes_scalesims_cycles() -> None:
    fast = {"dram.standard": "ideal", "dram.ideal_latency": 0, "dram.ideal_bytes_per_cycle": 1 << 30}
    for dataflow in DATAFLOWS:
        machine = design(array__dataflow=dataflow, sram__bytes=1 << 30, **fast)
        op = linear(100, 200, 300)
        cycles = machine.cost(op, None, 0).cycles
        assert 0 <= cycles - machine.array.stall_free_cycles((100, 200, 300)) <= 3


def test_event_and_analytical_count_the_same() -> None:
    for changes in ({}, {"array.dataflow": "os"}, {"array.dataflow": "is", "array.overlap": True}):
        event, closed = (
            simulator.run("bert-base", "systolic", set=changes, fidelity=name) for name in ("event", "analytical")
        )
        assert event.scopes["linear"].dram_useful_bytes == closed.scopes["linear"].dram_useful_bytes
        for scope in ("attention", "linear"):
            assert closed.scopes[scope].time_s == pytest.approx(event.scopes[scope].time_s, rel=0.15)
        assert event.energy["sram.buffer"].energy_pj == pytest.approx(closed.energy["sram.buffer"].energy_pj)


def test_overlap_keeps_the_array_busy_in_attention() -> None:
    op = attention(384, heads=12)
    overlapped = design(array__overlap=True).cost(op, None, 0)
    folds = (64 // 32) * (384 // 32)
    assert overlapped.busy_cycles["array"] >= 12 * 2 * folds * 384
    assert overlapped.busy_cycles["array"] / overlapped.cycles > 0.9
    serial = design().cost(op, None, 0)
    assert serial.cycles > overlapped.cycles


def test_random_linear_layers_keep_the_invariants(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(15):
        machine = design(
            array__dataflow=rng.choice(DATAFLOWS),
            array__overlap=rng.random() < 0.5,
            array__rows=rng.choice((1, 8, 31, 128)),
            array__columns=rng.choice((1, 8, 31, 128)),
            sram__bytes=rng.choice((200_000, 1_000_000)),
        )
        op = linear(rng.choice((1, 2, 77, 512)), rng.randint(1, 3000), rng.randint(1, 3000))
        result = machine.cost(op, None, 0)
        macs = op.tokens * op.in_features * op.out_features
        assert result.busy_cycles["array"] * machine.array.multipliers >= macs - machine.array.multipliers
        assert all(busy <= result.cycles for busy in result.busy_cycles.values())
        moved = sum(traffic.useful_bytes for traffic in result.traffic.values())
        assert moved * 8 >= 12 * (op.tokens * op.in_features + op.in_features * op.out_features)
        assert all(energy.pj >= 0 for energy in machine.energy(result).values())


def test_a_layer_without_tokens_costs_nothing() -> None:
    assert design().cost(linear(0, 64, 64), None, 0).cycles == 0
    assert design().remarks(linear(0, 64, 64)) == ()


@pytest.mark.parametrize("changes", [{"array.rows": 0}, {"array.dataflow": "rs"}, {"sram.bytes": 0}])
def test_impossible_machines_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(NamedError):
        make("systolic", changes)
