"""Step 1: the dense model against a 2:4 pruned and a 90 % block-pruned one, and how far pruning alone can go."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.progress import Progress
from texts import Corpus, Inputs, cosine, embed_all, load_dense, run_all
from torch import nn

import sparsecore as sc
from simulator.report import DataTable, Section
from simulator.report.terminal import print_table
from sparsecore.layer_clock import LayerClock
from sparsecore.timing import interleaved, median_ratio

SHOWN = {
    "2:4": {"pattern": "2:4"},
    "90 % in 32x32 blocks": {"pattern": sc.Block(32, 32), "sparsity": 0.9},
}
# From mild to harsh; each is pruned once by magnitude, without any retraining.
TRIED: dict[str, dict[str, Any]] = {
    **{f"{s:.0%} unstructured": {"pattern": sc.Unstructured(), "sparsity": s} for s in (0.1, 0.2, 0.3, 0.5, 0.7, 0.9)},
    **{f"{n}:{m}": {"pattern": sc.NM(n, m)} for n, m in ((6, 8), (4, 8), (1, 4))},
    **{f"{s:.0%} in 32x32 blocks": {"pattern": sc.Block(32, 32), "sparsity": s} for s in (0.1, 0.3, 0.5)},
}
THRESHOLD = 0.95


def compare_weights(console: Console, dense: nn.Module, corpus: Corpus, out: Path) -> Section:
    """Print the tables of step 1 and return them for the report."""
    console.rule("1  pruned weights, measured")
    short, long = corpus.singles(corpus.short[::6]), corpus.singles(corpus.passages[::4])
    batches = corpus.batches()
    models: dict[str, nn.Module] = {"dense": dense}
    agreements: dict[str, float] = {}
    sparsities: dict[str, float] = {}
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("embedding with the dense model", total=1 + len(SHOWN) * 2 + len(TRIED))
        truth = embed_all(dense, batches)
        for name, setting in (SHOWN | TRIED).items():
            progress.update(task, description=f"pruning: {name}", advance=1)
            pruned = load_dense()
            summary = sc.prune.one_shot(pruned, "magnitude", **setting)
            sparsities[name] = summary.sparsity
            if name in SHOWN:
                progress.update(task, description=f"packing, layer by layer: {name}", advance=1)
                sc.sparsify(pruned, inputs=[long[0], short[0]], tokens=(8, 256))
                models[name] = pruned
            agreements[name] = cosine(embed_all(pruned, batches), truth)
    agreements["dense"], sparsities["dense"] = cosine(truth, truth), 0.0
    times = {
        "short": interleaved({n: partial(run_all, m, short) for n, m in models.items()}, rounds=7),
        "long": interleaved({n: partial(run_all, m, long) for n, m in models.items()}, rounds=7),
    }
    counts = {"short": len(short), "long": len(long)}
    tables = [
        _speeds(models, times, counts, agreements, out),
        _layers(models, long),
        _verdicts(models),
        _settings(sparsities, agreements),
    ]
    for table in tables:
        print_table(table, console)
    good = {n: s for n, s in sparsities.items() if agreements[n] > THRESHOLD}
    best = max(good, key=lambda n: good[n])
    line = f"the sparsest setting with agreement above {THRESHOLD} is: {best} ({agreements[best]:.3f})"
    line = f"Pruning without retraining hurts: {line}"
    console.print(f"[bold]{line}[/]\n")
    return Section("Pruned weights, measured on this machine", (line,), tuple(tables))


def _speeds(
    models: dict[str, nn.Module], times: Any, counts: dict[str, int], agreements: dict[str, float], out: Path
) -> DataTable:
    rows = []
    for name, model in models.items():
        cells = [name]
        for length in ("short", "long"):
            cells.append(f"{median(times[length][name]) / counts[length] * 1e3:.2f} ms")
            cells.append(f"{median_ratio(times[length]['dense'], times[length][name]):.2f}x")
        path = out / (re.sub(r"[^a-z0-9]+", "-", name.lower()) + ".safetensors")
        sc.save(model, path)
        linears = [row for row in sc.report(model).rows if row.kind == "Linear"]
        held, packed = sum(row.held_bytes for row in linears), sum(row.packed for row in linears)
        cells += [f"{held / 1e6:.2f} MB", f"{path.stat().st_size / 1e6:.2f} MB"]
        rows.append((*cells, f"{packed} of {len(linears)}", f"{agreements[name]:.4f}"))
    return DataTable(
        "Time per text, weight bytes and agreement with the dense model",
        ("model", "short text", "speed", "long text", "speed", "Linear weights", "whole file", "packed", "agreement"),
        tuple(rows),
        "median over interleaved rounds, one text at a time; speed: dense time over this time; "
        "agreement: mean cosine of the embeddings of all texts",
    )


def _layers(models: dict[str, nn.Module], texts: list[Inputs]) -> DataTable:
    seconds: dict[str, dict[Any, float]] = {}
    for name, model in models.items():
        run_all(model, texts[:1])
        with LayerClock(model) as clock:
            run_all(model, texts)
        seconds[name] = {share: t / len(texts) for share, t in clock.seconds.items()}
    layers = sorted({share.layer for share in seconds["dense"] if share.layer is not None})
    rows = []
    for layer in (*layers, None):
        cells = []
        for name in models:
            parts = {share.scope: t * 1e3 for share, t in seconds[name].items() if share.layer == layer}
            shown = " + ".join(f"{parts.get(scope, 0.0):.2f}" for scope in ("attention", "linear", "other"))
            cells.append(f"{shown} = {sum(parts.values()):.2f}")
        rows.append(("outside" if layer is None else str(layer), *cells))
    return DataTable(
        "Time per layer of a long text, ms: attention + linear + other", ("layer", *models), tuple(rows),
        "with the clock's hooks in place, so a little more than above; outside: embeddings and pooler",
    )  # fmt: skip


def _verdicts(models: dict[str, nn.Module]) -> DataTable:
    rows = []
    for name, model in models.items():
        groups: dict[str, list[str]] = defaultdict(list)
        for row in sc.report(model).rows if name != "dense" else ():
            if row.kind == "Linear":
                groups[f"packed: {row.pattern}" if row.packed else f"dense: {row.reason}"].append(row.name)
        for verdict, names in groups.items():
            kinds = Counter(re.sub(r"^.*layer[.][0-9]+[.]", "", n) for n in names)
            which = ", ".join(f"{kind} x{count}" for kind, count in kinds.items())
            rows.append((name, str(len(names)), which, verdict))
    return DataTable(
        "What was packed, what stayed dense, and why",
        ("model", "layers", "which", "verdict"),
        tuple(rows),
        align="lrll",
    )


def _settings(sparsities: dict[str, float], agreements: dict[str, float]) -> DataTable:
    rows = [
        (name, f"{sparsities[name]:.1%}", f"{agreements[name]:.4f}")
        for name in sorted(sparsities, key=lambda n: (sparsities[n], -agreements[n]))
    ]
    return DataTable(
        "One-shot magnitude pruning of every Linear",
        ("setting", "zeros in Linear weights", "agreement"),
        tuple(rows),
    )
