"""The part of the naive DRAM model below its schedulers: banks, timing table, buses, refresh, acceptance.

It shares no code with the compiled model and looks nothing up ahead of time: what a command waits for is the table of
docs/memory.md, evaluated over the last commands of all banks. Configurations are what simulator._sim takes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

LONG_AGO = -(10**9)
Numbers = dict[str, int]
OPEN, CLOSED, ADAPTIVE = range(3)
NO_REFRESH, ALL_BANK, PER_BANK = range(3)

# (command, the command before it, where that was sent, ticks between them)
TABLE = (
    ("ACT", "ACT", "bank", "rc"),
    ("ACT", "PRE", "bank", "rp"),
    ("ACT", "auto PRE", "bank", "rp"),
    ("ACT", "ACT", "unit", "rrd_short"),
    ("ACT", "ACT", "group", "rrd_long"),
    ("ACT", "REF", "bank", "rfc"),
    ("ACT", "REF bank", "bank", "rfc_bank"),
    ("ACT", "REF bank", "unit", "rrefd"),
    ("RD", "ACT", "bank", "rcd_read"),
    ("WR", "ACT", "bank", "rcd_write"),
    ("RD", "RD", "unit", "ccd_short"),
    ("RD", "RD", "group", "ccd_long"),
    ("RD", "RD", "other stacks", "ccd_stack"),
    ("WR", "WR", "unit", "ccd_short_write"),
    ("WR", "WR", "group", "ccd_long_write"),
    ("WR", "WR", "other stacks", "ccd_stack"),
    ("WR", "RD", "unit", "rtw"),
    ("RD", "WR", "unit", "write_to_read_short"),
    ("RD", "WR", "group", "write_to_read_long"),
    ("RD", "RD", "other ranks", "rank_same"),
    ("WR", "RD", "other ranks", "rank_read_to_write"),
    ("WR", "WR", "other ranks", "rank_same"),
    ("RD", "WR", "other ranks", "rank_write_to_read"),
    ("PRE", "ACT", "bank", "ras"),
    ("PRE", "RD", "bank", "rtp"),
    ("PRE", "WR", "bank", "write_recovery"),
    ("PRE", "PRE", "unit", "ppd"),
    ("REF", "ACT", "bank", "rc"),
    ("REF", "PRE", "bank", "rp"),
    ("REF", "auto PRE", "bank", "rp"),
    ("REF", "REF", "bank", "rfc"),
    ("REF bank", "ACT", "bank", "rc"),
    ("REF bank", "PRE", "bank", "rp"),
    ("REF bank", "auto PRE", "bank", "rp"),
    ("REF bank", "ACT", "unit", "rrd_short"),
    ("REF bank", "REF bank", "bank", "rfc_bank"),
    ("REF bank", "REF bank", "unit", "rrefd"),
)


def gaps_of(t: Numbers) -> Numbers:
    """The timings, with those that the table makes of several."""
    written = t["cwl"] + t["burst"]
    made = {
        "write_to_read_short": written + t["wtr_short"],
        "write_to_read_long": written + t["wtr_long"],
        "write_recovery": written + t["wr"],
        "rank_same": t["burst"] + t["rtrs"],
        "rank_read_to_write": t["cl"] + t["burst"] + t["rtrs"] - t["cwl"],
        "rank_write_to_read": written + t["rtrs"] - t["cl"],
    }
    at_least_a_burst = {name: max(value, t["burst"]) for name, value in t.items() if name.startswith("ccd")}
    return {**t, **made, **at_least_a_burst}


@dataclass(eq=False)
class Burst:
    order: int  # in the program
    time: int  # of issue
    line: int
    write: bool
    stream: int
    channel: int
    bank: int  # its number in the channel
    row: int
    accepted: int = -1
    first: int = -1  # tick of its first data
    last: int = -1
    absorbed: bool = False
    served: bool = False

    def finish(self, first: int, last: int) -> None:
        self.first, self.last, self.served = first, last, True


@dataclass(eq=False)
class Bank:
    number: int
    unit: int
    stack: int
    group: int
    row: int | None = None
    served: int = 0  # bursts since the activation
    active: Burst | None = None
    last: Counter[str] = field(default_factory=Counter)  # tick of each kind of command, LONG_AGO if none


class Channel:
    """The device and the buses of a channel, and what its two kinds of schedulers have in common."""

    def __init__(self, organisation: Numbers, timing: Numbers, controller: Numbers) -> None:
        o = organisation
        self.o, self.t, self.c = organisation, gaps_of(timing), controller
        self.ranks = o["ranks"]
        self.banks = [
            Bank(0, unit, stack, group)
            for unit in range(o["pseudo_channels"] * o["ranks"])
            for stack in range(o["stack_ids"])
            for group in range(o["bank_groups"])
            for _ in range(o["banks_per_group"])
        ]
        for number, bank in enumerate(self.banks):
            bank.number = number
            bank.last.update({kind: LONG_AGO for row in TABLE for kind in row[:2]})
        self.near = {bank: self.neighbours(bank) for bank in self.banks}
        self.activations = {bank.unit: [LONG_AGO] * 4 for bank in self.banks}
        self.free_from = {"row": 0, "column": 0}
        self.fifo: list[Burst] = []
        self.more_to_come = False  # into the controller, without waiting for what it holds
        self.joined: list[Burst] = []  # reads that get the data of another one of their line
        self.due: list[list[Bank]] = []  # refreshes: their banks
        self.turn = 0  # of the banks to refresh
        self.split_act: int | None = None  # tick of an activation whose second command is still to be sent
        self.count: Counter[str] = Counter()
        self.stream_count: Counter[tuple[str, int]] = Counter()
        self.now = 0

    def neighbours(self, bank: Bank) -> dict[str, list[Bank]]:
        unit = [b for b in self.banks if b.unit == bank.unit]
        pseudo = [b for b in self.banks if b.unit // self.ranks == bank.unit // self.ranks]
        return {
            "bank": [bank],
            "group": [b for b in unit if (b.stack, b.group) == (bank.stack, bank.group)],
            "other stacks": [b for b in unit if b.stack != bank.stack],
            "unit": unit,
            "other ranks": [b for b in pseudo if b.unit != bank.unit],
        }

    # Commands

    def slots(self, kind: str) -> int:
        names = {"ACT": "act", "PRE": "pre", "RD": "read", "WR": "write", "REF": "refresh", "REF bank": "refresh"}
        return self.c[names[kind] + "_slots"]

    def effect(self, kind: str) -> int:
        """Return the tick in which a command sent now takes effect: the last one in which it holds its bus."""
        return self.now + max(self.slots(kind), 1) - 1

    def bus(self, kind: str) -> str:
        return "column" if kind in ("RD", "WR") and self.c["split_bus"] else "row"

    def can_send(self, kind: str, banks: list[Bank]) -> bool:
        if self.free_from[self.bus(kind)] > self.now:
            return False
        if kind != "PRE" and self.now % self.c["align"]:
            return False
        if kind == "ACT" and self.split_act is not None:
            return False
        return all(self.timing_allows(kind, bank, self.effect(kind)) for bank in banks)

    def timing_allows(self, kind: str, bank: Bank, tick: int) -> bool:
        if kind == "ACT" and tick < self.activations[bank.unit][-4] + self.t["faw"]:
            return False
        near = self.near[bank]
        return all(
            tick >= other.last[before] + self.t[gap]
            for command, before, where, gap in TABLE
            if command == kind
            for other in near[where]
        )

    def send(self, kind: str, banks: list[Bank]) -> int:
        """Return the tick in which the command takes effect."""
        effect = self.effect(kind)
        self.free_from[self.bus(kind)] = self.now + self.slots(kind)
        for bank in banks:
            bank.last[kind] = effect
        return effect

    def activate(self, bank: Bank, burst: Burst) -> None:
        effect = self.send("ACT", [bank])
        bank.row, bank.served = burst.row, 0
        self.activations[bank.unit].append(effect)
        self.stream_count["activations", burst.stream] += 1
        if self.t["aad"]:
            self.split_act = effect

    def second_activate(self) -> None:
        """Send the second command of an activation, if there is one and its bus is free."""
        if self.split_act is not None and self.free_from["row"] <= self.now and self.now % self.c["align"] == 0:
            self.free_from["row"] = self.now + self.slots("ACT")
            self.split_act = None

    def second_activate_is_late(self) -> bool:
        return self.split_act is not None and self.effect("ACT") >= self.split_act + self.t["aad"]

    def precharge(self, banks: list[Bank]) -> None:
        self.send("PRE", banks)
        for bank in banks:
            bank.row = None
        self.count["precharges"] += len(banks)

    def access(self, bank: Bank, burst: Burst, close: bool) -> None:
        effect = self.send("WR" if burst.write else "RD", [bank])
        data = effect + self.t["cwl" if burst.write else "cl"]
        seen = data + (0 if burst.write else self.c["delay"])
        burst.finish(seen, seen + self.t["burst"])
        for read in [read for read in self.joined if read.line == burst.line and not burst.write]:
            read.finish(burst.first, burst.last)
            self.joined.remove(read)
        self.stream_count["bursts", burst.stream] += 1
        self.stream_count["hits", burst.stream] += bank.served > 0
        bank.served += 1
        if close:
            bank.last["auto PRE"] = max(
                bank.last[before] + self.t[gap]
                for command, before, where, gap in TABLE
                if command == "PRE" and where == "bank"
            )
            bank.row = None
            self.count["precharges"] += 1

    def closes(self, waiting: bool) -> bool:
        """Is the row closed with a column command after which such bursts do (not) wait for it?"""
        return self.c["rows"] == CLOSED or (self.c["rows"] == ADAPTIVE and not waiting)

    # Refresh

    def fall_due(self) -> None:
        units: dict[int, list[Bank]] = {}
        for bank in self.banks:
            units.setdefault(bank.unit, []).append(bank)
        if self.c["refresh"] == ALL_BANK:
            self.due += units.values()
        else:
            self.due += [[banks[self.turn % len(banks)]] for banks in units.values()]
            self.turn += 1

    def send_refresh(self) -> bool:
        """Send what the oldest due refresh needs, if that can be sent."""
        if not self.due:
            return False
        banks = self.due[0]
        opened = [bank for bank in banks if bank.row is not None]
        if not opened:
            kind = "REF" if self.c["refresh"] == ALL_BANK else "REF bank"
            if not self.can_send(kind, banks):
                return False
            self.send(kind, banks)
            self.due.pop(0)
            self.count["refreshes"] += 1
            return True
        together = self.c["refresh"] == ALL_BANK and self.c["precharge_all"]
        for closing in [opened] if together else [[bank] for bank in opened]:
            if all(bank.active is None for bank in closing) and self.can_send("PRE", closing):
                self.precharge(closing)
                return True
        return False

    def stalled(self, bank: Bank) -> bool:
        if self.c["refresh_stalls"]:
            return any(bank in banks for banks in self.due)
        return bool(self.due)

    # Acceptance

    def accept(self, oldest: int, admission: Numbers) -> None:
        taken = 0
        self.more_to_come = bool(self.fifo)
        while self.fifo and self.fifo[0].time < self.now + (not admission["program_order"]):
            burst = self.fifo[0]
            if admission["run_ahead"] and burst.order >= oldest + admission["run_ahead"]:
                self.more_to_come = False
                return
            if admission["channel_rate"] and taken == admission["channel_rate"]:
                return
            if not self.absorb(burst):
                if len(self.waiting(burst.write)) >= self.c["write_queue" if burst.write else "read_queue"]:
                    return
                self.waiting(burst.write).append(burst)
            burst.accepted = self.now
            self.fifo.pop(0)
            self.more_to_come = bool(self.fifo)
            taken += 1

    def absorb(self, burst: Burst) -> bool:
        same = [other for other in self.all_waiting() if other.line == burst.line]
        writes = [other for other in same if other.write]
        reads = [other for other in same if not other.write]
        if writes and (not burst.write or self.c["coalesce_writes"]):
            burst.finish(*[self.now + 1 + self.c["delay"]] * 2)
        elif reads and not burst.write and self.c["coalesce_reads"]:
            self.joined.append(burst)
        else:
            return False
        burst.absorbed = True
        self.stream_count["absorbed", burst.stream] += 1
        return True

    def waiting(self, write: bool) -> list[Burst]:
        """What is in the window (the buffer) of reads or writes."""
        raise NotImplementedError

    def all_waiting(self) -> list[Burst]:
        return self.waiting(False) + self.waiting(True)

    def step(self) -> None:
        """Send the commands of a tick."""
        raise NotImplementedError
