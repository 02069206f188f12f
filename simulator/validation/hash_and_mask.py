"""Measures of ELSA, which chooses keys by hashes, and of Sanger, which predicts a mask."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np

from simulator.designs.elsa import Elsa
from simulator.designs.registry import make
from simulator.designs.sanger import Sanger
from simulator.designs.sanger.decide import packed_rows
from simulator.validation.bench import Bench
from simulator.validation.measured import Measured, Part, measure
from simulator.workload.ir import AttentionOp

__all__: list[str] = []

# Both papers count with K and V on the chip: a memory that takes next to no time.
ON_CHIP: Mapping[str, Any] = {
    "dram.standard": "ideal",
    "dram.channels": None,
    "dram.ideal_latency": 0,
    "dram.ideal_bytes_per_cycle": 1 << 20,
}
ROWS, CHUNKS, SEED = 4096, 8, 1  # of the random masks


def _elsa(candidates: float) -> Elsa:
    settings = {"fractions.candidates": candidates, "approximation": 0.0 if candidates == 1 else 1.0}
    made = make("elsa", {**ON_CHIP, **settings})[0]
    assert isinstance(made, Elsa)
    return made


def _sanger(settings: Mapping[str, Any]) -> Sanger:
    made = make("sanger", {**ON_CHIP, "clock_ghz": 1.0, **settings})[0]
    assert isinstance(made, Sanger)
    return made


def _head(keys: int, head_dim: int) -> AttentionOp:
    return AttentionOp(
        0, 0, "summarise", 0, keys, keys, keys, (0,), 1, head_dim, (keys,), keys, (0,), 16, 16, 0, 16
    )  # fmt: skip


@measure
def elsa_limit(_: Bench, module: str, keys: int, candidates: int, head_dim: int) -> Measured:
    """Cycles that a module of ELSA takes for a query."""
    design = _elsa(0.5)
    cycles = design.cycles(keys, np.array([candidates]), head_dim)
    return Measured.of(int(cycles[design.modules.index(module), 0]))


@measure
def elsa_latency(_: Bench, keys: int, head_dim: int, candidates: float) -> Measured:
    """Time of a head over that of all multipliers of ELSA, always busy, for exact attention."""
    design = _elsa(candidates)
    settings = design.settings
    multipliers = 2 * settings.size.head_dim * settings.attention_modules + settings.dividers
    ideal = 2 * keys * keys * head_dim / multipliers
    op = _head(keys, head_dim)
    hashing = Part.of("hashing the keys", design.hashing(op) / ideal, "of the ideal time")
    return Measured.of(design.cost(op, None, 0).cycles / ideal, parts=(hashing,))


@measure
def sanger_dense_gops(_: Bench, keys: int, head_dim: int) -> Measured:
    """Operations a second of the prediction, at 1 GHz."""
    design, op = _sanger({}), _head(keys, head_dim)
    return Measured.of(2 * keys * keys * head_dim / design.cost(op, None, 0).busy_cycles["prediction"])


@measure
def sanger_sparse_gops(_: Bench, keys: int, head_dim: int, density: float, load_balance: float) -> Measured:
    """Operations of exact attention over the time of the sparse stage, at 1 GHz."""
    design = _sanger({"fractions.kept": density, "fractions.load_balance": load_balance})
    cycles = design.cost(_head(keys, head_dim), None, 0).busy_cycles["attention"]
    return Measured.of(4 * keys * keys * head_dim / cycles, "operations of exact attention")


@measure
def sanger_scaled_gops(
    _: Bench, keys: int, head_dim: int, rows: int, columns: int, density: list[float], load_balance: list[float]
) -> Measured:
    """The same with fewer elements, over the corners of the published densities and load balances."""
    found = []
    for kept, balance in product(density, load_balance):
        shape = {"array.rows": rows, "array.columns": columns}
        design = _sanger({**shape, "fractions.kept": kept, "fractions.load_balance": balance})
        found.append(4 * keys * keys * head_dim / design.cost(_head(keys, head_dim), None, 0).cycles)
    return Measured(min(found), max(found), "operations of exact attention")


@measure
def sanger_utilisation(_: Bench, density: list[float], packed: bool) -> Measured:
    """Share of the elements that have a kept key, on masks that are random and independent; `packed`: after packing."""
    array = _sanger({}).settings.array
    generator, found = np.random.default_rng(SEED), []
    for kept in density:
        counts = generator.binomial(array.chunk, kept, (ROWS // array.rows * CHUNKS, array.rows))
        if packed:
            rows = sum(packed_rows(block, array.columns) for block in counts)
        else:
            rows = int(np.maximum(-(-counts // array.columns), 1).sum())
        found.append(float(counts.sum()) / (rows * array.columns))
    return Measured(min(found), max(found))
