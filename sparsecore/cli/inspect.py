"""`sparsecore inspect`: what is in a checkpoint, tensor by tensor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparsecore.cli.table import human_bytes, print_table

if TYPE_CHECKING:
    from sparsecore.io import LoadedCheckpoint

__all__ = ["inspect", "rows_of"]


def inspect(
    file: Annotated[Path, typer.Argument(help="Checkpoint file or Hugging Face folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    trust_pickle: Annotated[bool, typer.Option(help="Allow files that run code when read.")] = False,
) -> None:
    """Show pattern, density and bytes of every tensor of a checkpoint."""
    import sparsecore as sc

    checkpoint = sc.load(file, trust_pickle=trust_pickle)
    rows = rows_of(checkpoint)
    held, dense = (sum(row[key] for row in rows) for key in ("bytes", "dense_bytes"))
    if as_json:
        summary = {"source": checkpoint.source, "kind": checkpoint.kind, "version": checkpoint.version}
        typer.echo(json.dumps({**summary, "bytes": held, "dense_bytes": dense, "tensors": rows}, indent=2))
        return
    version = f", format {checkpoint.version}" if checkpoint.version else ""
    typer.echo(f"{checkpoint.source}: {checkpoint.kind}{version}")
    table = []
    for row in rows:
        text = [row["name"], row["state"], row["pattern"] or "-"]
        shape = "x".join(map(str, row["shape"])) or "scalar"
        table.append([*text, shape, row["dtype"], f"{row['density']:.1%}", human_bytes(row["bytes"])])
    print_table(["tensor", "state", "pattern", "shape", "dtype", "density", "bytes"], table, text_columns=3)
    typer.echo(f"{len(rows)} tensors, {human_bytes(held)}; {human_bytes(dense)} if all were dense")


def rows_of(checkpoint: LoadedCheckpoint) -> list[dict[str, Any]]:
    """One row a tensor. density: non-zeros over all elements; pattern: the one it is packed in, or the one found."""
    rows = []
    for name in checkpoint:
        tensor, pattern = checkpoint[name], checkpoint.pattern(name)
        elements = tensor.numel()
        rows.append(
            {
                "name": name,
                "state": "packed" if checkpoint.is_packed(name) else "dense",
                "pattern": pattern.name if pattern is not None else None,
                "shape": list(tensor.shape),
                "dtype": str(tensor.dtype).removeprefix("torch."),
                "density": int(tensor.count_nonzero()) / elements if elements else 1.0,
                "bytes": checkpoint.nbytes(name),
                "dense_bytes": elements * tensor.element_size(),
            }
        )
    return rows
