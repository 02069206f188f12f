"""`simulate dram`: a trace on a memory, its numbers, its files, and bad input."""

from __future__ import annotations

import gzip
import json
import math
import os
import random
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from command import Simulate

import simulator.memory
from simulator.errors import CorruptFileError, FormatVersionError
from simulator.memory import load_memory, standard_names
from simulator.memory.parameters import parameters_of, remarks_of
from simulator.memory.result import ReplayResult, replay_schema
from simulator.memory.spec import memory_file

ROOT = Path(__file__).parents[2]
FLAT = {
    "memory", "energy_model", "requests", "bursts", "reads", "writes", "absorbed", "merged", "requested_bytes",
    "useful_bytes", "fetched_bytes", "time_ns", "bus_fraction", "useful_fraction", "gb_per_s", "peak_gb_per_s",
    "activates", "precharges", "refreshes", "row_hit_rate", "read_latency_ns", "read_latency_p50_ns",
    "read_latency_p99_ns", "read_latency_max_ns", "energy_pj", "energy_pj_per_bit", "energy_pj_low", "energy_pj_high",
}  # fmt: skip


def mixed(seed: int, lines: int = 400) -> str:
    """Scattered keys, a run of values, and writes."""
    draw = random.Random(seed)
    made = []
    for index in range(lines):
        made.append(f"R {draw.randrange(1 << 16) * 96} 96 K")
        if index % 2:
            made.append(f"R 0x{(1 << 28) + index * 40:x} 40 V")
        if index % 3 == 0:
            made.append(f"W {(1 << 29) + index * 64} 64")
    return "\n".join(made) + "\n"


@pytest.fixture
def trace(tmp_path: Path, seed: int) -> Path:
    path = tmp_path / "mixed.trace"
    path.write_text(mixed(seed))
    return path


def replay(simulate: Simulate, path: Path, *options: object) -> ReplayResult:
    code, out, err = simulate("dram", path, *options, "--json", "-")
    assert (code, err) == (0, "")
    return ReplayResult.from_json(out)


def test_tables(simulate: Simulate, trace: Path) -> None:
    code, out, err = simulate("dram", "--memory", "hbm2", trace)
    assert (code, err) == (0, "")
    assert out.startswith("mixed.trace on hbm2: ")
    for said in ("256 GB/s", "row hit: a burst that is not the first", "K", "write", "Read latency", "standby active"):
        assert said in out
    assert " to " in out, "energies have an interval"
    assert simulate("dram", trace, "--quiet") == (0, "", "")


def test_the_published_schema_is_the_generated_one() -> None:
    path = Path(simulator.memory.__file__).parents[1] / "schema" / "dram-replay-1.0.json"
    assert json.loads(path.read_text()) == replay_schema()
    jsonschema.Draft202012Validator.check_schema(replay_schema())


def test_json_has_flat_numbers(simulate: Simulate, trace: Path, tmp_path: Path) -> None:
    code, out, _ = simulate("dram", trace, "--json", "-")
    assert code == 0
    document = json.loads(out)
    assert document.keys() >= FLAT
    texts = {"memory", "energy_model"}
    assert all(isinstance(document[key], (int, float)) for key in FLAT - texts)
    jsonschema.Draft202012Validator(replay_schema()).validate(document)
    assert simulate("dram", trace, "--json", tmp_path / "r.json", "-q")[0] == 0
    assert (tmp_path / "r.json").read_text() == out
    assert ReplayResult.load(tmp_path / "r.json").to_json() == out


@pytest.mark.parametrize("memory", ["hbm2", "ddr4-3200", "lpddr5-6400"])
def test_the_numbers_agree_with_each_other(simulate: Simulate, trace: Path, memory: str) -> None:
    r, spec = replay(simulate, trace, "--memory", memory), load_memory(memory)
    burst = spec.organisation.burst_bytes
    assert r.requests == 400 + 200 + 134
    assert r.requested_bytes == 400 * 96 + 200 * 40 + 134 * 64
    assert r.bursts == r.reads + r.writes
    assert r.fetched_bytes == r.bursts * burst
    assert r.useful_bytes <= r.fetched_bytes <= r.peak_gb_per_s * r.time_ns
    assert r.gb_per_s == pytest.approx(r.fetched_bytes / r.time_ns)
    assert r.bus_fraction == pytest.approx((r.bursts + r.absorbed) * burst / r.time_ns / r.peak_gb_per_s)
    assert r.share_of_peak == pytest.approx(r.gb_per_s / r.peak_gb_per_s)
    assert r.useful_fraction == pytest.approx(r.useful_bytes / r.time_ns / r.peak_gb_per_s)
    assert 0 <= r.row_hit_rate < 1
    assert r.read_latency_p50_ns <= r.read_latency_p99_ns <= r.read_latency_max_ns
    for name in ("requests", "bursts", "absorbed", "requested_bytes", "useful_bytes", "fetched_bytes", "activates"):
        assert sum(getattr(stream, name) for stream in r.streams.values()) == getattr(r, name), name
    assert r.streams["write"].read_latency_ns == 0
    assert sum(channel.bursts for channel in r.channels) == r.bursts
    assert sum(sum(channel.bank_bursts) for channel in r.channels) == r.bursts
    assert sum(channel.activates for channel in r.channels) == r.activates
    assert sum(r.timeline.read_bytes) + sum(r.timeline.write_bytes) == r.fetched_bytes
    assert sum(r.timeline.row_hits) == pytest.approx(r.row_hit_rate * r.bursts)


