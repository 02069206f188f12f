"""DRAMsim3: its trace format and a configuration that mirrors a memory.

Formats as read by github.com/umd-memsys/DRAMsim3: src/configuration.cc, and the transactions of src/common.cc.
"""

from __future__ import annotations

from simulator.errors import UnsupportedError
from simulator.exchange.requests import Bursts, Layout, rearranged
from simulator.memory.spec import MemorySpec

__all__ = ["HOW", "TRACE", "configuration", "differences", "trace_lines"]

TRACE = "requests.trace"
CONFIG = "memory.ini"
HOW = (
    f"dramsim3main {CONFIG} -c CYCLES -t {TRACE}",
    "CYCLES: how long to simulate, in clocks of the memory; `simulate dram` prints the time of the trace.",
    "Its own player sends at most one request a clock, to all channels together: for full load drive the library.",
)
_FIELDS = {
    "channel": "ch",
    "pseudo_channel": "ch",
    "rank": "ra",
    "stack": "bg",
    "bank_group": "bg",
    "bank": "ba",
    "row": "ro",
    "column": "co",
}
# Where the map of the memory cannot be written as one: from the least significant field.
_ORDER = ("channel", "pseudo_channel", "column", "bank", "bank_group", "stack", "rank", "row")
_ROW_HIT_CAP = 4  # a constant of its scheduler
_MEBI = 1 << 20
_NEVER = 1 << 30


def configuration(spec: MemorySpec) -> str:
    """Return the .ini file that mirrors `spec`.

    Raises
    ------
    UnsupportedError: an organisation that it cannot express.
    """
    sections: dict[str, dict[str, object]] = {
        "dram_structure": _structure(spec),
        "timing": _timing(spec),
        "power": _power(spec),
        "system": _system(spec),
        "other": {"epoch_period": "1000000", "output_level": "1"},
    }
    blocks = (f"[{name}]\n" + "\n".join(f"{k} = {v}" for k, v in keys.items()) for name, keys in sections.items())
    return "\n\n".join(blocks) + "\n"


def trace_lines(spec: MemorySpec, bursts: Bursts) -> str:
    """Return `0xADDRESS READ|WRITE CYCLE`, a line for each burst."""
    layout = _layout(spec)
    addresses = bursts.addresses if layout is None else rearranged(bursts.addresses, spec, layout)
    words = {False: "READ", True: "WRITE"}
    rows = zip(addresses.tolist(), bursts.writes.tolist(), bursts.cycles.tolist(), strict=True)
    return "".join([f"0x{address:x} {words[write]} {max(cycle, 0)}\n" for address, write, cycle in rows])


def _layout(spec: MemorySpec) -> Layout | None:
    """Return the layout to rewrite addresses for; None where its address_mapping can say the memory's own."""
    if len(_slices(spec)) == len({field for field, _ in _slices(spec)}):
        return None
    bits = _bits(spec)
    return [(field, bits[field]) for field in _ORDER if bits.get(field)]


def _slices(spec: MemorySpec) -> list[tuple[str, int]]:
    """Return the map in its fields, least significant first, neighbours of one field joined."""
    result: list[tuple[str, int]] = []
    for field, bits in spec.sliced_map():
        name = _FIELDS[field]
        if result and result[-1][0] == name:
            result[-1] = (name, result[-1][1] + bits)
        else:
            result.append((name, bits))
    return result


def _bits(spec: MemorySpec) -> dict[str, int]:
    bits: dict[str, int] = {}
    for field, count in spec.sliced_map():
        bits[field] = bits.get(field, 0) + count
    return bits


def _mapping(spec: MemorySpec) -> str:
    layout = _layout(spec)
    order = [name for name, _ in _slices(spec)] if layout is None else [_FIELDS[field] for field, _ in layout]
    named = list(dict.fromkeys(order))
    absent = [name for name in dict.fromkeys(_FIELDS.values()) if name not in named]  # of no bits: anywhere
    return "".join([*absent, *reversed(named)])


def _width(spec: MemorySpec) -> tuple[int, int]:
    """Return (burst length, bus width): a burst takes half its length in clocks."""
    length = 2 * spec.timing_ticks["burst"]
    width = 8 * spec.organisation.burst_bytes // length
    if length & (length - 1) or width < 1 or width * length != 8 * spec.organisation.burst_bytes:
        raise UnsupportedError(
            f"DRAMsim3 cannot express a burst of {spec.organisation.burst_bytes} B in {length // 2} clocks",
            where=f"memory {spec.name}, timing.tBURST",
            expected="a power of two of clocks, as its burst lengths are",
        )
    return length, width


def _protocol(spec: MemorySpec) -> str:
    """Only its HBM has a split command bus, and only HBM and GDDR two tRCD; tPPD is one of LPDDR4 and GDDR."""
    t = spec.timing_ticks
    if spec.controller.command_bus == "split" or t["rcd_read"] != t["rcd_write"]:
        return "HBM"
    return "LPDDR4" if t["ppd"] else "DDR4"


def _structure(spec: MemorySpec) -> dict[str, object]:
    o = spec.organisation
    length, width = _width(spec)
    protocol = _protocol(spec)
    columns = 8 * o.page_bytes // width
    return {
        "protocol": protocol,
        "bankgroups": o.stack_ids * o.bank_groups,
        "banks_per_group": o.banks_per_group,
        "rows": o.rows,
        "columns": columns // 2 if protocol == "HBM" else columns,  # HBM counts pairs
        "device_width": width,
        "BL": length,
        "num_dies": 1,
        "hbm_dual_cmd": str(spec.controller.command_bus == "split").lower(),
    }


