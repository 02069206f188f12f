"""Sparse tensor cores: twice the rate and nine sixteenths of the bytes for 2:4 weights, nothing for anything else."""

from __future__ import annotations

from dataclasses import replace
from itertools import takewhile
from pathlib import Path

from simulator.designs.roofline.design import Roofline
from simulator.designs.sparse_tensor_core.settings import SparseTensorCoreSettings
from simulator.engine.interface import Cost, Op
from simulator.workload.ir import AttentionOp, Kind, LinearOp

__all__ = ["SparseTensorCore"]

PATTERN, KEPT, GROUP = "2:4", 2, 4
QUERY_BLOCK = 64  # queries of a head that a core takes at a time


class SparseTensorCore(Roofline):
    """A roofline whose operations run in waves of tiles over cores; Mishra et al., arXiv 2104.08378 (2:4 and metadata).

    Linear layers with 2:4 weights: a core does `sparse_factor` times as many multiply-adds, and of each four weights
    two and their places are stored. Where the bytes bound a layer, the doubled rate changes nothing: what is left is
    that fewer bytes move. Attention is dense.
    """

    settings_model = SparseTensorCoreSettings
    folder = Path(__file__).parent
    settings: SparseTensorCoreSettings

    def __init__(self, settings: SparseTensorCoreSettings, seed: int = 0) -> None:
        super().__init__(settings, seed)
        assert settings.sheet is not None
        self.cores, self.core_ghz = settings.sheet.cores, settings.sheet.clock_ghz

    def dense(self, op: Op) -> Op:
        """Return `op` as it is run: 2:4 weights as they are, any other pattern with its zeros."""
        return op if isinstance(op, LinearOp) and op.pattern == PATTERN else super().dense(op)

    def inputs(self, op: Op) -> dict[str, tuple[str, Kind, str]]:
        """Return nothing: patterns are the workload's, and what other than 2:4 is made of them is no choice."""
        return {}

    def _linear(self, op: LinearOp) -> Cost:
        if op.pattern != PATTERN or not op.tokens:
            return super()._linear(op)
        bits = self.width(op.weight_bits)
        kept = -(-op.in_features // GROUP) * KEPT * op.out_features
        sizes = {
            "weight": kept * bits,
            "metadata": kept * self.settings.matrix.metadata_bits,
            "activation": op.tokens * op.in_features * bits,
            "linear_output": op.tokens * op.out_features * bits,
        }
        moved = {name: -(-size // 8) for name, size in sizes.items()}
        return self.bounded(2 * op.tokens * kept, self.linear_ns(op, bits), moved)

    def linear_ns(self, op: LinearOp, bits: int) -> float:
        """Return the least time over tiles and splits of K: waves over the cores times the cycles of a tile.

        A tile of a x b results takes a b K / (multiply-adds of a core and cycle), K in whole steps and, for 2:4
        weights, divided by the factor. Adding up split parts costs nothing.
        """
        matrix = self.settings.matrix
        rate = self._macs(bits) * (matrix.sparse_factor if op.pattern == PATTERN else 1)
        least = float("inf")
        for down, across in matrix.tiles:
            results = -(-op.tokens // down) * -(-op.out_features // across)
            for split in takewhile(lambda s: s <= matrix.splits, (1 << i for i in range(63))):
                inner = -(-op.in_features // (split * matrix.inner)) * matrix.inner
                waves = -(-results * split // self.cores)
                least = min(least, waves * down * across * inner / rate)
        return least / self.core_ghz

    def attention_ns(self, op: AttentionOp, bits: int) -> float:
        """Return the time of blocks of queries over the cores, Q x K and probabilities x V."""
        blocks = len(op.heads) * -(-op.queries // QUERY_BLOCK)
        each = 2 * min(QUERY_BLOCK, max(op.queries, 1)) * op.keys * op.head_dim / self._macs(bits)
        return -(-blocks // self.cores) * each / self.core_ghz

    def _macs(self, bits: int) -> float:
        sheet = self.settings.sheet
        assert sheet is not None
        return sheet.operations[bits] / 2

    def remarks(self, op: Op) -> tuple[str, ...]:
        """Return what 2:4 gains here, or that nothing does."""
        said = super().remarks(op)
        if isinstance(op, LinearOp) and op.pattern == PATTERN:
            with_zeros = self.simulate(replace(op, pattern="dense", density=1.0), None)
            ours = self.simulate(op, None)
            bound = "operations" if ours.busy_cycles["compute"] >= ours.busy_cycles["fetcher"] else "bytes"
            gain = with_zeros.cycles / max(ours.cycles, 1)
            size = f"{op.tokens} x {op.in_features} x {op.out_features}"
            return (*said, f"2:4 weights, {size}: {gain:.2f} times as fast as dense, bound by {bound}")
        if isinstance(op, AttentionOp):
            return (*said, "attention is dense: only 2:4 weights of linear layers are skipped")
        return said
