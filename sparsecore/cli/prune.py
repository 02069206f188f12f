"""`sparsecore prune`: sets weights of a checkpoint to zero and writes it packed."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sparsecore.cli.table import human_bytes

if TYPE_CHECKING:
    from torch import nn

    from sparsecore.io import LoadedCheckpoint
    from sparsecore.patterns import Pattern
    from sparsecore.prune import PruneSummary

__all__ = ["prune"]

_NOT_LINEAR = "*embed*,*norm*,*wte*,*wpe*,*head*,*classifier*"


def prune(
    source: Annotated[Path, typer.Argument(help="Checkpoint file or Hugging Face folder.")],
    target: Annotated[Path, typer.Argument(help="The safetensors file to write.")],
    pattern: Annotated[str, typer.Option(help='"N:M", "block RxC" or "unstructured".')] = "2:4",
    sparsity: Annotated[float, typer.Option(help="Share that becomes zero, for block and unstructured.")] = 0.9,
    scope: Annotated[str, typer.Option(help="Rank weights by layer, or over all of them: layer, global.")] = "layer",
    method: Annotated[str, typer.Option(help="Pruning method.")] = "magnitude",
    exclude: Annotated[
        str, typer.Option(help="Names left alone, as comma-separated patterns; of files, *.weight matrices are pruned.")
    ] = _NOT_LINEAR,
    packed: Annotated[bool, typer.Option("--pack/--no-pack", help="Write the pruned weights packed.")] = True,
    trust_pickle: Annotated[bool, typer.Option(help="Allow files that run code when read.")] = False,
) -> None:
    """Prune a checkpoint in one shot, without training, and write it as safetensors.

    A Hugging Face folder is loaded as its model (transformers must be installed), which tells what is a linear layer.
    Of a single file every matrix named *.weight is taken as out x in, except the excluded names.
    """
    import sparsecore as sc
    from sparsecore.patterns import parse

    chosen, excluded = parse(pattern), [text for text in exclude.split(",") if text]
    result: nn.Module | LoadedCheckpoint
    if source.is_dir():
        result, summary = _prune_folder(source, method, chosen, sparsity, scope, excluded, packed)
    else:
        checkpoint = sc.load(source, trust_pickle=trust_pickle)
        result, summary = _prune_file(checkpoint, method, chosen, sparsity, scope, excluded, packed)
    sc.save(result, target)
    typer.echo(str(summary))
    typer.echo(f"{target}: {human_bytes(target.stat().st_size)}")


def _prune_folder(
    folder: Path, method: str, pattern: Pattern, sparsity: float, scope: str, excluded: list[str], packed: bool
) -> tuple[nn.Module, PruneSummary]:
    import sparsecore as sc
    from sparsecore.io.hugging_face import load_model
    from sparsecore.survey import survey

    model = load_model(folder)
    summary = sc.prune.one_shot(
        model,
        method,
        pattern,
        sparsity=sparsity,
        scope=scope,  # type: ignore[arg-type]  # one_shot names a wrong one
        filter_fn=lambda _, name: not _matches(name, excluded),
    )
    if packed:
        pruned = {layer.name for layer in summary.layers}
        ready = [f for f in survey(model) if f.name in pruned and not f.reason and f.kind in ("Linear", "Conv1D")]
        for found in ready:
            model.set_submodule(found.name, sc.nn.SparseLinear.from_dense(found.module, pattern))
    return model, summary


def _prune_file(
    checkpoint: LoadedCheckpoint,
    method: str,
    pattern: Pattern,
    sparsity: float,
    scope: str,
    excluded: list[str],
    packed: bool,
) -> tuple[LoadedCheckpoint, PruneSummary]:
    from sparsecore.dtypes import DTYPES
    from sparsecore.formats import pack as pack_weight
    from sparsecore.io import LoadedCheckpoint, PackedEntry
    from sparsecore.prune import prune_tensors

    tensors = dict(checkpoint)
    chosen = {
        name: tensor.clone()
        for name, tensor in tensors.items()
        if name.endswith(".weight") and tensor.dim() == 2 and tensor.dtype in DTYPES and not _matches(name, excluded)
    }
    summary = prune_tensors(chosen, method, pattern, sparsity=sparsity, scope=scope)
    tensors.update(chosen)
    entries = {}
    if packed:
        entries = {n.removesuffix(".weight"): PackedEntry(pack_weight(t, pattern), False) for n, t in chosen.items()}
        tensors = {name: tensor for name, tensor in tensors.items() if name not in chosen}
    return LoadedCheckpoint(checkpoint.source, checkpoint.kind, tensors, entries), summary


def _matches(name: str, patterns: list[str]) -> bool:
    return any(fnmatchcase(name.lower(), pattern) for pattern in patterns)
