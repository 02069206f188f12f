"""The compiled DRAM model against a naive one that steps every tick."""

from __future__ import annotations

import random

import numpy as np
import pytest
from naive_dram import NaiveBurst, NaiveDram

from simulator import _sim

BITS = {"channel": 1, "pseudo_channel": 1, "bank_group": 1, "bank": 1, "column": 2, "row": 4}
ORGANISATION = {
    "channels": 2,
    "pseudo_channels": 2,
    "bank_groups": 2,
    "banks_per_group": 2,
    "rows": 16,
    "columns": 4,
    "burst_bytes": 32,
}


def random_timing(rng: random.Random) -> dict[str, int]:
    burst = rng.randint(1, 3)
    short = burst + rng.randint(0, 1)
    rcd = rng.randint(2, 8)
    rrd = rng.randint(1, 4)
    timing = {
        "burst": burst,
        "ccd_short": short,
        "ccd_long": short + rng.randint(0, 3),
        "rcd_read": rcd,
        "rcd_write": rng.randint(1, rcd),
        "rp": rng.randint(1, 8),
        "ras": rcd + rng.randint(0, 12),
        "rrd_short": rrd,
        "rrd_long": rrd + rng.randint(0, 3),
        "faw": rng.choice([0, rng.randint(10, 60)]),
        "wtr_short": rng.randint(0, 5),
        "wtr_long": 5 + rng.randint(0, 3),
        "rtp": rng.randint(1, 6),
        "wr": rng.randint(1, 10),
        "cl": rng.randint(2, 8),
        "cwl": rng.randint(1, 6),
        "rtw": rng.randint(burst, 8),
        "rfc": rng.randint(10, 60),
        "act_slots": rng.randint(0, 2),
        "pre_slots": rng.randint(0, 1),
        "refi": 0,
    }
    if rng.random() < 0.5:
        timing["refi"] = rng.randint(120, 300)
    return timing


def burst_at(order: int, line: int, fields: list[str], write: bool) -> NaiveBurst:
    found = {}
    for name in fields:
        found[name] = line & ((1 << BITS[name]) - 1)
        line >>= BITS[name]
    place = (found["channel"], found["pseudo_channel"], found["bank_group"], found["bank"], found["row"])
    return NaiveBurst(order, *place, write=write)


@pytest.mark.parametrize("case", range(40))
def test_equal_to_the_naive_model_on_random_traces(case: int, seed: int) -> None:
    rng = random.Random(seed * 100 + case)
    timing, fields = random_timing(rng), list(BITS)
    rng.shuffle(fields)
    depth, run_ahead = rng.choice([1, 3, 16]), rng.choice([1, 8, 1000])
    span = rng.choice([64, 1024])  # lines: dense traces hit rows, sparse ones conflict
    lines = [rng.randrange(span) for _ in range(rng.randint(1, 80))]
    lines = [line for line, before in zip(lines, [-1, *lines], strict=False) if line != before]
    parts = [lines[i : i + size] for size in [rng.randint(1, 12)] for i in range(0, len(lines), size)]
    writes = [rng.random() < 0.4 for _ in parts]

    dram = _sim.Dram(ORGANISATION, timing, {"depth": depth, "run_ahead": run_ahead}, [(f, BITS[f]) for f in fields], 2)
    phase = rng.randrange(timing["refi"]) if timing["refi"] else 0
    dram.reset(phase)
    for part, write in zip(parts, writes, strict=True):
        dram.enqueue(0, np.array(part, dtype=np.int64) * 32, 32, int(write), write)
    finished = {}
    while len(finished) < len(parts):
        finished.update({request: (first, last) for request, first, last in dram.run_until(1 << 40)})

    served: list[list[NaiveBurst]] = []
    for part, write in zip(parts, writes, strict=True):
        before = sum(map(len, served))
        served.append([burst_at(before + i, line, fields, write) for i, line in enumerate(part)])
    naive = NaiveDram(ORGANISATION, timing, depth, run_ahead)
    activations = naive.replay([burst for part in served for burst in part], timing["refi"] - phase, timing["refi"])

    assert sum(a for _, a, _ in dram.counts()) == activations
    for request, part in enumerate(served):
        assert finished[request] == (min(b.first_data for b in part), max(b.done for b in part))
