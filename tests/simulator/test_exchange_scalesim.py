"""The topology for SCALE-Sim: read back by its own rules, and by itself where there is one."""

from __future__ import annotations

import configparser
import csv
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from command import Simulate
from exported_models import operations_in, operations_of, small_workload

from simulator.designs.registry import make
from simulator.designs.systolic import Systolic
from simulator.errors import InvalidValueError, UnknownNameError, UnsupportedError
from simulator.exchange.model import export_model
from simulator.units import SystolicArray
from simulator.workload import Workload

Gemm = tuple[str, int, int, int, str]  # name, M, N, K, N:M of the weights


def read_topology(path: Path) -> list[Gemm]:
    """As load_arrays_gemm of scalesim 3.0.0: no first line, no empty ones, nothing after the last comma."""
    found = []
    for row in path.read_text().splitlines()[1:]:
        if row.strip():
            fields = row.strip().split(",")[:-1]
            assert 4 <= len(fields) <= 5
            ratio = fields[4].strip() if len(fields) == 5 else "1:1"
            found.append((fields[0].strip(), *(int(field) for field in fields[1:4]), ratio))
    return found  # type: ignore[return-value]


def test_every_product_is_one_that_scalesim_reads(seed: int, tmp_path: Path) -> None:
    workload = small_workload(seed)
    done = export_model(workload, "scalesim", tmp_path / "out")
    gemms = read_topology(tmp_path / "out" / "topology.csv")
    assert done.count == len(gemms) == len({gemm[1:] for gemm in gemms})
    with (tmp_path / "out" / "layers.csv").open(newline="") as file:
        layers = list(csv.DictReader(file))
    lines = (tmp_path / "out" / "topology.csv").read_text().splitlines()
    for row in layers:
        name, m, n, k, ratio = gemms[int(row["place"].rpartition(" ")[2]) - 2]
        assert lines[int(row["place"].rpartition(" ")[2]) - 1].startswith(f"{name},")
        assert [str(size) for size in (m, n, k)] == [row["M"], row["N"], row["K"]]
        assert ratio == ("2:4" if row["pattern"] == "2:4" else "1:1")
    assert operations_of(tmp_path / "out") == operations_in(workload)
    assert {"layer0.query", "layer1.up", "lm_head.step1", "layer0.qk.head0"} <= {row["layer"] for row in layers}
    assert "empty" not in {row["layer"] for row in layers}


def test_the_configuration_is_the_array(tmp_path: Path, seed: int) -> None:
    export_model(small_workload(seed), "scalesim", tmp_path / "out", "tpu-v1")
    config = configparser.ConfigParser()
    assert config.read(tmp_path / "out" / "scale.cfg")
    shape = config["architecture_presets"]
    assert (shape["arrayheight"], shape["arraywidth"], shape["dataflow"]) == ("256", "256", "ws")
    assert config["run_presets"]["interfacebandwidth"] == "CALC"
    layout = (tmp_path / "out" / "layout.csv").read_text().splitlines()
    assert len(layout) == len((tmp_path / "out" / "topology.csv").read_text().splitlines())


def interpreter() -> str | None:
    """One that has scalesim: SCALESIM_PYTHON (it needs numpy below 2), or our own."""
    return os.environ.get("SCALESIM_PYTHON") or (sys.executable if importlib.util.find_spec("scalesim") else None)


def scalesim_cycles(python: str, folder: Path) -> list[int]:
    page = (folder / "README.md").read_text()
    code = next(line for line in page.splitlines() if "python -c" in line).partition('"')[2].rpartition('"')[0]
    subprocess.run([python, "-c", code], check=True, cwd=folder, stdout=subprocess.DEVNULL)
    with (folder / "results" / "run" / "COMPUTE_REPORT.csv").open(newline="") as file:
        return [int(float(row["Total Cycles"])) for row in csv.DictReader(file, skipinitialspace=True)]


def test_cycles_of_the_topology(seed: int, tmp_path: Path) -> None:
    """What is read from the topology takes our array as long as the design's own products of it, and as SCALE-Sim."""
    workload = small_workload(seed)
    export_model(workload, "scalesim", tmp_path / "out")
    design = make("systolic")[0]
    assert isinstance(design, Systolic)
    array = SystolicArray(32, 32, "ws")
    assert array == design.array
    gemms = read_topology(tmp_path / "out" / "topology.csv")
    ours = [array.stall_free_cycles((m, k, n)) for _, m, n, k, _ in gemms]
    first = workload.linear[0]
    assert ours[0] == design.mapping(first).array_cycles
    python = interpreter()
    theirs = ours if python is None else scalesim_cycles(python, tmp_path / "out")
    assert ours == theirs


def test_what_is_lost_is_said(seed: int, tmp_path: Path, simulate: Simulate) -> None:
    path = tmp_path / "small.json"
    small_workload(seed).save(path)
    code, out, err = simulate("export", path, "--to", "scalesim", "-o", tmp_path / "out", "--arch", "tpu-v1")
    assert (code, err) == (0, "")
    for said in ("N:M of the weights", "block 32x32, unstructured are dense", "low bits of K", "overlap", "softmax"):
        assert said in out
        assert said in (tmp_path / "out" / "README.md").read_text()
    assert simulate("export", path, "--to", "scalesim", "-o", tmp_path / "out", "-q") == (0, "", "")


def test_a_model_by_name(tmp_path: Path, simulate: Simulate) -> None:
    code, out, _ = simulate("export", "bert-base", "--seq-len", 16, "--schedule", "none", "--to", "scalesim", "-o",
                            tmp_path / "out")  # fmt: skip
    assert code == 0
    names = {gemm[1:4]: gemm[0] for gemm in read_topology(tmp_path / "out" / "topology.csv")}
    assert names == {
        (16, 768, 768): "layer0.attention.self.query",
        (16, 3072, 768): "layer0.intermediate.dense",
        (16, 768, 3072): "layer0.output.dense",
        (1, 768, 768): "pooler.dense",
        (16, 16, 64): "layer0.qk.head0",
        (16, 64, 16): "layer0.pv.head0",
    }
    assert "6 products" in out


def test_refusals(seed: int, tmp_path: Path, simulate: Simulate) -> None:
    workload = small_workload(seed)
    with pytest.raises(UnknownNameError, match="scalsim"):
        export_model(workload, "scalsim", tmp_path / "out")
    with pytest.raises(UnsupportedError, match="spatten is not a systolic array"):
        export_model(workload, "scalesim", tmp_path / "out", "spatten")
    empty = Workload("empty", workload.model, (), (), (), ())
    with pytest.raises(InvalidValueError, match="no matrix product"):
        export_model(empty, "scalesim", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    for arguments, said in (
        (("bert-base", "--to", "scalesim", "--memory", "hbm2"), "--memory has no effect on the export of models"),
        (("x.trace", "--to", "dramsim3", "--seq-len", 8), "--seq-len has no effect on the export of traces"),
        (("--to", "timeloop"), "no model is given"),
        (("bert-bsae", "--to", "scalesim"), "bert-base"),
        (("bert-base", "--to", "scalsim"), "did you mean 'scalesim'"),
    ):
        code, _, err = simulate("export", *arguments, "-o", tmp_path / "out")
        assert code == 2
        assert said in err
