"""Traces of a run: the timeline of its units, and its requests, which `simulate dram` repeats exactly."""

from __future__ import annotations

import dataclasses
import gzip
import itertools
import json
import random
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from command import Simulate

import simulator
from simulator.engine.watch import merged
from simulator.errors import ConfigError, UnsupportedError
from simulator.memory.recorder import read_head
from simulator.memory.result import ReplayResult
from simulator.report.perfetto import MOST_EVENTS, PerfettoTrace
from simulator.result import Result
from simulator.workload import ReadRequest, Workload
from simulator.workload.reader import read_workload

ROOT = Path(__file__).parents[2]


def gpt2(generate: int = 3, seq_len: int = 60) -> Workload:
    return read_workload("gpt2", ReadRequest(seq_len=seq_len, generate=generate))


def bert(seq_len: int = 40) -> Workload:
    return read_workload("bert-base", ReadRequest(seq_len=seq_len, batch=2))


def replayed(simulate: Simulate, path: Path, *options: object) -> ReplayResult:
    code, out, err = simulate("dram", path, *options, "--json", "-")
    assert (code, err) == (0, "")
    return ReplayResult.from_json(out)


def assert_equal_traffic(design: Result, replay: ReplayResult) -> None:
    """Bursts, activations, row hits, useful bytes and latencies of every stream."""
    moved = {name: stream for name, stream in design.streams.items() if stream.bursts}
    assert replay.streams.keys() == moved.keys()
    for name, ours in moved.items():
        theirs = replay.streams[name]
        assert (theirs.bursts, theirs.activates) == (ours.bursts, ours.activations), name
        assert (theirs.fetched_bytes, theirs.useful_bytes) == (ours.fetched_bytes, ours.useful_bytes), name
        assert theirs.row_hit_rate == ours.row_hit_rate
        if ours.writes:
            continue
        assert theirs.read_latency_ns == pytest.approx(ours.read_latency_ns, rel=1e-12)
        assert theirs.read_latency_p50_ns == ours.read_latency_p50_ns
        assert theirs.read_latency_p99_ns == ours.read_latency_p99_ns
        assert theirs.read_latency_max_ns == ours.read_latency_max_ns


@pytest.mark.parametrize(
    ("workload", "arch", "changes"),
    [
        (bert(), "spatten", {}),
        (gpt2(), "spatten", {}),
        (gpt2(), "spatten-eighth", {"fetcher.fifo_depth": 4}),
        (gpt2(), "spatten", {"clock_ghz": 0.7}),
        (gpt2(2, 30), "spatten", {"dram.standard": "ddr4-2400", "dram.channels": 2}),
        (gpt2(2, 30), "spatten", {"dram.standard": "hbm2-dramsim3", "clock_ghz": 1.3}),
        (bert(33), "systolic", {"array.element_bits": 9}),
        (gpt2(2, 30), "spatten-rtl", {}),
        (gpt2(2, 30), "spatten", {"kv_tiling": "stream", "sram.bytes": 24576}),
    ],
    ids=["bert", "gpt2", "small-fifos", "slow-clock", "ddr4", "per-bank-queues", "shared-lines", "rtl", "blocks"],
)
def test_a_replay_repeats_the_requests_exactly(
    workload: Workload, arch: str, changes: dict[str, Any], tmp_path: Path, simulate: Simulate
) -> None:
    path = tmp_path / "requests.trace.gz"
    alone = workload.only("summarise") if workload.model.family == "bert" else workload
    alone = Workload(alone.name, alone.model, alone.sequences, alone.attention, (), (), alone.arrays, alone.schedule)
    result = simulator.run(alone, arch, set=changes, dram_trace=path)
    assert simulator.run(alone, arch, set=changes).to_json() == result.to_json(), "looking changes nothing"
    assert_equal_traffic(result, replayed(simulate, path))
    assert_equal_traffic(result, replayed(simulate, path, "--memory", read_head(path).memory))


