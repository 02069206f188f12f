"""What the parts of a memory file must not contradict, each a named error with the line of the key."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from simulator.errors import ConfigError
from simulator.memory.address_map import check_map, log2, parse_map
from simulator.memory.sections import Organisation

if TYPE_CHECKING:
    from simulator.memory.spec import MemorySpec

__all__ = ["check_spec", "field_counts"]

Place = Callable[[tuple[str, ...]], str]
_SLACK_NS = 1e-6  # for times that were written in clocks

# (shorter, longer): the first must not be above the second. Names as in files.
ORDERED = (
    ("tRRD_S", "tRRD_L"),
    ("tCCD_S", "tCCD_L"),
    ("tCCD_S_WR", "tCCD_L_WR"),
    ("tWTR_S", "tWTR_L"),
    ("tRCDRD", "tRAS"),
    ("tRCDWR", "tRAS"),
    ("tRRD_S", "tFAW"),
)


def field_counts(o: Organisation) -> dict[str, int]:
    """Return the size of every field of an address."""
    return {
        "row": o.rows,
        "rank": o.ranks,
        "stack": o.stack_ids,
        "bank": o.banks_per_group,
        "bank_group": o.bank_groups,
        "column": o.page_bytes // o.burst_bytes,
        "pseudo_channel": o.pseudo_channels,
        "channel": o.channels,
        "offset": o.burst_bytes,
    }


def check_spec(spec: MemorySpec, place: Place) -> None:
    """Raise ConfigError for the first contradiction in `spec`; `place` says where a key stands."""
    _check_organisation(spec.organisation, place)
    where = place(("address_map",))
    check_map(parse_map(spec.address_map, where), field_counts(spec.organisation), where)
    _check_timing(spec, place)
    _check_refresh(spec, place)
    _check_controller(spec, place)


def _check_organisation(o: Organisation, place: Place) -> None:
    for name in type(o).model_fields:
        value = getattr(o, name)
        if log2(value) is None:
            raise ConfigError(f"{name} is {value}", where=place(("organisation", name)), expected="a power of two")
    if o.page_bytes < o.burst_bytes:
        where = place(("organisation", "page"))
        raise ConfigError(f"a page of {o.page_bytes} B is smaller than a burst of {o.burst_bytes} B", where=where)


def _check_timing(spec: MemorySpec, place: Place) -> None:
    by_alias = {info.alias: name for name, info in type(spec.timing).model_fields.items() if info.alias}
    ns = spec.timing_ns
    for shorter, longer in ORDERED:
        low, high = ns[by_alias[shorter]], ns[by_alias[longer]]
        if low > high + _SLACK_NS:
            raise ConfigError(
                f"{longer} is shorter than {shorter}: {high:g} ns < {low:g} ns",
                where=place(("timing", longer)),
                expected=f"{longer} of {low:g} ns or more",
            )
    needed = ns["ras"] + ns["rp"]
    if ns["rc"] < needed - _SLACK_NS:
        raise ConfigError(
            f"tRAS + tRP is longer than tRC: {needed:g} ns > {ns['rc']:g} ns",
            where=place(("timing", "tRC")),
            expected=f"tRC of {needed:g} ns or more, or no tRC (it is then tRAS + tRP)",
        )


def _check_refresh(spec: MemorySpec, place: Place) -> None:
    policy, ns = spec.controller.refresh, spec.timing_ns
    if policy == "none":
        return
    name, interval = ("tRFC", ns["rfc"]) if policy == "all_bank" else ("tRFCpb", ns["rfc_bank"])
    for key, value in ((name, interval), ("tREFI", ns["refi"])):
        if value == 0:
            raise ConfigError(
                f"the refresh policy {policy} needs {key}",
                where=place(("timing", key)),
                hint="or controller.refresh: none",
            )
    needed = interval + ns["rp"] + ns["ras"]
    if ns["refi"] <= needed:
        raise ConfigError(
            f"tREFI leaves no time between refreshes: {ns['refi']:g} ns <= {name} + tRP + tRAS = {needed:g} ns",
            where=place(("timing", "tREFI")),
        )


def _check_controller(spec: MemorySpec, place: Place) -> None:
    c = spec.controller
    high, low = c.watermarks
    if high > c.write_queue:
        raise ConfigError(
            f"write_high is above write_queue: {high} > {c.write_queue}, so that no drain would start",
            where=place(("controller", "write_high")),
            expected=f"{c.write_queue} or less",
        )
    if low >= high:
        raise ConfigError(
            f"write_low is not below write_high: {low} >= {high}",
            where=place(("controller", "write_low")),
            expected=f"{high - 1} or less",
        )
