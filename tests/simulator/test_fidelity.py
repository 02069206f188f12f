"""`--fidelity`: the authors' formula against a restatement of their program, closed forms against the event engine."""

from __future__ import annotations

import dataclasses
import json
import random
import statistics
from fractions import Fraction
from functools import cache

import numpy as np
import pytest
from attention_ops import attention, design, random_op
from command import Simulate

import simulator
from simulator.designs.spatten.authors import HeadRow, Program
from simulator.engine.analytical import Bound, Dram, longest
from simulator.engine.interface import Design
from simulator.errors import UnknownNameError, UnsupportedError
from simulator.memory import load_memory
from simulator.workload.ir import AttentionOp, Workload
from simulator.workload.reader import read_workload

# The authors' program.


def row(kept: int, length: int = 128, key: int = 8, value: int = 8, dim: int = 64, **more: object) -> HeadRow:
    return HeadRow(dim, length, kept, key, value, **more)  # type: ignore[arg-type]


def test_a_dense_layer_by_hand() -> None:
    # 128 rows of 64 B are 256 transactions of 32 B: 16 on each of 16 channels, for K and for V of 12 heads. Each of
    # 128 queries takes 16 words of 8 scores. Drain: 1 + 1 + 9, 7 + 21 + 23 + 29 + 7 + 16, 1, 1, 1 + 1 + 1.
    layer = Program().layer([row(128)] * 12)
    assert (layer.dram, layer.fill, layer.drain, layer.topk) == (12 * 2 * 16, 12 * 128 * 16, 11 + 103 + 5, 0)
    assert layer.total == 384 + 24576 + 119


def test_a_pruned_layer_takes_the_whole_sentence_as_queries_and_rounds_its_rows_to_words() -> None:
    # 83 rows are 11 words of 8: 88 rows of 64 B are 176 transactions, 11 on each channel.
    layer = Program().layer([row(83)] * 10)
    assert (layer.dram, layer.fill, layer.drain) == (10 * 2 * 11, 10 * 128 * 11, 11 + 87 + 11 + 5)


@pytest.mark.parametrize(("bits", "transactions"), [(4, 64), (5, 80), (6, 128), (7, 112), (8, 128), (12, 128)])
def test_widths_of_6_and_above_8_are_taken_as_8(bits: int, transactions: int) -> None:
    layer = Program(channels=1).layer([row(64, key=bits, value=8)])
    assert layer.dram == transactions + 128


@pytest.mark.parametrize(("tokens", "words"), [(0, 0), (1, 1), (7, 1), (8, 1), (9, 2)])
def test_short_sentences_by_hand(tokens: int, words: int) -> None:
    layer = Program().layer([row(tokens, length=tokens)])
    assert layer.dram == 2 * words  # a word of 8 rows: 16 transactions on 16 channels
    assert layer.fill == tokens * words
    assert layer.drain == 103 + words
    assert Program().layer([]).total == 0


def test_a_selection_with_given_rounds_by_hand() -> None:
    # Fill 13 words; rounds of 100, 60 and 7 candidates at 4 a cycle: 25 + 4, 15 + 4, 1 + 4; drain 50 items as 7 words.
    layer = Program().layer([row(100, select=50, rounds=(100, 60, 7))])
    assert layer.topk == 13 + 29 + 19 + 5 + 7
    assert Program(topk_parallelism=16).layer([row(100, select=50, rounds=(100, 60, 7))]).topk == 13 + 10 + 7 + 4 + 7


def restated(rows: list[HeadRow], channels: int, multipliers: int, parallelism: int) -> int:
    """The released program, step by step, in its own order; selections have given rounds."""
    if not rows:
        return 0
    per_channel = fill = topk = 0
    batch = 0
    for r in rows:
        parallel = multipliers // r.head_dim
        batch = (r.kept + parallel - 1) // parallel
        widths = []
        for width in (r.key_bits, r.value_bits):
            if width == 6 or width > 8:
                width = 8
            widths.append(width)
        for width in widths:
            transactions = batch * parallel * r.head_dim * width // 8 // 32
            per_channel += (transactions + channels - 1) // channels
        fill += r.length * batch
        if r.select is not None:
            topk += batch
            for size in r.rounds or ():
                topk += size // parallelism + 1 + 1 + 1
                topk += 1
            topk += (r.select + parallel - 1) // parallel
    drain = (1 + 1 + 9) + (7 + 21 + 23 + 29 + 7 + batch) + 1 + 1 + (1 + 1 + 1)
    return per_channel + fill + drain + topk


