"""Ramulator 2.1: its load-store trace format and a script that builds a memory like ours.

Formats as read by github.com/CMU-SAFARI/ramulator2: the front end LoadStoreTrace, the address mapper RoBaRaCoCh, the
channel mapper CacheLineInterleave, and the standards of python/ramulator/dram. Its front end for address vectors is not
used: requests of it have no address, by which its controllers find writes that wait.
"""

from __future__ import annotations

from dataclasses import dataclass

from simulator.errors import UnsupportedError
from simulator.exchange.requests import Bursts, Layout, rearranged
from simulator.memory.spec import MemorySpec

__all__ = ["HOW", "TRACE", "configuration", "differences", "trace_lines"]

TRACE = "requests.trace"
CONFIG = "run.py"
HOW = (
    f"python {CONFIG}",
    "Needs the Python package of Ramulator 2.1, and this folder as the working directory.",
    "Its player stops when the last request is accepted. It has no queue in front of the channels: a full channel "
    "holds back all others (admission.depth 1 comes nearest).",
    "Its trace has no times: every request is sent as soon as possible.",
)


@dataclass(frozen=True, slots=True)
class _Standard:
    """A class of DRAM there: what the structure of a memory must be for it, and the presets to start from."""

    name: str
    controller: str
    prefetch: int
    unit: str  # its level between channel and bank group, "" if it has none
    org_preset: str
    timing_preset: str


_STANDARDS = {
    "HBM2": _Standard("HBM2", "HBM12", 4, "pseudochannel", "HBM2_8Gb", "HBM2_2000Mbps"),
    "HBM3": _Standard("HBM3", "HBM34", 8, "pseudochannel", "HBM3_16Gb_8hi", "HBM3_6400Mbps"),
    "DDR4": _Standard("DDR4", "GenericDDR", 8, "rank", "DDR4_8Gb_x8", "DDR4_3200AA"),
    "DDR5": _Standard("DDR5", "GenericDDR", 16, "rank", "DDR5_16Gb_x8", "DDR5_4800BN"),
    "LPDDR5": _Standard("LPDDR5", "LPDDR5", 16, "rank", "LPDDR5_8Gb_x16", "LPDDR5_6400"),
    "GDDR6": _Standard("GDDR6", "GenericDDR", 16, "", "GDDR6_8Gb_x16", "GDDR6_14000_1250mV_double"),
}
# Clocks of the command bus (activate, read) by standard; HBM3's clock here is half of its CK.
_SLOTS = {"HBM2": (2, 1), "HBM3": (3, 2), "DDR4": (1, 1), "DDR5": (2, 2), "LPDDR5": (2, 1), "GDDR6": (1, 1)}


def _standard(spec: MemorySpec) -> _Standard:
    """Return the standard with the structure of `spec`; the numbers are all given.

    Raises
    ------
    UnsupportedError: none has it.
    """
    o, c = spec.organisation, spec.controller
    slots = (c.slots.activate, c.slots.read)
    if c.command_bus == "split":
        name = "HBM3" if o.stack_ids > 1 or c.command_align > 1 else "HBM2"
    elif slots == _SLOTS["DDR4"]:
        name = "GDDR6" if spec.timing_ticks["rcd_read"] != spec.timing_ticks["rcd_write"] else "DDR4"
    else:
        name = next((name for name in ("DDR5", "LPDDR5") if _SLOTS[name] == slots), "")
    standard = _STANDARDS.get(name)
    problem = ""
    if standard is None:
        problem = f"commands that take {slots[0]} (activate) and {slots[1]} (read) clocks of a shared bus"
    elif standard.unit != "pseudochannel" and o.pseudo_channels > 1:
        problem = "pseudo-channels with a shared command bus"
    elif standard.unit != "rank" and o.ranks > 1:
        problem = f"several ranks in its {name}"
    elif standard.name != "HBM3" and o.stack_ids > 1:
        problem = f"stack ids in its {name}"
    if standard is None or problem:
        where = f"memory {spec.name}"
        raise UnsupportedError(f"Ramulator 2.1 cannot express {problem}", where=where, hint="--to dramsim3")
    return standard


