"""The compiled DRAM model against a naive one that steps every tick, on random small memories and traces."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import pytest
from naive_dram import Burst, NaiveDram, Numbers

from simulator import _sim
from simulator.memory import load_memory, standard_names
from simulator.memory.compiled import configuration

BURST_BYTES = 32  # of the random memories
STREAMS = 3
FIELDS = {  # of an address, with the counts that they number
    "channel": "channels",
    "pseudo_channel": "pseudo_channels",
    "rank": "ranks",
    "stack": "stack_ids",
    "bank_group": "bank_groups",
    "bank": "banks_per_group",
    "column": "columns",
    "row": "rows",
}


@dataclass(frozen=True)
class Config:
    organisation: Numbers
    timing: Numbers
    controller: Numbers
    admission: Numbers
    address_map: list[tuple[str, int]]

    def place(self, line: int) -> dict[str, int]:
        """Return the fields of a line, in a second way: digit by digit instead of by masks."""
        found = dict.fromkeys(FIELDS, 0)
        weight = dict.fromkeys(FIELDS, 1)
        for name, bits in self.address_map:
            for _ in range(bits):
                line, digit = divmod(line, 2)
                found[name] += digit * weight[name]
                weight[name] *= 2
        return found

    def bank(self, place: dict[str, int]) -> int:
        number = 0
        for name in ("pseudo_channel", "rank", "stack", "bank_group", "bank"):
            number = number * self.organisation[FIELDS[name]] + place[name]
        return number

    @property
    def lines(self) -> int:
        return 2 ** sum(bits for _, bits in self.address_map)


def random_organisation(rng: random.Random) -> Numbers:
    few = {name: rng.choice([1, 1, 2]) for name in ("channels", "pseudo_channels", "ranks", "stack_ids")}
    more = {name: rng.choice([1, 2, 4]) for name in ("bank_groups", "banks_per_group", "columns")}
    return {**few, **more, "rows": rng.choice([2, 8]), "burst_bytes": BURST_BYTES}


def random_map(rng: random.Random, organisation: Numbers) -> list[tuple[str, int]]:
    bits = [name for name, count in FIELDS.items() for _ in range(organisation[count].bit_length() - 1)]
    if rng.random() < 0.3:
        rng.shuffle(bits)  # single bits, fields in pieces
        return [(name, 1) for name in bits]
    names = list(FIELDS)
    rng.shuffle(names)
    return [(name, bits.count(name)) for name in names if name in bits]


def random_timing(rng: random.Random) -> Numbers:
    def above(low: int, most: int) -> int:
        return low + rng.randint(0, most)

    t = {"burst": rng.randint(1, 4), "cl": rng.randint(1, 9), "cwl": rng.randint(1, 7)}
    t |= {"rcd_read": rng.randint(1, 8), "rcd_write": rng.randint(1, 8), "rp": rng.randint(1, 8)}
    t["ras"] = above(max(t["rcd_read"], t["rcd_write"]), 12)
    t["rc"] = above(t["ras"] + t["rp"], rng.choice([0, 6]))
    t["rrd_short"] = rng.randint(1, 4)
    t["rrd_long"] = above(t["rrd_short"], 3)
    t["faw"] = above(t["rrd_short"], rng.choice([0, 40]))
    t["aad"] = 0
    t["ccd_short"] = above(t["burst"], 1)
    t["ccd_long"] = above(t["ccd_short"], 3)
    t["ccd_short_write"] = above(t["ccd_short"], 1)
    t["ccd_long_write"] = above(t["ccd_short_write"], 4)
    t["ccd_stack"] = above(t["ccd_short"], 2)
    t["wtr_short"] = rng.randint(0, 4)
    t["wtr_long"] = above(t["wtr_short"], 4)
    t["rtw"] = max(t["cl"] + t["burst"] + rng.randint(0, 3) - t["cwl"], 1)
    t |= {"rtp": rng.randint(1, 6), "wr": rng.randint(0, 9), "rtrs": rng.randint(0, 3), "ppd": rng.choice([0, 0, 3])}
    t |= {"rfc": rng.randint(5, 40), "rfc_bank": rng.randint(5, 30), "rrefd": rng.choice([0, rng.randint(1, 9)])}
    return t


def refresh_interval(rng: random.Random, organisation: Numbers, t: Numbers, per_bank: bool) -> int:
    """Return a tREFI that leaves time between refreshes, of whole units or of single banks."""
    units = organisation["pseudo_channels"] * organisation["ranks"]
    banks = organisation["stack_ids"] * organisation["bank_groups"] * organisation["banks_per_group"]
    closing = t["ras"] + t["cwl"] + t["burst"] + t["wr"] + t["rp"] + banks * (t["ppd"] + 4)
    if per_bank:
        return banks * (units * (closing + t["rfc_bank"] + t["rrefd"]) + rng.randint(20, 60))
    return units * closing + t["rfc"] + rng.randint(20, 100)


def random_controller(rng: random.Random) -> Numbers:
    write_queue = rng.choice([2, 4, 16])
    write_high = rng.randint(1, write_queue)
    return {
        "per_bank_queues": rng.randint(0, 1),
        "read_queue": rng.choice([1, 3, 16]),
        "write_queue": write_queue,
        "bank_queue": rng.choice([1, 2, 8]),
        "row_hit_cap": rng.choice([0, 0, 1, 3]),
        "coalesce_reads": rng.randint(0, 1),
        "coalesce_writes": rng.randint(0, 1),
        "write_high": write_high,
        "write_low": rng.randrange(write_high),
        "write_idle": rng.choice([1, 1, 3]),
        "rows": rng.choice([0, 0, 1, 2]),
        "refresh": rng.randint(0, 2),
        "refresh_stalls": rng.randint(0, 1),
        "precharge_all": rng.randint(0, 1),
        "split_bus": rng.randint(0, 1),
        **{f"{name}_slots": rng.choice([0, 1, 1, 2, 3]) for name in ("act", "pre", "read", "write", "refresh")},
        "align": rng.choice([1, 1, 2]),
        "delay": rng.choice([0, 1, 5]),
    }


def random_admission(rng: random.Random) -> Numbers:
    return {
        "depth": rng.choice([1, 4, 64]),
        "program_order": rng.randint(0, 1),
        "rate": rng.choice([1, 2, 64]),
        "channel_rate": rng.choice([0, 1, 2]),
        "run_ahead": rng.choice([0, 0, 1, 8]),
    }


def random_config(rng: random.Random) -> Config:
    organisation = random_organisation(rng)
    timing, controller = random_timing(rng), random_controller(rng)
    timing["refi"] = refresh_interval(rng, organisation, timing, controller["refresh"] == 2)
    if not controller["per_bank_queues"] and not controller["split_bus"]:
        timing["aad"] = rng.choice([0, 1, 4])
    return Config(organisation, timing, controller, random_admission(rng), random_map(rng, organisation))


@dataclass(frozen=True)
class Request:
    time: int
    lines: list[int]
    stream: int
    write: bool


def random_lines(rng: random.Random, config: Config, count: int) -> list[int]:
    """Sequential, scattered, all over few lines, or in one bank."""
    pattern = rng.choice(["sequential", "scattered", "few", "bank"])
    if pattern == "sequential":
        start = rng.randrange(config.lines)
        return [(start + i) % config.lines for i in range(count)]
    if pattern == "few":
        some = [rng.randrange(config.lines) for _ in range(4)]
        return [rng.choice(some) for _ in range(count)]
    lines = [rng.randrange(config.lines) for _ in range(50 * count)]
    if pattern == "bank":
        wanted = config.place(lines[0])
        keys = ("channel", "pseudo_channel", "rank", "stack", "bank_group", "bank")
        lines = [line for line in lines if all(config.place(line)[key] == wanted[key] for key in keys)]
    return lines[:count]


def random_requests(rng: random.Random, config: Config) -> list[Request]:
    gap, write_share = rng.choice([0, 0, 5, 60]), rng.choice([0.0, 0.3, 0.7])
    time, left, requests = 0, rng.randint(1, 50), []
    while left > 0:
        lines = random_lines(rng, config, min(rng.choice([1, 2, 12]), left))
        lines = [line for i, line in enumerate(lines) if i == 0 or line != lines[i - 1]]  # merged within a request
        requests.append(Request(time, lines, rng.randrange(STREAMS), rng.random() < write_share))
        left -= len(lines)
        time += rng.randint(0, gap)
    return requests


def program_of(config: Config, requests: list[Request]) -> list[list[Burst]]:
    """Return the bursts of each request."""
    program: list[list[Burst]] = []
    order = 0
    for request in requests:
        bursts = []
        for line in request.lines:
            place = config.place(line)
            bank, row = config.bank(place), place["row"]
            bursts.append(Burst(order, request.time, line, request.write, request.stream, place["channel"], bank, row))
            order += 1
        program.append(bursts)
    return program


def compiled_run(config: Config, requests: list[Request], phase: int) -> dict[str, object]:
    dram = _sim.Dram(
        config.organisation, config.timing, config.controller, config.admission, config.address_map, STREAMS
    )
    dram.reset(phase)
    for request in requests:
        size = config.organisation["burst_bytes"]
        addresses = np.array(request.lines, dtype=np.int64) * size
        dram.enqueue(request.time, addresses, size, request.stream, request.write)
    finished: dict[int, tuple[int, int]] = {}
    while len(finished) < len(requests):
        done = dram.run_until(1 << 40)
        assert done, "nothing happens any more"
        finished.update({request: (first, last) for request, first, last in done})
    return {
        "times": [finished[i] for i in range(len(requests))],
        "streams": [(bursts, activations, hits) for _, bursts, activations, hits in dram.counts()],
        "precharges": dram.precharges,
        "refreshes": dram.refreshes,
    }


def naive_run(config: Config, requests: list[Request], phase: int) -> dict[str, object]:
    naive = NaiveDram(config.organisation, config.timing, config.controller, config.admission)
    program = program_of(config, requests)
    naive.run([burst for bursts in program for burst in bursts], phase)
    names = ("bursts", "activations", "hits")
    return {
        "times": [(min(b.first for b in bursts), max(b.last for b in bursts)) for bursts in program],
        "streams": [tuple(naive.stream_count(name, stream) for name in names) for stream in range(STREAMS)],
        "precharges": naive.count("precharges"),
        "refreshes": naive.count("refreshes"),
    }


@pytest.mark.parametrize("part", range(8))
def test_equal_to_the_naive_model_on_random_traces(part: int, seed: int) -> None:
    for case in range(150):
        rng = random.Random(f"{seed} {part} {case}")
        config = random_config(rng)
        requests = random_requests(rng, config)
        phase = rng.randrange(config.timing["refi"]) if config.controller["refresh"] == 1 else 0
        assert compiled_run(config, requests, phase) == naive_run(config, requests, phase), f"case {case}: {config}"


@pytest.mark.parametrize("name", standard_names())
def test_equal_to_the_naive_model_on_the_shipped_memories(name: str, seed: int) -> None:
    rng = random.Random(f"{seed} {name}")
    config = Config(**configuration(load_memory(name)))
    requests = [request for _ in range(4) for request in random_requests(rng, config)]
    requests.sort(key=lambda request: request.time)
    phase = rng.randrange(config.timing["refi"])
    assert compiled_run(config, requests, phase) == naive_run(config, requests, phase)


@dataclass(frozen=True)
class Line:
    """One line of a trace."""

    cycle: int
    write: bool
    address: int
    size: int
    stream: int

    def text(self) -> str:
        return f"{self.cycle} {'W' if self.write else 'R'} {self.address:#x} {self.size} stream{self.stream}\n"


def random_trace(rng: random.Random, config: Config) -> list[Line]:
    requests, trace = random_requests(rng, config), []
    for stream in range(STREAMS):  # so that labels are numbered as here
        trace.append(Line(0, False, stream * BURST_BYTES, 1, stream))
    for request in requests:
        for line in request.lines:
            size = rng.choice([1, BURST_BYTES, 3 * BURST_BYTES])
            address = line * BURST_BYTES + rng.choice([0, rng.randrange(BURST_BYTES)])
            size = min(size, config.lines * BURST_BYTES - address)
            trace.append(Line(request.time, request.write, address, size, request.stream))
    return trace


def cut(config: Config, trace: list[Line], merge: bool) -> tuple[list[Burst], int]:
    """Return the bursts of a trace, and how many were merged into the one just before them."""
    program: list[Burst] = []
    merged = 0
    for item in trace:
        for line in range(item.address // BURST_BYTES, (item.address + item.size - 1) // BURST_BYTES + 1):
            if merge and program and (program[-1].line, program[-1].write) == (line, item.write):
                merged += 1
                continue
            place = config.place(line)
            bank = config.bank(place)
            program.append(
                Burst(len(program), item.cycle, line, item.write, item.stream, place["channel"], bank, place["row"])
            )
    return program, merged


@pytest.mark.parametrize("part", range(4))
def test_replay_equals_the_naive_model(part: int, seed: int) -> None:
    for case in range(120):
        rng = random.Random(f"{seed} replay {part} {case}")
        config = random_config(rng)
        config.admission["program_order"] = 1
        if config.lines < STREAMS:
            continue
        trace, merge = random_trace(rng, config), rng.random() < 0.7
        replay = _sim.Replay(
            config.organisation, config.timing, config.controller, config.admission, config.address_map, merge, "trace"
        )
        replay.feed("".join(item.text() for item in trace).encode())
        replay.finish()
        record = replay.record()

        naive = NaiveDram(config.organisation, config.timing, config.controller, config.admission)
        program, merged = cut(config, trace, merge)
        naive.run(program)
        moved = [burst for burst in program if not burst.absorbed]
        waits = [burst.last - burst.accepted for burst in program if not burst.write]
        assert record["merged"] == merged
        assert record["ticks"] == max(burst.last for burst in moved)
        assert (record["reads"], record["writes"]) == tuple(
            sum(burst.write is write for burst in moved) for write in (False, True)
        )
        assert (record["precharges"], record["refreshes"]) == (naive.count("precharges"), naive.count("refreshes"))
        assert record["latency"]["count"] == len(waits)
        assert record["latency"]["max"] == max(waits)
        assert record["latency"]["mean"] == pytest.approx(sum(waits) / len(waits))
        for stream, found in enumerate(record["streams"]):
            names = {"bursts": "bursts", "absorbed": "absorbed", "activates": "activations", "row_hits": "hits"}
            assert {name: found[name] for name in names} == {
                name: naive.stream_count(counted, stream) for name, counted in names.items()
            }
