"""Designs that read a head's K, V and queries whole and send one query after the other through a chain of modules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from simulator.engine.analytical import Dram, IdealDram
from simulator.engine.event import Engine, Span
from simulator.engine.stations import Buffer, FetchQueue
from simulator.memory import Finished, Memory, Traffic
from simulator.memory.ideal import IdealMemory

__all__ = ["HeadRun", "HeadWork", "chain_cycles", "heads_estimate"]

Cycles = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class HeadWork:
    """One K/V head with all queries that share it.

    Parameters
    ----------
    read: bytes by stream, contiguous and in this order in memory; write: bytes of the output behind them.
    prepare: cycles between the last data and the first query.
    cycles: of each module for each query, [modules, queries].
    """

    read: dict[str, int]
    write: int
    prepare: int
    cycles: Cycles

    @property
    def size(self) -> int:
        """Bytes of its region."""
        return sum(self.read.values()) + self.write


def chain_cycles(cycles: Cycles) -> int:
    """Return the cycles of all queries in a chain of modules, [modules, queries].

    A module works on one query at a time and keeps it until the next module takes it: with d(m, i) the cycle in which
    module m hands query i on, s(m, i) = max(d(m - 1, i), d(m, i - 1)) and d(m, i) = max(s(m, i) + cycles, s(m + 1, i)).
    """
    modules, queries = cycles.shape
    handed = [0] * (modules + 1)  # when module m handed the query before on; the last one is outside
    times = cycles.T.tolist()
    for query in range(queries):
        ready = handed[0]
        for module in range(modules):
            done = ready + times[query][module]
            ready = max(done, handed[module + 1]) if module + 1 < modules else done
            handed[module] = ready
    return int(handed[modules - 1]) if queries else 0


class HeadRun:
    """One attention op, event by event; `run` may be called once.

    A head is read when one of the buffers is free, and worked on when its data are there and a chain has finished the
    head before; then its output is written and its buffer is free.

    Parameters
    ----------
    modules: names of the chain's, for `trace`. buffers: of each of the `units`, which are equal chains.
    """

    def __init__(
        self,
        memory: Memory | IdealMemory,
        heads: Sequence[HeadWork],
        modules: Sequence[str],
        buffers: int,
        units: int = 1,
        trace: list[Span] | None = None,
    ) -> None:
        self.engine = Engine(memory, trace)
        self._streams = {name: index for index, name in enumerate(memory.streams)}
        self._heads, self._modules = heads, modules
        self._fetch = FetchQueue(self.engine)
        self._buffer = Buffer(self.engine, buffers * units, buffers * units)
        self._starts = np.cumsum([0, *(head.size for head in heads)])
        self._free = [0] * units  # when each chain has finished the head before

    def run(self) -> int:
        """Return the cycles of the op."""
        for index in range(len(self._heads)):
            self._buffer.allocate(1, partial(self._load, index))
        self.engine.run()
        return max(self.engine.memory_end, *self._free)

    def _load(self, index: int) -> None:
        start, parts = int(self._starts[index]), []
        for name, size in self._heads[index].read.items():
            if size:
                parts.append((_at(start), size, self._streams[name]))
            start += size
        self._fetch.request(parts, partial(self._work, index))

    def _work(self, index: int, data: Finished) -> None:
        head = self._heads[index]
        unit = self._free.index(min(self._free))
        begin = max(self.engine.now, self._free[unit]) + head.prepare
        self._free[unit] = begin + chain_cycles(head.cycles)
        if self.engine.trace is not None and not unit:  # the first one stands for all: tracks do not overlap
            for name, busy in zip(self._modules, head.cycles.sum(axis=1).tolist()):
                self.engine.trace.append((name, begin, begin + busy, f"{head.cycles.shape[1]} queries"))
        self.engine.at(self._free[unit], partial(self._finish, index))

    def _finish(self, index: int) -> None:
        head = self._heads[index]
        self._buffer.release(1)
        start = int(self._starts[index + 1]) - head.write
        self._fetch.request([(_at(start), head.write, self._streams["output"])], write=True)


def heads_estimate(
    dram: Dram | IdealDram, heads: Sequence[HeadWork], buffers: int, units: int = 1
) -> tuple[int, int, dict[str, Traffic]]:
    """Return the cycles of an op by closed forms, those of its DRAM, and its traffic.

    A head takes load + prepare + chain, the chain the largest sum of a module and, of one query, the other modules
    once; with one buffer heads follow each other, each read while the one before is written, with more the larger of
    moving and working hides the other. With several units the fullest one has a share of the heads, and the DRAM serves
    all.
    """
    traffic: dict[str, Traffic] = {}
    total = moved = first = 0.0
    start = 0
    written = 0.0
    for head in heads:
        load, written = _head_traffic(dram, head, start, traffic)
        work = head.prepare + _chain_estimate(head.cycles)
        start += head.size
        moved += load + written
        total += load + written + work if buffers == 1 else max((load + written) / units, work)
        first = first or load
    if not heads:
        return 0, 0, traffic
    fullest = -(-len(heads) // units) / len(heads)
    total = max(total * fullest, moved) + dram.idle_write + (first + written if buffers > 1 else 0.0)
    cycles = round(dram.refreshed(total) if moved > 0.5 * total else total)
    return cycles, min(round(moved), cycles), traffic


def _head_traffic(
    dram: Dram | IdealDram, head: HeadWork, start: int, traffic: dict[str, Traffic]
) -> tuple[float, float]:
    """Return the cycles of reading and of writing a head at `start`; its traffic is added."""
    times = []
    for sizes in (head.read, {"output": head.write}):
        whole = dram.contiguous(start, sum(sizes.values()))  # the streams of a head lie behind each other
        times.append(dram.cycles(whole))
        for name, size in sizes.items():
            if size:
                moved = dram.contiguous(start, size)
                bursts, opened = round(moved.total_bursts), round(moved.total_rows)
                found = Traffic(size, bursts, opened, max(bursts - opened, 0))
                traffic[name] = traffic.get(name, Traffic()) + found
            start += size
    return times[0] + dram.idle_read, times[1]


def _chain_estimate(cycles: Cycles) -> float:
    if not cycles.shape[1]:
        return 0.0
    sums, means = cycles.sum(axis=1), cycles.mean(axis=1)
    return float(max(sums + means.sum() - means))


def _at(address: int) -> npt.NDArray[np.int64]:
    return np.array([address], dtype=np.int64)
