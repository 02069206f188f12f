"""`simulate run`: one model on one or several designs."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from simulator.cli import options
from simulator.cli.progress import Bar
from simulator.errors import InvalidValueError
from simulator.result import Result, dump_results
from simulator.workload import ReadRequest, Workload

__all__ = ["run"]


def run(
    model: options.Model,
    arch: options.Archs = ["spatten"],  # noqa: B006 - typer copies it
    input: options.Input = None,  # noqa: A002 - the option's name
    schedule: options.Schedule = None,
    seq_len: options.SeqLen = None,
    batch: options.Batch = 1,
    generate: options.Generate = None,
    phase: Annotated[str, typer.Option(help="all, summarise, or generate: the part to simulate.")] = "all",
    set_: options.SetDesign = [],  # noqa: B006
    memory: options.Memory = None,
    host: options.Host = "none",
    strict: Annotated[bool, typer.Option("--strict", help="Make an op that nothing runs an error.")] = False,
    require_measured: options.RequireMeasured = False,
    seed: options.Seed = 0,
    fidelity: options.Fidelity = "event",
    node: Annotated[
        float | None, typer.Option(help="Process node in nm: logic, SRAM and wires by their own rules.")
    ] = None,
    vdd: Annotated[float | None, typer.Option(help="Supply in V instead of the node's nominal one.")] = None,
    clock_ghz: Annotated[float | None, typer.Option(help="Clock in GHz instead of the design's.")] = None,
    extrapolate: Annotated[
        bool, typer.Option("--extrapolate", help="Allow a node outside those of the published constants.")
    ] = False,
    iso: options.Iso = None,
    energy_table: options.EnergyTable = [],  # noqa: B006
    json: Annotated[str | None, typer.Option(help="Write the results as JSON; - is stdout, instead of tables.")] = None,
    csv: Annotated[str | None, typer.Option(help="Write the results as CSV; - is stdout, as for --json.")] = None,
    html: Annotated[str | None, typer.Option(help="Write a report as one HTML file.")] = None,
    trace: Annotated[
        str | None, typer.Option(help="Write what each unit did when, for ui.perfetto.dev or chrome://tracing (JSON).")
    ] = None,
    dram_trace: Annotated[
        str | None, typer.Option(help="Write the requests to the DRAM; `simulate dram` repeats them. .gz: compressed.")
    ] = None,
    details: Annotated[bool, typer.Option("--details", help="Print layers and inputs as well.")] = False,
    config: options.Config = None,
    heads: options.Heads = None,
    trust_pickle: options.TrustPickle = False,
    unquantised: options.Unquantised = "8+4",
    quiet: options.Quiet = False,
) -> None:
    """Simulate MODEL on one or several designs."""
    settings = options.parse_settings(set_, arch)
    if json == csv == "-":
        raise InvalidValueError("two formats cannot share stdout", where="--json -, --csv -", hint="a file for one")
    traces = {"--trace": trace, "--dram-trace": dram_trace}
    for option, path in {"--json": json, "--csv": csv, "--html": html, **traces}.items():
        options.writable(path, option)
    _one_design_a_trace(traces, arch)
    rules = options.rules_of(arch, settings) if input is not None else ()
    given = (input, schedule, seq_len, batch, generate, config, heads, trust_pickle, unquantised)
    request = ReadRequest(*given, rules=rules)
    workload = _part(options.read(model, request), phase)
    if require_measured:
        options.refuse_assumptions(workload)
    chosen: dict[str, Any] = {"memory": memory, "host": host, "strict": strict, "seed": seed, "fidelity": fidelity}
    chosen |= {"node": node, "vdd": vdd, "clock_ghz": clock_ghz, "extrapolate": extrapolate}
    chosen |= {"iso": iso, "iso_set": settings.get(iso or ""), "energy_table": energy_table}
    chosen |= {"trace": trace, "dram_trace": dram_trace, "timeline": html is not None}
    results = [_simulate(workload, name, {**chosen, "set": settings[name]}, quiet) for name in arch]
    # Files first: a reader of stdout that stops early, such as `head`, costs none of them.
    _write_files(results, json, csv, html)
    if "-" in (json, csv):
        from simulator.report import csv_text

        typer.echo(dump_results(results) if json == "-" else csv_text(results), nl=False)
    elif not quiet:
        from simulator.report.terminal import print_results

        print_results(results, options.console(), details)


def _one_design_a_trace(traces: dict[str, str | None], archs: list[str]) -> None:
    for option, path in traces.items():
        if path == "-":
            raise InvalidValueError("a trace does not go to stdout", where=option, expected="a file name")
        if path is not None and len(archs) > 1:
            raise InvalidValueError("a trace is of one design", where=option, expected="one --arch")


def _part(workload: Workload, phase: str) -> Workload:
    if phase == "all":
        return workload
    if phase == "summarise":
        part = workload.only("summarise")
    elif phase == "generate":
        part = workload.only("generate")
    else:
        raise typer.BadParameter(f"{phase!r} is not one of all, summarise, generate", param_hint="--phase")
    if not part.ops():
        raise InvalidValueError(f"the workload has no ops of the phase {phase!r}", where="--phase", hint="--phase all")
    return part


def _simulate(workload: Workload, arch: str, chosen: dict[str, Any], quiet: bool) -> Result:
    from simulator import api  # with the compiled module and the designs: not needed for --help

    with Bar(f"simulating {arch}", quiet) as bar:
        return api.run(workload, arch, progress=bar.step, **chosen)


def _write_files(results: list[Result], json: str | None, csv: str | None, html: str | None) -> None:
    from simulator.files import write_atomic
    from simulator.report import write_csv, write_html

    if json not in (None, "-"):
        write_atomic(json, dump_results(results))
    if csv not in (None, "-"):
        write_csv(results, csv)
    if html is not None:
        write_html(results, html)
