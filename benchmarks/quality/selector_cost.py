"""What choosing costs: one batch of 8 long texts through all-MiniLM-L6-v2, dense and under every selector.

    python benchmarks/quality/selector_cost.py           # into benchmarks/results/quality-cost.json

The budget is the same everywhere, so that times differ by the choosing alone; the models take turns in one process.
"""

from __future__ import annotations

import copy
import sys
from functools import partial
from pathlib import Path
from statistics import median

import torch
from results import RESULTS, add

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples" / "demo"))
from texts import Corpus, load_dense, run_all

from sparsecore.cascade import Schedule, apply
from sparsecore.cascade.selectors import SELECTORS
from sparsecore.machine import describe
from sparsecore.timing import interleaved, median_ratio

KEEP, ROUNDS = 0.8, 7
FILE = RESULTS / "quality-cost.json"


def main() -> None:
    dense, corpus = load_dense(), Corpus.load()
    inputs = [corpus.encode(corpus.passages[:8])]
    calls = {"dense": partial(run_all, dense, inputs)}
    for name in SELECTORS:
        model = copy.deepcopy(dense)
        apply(model, Schedule(token_keep=KEEP), selector=name)
        calls[name] = partial(run_all, model, inputs)
    times = interleaved(calls, rounds=ROUNDS)
    points = [
        {"name": name, "ms": median(seconds) * 1e3, "speed": median_ratio(times["dense"], seconds)}
        for name, seconds in times.items()
    ]
    for point in points:
        print(f"{point['name']:12} {point['ms']:7.1f} ms  {point['speed']:.2f}x")
    machine = describe()
    about = {"keep": KEEP, "threads": torch.get_num_threads(), "machine": machine.cpu}
    add(FILE, about, "selectors", points)


if __name__ == "__main__":
    main()