def test_another_memory_takes_the_admission_alone(tmp_path: Path, simulate: Simulate) -> None:
    path = tmp_path / "requests.trace"
    simulator.run(bert(), dram_trace=path)
    other = replayed(simulate, path, "--memory", "hbm3", "--set", "admission.run_ahead=100")
    assert other.memory == "hbm3"
    shown = other.parameters
    assert shown["organisation.channels"] == "16"
    assert (shown["admission.order"], shown["admission.run_ahead"]) == ("channel", "100")
    assert sum(stream.bursts for stream in other.streams.values()) > 0
    with gzip.open(tmp_path / "same.gz", "wb") as file:
        file.write(path.read_bytes())
    assert read_head(tmp_path / "same.gz") == read_head(path)


def test_the_head_is_read_from_a_pipe_as_well(tmp_path: Path, simulate: Simulate) -> None:
    path = tmp_path / "requests.trace.gz"
    simulator.run(bert(), dram_trace=path)
    command = [sys.executable, "-m", "simulator.cli", "dram", "-", "--json", "-"]
    done = subprocess.run(command, input=path.read_bytes(), capture_output=True, check=True, cwd=ROOT)
    piped = ReplayResult.from_json(done.stdout.decode())
    assert dataclasses.replace(piped, trace=path.name) == replayed(simulate, path)


def test_linear_layers_are_said_to_be_missing(tmp_path: Path) -> None:
    path = tmp_path / "requests.trace"
    workload = bert()
    result = simulator.run(workload, "systolic", dram_trace=path)
    text = path.read_text()
    assert f"# {len(workload.linear)} ops are not here" in text
    assert {line.split()[-1] for line in text.splitlines() if line[0] != "#"} == {"key", "value", "query", "output"}
    assert result.streams["weight"].read_latency_ns is None


def test_of_many_blocks_the_first_are_there(tmp_path: Path, simulate: Simulate) -> None:
    """A context that is streamed through the SRAM is simulated for its first blocks of queries."""
    path, timeline = tmp_path / "requests.trace", tmp_path / "timeline.json"
    settings = {"kv_tiling": "stream", "sram.bytes": 32768}
    workload = gpt2(1, 200)
    result = simulator.run(workload, set=settings, dram_trace=path, trace=timeline)
    assert simulator.run(workload, set=settings).to_json() == result.to_json(), "looking changes nothing"
    assert "ops are here with their first blocks alone" in path.read_text()
    assert 0 < replayed(simulate, path).streams["query"].bursts < result.streams["query"].bursts
    events = json.loads(timeline.read_text())
    assert tracks_of(events).keys() >= {"qk", "pv"}
    assert any("first blocks" in event["name"] for event in events["traceEvents"])


def test_bad_heads_are_named(tmp_path: Path, simulate: Simulate) -> None:
    path = tmp_path / "bad.trace"
    path.write_text("#!sim set admission.order\nR 0 64\n")
    with pytest.raises(ConfigError, match="is not a setting"):
        read_head(path)
    path.write_text("#!sim memory hbm9\nR 0 64\n")
    code, _, err = simulate("dram", path)
    assert (code, "hbm9" in err) == (2, True)
    path.write_text("R 0 64\n#!sim reset 0\nR 0 64\n")
    code, _, err = simulate("export", path, "--to", "dramsim3", "--out", tmp_path / "out")
    assert (code, "several runs" in err) == (2, True)
    path.write_text("0 R 0 64\n#!sim later 0\n")
    code, _, err = simulate("dram", path)
    assert (code, "unknown directive" in err) == (2, True)