def test_energy_is_the_sum_of_its_parts(simulate: Simulate, trace: Path) -> None:
    for model in ("per-access", "idd"):
        r = replay(simulate, trace, "--memory", "hbm2-ramulator", "--energy", model)
        assert r.energy_model == model
        assert r.energy_pj == pytest.approx(sum(part.energy_pj for part in r.energy.values()))
        assert r.energy_pj_low is not None and r.energy_pj is not None and r.energy_pj_high is not None
        assert r.energy_pj_low < r.energy_pj < r.energy_pj_high or model == "idd"
        assert r.energy_pj_per_bit == pytest.approx(r.energy_pj / (8 * r.fetched_bytes))
        constants = {row.part: row for row in r.constants}
        assert constants.keys() == r.energy.keys()
        activation = r.activates * constants["activation"].value
        assert r.energy["activation"].energy_pj == pytest.approx(activation)
        assert all(row.source for row in r.constants)


def test_a_memory_without_energies_gives_none(simulate: Simulate, trace: Path, tmp_path: Path) -> None:
    path = tmp_path / "bare.yaml"
    path.write_text(memory_file("ddr4-3200").read_text().partition("\nenergy:")[0])
    r = replay(simulate, trace, "--memory", path)
    assert (r.energy_model, r.energy_pj, r.energy_pj_per_bit, r.energy) == (None, None, None, {})
    assert any("no energies" in text for text in r.assumptions)
    assert simulate("dram", trace, "--memory", path, "--html", tmp_path / "r.html")[0] == 0
    html = (tmp_path / "r.html").read_text()
    assert "no energies" in html
    assert "Energy by part" not in html
    code, _, err = simulate("dram", trace, "--memory", path, "--energy", "idd")
    assert (code, "'idd'" in err) == (2, True)


def test_one_cold_read(simulate: Simulate, tmp_path: Path) -> None:
    path = tmp_path / "one"
    path.write_text("READ 4096 60 x\n")
    r = replay(simulate, path, "--memory", "hbm2-legacy")
    ns = load_memory("hbm2-legacy").timing_ns
    least = ns["rcd_read"] + ns["cl"] + ns["burst"]
    assert least <= r.read_latency_ns <= least + 2
    assert (r.bursts, r.activates, r.row_hit_rate, r.useful_bytes, r.fetched_bytes) == (1, 1, 0, 60, 64)
    assert r.read_latency_ns == r.read_latency_p50_ns == r.read_latency_p99_ns == r.read_latency_max_ns


def test_an_empty_trace_is_all_zero(simulate: Simulate, tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.write_text("# nothing\n")
    r = replay(simulate, path, "--html", tmp_path / "r.html")
    assert (r.requests, r.time_ns, r.gb_per_s, r.row_hit_rate, r.energy_pj_per_bit, r.streams) == (0, 0, 0, 0, 0, {})
    assert "<svg" in (tmp_path / "r.html").read_text()
    code, out, _ = simulate("dram", path)
    assert code == 0
    assert "nan" not in out


def test_gzip_is_recognised_by_its_content(simulate: Simulate, trace: Path, tmp_path: Path) -> None:
    packed = tmp_path / "packed"
    packed.write_bytes(gzip.compress(trace.read_bytes()))
    plain = tmp_path / "plain.gz"
    plain.write_text(trace.read_text())
    want = replay(simulate, trace)
    for path in (packed, plain):
        got = replay(simulate, path)
        assert (got.time_ns, got.bursts, got.activates) == (want.time_ns, want.bursts, want.activates)


def test_a_trace_from_stdin(trace: Path) -> None:
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "simulator.cli", "dram", "-", "--memory", "ddr4-3200", "--json", "-"]
    for text in (trace.read_bytes(), gzip.compress(trace.read_bytes())):
        done = subprocess.run(command, input=text, capture_output=True, check=False, env=variables)
        assert (done.returncode, done.stderr) == (0, b"")
        assert json.loads(done.stdout)["trace"] == "standard input"
        assert json.loads(done.stdout)["requests"] == 734


