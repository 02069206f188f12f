"""`simulate export`: the same requests and memory, or the same matrix products, for other simulators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from simulator.cli import options
from simulator.cli.progress import Bar
from simulator.errors import InvalidValueError, UnknownNameError, nearest
from simulator.workload import ReadRequest

if TYPE_CHECKING:
    from simulator.exchange import Exported

__all__ = ["export"]

MODEL_TOOLS = ("scalesim", "timeloop")
_UNITS = {"dramsim3": "bursts", "ramulator2": "bursts", "scalesim": "products", "timeloop": "products"}


def export(
    context: typer.Context,
    to: Annotated[
        str,
        typer.Option(
            help="dramsim3 or ramulator2, of a trace; scalesim or timeloop, of a model.",
            autocompletion=options.starting_with(lambda: list(_UNITS)),
        ),
    ],
    out: Annotated[str, typer.Option("--out", "-o", metavar="FOLDER", help="The folder to write into.")],
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="TRACE|MODEL",
            help="A file of requests, also compressed by gzip, or - for stdin; or a model, as of run.",
            show_default=False,
        ),
    ] = None,
    memory: options.TraceMemory = None,
    set_: options.SetMemory = [],  # noqa: B006 - typer copies it
    no_merge: options.NoMerge = False,
    schedule: options.Schedule = None,
    seq_len: options.SeqLen = None,
    batch: options.Batch = 1,
    generate: options.Generate = None,
    config: options.Config = None,
    heads: options.Heads = None,
    trust_pickle: options.TrustPickle = False,
    arch: Annotated[str, typer.Option("--arch", "-a", help="The systolic array in SCALE-Sim's configuration.")] = (
        "systolic"
    ),
    quiet: options.Quiet = False,
) -> None:
    """Write what other simulators read, for others to check.

    Of a TRACE the bursts and the memory, for DRAMsim3 or Ramulator 2; of a MODEL the matrix products of linear layers
    and attention, for SCALE-Sim or Timeloop. The folder gets a README.md that says how to run them and what cannot be
    expressed.
    """
    if to not in _UNITS:
        raise UnknownNameError(f"no format named {to!r}", where="--to", hint=nearest(to, _UNITS))
    if source is None:
        what, expected = ("model", "as of run") if to in MODEL_TOOLS else ("trace", "a file, or - for stdin")
        raise InvalidValueError(f"no {what} is given", where="simulate export", expected=expected)
    _refuse_others(context, to)
    if to in MODEL_TOOLS:
        from simulator.exchange.model import export_model

        request = ReadRequest(None, schedule, seq_len, batch, generate, config, heads, trust_pickle)
        done = export_model(options.read(source, request), to, out, arch)
    else:
        done = _trace(source, to, out, memory, set_, no_merge, quiet)
    if not quiet:
        names = [str(path) for path in done.files]
        shown = ", ".join(names if len(names) <= 4 else [*names[:2], f"{len(names) - 4} more", *names[-2:]])
        typer.echo(f"{done.count} {_UNITS[to]} in {shown}")
        for sentence in done.differences:
            typer.echo(f"note: {sentence}")


def _trace(
    trace: str, to: str, out: str, memory: str | None, settings: list[str], no_merge: bool, quiet: bool
) -> Exported:
    from simulator.exchange import export_trace

    spec = options.memory_of_trace(trace, memory, settings)
    total = options.size_of(trace)
    with Bar(f"exporting to {to}", quiet or total is None) as bar:
        return export_trace(spec, trace, to, out, not no_merge, lambda read: bar.step(read, total or 0))


def _refuse_others(context: typer.Context, to: str) -> None:
    """Raise if an option is given that means nothing to this format."""
    of_traces = {"memory": "--memory", "set_": "--set", "no_merge": "--no-merge"}
    of_models = {name: f"--{name.replace('_', '-')}" for name in ("schedule", "batch", "generate", "config", "heads")}
    of_models |= {"seq_len": "--seq-len", "trust_pickle": "--trust-pickle", "arch": "--arch"}
    kind, others = ("models", of_traces) if to in MODEL_TOOLS else ("traces", of_models)
    for name, option in others.items():
        source = context.get_parameter_source(name)
        if source is not None and source.name != "DEFAULT":
            raise InvalidValueError(f"{option} has no effect on the export of {kind}", where=f"--to {to}")
