"""The memory behind a design against closed formulas, and its properties."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest

from simulator.errors import InvalidValueError
from simulator.memory import Memory, MemorySpec, load_memory, standard_names
from simulator.memory.stream import SAMPLE_BYTES, StreamTimer

END = 1 << 50
GIB = 1 << 30
SECOND_SLOT = 1  # an ACT of HBM2 takes two clocks and counts from the second


def quiet(**settings: str) -> MemorySpec:
    """HBM2 of 16 channels without refresh, and with timings changed."""
    return load_memory("hbm2", 16, {"controller.refresh": "none", **settings})


def memory_of(spec: MemorySpec | None = None, run_ahead: int = 4096) -> Memory:
    return Memory(spec or load_memory("hbm2", 16), 1.0, ("read", "write"), run_ahead)


def replay(memory: Memory, addresses: np.ndarray, size: int, write: bool = False, phase: float = 0.0) -> int:
    memory.reset(phase)
    memory.submit(0, addresses.astype(np.int64), size, int(write), write)
    return memory.run_until(END)[0].last


def row_stride(spec: MemorySpec) -> int:
    """Bytes between neighbouring rows of one bank (the row is the highest slice of the map)."""
    return spec.capacity_bytes // spec.organisation.rows


# Closed forms, in ticks


def in_ticks(spec: MemorySpec, run_ahead: int = 4096) -> Memory:
    """The memory behind a design with the memory's own clock."""
    return Memory(spec, spec.clock_ghz, ("read", "write"), run_ahead)


def effect(spec: MemorySpec, ready: int, slots: int, aligned: bool = True) -> int:
    """The tick in which a command of so many slots takes effect that must not do so before `ready`, and is alone."""
    start = ready - slots + 1
    if aligned and spec.controller.command_align == 2:
        start += start % 2
    return start + slots - 1


def idle_access(spec: MemorySpec, write: bool, other_row: bool) -> int:
    """Ticks from the acceptance of an access to the end of its data."""
    t, slots = spec.timing_ticks, spec.controller.slots
    now = int(spec.controller.queues == "per_bank")  # it moves into its bank's queue first
    if other_row:
        opened = effect(spec, now + slots.precharge - 1, slots.precharge, aligned=False) + t["rp"]
    else:
        opened = now + slots.activate - 1
    row = effect(spec, opened, slots.activate)
    if write:
        return effect(spec, row + t["rcd_write"], slots.write) + t["cwl"] + t["burst"]
    return effect(spec, row + t["rcd_read"], slots.read) + t["cl"] + t["burst"] + spec.controller_numbers["delay"]


@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize("name", standard_names())
def test_idle_access_of_a_closed_bank_and_of_another_row(name: str, write: bool) -> None:
    spec = load_memory(name, settings={"controller.refresh": "none"})
    memory = in_ticks(spec)
    for address, other_row in ((0, False), (row_stride(spec), True)):
        start = 2000 if other_row else 0
        memory.submit(start, np.array([address]), 32, int(write), write)
        assert memory.run_until(END)[0].last - start == idle_access(spec, write, other_row)


@pytest.mark.parametrize("name", standard_names())
def test_idle_read_of_an_open_row(name: str) -> None:
    spec = load_memory(name, settings={"controller.refresh": "none"})
    memory, c = in_ticks(spec), spec.controller
    for start in (0, 2000):
        memory.submit(start, np.array([0]), 32, 0)
        latency = memory.run_until(END)[0].last - start
    t = spec.timing_ticks
    first = (c.queues == "per_bank") + c.slots.read - 1
    assert latency == effect(spec, first, c.slots.read) + t["cl"] + t["burst"] + spec.controller_numbers["delay"]


