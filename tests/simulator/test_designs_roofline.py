"""Rooflines: the larger of two bounds by hand, ceilings of one kind, what is refused; and 2:4 matrix units."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest
from attention_ops import attention
from command import Simulate

import simulator
from simulator.designs.registry import make, resolve
from simulator.designs.roofline import Roofline
from simulator.designs.sparse_tensor_core import SparseTensorCore
from simulator.errors import ConfigError, UnsupportedError
from simulator.workload.ir import LinearOp, OtherOp
from simulator.workload.reader import read_workload
from simulator.workload.request import ReadRequest

SHEETS = ("a100", "h100", "h200", "roofline", "titan-xp", "v100", "xeon-e5-2640v4")
MEASURED = """
base: roofline
name: box
source: "loops on a box"   # measured: here
sheet: null
measured:  # measured: here
  gops_by_bits: {32: 200.0, 16: 400.0}
  read_gb_per_s: 30.0
"""


def processor(name: str, **changes: object) -> Roofline:
    made = make(name, {key.replace("__", "."): value for key, value in changes.items()})[0]
    assert isinstance(made, Roofline)
    return made


def linear(tokens: int, inner: int, outputs: int, pattern: str = "dense", bits: int = 16) -> LinearOp:
    density = 0.5 if pattern == "2:4" else 1.0
    return LinearOp(0, "x", 0, "summarise", 0, tokens, inner, outputs, pattern, density, bits)


@pytest.mark.parametrize("name", SHEETS)
def test_time_is_the_larger_bound(name: str, seed: int) -> None:
    machine, rng = processor(name), random.Random(seed)
    for _ in range(20):
        m, k, n = rng.choice((1, 7, 512, 4096)), rng.randint(1, 5000), rng.randint(1, 5000)
        op = linear(m, k, n, bits=rng.choice((8, 16, 32)))
        bits = min(width for width in machine.peaks if width >= op.weight_bits)
        nbytes = sum(-(-size * bits // 8) for size in (m * k, k * n, m * n))
        want = max(2 * m * k * n / machine.peaks[bits], nbytes / machine.gb_per_s)
        cost = machine.cost(op, None, 0)
        assert cost.cycles == math.ceil(want)
        assert sum(traffic.useful_bytes for traffic in cost.traffic.values()) == nbytes
    op = attention(200, heads=4, query_bits=12, key_msb_bits=8, key_lsb_bits=4, value_bits=12)
    bits = min(width for width in machine.peaks if width >= 12)
    nbytes = 4 * 4 * 200 * 64 * bits // 8
    cost = machine.cost(op.dense(4, 4), None, 0)
    assert cost.cycles == math.ceil(max(4 * 4 * 200 * 200 * 64 / machine.peaks[bits], nbytes / machine.gb_per_s))
    other = OtherOp(0, "norm", 0, "summarise", 0, 10, 640, 6400, 1 << 20)
    want = max(6400 / machine.peaks[max(machine.peaks)], (1 << 20) / machine.gb_per_s)
    assert machine.cost(other, None, 0).cycles == math.ceil(want)


def test_everything_runs_and_says_what_kind_of_ceilings(tmp_path: Path) -> None:
    path = tmp_path / "box.yaml"
    path.write_text(MEASURED)
    for arch, kind, word in (("a100", "published", "data sheet"), (str(path), "measured", "measured ceilings: loops")):
        result = simulator.run("bert-base", arch)
        assert result.scopes["total"].time_s == pytest.approx(
            sum(result.scopes[name].time_s or 0 for name in ("attention", "linear", "other"))
        )
        assert not result.not_modelled
        assert sum(word in note for note in result.notes) == 1
        kinds = {p.name: p.kind for p in resolve(arch).parameters if p.name.startswith(("sheet.", "measured."))}
        assert set(kinds.values()) == {kind}
        assert (result.scopes["linear"].energy_pj is None) == (kind == "measured")  # no power is measured
        same = simulator.run("bert-base", arch, fidelity="analytical")
        assert same.scopes["total"].time_s == result.scopes["total"].time_s


def test_ceilings_are_never_mixed(tmp_path: Path) -> None:
    path = tmp_path / "box.yaml"
    path.write_text(MEASURED.replace("sheet: null", "sheet: {bus_bits: 512}"))
    with pytest.raises(ConfigError, match="never mixed"):
        simulator.run("bert-base", str(path))
    path.write_text("base: a100\nmeasured: {gops_by_bits: {16: 1.0}, read_gb_per_s: 1.0}\n")
    with pytest.raises(ConfigError, match="never mixed"):
        simulator.run("bert-base", str(path))
    for sheet in SHEETS:
        assert processor(sheet).settings.kind == "published"


@pytest.mark.parametrize(
    ("arch", "changes", "said"),
    [
        ("a100", {"dram.standard": "hbm2"}, "no memory to choose"),
        ("a100", {"technology.node_nm": 7.0}, "no node"),
        ("a100", {"sheet": None}, "either sheet or measured"),
        ("a100", {"sheet.clock_ghz": 0.0}, "greater than 0"),
        ("sparse-tensor-core", {"matrix.tiles": [[128, 0]]}, "two sizes"),
        ("sparse-tensor-core", {"matrix.tiles": []}, "at least 1"),
    ],
)
def test_settings_without_a_meaning_are_refused(arch: str, changes: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make(arch, changes)


def test_what_is_wider_than_all_units_is_named() -> None:
    with pytest.raises(UnsupportedError, match="no unit multiplies 64 bit") as caught:
        processor("a100").cost(linear(4, 8, 8, bits=64), None, 0)
    assert "--set bits=32" in caught.value.hint
    assert processor("a100", bits=32).cost(linear(4, 8, 8, bits=64), None, 0).cycles
    wide, narrow = (processor("a100", bits=bits).cost(linear(4096, 4096, 4096, bits=32), None, 0) for bits in (32, 16))
    assert wide.cycles > 15 * narrow.cycles


def test_a_file_of_another_package_is_made_when_asked_for(
    simulate: Simulate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "box.yaml"
    path.write_text(MEASURED)

    class Point:
        name, value = "box", "box.module:file"

        @staticmethod
        def load() -> object:
            return lambda: path

    class Broken(Point):
        name = "broken"

        @staticmethod
        def load() -> object:
            raise ImportError("no box here")

    from simulator.designs import registry

    monkeypatch.setattr(registry.importlib.metadata, "entry_points", lambda group: [Point, Broken])
    monkeypatch.setattr(registry, "_classes", lambda: ({"roofline": Roofline}, {}))
    registry._files.cache_clear()
    try:
        assert resolve("box").document.data["source"] == "loops on a box"
        with pytest.raises(ImportError, match="no box here"):
            resolve("broken")
        assert resolve("a100").document.data["name"] == "a100"  # the others work
        assert "box.module:file" in simulate("archs")[1]
    finally:
        monkeypatch.undo()
        registry._files.cache_clear()


# Sparse tensor cores


def sparse(**changes: object) -> SparseTensorCore:
    made = processor("sparse-tensor-core", **changes)
    assert isinstance(made, SparseTensorCore)
    return made


def gain(machine: SparseTensorCore, tokens: int, inner: int, outputs: int) -> float:
    dense, pruned = (machine.cost(linear(tokens, inner, outputs, p), None, 0) for p in ("dense", "2:4"))
    return dense.cycles / pruned.cycles


def test_twice_the_rate_where_operations_bind_and_bytes_where_they_do() -> None:
    machine = sparse()
    assert gain(machine, 8192, 8192, 8192) == pytest.approx(2.0, rel=0.01)
    assert gain(machine, 1, 8192, 28672) == pytest.approx(16 / 9, rel=0.01)
    assert gain(sparse(bits=8), 1, 8192, 28672) == pytest.approx(8 / 5, rel=0.01)
    # With bandwidth to spare the vector is bound by the cores; with none, even large products gain by bytes alone.
    slow = sparse(sheet__gbit_per_pin=0.001)
    weights, rest = 16384 * 16384, 2 * 64 * 16384
    assert gain(slow, 64, 16384, 16384) == pytest.approx(
        (16 * weights + 16 * rest) / (9 * weights + 16 * rest), rel=1e-3
    )


def test_only_two_of_four_in_linear_layers_gains() -> None:
    machine = sparse()
    for pattern in ("1:4", "4:8", "unstructured", "block 32x32"):
        op = LinearOp(0, "x", 0, "summarise", 0, 256, 1024, 1024, pattern, 0.5)
        assert machine.dense(op).operations == 2 * 256 * 1024 * 1024
    assert machine.dense(linear(1, 64, 64, "2:4")).pattern == "2:4"
    assert machine.prunes is False
    workload = read_workload("bert-base", ReadRequest(seq_len=128))
    result = simulator.run(workload, "sparse-tensor-core")
    assert result.scopes["attention"].operations == result.scopes["attention"].operations_dense
    assert any("attention is dense" in note for note in result.notes)


def test_bytes_of_weights_and_metadata_are_counted_group_by_group(seed: int) -> None:
    machine, rng = sparse(), random.Random(seed)
    for _ in range(20):
        inner, outputs = rng.randint(1, 200), rng.randint(1, 200)
        traffic = machine.cost(linear(3, inner, outputs, "2:4"), None, 0).traffic
        values = sum(2 for _ in range(outputs) for _ in range(0, inner, 4))
        assert traffic["weight"].useful_bytes == 2 * values
        assert traffic["metadata"].useful_bytes == -(-2 * values // 8)


def test_operations_run_in_waves_of_tiles() -> None:
    one = sparse(matrix__tiles=[[128, 128]], matrix__splits=1)
    tile = 128 * 128 * 1024 / 1024 / 1.41
    for columns, waves in ((1, 1), (108, 1), (109, 2), (216, 2)):
        assert one.linear_ns(linear(128, 1024, 128 * columns), 16) == pytest.approx(waves * tile)
    assert one.linear_ns(linear(128, 1000, 128), 16) == pytest.approx(tile)  # K in whole steps of 32
    split = sparse(matrix__tiles=[[128, 128]], matrix__splits=4)
    assert split.linear_ns(linear(128, 1024, 128), 16) == pytest.approx(tile / 4)
    more = sparse(matrix__tiles=[[128, 128], [64, 64]])
    assert more.linear_ns(linear(64, 1024, 64), 16) <= one.linear_ns(linear(64, 1024, 64), 16) / 4


def test_a_remark_says_what_bounds_a_pruned_layer() -> None:
    machine = sparse()
    assert "bound by bytes" in machine.remarks(linear(1, 4096, 4096, "2:4"))[-1]
    assert "2.00 times" in machine.remarks(linear(8192, 8192, 8192, "2:4"))[-1]
    assert machine.cost(linear(0, 64, 64, "2:4"), None, 0).cycles == 0
