"""Which tiles of a product are on the chip at a time, in which order: the least DRAM traffic over all of them.

A product [m x k] x [k x n] is computed tile by tile, three loops over tiles in some order. A tile of inputs, one of
weights and one of sums are on the chip; one that the next step does not need is replaced. An operand crosses the pins
once for each step of the loop that it does not depend on, unless no loop inside of that one changes its tile. Sums that
are replaced before they are complete are written and read again.

Legal are tiles of whole folds of the array (all of a size, or a multiple of what fills the array along it), of which,
with double buffering, two of everything that is ever replaced fit in the buffer. The search is exhaustive: traffic
depends on the numbers of tiles alone, so for each number the smallest tile stands for all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations

import numpy as np
import numpy.typing as npt

from simulator.errors import InvalidValueError, UnsupportedError
from simulator.units import SystolicArray
from simulator.units.systolic import Product

__all__ = ["ORDERS", "Storage", "Tiling", "least_traffic", "parse_tiling"]

ORDERS = tuple("".join(order) for order in permutations("mkn"))  # from the outermost loop
OPERANDS = {"activation": ("m", "k"), "weight": ("k", "n"), "sum": ("m", "n")}
Counts = Mapping[str, npt.NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class Storage:
    """The buffer and the widths of what it holds, in bits; sums leave the chip at `output_bits` when complete.

    resident: all inputs and outputs of a product stay in the buffer, as those of the ops before and after it do;
    only weights cross the pins, and sums that are replaced.
    """

    bytes: int
    double_buffered: bool
    input_bits: int
    weight_bits: int
    sum_bits: int
    output_bits: int
    resident: bool = False

    def bits(self, operand: str) -> int:
        """Return the width of an element on the chip."""
        return {"activation": self.input_bits, "weight": self.weight_bits, "sum": self.sum_bits}[operand]


@dataclass(frozen=True, slots=True)
class Tiling:
    """Sizes of a tile, at most those of the product, and the loops over tiles from the outermost."""

    m: int
    k: int
    n: int
    order: str

    def __str__(self) -> str:
        return f"{self.m}x{self.k}x{self.n}:{self.order}"

    def within(self, whole: Product) -> Tiling:
        """Return the tiling with no size above the product's."""
        m, k, n = whole
        return Tiling(min(self.m, m), min(self.k, k), min(self.n, n), self.order)

    @property
    def sizes(self) -> Product:
        """m, k, n."""
        return self.m, self.k, self.n

    def counts(self, whole: Product) -> dict[str, int]:
        """Return the tiles along m, k and n."""
        return {name: -(-all_ // one) for name, all_, one in zip("mkn", whole, self.sizes, strict=True)}

    def traffic(self, whole: Product, storage: Storage) -> dict[str, int]:
        """Return the bytes that cross the pins: activation, weight, linear_output, and sums that are replaced."""
        counts = {name: np.array(count) for name, count in self.counts(whole).items()}
        return {name: -(-int(bits) // 8) for name, bits in _traffic_bits(whole, counts, self.order, storage).items()}

    def held_bytes(self, whole: Product, storage: Storage) -> int:
        """Return the bytes of the buffer that it takes."""
        sizes = dict(zip("mkn", map(np.array, self.sizes), strict=True))
        counts = {name: np.array(count) for name, count in self.counts(whole).items()}
        return -(-int(_held_bits(whole, sizes, counts, storage)) // 8)

    def check(self, whole: Product, array: SystolicArray, storage: Storage) -> None:
        """Raise InvalidValueError unless it is legal for the product."""
        for name, size, limit, unit in zip("mkn", self.sizes, whole, array.granule(), strict=True):
            if size < limit and size % unit:
                raise InvalidValueError(
                    f"a tile of {size} along {name} does not fill the array of {array.rows} x {array.columns}",
                    where=f"tiling = {self}",
                    expected=f"a multiple of {unit}, or all of {limit}",
                )
        if (held := self.held_bytes(whole, storage)) > storage.bytes:
            raise InvalidValueError(
                f"the tiles of a product {_shown(whole)} take {held} bytes",
                where=f"tiling = {self}",
                expected=f"at most sram.bytes = {storage.bytes}",
                hint="smaller tiles, or tiling=least",
            )

    def parts(self, whole: Product, array: SystolicArray) -> Iterator[tuple[int, Product]]:
        """Yield (how many, product) of the blocks that the streamed size is cut in; other cuts lie between folds."""
        streamed = {"ws": 0, "os": 1, "is": 2}[array.dataflow]
        blocks, rest = divmod(whole[streamed], self.sizes[streamed])
        for count, size in ((blocks, self.sizes[streamed]), (1, rest)):
            if count and size:
                part = list(whole)
                part[streamed] = size
                yield count, (part[0], part[1], part[2])


def parse_tiling(text: str) -> Tiling | None:
    """Return the tiling of "MxKxN:ORDER", such as 128x64x256:nmk; None for "least".

    Raises
    ------
    InvalidValueError: anything else, a size of 0, or loops that are not m, k and n.
    """
    if text == "least":
        return None
    match = re.fullmatch(r"(\d+)x(\d+)x(\d+):([mkn]{3})", text)
    if match is None or match[4] not in ORDERS or not all(int(match[i]) for i in (1, 2, 3)):
        raise InvalidValueError(
            f"the tiling {text!r} is not understood",
            where="tiling",
            expected='"least" or MxKxN:LOOPS with sizes from 1 and the loops from the outermost, as 128x64x256:nmk',
        )
    return Tiling(int(match[1]), int(match[2]), int(match[3]), match[4])


@lru_cache(maxsize=4096)
def least_traffic(whole: Product, array: SystolicArray, storage: Storage) -> Tiling:
    """Return the legal tiling with the least DRAM traffic; of equal ones the one that keeps the array the shortest.

    Raises
    ------
    UnsupportedError: not even the smallest tiles fit; the size that they need is named.
    """
    choices = [_sizes(size, unit) for size, unit in zip(whole, array.granule(), strict=True)]
    grids = dict(zip("mkn", np.meshgrid(*choices, indexing="ij"), strict=True))
    counts = {name: -(-size // grids[name]) for name, size in zip("mkn", whole, strict=True)}
    held = _held_bits(whole, grids, counts, storage)
    legal = held <= 8 * storage.bytes
    if not legal.any():
        least = -(-int(held.min()) // 8)
        raise UnsupportedError(
            f"no tile of a product {_shown(whole)} fits in the buffer",
            where=f"sram.bytes = {storage.bytes}",
            expected=f"{least} bytes",
            hint=f"--set sram.bytes={least}",
        )
    totals = {
        order: np.where(legal, sum(_traffic_bits(whole, counts, order, storage).values()), np.iinfo(np.int64).max)
        for order in ORDERS
    }
    best = min(int(total.min()) for total in totals.values())
    found = (
        Tiling(int(grids["m"][place]), int(grids["k"][place]), int(grids["n"][place]), order)
        for order, total in totals.items()
        for place in map(tuple, np.argwhere(total == best))
    )
    return min(found, key=lambda tiling: _rank(tiling, whole, array))


def _rank(tiling: Tiling, whole: Product, array: SystolicArray) -> tuple[int, int, str]:
    cycles = sum(count * array.occupied_cycles(part) for count, part in tiling.parts(whole, array))
    m, k, n = tiling.counts(whole).values()
    return cycles, m * k * n, tiling.order


def _sizes(size: int, unit: int) -> npt.NDArray[np.int64]:
    """Return for each number of tiles that is possible the smallest size of a tile, in whole units."""
    units = -(-size // unit)
    tiles = {-(-units // count) for count in range(1, int(units**0.5) + 2)}
    tiles |= {-(-units // -(-units // tile)) for tile in range(1, int(units**0.5) + 2)}
    return np.array(sorted(min(tile * unit, size) for tile in tiles), dtype=np.int64)


def _sweeps(counts: Counts, order: str, operand: tuple[str, str]) -> npt.NDArray[np.int64]:
    """Return how often all of an operand crosses the pins."""
    missing = next(name for name in order if name not in operand)
    inside = order[order.index(missing) + 1 :]
    replaced = np.any([counts[name] > 1 for name in inside], axis=0) if inside else np.False_
    return np.where(replaced, counts[missing], 1)


def _traffic_bits(whole: Product, counts: Counts, order: str, storage: Storage) -> dict[str, npt.NDArray[np.int64]]:
    m, k, n = whole
    spills = _sweeps(counts, order, OPERANDS["sum"]) - 1
    pins = 0 if storage.resident else 1
    return {
        "activation": pins * m * k * storage.input_bits * _sweeps(counts, order, OPERANDS["activation"]),
        "weight": k * n * storage.weight_bits * _sweeps(counts, order, OPERANDS["weight"]),
        "linear_output": np.full_like(spills, pins * m * n * storage.output_bits),
        "sum_write": m * n * storage.sum_bits * spills,
        "sum_read": m * n * storage.sum_bits * spills,
    }


def _held_bits(whole: Product, sizes: Counts, counts: Counts, storage: Storage) -> npt.NDArray[np.int64]:
    """Return the bits on the chip: of what is ever replaced two tiles, with double buffering."""
    m, k, n = whole
    kept = m * k * storage.input_bits + m * n * storage.output_bits if storage.resident else 0
    total = np.full(np.broadcast_shapes(*(size.shape for size in sizes.values())), kept, dtype=np.int64)
    for operand, (a, b) in OPERANDS.items():
        if not (storage.resident and operand == "activation"):
            copies = np.where((counts[a] * counts[b] > 1) & storage.double_buffered, 2, 1)
            total = total + copies * sizes[a] * sizes[b] * storage.bits(operand)
    return total


def _shown(whole: Product) -> str:
    return "{} x {} x {} (m x k x n)".format(*whole)
