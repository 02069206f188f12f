"""Top-k of many rows against torch.topk without sorting, numpy.argpartition and, as a peer, numpy.partition."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from cases import TOPK

from sparsecore import ops
from sparsecore.timing import interleaved, median_ratio

_ELEMENTS = 1 << 20
_BUDGET_S = 0.25


def measure_topk(threads: int, peers: bool) -> Iterator[dict[str, Any]]:
    """Yield one dictionary for each case: seconds of ours and ratios to the others; numpy has one thread always."""
    for case in TOPK:
        rows = max(1, _ELEMENTS // case.length)
        x = torch.randn(rows, case.length)
        array, first = x.numpy(), case.length - case.k
        calls: dict[str, Callable[[], object]] = {
            "torch": lambda x=x, k=case.k: torch.topk(x, k, sorted=False),
            "argpartition": lambda a=array, f=first: np.argpartition(a, f, axis=-1)[:, f:],
            "ours": lambda x=x, k=case.k: ops.topk_select(x, k),
        }
        if peers:
            calls["partition"] = lambda a=array, f=first: np.partition(a, f, axis=-1)[:, f:]
        times = interleaved(calls, rounds=200, least=3, budget_s=_BUDGET_S)
        ratios = {name: median_ratio(times[name], times["ours"]) for name in calls if name != "ours"}
        ours = statistics.median(times["ours"])
        yield {"length": case.length, "k": case.k, "rows": rows, "threads": threads, "seconds": ours, **ratios}
