"""`sparsecore convert`: a checkpoint in another form."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sparsecore.cli.table import human_bytes, print_table

__all__ = ["convert"]


def convert(
    source: Annotated[Path, typer.Argument(help="Checkpoint file or Hugging Face folder.")],
    to: Annotated[str, typer.Option(help="sparsecore (packed), dense (for any tool) or sparse-24-bitmask.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="What to write; a folder where the source is one.")],
    trust_pickle: Annotated[bool, typer.Option(help="Allow files that run code when read.")] = False,
) -> None:
    """Write a checkpoint packed, dense, or as compressed-tensors' sparse-24-bitmask; any readable form goes in."""
    from sparsecore.io.convert import convert as run

    result = run(source, output, to, trust_pickle=trust_pickle)  # type: ignore[arg-type]  # checked there, by name
    rows = [
        [name, pattern, human_bytes(dense), human_bytes(held), f"{held / max(dense, 1):.3f}"]
        for name, (pattern, dense, held) in result.packed.items()
    ]
    if rows:
        print_table(["layer", "pattern", "dense", "packed", "ratio"], rows, text_columns=2)
    before, after = human_bytes(result.before), human_bytes(result.after)
    typer.echo(f"{output}: {len(rows)} layers packed, weights {before} -> {after}")