def trace_lines(spec: MemorySpec, bursts: Bursts) -> str:
    """Return `LD|ST 0xADDRESS`, a line for each burst."""
    addresses = rearranged(bursts.addresses, spec, _layout(spec))
    words = {False: "LD", True: "ST"}
    rows = zip(addresses.tolist(), bursts.writes.tolist(), strict=True)
    return "".join([f"{words[write]} 0x{address:x}\n" for address, write in rows])


def _layout(spec: MemorySpec) -> Layout:
    """Return how CacheLineInterleave and RoBaRaCoCh cut an address: channel, column, then the levels downwards."""
    bits: dict[str, int] = {}
    for field, count in spec.sliced_map():
        bits[field] = bits.get(field, 0) + count
    order = ("channel", "column", "pseudo_channel", "rank", "stack", "bank_group", "bank", "row")
    return [(field, bits[field]) for field in order if bits.get(field)]


def _levels(spec: MemorySpec, standard: _Standard) -> dict[str, int]:
    o = spec.organisation
    width = 8 * o.burst_bytes // standard.prefetch
    if width & (width - 1):
        raise UnsupportedError(f"Ramulator 2.1 cannot express a bus of {width} bit", where=f"memory {spec.name}")
    levels = {"bankgroup": o.bank_groups, "bank": o.banks_per_group, "row": o.rows}
    levels |= {"column": spec.columns * standard.prefetch, "channel_width": width}
    if standard.unit:
        levels[standard.unit] = o.ranks if standard.unit == "rank" else o.pseudo_channels
    if standard.name == "HBM3":
        levels["sid"] = o.stack_ids
    return levels


