"""Plain tables on standard output."""

from __future__ import annotations

from collections.abc import Sequence

import typer

__all__ = ["human_bytes", "print_table"]


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]], text_columns: int = 1) -> None:
    """Print `rows` under `head`; the first `text_columns` columns flush left, the others, numbers, flush right."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    for row in (head, *rows):
        cells = [
            cell.ljust(wide) if i < text_columns else cell.rjust(wide)
            for i, (cell, wide) in enumerate(zip(row, widths, strict=True))
        ]
        typer.echo("  ".join(cells).rstrip())


def human_bytes(count: int) -> str:
    """Bytes with a binary unit: "1.5 MiB"."""
    size, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"
