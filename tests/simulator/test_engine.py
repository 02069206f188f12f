"""The event engine and its stations, against per-item models and by their promises."""

from __future__ import annotations

import random
from functools import partial

import numpy as np

from simulator.engine.event import Action, Engine
from simulator.engine.stations import Batch, Buffer, Credits, FetchQueue, InOrder, Station
from simulator.memory import Finished, Memory, load_memory


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


def test_in_order_passes_in_the_order_of_arrival_and_late_ones_count_from_then() -> None:
    engine, out = make_engine(), []
    gate = InOrder(engine, sink(engine, out))
    first, second = Batch(1, 0, 0), Batch(2, 0, 3)
    gate.add(first)
    gate.add(second)
    engine.at(3, lambda: gate.ready(second))
    engine.at(8, lambda: gate.ready(first))
    engine.run()
    assert out == [(1, 0, 0), (2, 8, 8)]


def test_credits_are_given_in_line() -> None:
    permits, seen = Credits(2), []
    for name in "abcd":
        permits.take(lambda name=name: seen.append(name))
    assert seen == ["a", "b"]
    permits.give()
    permits.give()
    assert seen == ["a", "b", "c", "d"]


def test_buffer_allocates_in_order_and_bounds_lines_and_allocations() -> None:
    buffer, seen = Buffer(10, 2), []
    for name, lines in (("a", 6), ("b", 6), ("c", 1), ("d", 1)):
        buffer.allocate(lines, lambda name=name: seen.append(name))
    assert seen == ["a"]  # b does not fit, and c may not overtake it
    buffer.release(6)
    assert seen == ["a", "b", "c"]  # two allocations are held
    buffer.release(1)
    assert seen == ["a", "b", "c", "d"]


def test_fetch_queue_bounds_the_bursts_under_way_and_lets_urgent_requests_pass() -> None:
    engine = make_engine(run_ahead=4)
    queue, seen = FetchQueue(engine), []
    for name in "abc":
        rows = np.arange(4, dtype=np.int64) * 32
        queue.request(rows, 32, 0, lambda _, name=name: seen.append(name))
    queue.request(np.array([4096]), 32, 1, lambda _: seen.append("urgent"), urgent=True)
    engine.run()
    assert seen[0] == "a"
    assert seen.index("urgent") < seen.index("c")
