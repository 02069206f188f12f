"""Options that several commands share, and reading what they hold."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from simulator.errors import (
    AssumedInputError,
    ConfigError,
    FileMissingError,
    InvalidValueError,
    UnknownNameError,
    nearest,
)
from simulator.workload import ReadRequest, Workload
from simulator.workload.named import builtin_workloads
from simulator.workload.schedule import builtin_names

if TYPE_CHECKING:
    from simulator.designs.decision import Rule
    from simulator.engine.interface import Fidelity as Fidelities
    from simulator.memory import MemorySpec

__all__ = [
    "Archs",
    "Batch",
    "Config",
    "EnergyTable",
    "Fidelity",
    "Generate",
    "Heads",
    "Host",
    "Input",
    "Iso",
    "Memory",
    "Model",
    "NoMerge",
    "Quiet",
    "RequireMeasured",
    "Schedule",
    "Seed",
    "SeqLen",
    "SetDesign",
    "SetMemory",
    "Trace",
    "TraceMemory",
    "TrustPickle",
    "Unquantised",
    "console",
    "fidelity_of",
    "memory_of_trace",
    "parse_settings",
    "read",
    "refuse_assumptions",
    "rules_of",
    "size_of",
    "writable",
]


def starting_with(names: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """Return a completion function for an option that takes one of `names`."""
    return lambda incomplete: [name for name in names() if name.startswith(incomplete)]


def _memories() -> list[str]:
    from simulator.memory.spec import standard_names

    return standard_names()


def _designs() -> list[str]:
    from simulator.designs.registry import design_names

    return design_names()


Archs = Annotated[
    list[str],
    typer.Option(
        "--arch",
        "-a",
        help="A design, or a YAML file of one; repeat it to compare.",
        autocompletion=starting_with(_designs),
    ),
]
Iso = Annotated[
    str | None,
    typer.Option(
        help="Give every design the multipliers, bandwidth and SRAM of this one, as far as its settings allow.",
        autocompletion=starting_with(_designs),
    ),
]
Memory = Annotated[str | None, typer.Option(help="Another memory: a standard, a YAML file, or ideal.")]
Host = Annotated[str, typer.Option(help="What runs the ops that the design does not: none, or name:GFLOPS,GB/s.")]
Fidelity = Annotated[
    str,
    typer.Option(
        help="event, analytical (closed forms, at once), or authors (the formula released with SpAtten, for BERT).",
        autocompletion=starting_with(lambda: ["analytical", "event", "authors"]),
    ),
]
Seed = Annotated[int, typer.Option(help="Of every random choice.")]
Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="Our safetensors, a Hugging Face folder, a state dict (.pt), a saved workload (.json), requests as "
        "SpAtten's authors write them (.csv, .csv.gz), or one of: " + ", ".join(builtin_workloads()),
        autocompletion=starting_with(builtin_workloads),
    ),
]
Input = Annotated[
    str | None, typer.Option(help="Token ids, a text file or tensors: run the model on it and measure what it prunes.")
]
Schedule = Annotated[
    str | None,
    typer.Option(
        help="Where there is no --input: a YAML file, or one of " + ", ".join(builtin_names()) + " [default: the "
        "documented one of the model's family]",
        autocompletion=starting_with(builtin_names),
    ),
]
SeqLen = Annotated[
    int | None, typer.Option(help="Tokens per sequence [default: 128; decoders 992; a built-in model its own].", min=1)
]
Batch = Annotated[int, typer.Option(help="Number of sequences.", min=1)]
Generate = Annotated[
    int | None, typer.Option(help="Tokens to generate after the prompt [default: 0, for decoders 32].", min=0)
]
Config = Annotated[str | None, typer.Option(help="A Hugging Face config.json, for what tensor shapes cannot tell.")]
Heads = Annotated[int | None, typer.Option(help="Number of attention heads, for the same.", min=1)]
SetDesign = Annotated[
    list[str],
    typer.Option("--set", help="Change a parameter: dram.channels=8, or of one design: spatten:dram.channels=8."),
]
EnergyTable = Annotated[
    list[str],
    typer.Option(
        metavar="FILE",
        help="Energies and areas from Accelergy's tables (ERT, ART) instead of the design's; repeat it for more files.",
    ),
]
TrustPickle = Annotated[bool, typer.Option("--trust-pickle", help="Allow running code from a pickled model file.")]
RequireMeasured = Annotated[
    bool, typer.Option("--require-measured", help="Make any assumed pruning decision an error.")
]
Unquantised = Annotated[
    str, typer.Option(help="Widths of -1 in requests (.csv): 8+4 as SpAtten's released programs run them, or 32.")
]
Trace = Annotated[
    str | None,
    typer.Argument(
        metavar="TRACE", help="A file of requests, also compressed by gzip, or - for stdin.", show_default=False
    ),
]
TraceMemory = Annotated[
    str | None,
    typer.Option(
        help="A shipped memory or a YAML file [default: what the trace says, as those of `simulate run --dram-trace` "
        "do; else hbm2].",
        autocompletion=starting_with(_memories),
    ),
]
SetMemory = Annotated[
    list[str],
    typer.Option(
        "--set", help="Change a value of the memory: tRCD=14ns, organisation.channels=4, controller.rows=closed, ..."
    ),
]
NoMerge = Annotated[
    bool, typer.Option("--no-merge", help="Send also a burst equal to the one just before it (same line, direction).")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]


def console() -> Console:
    """Return the console for results: as wide as the terminal, or wide enough for every table if there is none."""
    return Console(width=None if sys.stdout.isatty() else 200, highlight=False)


def read(model: str, request: ReadRequest) -> Workload:
    """Return the workload of MODEL; see `simulator.workload.reader.read_workload` for the errors."""
    from simulator.workload.reader import read_workload

    return read_workload(model, request)


def rules_of(archs: Iterable[str], settings: Mapping[str, Mapping[str, Any]]) -> tuple[Rule, ...]:
    """Return the pruning rules of designs that decide from Q, K and V, with what --set changes; raises as `make`."""
    from simulator.designs.registry import make

    rules = (make(arch, settings.get(arch))[0].rule for arch in archs)
    return tuple({rule.name: rule for rule in rules if rule is not None}.values())


def fidelity_of(name: str) -> Fidelities:
    """Return the fidelity of that name.

    Raises
    ------
    UnknownNameError: there is none.
    """
    from simulator.engine.interface import FIDELITIES

    for known in FIDELITIES:
        if known == name:
            return known
    hint = nearest(name, FIDELITIES)
    raise UnknownNameError(f"no fidelity named {name!r}", where="--fidelity", expected=", ".join(FIDELITIES), hint=hint)


def refuse_assumptions(workload: Workload) -> None:
    """Raise AssumedInputError if anything in the workload is assumed (--require-measured)."""
    assumed = [name for name, kind in workload.kinds().items() if kind == "assumed"]
    if assumed:
        raise AssumedInputError(
            f"these inputs are assumed: {', '.join(assumed)}",
            where=f"workload {workload.name}, schedule {workload.schedule}",
            expected="measured or published inputs, as --require-measured asks for",
            hint="--input FILE runs the model and measures them",
        )


def parse_settings(given: Iterable[str], archs: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the settings of each design: {"spatten": {"dram.channels": "8"}} for ["dram.channels=8"].

    "systolic:array.rows=16" is for one of several designs only. The design converts the values.

    Raises
    ------
    ConfigError: no "=", no key, a key given twice, or a design that is not simulated.
    """
    settings: dict[str, dict[str, Any]] = {arch: {} for arch in archs}
    for text in given:
        name, equals, value = text.partition("=")
        arch, colon, key = name.strip().rpartition(":")
        if not equals or not key or not value.strip():
            expected = "key=value, such as dram.channels=8"
            raise ConfigError(f"{text!r} is not a setting", where="--set", expected=expected)
        if colon and arch not in settings:
            raise ConfigError(f"{arch!r} is not simulated", where=f"--set {text}", hint=nearest(arch, archs))
        for design in [arch] if colon else settings:
            if key in settings[design]:
                raise ConfigError(f"the key {key!r} is given twice", where="--set")
            settings[design][key] = value.strip()
    return settings


