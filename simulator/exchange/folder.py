"""Writing an exported trace: the requests, the configuration, and a page on what differs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from simulator.errors import FileMissingError, InvalidValueError, UnknownNameError, nearest
from simulator.exchange import dramsim3, ramulator2
from simulator.exchange.requests import read_bursts
from simulator.files import replacing, write_atomic
from simulator.memory.spec import MemorySpec

__all__ = ["TOOLS", "Exported", "export_trace", "made_folder"]

TOOLS: dict[str, ModuleType] = {"dramsim3": dramsim3, "ramulator2": ramulator2}


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written: files, how many bursts or products, and in sentences what the other tool cannot express."""

    files: tuple[Path, ...]
    count: int
    differences: tuple[str, ...]


def export_trace(
    spec: MemorySpec,
    source: str | Path,
    tool: str,
    folder: str | Path,
    merge: bool = True,
    progress: Callable[[int], None] | None = None,
) -> Exported:
    """Write the bursts of a trace and the memory in the formats of another simulator, in memory that does not grow.

    Parameters
    ----------
    tool: a key of TOOLS. folder: made if need be; its other files stay. merge, progress: as `read_bursts`.

    Raises
    ------
    UnknownNameError: no such tool. UnsupportedError: a memory that the tool cannot express.
    FileMissingError: the folder cannot be made in a folder that does not exist, or no such trace.
    CorruptFileError, InvalidValueError: a bad trace; nothing is written then.
    """
    if tool not in TOOLS:
        raise UnknownNameError(f"no format named {tool!r}", where="--to", hint=nearest(tool, TOOLS))
    writer = TOOLS[tool]
    configuration, differences = writer.configuration(spec), tuple(writer.differences(spec))
    target = made_folder(Path(folder))
    trace, page, config = target / writer.TRACE, target / "README.md", target / writer.CONFIG
    count = 0
    with replacing(trace) as part, part.open("w", encoding="ascii") as stream:
        for bursts in read_bursts(spec, source, merge, progress):
            stream.write(writer.trace_lines(spec, bursts))
            count += len(bursts.addresses)
    write_atomic(config, configuration)
    write_atomic(page, _page(spec, source, tool, writer.HOW, count, differences))
    return Exported((trace, config, page), count, differences)


def made_folder(path: Path) -> Path:
    """Return the folder, made if need be; raises as `export_trace`."""
    if path.exists() and not path.is_dir():
        raise InvalidValueError("there is a file of this name", where=str(path), expected="a folder, or a new name")
    if not path.absolute().parent.is_dir():
        raise FileMissingError("the folder to make a folder in does not exist", where=str(path.absolute().parent))
    path.mkdir(exist_ok=True)
    return path


def _page(
    spec: MemorySpec, source: str | Path, tool: str, how: tuple[str, ...], count: int, differences: tuple[str, ...]
) -> str:
    name = "standard input" if str(source) == "-" else Path(source).name
    command, *remarks = how
    lines = [
        f"# {name} on {spec.name}, for {tool}",
        "",
        f"{count} bursts of {spec.organisation.burst_bytes} B, in the order of the trace.",
        "",
        f"    {command}",
        "",
        *remarks,
        "",
        "What the configuration says otherwise than the memory:",
        "",
        *(f"- {sentence}" for sentence in differences or ("nothing that we know of",)),
    ]
    return "\n".join(lines) + "\n"
