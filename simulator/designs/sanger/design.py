"""Sanger as a machine: a 4-bit prediction, then scores and output of the kept keys on one array (MICRO 2021).

Published rule of its latency (L. Lu et al.): the prediction is dense, 2 operations a processing element and cycle; the
sparse stage takes density / load balance of the cycles of a dense one. In rows of the array: as many as it has are
worked on for D cycles for the scores, which stay where they are, and for D more for the output.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from simulator.designs.decision import uniform
from simulator.designs.heads import HeadDesign, OpWork, kv_groups
from simulator.designs.sanger.decide import SangerRule
from simulator.designs.sanger.settings import SangerSettings
from simulator.engine.heads import HeadWork
from simulator.engine.interface import Cost, Energy, row_bytes
from simulator.engine.resources import MULTIPLIERS, Resource, proportion
from simulator.tech import Area
from simulator.workload.decisions import Decision
from simulator.workload.ir import AttentionOp

__all__ = ["Sanger"]

BUILT, BUILT_GHZ = {"array.rows": 64, "array.columns": 16}, 0.5  # the chip that power and area are published for


class Sanger(HeadDesign):
    """Two stages on blocks of as many queries as the array has rows: one is predicted while another is computed."""

    settings_model = SangerSettings
    settings: SangerSettings
    folder = Path(__file__).parent
    modules = ("prediction", "attention")
    streams = ("key", "value", "query", "output")
    energy_units: ClassVar[dict[str, tuple[str, ...]]] = {}
    resources: ClassVar[dict[str, Resource]] = {MULTIPLIERS: Resource(("array.rows", "array.columns"))}

    def __init__(self, settings: SangerSettings, seed: int = 0) -> None:
        super().__init__(settings, seed)
        self.on_chip_energy(Cost(0))  # a constant or a node that does not fit is named here, not after a run

    @property
    def rule(self) -> SangerRule:
        """Return the pruning rule."""
        return self.settings.rule

    @property
    def peak_gops(self) -> float:
        """Return the roof of the array that computes scores and output."""
        return 2 * self.settings.array.rows * self.settings.array.columns * self.clock_ghz

    def fractions(self, op: AttentionOp) -> Decision:
        """Return the published density, the same for every query, in rows that are filled as much as is published."""
        given, rule = self.settings.fractions, self.rule
        kept = max(round(given.kept * op.keys), min(op.keys, 1))
        made = uniform(rule, op, kept, kept, "published", array_rows=0)
        firsts = np.arange(0, op.queries, rule.block)
        queries = np.minimum(op.queries - firsts, rule.block)
        made.extra["array_rows"][:, firsts] = np.ceil(queries * kept / given.load_balance / rule.width)
        return made

    @property
    def fractions_source(self) -> str:
        """Say what the published density is for."""
        return "SOFA, table II: 76 % of the computation of Sanger's models is saved at no loss"

    def work(self, op: AttentionOp) -> OpWork:
        """Return the bytes of each K/V head, and the cycles of each block of its queries."""
        made, heads = self.decision(op), []
        row = row_bytes(op.head_dim, self.settings.element_bits)
        for group in kv_groups(len(op.heads), op.kv_heads):
            rows = made.extra["array_rows"][group]
            read = {"key": op.keys * row, "value": op.keys * row, "query": rows.size * row}
            cycles = np.concatenate([self.cycles(op, head) for head in rows], axis=1)
            heads.append(HeadWork(read, rows.size * row, 0, cycles))
        pairs = len(op.heads) * op.queries * op.keys
        operations = {
            "prediction": 2 * op.head_dim * pairs,
            "attention": int(4 * op.head_dim * made.values.sum(dtype=np.int64)),
        }
        return OpWork(heads, {}, operations)

    def cycles(self, op: AttentionOp, array_rows: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
        """Return the cycles of both stages for each block of queries of a head, [2, blocks].

        A block's rows take the whole array at least once. The prediction of a block that is not full is as fast as the
        elements allow.
        """
        array = self.settings.array
        firsts = np.arange(0, op.queries, array.rows)
        queries = np.minimum(op.queries - firsts, array.rows)
        predicted = -(-queries * op.keys * op.head_dim // (array.rows * array.columns))
        rows = array_rows[firsts].astype(np.int64)
        attended = -(-2 * op.head_dim * np.where(rows > 0, np.maximum(rows, array.rows), 0) // array.rows)
        return np.stack([predicted, attended])

    def on_chip_energy(self, cost: Cost) -> dict[str, Energy]:
        """Return the published power by cycle, in proportion to the elements; mW times ns is pJ."""
        power = self.technology.constant(self.settings.power, "power", "mW")
        pj = power.value * proportion(self.settings, BUILT) * cost.cycles / BUILT_GHZ
        return {"logic.chip": Energy.plain(pj, "logic", power.source, power.kind)}

    def areas(self) -> tuple[Area, ...]:
        """Return the area of the whole chip, in proportion to the elements."""
        area = self.technology.constant(self.settings.area, "area", "um2")
        mm2 = area.value * 1e-6 * proportion(self.settings, BUILT)
        return (Area("chip", mm2, area.source, area.kind),)
