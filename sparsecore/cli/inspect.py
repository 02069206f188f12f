"""`sparsecore inspect`: what is in a checkpoint, tensor by tensor."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparsecore.cli.table import human_bytes, print_table

if TYPE_CHECKING:
    from sparsecore.inspection import Inspection, Line

__all__ = ["inspect"]


def inspect(
    file: Annotated[Path, typer.Argument(help="Checkpoint file or Hugging Face folder.")],
    masks: Annotated[Path | None, typer.Option(help="A file of masks to apply to its weights.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with pictures to this file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    trust_pickle: Annotated[bool, typer.Option(help="Allow files that run code when read.")] = False,
) -> None:
    """Show pattern, density, bytes dense and packed, expected speed and a verdict for every tensor of a checkpoint.

    Tensors are read one at a time, so that a checkpoint may be larger than the memory.
    """
    import sparsecore

    sparsecore._require_torch()
    from sparsecore.inspection import inspect_checkpoint
    from sparsecore.inspection_page import write_inspection
    from sparsecore.io.loading import read

    found = inspect_checkpoint(read(file, trust_pickle=trust_pickle, masks=masks))
    if html is not None:
        write_inspection(found, html)
    if as_json:
        typer.echo(json.dumps(_plain(found), indent=2))
        return
    version = f", format {found.version}" if found.version else ""
    typer.echo(f"{found.source}: {found.kind}{version}")
    head = ["tensor", "state", "found", "shape", "dtype", "density", "dense", "packed", "speed", "verdict"]
    wide = max((len(line.verdict) for line in found.lines), default=0)
    head[-1] = head[-1].ljust(wide)
    print_table(head, [_row(line, wide) for line in found.lines], text_columns=3)
    for note in found.notes:
        typer.echo(note)
    typer.echo(
        f"{len(found.lines)} tensors, {human_bytes(found.file_bytes)}; {human_bytes(found.dense_bytes)} if all were "
        f"dense, {human_bytes(found.packed_bytes)} if all that has a pattern were packed"
    )
    if html is not None:
        typer.echo(f"written: {html}")


def _row(line: Line, wide: int) -> list[str]:
    shape = "x".join(map(str, line.shape)) or "scalar"
    known = [f"{ratio.ratio:.2f}x" for ratio in line.ratios if ratio.kind != "unknown"]
    sizes = [human_bytes(line.dense_bytes), human_bytes(line.packed_bytes) if line.pattern else "-"]
    return [
        *(line.name, line.state, line.found, shape, line.dtype, f"{line.density:.1%}"),
        *(*sizes, "/".join(known) or "-", line.verdict.ljust(wide)),
    ]


def _plain(found: Inspection) -> dict[str, Any]:
    """`bytes` are those in the file, as elsewhere in this JSON."""
    lines = []
    for line in found.lines:
        plain = dataclasses.asdict(line)
        plain["bytes"] = plain.pop("file_bytes")
        del plain["picture"]
        lines.append(plain)
    sizes = {"bytes": found.file_bytes, "dense_bytes": found.dense_bytes, "packed_bytes": found.packed_bytes}
    return {"source": found.source, "kind": found.kind, "version": found.version, **sizes, "notes": found.notes,
            "tensors": lines}  # fmt: skip
