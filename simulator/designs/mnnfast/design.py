"""MNNFast as SpAtten models it: dense scores, V rows of small probability skipped, Q, K and V read whole."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from simulator.designs.decision import uniform
from simulator.designs.heads import HeadDesign, OpWork, kv_groups
from simulator.designs.mnnfast.decide import MnnFastRule
from simulator.designs.mnnfast.settings import MnnFastSettings
from simulator.engine.heads import HeadWork
from simulator.engine.interface import Cost, Energy, row_bytes
from simulator.engine.resources import MULTIPLIERS, SRAM, Resource, proportion
from simulator.units import MultiplierArray
from simulator.workload.decisions import Counts, Decision
from simulator.workload.ir import AttentionOp

__all__ = ["MnnFast"]

BUILT, BUILT_GHZ = {"size.multipliers": 64}, 1.0  # what the power is published for


class MnnFast(HeadDesign):
    """Two products, each on its own multipliers, with the division of the softmax deferred behind the second one."""

    settings_model = MnnFastSettings
    settings: MnnFastSettings
    folder = Path(__file__).parent
    modules = ("scores", "output")
    streams = ("key", "value", "query", "output")
    resources: ClassVar[dict[str, Resource]] = {
        MULTIPLIERS: Resource(("size.multipliers",), factor=2),
        SRAM: Resource(("size.keys",), times=("buffers", "size.head_dim", "element_bits"), factor=2 / 8),
    }
    energy_units: ClassVar[dict[str, tuple[str, ...]]] = {}

    def __init__(self, settings: MnnFastSettings, seed: int = 0) -> None:
        super().__init__(settings, seed)
        self.array = MultiplierArray(settings.size.multipliers, settings.minimum_lanes)
        self.on_chip_energy(Cost(0))  # a constant or a node that does not fit is named here, not after a run

    @property
    def rule(self) -> MnnFastRule:
        """Return the pruning rule."""
        return MnnFastRule(self.settings.threshold)

    @property
    def peak_gops(self) -> float:
        """Return the roof of both products."""
        return 2 * 2 * self.settings.size.multipliers * self.clock_ghz

    def fractions(self, op: AttentionOp) -> Decision:
        """Return the share of V rows of the settings, the same for every query."""
        kept = max(round(self.settings.fractions.kept * op.keys), min(op.keys, 1))
        return uniform(self.rule, op, op.keys, kept, "assumed")

    @property
    def fractions_source(self) -> str:
        """Say where the share of V rows comes from."""
        return "recollected from the MnnFast paper, for memory networks"

    def work(self, op: AttentionOp) -> OpWork:
        """Return the rows and bytes of each K/V head, with all queries that share it."""
        made, heads, row = self.decision(op), [], row_bytes(op.head_dim, self.settings.element_bits)
        for group in kv_groups(len(op.heads), op.kv_heads):
            scored, kept = (x[group].ravel() for x in (made.candidates, made.values))
            read = {"key": op.keys * row, "value": op.keys * row, "query": len(kept) * row}
            heads.append(HeadWork(read, len(kept) * row, 0, self.cycles(scored, kept, op.head_dim)))
        operations = {"scores": made.candidates, "output": made.values}
        counted = {name: int(2 * op.head_dim * rows.sum(dtype=np.int64)) for name, rows in operations.items()}
        return OpWork(heads, {}, counted)

    def cycles(self, scored: Counts, kept: Counts, head_dim: int) -> npt.NDArray[np.int64]:
        """Return the cycles of both products for each query: those of its rows, and the latency of the array."""
        late = (self.array.score_latency(head_dim), self.array.output_latency(head_dim))
        return np.stack([self._rows(rows, head_dim) + extra for rows, extra in zip((scored, kept), late)])

    def _rows(self, rows: Counts, head_dim: int) -> npt.NDArray[np.int64]:
        """Return the cycles of the array for each count of rows."""
        counts, which = np.unique(rows, return_inverse=True)
        return np.array([self.array.cycles(int(count), head_dim) for count in counts], np.int64)[which]

    def on_chip_energy(self, cost: Cost) -> dict[str, Energy]:
        """Return the published power by cycle, in proportion to the multipliers; mW times ns is pJ."""
        power = self.technology.constant(self.settings.power, "power", "mW")
        pj = power.value * proportion(self.settings, BUILT) * cost.cycles / BUILT_GHZ
        return {"logic.chip": Energy.plain(pj, "logic", power.source, power.kind)}
