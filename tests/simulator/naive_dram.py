"""A second DRAM model: every tick, every channel, every waiting burst, straight from docs/memory.md.

It shares no code with the compiled model and looks nothing up ahead of time: what a command waits for is the table of
that page, evaluated over the last commands of all banks. Configurations are the dictionaries that simulator._sim takes.
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


class SharedQueue(Channel):
    def __init__(self, *config: Numbers) -> None:
        super().__init__(*config)
        self.windows: dict[bool, list[Burst]] = {False: [], True: []}
        self.writing = False
        self.active: list[Burst] = []

    def waiting(self, write: bool) -> list[Burst]:
        return self.windows[write]

    def look_at_mode(self) -> None:
        reads, writes = len(self.windows[False]), len(self.windows[True])
        if self.writing:
            if writes <= self.c["write_low"] and reads:
                self.writing = False
        elif writes >= self.c["write_high"] or (not reads and writes >= (self.c["write_idle"] if self.more_to_come else 1)):
            self.writing = True

    def usable(self) -> list[Burst]:
        """The window of the mode, without what a refresh stalls."""
        if self.due and not self.c["refresh_stalls"]:
            return []
        self.look_at_mode()
        return [burst for burst in self.windows[self.writing] if not self.stalled(self.banks[burst.bank])]

    def can_access(self, burst: Burst) -> bool:
        bank = self.banks[burst.bank]
        return bank.row == burst.row and self.can_send("WR" if burst.write else "RD", [bank])

    def serve(self, burst: Burst) -> None:
        bank = self.banks[burst.bank]
        if bank.active is burst:
            bank.active = None
            self.active.remove(burst)
        else:
            self.windows[burst.write].remove(burst)
        hits = any(other.bank == burst.bank and other.row == burst.row for other in self.all_waiting())
        self.access(bank, burst, bank.active is None and self.closes(hits))

    def oldest_active(self) -> Burst | None:
        return next((burst for burst in sorted(self.active, key=lambda b: b.order) if self.can_access(burst)), None)

    def row_candidate(self, window: list[Burst]) -> Burst | None:
        """The oldest burst of which a bank's ACT or PRE can be sent."""
        seen: set[int] = set()
        for burst in window:
            bank = self.banks[burst.bank]
            if bank.number in seen:
                continue
            seen.add(bank.number)
            if bank.row is None:
                if self.can_send("ACT", [bank]):
                    return burst
            elif bank.row != burst.row and self.may_close(bank, burst, window) and self.can_send("PRE", [bank]):
                return burst
        return None

    def may_close(self, bank: Bank, oldest: Burst, window: list[Burst]) -> bool:
        if bank.active is not None:
            return False
        if self.c["row_hit_cap"] and bank.served >= self.c["row_hit_cap"]:
            return True
        hits = [other for other in window if other.bank == bank.number and other.row == bank.row]
        return not any(hit.accepted <= oldest.accepted for hit in hits)

    def send_row_command(self, burst: Burst) -> None:
        bank = self.banks[burst.bank]
        if bank.row is not None:
            self.precharge([bank])
            return
        self.activate(bank, burst)
        self.windows[burst.write].remove(burst)
        self.active.append(burst)
        bank.active = burst

    def step(self) -> None:
        if self.c["split_bus"]:
            self.step_column_bus()
            self.step_row_bus()
        elif self.second_activate_is_late() or not self.step_shared_bus():
            self.second_activate()

    def step_column_bus(self) -> None:
        burst = self.oldest_active() or next(filter(self.can_access, self.usable()), None)
        if burst is not None:
            self.serve(burst)

    def step_row_bus(self) -> None:
        if not self.send_refresh() and (burst := self.row_candidate(self.usable())):
            self.send_row_command(burst)

    def step_shared_bus(self) -> bool:
        active = self.oldest_active()
        if active is not None:
            self.serve(active)
            return True
        if self.send_refresh():
            return True
        window = self.usable()
        hit, row = next(filter(self.can_access, window), None), self.row_candidate(window)
        if hit is not None and (row is None or hit.order < row.order):
            self.serve(hit)
        elif row is not None:
            self.send_row_command(row)
        return hit is not None or row is not None


