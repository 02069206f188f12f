"""Running a simulation from Python: `simulator.run`; `simulator.compare` is `simulator.comparison.factors`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from simulator.comparison import Factors as Comparison
from simulator.comparison import factors as compare
from simulator.designs.energy_table import Replaced, replaced_constants
from simulator.designs.iso import Equalised, equalised
from simulator.designs.offline import with_decisions
from simulator.designs.registry import Parameter, Resolved, make, resolve
from simulator.engine.accounting import Ledger, Observer
from simulator.engine.host import Host, parse_host
from simulator.engine.interface import FIDELITIES, Design, Fidelity
from simulator.engine.memory_inputs import memory_inputs
from simulator.engine.technology import area_items, native_run, operating_point, rescaled, technology_result
from simulator.engine.watch import LongestOp, SpanWatch, recorded, timeline_of
from simulator.errors import InvalidValueError, UnknownNameError, UnsupportedError, nearest
from simulator.result import InputField, Result
from simulator.workload.decisions import OF_THE_RUN
from simulator.workload.describe import describe
from simulator.workload.ir import Workload
from simulator.workload.reader import read_workload

__all__ = ["Comparison", "compare", "run"]

MOST_REMARKS = 12  # of a design on how it runs single ops


def run(
    workload: Workload | str | os.PathLike[str],
    arch: str | Resolved = "spatten",
    *,
    set: Mapping[str, Any] | None = None,  # noqa: A002 (the name of the command's option)
    memory: str | None = None,
    host: str = "none",
    strict: bool = False,
    seed: int = 0,
    fidelity: Fidelity = "event",
    node: float | None = None,
    vdd: float | None = None,
    clock_ghz: float | None = None,
    extrapolate: bool = False,
    iso: str | None = None,
    iso_set: Mapping[str, Any] | None = None,
    energy_table: Sequence[str | os.PathLike[str]] = (),
    trace: str | os.PathLike[str] | None = None,
    dram_trace: str | os.PathLike[str] | None = None,
    timeline: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Result:
    """Simulate a workload on a design.

    Parameters
    ----------
    workload: a Workload, or what `simulate MODEL` takes: a saved one, a model file or folder, a built-in model.
    arch: the name of a design, or a YAML file with `base:` and the numbers that differ, or what `resolve` made of one.
    set: dotted keys of the design's settings with new values, such as {"dram.channels": 8}.
    memory: a shipped memory or a YAML file, instead of the design's.
    host: what runs the ops that the design does not: "none", or "name:GFLOPS,GB/s" for a roofline.
    strict: make it an error if any op is left to nobody.
    seed: of every random choice (positions that the workload does not give). Equal seeds give equal results.
    fidelity: "event"; "analytical": a closed form of every op; "authors": the time by the formula of SpAtten's authors,
        for SpAtten and what that can express.
    node, vdd, clock_ghz: process node in nm, supply in V and clock in GHz instead of the design's own; the result shows
        both. extrapolate: allow a node outside those for which the constants are published.
    iso: a design whose multipliers, bandwidth and SRAM this one gets, as far as its settings allow; the notes say what
        was changed and what is not equal. iso_set: settings of that design that differ, as `set`.
    energy_table: files with Accelergy's tables of energies and areas (ERT, ART), which stand for constants of the
        design, and sections `map` that say for which; the notes list what was not mapped.
    trace: write the timeline of the units to this file, for Perfetto. dram_trace: write the requests to the memory, for
        `simulate dram`; compressed if the name ends in .gz. timeline: keep what the units did in the longest attention
        op in the result. All three are of the event engine alone.
    progress: called with ops done and ops in all.

    Raises
    ------
    UnknownNameError: no such design, memory or fidelity. ConfigError: an unknown or mistyped key.
    FileMissingError, CorruptFileError, FormatVersionError: the saved workload, or as `read_workload` for a model.
    UnsupportedError: an op does not fit the design, or `strict` and something is not modelled; a fidelity that the
        design does not have, or whose formula cannot express an op; `trace` or `dram_trace` without the event engine.
        or no entry of `energy_table` stands for a constant of the design (its other errors: as `read_tables`).
    MissingTensorsError: the workload was captured for other designs, and its Q, K and V were not kept.
    InvalidValueError: a node outside the published ones without `extrapolate`, `host` is not understood, or a seed
        below 0.
    """
    if seed < 0:
        raise InvalidValueError(f"the seed is {seed}", where="seed", expected="0 or more")
    if fidelity not in FIDELITIES:
        raise UnknownNameError(
            f"no fidelity named {fidelity!r}",
            where="--fidelity",
            expected=", ".join(FIDELITIES),
            hint=nearest(fidelity, FIDELITIES),
        )
    if not isinstance(workload, Workload):
        workload = read_workload(os.fspath(workload))
    roofline = parse_host(host)
    equal = equalised(arch, iso, set, iso_set, memory) if iso is not None else Equalised({}, ())
    set = {**(set or {}), **equal.changes}  # noqa: A001
    table = replaced_constants(arch, energy_table, set, memory) if energy_table else Replaced({}, {}, ())
    set |= table.changes  # noqa: A001
    asked = operating_point(set, node, vdd, clock_ghz, extrapolate)
    design, resolved = make(arch, {**set, **asked}, memory, seed)
    resolved = resolved.explained({**dict.fromkeys(equal.changes, f"--iso {iso}"), **table.sources})
    design.use(fidelity)
    workload = with_decisions(workload, design.rule)
    ledger = Ledger(workload, design, roofline)
    if strict:
        _refuse_left_out(ledger, resolved)
    longest = LongestOp()
    with _watching(ledger, trace, dram_trace, str(resolved.document.data["name"])) as watches:
        ledger.observers = (*watches, longest)
        ledger.run(progress)
    native = ledger
    if rescaled(asked, resolve(arch, set), resolved):
        native = native_run(workload, ledger, arch, set, memory, seed)
    result = _result(ledger, native, resolved, seed)
    result = replace(result, notes=(*equal.notes, *table.notes, *result.notes))
    return replace(result, timeline=timeline_of(design, longest)) if timeline else result


@contextmanager
def _watching(
    ledger: Ledger, trace: str | os.PathLike[str] | None, dram_trace: str | os.PathLike[str] | None, name: str
) -> Iterator[list[Observer]]:
    """Yield what writes the traces that are asked for; they are complete when the block ends."""
    from simulator.report.perfetto import PerfettoTrace

    design, title = ledger.design, f"{name} on {ledger.workload.name}"
    watches: list[Observer] = []
    with ExitStack() as stack:
        if dram_trace is not None:
            watches.append(stack.enter_context(recorded(design, os.fspath(dram_trace), title)))
        if trace is None:
            yield watches
            return
        if design.fidelity != "event":
            raise UnsupportedError(f"the fidelity {design.fidelity} has no timeline", where="--trace", expected="event")
        events = PerfettoTrace(title, design.clock_ghz)
        yield [*watches, SpanWatch(design, events)]
        events.save(trace)


def _refuse_left_out(ledger: Ledger, resolved: Resolved) -> None:
    if ledger.host is not None:
        return
    left: dict[str, int] = {}
    ops = tuple(ledger.executed.ops())
    for op in ops:
        if not ledger.design.runs(op):
            name = getattr(op, "name", "attention")
            left[name] = left.get(name, 0) + 1
    if left:
        first = ", ".join(list(left)[:8]) + (", ..." if len(left) > 8 else "")
        raise UnsupportedError(
            f"{resolved.document.data['name']} does not model {sum(left.values())} of {len(ops)} ops: {first}",
            where="--strict",
            hint="give a host for them (--host name:GFLOPS,GB/s) or leave out --strict",
        )


def _result(ledger: Ledger, native: Ledger, resolved: Resolved, seed: int) -> Result:
    design, workload, data = ledger.design, ledger.workload, resolved.document.data
    output_error, error_kind = ledger.output_error()
    return Result(
        design=str(data["name"]),
        design_description=str(data["description"]),
        parameters={parameter.name: parameter.value for parameter in resolved.parameters},
        workload=workload.name,
        model=workload.model,
        schedule=ledger.executed.schedule,
        seed=seed,
        clock_ghz=design.clock_ghz,
        fidelity=design.fidelity,
        scopes=ledger.scopes(),
        layers=ledger.layers(),
        units=ledger.units(),
        streams=ledger.streams(),
        energy=ledger.energy_items(),
        not_modelled=ledger.not_modelled(),
        inputs=_inputs(ledger, resolved),
        notes=_notes(ledger),
        peak_gops=design.peak_gops,
        peak_gbps=design.memory_spec.peak_gb_per_s,
        area=area_items(design),
        technology=technology_result(ledger, native),
        output_error=output_error,
        error_kind=error_kind,
        resources=dict(design.amounts),
    )


def _inputs(ledger: Ledger, resolved: Resolved) -> tuple[InputField, ...]:
    workload, found = ledger.workload, []
    said = describe(workload)
    source = f"{workload.schedule}; {workload.source}" if workload.source else workload.schedule
    for name, kind in workload.kinds().items():
        found.append(InputField(f"workload.{name}", said.get(name, ""), kind, source))
    for name, (value, choice, source) in ledger.open_choices.items():
        found.append(InputField(f"workload.{name}", value, choice, source))
    found.extend(InputField(f"design.{p.name}", _scalar(p), p.kind, p.source) for p in resolved.parameters)
    found.extend(memory_inputs(ledger.design))
    for name, energy in ledger.energies.items():
        found.append(InputField(f"energy.{name}", None, energy.kind, energy.source))
    if ledger.host is not None:
        found.append(_host_input(ledger.host))
    return tuple(found)


def _host_input(host: Host) -> InputField:
    value = f"{host.gflops:g} GFLOPS, {host.gb_per_s:g} GB/s"
    return InputField(f"host.{host.name}", value, "assumed", "--host: a roofline, no kernel reaches it")


def _scalar(parameter: Parameter) -> str | int | float | bool | None:
    value = parameter.value
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)


def _notes(ledger: Ledger) -> tuple[str, ...]:
    design: Design = ledger.design
    notes = list(ledger.workload.notes)
    if not design.prunes and design.rule is not None:
        notes.append("the design decides about keys by its own rule, in the attention of the model with nothing pruned")
        decided, kind, source = ledger.open_choices.get("decisions", ("", "measured", ""))
        if kind != "measured":
            notes.append(f"{decided}: {kind}; {source}")
    elif not design.prunes:
        notes.append("the design does not prune: attention and linear layers are run in their dense form")
    elif design.rule is None and ledger.workload.decided(OF_THE_RUN):
        notes.append("in the output error the queries and heads that the run pruned count as zeros")
    remarks = list(ledger.remarks)
    notes += remarks[:MOST_REMARKS]
    if len(remarks) > MOST_REMARKS:
        notes.append(f"and {len(remarks) - MOST_REMARKS} more remarks of this kind")
    dram = [energy for energy in ledger.energies.values() if energy.group == "dram"]
    if dram:
        low, high = (sum(getattr(energy, end) for energy in dram) * 1e-12 for end in ("low_pj", "high_pj"))
        notes.append(f"DRAM energy between {low:.4g} and {high:.4g} J over the spread of the published constants")
    if design.area_note and design.areas():
        notes.append(f"area: {design.area_note}")
    notes.append("sequences run one after the other; so do the ops, each starting with all DRAM rows closed")
    if design.fidelity == "analytical":
        notes.append("times by closed forms: no event and no DRAM is simulated")
    if design.fidelity == "authors":
        notes.append("time by the formula of SpAtten's authors; it has no counts: these are by closed forms")
    return tuple(notes)