def test_settings_and_merging_change_the_run(simulate: Simulate, tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_text("".join(f"R {i * 16} 16\n" for i in range(4000)))
    plain = replay(simulate, path)
    assert plain.merged == 2000
    unmerged = replay(simulate, path, "--no-merge")
    assert (unmerged.merged, unmerged.bursts + unmerged.absorbed) == (0, 4000)
    slow = replay(simulate, path, "--set", "tRCD=100 ns", "--set", "tRAS=120ns", "--set", "tRC=150 ns")
    assert slow.read_latency_max_ns > plain.read_latency_max_ns
    one = replay(simulate, path, "--set", "organisation.channels=1")
    assert one.peak_gb_per_s == plain.peak_gb_per_s / 8
    assert one.parameters["organisation.channels"] == "1"
    assert (len(one.channels), len(plain.channels)) == (1, 8)


def test_a_memory_file(simulate: Simulate, trace: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(memory_file("ddr4-3200").read_text().replace("name: ddr4-3200", "name: mine"))
    assert replay(simulate, trace, "--memory", path).memory == "mine"
    code, out, _ = simulate("show", path)
    assert code == 0
    assert out.startswith("mine: ")


def test_memories_show_their_sources(simulate: Simulate) -> None:
    code, out, _ = simulate("dram", "--list")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == standard_names()
    for name in standard_names():
        spec = load_memory(name)
        code, out, _ = simulate("show", name)
        assert code == 0
        assert "github.com" in out
        rows = {line.split()[0]: line for line in out.splitlines() if line}
        assert rows.keys() >= parameters_of(spec).keys()
        first, remarks = remarks_of(memory_file(name))
        assert len(first) > 50
        assert remarks.keys() <= {*parameters_of(spec), "name", "description"} | {
            key.rpartition(".")[0] for key in remarks
        }
    code, out, _ = simulate("dram", "--show-energy", "--memory", "hbm2")
    assert code == 0
    for said in ("activation", "909", "pJ/bit", "O'Connor", "published"):
        assert said in out
    assert "bank_refreshes" not in out, "hbm2 refreshes all banks at once"


def test_every_remark_stands_beside_its_value(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(
        "# First line,\n# second.\nname: m\n"
        "timing:   # of a section\n  tRCD: \"1 # no\"  # two at once\n  tRP: '2 ns'\n"
    )
    first, remarks = remarks_of(path)
    assert first == "First line, second."
    assert remarks == {
        "name": "",
        "timing": "of a section",
        "timing.tRCDRD": "two at once",
        "timing.tRCDWR": "two at once",
        "timing.tRP": "of a section",
    }


def test_show_prints_a_saved_replay(simulate: Simulate, trace: Path, tmp_path: Path) -> None:
    simulate("dram", trace, "--json", tmp_path / "r.json", "-q")
    code, out, _ = simulate("show", tmp_path / "r.json")
    assert code == 0
    for said in ("mixed.trace on hbm2", "timing.tRCDRD", "Energy constants"):
        assert said in out


BAD: list[tuple[tuple[str, ...], str, str]] = [
    ((), "R 0 64\nR 5\n", "line 2"),
    ((), "R 0 64\nX 5 64\n", "line 2"),
    ((), "R 0x400000000 64\n", "line 1"),
    ((), "R -64 64\n", "line 1"),
    (("--memory", "hmb2"), "", "did you mean 'hbm2'"),
    (("--memory", "absent.yaml"), "", "absent.yaml"),
    (("--set", "tRCD=14"), "", "14 ns"),
    (("--set", "tRDC=14ns"), "", "did you mean 'tRC'"),
    (("--set", "tRCD"), "", "key=value"),
    (("--set", "tRP=1ns", "--set", "tRP=2ns"), "", "given twice"),
    (("--set", "tRC=20ns"), "", "tRAS + tRP"),
    (("--set", "organisation.channels=3"), "", "power of two"),
    (("--energy", "free"), "", "per-access"),
    (("--json", "no/such/folder/x.json"), "", "no/such/folder"),
    (("--html", "/"), "", "folder of this name"),
]


@pytest.mark.parametrize(("options", "text", "said"), BAD, ids=[f"{o} {t!r}" for o, t, _ in BAD])
def test_bad_input(simulate: Simulate, tmp_path: Path, options: tuple[str, ...], text: str, said: str) -> None:
    path = tmp_path / "bad.trace"
    path.write_text(text)
    code, out, err = simulate("dram", path, *options)
    assert (code, out) == (2, "")
    assert said in err
    assert "Traceback" not in err


def test_bad_files(simulate: Simulate, trace: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gz"
    cut.write_bytes(gzip.compress(trace.read_bytes())[:-20])
    code, _, err = simulate("dram", cut)
    assert (code, "cut.gz" in err) == (2, True)
    code, _, err = simulate("dram", tmp_path / "absent")
    assert (code, "does not exist" in err) == (2, True)
    code, _, err = simulate("dram")
    assert (code, "no trace" in err) == (2, True)
    old = tmp_path / "r.json"
    old.write_text("old")
    trace.write_text("R 0 64\nnonsense\n")
    assert simulate("dram", trace, "--json", old)[0] == 2
    assert old.read_text() == "old"


def test_a_damaged_result_is_named(simulate: Simulate, trace: Path) -> None:
    document = json.loads(replay(simulate, trace).to_json())
    for damaged in ({}, {**document, "requests": "many"}, {k: v for k, v in document.items() if k != "time_ns"}):
        with pytest.raises(CorruptFileError):
            ReplayResult.from_json(json.dumps(damaged))
    with pytest.raises(FormatVersionError):
        ReplayResult.from_json(json.dumps({**document, "schema_version": "2.0"}))
    newer = {**document, "schema_version": "1.9", "new": math.pi}
    assert ReplayResult.from_json(json.dumps(newer)).requests == document["requests"]