def memory_of_trace(trace: str | None, name: str | None, given: Iterable[str]) -> MemorySpec:
    """Return the memory to replay a trace on: `name`, or what its head says, or hbm2, with the values of --set.

    Of a head that says another memory than `name` only the admission holds. See `simulator.memory.load_memory` for the
    errors.
    """
    from simulator.memory import load_memory
    from simulator.memory.recorder import TraceHead, read_head

    head = TraceHead() if trace is None else read_head(trace)
    settings = head.settings if name in (None, head.memory) else head.admission
    return load_memory(name or head.memory or "hbm2", settings={**settings, **_memory_settings(given)})


def _memory_settings(given: Iterable[str]) -> dict[str, str]:
    settings: dict[str, str] = {}
    for text in given:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not (equals and key and value):
            raise ConfigError(f"{text!r} is not a setting", where="--set", expected="key=value, such as tRCD=14ns")
        if key in settings:
            raise ConfigError(f"the key {key!r} is given twice", where="--set")
        settings[key] = value
    return settings


def size_of(path: str) -> int | None:
    """Return the bytes of a regular file, None for anything else, such as a pipe."""
    return Path(path).stat().st_size if Path(path).is_file() else None


def writable(path: str | None, option: str) -> None:
    """Raise before a long run, not after it, if an output file cannot be written where it is to be."""
    if path is None or path == "-":
        return
    if not Path(path).absolute().parent.is_dir():
        raise FileMissingError("the folder to write into does not exist", where=f"{option} {path}")
    if Path(path).is_dir():
        raise InvalidValueError("there is a folder of this name", where=f"{option} {path}", expected="a file name")