def _timing(spec: MemorySpec) -> dict[str, object]:
    t = spec.timing_ticks
    names = {"CL": "cl", "CWL": "cwl", "tRCD": "rcd_read", "tRCDRD": "rcd_read", "tRCDWR": "rcd_write", "tRP": "rp"}
    names |= {"tRAS": "ras", "tFAW": "faw", "tWR": "wr", "tRTP": "rtp", "tRRD_S": "rrd_short", "tRRD_L": "rrd_long"}
    names |= {"tWTR_S": "wtr_short", "tWTR_L": "wtr_long", "tCCD_S": "ccd_short", "tCCD_L": "ccd_long", "tPPD": "ppd"}
    refresh = spec.controller.refresh != "none"
    return {
        "tCK": f"{1 / spec.clock_ghz:.6g}",
        "AL": 0,
        **{name: t[ours] for name, ours in names.items()},
        "tRTRS": max(t["rtw"] - t["cl"] - t["burst"] + t["cwl"], 0),  # it counts between read and write as well
        "tRFC": t["rfc"],
        "tREFI": t["refi"] if refresh else _NEVER,
        "tRFCb": t["rfc_bank"],
        "tREFIb": max(t["refi"] // spec.banks, 1) if refresh else _NEVER,
    }


def _power(spec: MemorySpec) -> dict[str, object]:
    """Currents of all devices and supplies, as those of one device at the first supply's voltage."""
    idd = spec.energy.idd
    if idd is None:
        return {}
    names = ("IDD0", "IDD2N", "IDD3N", "IDD4R", "IDD4W", "IDD5AB")
    supplies = (idd, *idd.rails, *(() if idd.io is None else (idd.io,)))
    power = {name: sum(s.vdd * getattr(s, name.lower()) for s in supplies) * idd.devices for name in names}
    return {"VDD": f"{idd.vdd:g}", **{name: f"{value / idd.vdd:.6g}" for name, value in power.items()}}


def _system(spec: MemorySpec) -> dict[str, object]:
    o, c = spec.organisation, spec.controller
    bank = o.page_bytes * o.rows
    if bank % _MEBI or o.rows % 1024:
        raise UnsupportedError(
            f"DRAMsim3 cannot express a bank of {bank} B: it counts in MiB and in 1024 rows",
            where=f"memory {spec.name}, organisation",
        )
    shared = c.queues == "shared"
    return {
        "channel_size": bank // _MEBI * spec.banks * o.ranks,
        "channels": o.channels * o.pseudo_channels,
        "bus_width": _width(spec)[1],
        "address_mapping": _mapping(spec),
        "queue_structure": "PER_RANK" if shared else "PER_BANK",
        "cmd_queue_size": c.read_queue if shared else c.bank_queue,
        "trans_queue_size": c.read_queue,
        "unified_queue": "False",
        "row_buf_policy": "CLOSE_PAGE" if c.rows == "closed" else "OPEN_PAGE",
        "refresh_policy": "BANK_LEVEL_STAGGERED" if c.refresh == "per_bank" else "RANK_LEVEL_STAGGERED",
        "enable_self_refresh": "false",
        "aggressive_precharging_enabled": "false",
    }


def differences(spec: MemorySpec) -> list[str]:
    """Return what the configuration says otherwise than the memory, in sentences."""
    o, c, t, slots = spec.organisation, spec.controller, spec.timing_ticks, spec.controller.slots
    turnaround = t["rtw"] - t["cl"] - t["burst"] + t["cwl"]
    hbm = _protocol(spec) == "HBM"
    checks = {
        "Addresses are rewritten so that its map gives the memory's channel, bank, row and column.": _layout(spec),
        "Pseudo-channels are channels of their own, with a command bus each.": o.pseudo_channels > 1,
        "Stack ids are bank groups; tCCD_R is not expressed.": o.stack_ids > 1,
        "tRC is tRAS + tRP.": t["rc"] != t["ras"] + t["rp"],
        "tCCD_S_WR and tCCD_L_WR are those of reads.": (t["ccd_short_write"], t["ccd_long_write"])
        != (t["ccd_short"], t["ccd_long"]),
        "tRTRS has the value of turnaround: one parameter stands for both.": o.ranks > 1 and t["rtrs"] != turnaround,
        "turnaround is not below 0.": turnaround < 0,
        "tPPD is not expressed.": bool(t["ppd"]) and hbm,
        "Every command takes one clock of its bus.": any(n != 1 for n in slots.model_dump().values()),
        "Commands start at every clock.": c.command_align > 1,
        f"Its scheduler caps row hits at {_ROW_HIT_CAP} while others wait.": c.row_hit_cap != _ROW_HIT_CAP,
        "Rows are open; it has no adaptive policy.": c.rows == "adaptive",
        "Its scheduler has a queue for each rank behind the read and write queues.": c.queues == "shared",
        "Writes drain when their queue is full, or holds more than 8 and nothing else waits.": c.watermarks[0]
        != c.write_queue,
        "The write queue is as long as the read queue.": c.read_queue != c.write_queue,
        "Reads and writes of a line that waits are not sent again.": not (c.coalesce_reads and c.coalesce_writes),
        "The controller's delay is not expressed.": bool(c.delay.value),
        "The memory has no currents: its own defaults count.": spec.energy.idd is None,
    }
    return [sentence for sentence, holds in checks.items() if holds]
