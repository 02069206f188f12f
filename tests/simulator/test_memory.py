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
    o = spec.organisation
    return o.channels * o.pseudo_channels * o.bank_groups * o.banks_per_group * o.page_bytes


def test_idle_read_latency_is_activation_plus_column_access() -> None:
    t = load_memory("hbm2").timing_ticks
    assert replay(memory_of(), np.array([0]), 32) == SECOND_SLOT + t["rcd_read"] + t["cl"] + t["burst"]
    assert replay(memory_of(), np.array([0]), 32, write=True) == SECOND_SLOT + t["rcd_write"] + t["cwl"] + t["burst"]


def test_read_of_the_open_row_and_of_another_row_of_its_bank() -> None:
    memory, t = memory_of(), load_memory("hbm2").timing_ticks
    other = row_stride(memory.spec)
    for address, closing in ((32 * 128, 0), (other, t["rp"] + t["rcd_read"])):
        memory.reset()
        memory.submit(0, np.array([0]), 32, 0)
        memory.run_until(END)
        memory.submit(1000, np.array([address % (2 * other)]), 32, 0)
        latency = memory.run_until(END)[0].last - 1000
        assert latency == closing + t["cl"] + t["burst"]


def test_sequential_reads_reach_the_peak_minus_refresh() -> None:
    spec = load_memory("hbm2", 16)
    size = 32 << 20
    cycles = replay(memory_of(spec), np.arange(0, size, 4096), 4096)
    share = size / cycles / spec.peak_bytes_per_tick
    t = spec.timing_ticks
    # A refresh costs tRFC and closing and reopening the rows; reopening overlaps with nothing else at most.
    reopen = t["ras"] + t["rp"] + t["rcd_read"] + t["cl"]
    assert 1 - (t["rfc"] + reopen) / t["refi"] - 0.005 < share < 1 - t["rfc"] / t["refi"] + 0.001


def test_without_refresh_sequential_reads_reach_the_peak() -> None:
    spec = quiet()
    cycles = replay(memory_of(spec), np.arange(0, 8 << 20, 4096), 4096)
    assert (8 << 20) / cycles / spec.peak_bytes_per_tick > 0.995


def random_share(spec: MemorySpec, seed: int) -> float:
    rng = np.random.default_rng(seed)
    addresses = rng.integers(0, GIB // 32, 100_000) * 32
    cycles = replay(memory_of(spec, 1 << 20), addresses, 32)
    return 32 * len(addresses) / cycles / spec.peak_bytes_per_tick


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


def test_a_stride_of_one_row_takes_trc_each() -> None:
    spec = quiet()
    t, count = spec.timing_ticks, 200
    cycles = replay(memory_of(spec), np.arange(count) * row_stride(spec), 32)
    assert cycles == SECOND_SLOT + (count - 1) * (t["ras"] + t["rp"]) + t["rcd_read"] + t["cl"] + t["burst"]


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
