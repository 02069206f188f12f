"""Attention with importance scores against torch's fastest SDPA, and the compaction of hidden states against a layer.

Part of `make bench`; run alone it writes benchmarks/results/KEY-prefill.md, KEY being the machine's:

    python benchmarks/suite/prefill.py
"""

from __future__ import annotations

import datetime
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sparsecore.machine import describe, limits
from sparsecore.ops import gather_rows, ragged_topk, scored_attention
from sparsecore.timing import interleaved, median_ratio

RESULTS = Path(__file__).resolve().parents[1] / "results"
BUDGET_S = 0.8
SUMS_MOST = 0.10
"""What token and head scores may cost of the attention without them."""
GATHER_MOST, SELECT_MOST = 0.010, 0.015
"""What moving the kept half of the hidden states, and choosing it as well, may cost of a layer."""


@dataclass(frozen=True, slots=True)
class Case:
    """B sequences of `length` tokens; must: the ratio to SDPA that has to be reached on AMX, bf16."""

    dtype: torch.dtype
    batch: int
    heads: int
    key_heads: int
    length: int
    width: int
    causal: bool = False
    must: float | None = None

    @property
    def name(self) -> str:
        heads = f"{self.heads}" if self.heads == self.key_heads else f"{self.heads} over {self.key_heads}"
        kind = "bf16" if self.dtype is torch.bfloat16 else "fp32"
        return f"{kind} {self.batch} x {heads} heads x {self.length} x {self.width}{' causal' * self.causal}"


_BF16, _FP32 = torch.bfloat16, torch.float32
CASES = (
    Case(_BF16, 8, 12, 12, 384, 64, must=1.4),
    Case(_BF16, 8, 12, 12, 192, 64, must=1.8),
    Case(_BF16, 8, 12, 12, 128, 64, must=1.8),
    Case(_BF16, 1, 12, 12, 384, 64),
    Case(_BF16, 1, 12, 12, 1024, 64),
    Case(_BF16, 1, 12, 12, 1024, 64, causal=True),
    Case(_BF16, 1, 32, 8, 1024, 128, causal=True),
    Case(_FP32, 8, 12, 12, 384, 64),
    Case(_FP32, 8, 12, 12, 128, 64),
    Case(_FP32, 1, 12, 12, 1024, 64, causal=True),
)


def measure_prefill(threads: int) -> Iterator[dict[str, Any]]:
    """Yield one dictionary for each case: seconds of ours with scores, ratios of the others to it."""
    for case in CASES:
        q = torch.randn(case.batch, case.heads, case.length, case.width).to(case.dtype)
        k, v = (torch.randn(case.batch, case.key_heads, case.length, case.width).to(case.dtype) for _ in range(2))
        group, causal = case.heads // case.key_heads, case.causal
        repeated = [x.repeat_interleave(group, 1) for x in (k, v)]
        calls: dict[str, Callable[[], object]] = {
            "sdpa": lambda q=q, kv=repeated, c=causal: F.scaled_dot_product_attention(q, *kv, is_causal=c),
            "scored": lambda q=q, k=k, v=v, c=causal: scored_attention(q, k, v, causal=c),
            "plain": lambda q=q, k=k, v=v, c=causal: scored_attention(
                q, k, v, causal=c, token_scores=False, head_scores=False
            ),
            "values": lambda q=q, k=k, v=v, c=causal: scored_attention(q, k, v, causal=c, value_keep=0.3),
        }
        if group > 1:
            calls["sdpa grouped"] = lambda q=q, k=k, v=v, c=causal: F.scaled_dot_product_attention(
                q, k, v, is_causal=c, enable_gqa=True
            )
        times = interleaved(calls, rounds=400, least=5, budget_s=BUDGET_S)
        fastest = min(median_ratio(times[name], times["scored"]) for name in calls if name.startswith("sdpa"))
        yield {
            "name": case.name,
            "threads": threads,
            "seconds": statistics.median(times["scored"]),
            "operations": 4 * q.numel() * case.length // (2 if causal else 1),
            "ratio": fastest,
            "sums": median_ratio(times["scored"], times["plain"]) - 1,
            "values": median_ratio(times["values"], times["scored"]),
            "must": case.must,
        }


