"""Results as CSV: one value a line, in base units, so that any tool can group and plot them."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
from collections.abc import Iterator, Sequence

from simulator.files import write_atomic
from simulator.report.tables import distinct
from simulator.result import Result

__all__ = ["COLUMNS", "csv_text", "write_csv"]

COLUMNS = ("design", "workload", "section", "name", "metric", "value")
Row = tuple[str, str, str, str, str, object]


def write_csv(results: Sequence[Result], path: str | os.PathLike[str]) -> None:
    """Write the results to `path`; an interrupt keeps the old file.

    Raises
    ------
    FileMissingError: the folder of `path` does not exist.
    """
    write_atomic(path, csv_text(results))


def csv_text(results: Sequence[Result]) -> str:
    """Return the CSV: metrics are the field names of `simulator.result`; what is not modelled has an empty value."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for result in distinct(results):
        writer.writerows(_rows(result))
    return stream.getvalue()


def _rows(result: Result) -> Iterator[Row]:
    named: list[tuple[str, str, object]] = []
    for section in ("scopes", "units", "streams", "energy"):
        named += [(section, name, item) for name, item in getattr(result, section).items()]
    named += [("layers", f"{'-' if item.layer is None else item.layer} {item.scope}", item) for item in result.layers]
    named += [("not_modelled", item.name, item) for item in result.not_modelled]
    named += [("inputs", item.name, item) for item in result.inputs]
    for section, name, item in named:
        for field in dataclasses.fields(item):  # type: ignore[arg-type]
            yield result.design, result.workload, section, name, field.name, getattr(item, field.name)
