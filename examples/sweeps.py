"""The sweeps that the SpAtten paper draws, on our model: absolute, and normalised to the paper's design point.

    python examples/sweeps.py topk       # comparators of a top-k engine, 1 to 32
    python examples/sweeps.py sram       # bytes of the K and of the V SRAM
    python examples/sweeps.py ladder     # the same datapath with one technique after the other switched on
    python examples/sweeps.py roofline   # operations per byte against operations per second
    python examples/sweeps.py all gpt2-small@wikitext2

The workload is a released one, gpt2-medium@wikitext2 by default. "speed" and "effic." are operations before pruning per
second and per joule, over those of the design point.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator
from typing import Any

import simulator as sim
from simulator.result import Result
from simulator.workload.ir import AttentionOp, Workload
from simulator.workload.reader import read_workload

Point = tuple[str, Workload, dict[str, Any]]
DESIGN_POINT = {"topk": "16", "sram": "196608", "ladder": "quantisation", "roofline": "released"}


def attention(name: str) -> Workload:
    return dataclasses.replace(read_workload(name), linear=(), other=())


def topk(name: str) -> Iterator[Point]:
    for parallelism in (1, 2, 4, 8, 16, 32):
        yield str(parallelism), attention(name), {"topk.parallelism": parallelism}


def sram(name: str) -> Iterator[Point]:
    """A context that does not fit is read again and again, at its cost."""
    for size in (49152, 98304, 196608, 393216, 786432):
        yield str(size), attention(name), {"sram.bytes": size, "kv_tiling": "stream"}


def ladder(name: str) -> Iterator[Point]:
    """The order of the authors' file names: dedicated datapath, token, local V, head, parallel top-k, quantisation."""
    dense, pruned = attention(f"{name.partition('@')[0]}@dense"), attention(name)
    serial = {"topk.parallelism": 1}
    yield "dedicated datapath", dense, serial
    yield "token pruning", _part(dense, pruned, values=False, heads=False), serial
    yield "local V pruning", _part(dense, pruned, values=True, heads=False), serial
    whole = _part(dense, pruned, values=True, heads=True)
    yield "head pruning", whole, serial
    yield "parallel top-k", whole, {}
    yield "quantisation", pruned, {}


def _part(dense: Workload, pruned: Workload, values: bool, heads: bool) -> Workload:
    ops = [_keep(*pair, values, heads) for pair in zip(dense.attention, pruned.attention, strict=True)]
    return dataclasses.replace(pruned, attention=tuple(ops))


def _keep(dense: AttentionOp, pruned: AttentionOp, values: bool, heads: bool) -> AttentionOp:
    """The dense op (32 bit) with the pruned one's tokens and, if asked for, its V rows and heads."""
    kept = pruned.heads if heads else dense.heads
    local = pruned.local_values if values else pruned.keys
    return dataclasses.replace(
        dense,
        keys=pruned.keys,
        heads=kept,
        kv_heads=len(kept),
        values=(local,) * len(kept),
        local_values=local,
        lsb_queries=(0,) * len(kept),
        token_select=pruned.token_select,
        head_select=pruned.head_select if heads else None,
        key_ids=pruned.key_ids,
    )


def roofline(name: str) -> Iterator[Point]:
    model = name.partition("@")[0]
    yield "released", attention(name), {}
    yield "dense, 32 bit", attention(f"{model}@dense"), {}
    bert = attention("bert-base@squad~assumed")
    yield "bert-base, assumed ratios", bert, {}
    yield "bert-base, dense", bert.dense(), {}


SWEEPS = {"topk": topk, "sram": sram, "ladder": ladder, "roofline": roofline}


def row(label: str, result: Result, base: Result) -> str:
    scope, time = result.scopes["attention"], result.time_s
    assert time and base.time_s
    moved, work = scope.dram_fetched_bytes, base.scopes["attention"].operations_dense
    cells = (
        f"{time * 1e3:9.4f}",
        f"{scope.operations_dense / time / (work / base.time_s):7.3f}",
        f"{scope.operations / time / 1e9:9.1f}",
        f"{moved / time / 1e9:7.1f}",
        f"{scope.operations / moved:8.2f}",
        f"{result.energy_pj * 1e-9:8.3f}",
        f"{scope.operations_dense / result.energy_pj / (work / base.energy_pj):7.3f}",
    )
    return f"{label:26}" + " ".join(cells)


def run(sweep: str, name: str) -> None:
    points = SWEEPS[sweep](name)
    results = {label: sim.run(workload, "spatten", set=settings) for label, workload, settings in points}
    print(f"{sweep}, {name}; relative to {DESIGN_POINT[sweep]}")
    print(f"{'':26}{'ms':>9} {'speed':>7} {'GOP/s':>9} {'GB/s':>7} {'op/byte':>8} {'mJ':>8} {'effic.':>7}")
    base = results[DESIGN_POINT[sweep]]
    print(*(row(label, result, base) for label, result in results.items()), sep="\n")
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", choices=[*SWEEPS, "all"])
    parser.add_argument("workload", nargs="?", default="gpt2-medium@wikitext2")
    given = parser.parse_args()
    for sweep in SWEEPS if given.sweep == "all" else [given.sweep]:
        run(sweep, given.workload)


if __name__ == "__main__":
    main()
