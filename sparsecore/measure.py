"""One table for both halves: what a model costs here, measured, and what it would cost on a design, simulated."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

import simulator
from simulator.designs.registry import resolve
from sparsecore.capture import capture
from sparsecore.errors import InvalidValueError, UnsupportedError
from sparsecore.layer_clock import LayerClock, Share
from sparsecore.nn import SparseLinear
from sparsecore.timing import interleaved

if TYPE_CHECKING:
    from simulator.result import Result
    from simulator.workload.ir import Workload

__all__ = ["Column", "Measurement", "Row", "agreement", "measure"]

CellKind = Literal["measured", "simulated", "derived", "not measured"]
_SCOPES = ("attention", "linear", "other", "total")


@dataclass(frozen=True, slots=True)
class Column:
    """A quantity on one target: `unit` is that of its cells, `kind` says where they come from."""

    target: str
    quantity: str
    unit: str
    kind: CellKind


@dataclass(frozen=True, slots=True)
class Row:
    """One scope of one layer; `layer` is its index, "outside" for what is in no layer, or "all" for the whole pass."""

    layer: int | str
    scope: str


@dataclass(frozen=True, slots=True, eq=False)
class Measurement:
    """What `measure` returns.

    Parameters
    ----------
    rows, columns: the axes of the table.
    cells: values by (row, column); what is not there was not measured, and no estimate stands in for it.
    workload: the record that the designs ran, with the tokens, heads and low bits that the timed passes kept; None if
        only "cpu" was asked for.
    results: the full result of each design, by name.
    notes: what a reader must know beside the figures.
    """

    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    cells: Mapping[tuple[Row, Column], float]
    workload: Workload | None
    results: Mapping[str, Result]
    notes: tuple[str, ...]

    def value(self, target: str, quantity: str, scope: str = "total", layer: int | str = "all") -> float | None:
        """Return one cell, or None where it was not measured."""
        for column in self.columns:
            if (column.target, column.quantity) == (target, quantity):
                return self.cells.get((Row(layer, scope), column))
        return None

    def to_dict(self) -> dict[str, Any]:
        """Return the table as plain data; a cell that was not measured is the string "not measured"."""
        return {
            "columns": [asdict(column) for column in self.columns],
            "rows": [
                {**asdict(row), "cells": [self.cells.get((row, column), "not measured") for column in self.columns]}
                for row in self.rows
            ],
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        lines = [
            ["", "", *(column.target for column in self.columns)],
            ["", "", *(column.quantity for column in self.columns)],
            ["layer", "scope", *(f"[{column.unit}, {column.kind}]" for column in self.columns)],
        ]
        for row in self.rows:
            values = (self.cells.get((row, column)) for column in self.columns)
            shown = ["-" if value is None else f"{value:.4g}" for value in values]
            lines.append([str(row.layer), row.scope, *shown])
        widths = [max(map(len, column)) for column in zip(*lines)]
        table = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths)) for line in lines]
        return "\n".join([*table, "-: not measured", *self.notes])


def measure(
    model: nn.Module,
    inputs: Any,
    on: Sequence[str] = ("cpu", "spatten"),
    *,
    reference: nn.Module | None = None,
    embed: Callable[[Any], Tensor] | None = None,
    runs: int = 5,
) -> Measurement:
    """Run `model` on `inputs` on this machine and on simulated designs, and return one table.

    All targets see the same inputs, and the designs replay the tokens, heads and low bits that the real run kept. On
    "cpu" the time is a median over `runs` passes, layer by layer; memory held is that of the weights; DRAM traffic and
    energy are not measured, because a CPU does not tell.

    Parameters
    ----------
    model: a Hugging Face model of a family in `sparsecore.models`, packed or not, with or without a cascade handle.
    inputs: keyword arguments of its forward (a mapping), as a tokenizer returns them.
    on: "cpu" and names of designs, such as "spatten", or one of them.
    reference: a model to compare outputs with, usually the dense one; without it the agreement is not measured.
    embed: makes the compared tensor [B, ...] from a model's output; default: the first tensor of the output.
    runs: timed passes.

    Raises
    ------
    InvalidValueError: nothing to run on, or no passes.
    UnsupportedError: a model of another kind.
    UnknownNameError: an unknown design.
    """
    on = (on,) if isinstance(on, str) else on
    if not on or runs < 1:
        raise InvalidValueError(f"on={list(on)!r}, runs={runs}", expected="at least one target and one run")
    if not isinstance(inputs, Mapping):
        raise UnsupportedError(f"inputs is a {type(inputs).__name__}", expected="a mapping of keyword arguments")
    for name in on:
        if name != "cpu":
            resolve(name)  # a wrong name is said before anything is timed
    table = _Table()
    if "cpu" in on:
        _measure_cpu(table, model, inputs, runs)
    workload: Workload | None = None
    results: dict[str, Result] = {}
    for name in on:
        if name != "cpu":
            workload = workload or capture(model, inputs)
            results[name] = simulator.run(workload, name)
    for name, result in results.items():
        _tabulate(table, name, result)
    if reference is not None:
        same = agreement(model, reference, inputs, embed)
        table.put("cpu", "agreement", "cosine", "measured", Row("all", "total"), same)
    return table.finish(workload, results)


def agreement(
    model: nn.Module, reference: nn.Module, inputs: Mapping[str, Any], embed: Callable[[Any], Tensor] | None = None
) -> float:
    """Return the mean over the batch of the cosine between the outputs of two models on the same inputs."""
    make = embed or _first_tensor
    with torch.inference_mode():
        ours, theirs = (make(m(**inputs)).flatten(1).double() for m in (model, reference))
    return float(torch.nn.functional.cosine_similarity(ours, theirs, dim=1).mean())


def _first_tensor(output: Any) -> Tensor:
    first = output if isinstance(output, Tensor) else output[0]
    if not isinstance(first, Tensor):
        raise UnsupportedError("the model's output starts with no tensor", hint="give embed=, which picks the tensor")
    return first


class _Table:
    """Collects cells in the order in which rows and columns first appear."""

    def __init__(self) -> None:
        self.columns: dict[Column, None] = {}
        self.cells: dict[tuple[Row, Column], float] = {}

    def put(self, target: str, quantity: str, unit: str, kind: CellKind, row: Row, value: float | None) -> None:
        """Enter a value; None opens the column and leaves the cell not measured."""
        column = Column(target, quantity, unit, kind)
        self.columns[column] = None
        if value is not None:
            self.cells[row, column] = value

    def finish(self, workload: Workload | None, results: Mapping[str, Result]) -> Measurement:
        """Return the table with rows in the order of the layers, the whole last."""
        rows = sorted({row for row, _ in self.cells}, key=_place)
        notes = [f"{name}: {note}" for name, result in results.items() for note in result.notes]
        notes += [
            f"{name} does not run {item.name}: {item.operations_share:.1%} of the operations, "
            f"{item.bytes_share:.1%} of the bytes"
            for name, result in results.items()
            for item in result.not_modelled
        ]
        return Measurement(tuple(rows), tuple(self.columns), self.cells, workload, results, tuple(notes))


def _place(row: Row) -> tuple[int, int, int]:
    index = row.layer if isinstance(row.layer, int) else 0
    return ("outside", "all").index(row.layer) + 1 if isinstance(row.layer, str) else 0, index, _SCOPES.index(row.scope)


def _measure_cpu(table: _Table, model: nn.Module, inputs: Mapping[str, Any], runs: int) -> None:
    passes: list[dict[Share, float]] = []
    with torch.inference_mode():
        model(**inputs)
        for _ in range(runs):
            with LayerClock(model) as clock:
                model(**inputs)
            passes.append(dict(clock.seconds))
        # The whole is timed without the clock's hooks in the way.
        totals = interleaved({"model": lambda: model(**inputs)}, rounds=runs, warmup=0)["model"]
    for share in passes[0]:
        seconds = statistics.median(one.get(share, 0.0) for one in passes)
        table.put("cpu", "time", "s", "measured", Row(_place_name(share.layer), share.scope), seconds)
    for scope in _SCOPES[:-1]:
        seconds = statistics.median(sum(t for share, t in one.items() if share.scope == scope) for one in passes)
        table.put("cpu", "time", "s", "measured", Row("all", scope), seconds)
    whole = Row("all", "total")
    table.put("cpu", "time", "s", "measured", whole, statistics.median(totals))
    table.put("cpu", "memory held", "bytes", "measured", whole, float(memory_held(model)))
    table.put("cpu", "dram traffic", "bytes", "not measured", whole, None)
    table.put("cpu", "energy", "J", "not measured", whole, None)


def _place_name(layer: int | None) -> int | str:
    return "outside" if layer is None else layer


def memory_held(model: nn.Module) -> int:
    """Return the bytes of all parameters, buffers and packed weights of `model`, shared ones counted once."""
    tensors = [*model.parameters(), *model.buffers()]
    for module in model.modules():
        if isinstance(module, SparseLinear):
            tensors += [module.packed.resident, *module.kept_dense]
    storages = (tensor.untyped_storage() for tensor in tensors)
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def _tabulate(table: _Table, name: str, result: Result) -> None:
    for layer in result.layers:
        _put_simulated(table, name, Row(_place_name(layer.layer), layer.scope), layer)
    for scope, whole in result.scopes.items():
        # A total stands only where the design leaves nothing out.
        if scope == "total" or whole.modelled_by == "design":
            _put_simulated(table, name, Row("all", scope), whole)


def _put_simulated(table: _Table, name: str, row: Row, source: Any) -> None:
    energy = None if source.energy_pj is None else source.energy_pj * 1e-12
    left_out = source.time_s is None  # then its bytes are not those of the scope either
    table.put(name, "time", "s", "simulated", row, source.time_s)
    table.put(name, "dram useful", "bytes", "simulated", row, None if left_out else float(source.dram_useful_bytes))
    table.put(name, "dram fetched", "bytes", "simulated", row, None if left_out else float(source.dram_fetched_bytes))
    table.put(name, "energy", "J", "simulated", row, energy)
