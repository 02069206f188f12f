"""What is in a checkpoint, tensor by tensor: pattern, bytes in both forms, expected speed here, and a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sparsecore.dispatch import ACCEPTED, LayerCost, Ratio, predict
from sparsecore.dtypes import DTYPES
from sparsecore.io import LoadedCheckpoint
from sparsecore.pattern_search import Finding, look, look_both_ways
from sparsecore.patterns import Pattern
from sparsecore.structure import Structure, structure_of

__all__ = ["TOKENS", "Inspection", "Line", "inspect_checkpoint"]

TOKENS = (1, 16, 128)
"""Numbers of tokens whose speed is predicted."""
_MAP_CELLS = 48


@dataclass(frozen=True, slots=True)
class Line:
    """One tensor.

    state: "packed" in the file, or "dense". found: what its zeros look like, in words. pattern: the name of the one it
    is or would be packed in, None where none is known or pays in bytes.
    density: non-zeros over all elements. dense_bytes, file_bytes: dense, and as it is in the file. packed_bytes: what
    it takes packed; the dense bytes without a pattern.
    ratios: predicted speed against dense. verdict: what to do with it. picture: share of non-zeros of each cell of a
    map of the weight, at most 48 x 48, row-major; empty for tensors that are no matrices.
    """

    name: str
    state: str
    shape: tuple[int, ...]
    dtype: str
    found: str
    pattern: str | None
    density: float
    dense_bytes: int
    file_bytes: int
    packed_bytes: int
    ratios: tuple[Ratio, ...]
    verdict: str
    picture: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Inspection:
    """All tensors of a checkpoint; notes: what holds for several of them, such as layers that are entirely zero."""

    source: str
    kind: str
    version: str | None
    lines: tuple[Line, ...]
    notes: tuple[str, ...]

    @property
    def dense_bytes(self) -> int:
        """Bytes if all were dense."""
        return sum(line.dense_bytes for line in self.lines)

    @property
    def file_bytes(self) -> int:
        """Bytes as they are in the file."""
        return sum(line.file_bytes for line in self.lines)

    @property
    def packed_bytes(self) -> int:
        """Bytes if every weight with a pattern were packed."""
        return sum(line.packed_bytes for line in self.lines)


def inspect_checkpoint(checkpoint: LoadedCheckpoint, tokens: Sequence[int] = TOKENS) -> Inspection:
    """Look at every tensor of `checkpoint`, one at a time; raises the errors of its file."""
    structure = structure_of(checkpoint)
    lines = []
    for name in checkpoint:
        packed = checkpoint.is_packed(name)
        lines.append(_packed_line(name, checkpoint, tokens) if packed else _line(name, checkpoint, structure, tokens))
    return Inspection(
        checkpoint.source, checkpoint.kind, checkpoint.version, tuple(lines), tuple(_notes(lines, structure))
    )


def _packed_line(name: str, checkpoint: LoadedCheckpoint, tokens: Sequence[int]) -> Line:
    entry = checkpoint.packed[name.removesuffix("weight").removesuffix(".")]
    stored = entry.stored
    values = stored.tensors.get("compressed", stored.tensors.get("blocks"))
    rows, cols = stored.shape
    density = int((values != 0).sum()) / (rows * cols) if values is not None and rows * cols else 1.0
    dense = stored.unpack()
    ratios = _ratios(stored.pattern, stored.density, stored.shape, dense.dtype, stored.nbytes, stored.dtype, tokens)
    return Line(
        name=name,
        state="packed",
        shape=entry.shape,
        dtype=_short(stored.dtype),
        found=look(dense).describe() if stored.pattern.name == "unstructured" else stored.pattern.name,
        pattern=stored.pattern.name,
        density=density,
        dense_bytes=dense.numel() * dense.element_size(),
        file_bytes=stored.nbytes,
        packed_bytes=stored.nbytes,
        ratios=ratios,
        verdict=_verdict(ratios),
        picture=_map(dense),
    )


def _line(name: str, checkpoint: LoadedCheckpoint, structure: Structure | None, tokens: Sequence[int]) -> Line:
    tensor = checkpoint[name]
    size = checkpoint.nbytes(name)
    weight = tensor.dim() == 2 and tensor.dtype in DTYPES
    finding, turned = look_both_ways(tensor) if weight else (None, False)
    pattern = finding.pattern if finding is not None else None
    ratios: tuple[Ratio, ...] = ()
    linear = name.rpartition(".")[2] == "weight"
    if finding is not None and pattern is not None and linear:
        kept = pattern.density(tensor.t() if turned else tensor)
        ratios = _ratios(pattern, kept, finding.shape, tensor.dtype, finding.packed_bytes, tensor.dtype, tokens)
    packs = finding is not None and linear
    return Line(
        name=name,
        state="dense",
        shape=tuple(tensor.shape),
        dtype=_short(tensor.dtype),
        found=_found(name, tensor, finding, turned, structure),
        pattern=pattern.name if pattern is not None else None,
        density=_density(tensor, finding),
        dense_bytes=size,
        file_bytes=size,
        packed_bytes=finding.packed_bytes if finding is not None and packs else size,
        ratios=ratios,
        verdict=_dense_verdict(name, finding, ratios, linear, tuple(tensor.shape), structure),
        picture=_map(tensor) if weight else (),
    )


def _density(tensor: Tensor, finding: Finding | None) -> float:
    if finding is not None:
        return finding.density
    return int((tensor != 0).sum()) / tensor.numel() if tensor.numel() else 1.0


def _found(name: str, tensor: Tensor, finding: Finding | None, turned: bool, structure: Structure | None) -> str:
    if finding is None:
        if tensor.dim() <= 2 or not tensor.is_floating_point() or not tensor.numel():
            return "-"
        gone = int((tensor.flatten(1) == 0).all(1).sum())
        return f"{gone} of {len(tensor)} filters zero" if gone else "-"
    text = finding.describe() + (" along the first dimension" if turned else "")
    heads = () if structure is None or turned else structure.zero_heads(name, finding)
    return f"{text} (heads {', '.join(map(str, heads))})" if heads else text


def _ratios(
    pattern: Pattern,
    density: float,
    shape: tuple[int, int],
    dtype: torch.dtype,
    packed_bytes: int,
    packed_dtype: torch.dtype,
    tokens: Sequence[int],
) -> tuple[Ratio, ...]:
    dense_bytes = shape[0] * shape[1] * dtype.itemsize
    if not dense_bytes:
        return ()
    cost = LayerCost(pattern, density, shape, dtype, dense_bytes, packed_bytes, packed_dtype)
    return predict(cost, tokens)


def _verdict(ratios: tuple[Ratio, ...]) -> str:
    known = [ratio for ratio in ratios if ratio.kind != "unknown"]
    if not known:
        return "smaller packed; its speed here is unknown (sparsecore doctor --calibrate)"
    slowest = min(known, key=lambda ratio: ratio.ratio)
    fastest = max(known, key=lambda ratio: ratio.ratio)
    if slowest.ratio >= ACCEPTED:
        return f"pack it: up to {fastest.ratio:.1f}x as fast, and smaller"
    if fastest.ratio < ACCEPTED:
        return f"smaller packed, but slower: {fastest.ratio:.2f}x at best"
    ends = (f"{one.ratio:.2f}x at {one.tokens} token{'s' * (one.tokens > 1)}" for one in (fastest, slowest))
    return "smaller packed; " + ", ".join(ends)


def _dense_verdict(
    name: str,
    finding: Finding | None,
    ratios: tuple[Ratio, ...],
    linear: bool,
    shape: tuple[int, ...],
    structure: Structure | None,
) -> str:
    expected = structure.shape(name) if structure is not None else None
    if expected is not None and expected != shape:
        return f"structurally pruned: the config says {expected[0]} x {expected[1]}"
    if finding is None or not linear:
        return "-"
    if finding.shape[0] * finding.shape[1] and not finding.nonzeros:
        return "all zero: the layer can go"
    if finding.density == 1:
        return "stays dense: no zeros"
    if finding.explained:
        return f"take out what is zero: a dense layer of {finding.density:.0%} of the size"
    if finding.near is not None:
        return f"prune the rest of it to {finding.near.pattern.name}, and it packs so"
    if finding.pattern is None:
        return "stays dense: no pattern makes it smaller"
    return _verdict(ratios)


def _notes(lines: Sequence[Line], structure: Structure | None) -> list[str]:
    """What holds for whole layers, or for the model."""
    if structure is None:
        return []
    notes = []
    by_layer: dict[int, list[Line]] = {}
    for line in lines:
        layer = structure.layer(line.name)
        if layer is not None:
            by_layer.setdefault(layer, []).append(line)
    gone = [str(layer) for layer, own in sorted(by_layer.items()) if all(not line.density for line in own)]
    if gone:
        notes.append(f"every weight of layer {', '.join(gone)} is zero: the layer only passes its input on")
    resized = [line for line in lines if (said := structure.shape(line.name)) is not None and said != line.shape]
    if resized:
        notes.append(
            f"structurally pruned: {len(resized)} weights have other shapes than the config says; "
            "transformers alone does not load such a folder"
        )
    return notes


def _map(weight: Tensor) -> tuple[tuple[float, ...], ...]:
    """Share of non-zeros in each cell of a grid over the weight."""
    rows, cols = weight.shape
    if not rows * cols:
        return ()
    mask = (weight != 0).numpy()
    row_edges = np.unique(np.linspace(0, rows, min(rows, _MAP_CELLS), endpoint=False).astype(int))
    col_edges = np.unique(np.linspace(0, cols, min(cols, _MAP_CELLS), endpoint=False).astype(int))
    sums = np.add.reduceat(np.add.reduceat(mask, row_edges, axis=0, dtype=np.int64), col_edges, axis=1)
    areas = np.diff([*row_edges, rows])[:, None] * np.diff([*col_edges, cols])[None, :]
    return tuple(tuple(row) for row in (sums / areas).round(3).tolist())


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
