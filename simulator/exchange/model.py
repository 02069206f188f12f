"""Writing the matrix products of a workload for another simulator, with a page on what differs."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from simulator.designs.registry import make
from simulator.designs.systolic import Systolic
from simulator.errors import InvalidValueError, UnknownNameError, UnsupportedError, nearest
from simulator.exchange import scalesim, timeloop
from simulator.exchange.folder import Exported, made_folder
from simulator.exchange.products import Grouped, grouped, products
from simulator.files import write_atomic
from simulator.workload import Workload

__all__ = ["MODEL_TOOLS", "export_model"]

MODEL_TOOLS: dict[str, ModuleType] = {"scalesim": scalesim, "timeloop": timeloop}
LAYERS = "layers.csv"


def export_model(workload: Workload, tool: str, folder: str | Path, arch: str = "systolic") -> Exported:
    """Write the products of linear layers and attention, each distinct one once, and layers.csv: how often for whom.

    Parameters
    ----------
    tool: a key of MODEL_TOOLS. folder: made if need be; its other files stay.
    arch: a systolic array, for the configuration of SCALE-Sim.

    Raises
    ------
    UnknownNameError: no such tool or design. UnsupportedError: `arch` is not a systolic array.
    InvalidValueError: the workload has no product. FileMissingError: the folder cannot be made.
    """
    if tool not in MODEL_TOOLS:
        raise UnknownNameError(f"no format named {tool!r}", where="--to", hint=nearest(tool, MODEL_TOOLS))
    writer, design = MODEL_TOOLS[tool], make(arch)[0]
    if not isinstance(design, Systolic):
        raise UnsupportedError(f"{arch} is not a systolic array", where="--arch", expected="systolic, or a file of one")
    found = grouped(products(workload), writer.key)
    if not found:
        raise InvalidValueError("the workload has no matrix product", where=f"workload {workload.name}")
    differences = (*_pruned(workload), *writer.differences(found, design))
    texts: dict[str, str] = {
        **writer.files(found, design),
        LAYERS: _layers(found, writer),
        "README.md": _page(workload, tool, writer.HOW, len(found), differences),
    }
    target = made_folder(Path(folder))
    for name, text in texts.items():
        (target / name).parent.mkdir(exist_ok=True)
        write_atomic(target / name, text)
    return Exported(tuple(target / name for name in texts), len(found), differences)


def _pruned(workload: Workload) -> list[str]:
    said = []
    if any(0 < op.local_values < max(op.values, default=0) for op in workload.attention):
        said.append("every query is multiplied with all V rows that any query of its head needs")
    if any(op.recomputed for op in workload.attention):
        said.append("the second pass over the low bits of K is left out")
    return said


def _layers(found: Sequence[Grouped], writer: ModuleType) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("layer", "kind", "M", "N", "K", "count", "pattern", "density", "place"))
    for index, group in enumerate(found):
        for p in group.all:
            kind = "linear" if p.linear else "attention"
            place = writer.place(index, group.first)
            table.writerow((p.name, kind, p.m, p.n, p.k, p.count, p.pattern, p.density, place))
    return text.getvalue()


def _page(workload: Workload, tool: str, how: tuple[str, ...], count: int, differences: Sequence[str]) -> str:
    command, *remarks = how
    lines = [
        f"# {workload.name} ({workload.schedule}), for {tool}",
        "",
        f"{count} different matrix products. {LAYERS} says for every layer which one it is, and how often it is done.",
        "",
        f"    {command}",
        "",
        *remarks,
        "",
        "What is otherwise than in the workload:",
        "",
        *(f"- {sentence}" for sentence in differences),
    ]
    return "\n".join(lines) + "\n"
