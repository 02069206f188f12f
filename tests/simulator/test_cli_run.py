"""The command `simulate`, end to end: results, files, exit codes, errors without traceback."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from command import Simulate
from safetensors.numpy import save_file

import simulator.api
from simulator.result import load_results, published_schema
from simulator.workload import Workload

ROOT = Path(__file__).parents[2]


def process(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    command = [sys.executable, "-m", "simulator.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=variables)


SHORT = ("bert-base", "--seq-len", "16")


def test_main_job_and_its_short_form(simulate: Simulate) -> None:
    code, out, err = simulate("run", "--arch", "spatten", *SHORT)
    assert (code, err) == (0, "")
    first, *rest = out.splitlines()
    assert first.startswith("ASSUMED: tokens, heads")
    assert "spatten-bert" in first
    text = "\n".join(rest)
    for said in ("attention", "not modelled", "Units", "DRAM traffic", "Energy", "no total"):
        assert said in text
    assert simulate("--arch", "spatten", *SHORT)[1] == out
    assert simulate(*SHORT)[1] == out
    assert simulate("--seq-len", "16", "-a", "spatten", "bert-base")[1] == out


def test_results_in_files(simulate: Simulate, tmp_path: Path) -> None:
    files = {option: tmp_path / f"out.{option}" for option in ("json", "csv", "html")}
    given = [argument for option, path in files.items() for argument in (f"--{option}", path)]
    code, out, err = simulate("--arch", "spatten", "--arch", "systolic", *SHORT, *given, "--quiet")
    assert (code, out, err) == (0, "", "")
    spatten, systolic = load_results(files["json"])
    assert (spatten.design, systolic.design) == ("spatten", "systolic")
    validator = jsonschema.Draft202012Validator(published_schema())
    for document in json.loads(files["json"].read_text()):
        assert not list(validator.iter_errors(document))
    assert {field.kind for field in spatten.inputs if field.name == "workload.tokens"} == {"assumed"}
    assert spatten.peak_gops == 2048
    assert spatten.peak_gbps == 512
    rows = list(csv.DictReader(files["csv"].open()))
    cycles = [row["value"] for row in rows if row["design"] == "spatten" and row["metric"] == "cycles"]
    assert str(spatten.cycles) in cycles
    html = files["html"].read_text()
    assert "<svg" in html
    assert "src=" not in html
    assert "href=" not in html
    code, out, _ = simulate("compare", files["json"])
    assert code == 0
    assert out.startswith("ASSUMED")
    assert "systolic" in out
    assert "spatten is faster" in out
    code, out, _ = simulate("show", files["json"])
    assert code == 0
    assert "Layers" in out


def test_one_result_is_one_object_and_goes_to_stdout(simulate: Simulate, tmp_path: Path) -> None:
    code, out, _ = simulate(*SHORT, "--json", "-")
    assert code == 0
    document = json.loads(out)
    assert document["design"] == "spatten"
    jsonschema.validate(document, published_schema())
    simulate(*SHORT, "--json", tmp_path / "r.json", "-q")
    assert (tmp_path / "r.json").read_text() == out
    (only,) = load_results(tmp_path / "r.json")
    workload = Workload.load(saved(simulate, tmp_path))
    assert simulator.api.run(workload, "spatten") == only, "the same object in Python"


def test_csv_goes_to_stdout(simulate: Simulate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = simulate(*SHORT, "--csv", "-")
    assert code == 0
    assert {row["design"] for row in csv.DictReader(out.splitlines())} == {"spatten"}
    assert not list(tmp_path.iterdir()), "- is no file name"


def saved(simulate: Simulate, tmp_path: Path) -> Path:
    path = tmp_path / "w.json"
    code, out, _ = simulate("capture", *SHORT, path)
    assert code == 0
    assert out.startswith("ASSUMED")
    return path


def test_capture_then_simulate_is_the_same(simulate: Simulate, tmp_path: Path) -> None:
    path = saved(simulate, tmp_path)
    assert simulate(path)[1].splitlines()[3:] == simulate(*SHORT)[1].splitlines()[3:]


def test_settings_seed_and_memory_change_the_run(simulate: Simulate, tmp_path: Path) -> None:
    def cycles(*options: str) -> int:
        path = tmp_path / "r.json"
        assert simulate("gpt2", "--seq-len", "40", "--generate", "3", *options, "--json", path, "-q")[0] == 0
        found = load_results(path)[0].cycles
        assert found is not None
        return found

    assert cycles("--set", "dram.channels=2", "--set", "array.multipliers=64") > cycles()
    assert cycles("--phase", "generate") + cycles("--phase", "summarise") == pytest.approx(cycles(), rel=0.02)
    assert cycles("--schedule", "none") > cycles()
    assert cycles("--batch", "2") == pytest.approx(2 * cycles(), rel=0.02)
    assert cycles("--seed", "3") == cycles("--seed", "3")


def test_a_setting_may_be_for_one_design(simulate: Simulate, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    both = ("-a", "spatten", "-a", "systolic", *SHORT, "--json", path, "-q")
    assert simulate(*both, "--set", "systolic:array.rows=8", "--set", "dram.channels=4")[0] == 0
    spatten, systolic = load_results(path)
    assert systolic.parameters["array.rows"] == 8
    assert (spatten.parameters["dram.channels"], systolic.parameters["dram.channels"]) == (4, 4)
    code, _, err = simulate(*both, "--set", "a3:array.rows=8")
    assert (code, "not simulated" in err) == (2, True)
    code, _, err = simulate(*both, "--set", "array.rows=8")
    assert (code, "unknown key 'rows'" in err) == (2, True)


def test_host_completes_the_total(simulate: Simulate, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    assert simulate(*SHORT, "--host", "laptop:100,20", "--strict", "--json", path, "-q")[0] == 0
    (result,) = load_results(path)
    assert result.scopes["linear"].modelled_by == "host"
    assert result.scopes["total"].time_s is not None
    code, _, err = simulate(*SHORT, "--strict")
    assert code == 2
    assert "--strict" in err


def test_new_design_file_runs_and_changes_what_it_says(simulate: Simulate, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    code, out, _ = simulate("new", path)
    assert code == 0
    assert "mine.yaml" in out
    plain, same = (load_one(simulate, tmp_path, arch) for arch in ("spatten", str(path)))
    assert same.design == "mine"
    assert same.cycles == plain.cycles
    text = path.read_text()
    assert "# dram:" in text
    path.write_text(text.replace("# dram:", "dram:").replace("#   channels: 16", "  channels: 1"))
    assert (load_one(simulate, tmp_path, str(path)).cycles or 0) > (plain.cycles or 0)
    path.write_text(text.replace("# dram:", "dram:").replace("#   channels: 16", "  chanels: 1"))
    code, _, err = simulate("--arch", path, *SHORT)
    assert code == 2
    line = next(i for i, row in enumerate(path.read_text().splitlines(), 1) if "chanels" in row)
    assert f"line {line}" in err
    assert "did you mean 'channels'" in err
    code, _, err = simulate("new", path)
    assert (code, "exists" in err) == (2, True)
    assert simulate("new", path, "--force", "--base", "systolic")[0] == 0
    assert load_one(simulate, tmp_path, str(path)).scopes["linear"].modelled_by == "design"


def load_one(simulate: Simulate, tmp_path: Path, arch: str) -> simulator.api.Result:
    path = tmp_path / "one.json"
    code, _, err = simulate("--arch", arch, *SHORT, "--json", path, "-q")
    assert (code, err) == (0, "")
    return load_results(path)[0]


def test_every_parameter_of_a_new_file_may_be_given(simulate: Simulate, tmp_path: Path) -> None:
    for base in ("spatten", "spatten-eighth", "systolic"):
        path = tmp_path / f"all-{base}.yaml"
        simulate("new", path, "--base", base)
        head, mark, body = path.read_text().partition(f"# All numbers of {base}:")
        assert mark
        lines = body.splitlines()[1:]
        path.write_text(head + "\n".join(line.removeprefix("# ") for line in lines))
        code, out, err = simulate("show", path)
        assert (code, err) == (0, "")
        assert "channels" in out


def test_lists(simulate: Simulate) -> None:
    code, out, _ = simulate("archs")
    assert code == 0
    assert {line.split()[0] for line in out.splitlines()} >= {"spatten", "spatten-eighth", "systolic"}
    code, out, _ = simulate("show", "spatten")
    assert code == 0
    assert "dram.channels" in out
    assert "published" in out
    code, out, _ = simulate("--help")
    assert code == 0
    assert all(name in out for name in ("run", "capture", "archs", "show", "compare", "new", "dram", "export"))
    assert simulate("--version")[0] == 0


BAD: list[tuple[tuple[str, ...], str]] = [
    (("nothing-here",), "built-in model"),
    (("absent.pt",), "does not exist"),
    (("bert-base", "--arch", "spaten"), "did you mean 'spatten'"),
    (("bert-base", "--arch", "absent.yaml"), "absent.yaml"),
    (("bert-base", "--schedule", "spatten-brt"), "did you mean 'spatten-bert'"),
    (("bert-base", "--set", "dram.channels"), "key=value"),
    (("bert-base", "--set", "dram.chanels=8"), "did you mean 'channels'"),
    (("bert-base", "--set", "dram.channels=eight"), "dram.channels"),
    (("bert-base", "--set", "a=1", "--set", "a=2"), "given twice"),
    (("bert-base", "--memory", "hmb2"), "hbm2"),
    (("bert-base", "--host", "fast"), "host"),
    (("bert-base", "--generate", "4"), "generates no tokens"),
    (("bert-base", "--require-measured"), "--input FILE"),
    (("bert-base", "--input", "x.txt"), "no weights"),
    (("bert-base", "--phase", "warm-up"), "warm-up"),
    (("bert-base", "--phase", "generate"), "no ops of the phase"),
    (("bert-base", "--set", "dram.channels="), "key=value"),
    (("bert-base", "--json", "-", "--csv", "-"), "stdout"),
    (("bert-base", "--html", "/"), "folder of this name"),
    (("bert-base", "--seq-len", "0"), "seq-len"),
    (("bert-base", "--no-such-option"), "no-such-option"),
    (("bert-base", "--json", "no/such/folder/x.json"), "no/such/folder"),
    (("bert-base", "--seq-len", "40000", "--schedule", "none"), "sram.bytes"),
    (("show", "spaten"), "did you mean"),
    (("show", "absent.json"), "absent.json"),
    (("compare", "absent.json"), "absent.json"),
    (("new", "design.txt"), ".yaml"),
    (("capture", "bert-base", "no/such/w.json"), "no/such"),
    (("capture", "bert-base", "-"), "stdout"),
    (("bert-base", "--seed", "-1"), "the seed is -1"),
]


@pytest.mark.parametrize(("arguments", "said"), BAD, ids=[" ".join(arguments) for arguments, _ in BAD])
def test_bad_input_is_named_and_exits_with_2(simulate: Simulate, arguments: tuple[str, ...], said: str) -> None:
    code, out, err = simulate(*arguments, *(() if arguments[0] in ("show", "compare", "new", "capture") else ("-q",)))
    assert code == 2
    assert out == ""
    assert said in err
    assert "Traceback" not in err


def test_bad_files(simulate: Simulate, tmp_path: Path) -> None:
    for name, content in (("w.json", b'{"format": "spar'), ("m.safetensors", b"\x00"), ("r.json", b"{}")):
        path = tmp_path / name
        path.write_bytes(content)
        code, _, err = simulate(path)
        assert (code, name in err, "Traceback" in err) == (2, True, False)
    code, _, err = simulate("show", tmp_path / "r.json")
    assert (code, "not a simulation result" in err) == (2, True)
    path = tmp_path / "m.safetensors"
    save_file({"encoder.layer.0.attention.self.query.weight": np.zeros((4, 4), np.float32)}, path)
    code, _, err = simulate(path)
    assert (code, "no known model" in err) == (2, True)


def test_failed_run_keeps_the_old_file(simulate: Simulate, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text("old")
    assert simulate(*SHORT, "--strict", "--json", path)[0] == 2
    assert path.read_text() == "old"


def test_a_full_disk_is_no_error_of_ours(simulate: Simulate) -> None:
    code, _, err = simulate("capture", *SHORT, "/proc/w.json")  # where no file can be made
    assert code == 2
    assert "internal" not in err
    assert "/proc" in err


def test_a_reader_that_stops_early_costs_no_file(tmp_path: Path) -> None:
    files = {kind: tmp_path / f"r.{kind}" for kind in ("json", "csv", "html")}
    options = [word for kind, path in files.items() for word in (f"--{kind}", str(path))]
    command = [sys.executable, "-m", "simulator.cli", *SHORT, *options]
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=variables)
    assert running.stdout is not None
    assert running.stderr is not None
    running.stdout.close()
    said = running.stderr.read()
    running.stderr.close()
    running.wait()
    assert b"Traceback" not in said
    assert all(path.stat().st_size > 100 for path in files.values())


def test_as_a_process() -> None:
    done = process(*SHORT)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("ASSUMED")
    bad = process("bert-base", "--arch", "spaten")
    assert (bad.returncode, bad.stdout) == (2, "")
    assert "Traceback" not in bad.stderr
    debug = process("bert-base", "--arch", "spaten", "--debug")
    assert debug.returncode == 2
    assert "Traceback" in debug.stderr
    assert "did you mean" in debug.stderr


def test_error_of_ours_exits_with_1(tmp_path: Path) -> None:
    """A broken design of another package is no named error: it must not look like bad input."""
    code = (
        "import sys, simulator.api, simulator.cli\n"
        "def broken(*a, **k): raise RuntimeError('a bug')\n"
        "simulator.api.run = broken\n"
        "simulator.cli.main(sys.argv[1:])\n"
    )
    for option, traced in ((), False), (("--debug",), True):
        command = [sys.executable, "-c", code, "bert-base", *option]
        variables = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=variables)
        assert done.returncode == 1
        assert "a bug" in done.stderr
        assert ("Traceback" in done.stderr) is traced
    assert (
        "internal error"
        in subprocess.run(
            [sys.executable, "-c", code, "bert-base"], capture_output=True, text=True, check=False, env=variables
        ).stderr
    )


def test_shell_completion() -> None:
    asked = {"_SIMULATE_COMPLETE": "complete_bash", "COMP_CWORD": "1"}
    done = process(**asked, COMP_WORDS="simulate ")
    assert set(done.stdout.split()) >= {"run", "capture", "archs", "show", "compare", "new"}
    done = process(**{**asked, "COMP_CWORD": "3"}, COMP_WORDS="simulate run --arch spatten")
    assert set(done.stdout.split()) >= {"spatten", "spatten-eighth"}
    done = process(**{**asked, "COMP_CWORD": "3"}, COMP_WORDS="simulate\nbert-base\n--arch\nspatten-")
    assert "spatten-eighth" in done.stdout.split(), "the short form completes, too"
    assert all(name.startswith("spatten-") for name in done.stdout.split())
    typed = "simulate bert-base --schedule spatten-b"
    done = process(_SIMULATE_COMPLETE="complete_zsh", _TYPER_COMPLETE_ARGS=typed)
    assert "spatten-bert" in done.stdout
    script = process("--show-completion", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1", SHELL="bash")
    assert script.returncode in (0, 2)


def test_output_into_a_closed_pipe_is_no_error() -> None:
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = f"'{sys.executable}' -m simulator.cli show spatten | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, env=variables)
    assert "spatten" in done.stdout
    assert "Traceback" not in done.stderr
    assert "error" not in done.stderr


def test_commands_need_neither_torch_nor_sparsecore() -> None:
    code = (
        "import sys\n"
        "sys.modules['torch'] = sys.modules['sparsecore'] = None\n"
        "from simulator.cli import main\n"
        "main(['bert-base', '--seq-len', '16', '-q'])\n"
    )
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=variables)
    assert (done.returncode, done.stderr) == (0, "")
