"""The points of a sweep as one table: a row a point, a column a varied key or a measure, for CSV and Parquet."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
from collections.abc import Sequence
from typing import Any

from simulator.errors import MissingDependencyError
from simulator.explore.records import Record, ScopeMetrics
from simulator.files import replacing

__all__ = [
    "ERROR",
    "OBJECTIVES",
    "SIZES",
    "by_work",
    "columns_of",
    "csv_text",
    "goals",
    "objectives",
    "require_arrow",
    "rows_of",
    "varied",
    "write_parquet",
]

OBJECTIVES = ("time", "energy", "area")  # in s, pJ and mm2: less is better
ERROR = "output error"  # relative to dense attention, which has none
SIZES = ("seq_len", "batch", "generate")  # what a schedule prunes counts as done, what is never asked for does not


def objectives(record: Record, scope: str, names: Sequence[str] = OBJECTIVES) -> tuple[float, ...] | None:
    """Return what is to be small of a point; None where any of it is not modelled."""
    found = None if record.metrics is None else record.metrics.scopes.get(scope)
    if found is None or record.metrics is None:
        return None
    error = 0.0 if record.metrics.error_kind == "dense" else record.metrics.output_error
    known = {"time": found.time_s, "energy": found.energy_pj, "area": record.metrics.area_mm2, ERROR: error}
    values = [known[name] for name in names]
    return tuple(value for value in values if value is not None) if None not in values else None


def goals(records: Sequence[Record]) -> tuple[str, ...]:
    """Return what a best point is best in: with the output error where all points have one and not all the same."""
    made = [record.metrics for record in records if record.metrics is not None]
    errors = {0.0 if m.error_kind == "dense" else m.output_error for m in made}
    return OBJECTIVES if None in errors or len(errors) < 2 else (*OBJECTIVES, ERROR)


def varied(records: Sequence[Record]) -> list[str]:
    """Return the keys that vary, in the order of their first appearance."""
    return list(dict.fromkeys(key for record in records for key in record.values))


def by_work(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Return the records by model and sizes of the input: less work is not a better design."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        sizes = [f"{key}={record.values[key]}" for key in SIZES if key in record.values]
        groups.setdefault(", ".join([record.model, *sizes]), []).append(record)
    return groups


def columns_of(records: Sequence[Record]) -> list[str]:
    """Return the columns: the point, whole-design measures, then each scope's that any design models."""
    modelled = {
        name: None
        for record in records
        if record.metrics is not None
        for name, scope in record.metrics.scopes.items()
        if scope.modelled_by in ("design", "host")
    }
    measures = [field.name for field in dataclasses.fields(ScopeMetrics)]
    own = ["area_mm2", "output_error", "error_kind", "clock_ghz", "fidelity", "workload", "schedule"]
    resources = ["multipliers", "bandwidth_gbps", "sram_bytes"]
    scopes = [f"{scope}.{measure}" for scope in modelled for measure in measures]
    return ["arch", "model", *varied(records), "error", *scopes, *own, *resources, "key"]


def rows_of(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Return a row for each point; what it does not have is None."""
    columns = columns_of(records)
    return [{column: row.get(column) for column in columns} for row in map(_row, records)]


def _row(record: Record) -> dict[str, Any]:
    # A varied key may be called as a column of the result is: what was asked for goes before.
    row: dict[str, Any] = {"arch": record.arch, "model": record.model, "error": record.error, "key": record.key}
    if record.metrics is None:
        return row | record.values
    fields: dict[str, Any] = {
        field.name: getattr(record.metrics, field.name) for field in dataclasses.fields(record.metrics)
    }
    resources: dict[str, Any] = fields.pop("resources")
    for name, scope in fields.pop("scopes").items():
        row |= {f"{name}.{measure}": value for measure, value in dataclasses.asdict(scope).items()}
    return row | resources | fields | record.values


def csv_text(records: Sequence[Record]) -> str:
    """Return the table as CSV; what a point does not have is empty."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns_of(records), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows_of(records))
    return stream.getvalue()


def write_parquet(records: Sequence[Record], path: str | os.PathLike[str]) -> None:
    """Write the table as Parquet. A column with numbers and words gets words.

    Raises
    ------
    MissingDependencyError: pyarrow is not installed. FileMissingError: the folder of `path` does not exist.
    """
    require_arrow()
    import pyarrow
    from pyarrow import parquet

    rows = rows_of(records)
    table = {name: _of_one_type([row[name] for row in rows]) for name in columns_of(records)}
    with replacing(path) as part:
        parquet.write_table(pyarrow.table(table), part)


def require_arrow() -> None:
    """Raise MissingDependencyError without pyarrow: to be asked before a sweep, not after it."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            "Parquet needs pyarrow", where="--parquet", hint="pip install 'sparsecore-kernels[parquet]'"
        ) from error


def _of_one_type(values: list[Any]) -> list[Any]:
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) <= 1:
        return values
    if kinds == {int, float}:
        return [None if value is None else float(value) for value in values]
    return [None if value is None else str(value) for value in values]
