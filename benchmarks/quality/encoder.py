"""What pruning costs an encoder: all-MiniLM-L6-v2 on a quarter of the demo's texts, against the unmodified model.

    python benchmarks/quality/encoder.py                 # everything, into benchmarks/results/quality-encoder.json
    python benchmarks/quality/encoder.py heads "selectors 0.9"      # some parts, in the place of what the file holds

Agreement is the mean cosine of a text's embedding with its own dense embedding; neighbours the share of texts whose
nearest other text stays the same.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from results import RESULTS, add
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples" / "demo"))
from texts import Corpus, cosine, embed_all, load_dense

from sparsecore.cascade import Schedule, apply, calibrate
from sparsecore.cascade.calibration import KNOBS
from sparsecore.cascade.importance import OPTIONS
from sparsecore.cascade.selectors import SELECTORS, selector_of

SHARES = (0.95, 0.9, 0.8, 0.65, 0.5)
SEEDS = (0, 1, 2)
BAR = 0.99
EVERY = 4  # of the demo's texts, every fourth is measured
FILE = RESULTS / "quality-encoder.json"


@dataclass(frozen=True)
class Case:
    """One line of a table: what is applied, and where on the axis it stands."""

    part: str
    name: str
    x: float
    schedule: Schedule
    settings: dict[str, Any] = field(default_factory=dict)


def cases(part: str) -> Iterator[Case]:
    """Return the cases of one part."""
    if part.startswith("selectors"):
        share = float(part.split()[1])
        for name in SELECTORS:
            for seed in SEEDS if name == "random" else (None,):
                selector = selector_of(name) if seed is None else selector_of(name, seed=seed)
                yield Case(part, name, share, Schedule(token_keep=share), {"selector": selector})
    elif part == "importance":
        for share in (0.9, 0.65):
            for option in OPTIONS:
                yield Case(part, option, share, Schedule(token_keep=share), {"scores": option})
    elif part == "shape":
        for spread in (0.0, 0.25, 0.5, 1.0):
            yield Case(part, "spread", spread, Schedule(token_keep=0.8, spread=spread))
    elif part == "heads":
        for share in (0.97, 0.95, 0.9, 0.8, 0.65):
            yield Case(part, "heads", share, Schedule(head_keep=share))
    elif part == "values":
        for share in (0.7, 0.5, 0.3, 0.2, 0.1):
            yield Case(part, "values", share, Schedule(value_keep=share))
        for bits in (8, 6, 4):
            yield Case(part, "value bits", bits, Schedule(value_bits=bits))
    elif part == "bits":
        for bits in (4, 6, 8):
            for threshold in (0.0, 0.1, 0.3, 1.0):
                yield Case(part, f"threshold {threshold}", bits, Schedule(msb_bits=bits, lsb_threshold=threshold))


def at_the_bar(model: nn.Module, batches: list[Any]) -> Iterator[dict[str, Any]]:
    """Yield what the calibrator finds at an agreement of BAR: each knob alone, and tokens by another selector."""
    for turn, selector in (
        ("tokens", "accumulated"),
        ("tokens", "diversity"),
        ("heads", "accumulated"),
        ("values", "accumulated"),
    ):
        found = calibrate(model, batches, bar=BAR, turn=(turn,), selector=selector)
        kept = getattr(found.schedule, KNOBS[turn][0])
        yield {
            "part": "bar",
            "name": f"{turn}, {selector}",
            "x": kept,
            "agreement": found.agreement,
            "runs": len(found.trials),
        }


PARTS = ("bar", *(f"selectors {share}" for share in SHARES), "importance", "shape", "heads", "values", "bits")


def neighbours(embeddings: Tensor) -> Tensor:
    """Return the nearest other text of each, int64 [texts]."""
    likeness = embeddings.double() @ embeddings.double().T
    return likeness.fill_diagonal_(-torch.inf).argmax(1)


def measure(model: nn.Module, batches: list[Any], dense: Tensor, case: Case) -> dict[str, Any]:
    """Run one case over all texts."""
    low = queries = 0.0

    def count(handle: Any, *_: Any) -> None:
        nonlocal low, queries
        run = handle.last_run
        low += float(run.low_queries.sum())
        queries += float((run.token_counts * run.head_counts).sum())

    with apply(model, case.schedule, **case.settings) as handle:
        hook = handle.body.register_forward_hook(partial(count, handle)) if case.schedule.msb_bits else None
        ours = embed_all(model, batches)
        run = handle.last_run
        if hook is not None:
            hook.remove()
    same = float((neighbours(ours) == neighbours(dense)).double().mean())
    found = {"part": case.part, "name": case.name, "x": case.x, "agreement": cosine(ours, dense), "neighbours": same}
    found |= {"tokens": run.token_keep, "heads": run.head_keep}
    return found | ({"low": low / queries} if queries else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=", ".join(PARTS))
    parts = parser.parse_args().parts or PARTS
    model, corpus = load_dense(), Corpus.load()
    corpus = Corpus(corpus.short[::EVERY], corpus.passages[::EVERY])
    batches = corpus.batches()
    dense = embed_all(model, batches)
    about = {"model": "all-MiniLM-L6-v2, fp32", "texts": corpus.describe()}
    for part in parts:
        points = []
        found = (
            at_the_bar(model, batches) if part == "bar" else (measure(model, batches, dense, c) for c in cases(part))
        )
        for point in found:
            points.append(point)
            print(
                " ".join(f"{k} {v:.4f}" if isinstance(v, float) else f"{v}" for k, v in points[-1].items()), flush=True
            )
        add(FILE, about, part, points)


if __name__ == "__main__":
    main()