def test_bursts_admitted_by_channel_need_no_cycle(simulate: Simulate, tmp_path: Path, seed: int) -> None:
    """Without cycles the whole trace is there from the start; with a run-ahead limit it is read in pieces."""
    rng = random.Random(seed)
    path = tmp_path / "t.trace"
    lines = [f"{rng.choice('RW')} {rng.randrange(1 << 20) * 32} {rng.choice([32, 64, 512])}\n" for _ in range(30_000)]
    path.write_text("".join(lines))
    path2 = tmp_path / "u.trace"
    path2.write_text("".join("0 " + line for line in lines))
    admission = ("--set", "admission.order=channel", "--set", "admission.run_ahead=256")
    first, second = (replayed(simulate, file, *admission) for file in (path, path2))
    assert first.streams == second.streams
    assert first.time_ns == second.time_ns > 0


def test_runs_of_a_trace_add_up(simulate: Simulate, tmp_path: Path, seed: int) -> None:
    """A trace of several runs is the sum of the runs; the middle of a very long request is not simulated."""
    rng = random.Random(seed)
    runs = []
    for phase, written in ((0, 64), (1234, 80 << 20), (3000, 640)):
        lines = [
            f"R {rng.randrange(1 << 14) * 32} {rng.choice([32, 96, 500])} {rng.choice('ab')}\n" for _ in range(300)
        ]
        lines.insert(rng.randrange(300), f"W 0x1000000 {written} c\n")
        runs.append(f"#!sim reset {phase}\n" + "".join(lines))
    (tmp_path / "all").write_text("".join(runs))
    whole = replayed(simulate, tmp_path / "all", "--memory", "ddr4-3200")
    alone = []
    for text in runs:
        (tmp_path / "one").write_text(text)
        alone.append(replayed(simulate, tmp_path / "one", "--memory", "ddr4-3200"))
    for name in (
        "bursts",
        "reads",
        "merged",
        "activates",
        "precharges",
        "refreshes",
        "useful_bytes",
        "closed_form_bytes",
    ):
        assert getattr(whole, name) == sum(getattr(run, name) for run in alone), name
    assert whole.closed_form_bytes > 0
    assert whole.time_ns == pytest.approx(sum(run.time_ns for run in alone))
    assert whole.read_latency_max_ns == max(run.read_latency_max_ns for run in alone)
    weighed = sum(run.read_latency_ns * (run.reads + run.absorbed) for run in alone)
    assert whole.read_latency_ns * (whole.reads + whole.absorbed) == pytest.approx(weighed, rel=0.02)
    assert sum(whole.timeline.bursts) == whole.bursts
    for stream in "abc":
        assert whole.streams[stream].bursts == sum(run.streams[stream].bursts for run in alone)


def test_bursts_stay_apart_where_the_trace_says_so(simulate: Simulate, tmp_path: Path) -> None:
    path = tmp_path / "t.trace"
    path.write_text("R 0 48\nR 48 16\n#!sim apart\nR 40 8\nR 40 8\n")
    result = replayed(simulate, path)
    assert (result.bursts + result.absorbed, result.merged) == (3, 2)
    assert simulate("export", path, "--to", "dramsim3", "--out", tmp_path / "out")[1].startswith("3 bursts")


def tracks_of(document: dict[str, Any]) -> dict[str, list[tuple[float, float, int]]]:
    """Check the rules of the trace event format; return (start, end, cycles) of the events by track."""
    names: dict[int, str] = {}
    tracks: dict[str, list[tuple[float, float, int]]] = defaultdict(list)
    assert document["displayTimeUnit"] == "ns"
    for event in document["traceEvents"]:
        assert event["ph"] in ("M", "X")
        assert event["pid"] == 1
        if event["ph"] == "M":
            assert event["name"] in ("process_name", "thread_name", "thread_sort_index")
            if event["name"] == "thread_name":
                names[event["tid"]] = event["args"]["name"]
            continue
        assert event["dur"] >= 0 <= event["ts"]
        assert event["name"]
        start = round(event["ts"] * 1000)
        assert start == pytest.approx(event["ts"] * 1000, abs=1e-3), "whole ns"
        tracks[names[event["tid"]]].append((start, start + round(event["dur"] * 1000), event["args"]["cycles"]))
    assert len(set(names.values())) == len(names)
    for events in tracks.values():
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(events))
    return tracks


