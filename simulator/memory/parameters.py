"""Every value of a memory as text with its unit, by the name that `--set` takes, and what its file says about it."""

from __future__ import annotations

import re
from itertools import takewhile
from pathlib import Path

from pydantic import BaseModel

from simulator.config import parse_yaml
from simulator.memory.quantities import Duration
from simulator.memory.sections import ALIASES
from simulator.memory.spec import MemorySpec

__all__ = ["parameters_of", "remarks_of"]

_SECTIONS = ("organisation", "timing", "controller", "admission", "energy")
_SIZES = ("organisation.page", "organisation.burst")
_DERIVED = {"rc": "tRC", "ccd_short_write": "tCCD_S_WR", "ccd_long_write": "tCCD_L_WR", "ccd_stack": "tCCD_R"}


def parameters_of(spec: MemorySpec) -> dict[str, str]:
    """Return all values of `spec`, also those that its file leaves to a default, such as {"timing.tRP": "14 ns"}."""
    high, low = spec.controller.watermarks
    derived = {f"timing.{name}": f"{spec.timing_ns[field]:g} ns" for field, name in _DERIVED.items()}
    derived |= {"controller.write_high": str(high), "controller.write_low": str(low)}
    derived["admission.depth"] = str(spec.admission_numbers["depth"])
    values = {"clock": f"{spec.clock_ghz:g} GHz", "address_map": spec.address_map}
    for section in _SECTIONS:
        _collect(getattr(spec, section), section, derived, values)
    return values


def _collect(model: BaseModel, path: str, derived: dict[str, str], values: dict[str, str]) -> None:
    for field, info in type(model).model_fields.items():
        name, value = f"{path}.{info.alias or field}", getattr(model, field)
        if isinstance(value, BaseModel):
            _collect(value, name, derived, values)
        elif isinstance(value, tuple):
            for index, item in enumerate(value):
                _collect(item, f"{name}.{index}", derived, values)
        elif value is not None:
            values[name] = _text(name, value)
        elif name in derived:
            values[name] = derived[name]


def _text(name: str, value: object) -> str:
    if isinstance(value, Duration):
        return f"{value.value:g} {value.unit}"
    if isinstance(value, bool):
        return str(value).lower()
    if name in _SIZES:
        return f"{value} B"
    if isinstance(value, float) and ".IDD" in name:
        return f"{value:g} mA"
    if isinstance(value, float) and name.endswith(".vdd"):
        return f"{value:g} V"
    return f"{value:g}" if isinstance(value, float) else str(value)


def remarks_of(path: Path) -> tuple[str, dict[str, str]]:
    """Return what the comments of a memory file say: its first lines, and by parameter what stands beside the value.

    A parameter without a comment of its own has that of its section.
    """
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    document = parse_yaml(text, str(path))
    beside: dict[str, str] = {}
    for keys, line in document.lines.items():
        comment = _comment(lines[line - 1]) or (beside.get(".".join(map(str, keys[:-1])), "") if len(keys) > 1 else "")
        for name in ALIASES.get(str(keys[-1]), (str(keys[-1]),)) if keys else ():
            beside[".".join([*map(str, keys[:-1]), name])] = comment
    first = " ".join(line.lstrip("# ") for line in takewhile(lambda line: line.startswith("#"), lines))
    return first, beside


def _comment(line: str) -> str:
    """Return what stands behind a "#" that no quotes enclose."""
    found = re.match(r"""(?:[^"'#]|"[^"]*"|'[^']*')*(?:^|\s)#\s*(.*)""", line)
    return found[1].strip() if found else ""
