"""Step 3: the very run of step 2 on simulated accelerators, and step 4: the report."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from texts import Corpus
from torch import nn

import simulator
import sparsecore as sc
from simulator.report import Section, write_html
from simulator.report.terminal import print_results


def simulate_designs(
    console: Console,
    dense: nn.Module,
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
        simulator.run(workload, "systolic"),
    ]
    print_results(results, console)
    for result in results:
        result.save(out / f"{result.design}-{result.schedule.replace(' ', '-')}.json")
    console.rule("4  the report")
    report = out / "report.html"
    write_html(results, report, extra_sections=sections)
    console.print(f"open [bold]{report.resolve()}[/] in a browser; it needs no network")
