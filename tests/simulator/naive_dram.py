"""A second DRAM model: every tick, every channel, every waiting burst, straight from docs/memory.md."""

from __future__ import annotations

from naive_channel import ALL_BANK, NO_REFRESH, Bank, Burst, Channel, Numbers

__all__ = ["Burst", "NaiveDram", "Numbers"]


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
            self.writing = writes > self.c["write_low"] or not reads
            return
        idle = self.c["write_idle"] if self.more_to_come else 1
        self.writing = writes >= self.c["write_high"] or (not reads and writes >= idle)

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
        second = self.search() if sent and self.c["split_bus"] else None
        if second and (sent in ("RD", "WR")) != (second[0] in ("RD", "WR")):
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