def measure_compaction(threads: int) -> Iterator[dict[str, Any]]:
    """Yield, for each type, the time of keeping 192 of 384 tokens of 8 sequences beside that of a BERT-base layer."""
    batch, length, kept, features = 8, 384, 192, 768
    counts, keep = torch.full((batch,), length), torch.full((batch,), kept)
    for dtype in (_BF16, _FP32):
        hidden = torch.randn(batch, length, features).to(dtype)
        scores = torch.randint(0, 1 << 30, (batch, length))
        index = ragged_topk(scores, counts, keep, kept)
        layer = _bert_layer(features, dtype)
        calls: dict[str, Callable[[], object]] = {
            "layer": lambda layer=layer, x=hidden: layer(x),
            "gather": lambda x=hidden, i=index: gather_rows(x, i),
            "select": lambda x=hidden, s=scores: gather_rows(x, ragged_topk(s, counts, keep, kept)),
        }
        times = interleaved(calls, rounds=60, least=5, budget_s=2 * BUDGET_S)
        middle = {name: statistics.median(values) for name, values in times.items()}
        yield {"dtype": str(dtype).removeprefix("torch."), "threads": threads, **middle}


def _bert_layer(features: int, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """An encoder layer of BERT-base's shape in plain torch, random weights."""
    shapes = [(features, features)] * 4 + [(4 * features, features), (features, 4 * features)]
    query, key, value, mix, up, down = ((torch.randn(shape) * 0.02).to(dtype) for shape in shapes)

    def heads(x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, 64)).transpose(1, 2)

    @torch.no_grad()
    def layer(x: Tensor) -> Tensor:
        q, k, v = (heads(F.linear(x, weight)) for weight in (query, key, value))
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = F.layer_norm(F.linear(mixed, mix) + x, (features,))
        return F.layer_norm(F.linear(F.gelu(F.linear(x, up)), down) + x, (features,))

    return layer


def markdown(prefill: list[dict[str, Any]], compaction: list[dict[str, Any]]) -> str:
    """Both tables."""
    lines = [
        "Time of the faster form of torch's SDPA over ours with token and head scores, calls taking turns; the must is "
        "that of AMX machines. Sums: what the scores cost of the attention without them, at most "
        f"{SUMS_MOST:.0%}. Values: time with the 30 % largest probabilities of each query over that with all.",
        "",
        "| attention | threads | us | Gop/s | over SDPA | must | sums | values |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for p in prefill:
        must = "-" if p["must"] is None else f"{p['must']:g} {_state(p['ratio'] >= p['must'])}"
        lines.append(
            f"| {p['name']} | {p['threads']} | {p['seconds'] * 1e6:.0f} | {p['operations'] / p['seconds'] / 1e9:.0f} | "
            f"{p['ratio']:.2f} | {must} | {p['sums']:+.1%} {_state(p['sums'] <= SUMS_MOST)} | {p['values']:.2f} |"
        )
    lines += [
        "",
        "192 of 384 tokens of 8 sequences, 768 features: moved, and chosen and moved, beside a layer of BERT-base's "
        f"shape in plain torch; at most {GATHER_MOST:.1%} and {SELECT_MOST:.1%} of it.",
        "",
        "| compaction | threads | layer ms | moved us | of the layer | chosen and moved us | of the layer |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for p in compaction:
        gather, select = p["gather"] / p["layer"], p["select"] / p["layer"]
        lines.append(
            f"| {p['dtype']} | {p['threads']} | {p['layer'] * 1e3:.1f} | {p['gather'] * 1e6:.0f} | "
            f"{gather:.2%} {_state(gather <= GATHER_MOST)} | {p['select'] * 1e6:.0f} | "
            f"{select:.2%} {_state(select <= SELECT_MOST)} |"
        )
    return "\n".join(lines)


def _state(reached: bool) -> str:
    return "*met*" if reached else "*missed*"


def main() -> int:
    machine = describe()
    prefill: list[dict[str, Any]] = []
    compaction: list[dict[str, Any]] = []
    peaks = []
    for threads in sorted({1, machine.threads}):
        torch.set_num_threads(threads)
        prefill += measure_prefill(threads)
        compaction += measure_compaction(threads)
        peak = limits(threads).peak
        peaks.append(f"{threads}: " + ", ".join(f"{unit} {peak[unit] / 1e9:.0f}" for unit in ("fp32", "bf16")))
    text = (
        f"# Attention with importance scores: {machine.cpu}, family {machine.family} model {machine.model}, "
        f"{machine.isa}, {machine.cores} cores\n\n"
        f"torch {machine.torch}, {datetime.date.today().isoformat()}; peak in Gop/s by threads: {'; '.join(peaks)}.\n\n"
        f"    python benchmarks/suite/prefill.py\n\n{markdown(prefill, compaction)}\n"
    )
    (RESULTS / f"{machine.key}-prefill.md").write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
