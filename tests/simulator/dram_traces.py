"""Request traces that anyone can make again: the same text on every machine, whatever simulator they are for.

Each function yields lines of trace text. Random numbers are splitmix64's (Steele, Lea and Flood, OOPSLA 2014): another
simulator's driver needs ten lines to send the same requests.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
WORD = (1 << 64) - 1
TABLE_ROWS = 1024
TABLE_ALIGNMENT = 4 * KIB

Order = Literal["sorted", "drawn"]


class SplitMix64:
    """A stream of 64-bit random numbers from a seed."""

    def __init__(self, seed: int) -> None:
        self._state = seed

    def below(self, n: int) -> int:
        """Return the next number modulo n."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & WORD
        z = self._state
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & WORD
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB & WORD
        return (z ^ (z >> 31)) % n


def request(address: int, size: int, write: bool = False) -> bytes:
    """Return one line."""
    return b"%s %#x %d\n" % (b"W" if write else b"R", address, size)


def sequential(size: int, write: bool = False, start: int = 0) -> Iterator[bytes]:
    """Yield reads (writes) of [start, start + size), 4 KiB each."""
    for offset in range(0, size, 4 * KIB):
        yield request(start + offset, min(4 * KIB, size - offset), write)


def rand(size: int, count: int, gap: int = 0, seed: int = 1) -> Iterator[bytes]:
    """Yield reads of `size` bytes at random multiples of it below 1 GiB; `gap` > 0: so many cycles apart."""
    random = SplitMix64(seed)
    for i in range(count):
        line = request(random.below(GIB // size) * size, size)
        yield b"%d %s" % (i * gap, line) if gap else line


def stride(distance: int, count: int, burst: int, span: int = GIB) -> Iterator[bytes]:
    """Yield reads of one burst each, `distance` bytes apart, modulo `span`."""
    for i in range(count):
        yield request(i * distance % span, burst)


def mix1(size: int, burst: int) -> Iterator[bytes]:
    """Yield `size` bytes as bursts in order; every third one is a write."""
    for i in range(size // burst):
        yield request(i * burst, burst, write=i % 3 == 2)


def mix3(size: int, tile: int, offset: int) -> Iterator[bytes]:
    """Yield tiles of two streams that are read and one that is written, 256 MiB + `offset` apart."""
    for o in range(0, size, tile):
        yield request(o, tile)
        yield request(256 * MIB + offset + o, tile)
        yield request(512 * MIB + 2 * offset + o, tile, write=True)


def kept_rows(random: SplitMix64, keep: int, order: Order = "sorted") -> list[int]:
    """Return `keep` of the rows of a table, drawn without replacement (the start of a Fisher-Yates shuffle)."""
    rows = list(range(TABLE_ROWS))
    for i in range(keep):
        j = i + random.below(TABLE_ROWS - i)
        rows[i], rows[j] = rows[j], rows[i]
    return sorted(rows[:keep]) if order == "sorted" else rows[:keep]


def gather(layers: int, heads: int, keep: int, size: int, order: Order = "sorted", seed: int = 7) -> Iterator[bytes]:
    """Yield what attention over kept tokens reads: rows of `size` bytes out of each head's K, then its V table.

    Tables hold 1024 rows and lie in the order layer, head, K and V, each from a multiple of 4 KiB on. A layer's heads
    keep the same rows.
    """
    table = -(-TABLE_ROWS * size // TABLE_ALIGNMENT) * TABLE_ALIGNMENT
    random = SplitMix64(seed)
    for layer in range(layers):
        rows = kept_rows(random, keep, order)
        for i in range(2 * heads):
            start = (layer * 2 * heads + i) * table
            yield from (request(start + row * size, size) for row in rows)
