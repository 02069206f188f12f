"""A memory as data: organisation, timings in nanoseconds, address map and where its energies come from."""

from __future__ import annotations

import math
from importlib import resources
from pathlib import Path

from pydantic import Field

from simulator.config import load_yaml, validate
from simulator.errors import ConfigError, UnknownNameError, nearest
from simulator.settings import Settings, changed

__all__ = ["MemorySpec", "load_memory", "standard_names"]

FIELDS = ("channel", "pseudo_channel", "bank_group", "bank", "column", "row")


class Organisation(Settings):
    """Counts per level; a pseudo-channel has `bank_groups * banks_per_group` banks of `rows` rows of `page_bytes`."""

    channels: int = Field(ge=1)
    pseudo_channels: int = Field(ge=1)
    bank_groups: int = Field(ge=1)
    banks_per_group: int = Field(ge=1)
    rows: int = Field(ge=1)
    page_bytes: int = Field(ge=1)
    burst_bytes: int = Field(ge=1)


class TimingNs(Settings):
    """Timings in nanoseconds, named as in JEDEC's standards; `burst` is how long a burst holds the data bus."""

    burst: float = Field(gt=0)
    cl: float = Field(ge=0)
    cwl: float = Field(ge=0)
    rcd_read: float = Field(ge=0)
    rcd_write: float = Field(ge=0)
    rp: float = Field(ge=0)
    ras: float = Field(ge=0)
    rrd_short: float = Field(ge=0)
    rrd_long: float = Field(ge=0)
    faw: float = Field(ge=0)
    ccd_short: float = Field(ge=0)
    ccd_long: float = Field(ge=0)
    wtr_short: float = Field(ge=0)
    wtr_long: float = Field(ge=0)
    rtp: float = Field(ge=0)
    wr: float = Field(ge=0)
    rtw: float = Field(ge=0)
    rfc: float = Field(ge=0)
    refi: float = Field(ge=0, description="0: no refresh")


class RowBusSlots(Settings):
    """Command clocks that an ACT and a PRE hold the row-command bus of a channel."""

    activate: int = Field(ge=0)
    precharge: int = Field(ge=0)


class EnergySources(Settings):
    """Constants ("table.name" in simulator/tech/tables) for each part of the DRAM's energy."""

    activation: str
    movement_per_bit: str
    io_per_bit: str
    refresh: str
    active_standby: str
    precharged_standby: str


class MemorySpec(Settings):
    """One kind of memory; `load_memory` reads it from a YAML file."""

    name: str
    description: str = ""
    clock_ghz: float = Field(gt=0)
    organisation: Organisation
    timing_ns: TimingNs
    row_bus_slots: RowBusSlots
    address_map: list[str]
    queue_depth: int = Field(ge=1)
    energy: EnergySources

    def ticks(self, ns: float) -> int:
        """Return the command clocks that cover `ns`, rounded up as a controller would program them."""
        return math.ceil(round(ns * self.clock_ghz, 6))

    @property
    def timing_ticks(self) -> dict[str, int]:
        """All timings in command clocks."""
        return {name: self.ticks(value) for name, value in self.timing_ns.model_dump().items()}

    @property
    def peak_bytes_per_tick(self) -> float:
        """Bytes a command clock with every data bus busy."""
        o = self.organisation
        return o.channels * o.pseudo_channels * o.burst_bytes / self.ticks(self.timing_ns.burst)

    @property
    def peak_gb_per_s(self) -> float:
        """Peak bandwidth, 1 GB = 1e9 bytes."""
        return self.peak_bytes_per_tick * self.clock_ghz

    @property
    def columns(self) -> int:
        """Bursts in a row."""
        return self.organisation.page_bytes // self.organisation.burst_bytes

    def sliced_map(self) -> list[tuple[str, int]]:
        """Return the address map as (field, bits), least significant first; a field without ":bits" takes the rest.

        Raises
        ------
        ConfigError: an unknown field; what does not add up to the organisation is named by the timing model.
        """
        o = self.organisation
        counts = (o.channels, o.pseudo_channels, o.bank_groups, o.banks_per_group, self.columns, o.rows)
        sizes = dict(zip(FIELDS, counts, strict=True))
        left = {name: max(size, 1).bit_length() - 1 for name, size in sizes.items()}
        slices = []
        for item in self.address_map:
            name, _, text = item.partition(":")
            if name not in left or (text and not text.isdigit()):
                raise ConfigError(
                    f"unknown slice {item!r} in the address map",
                    where=f"memory {self.name}",
                    expected='a field or "field:bits"',
                    hint=nearest(name, FIELDS),
                )
            bits = int(text) if text else left[name]
            left[name] -= bits
            slices.append((name, bits))
        return slices


def _folder() -> Path:
    return Path(str(resources.files("simulator") / "memory" / "standards"))


def standard_names() -> list[str]:
    """Return the names of the shipped memories."""
    return sorted(path.stem for path in _folder().glob("*.yaml"))


def load_memory(name: str, channels: int | None = None) -> MemorySpec:
    """Return a shipped memory by name, or the one in a YAML file; `channels` replaces its number of channels.

    Raises
    ------
    UnknownNameError: neither a shipped name nor an existing file.
    ConfigError: an unknown, missing or mistyped key (with its line).
    """
    if name in standard_names():
        path = _folder() / f"{name}.yaml"
    elif Path(name).suffix in (".yaml", ".yml"):
        path = Path(name)
    else:
        raise UnknownNameError(f"no memory named {name!r}", where="--memory", hint=nearest(name, standard_names()))
    document = load_yaml(path)
    if channels is not None:
        document = changed(document, {"organisation.channels": channels})
    return validate(MemorySpec, document)
