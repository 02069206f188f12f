"""Cascade token pruning of an encoder of BERT-base's shape against the same model with torch's fastest attention.

    python benchmarks/cascade_encoder.py [--threads 1 2] [--dtypes bf16 fp32] [--out FILE]

Random weights and random ids: speed does not depend on which tokens stay. The ceiling is the ratio of multiply-adds of
the two models. Ratios are medians over rounds in which all models take turns; bars are those of the first table here.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import BertConfig, BertModel

from sparsecore import cascade
from sparsecore.cascade.state import CascadeState
from sparsecore.machine import describe
from sparsecore.timing import interleaved, median_ratio

LENGTH, BATCH = 384, 8
KEPT = {"mean 192": 192, "mean 128": 128}
# (must, aim) of the ratio to the unmodified model
BARS = {
    ("bf16", "mean 192"): (1.5, 1.9),
    ("bf16", "mean 128"): (2.2, 2.7),
    ("fp32", "mean 192"): (1.75, 2.1),
    ("fp32", "mean 128"): (2.3, 3.0),
}
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
HEAD = (
    "threads",
    "dtype",
    "kept tokens",
    "dense ms",
    "cascade ms",
    "ratio",
    "must / aim",
    "ceiling",
    "of ceiling",
    "selection",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--budget", type=float, default=20.0, help="seconds for each row of measurements")
    parser.add_argument("--out", type=Path, help="write the table as Markdown, too")
    options = parser.parse_args()
    lines = [f"| {' | '.join(HEAD)} |", "| " + " | ".join(["---"] * len(HEAD)) + " |"]
    for dtype in options.dtypes:
        for threads in options.threads:
            torch.set_num_threads(threads)
            lines += measure(dtype, threads, options.budget)
    text = "\n".join(lines)
    print(text)
    if options.out:
        machine = describe()
        note = f"{machine.cpu}, {machine.isa}; torch {torch.__version__}; batch {BATCH} of {LENGTH} tokens.\n\n"
        options.out.write_text(f"# Cascade token pruning of BERT-base's shape\n\n{note}{text}\n")


@torch.inference_mode()
def measure(dtype: str, threads: int, budget_s: float) -> list[str]:
    """Return the rows of one element type and number of threads."""
    torch.manual_seed(0)
    dense = BertModel(BertConfig(), add_pooling_layer=False).eval().to(DTYPES[dtype])
    ids = torch.randint(1000, 30000, (BATCH, LENGTH))
    calls: dict[str, Callable[[], object]] = {"dense": lambda: dense(ids)}
    schedules = {name: cascade.Schedule(token_keep=kept / LENGTH) for name, kept in KEPT.items()}
    for name, schedule in schedules.items():
        pruned = copy.deepcopy(dense, {id(weight): weight for weight in dense.parameters()})  # shares the weights
        cascade.apply(pruned, schedule)
        calls[name] = partial(pruned, ids)
    times = interleaved(calls, rounds=25, least=3, budget_s=budget_s)
    rows = []
    for name, schedule in schedules.items():
        ratio = median_ratio(times["dense"], times[name])
        ceiling = _ceiling(schedule, dense.config)
        must, aim = BARS[dtype, name]
        verdict = "" if ratio >= must else " missed"
        cells = (
            threads,
            dtype,
            name,
            f"{statistics.median(times['dense']) * 1e3:.0f}",
            f"{statistics.median(times[name]) * 1e3:.0f}",
            f"{ratio:.2f}{verdict}",
            f"{must} / {aim}",
            f"{ceiling:.2f}",
            f"{ratio / ceiling:.0%}",
            f"{_deciding(calls[name]):.2%}",
        )
        rows.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return rows


def _ceiling(schedule: cascade.Schedule, config: Any) -> float:
    """Multiply-adds of the dense model over those of the pruned one: projections, feed-forward part, attention."""

    def operations(tokens: int) -> int:
        a_token = 4 * config.hidden_size**2 + 2 * config.hidden_size * config.intermediate_size
        return tokens * a_token + 2 * tokens**2 * config.hidden_size

    counts = schedule.token_counts(LENGTH, config.num_hidden_layers)
    return operations(LENGTH) * len(counts) / sum(operations(count) for count in counts)


def _deciding(call: Callable[[], object]) -> float:
    """Share of a run that is spent between layers: ranking, selection, moving the tokens; the least of three."""
    own, spent = CascadeState.advance, [0.0]

    def advance(state: CascadeState, hidden: torch.Tensor) -> torch.Tensor:
        start = time.perf_counter()
        result = own(state, hidden)
        spent[0] += time.perf_counter() - start
        return result

    shares = []
    CascadeState.advance = advance  # type: ignore[method-assign]
    try:
        for _ in range(3):
            spent[0], start = 0.0, time.perf_counter()
            call()
            shares.append(spent[0] / (time.perf_counter() - start))
    finally:
        CascadeState.advance = own  # type: ignore[method-assign]
    return min(shares)


if __name__ == "__main__":
    main()
