"""The whole path on a real model: prune, pack, run, cascade, simulate, report. Run by `make demo`."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from pathlib import Path

import torch
from rich.console import Console
from step_cascade import run_cascade
from step_designs import simulate_designs
from step_weights import compare_weights
from texts import Corpus, load_dense

import sparsecore as sc


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("demo-output"), help="folder of the files that are written")
    options = parser.parse_args()
    options.out.mkdir(exist_ok=True)
    console = Console(width=max(120, Console().width) if sys.stdout.isatty() else 132)
    start = time.monotonic()
    console.print(f"[bold]machine[/]  {_processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads")
    console.print(f"[bold]software[/] torch {torch.__version__}, sparsecore {sc.__version__} on {sc.runtime_isa()}")
    dense = load_dense()
    corpus = Corpus.load()
    console.print(
        f"[bold]model[/]    all-MiniLM-L6-v2, {sum(p.numel() for p in dense.parameters()) / 1e6:.1f} M parameters, fp32"
    )
    console.print(f"[bold]texts[/]    {corpus.describe()}\n")
    sections = [compare_weights(console, dense, corpus, options.out)]
    handle, cascade_section = run_cascade(console, dense, corpus, options.out)
    sections.append(cascade_section)
    simulate_designs(console, handle, corpus, options.out, sections)
    console.print(f"\n{time.monotonic() - start:.0f} s in all")
    return 0


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    sys.exit(main())
