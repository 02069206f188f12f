"""How long sweeps take: 1,000 analytical points of bert-base, and 200 event points with one and with more processes.

    python benchmarks/sweep_speed.py [--jobs 2] [--no-points] [--no-event]

Every point is simulated anew: the store is a temporary folder. Times are from the plan to the last record on disk, with
the start of the processes.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from simulator.engine.interface import Fidelity
from simulator.explore import Plan, Store, Where, parse_axis, sweep

AXES = ("array.multipliers=128:2048:x2", "topk.parallelism=1:16:x2", "sram.bytes=131072:327680:65536")
CLOCK, CLOCKS = "clock_ghz=0.6:1.5:0.1", "clock_ghz=0.5,1.0"


def seconds(fidelity: Fidelity, axes: tuple[str, ...], jobs: int) -> tuple[int, float]:
    plan = Plan(("bert-base",), ("spatten",), tuple(map(parse_axis, axes)), fidelity=fidelity)
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "sweep") as store:
        start = time.perf_counter()
        done = sweep(plan, store, Where(jobs))
        took = time.perf_counter() - start
    assert done.simulated == len(plan), "every point is new"
    assert not done.failed
    return len(plan), took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--no-points", action="store_true")
    parser.add_argument("--no-event", action="store_true")
    given = parser.parse_args()
    if not given.no_points:
        count, took = seconds("analytical", (*AXES, CLOCK), given.jobs)
        print(f"{count:,} analytical points of bert-base, {given.jobs} processes: {took:.1f} s")
    if not given.no_event:
        count, one = seconds("event", (*AXES, CLOCKS), 1)
        _, more = seconds("event", (*AXES, CLOCKS), given.jobs)
        print(f"{count:,} event points of bert-base, 1 process: {one:.1f} s")
        print(
            f"{count:,} event points of bert-base, {given.jobs} processes: {more:.1f} s, {one / more:.2f} times as fast"
        )


if __name__ == "__main__":
    main()
