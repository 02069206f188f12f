"""Sweeps: axes, plans, the store through crashes, what is computed and what is taken, tables, pictures, fronts."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import random
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from attention_ops import attention
from command import Simulate
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

import simulator as sim
from simulator.errors import ConfigError, CorruptFileError, FileMissingError, InvalidValueError, NamedError
from simulator.explore import Plan, Record, Store, Where, front, parse_axis, sweep, work
from simulator.explore.runner import WorkersLostError, run_tasks
from simulator.explore.table import by_work, csv_text, objectives, rows_of, write_parquet
from simulator.explore.work import Task
from simulator.report.sweep_page import best, best_table, sweep_page
from simulator.workload import ModelInfo, ReadRequest, Sequence, Workload
from simulator.workload.reader import read_workload
from simulator.workload.tensors import LayerTensors, TensorWriter

SHORT = "bert-base@sts-b~assumed"


def small_plan(**changes: object) -> Plan:
    axes = (parse_axis("topk.parallelism=4,16"), parse_axis("clock_ghz=0.5,1.0,1.5"))
    given = {"models": (SHORT,), "archs": ("spatten",), "axes": axes, "fidelity": "analytical", **changes}
    return Plan(**given)  # type: ignore[arg-type]


class TestAxes:
    @pytest.mark.parametrize(
        ("text", "values"),
        [
            ("a.b=1,2,4", (1, 2, 4)),
            ("a.b=1:16:x2", (1, 2, 4, 8, 16)),
            ("a.b=1:20:x2", (1, 2, 4, 8, 16)),
            ("a.b=0.1:0.9:0.1", (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)),
            ("a.b=0.5:4:x2", (0.5, 1.0, 2.0, 4.0)),
            ("a.b=3:6", (3, 4, 5, 6)),
            ("a.b=1,8:16:4, 100", (1, 8, 12, 16, 100)),
            ("a.b=compact,original", ("compact", "original")),
            ("a.b=true,null,1e-1", (True, None, 0.1)),
        ],
    )
    def test_lists_and_ranges(self, text: str, values: tuple[object, ...]) -> None:
        axis = parse_axis(text)
        assert axis.key == "a.b"
        assert axis.values == values
        assert [type(value) for value in axis.values] == [type(value) for value in values]

    def test_of_one_design(self) -> None:
        assert parse_axis("systolic:array.rows=8,16", ("spatten", "systolic")).name == "systolic:array.rows"
        with pytest.raises(ConfigError, match="'systolik' is not simulated"):
            parse_axis("systolik:array.rows=8", ("systolic",))

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("a.b", "varies nothing"),
            ("=1,2", "varies nothing"),
            ("a.b=", "missing"),
            ("a.b=1,,2", "missing"),
            ("a.b=1,2,1", "given twice"),
            ("a.b=16:1:x2", "does not get to its end"),
            ("a.b=1:16:x1", "does not get to its end"),
            ("a.b=0:16:x2", "does not get to its end"),
            ("a.b=1:16:0", "does not get to its end"),
            ("a.b=1:16:-1", "does not get to its end"),
            ("a.b=0:1:1e-9", "more than 100,000"),
            ("a.b={x: 1}", "no number"),
            ("a.b=[", "not readable"),
        ],
    )
    def test_what_is_no_axis(self, text: str, words: str) -> None:
        with pytest.raises(NamedError, match=words):
            parse_axis(text)

    @given(st.integers(-50, 50), st.integers(0, 60), st.integers(1, 9))
    def test_steps_are_exact(self, start: int, length: int, step: int) -> None:
        text = f"k={start / 10}:{(start + length) / 10}:{step / 10}"
        assert parse_axis(text).values == tuple(n / 10 for n in range(start, start + length + 1, step))


class TestPlan:
    def test_points_are_all_combinations(self) -> None:
        axes = (parse_axis("dram.channels=8,16"), parse_axis("spatten:topk.parallelism=1,2,4", ("spatten", "systolic")))
        plan = Plan((SHORT, "bert-base"), ("spatten", "systolic"), axes)
        points = list(plan.points())
        assert len(points) == len(plan) == 2 * 6 + 2 * 2
        assert len({(p.arch, p.model, *p.values.items()) for p in points}) == len(points)
        assert {tuple(p.values) for p in points if p.arch == "systolic"} == {("dram.channels",)}

    def test_keys_are_of_design_workload_run_and_version(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        def keys(**changes: object) -> set[str]:
            return {item.key for item in small_plan(**changes).prepared()}

        base = keys()
        assert len(base) == 6
        assert keys() == base
        assert keys(settings={"spatten": {"sram.buffers": 2}}) == base, "what a design has anyway"
        same = tmp_path / "same.yaml"
        same.write_text("base: spatten\ndescription: equal in all but its name\n")
        assert keys(archs=(str(same),)) == base
        saved = tmp_path / "saved.json"
        read_workload(SHORT).save(saved)
        assert keys(models=(str(saved),)) == base, "the same work from another place"
        others = [
            keys(settings={"spatten": {"sram.bytes": 98304}}),
            keys(memory="ddr4-3200"),
            keys(fidelity="event"),
            keys(seed=1),
            keys(host="cpu:10,10"),
            keys(models=("bert-base",)),
            keys(archs=("spatten-eighth",)),
        ]
        monkeypatch.setattr("simulator.explore.plan.code_version", lambda: "another")
        others.append(keys())
        assert all(not base & other for other in others)

    def test_a_memory_file_counts_with_its_content(self, tmp_path: Path) -> None:
        memory = tmp_path / "mine.yaml"
        text = (Path(sim.__file__).parent / "memory/standards/hbm2.yaml").read_text()
        memory.write_text(text)
        first = {item.key for item in small_plan(memory=str(memory)).prepared()}
        memory.write_text(text + "# changed\n")
        assert not first & {item.key for item in small_plan(memory=str(memory)).prepared()}

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"axes": ()}, "nothing varies"),
            ({"models": ()}, "nothing is given"),
            ({"archs": ("spatten", "spatten")}, "given twice"),
            ({"axes": (parse_axis("seed=1,2"), parse_axis("seed=3,4"))}, "varied twice"),
            ({"settings": {"spatten": {"clock_ghz": 1}}}, "varied and fixed"),
            ({"axes": (parse_axis("seq_len=8,16"),), "request": ReadRequest(seq_len=8)}, "varied and fixed"),
            ({"axes": (parse_axis("memory=hbm2,ddr4-3200"),), "memory": "hbm2"}, "memory is given twice"),
            ({"axes": (parse_axis("fidelity=event,exact"),)}, "no fidelity named 'exact'"),
            ({"axes": (parse_axis("topk.paralelism=1,2"),)}, "topk.parallelism|parallelism"),
            ({"axes": (parse_axis("dram.channels=3,5"),)}, "power of two"),
            ({"host": "fast"}, "host"),
            ({"models": ("bert-bas",)}, "bert-base"),
            ({"archs": ("spaten",)}, "spatten"),
            ({"iso": "spatten", "archs": ("systolic",), "axes": (parse_axis("array.rows=1,2"),), "settings": {}}, ""),
        ],
    )
    def test_contradictions_are_named(self, changes: dict[str, object], words: str) -> None:
        if not words:  # equal resources leave the rows of the array to vary: they are equal already
            assert len(small_plan(**changes).prepared()) == 2
            return
        with pytest.raises(NamedError, match=words):
            small_plan(**changes).prepared()

    def test_equal_resources_are_settings_of_the_points(self) -> None:
        axes = (parse_axis("clock_ghz=1.0,2.0"),)
        plan = small_plan(archs=("spatten", "systolic"), axes=axes, iso="spatten-eighth")
        tasks = [item for item in plan.prepared() if isinstance(item, Task)]
        assert {task.settings.get("array.multipliers") for task in tasks if task.arch == "spatten"} == {64}
        with pytest.raises(ConfigError, match="varied and fixed"):
            small_plan(axes=(parse_axis("array.multipliers=1,2"),), iso="spatten-eighth")


class TestSweep:
    def test_points_are_what_a_run_says(self, tmp_path: Path) -> None:
        with Store(tmp_path / "s") as store:
            done = sweep(small_plan(), store)
        assert (done.simulated, done.taken, done.failed) == (6, 0, 0)
        for record in done.records:
            result = sim.run(SHORT, "spatten", set=record.values, fidelity="analytical")
            metrics = record.metrics
            assert metrics is not None
            scope = metrics.scopes["attention"]
            assert (scope.time_s, scope.energy_pj) == (result.time_s, result.scopes["attention"].energy_pj)
            assert metrics.area_mm2 == pytest.approx(sum(item.mm2 for item in result.area))
            assert scope.energy_low_pj < scope.energy_pj < scope.energy_high_pj  # type: ignore[operator]

    def test_nothing_stored_is_computed_again(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with Store(tmp_path / "s") as store:
            first = sweep(small_plan(), store)
        monkeypatch.setattr("simulator.explore.runner.simulate", lambda task: pytest.fail(f"{task} is stored"))
        with Store(tmp_path / "s") as store:
            again = sweep(small_plan(), store)
        assert (again.simulated, again.taken) == (0, 6)
        assert again.records == first.records
        monkeypatch.undo()
        wider = (parse_axis("topk.parallelism=4,8,16"), parse_axis("clock_ghz=0.5,1.0"))
        with Store(tmp_path / "s") as store:
            done = sweep(small_plan(axes=wider), store)
        assert (done.simulated, done.taken) == (2, 4)

    def test_processes_give_the_same_records(self, tmp_path: Path) -> None:
        seen: list[tuple[int, int]] = []
        with Store(tmp_path / "a") as one, Store(tmp_path / "b") as two:
            alone = sweep(small_plan(), one, Where(1))
            shared = sweep(small_plan(), two, Where(2), lambda done, total: seen.append((done, total)))
        assert alone == shared
        assert seen == [(n, 6) for n in range(7)]

    def test_a_killed_process_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        tasks = [item for item in small_plan().prepared() if isinstance(item, Task)]
        monkeypatch.setattr("simulator.explore.runner.simulate", killed)
        with pytest.raises(WorkersLostError, match="was killed"):
            list(run_tasks(tasks, Where(2)))

    def test_what_a_design_refuses_is_kept_with_its_reason(self, tmp_path: Path) -> None:
        plan = small_plan(axes=(parse_axis("dram.channels=8,3,16"), parse_axis("sram.bytes=2048,196608")))
        with Store(tmp_path / "s") as store:
            done = sweep(plan, store)
        errors = [record.error for record in done.records]
        assert [bool(error) for error in errors] == [True, False, True, True, True, False]
        assert "SRAM" in str(errors[0]) or "buffer" in str(errors[0])
        assert "power of two" in str(errors[2])
        with Store(tmp_path / "s") as store:
            assert sweep(plan, store).simulated == 0

    def test_a_killed_sweep_goes_on(self, tmp_path: Path) -> None:
        """The command is killed with points under way; what was kept is not simulated again."""
        options = ["--vary", "topk.parallelism=1:32:x2", "--vary", "clock_ghz=0.5:1.0:0.1", "--fidelity", "analytical"]
        command = [
            sys.executable,
            "-m",
            "simulator.cli",
            "sweep",
            SHORT,
            *options,
            "-j",
            "1",
            "-o",
            str(tmp_path / "s"),
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            kept = tmp_path / "s" / "points.jsonl"
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and (not kept.exists() or kept.read_bytes().count(b"\n") < 4):
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
        before = len(kept.read_text().splitlines()) - 1
        assert 3 <= before < 36
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.startswith(f"36 points, {36 - before} simulated, {before} were stored"), done.stdout
        keys = [json.loads(line)["key"] for line in kept.read_text().splitlines()[1:]]
        assert len(keys) == len(set(keys)) == 36


def killed(task: Task) -> Record:
    """What a process without memory is."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError(task)

    def test_a_rule_that_varies_decides_anew_from_kept_tensors(self, tmp_path: Path, seed: int) -> None:
        rng = np.random.default_rng(seed)
        writer = TensorWriter(tmp_path / "w.json")
        q, k, v = (rng.standard_normal((2, 12, 8)).astype(np.float32) for _ in range(3))
        writer.add(0, 0, LayerTensors(q, k, v, 0.35))
        model = ModelInfo("bert", 1, 2, 2, 8, 16, 0, 10, 10, "f32")
        ops = (attention(12, heads=2, head_dim=8, kv_heads=2),)
        Workload("w", model, (Sequence(0, 12),), ops, (), (), tensors=writer.finish()).save(tmp_path / "w.json")
        axes = (parse_axis("post_scoring.percent=0.1,5.0,60.0"),)
        plan = Plan((str(tmp_path / "w.json"),), ("a3",), axes, fidelity="analytical")
        with Store(tmp_path / "s") as store:
            found = [record.metrics for record in sweep(plan, store).records]
        assert all(metrics is not None and metrics.error_kind == "measured" for metrics in found)
        errors = [metrics.output_error for metrics in found if metrics is not None]
        assert errors[0] < errors[1] < errors[2], "the more a key has to weigh, the less is left of the output"  # type: ignore[operator]


