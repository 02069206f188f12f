"""Measures of the designs that prune no attention: systolic arrays, 2:4 matrix units, rooflines."""

from __future__ import annotations

from simulator.designs.registry import make
from simulator.designs.roofline import Roofline
from simulator.designs.systolic import Systolic
from simulator.engine.interface import Design
from simulator.units.systolic import Dataflow
from simulator.validation.bench import Bench
from simulator.validation.measured import Measured, Part, measure
from simulator.workload.ir import LinearOp

__all__: list[str] = []


def _linear(tokens: int, inner: int, outputs: int, pattern: str = "dense", bits: int = 16) -> LinearOp:
    density = 0.5 if pattern == "2:4" else 1.0
    return LinearOp(0, "linear", 0, "summarise", 0, tokens, inner, outputs, pattern, density, bits)


def _seconds(design: Design, op: LinearOp) -> float:
    return design.seconds(design.cost(op, None, 0).cycles)


@measure
def systolic_cycles(
    _: Bench, design: str, rows: int, columns: int, dataflow: Dataflow, m: int, k: int, n: int
) -> Measured:
    """Cycles of the array for [m x k] x [k x n] on the design at another size, with a buffer that holds everything."""
    size = {"array.rows": rows, "array.columns": columns, "array.dataflow": dataflow, "sram.bytes": 1 << 30}
    machine = make(design, size)[0]
    assert isinstance(machine, Systolic)
    return Measured.of(machine.mapping(_linear(m, k, n)).array_cycles)


@measure
def peak_tops(_: Bench, design: str) -> Measured:
    """Peak of the multipliers, a multiply-add being 2 operations; in 1e12 a second."""
    peak = make(design)[0].peak_gops
    assert peak is not None
    return Measured.of(peak / 1e3)


@measure
def ridge_macs_per_byte(_: Bench, design: str) -> Measured:
    """Multiply-adds for each byte of the memory where both ceilings meet."""
    machine = make(design)[0]
    assert machine.peak_gops is not None
    return Measured.of(machine.peak_gops / 2 / machine.memory_spec.peak_gb_per_s)


@measure
def square_layers_tops(_: Bench, design: str, layers: int, mega_weights: float, batch: int) -> Measured:
    """Rate of so many equal square layers that have so many weights together; in 1e12 operations a second."""
    machine, side = make(design)[0], round((mega_weights * 1e6 / layers) ** 0.5)
    op = _linear(batch, side, side)
    wide = _linear(batch, side // 2, side * 2)
    rate = op.operations / _seconds(machine, op) / 1e12
    beside = Part.of("layers four times as wide as deep", wide.operations / _seconds(machine, wide) / 1e12)
    return Measured.of(rate, f"{layers} layers of {side} x {side}; what moves is weights alone", (beside,))


@measure
def product_tflops(_: Bench, design: str, m: int, k: int, n: int, pattern: str) -> Measured:
    """Rate of one product, operations with weights that are zero counted; in 1e12 a second."""
    op = _linear(m, k, n, pattern)
    return Measured.of(2 * m * k * n / _seconds(make(design)[0], op) / 1e12)


@measure
def two_four_gain(_: Bench, design: str, m: int, k: int, n: int) -> Measured:
    """Time with dense weights over that with 2:4 ones."""
    machine = make(design)[0]
    return Measured.of(_seconds(machine, _linear(m, k, n)) / _seconds(machine, _linear(m, k, n, "2:4")))


@measure
def two_four_saving(_: Bench, design: str, bits: int) -> Measured:
    """Bytes of weights and metadata that 2:4 weights save, in percent."""
    machine = make(design, {"bits": bits})[0]
    assert isinstance(machine, Roofline)
    stored = [
        sum(machine.cost(_linear(1, 4096, 4096, pattern), None, 0).traffic[name].useful_bytes for name in streams)
        for pattern, streams in (("2:4", ("weight", "metadata")), ("dense", ("weight",)))
    ]
    return Measured.of(100 * (1 - stored[0] / stored[1]))


@measure
def operations_per_byte(_: Bench, design: str, tokens: int, inner: int, outputs: int) -> Measured:
    """Operations of a linear layer at 16 bit over the bytes that it moves."""
    op = _linear(tokens, inner, outputs)
    cost = make(design, {"bits": 16})[0].cost(op, None, 0)
    return Measured.of(op.operations / sum(moved.useful_bytes for moved in cost.traffic.values()))
