"""Whole models, dense against packed: how much of what Amdahl's law promises is reached, and BERT-base at two patterns.

python benchmarks/end_to_end.py
"""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

import sparsecore as sc
from sparsecore.nn import SparseLinear
from sparsecore.timing import interleaved, median_ratio

ROOT = Path(__file__).resolve().parent.parent
AMDAHL_MUST = 0.9
# pattern, share of zeros, and the speed that has to be reached against dense bf16
BERT = (("2:4", 0.5, 1.3), ("block 32x32", 0.9, 2.0))
BATCHES = ((1, 128), (8, 128))
BUDGET_S = 2.5


def linear_seconds(model: nn.Module, run: Callable[[], object], rounds: int = 5) -> tuple[float, float]:
    """Return (seconds inside linear layers, seconds in all) of one run, the least of some."""
    spent, start = [0.0], [0.0]

    def before(*_: Any) -> None:
        start[0] = time.perf_counter()

    def after(*_: Any) -> None:
        spent[0] += time.perf_counter() - start[0]

    layers = [m for m in model.modules() if isinstance(m, nn.Linear | SparseLinear)]
    handles = [h for m in layers for h in (m.register_forward_pre_hook(before), m.register_forward_hook(after))]
    found = []
    for _ in range(rounds):
        spent[0], begin = 0.0, time.perf_counter()
        run()
        found.append((spent[0], time.perf_counter() - begin))
    for handle in handles:
        handle.remove()
    return min(inside for inside, _ in found), min(whole for _, whole in found)


def amdahl(share: float, speed: float) -> float:
    """Speed of the whole where `share` of the time becomes `speed` times as fast (Amdahl, AFIPS 1967)."""
    return 1 / (1 - share + share / speed)


def compare(dense: nn.Module, packed: nn.Module, run: Callable[[nn.Module], object]) -> dict[str, float]:
    """Share and speed-up of the linear layers, what follows from them, and what the whole model reaches."""
    calls = {"dense": lambda: run(dense), "packed": lambda: run(packed)}
    times = interleaved(calls, rounds=200, least=5, budget_s=BUDGET_S)
    inside_dense, whole = linear_seconds(dense, calls["dense"])
    inside_packed, _ = linear_seconds(packed, calls["packed"])
    share, speed = inside_dense / whole, inside_dense / inside_packed
    promised, reached = amdahl(share, speed), median_ratio(times["dense"], times["packed"])
    return {
        "share": share,
        "linear_speed": speed,
        "amdahl": promised,
        "reached": reached,
        "of_amdahl": reached / promised,
    }


def demo_model() -> list[dict[str, Any]]:
    """The demo's model, one long text and eight short ones at a time, fp32."""
    sys.path.insert(0, str(ROOT / "examples" / "demo"))
    from texts import Corpus, load_dense, run_all

    corpus = Corpus.load()
    rows = []
    for pattern, setting in (
        ("2:4", {"pattern": "2:4"}),
        ("90 % block 32x32", {"pattern": sc.Block(32, 32), "sparsity": 0.9}),
    ):
        for name, texts in (
            ("long text", corpus.singles(corpus.passages[:1])),
            ("short texts", corpus.singles(corpus.short[:8])),
        ):
            dense, packed = load_dense(), load_dense()
            sc.prune.one_shot(packed, "magnitude", **setting)
            sc.sparsify(packed, inputs=[texts[0]], tokens=(8, 256))
            found = compare(dense, packed, lambda model, texts=texts: run_all(model, texts))
            rows.append(
                {"model": f"MiniLM fp32, {name}", "pattern": pattern, **found, "must": AMDAHL_MUST * found["amdahl"]}
            )
    return rows


def bert_base() -> list[dict[str, Any]]:
    """BERT-base with random weights in bf16."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    dense = BertModel(BertConfig()).to(torch.bfloat16).eval()
    rows = []
    for pattern, sparsity, must in BERT:
        packed = copy.deepcopy(dense)
        sc.prune.one_shot(packed, "magnitude", pattern, **({} if pattern == "2:4" else {"sparsity": sparsity}))
        ids = {batch: torch.randint(0, 30000, batch) for batch in BATCHES}
        sc.sparsify(packed, inputs=[{"input_ids": i} for i in ids.values()], tokens=(128, 1024))
        packed_count = len(sc.report(packed).packed)
        for batch in BATCHES:
            found = compare(dense, packed, lambda model, x=ids[batch]: model(input_ids=x))
            name = f"BERT-base bf16 {batch[0]}x{batch[1]}, {packed_count} layers packed"
            rows.append({"model": name, "pattern": pattern, **found, "must": must})
    return rows


def measure() -> list[dict[str, Any]]:
    with torch.no_grad():
        return [*demo_model(), *bert_base()]


def markdown(rows: list[dict[str, Any]]) -> str:
    """A table; must: 0.9 of Amdahl's figure for the demo's model, the fixed bars for BERT-base."""
    lines = [
        "| model | pattern | time in Linears | their speed-up | Amdahl | reached | of Amdahl | must | |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for r in rows:
        state = "met" if r["reached"] >= r["must"] else "missed"
        lines.append(
            f"| {r['model']} | {r['pattern']} | {r['share']:.0%} | {r['linear_speed']:.2f} | {r['amdahl']:.2f} | "
            f"{r['reached']:.2f} | {r['of_amdahl']:.2f} | {r['must']:.2f} | {state} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown(measure()))
