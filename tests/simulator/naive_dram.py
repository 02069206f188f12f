"""A second DRAM model: every tick, every bank, every queued burst, straight from the rules of docs/simulator.md.

It shares no code with the compiled model and keeps no ready times: each rule is a search through the past commands.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class NaiveBurst:
    order: int
    channel: int
    pseudo: int
    group: int
    bank: int  # inside the group
    row: int
    write: bool
    first_data: int = -1
    done: int = -1


@dataclass
class Command:
    tick: int
    kind: str  # ACT, PRE, RD, WR
    channel: int
    pseudo: int
    group: int
    bank: int


class NaiveDram:
    def __init__(self, organisation: dict[str, int], timing: dict[str, int], depth: int, run_ahead: int) -> None:
        self.o, self.t, self.depth, self.run_ahead = organisation, timing, depth, run_ahead
        self.log: list[Command] = []
        self.open: dict[tuple[int, int, int, int], int] = {}
        self.blocked_until: dict[tuple[int, int], int] = {}  # after a refresh, by pseudo-channel

    def last(self, kinds: str, **where: int) -> int | None:
        for command in reversed(self.log):
            if command.kind in kinds.split() and all(getattr(command, k) == v for k, v in where.items()):
                return command.tick
        return None

    def after(self, now: int, kinds: str, gap: int, **where: int) -> bool:
        tick = self.last(kinds, **where)
        return tick is None or now >= tick + gap

    def may_precharge(self, now: int, at: dict[str, int]) -> bool:
        t = self.t
        return (
            self.after(now, "ACT", t["ras"], **at)
            and self.after(now, "RD", t["rtp"], **at)
            and self.after(now, "WR", t["cwl"] + t["burst"] + t["wr"], **at)
        )

    def may_activate(self, now: int, at: dict[str, int]) -> bool:
        t, pseudo = self.t, {"channel": at["channel"], "pseudo": at["pseudo"]}
        group = pseudo | {"group": at["group"]}
        acts = [c.tick for c in self.log if c.kind == "ACT" and c.channel == at["channel"] and c.pseudo == at["pseudo"]]
        return (
            self.after(now, "PRE", t["rp"], **at)
            and self.after(now, "ACT", t["rrd_short"], **pseudo)
            and self.after(now, "ACT", t["rrd_long"], **group)
            and (len(acts) < 4 or now >= acts[-4] + t["faw"])
            and now >= self.blocked_until.get((at["channel"], at["pseudo"]), 0)
        )

    def may_access(self, now: int, at: dict[str, int], write: bool) -> bool:
        t, pseudo = self.t, {"channel": at["channel"], "pseudo": at["pseudo"]}
        group = pseudo | {"group": at["group"]}
        same, other = ("WR", "RD") if write else ("RD", "WR")
        turn = t["rtw"] if write else t["cwl"] + t["burst"] + t["wtr_short"]
        turn_group = t["rtw"] if write else t["cwl"] + t["burst"] + t["wtr_long"]
        return (
            self.after(now, "ACT", t["rcd_write"] if write else t["rcd_read"], **at)
            and self.after(now, same, t["ccd_short"], **pseudo)
            and self.after(now, same, t["ccd_long"], **group)
            and self.after(now, other, turn, **pseudo)
            and self.after(now, other, turn_group, **group)
        )

    def row_bus_free(self, now: int, channel: int) -> bool:
        t = self.t
        return self.after(now, "ACT", t["act_slots"], channel=channel) and self.after(
            now, "PRE", t["pre_slots"], channel=channel
        )

    def refresh(self, now: int, channel: int, pseudo: int) -> None:
        """Close all rows when their timing allows it, then block the pseudo-channel for tRFC."""
        start, closing = now, False
        for group in range(self.o["bank_groups"]):
            for bank in range(self.o["banks_per_group"]):
                key = (channel, pseudo, group, bank)
                at = {"channel": channel, "pseudo": pseudo, "group": group, "bank": bank}
                tick = now
                if key in self.open:
                    while not self.may_precharge(tick, at):
                        tick += 1
                    closing = True
                    tick += self.t["rp"]
                    del self.open[key]
                else:
                    while not self.after(tick, "PRE", self.t["rp"], **at):
                        tick += 1
                start = max(start, tick)
        start = max(start, now + self.t["rp"] if closing else now)
        start = max(start, self.blocked_until.get((channel, pseudo), 0))
        self.blocked_until[channel, pseudo] = start + self.t["rfc"]

    def replay(self, bursts: list[NaiveBurst], refresh_at: int, refresh_every: int) -> int:
        """Serve all bursts, queued at tick 0 in this order; return the number of activations."""
        pending = {c: [b for b in bursts if b.channel == c] for c in range(self.o["channels"])}
        window: dict[int, list[NaiveBurst]] = {c: [] for c in pending}
        served: set[int] = set()
        now = 0
        while len(served) < len(bursts):
            if refresh_every and now >= refresh_at and (now - refresh_at) % refresh_every == 0:
                for channel in pending:
                    for pseudo in range(self.o["pseudo_channels"]):
                        self.refresh(now, channel, pseudo)
            oldest = next(i for i in range(len(bursts)) if i not in served)
            for channel in pending:
                queue = pending[channel]
                if queue and len(window[channel]) < self.depth and queue[0].order < oldest + self.run_ahead:
                    window[channel].append(queue.pop(0))
            done = [b for channel in pending for b in self.tick(now, channel, window[channel])]
            served.update(b.order for b in done)
            now += 1
        return sum(c.kind == "ACT" for c in self.log)

    def tick(self, now: int, channel: int, window: list[NaiveBurst]) -> list[NaiveBurst]:
        column: NaiveBurst | None = None
        row: NaiveBurst | None = None
        for burst in window:  # oldest first
            key = (channel, burst.pseudo, burst.group, burst.bank)
            at = {"channel": channel, "pseudo": burst.pseudo, "group": burst.group, "bank": burst.bank}
            same_bank = [b for b in window if (b.pseudo, b.group, b.bank) == (burst.pseudo, burst.group, burst.bank)]
            hits = [b for b in same_bank if self.open.get(key) == b.row]
            if hits:
                if column is None and burst is hits[0] and self.may_access(now, at, burst.write):
                    column = burst
            elif row is None and burst is same_bank[0] and self.row_bus_free(now, channel):
                allowed = self.may_precharge if key in self.open else self.may_activate
                if allowed(now, at):
                    row = burst
        if column is not None:
            self.log.append(
                Command(now, "WR" if column.write else "RD", channel, column.pseudo, column.group, column.bank)
            )
            column.first_data = now + (self.t["cwl"] if column.write else self.t["cl"])
            column.done = column.first_data + self.t["burst"]
            window.remove(column)
        if row is not None:
            key = (channel, row.pseudo, row.group, row.bank)
            kind = "PRE" if key in self.open else "ACT"
            if kind == "PRE":
                del self.open[key]
            else:
                self.open[key] = row.row
            self.log.append(Command(now, kind, channel, row.pseudo, row.group, row.bank))
        return [column] if column is not None else []
