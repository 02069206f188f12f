"""The bursts of a trace, in bounded memory, and their addresses under another tool's address map."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from simulator.memory.compiled import compiled
from simulator.memory.replay import read_pieces
from simulator.memory.spec import MemorySpec

__all__ = ["Bursts", "Layout", "read_bursts", "rearranged"]

_BLOCK = 1 << 16
Integers = npt.NDArray[np.int64]
# (field, bits) from the least significant bit above the offset inside a burst.
Layout = Sequence[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class Bursts:
    """Some bursts of a trace in order; a cycle of -1 means as soon as possible."""

    cycles: Integers
    addresses: Integers
    writes: npt.NDArray[np.bool_]


def read_bursts(
    spec: MemorySpec, source: str | Path, merge: bool = True, progress: Callable[[int], None] | None = None
) -> Iterator[Bursts]:
    """Yield the bursts of a trace as `simulate dram` sends them: cut at lines of `spec`, in the order of the trace.

    Parameters
    ----------
    source: a file, which may be compressed by gzip, or "-". merge: without bursts equal to the one just before.
    progress: called with the bytes of the file read so far.

    Raises
    ------
    FileMissingError, CorruptFileError, InvalidValueError: as `simulator.memory.replay.replay_trace`.
    """
    size = spec.organisation.burst_bytes
    name = "standard input" if str(source) == "-" else str(source)
    reader = compiled().BurstReader(spec.capacity_bytes, size, merge, name)
    for piece in read_pieces(source, progress):
        reader.feed(piece)
        yield from _ready(reader, size)
    reader.finish()
    yield from _ready(reader, size)


def _ready(reader: object, size: int) -> Iterator[Bursts]:
    while True:
        cycles, lines, writes = reader.next(_BLOCK)  # type: ignore[attr-defined]
        if not len(lines):
            return
        yield Bursts(cycles, lines * size, writes)


def rearranged(addresses: Integers, spec: MemorySpec, layout: Layout) -> Integers:
    """Return the addresses that mean under `layout` what `addresses` mean to `spec`: the same channel, bank, row, ...

    Parameters
    ----------
    layout: holds every field of the memory's map with as many bits, a field in one slice or several.
    """
    offset = spec.organisation.burst_bytes.bit_length() - 1
    lines = addresses >> offset
    fields: dict[str, Integers] = {}
    filled: dict[str, int] = {}
    for field, bits in spec.sliced_map():
        part = (lines & ((1 << bits) - 1)) << filled.get(field, 0)
        fields[field] = fields[field] | part if field in fields else part
        filled[field] = filled.get(field, 0) + bits
        lines = lines >> bits
    result = np.zeros_like(addresses)
    position, taken = offset, dict.fromkeys(fields, 0)
    for field, bits in layout:
        part = (fields[field] >> taken[field]) & ((1 << bits) - 1)
        result |= part << position
        taken[field] += bits
        position += bits
    return result
