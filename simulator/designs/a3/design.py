"""A3 as a design: Q, K and V of a head read whole, one query after the other through the chain of its modules."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import ClassVar

import numpy as np

from simulator.designs.a3.decide import A3Rule
from simulator.designs.a3.energy import A3Silicon
from simulator.designs.a3.pipeline import MODULES, Work
from simulator.designs.a3.settings import A3Settings
from simulator.designs.decision import uniform
from simulator.designs.heads import HeadDesign, OpWork, kv_groups
from simulator.engine.heads import HeadWork
from simulator.engine.interface import Cost, Energy, row_bytes
from simulator.engine.resources import MULTIPLIERS, SRAM, Resource
from simulator.tech import Area
from simulator.workload.decisions import Decision
from simulator.workload.ir import AttentionOp, Kind

__all__ = ["A3"]


class A3(HeadDesign):
    """A3, base and approximate: `search` and `post_scoring` of the settings are null or not."""

    settings_model = A3Settings
    settings: A3Settings
    folder = Path(__file__).parent
    modules = MODULES
    streams = ("key", "value", "query", "sorted_key", "output")
    resources: ClassVar[dict[str, Resource]] = {
        MULTIPLIERS: Resource(("units",), times=("size.head_dim",), factor=2),  # two modules, as wide as a head
        # A byte an element of K and V, without the sorted keys.
        SRAM: Resource(
            ("units",), times=("size.keys", "buffers", "size.head_dim"), factor=2, fixed="each unit holds its own head"
        ),
    }
    energy_units: ClassVar[dict[str, tuple[str, ...]]] = {
        "search": ("logic.search", "sram.sorted"),
        "dot_product": ("logic.dot_product", "sram.key"),
        "exponent": ("logic.exponent", "logic.post_scoring"),
        "output": ("logic.output", "sram.value"),
    }

    def __init__(self, settings: A3Settings, seed: int = 0) -> None:
        super().__init__(settings, seed)
        self.silicon = A3Silicon(settings, self.technology)
        self.on_chip_energy(Cost(0))  # a constant or a node that does not fit is named here, not after a run

    @property
    def rule(self) -> A3Rule:
        """Return the pruning rule."""
        return self.settings.rule

    @property
    def peak_gops(self) -> float:
        """Return the roof of the multipliers of the dot product and of the output."""
        return 2 * 2 * self.settings.size.head_dim * self.units * self.clock_ghz

    @property
    def units(self) -> int:
        """Return how many A3 units there are."""
        return self.settings.units

    def fractions(self, op: AttentionOp) -> Decision:
        """Return the published share of candidates and of kept keys, the same for every query."""
        given, rule, least = self.settings.fractions, self.rule, min(op.keys, 1)
        candidates = max(round(given.candidates * op.keys), least)
        kept = min(max(round(given.kept * op.keys), least), candidates)
        kind: Kind = "published" if rule.keeps_all or op.keys == given.keys else "assumed"
        if rule.search is None:
            return uniform(rule, op, candidates, kept, kind)
        return uniform(rule, op, candidates, kept, kind, iterations=int(rule.iterations(np.array(op.keys))))

    @property
    def fractions_source(self) -> str:
        """Say what the published fractions are for."""
        if self.rule.keeps_all:
            return "base A3 keeps all"
        return f"A3, Fig. 11b and 12b: BERT-base on SQuAD v1.1, {self.settings.fractions.keys} keys"

    def work(self, op: AttentionOp) -> OpWork:
        """Return the rows and bytes of each K/V head, with all queries that share it."""
        made, heads, events = self.decision(op), [], Counter[str]()
        for group in kv_groups(len(op.heads), op.kv_heads):
            rows = Work.of(self.settings, made, group, op.keys)
            events.update(rows.events())
            heads.append(self._head(op, rows))
        operations = {name: int(2 * op.head_dim * events[name]) for name in ("dot_product", "output")}
        return OpWork(heads, events, operations)

    def _head(self, op: AttentionOp, work: Work) -> HeadWork:
        bits, queries = self.settings.element_bits, len(work.kept)
        row = row_bytes(op.head_dim, bits)
        read = {"key": op.keys * row, "value": op.keys * row, "query": queries * row}
        if work.search is not None and self.settings.sort.fetched:
            number = max(math.ceil(math.log2(op.keys)), 1)
            read["sorted_key"] = op.keys * row_bytes(op.head_dim, bits + number)
        output = queries * row_bytes(op.head_dim, self.settings.output_bits)
        return HeadWork(read, output, self._sort_cycles(op, work), work.cycles())

    def _sort_cycles(self, op: AttentionOp, work: Work) -> int:
        """Return the cycles of sorting the columns of K; of a generated token only its own key is put in its place."""
        new = op.keys if op.phase == "summarise" else 1
        return 0 if work.search is None else math.ceil(self.settings.sort.cycles_per_element * new * op.head_dim)

    def on_chip_energy(self, cost: Cost) -> dict[str, Energy]:
        """Return the energy of modules and SRAM, and their static power."""
        return self.silicon.energy(cost.events, cost.cycles / self.clock_ghz)

    def areas(self) -> tuple[Area, ...]:
        """Return the areas of modules and SRAM."""
        return self.silicon.areas()