def test_random_layers_equal_the_restated_program(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(300):
        channels, multipliers = rng.choice([1, 2, 3, 16, 32]), rng.choice([64, 100, 512, 1024])
        rows = []
        for _ in range(rng.randint(1, 16)):
            kept, dim = rng.randint(0, 400), rng.randint(1, 64)
            select = rng.choice([None, rng.randint(0, kept)])
            rounds = tuple(rng.randint(1, 400) for _ in range(rng.randint(0, 9)))
            widths = (rng.randint(1, 16), rng.randint(1, 16))
            rows.append(HeadRow(dim, rng.randint(0, 500), kept, *widths, select, rounds))
        parallelism = rng.choice([1, 4, 7, 16])
        program = Program(channels, multipliers, parallelism)
        assert program.layer(rows).total == restated(rows, channels, multipliers, parallelism)


@cache
def mean_rounds(n: int, k: int, parallelism: int, released: bool) -> Fraction:
    """Exact mean cycles of the rounds for the k-th smallest of n, over all pivots; k may be out of range."""
    if n == 0:
        return Fraction(0)
    total = Fraction(0)
    for below in range(n):  # values smaller than the pivot
        if k > 0 and below < k <= below + 1:
            continue
        left, right = (below, k), (n - below - 1, k - below - 1)
        wanted_left = k <= below
        if released:  # the branches of the program: a target that became negative counts as a huge one
            wanted_left = k < 0 or below < k
        total += mean_rounds(*(left if wanted_left else right), parallelism, released)
    return n // parallelism + 4 + total / n


@pytest.mark.parametrize("rounds", ["quick_select", "as_released"])
def test_means_of_the_rounds_equal_all_pivots(rounds: str) -> None:
    for n in (1, 2, 5, 9, 16):
        for k in range(n + 1):
            layer = Program(topk_rounds=rounds).layer([row(n, select=k)])  # type: ignore[arg-type]
            words = -(-n // 8) + -(-k // 8)
            assert layer.topk == pytest.approx(words + float(mean_rounds(n, k, 4, rounds == "as_released")), rel=1e-9)


def test_a_run_is_the_sum_of_its_layers(seed: int) -> None:
    workload = read_workload("bert-base")
    result = simulator.run(workload, fidelity="authors", set={"dram.channels": 8, "array.multipliers": 256})
    assert result.fidelity == "authors"
    total = 0
    for op in workload.attention:
        rows = [row(op.keys, op.context, op.key_msb_bits, op.value_bits, op.head_dim) for _ in op.heads]
        total += restated(rows, 8, 256, 4)
        if op.token_select:
            words = -(-op.keys // 4) + -(-op.token_select[1] // 4)
            rounds = Program(multipliers=256).layer([dataclasses.replace(rows[0], select=op.token_select[1])]).topk
            total += round(rounds)
            assert rounds > words
    assert result.cycles == pytest.approx(total, abs=len(workload.attention))


def test_each_head_may_select_and_the_loop_may_be_taken_as_released() -> None:
    op = attention(96, token_select=(96, 40))
    one, each, loop = (
        design(**{"authors__" + key: value for key, value in changes.items()})
        for changes in ({}, {"topk_heads": "all"}, {"topk_rounds": "as_released"})
    )
    topk = [chosen.estimate(op, None, "authors").busy_cycles["topk"] for chosen in (one, each, loop)]
    assert topk[1] == pytest.approx(4 * topk[0], abs=4)
    assert topk[2] < topk[0]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"phase": "generate", "queries": 1}, "generates"),
        ({"kv_heads": 2}, "share"),
        ({"lsb_queries": (1, 0, 0, 0)}, "low bits"),
        ({"local_values": 100}, "V rows"),
        ({"values": (100, 128, 128, 128)}, "V rows"),
        ({"head_dim": 1024}, "wider"),
    ],
)
def test_what_the_program_cannot_express_is_named(changes: dict[str, object], named: str) -> None:
    with pytest.raises(UnsupportedError, match=named):
        design().estimate(attention(128, **changes), None, "authors")


# Closed forms.

TASKS = [f"bert-base@{task}~assumed" for task in ("squad", "cola", "sst-2", "rte")]
BUILT_IN = ["bert-base", *TASKS, "bert-large", "vit-base"]


