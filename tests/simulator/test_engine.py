"""The event engine and its stations, against per-item models and by their promises."""

from __future__ import annotations

import random
from collections import deque
from functools import partial

import numpy as np

from simulator.engine.event import Action, Engine
from simulator.engine.pipeline import Unit
from simulator.engine.stations import Batch, Buffer, FetchQueue, Station
from simulator.memory import Finished, Memory, load_memory
from simulator.memory.ideal import IdealMemory, IdealSpec


def make_engine(run_ahead: int = 1024) -> Engine:
    memory = Memory(load_memory("hbm2", 16), 1.0, ("a", "b"), run_ahead)
    memory.reset()
    return Engine(memory)


def sink(engine: Engine, out: list[tuple[int, int, int]]) -> object:
    def take(batch: Batch, accepted: Action) -> None:
        out.append((batch.items, batch.first, batch.last))
        accepted()

    return take


def test_actions_run_in_order_of_time_then_of_asking() -> None:
    engine, seen = make_engine(), []
    for name, cycle in (("c", 5), ("a", 2), ("d", 5), ("b", 2)):
        engine.at(cycle, lambda name=name: seen.append((name, engine.now)))
    engine.at(3, lambda: engine.at(1, lambda: seen.append(("late", engine.now))))
    assert engine.run() == 5
    assert seen == [("a", 2), ("b", 2), ("late", 3), ("c", 5), ("d", 5)]


def test_memory_answers_at_its_own_time() -> None:
    engine, seen = make_engine(), []
    spec = load_memory("hbm2")
    late = spec.controller.slots.activate - 1  # an activation takes effect in its last clock
    idle = late + spec.timing_ticks["rcd_read"] + spec.timing_ticks["cl"] + spec.timing_ticks["burst"]
    address = np.array([0], dtype=np.int64)

    def done(data: Finished) -> None:
        seen.append((engine.now, data.last))

    engine.at(10, lambda: engine.access(address, 32, 0, done))
    engine.at(15, lambda: seen.append("between"))
    engine.run()
    assert seen == ["between", (10 + idle, 10 + idle)]
    assert engine.memory_active_cycles == idle


def items_one_by_one(batches: list[tuple[int, int, int]], stages: list[tuple[int, int]]) -> list[int]:
    """Ready times of the last item of every batch, item by item, with queues that never fill."""
    ends, free = [], [0] * len(stages)
    for items, first, step in batches:
        for i in range(items):
            ready = first + i * step
            for s, (interval, latency) in enumerate(stages):
                start = max(ready, free[s])
                free[s] = start + interval
                ready = free[s] + latency
        ends.append(ready)
    return ends


