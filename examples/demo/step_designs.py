"""Step 3: the very run of step 2 on simulated accelerators, and step 4: the report."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from texts import Corpus

import simulator
import sparsecore as sc
from simulator.report import DataTable, Section, comparison_table, write_html
from simulator.report.terminal import print_results, print_table
from simulator.result import Result


def simulate_designs(
    console: Console,
    handle: sc.cascade.Handle,
    corpus: Corpus,
    out: Path,
    sections: list[Section],
) -> None:
    """Capture the cascade run on a batch of short and long texts, run it on three machines and write the report."""
    console.rule("3  the same run on simulated accelerators")
    inputs = corpus.encode((*corpus.passages[:8], *corpus.short[:8]))
    workload = sc.capture(handle.model, inputs, name="all-MiniLM-L6-v2, 8 passages and 8 sentences, cascade")
    workload.save(out / "workload.json")
    results = [
        simulator.run(workload, "spatten"),
        simulator.run(workload.dense(), "spatten"),
        simulator.run(workload, "systolic-overlapped"),
    ]
    print_results(results[:1], console)
    print_table(_inputs(results[0]), console)
    comparison = comparison_table(results)
    if comparison is not None:
        print_table(comparison, console)
    for name, result in zip(("spatten", "spatten-pruning-off", "systolic-overlapped"), results):
        result.save(out / f"{name}.json")
    console.rule("4  the report")
    report = out / "report.html"
    write_html(results, report, extra_sections=sections)
    console.print(f"open [bold]{report.resolve()}[/] in a browser; it needs no network")


def _inputs(result: Result) -> DataTable:
    """What was measured and what is assumed, one by one; the memory and published constants are in the report."""
    own = [field for field in result.inputs if not field.name.startswith("memory.")]
    shown = [field for field in own if field.kind != "published" or field.name.startswith("workload.")]
    rows = tuple((field.name, str(field.value), field.kind, field.source) for field in shown)
    left = len(result.inputs) - len(shown)
    note = f"{left} more are published constants and the values of the memory; the report lists each with its source"
    return DataTable("Inputs, measured and assumed", ("input", "value", "kind", "source"), rows, note, "llll")