@pytest.mark.parametrize(
    "name", ["hbm2", "hbm2-ramulator", "hbm2-legacy", "hbm3", "ddr4-3200", "ddr5-4800", "gddr6-14"]
)
def test_sequential_reads_reach_the_peak_minus_refresh(name: str) -> None:
    """All that a refresh takes is tRFC, closing the rows before it and reopening them after it."""
    spec = load_memory(name)
    t, rows = spec.timing_ticks, 4096
    size = int(12 * t["refi"] * spec.peak_bytes_per_tick) // rows * rows
    addresses = np.arange(0, size, rows)
    ticks = replay(in_ticks(spec), addresses, rows)
    at_peak = size / spec.peak_bytes_per_tick
    without = replay(in_ticks(spec.with_settings({"controller.refresh": "none"})), addresses, rows)
    assert at_peak <= without < 1.01 * at_peak
    each = (ticks - without) / (ticks // t["refi"])
    reopen = t["ras"] + t["rp"] + t["rcd_read"] + t["cl"] + t["burst"] + 4 * (t["faw"] + t["ppd"])
    assert t["rfc"] <= each <= t["rfc"] + reopen


def most_random_bursts(spec: MemorySpec) -> float:
    """Bursts per tick, each with an activation of its own, that all channels can move."""
    o, t, slots = spec.organisation, spec.timing_ticks, spec.controller.slots
    row_commands = slots.activate * (1 + (t["aad"] > 0)) + slots.precharge
    if spec.controller.command_bus == "shared":
        row_commands += slots.read
    units = o.pseudo_channels * o.ranks
    data = o.pseudo_channels / max(t["burst"], t["ccd_short"])
    by_rows = [4 / max(t["faw"], 4 * t["rrd_short"]), spec.banks / t["rc"]]
    return o.channels * min(data, units * min(by_rows), 1 / row_commands)


@pytest.mark.parametrize("name", standard_names())
def test_random_bursts_are_bounded(name: str, seed: int) -> None:
    """By the data bus, tFAW or tRRD, tRC or the command bus, whichever is the slowest."""
    spec = load_memory(name, settings={"controller.refresh": "none"})
    bursts, size = 30_000, spec.organisation.burst_bytes
    addresses = np.random.default_rng(seed).integers(0, GIB // size, bursts) * size
    rate = bursts / replay(in_ticks(spec, 1 << 16), addresses, size)
    bound = most_random_bursts(spec)
    assert 0.6 * bound < rate < 1.01 * bound


def test_random_bursts_are_limited_by_the_row_command_bus(seed: int) -> None:
    spec = quiet()
    slots = spec.controller.slots.activate + spec.controller.slots.precharge
    bound = spec.organisation.burst_bytes / slots / (spec.peak_bytes_per_tick / spec.organisation.channels)
    assert 0.9 * bound < random_share(spec, seed) <= bound * 1.001


def test_random_bursts_are_limited_by_tfaw_where_the_row_bus_is_wide(seed: int) -> None:
    free = {"controller.slots.activate": "0", "controller.slots.precharge": "0"}
    spec = quiet(tFAW="40 ns", **free)
    bound = 4 * spec.ticks(2.0) / spec.ticks(40.0)
    assert 0.85 * bound < random_share(spec, seed) <= bound * 1.001


def random_share(spec: MemorySpec, seed: int) -> float:
    rng = np.random.default_rng(seed)
    addresses = rng.integers(0, GIB // 32, 100_000) * 32
    cycles = replay(memory_of(spec, 1 << 20), addresses, 32)
    return 32 * len(addresses) / cycles / spec.peak_bytes_per_tick


@pytest.mark.parametrize("name", standard_names())
def test_a_stride_of_one_row_takes_trc_each(name: str) -> None:
    spec = load_memory(name, settings={"controller.refresh": "none"})
    t, count = spec.timing_ticks, 200
    ticks = replay(in_ticks(spec), np.arange(count) * row_stride(spec), 32) - idle_access(spec, False, False)
    each = max(t["rc"], t["rcd_read"] + t["rtp"] + t["rp"])
    rounding = spec.controller.command_align - 1
    assert (count - 1) * each <= ticks <= (count - 1) * (each + 3 * rounding)


def test_a_burst_of_another_rank_waits_for_trtrs() -> None:
    two = {"organisation.ranks": "2", "address_map": "r16 b2 c7 g2 k1 o6", "controller.refresh": "none"}
    spec = load_memory("ddr4-3200", settings=two)
    t = spec.timing_ticks
    assert t["rtrs"] > 0
    memory = in_ticks(spec)
    group, rank = 128, 64  # bytes to the next one
    for other, gap in ((rank, t["burst"] + t["rtrs"]), (group, t["ccd_short"])):
        memory.reset()
        for address in (0, other):  # opens the rows
            memory.submit(0, np.array([address]), 64, 0)
        for address in (0, other):
            memory.submit(1000, np.array([address]), 64, 0)
        done: dict[int, int] = {}
        while len(done) < 4:
            done.update({item.request: item.first for item in memory.run_until(END)})
        assert done[3] - done[2] == gap


def test_write_to_read_turnaround() -> None:
    memory, t = memory_of(), load_memory("hbm2").timing_ticks
    memory.reset()
    memory.submit(0, np.array([0]), 32, 1, write=True)
    memory.submit(0, np.array([32 * 128]), 32, 0)  # next column of the same row
    done = {f.request: f for f in itertools.chain(memory.run_until(END), memory.run_until(END))}
    assert done[1].first == SECOND_SLOT + t["rcd_write"] + t["cwl"] + t["burst"] + t["wtr_long"] + t["cl"]


def test_traffic_is_conserved_and_below_the_peak(seed: int) -> None:
    rng = random.Random(seed)
    memory = memory_of()
    burst = memory.spec.organisation.burst_bytes
    for _ in range(20):
        size = rng.choice([1, 8, 31, 32, 48, 64, 96, 200])
        rows = np.sort(np.array(rng.sample(range(20_000), rng.randint(1, 400))))
        cycles = replay(memory, rows * size, size)
        counts = memory.traffic()["read"]
        lines = {line for row in rows * size for line in range(row // burst, (row + size - 1) // burst + 1)}
        assert counts.useful_bytes == size * len(rows) <= counts.bursts * burst
        assert counts.bursts == len(lines)  # ascending rows: neighbours share a burst at most once
        assert counts.row_hits == counts.bursts - counts.activations
        assert counts.bursts * burst <= cycles * memory.peak_bytes_per_cycle


def gather(rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """Return the addresses of 10-50 % of some thousand rows, in ascending order, and their size."""
    size, rows = int(rng.choice([64, 96, 128, 192, 256])), 8192
    kept = rng.choice(rows, int(rng.uniform(0.1, 0.5) * rows), replace=False)
    return np.sort(kept) * size, size


@pytest.mark.parametrize("name", ["hbm2", "hbm2-dramsim3", "ddr4-3200", "lpddr5-6400"])
def test_shuffling_a_kept_set_never_helps(name: str, seed: int) -> None:
    rng, spec = np.random.default_rng(seed), load_memory(name)
    for _ in range(5):
        ascending, size = gather(rng)
        memory = in_ticks(spec)
        straight = replay(memory, ascending, size)
        in_order = memory.traffic()["read"]
        shuffled = replay(memory, rng.permutation(ascending), size)
        mixed = memory.traffic()["read"]
        assert straight <= shuffled
        assert in_order.activations <= mixed.activations
        assert in_order.bursts <= mixed.bursts


@pytest.mark.parametrize("coarse", ["r15 h3 p1 b2 g2 c5 o5", "r15 b2 g2 h3 p1 c5 o5"])
def test_a_finer_interleave_never_helps_a_stride_of_one_bank(coarse: str) -> None:
    times = []
    for text in (coarse, "r15 b2 c5 g2 p1 h3 o5", "r15 b2 c4 g2 p1 h3 c1 o5"):
        spec = load_memory("hbm2", settings={"address_map": text})
        times.append(replay(in_ticks(spec), np.arange(300) * row_stride(spec), 32))
    assert times == sorted(times)


def test_equal_however_the_time_is_cut(seed: int) -> None:
    rng = random.Random(seed)
    memory = memory_of()
    addresses = np.array([rng.randrange(1 << 22) * 32 for _ in range(3000)])
    whole = replay(memory, addresses, 96, phase=0.3), memory.traffic()
    memory.reset(0.3)
    memory.submit(0, addresses, 96, 0)
    now, finished = 0, []
    while not finished:
        now += rng.randint(1, 200)
        finished = memory.run_until(now)
    assert (finished[0].last, memory.traffic()) == whole


def test_a_clock_ratio_scales_the_time() -> None:
    spec = load_memory("hbm2", 16)
    slow = Memory(spec, 0.5, ("read",), 4096)
    fast = Memory(spec, 1.0, ("read",), 4096)
    rows = np.arange(0, 1 << 20, 4096)
    times = [replay(memory, rows, 4096) for memory in (slow, fast)]
    assert times[0] == -(-times[1] // 2)
    assert slow.peak_bytes_per_cycle == 2 * fast.peak_bytes_per_cycle


def test_half_the_channels_take_twice_as_long() -> None:
    rows = np.arange(0, 4 << 20, 4096)
    times = [replay(memory_of(load_memory("hbm2", channels)), rows, 4096) for channels in (16, 8)]
    assert times[1] / times[0] == pytest.approx(2, rel=0.02)


@pytest.mark.parametrize("write", [False, True])
def test_long_streams_are_extrapolated(write: bool) -> None:
    timer = StreamTimer(memory_of())
    size = 5 * SAMPLE_BYTES
    estimate = timer.time(size, write)
    memory = memory_of()
    memory.reset(0.5)
    memory.submit(0, np.array([0]), size, 0, write)
    exact = memory.run_until(END)[0].last
    counts = memory.traffic()["read"]
    assert estimate.cycles == pytest.approx(exact, rel=0.002)
    assert estimate.traffic.bursts == counts.bursts
    assert estimate.traffic.activations == pytest.approx(counts.activations, rel=0.01)


def test_nothing_is_finished_at_once() -> None:
    memory = memory_of()
    memory.reset()
    memory.submit(7, np.zeros(0, dtype=np.int64), 32, 0)
    assert [(f.first, f.last) for f in memory.run_until(END)] == [(7, 7)]
    assert memory.traffic()["read"].bursts == 0


@pytest.mark.parametrize("address", [-32, 1 << 40])
def test_an_address_outside_the_memory_is_refused(address: int) -> None:
    memory = memory_of()
    with pytest.raises(InvalidValueError, match="outside the memory"):
        memory.submit(0, np.array([address]), 32, 0)


@pytest.mark.parametrize("name", standard_names())
def test_every_shipped_memory_works(name: str) -> None:
    spec = load_memory(name)
    memory = memory_of(spec)
    assert memory.capacity_bytes > 0
    assert replay(memory, np.array([0]), 64) > 0
