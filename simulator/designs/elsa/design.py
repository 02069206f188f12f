"""ELSA as a machine: hashes, candidate selectors, attention modules and dividers, one query after the other.

A query takes max(D (a + b + c) / m_h, n / (P_a P_c), c / P_a, D / m_o) cycles (T. J. Ham et al., ISCA 2021, section
IV); before the first one the keys of a head are hashed, n D (a + b + c) / m_h cycles. Of a generated token only its own
key is: hashes and norms of those before, of all heads, do not fit on the chip and are read beside K (ours).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from simulator.designs.decision import uniform
from simulator.designs.elsa.decide import ElsaRule, hash_multiplies
from simulator.designs.elsa.settings import ElsaSettings
from simulator.designs.heads import HeadDesign, OpWork, kv_groups
from simulator.engine.heads import HeadWork
from simulator.engine.interface import Cost, Energy, row_bytes
from simulator.engine.resources import MULTIPLIERS, SRAM, Resource, proportion
from simulator.tech import Area
from simulator.workload.decisions import Counts, Decision
from simulator.workload.ir import AttentionOp

__all__ = ["Elsa"]

TABLE = "elsa_2021"
# The unit that the table is for; a larger one has the power and the area of as many of its parts.
KEYS, WIDTH, MODULES = {"size.keys": 512}, {"size.head_dim": 64}, {"attention_modules": 4}
SELECTORS = {**MODULES, "selectors": 8}


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the chip.

    Parameters
    ----------
    event: what counts its cycles. works: the settings that its power in a cycle grows with, as they are in the table.
    holds: those that its area grows with.
    """

    name: str
    event: str
    group: Literal["logic", "sram"]
    works: dict[str, int]
    holds: dict[str, int]


PARTS = (
    Part("hash", "hash", "logic", {"hash_multipliers": 256}, {"hash_multipliers": 256}),
    Part("norm", "hash", "logic", WIDTH, WIDTH),
    Part("selectors", "selection", "logic", SELECTORS, SELECTORS),
    Part("attention", "attention", "logic", {**MODULES, **WIDTH}, {**MODULES, **WIDTH}),
    Part("division", "division", "logic", {"dividers": 16}, {"dividers": 16}),
    Part("hash_memory", "selection", "sram", {**SELECTORS, **WIDTH}, {**KEYS, **WIDTH}),
    Part("norm_memory", "selection", "sram", SELECTORS, KEYS),
    Part("matrices", "attention", "sram", {**MODULES, **WIDTH}, {**KEYS, **WIDTH, "buffers": 1}),
)


class Elsa(HeadDesign):
    """ELSA with one accelerator; `approximation` 0 is base ELSA."""

    settings_model = ElsaSettings
    settings: ElsaSettings
    folder = Path(__file__).parent
    modules = ("hash", "selection", "attention", "division")
    streams = ("key", "value", "query", "key_hash", "output")
    resources: ClassVar[dict[str, Resource]] = {
        MULTIPLIERS: Resource(("attention_modules",), times=("size.head_dim",), factor=2),
        SRAM: Resource(("size.keys",), times=("buffers", "size.head_dim"), factor=4 * 9 / 8),  # Q, K, V, output; 9 bits
    }
    energy_units: ClassVar[dict[str, tuple[str, ...]]] = {
        unit: tuple(f"{part.group}.{part.name}" for part in PARTS if part.event == unit) for unit in modules
    }

    def __init__(self, settings: ElsaSettings, seed: int = 0) -> None:
        super().__init__(settings, seed)
        self.on_chip_energy(Cost(0))  # a constant or a node that does not fit is named here, not after a run

    @property
    def rule(self) -> ElsaRule:
        """Return the pruning rule."""
        return self.settings.rule

    @property
    def peak_gops(self) -> float:
        """Return the roof of the attention modules, D multipliers for the score and D for the output in each."""
        return 2 * 2 * self.settings.size.head_dim * self.settings.attention_modules * self.clock_ghz

    def fractions(self, op: AttentionOp) -> Decision:
        """Return the published share of candidates, the same for every query."""
        count = max(round(self.settings.fractions.candidates * op.keys), min(op.keys, 1))
        return uniform(self.rule, op, count, count, "published" if self.settings.approximation else "assumed")

    @property
    def fractions_source(self) -> str:
        """Say what the published fractions are for."""
        return "ELSA, section V: mean over its models and data sets"

    def work(self, op: AttentionOp) -> OpWork:
        """Return the rows and bytes of each K/V head, with all queries that share it."""
        made, heads, events = self.decision(op), [], Counter[str]()
        row, result = (row_bytes(op.head_dim, bits) for bits in (self.settings.element_bits, self.settings.output_bits))
        for group in kv_groups(len(op.heads), op.kv_heads):
            candidates = made.candidates[group].ravel()
            cycles, prepare = self.cycles(op.keys, candidates, op.head_dim), self.hashing(op)
            read = {"key": op.keys * row, "value": op.keys * row, "query": len(candidates) * row}
            if op.phase == "generate" and self.settings.approximation:  # made in the steps before, and kept in DRAM
                read["key_hash"] = (op.keys - 1) * row_bytes(op.head_dim + self.settings.element_bits, 1)
            heads.append(HeadWork(read, len(candidates) * result, prepare, cycles))
            events.update(dict(zip(self.modules, map(float, cycles.sum(axis=1)))))
            events["hash"] += prepare
        operations = int(4 * op.head_dim * made.candidates.sum(dtype=np.int64))
        return OpWork(heads, events, {"attention": operations})

    def cycles(self, keys: int, candidates: Counts, head_dim: int) -> npt.NDArray[np.int64]:
        """Return the cycles of each module for each query, [modules, queries]; the slowest sets the pace."""
        settings, prunes = self.settings, self.settings.approximation > 0
        hashed = -(-hash_multiplies(head_dim) // settings.hash_multipliers) if prunes else 0
        selected = -(-keys // (settings.attention_modules * settings.selectors)) if prunes else 0
        attended = -(-candidates.astype(np.int64) // settings.attention_modules)
        divided = -(-head_dim // settings.dividers)
        same = np.ones_like(attended)
        return np.stack([hashed * same, selected * same, attended, divided * same])

    def hashing(self, op: AttentionOp) -> int:
        """Return the cycles of hashing the keys; of a generated token only its own is new."""
        new = op.keys if op.phase == "summarise" else 1
        whole = hash_multiplies(op.head_dim) * new
        return -(-whole // self.settings.hash_multipliers) if self.settings.approximation else 0

    def on_chip_energy(self, cost: Cost) -> dict[str, Energy]:
        """Return the energy of each part for the cycles in which it works: 1 mW is 1 pJ in a cycle of 1 GHz."""
        found = {}
        for part in PARTS:
            value = self.technology.constant(f"{TABLE}.{part.name}", f"energy.{part.name}", "pJ")
            pj = value.value * proportion(self.settings, part.works) * cost.events.get(part.event, 0.0)
            found[f"{part.group}.{part.name}"] = Energy.plain(pj, part.group, value.source, value.kind)
        return found

    def areas(self) -> tuple[Area, ...]:
        """Return the area of each part."""
        areas = []
        for part in PARTS:
            value = self.technology.constant(f"{TABLE}.{part.name}_area", f"area.{part.name}", "um2")
            mm2 = value.value * 1e-6 * proportion(self.settings, part.holds)
            areas.append(Area(part.name, mm2, value.source, value.kind))
        return tuple(areas)
