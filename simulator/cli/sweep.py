"""`simulate sweep`: many points, kept on disk as they come."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simulator.cli import options
from simulator.cli.options import starting_with
from simulator.cli.progress import Bar
from simulator.errors import InvalidValueError, UnsupportedError
from simulator.workload import ReadRequest
from simulator.workload.named import builtin_workloads

if TYPE_CHECKING:
    from simulator.explore import Done, Plan, Record, Store, Where

__all__ = ["sweep"]


def sweep(
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL...", help="As of run.", autocompletion=starting_with(builtin_workloads)),
    ],
    arch: options.Archs = ["spatten"],  # noqa: B006 - typer copies it
    vary: Annotated[
        list[str],
        typer.Option(
            help="key=1,2,4, key=1:16:x2 or key=0.1:0.9:0.1, of a design's parameters, or of one: spatten:key=...; "
            "also seq_len, batch, generate, schedule, memory, fidelity, seed. Repeat it for more."
        ),
    ] = [],  # noqa: B006
    out: Annotated[
        str, typer.Option("--out", "-o", metavar="FOLDER", help="Where points are kept and taken.")
    ] = "sweep",
    set_: options.SetDesign = [],  # noqa: B006
    iso: options.Iso = None,
    energy_table: options.EnergyTable = [],  # noqa: B006
    memory: options.Memory = None,
    host: options.Host = "none",
    fidelity: options.Fidelity = "event",
    seed: options.Seed = 0,
    input: options.Input = None,  # noqa: A002 - the option's name
    schedule: options.Schedule = None,
    seq_len: options.SeqLen = None,
    batch: options.Batch = 1,
    generate: options.Generate = None,
    config: options.Config = None,
    heads: options.Heads = None,
    trust_pickle: options.TrustPickle = False,
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", help="Processes [default: as many as CPUs].", min=1)
    ] = None,
    cluster: Annotated[
        str | None, typer.Option(metavar="tcp://HOST:PORT", help="The scheduler of a running Dask cluster instead.")
    ] = None,
    search: Annotated[
        int | None,
        typer.Option(metavar="N", help="Try N points that NSGA-II chooses by time, energy and area, not all.", min=1),
    ] = None,
    scope: Annotated[str, typer.Option(help="attention, linear, other or total: what times and energies are of.")] = (
        "attention"
    ),
    csv: Annotated[str | None, typer.Option(help="Write all points as CSV; - is stdout, instead of the table.")] = None,
    parquet: Annotated[str | None, typer.Option(help="Write all points as Parquet.")] = None,
    html: Annotated[str | None, typer.Option(help="Write pictures and the best points as one HTML file.")] = None,
    quiet: options.Quiet = False,
) -> None:
    """Simulate MODEL on designs with every combination of the values of --vary.

    Each point is kept in FOLDER as soon as it is there: the same command, after whatever stopped it, goes on; another
    sweep takes what it has in common. Ctrl-C loses nothing but the points under way.
    """
    from simulator.explore import Plan, Store, Where, parse_axis

    _check_outputs(scope, csv, parquet, html)
    settings = options.parse_settings(set_, arch)
    if energy_table:
        from simulator.designs.energy_table import replaced_constants

        settings = {n: s | replaced_constants(n, energy_table, s, memory).changes for n, s in settings.items()}
    rules = options.rules_of(arch, settings) if input is not None else ()
    request = ReadRequest(input, schedule, seq_len, batch, generate, config, heads, trust_pickle, rules=rules)
    plan = Plan(
        models=tuple(models),
        archs=tuple(arch),
        axes=tuple(parse_axis(text, tuple(arch)) for text in vary),
        settings=settings,
        request=request,
        memory=memory,
        host=host,
        fidelity=options.fidelity_of(fidelity),
        seed=seed,
        iso=iso,
    )
    where = Where(jobs or len(os.sched_getaffinity(0)), cluster)
    with Store(out) as store:
        done = _run(plan, store, where, search, scope, quiet)
    _refuse_all_failed(done)
    _write(done.records, scope, csv, parquet, html)
    if csv != "-" and not quiet:
        _print(done, store, scope)


def _check_outputs(scope: str, csv: str | None, parquet: str | None, html: str | None) -> None:
    if scope not in ("attention", "linear", "other", "total"):
        raise typer.BadParameter(f"{scope!r} is not one of attention, linear, other, total", param_hint="--scope")
    for option, path in {"--csv": csv, "--parquet": parquet, "--html": html}.items():
        options.writable(path, option)
        if path == "-" and option != "--csv":
            raise InvalidValueError("only CSV goes to stdout", where=f"{option} -", expected="a file name")
    if parquet is not None:
        from simulator.explore.table import require_arrow

        require_arrow()


def _run(plan: Plan, store: Store, where: Where, trials: int | None, scope: str, quiet: bool) -> Done:
    from simulator.explore import sweep as run_all

    total = len(plan) if trials is None else trials
    with Bar(f"{total:,} points", quiet) as bar:
        try:
            if trials is None:
                return run_all(plan, store, where, bar.step)
            from simulator.explore.search import search

            return search(plan, store, trials, where, scope, bar.step)
        except KeyboardInterrupt:
            bar.stop()
            typer.echo(f"stopped: {len(store.records):,} points are kept in {store.path}", err=True)
            typer.echo("  try: the same command, which goes on from there", err=True)
            raise typer.Exit(130) from None


def _refuse_all_failed(done: Done) -> None:
    if done.records and done.failed == len(done.records):
        first = done.records[0]
        raise UnsupportedError(
            f"none of the {len(done.records)} points has a result; the first: {(first.error or '').splitlines()[0]}",
            where=f"{first.arch} on {first.model}",
            hint="other values for --vary, or another design",
        )


def _write(records: Sequence[Record], scope: str, csv: str | None, parquet: str | None, html: str | None) -> None:
    from simulator.explore.table import csv_text, write_parquet
    from simulator.files import write_atomic
    from simulator.report.sweep_page import sweep_page

    if csv not in (None, "-"):
        write_atomic(csv, csv_text(records))
    if parquet is not None:
        write_parquet(records, parquet)
    if html is not None:
        write_atomic(html, sweep_page(records, scope))
    if csv == "-":
        typer.echo(csv_text(records), nl=False)


def _print(done: Done, store: Store, scope: str) -> None:
    from simulator.explore.table import by_work
    from simulator.report.sweep_page import best_table, failures_table
    from simulator.report.terminal import print_table

    console = options.console()
    said: list[Any] = [f"{len(done.records):,} points", f"{done.simulated:,} simulated", f"{done.taken:,} were stored"]
    if store.damaged:
        said.append(f"{store.damaged} lines of {store.path} were not readable")
    console.print(", ".join(said) + f"; all in {store.path}", soft_wrap=True)
    for work, own in by_work(done.records).items():
        table = best_table(own, scope)
        if table.rows:
            console.print(f"\n{work}", style="bold", markup=False)
            print_table(table, console)
    failed = failures_table(done.records)
    if failed.rows:
        print_table(failed, console)