@pytest.mark.parametrize(
    ("workload", "arch", "changes"),
    [
        (bert(), "spatten", {}),
        (gpt2(), "spatten", {}),
        (gpt2(1), "spatten-eighth", {"clock_ghz": 0.3}),
        (bert(), "spatten", {"dram.standard": "ideal", "clock_ghz": 3.0}),
        (bert(), "systolic", {}),
    ],
)
def test_events_of_a_track_do_not_overlap_and_add_up_to_the_busy_cycles(
    workload: Workload, arch: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "timeline.json"
    result = simulator.run(workload, arch, set=changes, trace=path)
    assert simulator.run(workload, arch, set=changes).to_json() == result.to_json(), "looking changes nothing"
    tracks = tracks_of(json.loads(path.read_text()))
    ops = tracks.pop("ops")
    design = sum(scope.cycles or 0 for name, scope in result.scopes.items() if name != "total")
    assert sum(cycles for *_, cycles in ops) == design
    busy = {name: sum(cycles for *_, cycles in events) for name, events in tracks.items()}
    assert busy == {name: unit.busy_cycles for name, unit in result.units.items() if unit.busy_cycles}


def test_a_file_has_at_most_so_many_events(tmp_path: Path) -> None:
    assert MOST_EVENTS == 200_000
    events = PerfettoTrace("x", 1.0, most=5)
    tracks = merged([("a", 0, 2, "q"), ("a", 2, 5, "q"), ("b", 1, 2, ""), ("b", 4, 6, ""), ("c", 3, 3, "")])
    assert tracks == {"a": [("a", 0, 5, "q")], "b": [("b", 1, 2, ""), ("b", 4, 6, "")]}
    events.add("op", 10, 6, tracks)
    assert not events.full
    events.add("op", 16, 6, tracks)
    events.save(tmp_path / "cut.json")
    document = json.loads((tmp_path / "cut.json").read_text())
    assert events.full
    assert document["otherData"]["cut"] == "at cycle 16: a file holds at most 5 events"
    found = tracks_of(document)
    assert sum(map(len, found.values())) == 5
    assert found["ops"] == [(10, 16, 6), (16, 22, 6)]


def test_traces_are_of_one_design_simulated_event_by_event(tmp_path: Path, simulate: Simulate) -> None:
    for option in ("--trace", "--dram-trace"):
        path = tmp_path / "out"
        short = ("bert-base", "--seq-len", 16, option)
        code, _, err = simulate(*short, path, "--arch", "spatten", "--arch", "systolic")
        assert (code, "one --arch" in err) == (2, True)
        code, _, err = simulate(*short, path, "--fidelity", "analytical")
        assert (code, option in err) == (2, True)
        code, _, err = simulate(*short, "-")
        assert (code, "does not go to stdout" in err) == (2, True)
        assert not list(tmp_path.iterdir()), "nothing is left behind"
        assert simulate(*short, path, "--quiet") == (0, "", "")
        path.unlink()
    with pytest.raises(UnsupportedError, match="ideal memory"):
        simulator.run(bert(), set={"dram.standard": "ideal"}, dram_trace=tmp_path / "out")


def test_a_result_may_keep_the_timeline_of_its_longest_op() -> None:
    result = simulator.run(bert(), timeline=True)
    kept = result.timeline
    assert kept is not None
    assert simulator.run(bert()).timeline is None
    assert kept.cycles >= max(layer.cycles or 0 for layer in result.layers if layer.scope == "attention") / 2
    assert kept.busy.keys() == result.units.keys()
    assert 0 < len(kept.spans) <= 400
    assert all(span.start < kept.end for span in kept.spans)
    for name, shares in kept.busy.items():
        spans = [span for span in kept.spans if span.unit == name]
        if kept.end == kept.cycles:
            assert sum(shares) * kept.bin_cycles == pytest.approx(sum(s.end - s.start for s in spans), abs=1)
    assert Result.from_json(result.to_json()) == result