def _timings(spec: MemorySpec, standard: _Standard) -> dict[str, int | float]:
    """Return every timing, in its clocks, under all names that its standards give it; the script takes some."""
    t = spec.timing_ticks
    per_ck = 2 if standard.name == "HBM3" else 1
    names = {"burst": ("nBL", "nBL_min", "nBL_max"), "cl": ("nCL",), "cwl": ("nCWL",), "rcd_read": ("nRCD", "nRCDRD")}
    names |= {"rcd_write": ("nRCDWR", "nRCDWD"), "rp": ("nRP", "nRPab"), "ras": ("nRAS",), "rc": ("nRC",)}
    names |= {"rtp": ("nRTP", "nRTPL"), "wr": ("nWR",), "rrd_short": ("nRRDS",), "rrd_long": ("nRRDL",)}
    names |= {"faw": ("nFAW",), "ccd_short": ("nCCDS",), "ccd_long": ("nCCDL",), "ccd_stack": ("nCCDR",)}
    names |= {"ccd_short_write": ("nCCDS_WR",), "ccd_long_write": ("nCCDL_WR",), "wtr_short": ("nWTRS",)}
    names |= {
        "wtr_long": ("nWTRL",),
        "rtw": ("nRTW",),
        "rtrs": ("nCS",),
        "aad": ("nAAD",),
        "ppd": ("nPPD",),
        "rrefd": ("nRREFD",),
    }
    names |= {"rfc": ("nRFC", "nRFCab"), "rfc_bank": ("nRFCpb",), "refi": ("nREFI",)}
    values: dict[str, int | float] = {}
    for ours, theirs in names.items():
        ck = t[ours] / per_ck
        values |= dict.fromkeys(theirs, int(ck) if ck.is_integer() else ck)
    values["nREFIpb"] = max(t["refi"] // per_ck // spec.banks, 1)
    return {**values, "tCK_ps": round(1000 * per_ck / spec.clock_ghz)}


def configuration(spec: MemorySpec) -> str:
    """Return the Python script that builds the memory and plays the trace.

    Raises
    ------
    UnsupportedError: a structure that none of its standards has.
    """
    standard, c = _standard(spec), spec.controller
    high, low = c.watermarks
    refresh = {"all_bank": "AllBank", "none": "NoRefresh"}.get(c.refresh, "PerBank")
    if refresh == "PerBank" and standard.name == "HBM3":
        refresh = "HBM34PerBankRefresh"
    return _SCRIPT.format(
        memory=spec.name,
        trace=TRACE,
        rate=spec.admission.rate,
        standard=standard,
        levels=_listed(_levels(spec, standard)),
        timings=_listed(_timings(spec, standard)),
        read_queue=c.read_queue,
        write_queue=c.write_queue,
        high=(high - 0.5) / c.write_queue,  # it drains above this share of the buffer, and stops below that one
        low=(low + 0.5) / c.write_queue,
        refresh=refresh,
        row_policy="ClosedCAP(cap=1)" if c.rows == "closed" else "Open()",
        channels=spec.organisation.channels,
    )


def _listed(values: dict[str, int] | dict[str, int | float]) -> str:
    return "".join(f'    "{name}": {value},\n' for name, value in values.items())


_SCRIPT = '''"""Plays {trace} on a memory like {memory}."""

import ramulator

LEVELS = {{
{levels}}}
# In clocks. A timing stands under each name that some version gives it; those that this version knows are used.
TIMINGS = {{
{timings}}}

Standard = ramulator.dram.{standard.name}


def preset(presets, name):
    """The numbers that count are above; what is left to the preset is that of `name`, or of another version's first."""
    return name if name in presets else next(iter(presets))


def channel():
    known = {{name: value for name, value in TIMINGS.items() if name in Standard.timing_params}}
    return ramulator.controller.{standard.controller}(
        dram=Standard(
            org_preset=preset(Standard.org_presets, "{standard.org_preset}"),
            timing_preset=preset(Standard.timing_presets, "{standard.timing_preset}"),
            **LEVELS,
            **known,
        ),
        read_buffer_size={read_queue},
        write_buffer_size={write_queue},
        wr_high_watermark={high},
        wr_low_watermark={low},
        scheduler=ramulator.scheduler.FRFCFSRowHit(),
        refresh_manager=ramulator.refresh_manager.{refresh}(),
        row_policy=ramulator.row_policy.{row_policy},
        addr_mapper=ramulator.addr_mapper.RoBaRaCoCh(),
    )


simulation = ramulator.Simulation(
    ramulator.frontend.LoadStoreTrace(clock_ratio={rate}, path="{trace}"),
    ramulator.memory_system.GenericDRAM(
        clock_ratio=1,
        controllers=[channel() for _ in range({channels})],
        channel_mapper=ramulator.channel_mapper.CacheLineInterleave(),
    ),
)
simulation.run()
if simulation.stats:  # there are none where the script is only exported
    print(simulation.stats_yaml)
'''


def differences(spec: MemorySpec) -> list[str]:
    """Return what the script says otherwise than the memory, in sentences."""
    standard = _standard(spec)
    o, c, t, slots = spec.organisation, spec.controller, spec.timing_ticks, spec.controller.slots
    hbm3 = standard.name == "HBM3"
    turnaround = t["rtw"] - t["cl"] - t["burst"] + t["cwl"]
    fixed = {"HBM2": 2, "DDR4": 2, "DDR5": 4, "LPDDR5": 2}.get(standard.name)
    clock_ps = 1000 * (2 if hbm3 else 1) / spec.clock_ghz
    checks = {
        "Addresses are rewritten so that its map gives the memory's channel, bank, row and column.": True,
        f"The turnaround from reads to writes is that of its {standard.name}: {fixed} clocks.": fixed
        not in (None, turnaround),
        "The turnaround from reads to writes is nCL + 1, as in its GDDR6.": standard.name == "GDDR6"
        and t["rtw"] != t["cl"] + 1,
        "One activate-to-read time stands for tRCDRD and tRCDWR.": t["rcd_read"] != t["rcd_write"]
        and standard.unit == "rank",
        f"Commands take as many clocks of their bus as in its {standard.name}.": (slots.activate, slots.read)
        != _SLOTS[standard.name],
        "The clock is rounded to whole picoseconds.": clock_ps != round(clock_ps),
        "Its controllers have one queue each for reads and writes.": c.queues == "per_bank",
        "Row hits are not capped.": c.row_hit_cap > 0,
        "Rows are open; it has no adaptive policy.": c.rows == "adaptive",
        "Reads of a line that waits are sent again, writes are not.": c.coalesce_reads or not c.coalesce_writes,
        "Writes go as soon as no read waits.": c.write_idle > 1,
        "A due refresh stops the whole channel.": c.refresh_stalls == "rank"
        and o.ranks * o.pseudo_channels > 1
        and c.refresh == "all_bank",
    }
    return [sentence for sentence, holds in checks.items() if holds]