@pytest.mark.parametrize("arch", ["spatten", "spatten-eighth", "systolic"])
@pytest.mark.parametrize("name", BUILT_IN)
def test_within_15_percent_of_event_on_built_in_workloads(arch: str, name: str) -> None:
    result = simulator.run(name, arch)
    scopes = {scope: r for scope, r in result.scopes.items() if r.time_s and r.modelled_by == "design"}
    assert scopes
    for found in scopes.values():
        assert found.analytical_s == pytest.approx(found.time_s, rel=0.15)


@pytest.mark.parametrize("arch", ["spatten", "spatten-eighth"])
def test_within_15_percent_of_event_on_the_released_generation(arch: str) -> None:
    workload = read_workload("gpt2-small@wikitext2")
    part = dataclasses.replace(workload, attention=workload.attention[::7], linear=(), other=())
    found = simulator.run(part, arch).scopes["attention"]
    assert found.analytical_s == pytest.approx(found.time_s, rel=0.15)


def mean_over_refresh(chosen: Design, op: AttentionOp) -> float:
    interval = chosen.memory_spec.timing_ns["refi"]
    return statistics.mean(chosen.cost(op, None, round((i + 0.5) / 4 * interval)).cycles for i in range(4))


@pytest.mark.parametrize("arch", ["spatten", "spatten-eighth"])
def test_random_ops_are_mostly_within_15_percent_and_never_far_off(arch: str, seed: int) -> None:
    rng, chosen, ratios = random.Random(seed), design(arch), []
    for _ in range(40):
        op = random_op(rng)
        ratios.append(chosen.estimated(op, None, "analytical").cycles / mean_over_refresh(chosen, op))
    assert sum(0.85 <= ratio <= 1.15 for ratio in ratios) >= 0.5 * len(ratios)
    assert min(ratios) > 0.5
    assert max(ratios) < 2


@pytest.mark.parametrize("arch", ["spatten", "spatten-eighth"])
def test_counts_are_those_of_event(arch: str, seed: int) -> None:
    rng, chosen = random.Random(seed), design(arch)
    for _ in range(40):
        op = random_op(rng)
        event, closed = chosen.cost(op, None, 0), chosen.estimated(op, None, "analytical")
        assert closed.events.keys() == event.events.keys()
        for name, traffic in event.traffic.items():
            assert closed.traffic[name].useful_bytes == traffic.useful_bytes, (name, op)
            assert closed.traffic[name].bursts == traffic.bursts, (name, op)
        assert dict(closed.events) == pytest.approx(dict(event.events)), op
        assert {n: closed.operations[n] for n in ("qk", "softmax", "pv", "topk", "topk_value")} == {
            n: event.operations[n] for n in ("qk", "softmax", "pv", "topk", "topk_value")
        }
        for name in ("qk", "softmax", "pv"):
            assert closed.busy_cycles[name] == event.busy_cycles[name]


def test_counts_of_the_systolic_array_are_those_of_event() -> None:
    event, closed = (simulator.run("bert-base", "systolic", fidelity=name) for name in ("event", "analytical"))
    for name, stream in event.streams.items():
        assert (closed.streams[name].bursts, closed.streams[name].useful_bytes) == (stream.bursts, stream.useful_bytes)
    assert closed.energy["logic.array"].energy_pj == pytest.approx(event.energy["logic.array"].energy_pj)


def test_the_closed_form_runs_no_memory_and_no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("simulated")

    monkeypatch.setattr("simulator.memory.Memory.submit", refuse)
    monkeypatch.setattr("simulator.engine.event.Engine.run", refuse)
    for arch in ("spatten", "systolic"):
        assert simulator.run("bert-base", arch, fidelity="analytical").fidelity == "analytical"


def test_an_ideal_memory_has_closed_forms_too(seed: int) -> None:
    rng, chosen, ratios = random.Random(seed), design(dram__standard="ideal", dram__channels=None), []
    for _ in range(20):
        op = random_op(rng)
        ratios.append(chosen.estimated(op, None, "analytical").cycles / chosen.cost(op, None, 0).cycles)
    assert statistics.median(ratios) == pytest.approx(1, abs=0.15)


def test_both_times_stand_beside_each_other(simulate: Simulate) -> None:
    event = simulator.run("bert-base")
    closed = simulator.run("bert-base", fidelity="analytical").scopes["attention"]
    assert event.scopes["attention"].analytical_s == closed.time_s == closed.analytical_s
    assert event.scopes["linear"].analytical_s is None  # nothing runs it
    hosted = simulator.run("bert-base", host="cpu:200,50")
    assert hosted.scopes["linear"].analytical_s == pytest.approx(hosted.scopes["linear"].time_s)
    assert "by closed form" in simulate("bert-base")[1]


