"""Replaying request traces on a memory, with the reading of their text; extra_info has the bursts per second."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from simulator.memory import load_memory
from simulator.memory.replay import RawReplay, replay_trace

MEMORIES = ("hbm2", "hbm2-dramsim3", "hbm2-ramulator", "ddr4-3200")
ROW_BYTES, TABLE_ROWS, KEPT = 96, 1024, 307


def gather_lines(tables: int) -> Iterator[bytes]:
    """Yield reads of 30 % of the rows of tables, in order: rows of 96 B, as of 64 values of 12 bit."""
    draw = random.Random(7)
    for table in range(tables):
        for row in sorted(draw.sample(range(TABLE_ROWS), KEPT)):
            yield b"R %#x %d\n" % ((table * TABLE_ROWS + row) * ROW_BYTES, ROW_BYTES)


def sequential_lines(requests: int) -> Iterator[bytes]:
    for i in range(requests):
        yield b"R %#x 4096\n" % (i * 4096)


def random_lines(requests: int) -> Iterator[bytes]:
    draw = random.Random(1)
    for _ in range(requests):
        yield b"R %#x 64\n" % (draw.randrange(1 << 24) * 64)


TRACES: dict[str, Callable[[], Iterator[bytes]]] = {
    "gather": lambda: gather_lines(192),
    "sequential": lambda: sequential_lines(4096),
    "random": lambda: random_lines(50_000),
}


def bursts_of(replay: RawReplay) -> int:
    """Return the bursts that were simulated, those answered by another waiting one with them."""
    return replay.reads + replay.writes + sum(stream.absorbed for stream in replay.streams)


@pytest.mark.parametrize("trace", TRACES)
@pytest.mark.parametrize("memory", MEMORIES)
def bench_replay(benchmark: BenchmarkFixture, memory: str, trace: str) -> None:
    spec, text = load_memory(memory), b"".join(TRACES[trace]())
    replay = benchmark.pedantic(lambda: replay_trace(spec, [text]), rounds=7)
    if benchmark.stats is not None:  # off with --benchmark-disable
        benchmark.extra_info["bursts_per_second"] = bursts_of(replay) / benchmark.stats.stats.min
