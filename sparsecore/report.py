"""`report`: per layer, packed or not and why, what it holds, and how fast it is expected to be."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import nn

from sparsecore.dispatch import Ratio
from sparsecore.dtypes import QUANTISED, dense_dtype
from sparsecore.nn import SparseExperts, SparseLinear
from sparsecore.survey import survey

__all__ = ["Report", "Row", "keep_rows", "report", "values_name"]

_KEPT = "_sparsecore_rows"
_QUANTISED = tuple(str(dtype).removeprefix("torch.") for dtype in QUANTISED.values())


@dataclass(frozen=True, slots=True)
class Row:
    """One weight of the model.

    name: name of the layer, or of the parameter for experts and other tensors.
    kind: "Linear", "Conv1D", "experts" or the class of the module that owns another tensor with zeros.
    packed: whether it runs packed. reason: why, in words.
    pattern: name of its pattern, None where none was found or looked for.
    density: kept positions over all positions; for a dense weight, non-zeros over all.
    dense_bytes, held_bytes: bytes of the dense weight and of all that is held now (both copies with `keep_dense`).
    ratios: speed against dense at each number of tokens looked at.
    values: element type of the packed values, "float32", "int8" or "float8_e4m3fn", say; None for a dense weight.
    """

    name: str
    kind: str
    packed: bool
    reason: str
    pattern: str | None
    density: float
    dense_bytes: int
    held_bytes: int
    ratios: tuple[Ratio, ...] = ()
    values: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """All rows of a model, in the order of its modules; `str()` gives a plain table."""

    rows: tuple[Row, ...]

    @property
    def dense_bytes(self) -> int:
        """Bytes of all listed weights in dense form."""
        return sum(row.dense_bytes for row in self.rows)

    @property
    def held_bytes(self) -> int:
        """Bytes that the listed weights hold now."""
        return sum(row.held_bytes for row in self.rows)

    @property
    def packed(self) -> tuple[Row, ...]:
        """Rows that run packed."""
        return tuple(row for row in self.rows if row.packed)

    def __getitem__(self, name: str) -> Row:
        """Row of the layer `name`; KeyError where it is not listed."""
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        totals = {"dense_bytes": self.dense_bytes, "held_bytes": self.held_bytes, "packed": len(self.packed)}
        return {"rows": [asdict(row) for row in self.rows], "total": totals}

    def __str__(self) -> str:
        head = (
            "layer",
            "kind",
            "form",
            "pattern",
            "values",
            "density",
            "dense KiB",
            "held KiB",
            "speed against dense",
            "why",
        )
        table = [head, *(_cells(row) for row in self.rows)]
        widths = [max(len(line[i]) for line in table) for i in range(len(head))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in table
        ]
        lines.insert(1, "-" * max(len(line) for line in lines))
        lines.append(
            f"{len(self.packed)} of {len(self.rows)} weights packed; "
            f"{_kib(self.dense_bytes)} KiB dense, {_kib(self.held_bytes)} KiB held"
        )
        return "\n".join(lines)


def report(model: nn.Module) -> Report:
    """Return one row for every weight of `model` that is packed, could be, or holds zeros.

    After `sparsify` the rows carry its verdicts; bytes and patterns are read from the model as it is now. A layer that
    `sparsify` has not seen is judged by what can be told without timing it.
    """
    kept: dict[str, Row] = {row.name: row for row in getattr(model, _KEPT, ())}
    live = {found.name: found for found in _packed_rows(model)}
    rows = [_judged(found, kept.get(name)) for name, found in live.items()]
    for found in survey(model):
        before = kept.get(found.name)
        if before is not None and not before.packed:
            rows.append(before)
        else:
            rows.append(
                dense_row(found.name, found.kind, found.reason or "not sparsified", found.dense_bytes, found.density)
            )
    order = {name: index for index, (name, _) in enumerate(model.named_modules(remove_duplicate=False))}
    return Report(tuple(sorted(rows, key=lambda row: order.get(row.name, order.get(row.name.rpartition(".")[0], 0)))))


def _judged(found: Row, before: Row | None) -> Row:
    """Row of a packed layer as it is now, with the verdict of `sparsify` on it."""
    if before is None or not before.packed:
        return found
    # What a quantised weight was made from, only `sparsify` knows.
    dense_bytes = before.dense_bytes if found.values == before.values in _QUANTISED else found.dense_bytes
    return replace(found, kind=before.kind, reason=before.reason, ratios=before.ratios, dense_bytes=dense_bytes)


def keep_rows(model: nn.Module, rows: list[Row]) -> None:
    """Store verdicts on `model` for `report`; those of layers that this call did not judge stay."""
    merged = {row.name: row for row in (*getattr(model, _KEPT, ()), *rows)}
    setattr(model, _KEPT, tuple(merged.values()))


def dense_row(
    name: str,
    kind: str,
    reason: str,
    size: int,
    density: float,
    pattern: str | None = None,
    ratios: tuple[Ratio, ...] = (),
) -> Row:
    """Row of a weight that stays dense."""
    return Row(name, kind, False, reason, pattern, density, size, size, ratios)


def _packed_rows(model: nn.Module) -> list[Row]:
    rows: list[Row] = []
    inside_experts: set[int] = set()
    for name, module in model.named_modules():
        if isinstance(module, SparseExperts):
            for projection, layers in module.packed_projections().items():
                inside_experts.update(id(layer) for layer in layers)
                rows.append(_row(f"{name}.{projection}" if name else projection, "experts", layers))
        elif isinstance(module, SparseLinear) and id(module) not in inside_experts:
            rows.append(_row(name, "Conv1D" if module.transposed else "Linear", [module]))
    return rows


def _row(name: str, kind: str, layers: list[SparseLinear]) -> Row:
    positions = sum(layer.in_features * layer.out_features for layer in layers)
    kept = sum(layer.density * layer.in_features * layer.out_features for layer in layers)
    return Row(
        name=name,
        kind=kind,
        packed=True,
        reason="packed",
        pattern=" / ".join(sorted({layer.pattern.name for layer in layers})),
        density=kept / positions if positions else 1.0,
        dense_bytes=sum(
            layer.in_features * layer.out_features * dense_dtype(layer.weight_dtype).itemsize for layer in layers
        ),
        held_bytes=sum(layer.held_bytes for layer in layers),
        values=values_name(layers),
    )


def values_name(layers: Iterable[SparseLinear]) -> str:
    """Element type of the packed values, or all types that the experts have."""
    return " / ".join(sorted({str(layer.weight_dtype).removeprefix("torch.") for layer in layers}))


def _cells(row: Row) -> tuple[str, ...]:
    speeds = ", ".join(f"{r.ratio:.2f}x at {r.tokens}{_expansion(r)}" for r in _few(row.ratios))
    kinds = "/".join(sorted({r.kind for r in row.ratios}))
    return (
        row.name,
        row.kind,
        "packed" if row.packed else "dense",
        row.pattern or "-",
        row.values or "-",
        f"{row.density:.3f}",
        _kib(row.dense_bytes),
        _kib(row.held_bytes),
        f"{speeds} ({kinds})" if speeds else "not measured",
        row.reason,
    )


def _expansion(ratio: Ratio) -> str:
    return f" ({ratio.expansion_s * 1e6:.0f} us to write the weight out)" if ratio.expansion_s else ""


def _few(ratios: tuple[Ratio, ...]) -> tuple[Ratio, ...]:
    """First, slowest and last: a table has no room for more."""
    if len(ratios) <= 3:
        return ratios
    chosen = {ratios[0], min(ratios, key=lambda r: r.ratio), ratios[-1]}
    return tuple(sorted(chosen, key=lambda r: r.tokens))


def _kib(size: int) -> str:
    return f"{size / 1024:.1f}"
