"""A memory as data: organisation, timings, controller, address map and where its energies come from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import PrivateAttr

from simulator.config import Document, load_yaml, validate
from simulator.errors import ConfigError, UnknownNameError, nearest
from simulator.memory.address_map import FIELDS, log2, map_text, parse_map, with_channel_bits
from simulator.memory.checks import check_spec
from simulator.memory.quantities import Frequency
from simulator.memory.sections import ALIASES, Admission, Controller, EnergySources, Organisation, Timing
from simulator.settings import Settings, changed

__all__ = ["MemorySpec", "load_memory", "memory_file", "standard_names"]

_FIFO_ENTRIES = 512  # of all channels together, unless admission.depth says otherwise
_ROWS = {"open": 0, "closed": 1, "adaptive": 2}
_REFRESH = {"none": 0, "all_bank": 1, "per_bank": 2}


class MemorySpec(Settings):
    """One kind of memory; `load_memory` reads it from a YAML file.

    clock is the command clock; a tick is one period of it, and times are rounded up to ticks. The dictionaries of plain
    numbers are what the compiled model takes.
    """

    name: str
    description: str = ""
    clock: Frequency
    organisation: Organisation
    timing: Timing
    controller: Controller = Controller()
    admission: Admission = Admission()
    address_map: str
    energy: EnergySources = EnergySources()
    _document: Document = PrivateAttr()

    def with_settings(self, settings: Mapping[str, str]) -> MemorySpec:
        """Return this memory with `settings` changed, as in `load_memory`, and checked again."""
        return _build(self._document, settings)

    @property
    def clock_ghz(self) -> float:
        """Frequency of the command clock."""
        return self.clock

    def ticks(self, ns: float) -> int:
        """Return the command clocks that cover `ns`, rounded up as a controller would program them."""
        return math.ceil(round(ns * self.clock_ghz, 6))

    def ns(self, ticks: float) -> float:
        """Return the time of `ticks` command clocks in ns."""
        return ticks / self.clock_ghz

    @property
    def timing_ticks(self) -> dict[str, int]:
        """All timings in command clocks; `rtw` is the read-to-write command distance."""
        t, clock = self.timing, self.clock_ghz
        known = {name: getattr(t, name) for name in Timing.model_fields if name != "turnaround"}
        ticks = {name: 0 if value is None else value.ticks(clock) for name, value in known.items()}
        ticks["rc"] = max(ticks["rc"], ticks["ras"] + ticks["rp"])  # each may have been rounded up
        for name, default in (("short_write", "short"), ("long_write", "long"), ("stack", "short")):
            if known[f"ccd_{name}"] is None:
                ticks[f"ccd_{name}"] = ticks[f"ccd_{default}"]
        ticks["rtw"] = max(ticks["cl"] + ticks["burst"] + t.turnaround.ticks(clock) - ticks["cwl"], 1)
        return ticks

    @property
    def timing_ns(self) -> dict[str, float]:
        """The same timings in ns, not rounded to the clock."""
        t, clock = self.timing, self.clock_ghz
        known = {name: getattr(t, name) for name in Timing.model_fields if name != "turnaround"}
        ns = {name: value.ns(clock) for name, value in known.items() if value is not None}
        ns.setdefault("rc", ns["ras"] + ns["rp"])
        for name, default in (("short_write", "short"), ("long_write", "long"), ("stack", "short")):
            ns.setdefault(f"ccd_{name}", ns[f"ccd_{default}"])
        ns["rtw"] = ns["cl"] + ns["burst"] + t.turnaround.ns(clock) - ns["cwl"]
        return ns

    @property
    def columns(self) -> int:
        """Bursts in a row."""
        return self.organisation.page_bytes // self.organisation.burst_bytes

    @property
    def units(self) -> int:
        """Ranks of pseudo-channels of channels: what refreshes together and has a background power."""
        return self.organisation.channels * self.organisation.pseudo_channels * self.organisation.ranks

    @property
    def banks(self) -> int:
        """Banks of a unit."""
        return self.organisation.stack_ids * self.organisation.bank_groups * self.organisation.banks_per_group

    @property
    def capacity_bytes(self) -> int:
        """Size of the memory."""
        return self.units * self.banks * self.organisation.rows * self.organisation.page_bytes

    @property
    def peak_bytes_per_tick(self) -> float:
        """Bytes a command clock with every data bus as busy as tBURST and tCCD_S allow."""
        o, t = self.organisation, self.timing_ticks
        return o.channels * o.pseudo_channels * o.burst_bytes / max(t["burst"], t["ccd_short"])

    @property
    def peak_gb_per_s(self) -> float:
        """Peak bandwidth, 1 GB = 1e9 bytes."""
        return self.peak_bytes_per_tick * self.clock_ghz

    @property
    def organisation_numbers(self) -> dict[str, int]:
        """Counts, with bursts in a row as `columns`."""
        o = self.organisation
        return {**o.model_dump(exclude={"page", "burst"}), "columns": self.columns, "burst_bytes": o.burst_bytes}

    @property
    def controller_numbers(self) -> dict[str, int]:
        """The controller; choices are numbered as in docs/simulator.md."""
        c = self.controller
        high, low = c.watermarks
        return {
            "per_bank_queues": int(c.queues == "per_bank"),
            "read_queue": c.read_queue,
            "write_queue": c.write_queue,
            "bank_queue": c.bank_queue,
            "row_hit_cap": c.row_hit_cap,
            "coalesce_reads": int(c.coalesce_reads),
            "coalesce_writes": int(c.coalesce_writes),
            "rows": _ROWS[c.rows],
            "write_high": high,
            "write_low": low,
            "write_idle": c.write_idle,
            "refresh": _REFRESH[c.refresh],
            "refresh_stalls": int(c.refresh_stalls == "rank"),
            "precharge_all": int(c.precharge_all),
            "split_bus": int(c.command_bus == "split"),
            "act_slots": c.slots.activate,
            "pre_slots": c.slots.precharge,
            "read_slots": c.slots.read,
            "write_slots": c.slots.write,
            "refresh_slots": c.slots.refresh,
            "align": c.command_align,
            "delay": c.delay.ticks(self.clock_ghz),
        }

    @property
    def admission_numbers(self) -> dict[str, int]:
        """How bursts enter the controllers; depth is per channel."""
        a = self.admission
        return {
            "depth": max(_FIFO_ENTRIES // self.organisation.channels, 1) if a.depth is None else a.depth,
            "program_order": int(a.order == "program"),
            "rate": a.rate,
            "channel_rate": a.channel_rate,
            "run_ahead": a.run_ahead,
        }

    def sliced_map(self) -> list[tuple[str, int]]:
        """Return the address map as (field, bits), least significant first, above the offset inside a burst."""
        slices = reversed(parse_map(self.address_map))
        return [(FIELDS[letter], bits) for letter, bits in slices if letter != "o"]


def _folder() -> Path:
    return Path(str(resources.files("simulator") / "memory" / "standards"))


def standard_names() -> list[str]:
    """Return the names of the shipped memories."""
    return sorted(path.stem for path in _folder().glob("*.yaml"))


def memory_file(name: str) -> Path:
    """Return the file of a shipped memory, or `name` itself where it is a YAML file.

    Raises
    ------
    UnknownNameError: neither.
    """
    if name in standard_names():
        return _folder() / f"{name}.yaml"
    if Path(name).suffix in (".yaml", ".yml"):
        return Path(name)
    designs_only = "the ideal memory is for designs: simulate --arch NAME --memory ideal MODEL"
    hint = designs_only if name == "ideal" else nearest(name, [*standard_names(), "ideal"])
    raise UnknownNameError(f"no memory named {name!r}", where="--memory", hint=hint)


def load_memory(name: str, channels: int | None = None, settings: Mapping[str, str] | None = None) -> MemorySpec:
    """Return a shipped memory by name, or the one in a YAML file.

    Parameters
    ----------
    channels: replaces the number of channels, as settings = {"organisation.channels": ...} does.
    settings: changes by name: a timing by itself ("tRCD": "14 ns"), other keys with their section
        ("controller.write_high": "48"), "address_map" and "clock". With another number of channels the map's channel
        bits follow, unless a map is given too.

    Raises
    ------
    UnknownNameError: neither a shipped name nor an existing file.
    ConfigError: an unknown, missing or mistyped key or a contradiction (with its line), a quantity without its unit.
    """
    document = _without_aliases(load_yaml(memory_file(name)))
    if channels is not None:
        settings = {"organisation.channels": str(channels), **(settings or {})}
    return _build(document, settings or {})


def _build(document: Document, settings: Mapping[str, str]) -> MemorySpec:
    document = _set(document, settings)
    if "organisation.channels" in settings and "address_map" not in settings:
        document = _follow_channels(document)
    spec = validate(MemorySpec, document)
    spec._document = document
    check_spec(spec, document.place)
    return spec


def _without_aliases(document: Document) -> Document:
    """Return `document` with each two-in-one timing (tRCD) as the two that it stands for."""
    timing = document.data.get("timing")
    if not isinstance(timing, dict):
        return document
    result: dict[str, Any] = {}
    lines, origins = dict(document.lines), dict(document.origins)
    for key, value in timing.items():
        for name in ALIASES.get(str(key), (key,)):
            if name in result or (name != key and name in timing):
                raise ConfigError(
                    f"{name} is given twice, by itself and by its alias", where=document.place(("timing", name))
                )
            result[name] = value
            if name != key:
                origins["timing", name] = document.place(("timing", str(key)))
    return Document({**document.data, "timing": result}, document.where, lines, origins)


def _set(document: Document, settings: Mapping[str, str]) -> Document:
    """Return `document` with `settings` applied; an error in one names the setting as it was written."""
    timings = [info.alias or name for name, info in Timing.model_fields.items()]
    changes: dict[str, str] = {}
    origins: dict[tuple[str | int, ...], str] = {}
    for key, value in settings.items():
        shown = f"--set {key}={value}"
        bare = key.removeprefix("timing.")
        if bare in ALIASES or bare in timings:
            paths = [f"timing.{name}" for name in ALIASES.get(bare, (bare,))]
        elif "." in key or key in MemorySpec.model_fields:
            paths = [key]
        else:
            raise ConfigError(f"unknown setting {key!r}", where=shown, hint=_suggestion(key, timings))
        for path in paths:
            changes[path] = value
            origins[tuple(path.split("."))] = shown
    new = changed(document, changes)
    where = f"{document.where} with --set {', '.join(settings)}" if settings else document.where
    return Document(new.data, where, new.lines, {**new.origins, **origins})


def _suggestion(key: str, timings: list[str]) -> str:
    sections = {
        "organisation": list(Organisation.model_fields),
        "controller": list(Controller.model_fields),
        "admission": list(Admission.model_fields),
    }
    for section, names in sections.items():
        if key in names:
            return f"did you mean '{section}.{key}'?"
    dotted = [f"{section}.{name}" for section, names in sections.items() for name in names]
    return nearest(key, [*timings, *ALIASES, *MemorySpec.model_fields, *dotted])


def _follow_channels(document: Document) -> Document:
    """Return `document` with as many channel bits in its address map as its number of channels needs."""
    organisation, text = document.data.get("organisation"), document.data.get("address_map")
    channels = organisation.get("channels") if isinstance(organisation, dict) else None
    if not isinstance(text, str) or not isinstance(channels, int) or log2(channels) is None:
        return document  # what is wrong is named when the document is checked
    slices = with_channel_bits(parse_map(text, document.place(("address_map",))), channels)
    data = {**document.data, "address_map": map_text(slices)}
    return Document(data, document.where, document.lines, document.origins)