def test_streaming_batches_equal_items_served_one_by_one(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(200):
        stages = [(rng.randint(1, 9), rng.randint(0, 20)) for _ in range(rng.randint(1, 4))]
        engine, out = make_engine(), []
        forward = sink(engine, out)
        for interval, latency in reversed(stages):
            station = Station(engine, lambda _, i=interval: i, latency, forward, capacity=1000)
            forward = station.offer
        batches, at = [], 0
        for _ in range(rng.randint(1, 6)):
            at += rng.randint(0, 60)
            items = rng.randint(1, 12)
            batches.append((items, at, 0))
            engine.at(at, partial(station.offer, Batch(items, at, at), lambda: None))
        engine.run()
        assert [last for _, _, last in out] == items_one_by_one(batches, stages)
        assert station.busy_cycles == sum(items for items, _, _ in batches) * stages[0][0]


def test_a_full_queue_stalls_the_unit_before_it() -> None:
    engine, out = make_engine(), []
    slow = Station(engine, lambda _: 100, 0, sink(engine, out), capacity=1)
    fast = Station(engine, lambda _: 1, 0, slow.offer, capacity=10)
    starts = []
    inner = fast._interval
    fast._interval = lambda batch: starts.append(engine.now) or inner(batch)
    for _ in range(5):
        fast.offer(Batch(1, 0, 0), lambda: None)
    engine.run()
    # One batch is served by the slow unit, one waits in front of it, one is held by the fast unit.
    assert starts == [0, 1, 2, 101, 201]
    assert [last for _, _, last in out] == [101, 201, 301, 401, 501]


def test_urgent_batches_overtake() -> None:
    engine, out = make_engine(), []
    station = Station(engine, lambda _: 10, 0, sink(engine, out), capacity=10)
    for items in (1, 2, 3):
        station.offer(Batch(items, 0, 0), lambda: None)
    engine.at(5, lambda: station.offer_urgent(Batch(9, 5, 5)))
    engine.run()
    assert [items for items, _, _ in out] == [1, 9, 2, 3]


def test_what_is_woken_acts_in_this_cycle_if_its_turn_is_still_to_come() -> None:
    engine, seen = make_engine(), []

    def note(name: str) -> Action:
        return lambda: seen.append((name, engine.now))

    def middle() -> None:
        engine.wake(note("upstream"), 1)
        engine.wake(note("itself"), 2)
        engine.wake(note("downstream"), 3)

    engine.at(5, middle, 2)
    engine.at(5, note("first"), 0)
    engine.run()
    assert seen == [("first", 5), ("downstream", 5), ("upstream", 6), ("itself", 6)]


def line_of_units(
    engine: Engine, units: list[tuple[int, int, int]], arrivals: list[int]
) -> tuple[list[int], list[Unit]]:
    """Units of (service, latency, places in front of the next), fed with items at cycles; when they leave the last."""
    queues: list[deque[int]] = [deque() for _ in units]
    left: list[int] = []
    made: list[Unit] = []

    def take(at: int) -> int | None:
        if not queues[at]:
            return None
        if at:
            made[at - 1].room_freed()
        return queues[at].popleft()

    def give(at: int, item: int) -> None:
        if at == len(units):
            left.append(engine.now)
            return
        queues[at].append(item)
        made[at].wake()

    for i, (service, latency, places) in enumerate(units):
        last = i + 1 == len(units)
        made.append(
            Unit(
                engine, str(i), i + 1, source=partial(take, i), service=lambda _, s=service: s, latency=latency,
                room=lambda i=i, last=last, places=places: last or len(queues[i + 1]) < places,
                deliver=partial(give, i + 1), more=lambda i=i: bool(queues[i]),
            )
        )  # fmt: skip
    for item, cycle in enumerate(arrivals):
        engine.at(cycle, partial(give, 0, item))
    engine.run()
    return left, made


def stepped(units: list[tuple[int, int, int]], arrivals: list[int]) -> tuple[list[int], list[list[int]]]:
    """The same, cycle by cycle, with busy, starved and blocked cycles of each unit."""
    queues: list[list[int]] = [[] for _ in units]
    results: list[list[int]] = [[] for _ in units]  # due
    free, left, counts = [0] * len(units), [], [[0, 0, 0] for _ in units]
    cycle = 0
    while len(left) < len(arrivals):
        queues[0] += [cycle] * arrivals.count(cycle)
        for i, (service, latency, places) in enumerate(units):
            last = i + 1 == len(units)
            while results[i] and results[i][0] <= cycle and (last or len(queues[i + 1]) < places):
                results[i].pop(0)
                (left if last else queues[i + 1]).append(cycle)
            overdue = bool(results[i] and results[i][0] <= cycle)
            if cycle >= free[i] and not overdue and queues[i]:
                queues[i].pop(0)
                free[i] = cycle + service
                results[i].append(free[i] + latency)
            counts[i][0 if cycle < free[i] else 2 if overdue else 1] += 1
        cycle += 1
    return left, counts


def test_a_line_of_units_equals_one_that_is_stepped(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(200):
        units = [(rng.randint(1, 9), rng.randint(0, 20), rng.randint(1, 3)) for _ in range(rng.randint(1, 4))]
        arrivals = sorted(rng.randint(0, 60) for _ in range(rng.randint(1, 15)))
        left, made = line_of_units(make_engine(), units, arrivals)
        expected, counts = stepped(units, arrivals)
        assert left == expected
        for unit, (busy, starved, blocked) in zip(made, counts, strict=True):
            account = unit.account.close(left[-1])
            assert (account.busy, account.blocked) == (busy, blocked)
            assert account.starved + account.idle == left[-1] - busy - blocked
            assert starved in (left[-1] - busy - blocked, left[-1] - busy - blocked + 1)  # the cycle of the last one


def test_buffer_allocates_in_order_and_bounds_lines_and_allocations() -> None:
    engine, seen = make_engine(), []
    buffer = Buffer(engine, 10, 2)
    for name, lines in (("a", 6), ("b", 6), ("c", 1), ("d", 1)):
        buffer.allocate(lines, lambda name=name: seen.append((name, engine.now)))
    assert not seen  # it has its turn in a cycle
    engine.at(5, partial(buffer.release, 6), 3)
    engine.at(9, partial(buffer.release, 1), 3)
    engine.run()
    # b does not fit beside a, and c may not overtake it; then two allocations are held.
    assert seen == [("a", 0), ("b", 6), ("c", 6), ("d", 10)]
    assert not buffer.waiting


def test_fetch_queue_bounds_the_bursts_under_way_and_lets_urgent_requests_pass() -> None:
    engine = make_engine(run_ahead=4)
    queue, seen = FetchQueue(engine), []
    for name in "abc":
        rows = np.arange(4, dtype=np.int64) * 32
        queue.request([(rows, 32, 0)], lambda _, name=name: seen.append(name))
    queue.request([(np.array([4096]), 32, 1)], lambda _: seen.append("urgent"), urgent=True)
    engine.run()
    assert seen == ["urgent", "a", "b", "c"]


def ideal_engine(latency: int = 7, bytes_per_cycle: int = 64, run_ahead: int = 1 << 20) -> Engine:
    memory = IdealMemory(IdealSpec(latency, bytes_per_cycle, 1.0), ("a", "b"), run_ahead)
    return Engine(memory)


def test_fetch_queue_takes_its_lines_in_turn_and_waits_for_all_parts() -> None:
    engine = ideal_engine()
    queue, seen = FetchQueue(engine, lines=3), []
    row = np.zeros(1, dtype=np.int64)
    for name, line in (("k0", 0), ("k1", 0), ("k2", 0), ("v0", 1), ("w0", 2)):
        parts = [(row, 64, 0), (row, 128, 1)]
        queue.request(parts, lambda data, name=name: seen.append((name, data.first, data.last)), line=line)
    engine.run()
    # Three cycles each; both parts have begun with the second one's first data.
    assert seen == [("k0", 9, 10), ("v0", 12, 13), ("w0", 15, 16), ("k1", 18, 19), ("k2", 21, 22)]


def test_ideal_memory_in_closed_form(seed: int) -> None:
    rng = random.Random(seed)
    memory = IdealMemory(IdealSpec(rng.randint(0, 50), rng.randint(1, 100), 1.0), ("a",), 1)
    cycle = free = 0
    for _ in range(50):
        cycle += rng.randint(0, 30)
        rows, size = rng.randint(1, 20), rng.randint(1, 100)
        start, moved = max(cycle, free), rows * -(-size // 32) * 32
        request = memory.submit(cycle, np.zeros(rows, dtype=np.int64), size, 0)
        (done,) = memory.run_until(cycle)
        free = start + -(-moved // memory.spec.bytes_per_cycle)
        assert done == Finished(request, start + memory.spec.latency + 1, free + memory.spec.latency)
    assert memory.run_until(1 << 40) == []
    assert memory.traffic()["a"].bursts * 32 >= memory.traffic()["a"].useful_bytes
