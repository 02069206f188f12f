"""`sparsecore bench`: layers measured in both forms and, with --explain, what keeps each from being faster."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparsecore.cli.table import human_bytes, print_table
from sparsecore.errors import InvalidValueError, UnknownNameError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from sparsecore.explain import Explanation, Point
    from sparsecore.patterns import Pattern

__all__ = ["bench"]

_DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
_MOST_ELEMENTS = 2**30


def bench(
    file: Annotated[Path | None, typer.Argument(help="Checkpoint whose sparse weights are measured.")] = None,
    shape: Annotated[
        list[str] | None, typer.Option(help="INxOUT features of a random layer, such as 768x3072; may be repeated.")
    ] = None,
    pattern: Annotated[str, typer.Option(help='Of random layers: "N:M", "block RxC" or "unstructured".')] = "2:4",
    sparsity: Annotated[float, typer.Option(help="Share of zeros, for block and unstructured.")] = 0.9,
    dtype: Annotated[str, typer.Option(help="Of random layers: fp32, bf16, fp16.")] = "fp32",
    tokens: Annotated[str, typer.Option(help="Numbers of tokens, comma-separated.")] = "1,16,128",
    threads: Annotated[int, typer.Option(help="Number of threads; 0: as torch chooses.", min=0)] = 0,
    explain: Annotated[bool, typer.Option("--explain", help="Say what bounds each layer.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    trust_pickle: Annotated[bool, typer.Option(help="Allow files that run code when read.")] = False,
) -> None:
    """Measure layers dense and packed, in turns, on this machine: those of a checkpoint, or random ones.

    Layers of a checkpoint that are equal in shape, type, pattern and density are measured once. Up to 32 tokens the
    weights are cold, as a model finds them.
    """
    import torch

    from sparsecore.explain import explain as explain_layer

    counts = _counts(tokens)
    if threads:
        torch.set_num_threads(threads)
    if file is None:
        layers = _random_layers(shape or ["768x3072"], pattern, sparsity, dtype)
    else:
        layers = _layers_of(file, trust_pickle)
    found = [(name, explain_layer(weight, kind, counts)) for name, weight, kind in layers]
    if as_json:
        typer.echo(json.dumps([_plain(name, one) for name, one in found], indent=2))
        return
    if not found:
        typer.echo("no weight of this checkpoint has zeros in a pattern that makes it smaller")
    for name, one in found:
        _print(name, one, explain)


def _print(name: str, one: Explanation, explain: bool) -> None:
    size = f"{one.shape[1]}x{one.shape[0]}"
    typer.echo(f"{name}: {size} {one.dtype} {one.pattern}, density {one.density:.3f}, {one.limits.threads} threads")
    head = ["tokens", "dense us", "prepacked us", "packed us", "ratio", "to prepacked"]
    if explain:
        typer.echo(
            f"  weight: dense {human_bytes(one.dense_bytes)}, packed {human_bytes(one.packed_bytes)}: "
            f"at full bandwidth {one.dense_bytes / one.packed_bytes:.2f}x; {one.limits.read / 1e9:.1f} GB/s measured"
        )
        head += ["predicted", "floor: bytes", "arithmetic", "call", "bound by", "of floor", "of bandwidth"]
    print_table(head, [_row(point, explain) for point in one.points], text_columns=0)
    typer.echo(f"  verdict: {one.verdict}\n")


def _row(point: Point, explain: bool) -> list[str]:
    row = [str(point.tokens), _us(point.dense), _us(point.prepacked), _us(point.packed), _times(point.ratio)]
    row.append(_times(point.prepacked_ratio))
    if explain:
        row += [_times(point.predicted), _us(point.read_floor), _us(point.compute_floor), _us(point.call), point.bound]
        row += [f"{point.floor / point.packed:.0%}", f"{point.read_share:.0%}"]
    return row


def _us(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e6:.1f}"


def _times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}x"


def _plain(name: str, one: Explanation) -> dict[str, Any]:
    points = [{**asdict(point), "bound": point.bound, "floor": point.floor} for point in one.points]
    return {"name": name, **asdict(one), "points": points, "verdict": one.verdict}


def _counts(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and 1 <= int(part) <= 2**20 for part in parts):
        raise InvalidValueError(
            f"no numbers of tokens: {text!r}", where="--tokens", expected="1,16,128: numbers from 1 to 2^20"
        )
    return [int(part) for part in parts]


def _random_layers(
    shapes: list[str], pattern: str, sparsity: float, dtype: str
) -> Iterator[tuple[str, Tensor, Pattern]]:
    import torch

    from sparsecore.patterns import parse
    from sparsecore.samples import random_weight

    if dtype not in _DTYPES:
        raise UnknownNameError(f"no dtype {dtype!r}", where="--dtype", hint=nearest(dtype, _DTYPES))
    if not 0 <= sparsity <= 1:
        raise InvalidValueError(f"sparsity is {sparsity}", where="--sparsity", expected="0 to 1")
    kind, generator = parse(pattern), torch.Generator().manual_seed(0)
    for text in shapes:
        match = re.fullmatch(r"(\d{1,7})x(\d{1,7})", text)
        cols, rows = (int(part) for part in match.groups()) if match else (0, 0)
        if not 0 < rows * cols <= _MOST_ELEMENTS:
            raise InvalidValueError(
                f"no shape: {text!r}", where="--shape", expected="INxOUT, such as 768x3072, at most 2^30 elements"
            )
        weight = random_weight((rows, cols), kind, 1 - sparsity, getattr(torch, _DTYPES[dtype]), generator)
        yield "random layer", weight, kind


def _layers_of(file: Path, trust_pickle: bool) -> Iterator[tuple[str, Tensor, Pattern]]:
    """One weight of each kind in a checkpoint: equal shape, type, pattern and density, within 1/32."""
    import sparsecore as sc

    checkpoint = sc.load(file, trust_pickle=trust_pickle)
    groups: dict[object, list[str]] = {}
    for name in checkpoint:
        kind, tensor = checkpoint.pattern(name), checkpoint[name]
        if kind is not None and tensor.dim() == 2:
            share = round(int(tensor.count_nonzero()) / tensor.numel() * 32)
            groups.setdefault((tensor.shape, tensor.dtype, kind, share), []).append(name)
    for names in groups.values():
        kind = checkpoint.pattern(names[0])
        assert kind is not None
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        yield names[0] + more, checkpoint[names[0]].contiguous(), kind
