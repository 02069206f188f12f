"""How long sweeps take: 1,000 analytical points of bert-base, and 100 event points with one and with more processes.

    python benchmarks/sweep_speed.py [--jobs 2] [--no-points] [--no-event]

Every point is simulated anew: the store is a temporary folder. Times are from the plan to the last record on disk, with
the start of the processes; rates are from a tenth of the records on, without it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from simulator.engine.interface import Fidelity
from simulator.explore import Plan, Store, Where, parse_axis, sweep

AXES = ("array.multipliers=128:2048:x2", "topk.parallelism=1:16:x2", "sram.bytes=131072:327680:65536")
CLOCK = "clock_ghz=0.6:1.5:0.1"


def measured(fidelity: Fidelity, axes: tuple[str, ...], jobs: int) -> tuple[int, float, float]:
    """Return points, seconds in all, and points a second once the processes are there."""
    plan = Plan(("bert-base",), ("spatten",), tuple(map(parse_axis, axes)), fidelity=fidelity)
    ends: list[float] = []
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "sweep") as store:
        start = time.perf_counter()
        done = sweep(plan, store, Where(jobs), lambda done, total: ends.append(time.perf_counter()))
        took = time.perf_counter() - start
    assert done.simulated == len(plan), "every point is new"
    assert not done.failed
    first = len(plan) // 10
    return len(plan), took, (len(plan) - first) / (ends[-1] - ends[first])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--no-points", action="store_true")
    parser.add_argument("--no-event", action="store_true")
    given = parser.parse_args()
    if not given.no_points:
        count, took, rate = measured("analytical", (*AXES, CLOCK), given.jobs)
        print(f"{count:,} analytical points of bert-base, {given.jobs} processes: {took:.1f} s, {rate:.1f} points/s")
    if not given.no_event:
        count, one, alone = measured("event", AXES, 1)
        _, more, together = measured("event", AXES, given.jobs)
        print(f"{count:,} event points of bert-base, 1 process: {one:.1f} s, {alone:.2f} points/s")
        print(f"{count:,} event points of bert-base, {given.jobs} processes: {more:.1f} s, {together:.2f} points/s")
        print(f"times as fast: {one / more:.2f} with the start of the processes, {together / alone:.2f} without")


if __name__ == "__main__":
    main()
