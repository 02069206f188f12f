"""Step 2: the same model with cascade token and head pruning, short and long texts apart."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from statistics import median

import torch
from rich.console import Console
from texts import Corpus, Inputs, cosine, embed, run_all
from torch import Tensor, nn

import sparsecore as sc
from simulator.report import DataTable, Section
from simulator.report.terminal import print_table
from sparsecore.timing import interleaved, median_ratio

SCHEDULE = sc.cascade.Schedule(token_keep=0.7, head_keep=0.95)


def run_cascade(console: Console, dense: nn.Module, corpus: Corpus, out: Path) -> tuple[sc.cascade.Handle, Section]:
    """Print the tables of step 2; return the handle on the pruned copy, and the tables for the report."""
    console.rule("2  cascade token and head pruning, measured")
    pruned = copy.deepcopy(dense)
    handle = sc.cascade.apply(pruned, SCHEDULE)
    speeds, kept, lines = [], [], []
    for name, texts in (("short", corpus.short[::3]), ("long", corpus.passages[::2])):
        inputs = corpus.singles(texts)
        calls = {"dense": partial(run_all, dense, inputs), "cascade": partial(run_all, pruned, inputs)}
        times = interleaved(calls, rounds=5)
        ratio = median_ratio(times["dense"], times["cascade"])
        ms = [f"{median(times[which]) / len(inputs) * 1e3:.2f} ms" for which in ("dense", "cascade")]
        same = cosine(_embeddings(pruned, inputs), _embeddings(dense, inputs))
        tokens = sum(i["input_ids"].shape[1] for i in inputs) / len(inputs)
        speeds.append((name, f"{tokens:.0f}", *ms, f"{ratio:.2f}x", f"{same:.4f}"))
        with torch.inference_mode():
            pruned(**corpus.encode(texts))
        run = handle.last_run
        for what, counts in (("tokens", run.token_counts), ("heads", run.head_counts)):
            kept.append((f"{name}, {what}", *(f"{n:.1f}" for n in counts.double().mean(1).tolist())))
        verdict = "pays" if ratio > 1 else "does not pay on this machine"
        lines.append(f"{name} texts: cascade {verdict}: {ratio:.2f} times the speed of dense, at agreement {same:.3f}")
        run.save(out / f"cascade-{name}.safetensors")
    asked = f"Asked for: {SCHEDULE.token_keep:.0%} of tokens, {SCHEDULE.head_keep:.0%} of heads (mean over all layers)"
    layers = tuple(f"layer {layer}" for layer in range(handle.info.layers))
    tables = (
        DataTable("Time per text", ("texts", "tokens", "dense", "cascade", "speed", "agreement"), tuple(speeds)),
        DataTable("Kept per layer, mean over the texts", ("texts", *layers), tuple(kept)),
    )
    for table in tables:
        print_table(table, console)
    console.print(asked)
    for line in lines:
        console.print(f"[bold]{line}[/]")
    return handle, Section("Cascade pruning, measured on this machine", (asked, *lines), tables)


@torch.inference_mode()
def _embeddings(model: nn.Module, inputs: list[Inputs]) -> Tensor:
    return torch.cat([embed(model(**one), one["attention_mask"]) for one in inputs])
