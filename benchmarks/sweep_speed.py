"""How long sweeps take: 1,000 analytical points of bert-base, and event points with one and with two processes.

    python benchmarks/sweep_speed.py [--points 1000] [--event 96] [--jobs 2]

Every point is simulated anew: the store is a temporary folder. Times are from the plan to the last record on disk, with
the start of the processes.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from simulator.explore import Plan, Store, Where, parse_axis, sweep

AXES = ("array.multipliers=128:2048:x2", "topk.parallelism=1:16:x2", "sram.bytes=131072:327680:65536")


def plan(fidelity: str, points: int) -> Plan:
    """A plan of `points` points at most: the clock takes as many values as are needed."""
    axes = [parse_axis(text) for text in AXES]
    combinations = 5 * 5 * 4
    clocks = max(1, points // combinations)
    axes.append(parse_axis(f"clock_ghz=0.5:{0.5 + 0.05 * (clocks - 1):.2f}:0.05"))
    if points < combinations:
        axes = axes[:2] + [parse_axis(f"clock_ghz=0.5:{0.5 + 0.05 * (points // 25 - 1):.2f}:0.05")]
    return Plan(("bert-base",), ("spatten",), tuple(axes), fidelity=fidelity)  # type: ignore[arg-type]


def seconds(made: Plan, jobs: int) -> float:
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "s") as store:
        start = time.perf_counter()
        done = sweep(made, store, Where(jobs))
        took = time.perf_counter() - start
    assert done.simulated == len(made), "every point is new"
    assert not done.failed
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=1000)
    parser.add_argument("--event", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    if given.points:
        many = plan("analytical", given.points)
        took = seconds(many, given.jobs)
        print(f"{len(many):,} analytical points of bert-base, {given.jobs} processes: {took:.1f} s")
    if given.event:
        few = plan("event", given.event)
        one, two = seconds(few, 1), seconds(few, given.jobs)
        print(
            f"{len(few)} event points of bert-base: {one:.1f} s in 1 process, {two:.1f} s in {given.jobs}: {one / two:.2f}x"
        )


if __name__ == "__main__":
    main()