class BankQueues(Channel):
    def __init__(self, *config: Numbers) -> None:
        super().__init__(*config)
        self.buffers: dict[bool, list[Burst]] = {False: [], True: []}
        self.queues: list[list[Burst]] = [[] for _ in self.banks]
        self.drain = 0  # moves left
        self.place = 1  # of the round, after bank 0

    def waiting(self, write: bool) -> list[Burst]:
        return self.buffers[write]

    def all_waiting(self) -> list[Burst]:
        return super().all_waiting() + [burst for queue in self.queues for burst in queue]

    def command_of(self, bank: Bank) -> tuple[str, Burst] | None:
        queue = self.queues[bank.number]
        if not queue or self.stalled(bank):
            return None
        if bank.row is None:
            return ("ACT", queue[0]) if self.can_send("ACT", [bank]) else None
        hits = [burst for burst in queue if burst.row == bank.row]
        capped = 0 < self.c["row_hit_cap"] <= bank.served
        if queue[0].row != bank.row and (not hits or capped) and self.can_send("PRE", [bank]):
            return "PRE", queue[0]
        for burst in hits:
            kind = "WR" if burst.write else "RD"
            if self.can_send(kind, [bank]):
                return kind, burst
        return None

    def search(self) -> tuple[str, Burst] | None:
        for i in range(len(self.banks)):
            bank = self.banks[(self.place + i) % len(self.banks)]
            found = self.command_of(bank)
            if found is not None:
                self.place = bank.number + 1
                return found
        return None

    def send_found(self, kind: str, burst: Burst) -> None:
        bank = self.banks[burst.bank]
        queue = self.queues[bank.number]
        if kind == "ACT":
            self.activate(bank, burst)
        elif kind == "PRE":
            self.precharge([bank])
        else:
            queue.remove(burst)
            self.access(bank, burst, self.closes(any(other.row == burst.row for other in queue)))

    def step(self) -> None:
        sent: str | None = None
        if self.send_refresh():
            sent = "REF"
        elif found := self.search():
            sent = found[0]
            self.send_found(*found)
        if sent and self.c["split_bus"] and (second := self.search()):
            if (sent in ("RD", "WR")) != (second[0] in ("RD", "WR")):
                self.send_found(*second)
        self.move()

    def move(self) -> None:
        reads, writes = self.buffers[False], self.buffers[True]
        if not self.drain:
            idle = 1 if not reads and not self.more_to_come else self.c["write_idle"]
            if len(writes) >= self.c["write_high"] or (not any(self.queues) and len(writes) >= idle):
                self.drain = max(len(writes) - self.c["write_low"], 1)
        for burst in writes if self.drain else reads:
            if len(self.queues[burst.bank]) < self.c["bank_queue"]:
                self.buffers[burst.write].remove(burst)
                self.queues[burst.bank].append(burst)
                self.drain -= bool(self.drain)
                return


class NaiveDram:
    """Serves a program of bursts, all known from the start."""

    def __init__(self, organisation: Numbers, timing: Numbers, controller: Numbers, admission: Numbers) -> None:
        self.t, self.c, self.a = timing, controller, admission
        kind = BankQueues if controller["per_bank_queues"] else SharedQueue
        self.channels = [kind(organisation, timing, controller) for _ in range(organisation["channels"])]
        banks = organisation["stack_ids"] * organisation["bank_groups"] * organisation["banks_per_group"]
        self.interval = timing["refi"] if controller["refresh"] == ALL_BANK else -(-timing["refi"] // banks)

    def run(self, program: list[Burst], refresh_phase: int = 0) -> None:
        """Serve the bursts; `refresh_phase` ticks have passed since the last refresh."""
        left = list(program)  # not yet dispatched
        if not self.a["program_order"]:
            for burst in left:
                self.channels[burst.channel].fifo.append(burst)
            left = []
        unserved = list(program)
        now = 0
        while unserved:
            for channel in self.channels:
                channel.now = now
                if self.c["refresh"] != NO_REFRESH and now > 0 and (now + refresh_phase) % self.interval == 0:
                    channel.fall_due()
                channel.accept(unserved[0].order, self.a)
                channel.step()
            for _ in range(self.a["rate"]):
                if not left or left[0].time > now or self.full(left[0].channel):
                    break
                left[0].time = now  # of its dispatch
                self.channels[left[0].channel].fifo.append(left.pop(0))
            unserved = [burst for burst in unserved if not burst.served]
            now += 1
            assert now < 1_000_000, "the model does not come to an end"

    def full(self, channel: int) -> bool:
        return len(self.channels[channel].fifo) >= self.a["depth"]

    def count(self, name: str) -> int:
        return sum(channel.count[name] for channel in self.channels)

    def stream_count(self, name: str, stream: int) -> int:
        return sum(channel.stream_count[name, stream] for channel in self.channels)
