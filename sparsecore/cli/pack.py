"""`sparsecore pack`: a checkpoint with zeros becomes a smaller file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sparsecore.cli.table import human_bytes, print_table

__all__ = ["pack"]


def pack(
    source: Annotated[Path, typer.Argument(help="Checkpoint file or Hugging Face folder.")],
    target: Annotated[Path, typer.Argument(help="The safetensors file to write.")],
    trust_pickle: Annotated[bool, typer.Option(help="Allow files that run code when read.")] = False,
) -> None:
    """Pack every weight whose zeros follow a pattern and that gets smaller by it."""
    import sparsecore as sc

    checkpoint = sc.load(source, trust_pickle=trust_pickle)
    packed = checkpoint.pack()
    sc.save(packed, target)
    rows = []
    for module, entry in packed.packed.items():
        dense = entry.stored.shape[0] * entry.stored.shape[1] * entry.stored.dtype.itemsize
        sizes = [human_bytes(dense), human_bytes(entry.stored.nbytes), f"{entry.stored.nbytes / max(dense, 1):.2f}"]
        rows.append([module, entry.stored.pattern.name, *sizes])
    if rows:
        print_table(["layer", "pattern", "dense", "packed", "ratio"], rows, text_columns=2)
    else:
        typer.echo("nothing was packed: no weight has zeros in a pattern that makes it smaller")
    before, after = (sum(c.nbytes(name) for name in c) for c in (checkpoint, packed))
    typer.echo(f"{target}: {len(rows)} of {len(packed)} tensors packed, {human_bytes(before)} -> {human_bytes(after)}")
