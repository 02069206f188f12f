"""`make gpu`: its parts by the emulator, what it repeats, kernels that hang, and the verdicts of its table."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def _modules(folder: str, *names: str) -> Iterator[tuple[ModuleType, ...]]:
    """Modules of a folder that is run and is no package."""
    sys.path.insert(0, str(ROOT / folder))
    before = set(sys.modules)
    try:
        yield tuple(importlib.import_module(name) for name in names)
    finally:
        sys.path.remove(str(ROOT / folder))
        for name in {path.stem for path in (ROOT / folder).glob("*.py")} & (set(sys.modules) - before):
            del sys.modules[name]


def _run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tools" / "gpu"), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.skipif(shutil.which("cmake") is None, reason="needs cmake on PATH")
def test_a_short_run_by_the_emulator_is_done_once(tmp_path: Path) -> None:
    first = _run("--short", "--folder", tmp_path)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "which says nothing of speed" in first.stdout and "0 differ" in first.stdout
    results = set((ROOT / "benchmarks" / "results").glob("*emul*"))
    assert not results and not list((ROOT / "tests" / "cuda" / "golden").glob("*.golden"))
    case = json.loads(next(tmp_path.glob("cases/*/linear*.json")).read_text())
    assert "seconds" not in case and case["errors"]["ours"] < 0.02
    again = _run("--short", "--folder", tmp_path)
    assert again.returncode == 0 and again.stdout.count("done before") == 4, again.stdout


@pytest.mark.skipif(shutil.which("cmake") is None, reason="needs cmake on PATH")
def test_some_benchmarks_are_asked_for_by_what_is_printed(tmp_path: Path) -> None:
    words = ("--short", "--folder", tmp_path, "--part", "bench", "--only")
    for name in ("top-k: fp32 1 x 2048, K 256", "top-k-fp32-1-x-2048-k-256"):
        done = _run(*words, name)
        assert done.returncode == 0 and "1 cases by the emulator" in done.stdout, done.stdout + done.stderr
    (case,) = tmp_path.glob("cases/*/*.json")  # made once, in the folder of a run of all
    assert case.stem == "top-k-fp32-1-x-2048-k-256"
    assert "bench" not in json.loads((tmp_path / "state.json").read_text())["parts"]
    none = _run(*words, "2;4")
    assert none.returncode == 1 and "no benchmark's name contains '2;4'" in none.stdout
    assert "Linear, many tokens: bf16 2:4, 8192 x 8192 x 8192" in none.stdout


def test_a_part_is_repeated_when_a_source_changes(tmp_path: Path) -> None:
    with _modules("tools/gpu", "state") as (state,):
        (tmp_path / "src").mkdir()
        source = tmp_path / "src" / "kernel.cu"
        source.write_text("1")
        key = state.digest(tmp_path, ("src",), "a GPU")
        kept = state.State(tmp_path / "state.json")
        kept.note("build", key, True, 1.0)
        assert state.State(tmp_path / "state.json").done("build", key)
        assert not kept.done("build", state.digest(tmp_path, ("src",), "another GPU"))
        source.write_text("2")
        assert not kept.done("build", state.digest(tmp_path, ("src",), "a GPU"))
        kept.note("build", key, False, 1.0)
        assert not kept.done("build", key)
        (tmp_path / "state.json").write_text("{")
        assert not state.State(tmp_path / "state.json").done("build", key)


def test_what_hangs_is_killed_with_all_it_started(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with _modules("tools/gpu", "process") as (process,):
        script = "import subprocess; print('a case', flush=True); subprocess.run(['sleep', '60'])"
        silent = process.run((sys.executable, "-c", script), cwd=tmp_path, limit_s=50, silent_s=1.0)
        assert silent.code is None and silent.silent and "without a word" in silent.why and silent.seconds < 30
        assert "a case" in capfd.readouterr().out
        late = process.run(("sleep", "60"), cwd=tmp_path, limit_s=0.2)
        assert late.code is None and not late.silent and "killed" in late.why
        assert process.run((sys.executable, "-c", "raise SystemExit(3)"), cwd=tmp_path, limit_s=20).code == 3


def test_no_part_runs_after_the_deadline_of_all(tmp_path: Path) -> None:
    with _modules("tools/gpu", "outcome", "parts", "process") as (outcome, parts, process):
        whole = process.Deadline.within(100.0)
        assert (
            whole.sooner(1000.0) == whole and 9 < whole.sooner(10.0).left <= 10 and 89 < whole.before(10.0).left <= 90
        )
        assert process.Deadline.within(-1.0).left == 0
        limits: list[float] = []

        def run(setting: Any, key: str, deadline: Any) -> bool:
            limits.append(deadline.left)
            return True

        setting = parts.Setting(None, tmp_path, 2)
        part = parts.Part("test", 10.0, ("tools/gpu",), run)
        lefts = (0.5, 30.0, 0.5)
        outcomes = [outcome.outcome(part, setting, process.Deadline.within(left))[0] for left in lefts]
        assert outcomes == ["no time was left", "passed", "done before"]
        assert 25 < limits[0] <= 30


def test_a_case_whose_process_died_is_not_run_again(tmp_path: Path) -> None:
    with _modules("tools/gpu", "parts") as (parts,):
        assert not parts._note_dead(tmp_path, "exit status -11")
        (tmp_path / "under-way").write_text(json.dumps({"key": "a-case", "group": "group", "name": "case"}))
        assert parts._note_dead(tmp_path, "exit status -11") and not (tmp_path / "under-way").exists()
        assert json.loads((tmp_path / "a-case.json").read_text())["failed"] == "its process: exit status -11"


def _result(**of_case: Any) -> dict[str, Any]:
    case = {
        "group": "Linear", "name": "bf16 2:4", "errors": {"ours": 2e-3, "dense": 1e-3}, "absent": {"torch BSR": "none"},
        "seconds": {"ours": [1e-3, 9e-4, 1.1e-3], "dense": [1.3e-3, 1.2e-3, 1.4e-3]}, "ratios": {"dense": 1.3},
        "gb_s": 10.0, "tflops": 1000.0, "floor_us": 700.0, "exposed": {"dense": 0.6}, "of_floor": 0.7, "bars": [],
    } | of_case  # fmt: skip
    return {
        "machine": {"name": "a GPU", "driver": "1", "torch": "2"}, "date": "2000-01-01", "seconds": 1.0,
        "limits": {"copy": 4e12, "dense": 8e14}, "ceiling": [{"name": "2:4, tiles arriving", "tflops": 1250.0}],
        "cases": [case], "left": ["top-k"],
    }  # fmt: skip


@pytest.mark.parametrize("fused", [False, True])
def test_the_tensor_of_cusparselt_is_made_as_this_torch_makes_it(fused: bool) -> None:
    torch = pytest.importorskip("torch")
    with _modules("benchmarks/gpu", "peers") as (peers,):
        packed = torch.zeros(32, 36, dtype=torch.bfloat16)
        sparse = peers.cusparselt_tensor(torch.Size((32, 64)), packed, fused, 7)
        for one in (sparse, sparse.t().t()):
            assert one.shape == (32, 64) and one.dtype is torch.bfloat16 and one.packed is packed
            assert (one.alg_id_cusparselt, one.fuse_transpose_cusparselt) == (7, fused)
        search = torch.ops.aten._cslt_sparse_mm_search.default._schema.arguments
        assert {"compressed_A", "dense_B", "transpose_result"} <= {argument.name for argument in search}
        rows = [len(peers.padded_rows(torch.ones(count, 16, dtype=torch.bfloat16))) for count in (1, 8, 9)]
        assert rows == [8, 8, 16]


def test_bars_and_the_table() -> None:
    with _modules("benchmarks/gpu", "case", "table") as (case, table):
        bar = case.Bar("SDPA", 1.5, 2.2, most_error=1e-2)
        rows = ((1.4, 0.0), (1.6, 0.0), (2.3, 0.0), (2.3, 0.02), (2.3, float("nan")))
        verdicts = [bar.verdict(ratio, 1.0, error) for ratio, error in rows]
        assert verdicts == ["missed", "met", "aim", "missed", "missed"]
        assert case.Bar("torch", 4, aim_us=105).verdict(4.5, 100e-6, 0) == "aim"
        judged = [case._judged(bar, ratios, 1.0, 0.0) for ratios in ({"SDPA a": 1.8, "SDPA b": 1.4}, {"other": 9.0})]
        assert [row["verdict"] for row in judged] == ["missed", "not run"]
        result = _result(bars=[judged[0]])
        result["cases"].append({**result["cases"][0], "name": "int8 2:4", "tflops": 1900.0})  # another ceiling
        text = table.markdown(result)
        parts = (
            "1000.0 | 900.0-1100.0 | 1000",
            "dense 1.30 (host) (error",
            "*missed*",
            "80% of the highest",
            "torch BSR: none",
        )
        for expected in (*parts, "dense 1.30 (host) (error", "top-k: no time was left", "Bars: 2 missed"):
            assert expected in text, text
        assert "bf16 2:4: FAILED: it broke" in table.markdown(_result(failed="it broke"))


class _Device:
    """A device that is ready for a call when its wait is over; the host takes `host` cycles to queue a call by name."""

    def __init__(self, turns: ModuleType, host: dict[str, float]) -> None:
        self.turns, self.host, self.waits = turns, host, dict[str, list[int]]()

    def queue(self, call: Any, cycles: int) -> Any:
        name = call()
        self.waits.setdefault(name, []).append(cycles)
        late = max(0.0, self.host[name] - cycles)
        return self.turns.Queued(late == 0, lambda: 1.0 + late)

    def finish(self) -> None:
        pass


def test_what_the_host_takes_is_hidden_or_told() -> None:
    with _modules("benchmarks/gpu", "turns") as (turns,):
        host = {"quick": 1e5, "slow": 4e6, "waits itself": 1e9}
        device = _Device(turns, host)
        calls = {name: lambda name=name: name for name in host}
        found = turns.take_turns(calls, device, 100.0, most=20)
        assert [len(times) for times in found.seconds.values()] == [20, 20, 20]
        assert set(found.seconds["quick"] + found.seconds["slow"]) == {1.0}
        assert found.exposed == {"quick": 0, "slow": 0, "waits itself": 20}
        assert set(device.waits["quick"]) == {turns.FIRST_WAIT} and max(device.waits["slow"]) < turns.MOST_WAIT
        assert device.waits["waits itself"][-1] == turns.MOST_WAIT
        assert [len(times) for times in turns.take_turns(calls, device, 0.0).seconds.values()] == [3, 3, 3]


def test_a_result_that_lacks_a_tile_is_wrong(seed: int) -> None:
    torch = pytest.importorskip("torch")
    with _modules("benchmarks/gpu", "errors") as (errors,):
        exact = torch.randn(640, 640, generator=torch.Generator().manual_seed(seed))
        rounded = errors.Error.of(exact.bfloat16(), exact)
        assert not errors.BF16.broken(rounded, [rounded])
        lacking = exact.bfloat16()
        lacking[64:128, 512:576] = 0
        found = errors.Error.of(lacking, exact)
        assert found.worst > 0.5 and errors.BF16.broken(found)
        small = errors.Bound(0.5, 0.5, times=3).broken(errors.Error(6e-3, 1e-3), [rounded, found])
        assert small.startswith("its error is 6.0e-03, 3 times the 1.7e-03 of others")
        rough = errors.Bound(norm=0.2, worst=0.35)  # wide in the norm: the tile is found by its elements
        assert found.norm < 0.2 and rough.broken(found).startswith("an element is")
        lacking[0, 0] = float("nan")
        assert rough.broken(errors.Error.of(lacking, exact))
        zeros = torch.zeros(3)
        assert not errors.Bound(0, 0).broken(errors.Error.of(zeros, zeros))


def test_a_dispatch_table_goes_on_where_it_stopped(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from sparsecore.calibrate import calibrate
    from sparsecore.patterns import NM

    with _modules("benchmarks/gpu", "dispatch_table") as (dispatch_table,):
        asked: list[Any] = []

        def measure(dtype: Any) -> Any:
            asked.append(dtype)
            if asked.count(torch.float32) == 1 and dtype is torch.float32:
                raise RuntimeError("cut short")
            return calibrate(cases=[(NM(2, 4), (0.5,))], dtypes=[dtype])

        dtypes = (torch.bfloat16, torch.float32)
        with pytest.raises(RuntimeError, match="cut short"):
            dispatch_table.table(tmp_path, dtypes, measure)
        found = dispatch_table.table(tmp_path, dtypes, measure)
        assert asked == [torch.bfloat16, torch.float32, torch.float32]
        named = [(entry.form, entry.dtype) for entry in found.entries]
        assert named == [(form, dtype) for dtype in ("bfloat16", "float32") for form in ("dense", "2:4")]


def test_a_case_that_fails_is_noted_and_not_repeated(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    with _modules("benchmarks/gpu", "case", "errors", "place", "runner") as (case, errors, place, runner):
        asked: list[str] = []

        def make(name: str, wrong: float) -> Any:
            def work(_: Any) -> Any:
                asked.append(name)
                if wrong < 0:
                    raise RuntimeError("an illegal memory access\nand more")
                return case.Work({"ours": lambda: torch.ones(3) + wrong}, torch.ones(3), errors.BF16, 1.0)

            return case.Case("group", name, work)

        cases = [make("right", 0.0), make("breaks", -1.0), make("wrong", 1.0)]
        here = place.Place(torch.device("cpu"), False)
        for _ in range(2):
            done, left = runner.run(cases, here, {}, tmp_path, 100.0)
            assert [one.get("failed", "")[:8] for one in done] == ["", "RuntimeE", "its erro"] and not left
        assert asked == ["right", "breaks", "wrong"]
        assert runner.run([*cases, make("late", 0.0)], here, {}, tmp_path, 0.0)[1] == ["late"]
