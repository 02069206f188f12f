"""`simulate capture`: a workload file from a model, to be simulated later without it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from simulator.cli import options
from simulator.errors import InvalidValueError
from simulator.report.tables import DECISIONS
from simulator.workload import ReadRequest, Workload
from simulator.workload.spatten_requests import write_requests

__all__ = ["capture"]


def capture(
    model: options.Model,
    out: Annotated[str, typer.Argument(metavar="OUT", help="The workload file to write (.json), or requests (.csv).")],
    input: options.Input = None,  # noqa: A002 - the option's name
    arch: Annotated[
        list[str], typer.Option("--arch", "-a", help="A design whose own rule decides from Q, K and V; repeat it.")
    ] = [],  # noqa: B006 - typer copies it
    set_: options.SetDesign = [],  # noqa: B006
    keep_tensors: Annotated[
        bool,
        typer.Option("--keep-tensors", help="Write Q, K and V beside OUT, so that more designs can decide later."),
    ] = False,
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

    Simulating a workload file needs neither torch nor the model. With --arch it holds what these designs decide about
    the model with nothing pruned, and the error of their attention output. A .csv holds the attention of one phase, as
    SpAtten's authors write it.
    """
    if out == "-":
        raise InvalidValueError("a workload does not go to stdout", where="OUT", expected="a file name: it may be two")
    options.writable(out, "OUT")
    csv = out.lower().endswith(".csv")
    if input is None and arch:
        raise InvalidValueError(
            "designs decide from Q, K and V, and nothing is run", where="--arch", hint="--input FILE runs MODEL"
        )
    if csv and (arch or keep_tensors):
        raise InvalidValueError("requests (.csv) hold no decisions and no tensors", where=out, expected="OUT.json")
    rules = options.rules_of(arch, options.parse_settings(set_, arch))
    given = (input, schedule, seq_len, batch, generate, config, heads, trust_pickle, unquantised)
    request = ReadRequest(*given, rules=rules, keep_tensors=out if keep_tensors else None)
    workload = options.read(model, request)
    if require_measured:
        options.refuse_assumptions(workload)
    if csv:
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
        _decided(workload)


def _decided(workload: Workload) -> None:
    """Say what the designs decided, and where the tensors are."""
    contexts = {op.place: op.context for op in workload.attention}
    for rule in dict.fromkeys(made.rule for made in workload.decisions):
        made = list(workload.decided(rule).values())
        scores, values = (sum(int(x.sum()) for x in y) for y in zip(*((m.candidates, m.values) for m in made)))
        pairs = sum(one.candidates.size * contexts[one.place] for one in made)
        errors = [one.output_error for one in made if one.output_error is not None]
        error = (sum(e * e for e in errors) / len(errors)) ** 0.5 if errors else 0.0
        shares = f"{scores / pairs:.1%} of the scores, {values / pairs:.1%} of the V rows" if pairs else "no keys"
        typer.echo(f"{rule}: {shares}; output error {error:.3g}")
    if workload.tensors is not None:
        typer.echo(f"Q, K and V: {workload.tensors.path}")
