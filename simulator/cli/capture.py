"""`simulate capture`: a workload file from a model, to be simulated later without it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from simulator.cli import options
from simulator.errors import InvalidValueError
from simulator.report.tables import DECISIONS
from simulator.workload import ReadRequest
from simulator.workload.spatten_requests import write_requests

__all__ = ["capture"]


def capture(
    model: options.Model,
    out: Annotated[str, typer.Argument(metavar="OUT", help="The workload file to write (.json), or requests (.csv).")],
    input: options.Input = None,  # noqa: A002 - the option's name
    schedule: options.Schedule = None,
    seq_len: options.SeqLen = None,
    batch: options.Batch = 1,
    generate: options.Generate = None,
    require_measured: options.RequireMeasured = False,
    config: options.Config = None,
    heads: options.Heads = None,
    trust_pickle: options.TrustPickle = False,
    unquantised: options.Unquantised = "8+4",
    quiet: options.Quiet = False,
) -> None:
    """Write the workload of MODEL to OUT: what it computes, and with --input what it really prunes.

    Simulating a workload file needs neither torch nor the model. A .csv holds the attention of one phase, as SpAtten's
    authors write it.
    """
    if out == "-":
        raise InvalidValueError("a workload does not go to stdout", where="OUT", expected="a file name: it may be two")
    options.writable(out, "OUT")
    request = ReadRequest(input, schedule, seq_len, batch, generate, config, heads, trust_pickle, unquantised)
    workload = options.read(model, request)
    if require_measured:
        options.refuse_assumptions(workload)
    if out.lower().endswith(".csv"):
        write_requests(workload, Path(out))
        workload = dataclasses.replace(workload, linear=(), other=())  # the format has no rows for them
    else:
        workload.save(out)
    if not quiet:
        kinds = workload.kinds()
        marked = [f"{words} {kinds[name]}" for name, words in DECISIONS.items() if name in kinds]
        assumed = "ASSUMED: " if "assumed" in (kinds.get(name) for name in DECISIONS) else ""
        typer.echo(f"{assumed}{', '.join(marked)} by {workload.schedule}")
        counts = f"{len(workload.attention)} attention, {len(workload.linear)} linear, {len(workload.other)} other ops"
        typer.echo(f"{out}: {len(workload.sequences)} sequences, {counts}")