# The DRAM's bounds.


def dram(**settings: str) -> Dram:
    return Dram(load_memory("hbm2", 16, settings=settings or None), 1.0, 1024)


def test_a_footprint_counts_lines_and_rows_of_each_bank(seed: int) -> None:
    rng, forms = np.random.default_rng(seed), dram()
    addresses = np.sort(rng.choice(4096, 300, replace=False)).astype(np.int64) * 48
    lines: list[int] = []
    for address in addresses:
        for line in range(int(address) // 32, (int(address) + 47) // 32 + 1):
            if not lines or lines[-1] != line:
                lines.append(line)
    places = set()
    for line in lines:  # hbm2 with 16 channels: r15 b2 c5 g2 p1 h4 o5
        channel, pseudo, group = line & 15, line >> 4 & 1, line >> 5 & 3
        bank, number = line >> 12 & 3, line >> 14
        places.add((2 * channel + pseudo, group, bank, number))
    found = forms.footprint(addresses, 48)
    assert found.total_bursts == len(lines)
    assert found.total_rows == len(places)
    for unit in range(32):
        assert found.rows[unit].sum() == sum(place[0] == unit for place in places)


def test_equal_regions_elsewhere_have_the_same_footprint_in_other_banks() -> None:
    forms = dram()
    starts = np.arange(6, dtype=np.int64) * 65536 * 6
    together = forms.spread(forms.footprint(starts[:1], 4096), starts)
    each = [forms.footprint(starts[i : i + 1], 4096) for i in range(6)]
    assert np.array_equal(together.rows, sum(one.rows for one in each))
    assert np.array_equal(together.bursts, sum(one.bursts for one in each))


def test_bounds_by_hand() -> None:
    forms = dram()
    stream = forms.footprint(np.zeros(1, dtype=np.int64), 64 * 1024)
    bounds = forms.bounds(stream)
    assert bounds["data bus"] == 64 * 1024 / 512  # peak: 512 B a cycle
    assert bounds["crossbar"] == 2048 / 16
    assert bounds["activations"] == 4 * 16 / 4  # 4 rows in each unit, four in max(15, 4 x 4) ns
    assert bounds["row bus"] == 2 * 4 * (2 + 1)  # two pseudo-channels; ACT takes 2 clocks, PRE one
    assert bounds["banks"] == 14 + 15 * 4 + 5 + 14 - 48  # 16 bursts of one row: tRCD + 15 tCCD_L + tRTP + tRP - tRC
    assert forms.idle_read == 1 + 14 + 14 + 2
    rows = np.arange(8, dtype=np.int64) << 19  # rows of one bank
    assert forms.bounds(forms.footprint(rows, 32))["banks"] == 7 * 48
    closed = dram(**{"controller.rows": "closed"})
    assert closed.footprint(np.zeros(1, dtype=np.int64), 64 * 1024).total_rows == 2048


def test_refresh_takes_its_share() -> None:
    forms = dram()
    assert forms.refreshed(1e6) == pytest.approx(1e6 / (1 - 364 / 3900), rel=1e-3)
    assert dram(**{"controller.refresh": "none"}).refreshed(1e6) == 1e6


def test_the_longest_bound_is_the_first_of_equal_ones() -> None:
    bounds = [Bound("a", 1, 2, 3), Bound("b", 0, 6, 0), Bound("c", 1, 1, 1)]
    assert longest(bounds).resource == "a"


# Choosing.


def test_the_command_takes_a_fidelity_and_names_an_unknown_one(simulate: Simulate) -> None:
    for name in ("analytical", "authors"):
        code, out, _ = simulate("bert-base", "--fidelity", name, "--json", "-")
        assert code == 0
        assert json.loads(out)["fidelity"] == name
        assert any("closed forms" in note for note in json.loads(out)["notes"])
    code, _, error = simulate("bert-base", "--fidelity", "analytic")
    assert code == 2
    assert "analytical" in error
    with pytest.raises(UnknownNameError):
        simulator.run("bert-base", fidelity="exact")  # type: ignore[arg-type]


def test_a_design_without_the_formula_says_so() -> None:
    with pytest.raises(UnsupportedError, match="no authors model"):
        simulator.run("bert-base", "systolic", fidelity="authors")


def test_generation_is_beyond_the_authors_program() -> None:
    workload: Workload = read_workload("gpt2-small@wikitext2")
    with pytest.raises(UnsupportedError, match="generates"):
        simulator.run(workload, fidelity="authors")
