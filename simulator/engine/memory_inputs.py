"""The values of a design's memory as inputs of a result, each with its source."""

from __future__ import annotations

from simulator.engine.interface import Design
from simulator.memory import Memory
from simulator.memory.parameters import parameters_of, remarks_of
from simulator.memory.spec import memory_file
from simulator.result import InputField
from simulator.workload.ir import Kind

__all__ = ["memory_inputs"]

_ELSEWHERE = ("energy.", "admission.")  # the constants of the energy are inputs of their own


def memory_inputs(design: Design) -> list[InputField]:
    """Return the memory itself, and all its values; of the ideal memory the first alone.

    A value is assumed where the remark beside it in the file starts with "ours", or where it is the model's default.
    """
    spec, memory = design.memory_spec, design.memory
    found = [InputField("memory", spec.name, "published", spec.description)]
    if not isinstance(memory, Memory):
        return found
    first, remarks = remarks_of(memory_file(design.memory_name))
    for name, value in parameters_of(memory.spec).items():
        if not name.startswith(_ELSEWHERE):
            kind, source = _source(name, first, remarks)
            found.append(InputField(f"memory.{name}", value, kind, source))
    for name, value in memory.admission_settings.items():
        found.append(InputField(f"memory.{name}", value, "assumed", "the design's crossbar and data FIFOs"))
    return found


def _source(name: str, first: str, remarks: dict[str, str]) -> tuple[Kind, str]:
    if name not in remarks:
        return "assumed", "default of the memory model"
    source = remarks[name] or first
    if name == "organisation.channels":
        source += "; how many of them, design.dram.channels says"
    return "assumed" if source.startswith("ours") else "published", source