class TestStore:
    def make(self, folder: Path) -> list[Record]:
        with Store(folder) as store:
            return list(sweep(small_plan(), store).records)

    def test_a_file_cut_anywhere_is_read_as_far_as_it_goes(self, tmp_path: Path, seed: int) -> None:
        records = self.make(tmp_path / "s")
        path = tmp_path / "s" / "points.jsonl"
        whole = path.read_bytes()
        head = whole.index(b"\n") + 1
        for cut in random.Random(seed).sample(range(head, len(whole)), 25):
            path.write_bytes(whole[:cut])
            complete = whole[:cut].count(b"\n") - 1 + (whole[cut : cut + 1] == b"\n")
            with Store(tmp_path / "s") as store:
                assert len(store.records) == complete
                assert store.damaged == (whole[:cut][-1:] != b"\n" and whole[cut : cut + 1] != b"\n")
                store.add(records[0])
            with Store(tmp_path / "s") as store:
                assert store.records[records[0].key] == records[0]
                assert len(store.records) >= complete

    def test_damage_in_the_middle_costs_its_line_alone(self, tmp_path: Path) -> None:
        self.make(tmp_path / "s")
        path = tmp_path / "s" / "points.jsonl"
        lines = path.read_bytes().splitlines(keepends=True)
        lines[2] = b"\xff\x00 damaged\n"
        lines[3] = b'{"key": 3}\n'
        path.write_bytes(b"".join(lines))
        with Store(tmp_path / "s") as store:
            assert (len(store.records), store.damaged) == (4, 2)
            done = sweep(small_plan(), store)
        assert (done.simulated, done.taken) == (2, 4)

    def test_other_files_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "s").mkdir()
        (tmp_path / "s" / "points.jsonl").write_text('{"some": "other"}\n')
        with pytest.raises(CorruptFileError, match="does not hold the points"):
            Store(tmp_path / "s")
        (tmp_path / "s" / "points.jsonl").write_text('{"format": "sparsecore-sweep", "version": "2.0"}\n')
        with pytest.raises(NamedError, match=r"format version 2\.0"):
            Store(tmp_path / "s")
        with pytest.raises(FileMissingError):
            Store(tmp_path / "none" / "s")
        (tmp_path / "file").write_text("")
        with pytest.raises(CorruptFileError, match="a file of this name"):
            Store(tmp_path / "file")


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 6)), max_size=40))
def test_the_front_is_that_of_the_definition(rows: list[tuple[int, int, int]]) -> None:
    def beats(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
        return all(a <= b for a, b in zip(one, other)) and one != other

    expected = [i for i, row in enumerate(rows) if not any(beats(other, row) for other in rows)]
    assert front(rows) == expected


class TestTables:
    @pytest.fixture
    def records(self, tmp_path: Path) -> tuple[Record, ...]:
        axes = (
            parse_axis("dram.channels=3,8,16"),
            parse_axis("systolic:array.rows=16,32", ("spatten", "systolic")),
            parse_axis("seq_len=16,24"),
        )
        plan = Plan(("bert-base",), ("spatten", "systolic"), axes, fidelity="analytical")
        with Store(tmp_path / "s") as store:
            return sweep(plan, store).records

    def test_csv_and_parquet_have_a_row_a_point(self, records: tuple[Record, ...], tmp_path: Path) -> None:
        rows = list(csv.DictReader(io.StringIO(csv_text(records))))
        write_parquet(records, tmp_path / "t.parquet")
        table = parquet.read_table(tmp_path / "t.parquet").to_pylist()
        assert len(rows) == len(table) == len(records) == 18
        for row, stored, record in zip(rows, table, records, strict=True):
            assert row["arch"] == stored["arch"] == record.arch
            assert stored["dram.channels"] == record.values["dram.channels"] == int(row["dram.channels"])
            assert stored["array.rows"] == record.values.get("array.rows")
            if record.metrics is None:
                assert "power of two" in row["error"]
                assert stored["attention.time_s"] is None
                continue
            assert stored["attention.time_s"] == record.metrics.scopes["attention"].time_s
            assert float(row["area_mm2"]) == pytest.approx(record.metrics.area_mm2)
            assert stored["multipliers"] == record.metrics.resources["multipliers"]
        assert list(rows[0]) == list(rows_of(records)[0])

    def test_columns_of_several_types(self, records: tuple[Record, ...], tmp_path: Path) -> None:
        mixed = [
            dataclasses.replace(record, values={"k": value})
            for record, value in zip(records, [1, 2.5, "word", None, True])
        ]
        write_parquet(mixed, tmp_path / "t.parquet")
        assert parquet.read_table(tmp_path / "t.parquet")["k"].to_pylist() == ["1", "2.5", "word", None, "True"]
        write_parquet(mixed[:2], tmp_path / "t.parquet")
        assert parquet.read_table(tmp_path / "t.parquet")["k"].to_pylist() == [1.0, 2.5]

    def test_the_page_shows_points_of_equal_work_together(self, records: tuple[Record, ...]) -> None:
        groups = by_work(records)
        assert list(groups) == ["bert-base, seq_len=16", "bert-base, seq_len=24"]
        page = sweep_page(records)
        assert page.count("<svg") == 4
        for svg in page.split("<svg")[1:]:
            picture = ET.fromstring("<svg" + svg.split("</svg>")[0] + "</svg>")
            dots = picture.findall(".//circle")
            assert len(dots) == 6
        assert "power of two" in page
        assert "http" not in page.replace("http://www.w3.org", "")
        for own in groups.values():
            chosen = best(own, "attention")
            known = [values for record in own if (values := objectives(record, "attention")) is not None]
            assert [values for _, values in chosen] == sorted(known[index] for index in front(known))

    def test_a_point_is_best_by_its_output_error_too(self, records: tuple[Record, ...]) -> None:
        one = next(record for record in records if record.metrics is not None)
        assert one.metrics is not None
        errors = [0.5, 0.1, 0.1, None]
        made = [
            dataclasses.replace(
                one,
                arch=f"d{index}",
                metrics=dataclasses.replace(
                    one.metrics,
                    area_mm2=1.0 + 0.1 * index,
                    output_error=error,
                    error_kind="dense" if error is None else "measured",
                ),
            )
            for index, error in enumerate(errors)
        ]
        table = best_table(made, "attention")
        assert [row[0] for row in table.rows] == ["d0", "d1", "d3"]  # of two that err alike the smaller one
        assert table.note.endswith("time, energy, area, output error")
        assert sweep_page(made).count("<svg") == 3  # with the errors against energy
        unknown = dataclasses.replace(one.metrics, output_error=None, error_kind="not captured")
        made.append(dataclasses.replace(one, metrics=unknown))
        assert not best_table(made, "attention").note.endswith("error")

    def test_nothing_known_is_an_empty_page(self, records: tuple[Record, ...]) -> None:
        assert "<svg" not in sweep_page([record for record in records if record.metrics is None])
        assert "<svg" not in sweep_page(records, "linear").split("systolic")[0]


class TestCommand:
    VARY = ("--vary", "topk.parallelism=4,16", "--fidelity", "analytical", "-j", "1")

    def test_files_and_tables(self, simulate: Simulate, tmp_path: Path) -> None:
        outputs = ("--csv", tmp_path / "t.csv", "--html", tmp_path / "t.html", "--parquet", tmp_path / "t.parquet")
        code, out, err = simulate("sweep", SHORT, *self.VARY, "-o", tmp_path / "s", *outputs)
        assert (code, err) == (0, "")
        assert out.startswith("2 points, 2 simulated, 0 were stored")
        assert "Best points" in out
        assert (tmp_path / "t.html").read_text().count("<svg") == 2
        code, out, _ = simulate("sweep", SHORT, *self.VARY, "-o", tmp_path / "s", "--csv", "-")
        assert len(list(csv.DictReader(io.StringIO(out)))) == 2

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ((SHORT,), "nothing varies"),
            ((SHORT, "--vary", "topk.parallelism="), "value is missing"),
            (
                (SHORT, "--vary", "fidelity=event,analytical", "--fidelity", "analytical"),
                "fidelity is varied and fixed",
            ),
            ((SHORT, "--vary", "seed=1,2", "--seed", "3"), "seed is varied and fixed"),
            ((SHORT, "--vary", "sram.bytes=1,2"), "none of the 2 points has a result"),
            ((SHORT, "--vary", "seed=1,2", "--parquet", "-"), "only CSV goes to stdout"),
            ((SHORT, "--vary", "seed=1,2", "--fidelity", "exact"), "no fidelity"),
            ((SHORT, "--vary", "seed=1,2", "--html", "/none/x.html"), "folder"),
            ((SHORT, "--vary", "seed=1,2", "--scope", "all"), "attention, linear"),
            (("absent.pt", "--vary", "seed=1,2"), "absent.pt"),
        ],
    )
    def test_bad_input_is_named(
        self, arguments: tuple[str, ...], words: str, simulate: Simulate, tmp_path: Path
    ) -> None:
        code, out, err = simulate("sweep", *arguments, "-j", "1", "-o", tmp_path / "s")
        assert code == 2
        assert words in err
        assert out == ""


def test_the_version_is_of_the_files(tmp_path: Path) -> None:
    assert work.code_version() == work.code_version.__wrapped__()
    with pytest.raises(InvalidValueError, match="0 processes"):
        Where(0)


@pytest.mark.parametrize(
    ("package", "options", "extra"),
    [
        ("distributed", ("--cluster", "tcp://127.0.0.1:9"), "cluster"),
        ("optuna", ("--search", "4"), "search"),
        ("pyarrow", ("--parquet", "t.parquet"), "parquet"),
    ],
)
def test_a_missing_extra_is_named(
    package: str,
    options: tuple[str, ...],
    extra: str,
    simulate: Simulate,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.chdir(tmp_path)
    code, _, err = simulate("sweep", SHORT, "--vary", "seed=1,2", "--fidelity", "analytical", "-j", "1", "-q", *options)
    assert code == 2
    assert f"sparsecore-kernels[{extra}]" in err
    points = tmp_path / "sweep" / "points.jsonl"
    assert not points.exists() or len(points.read_text().splitlines()) == 1, "named before anything is simulated"
