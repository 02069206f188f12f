"""Ops and workloads: validation, counts, the file format."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest

from simulator.errors import CorruptFileError, FileMissingError, FormatVersionError, InvalidValueError
from simulator.workload import AttentionOp, LinearOp, ModelInfo, OtherOp, Sequence, Workload
from simulator.workload.describe import describe

MODEL = ModelInfo("bert", 2, 4, 4, 8, 32, 64, 100, 12345, "f32")


def attention(**changes: object) -> AttentionOp:
    base = AttentionOp(
        layer=1,
        sequence=0,
        phase="summarise",
        step=0,
        context=10,
        queries=6,
        keys=6,
        heads=(0, 2, 3),
        kv_heads=3,
        head_dim=8,
        values=(4, 5, 6),
        local_values=3,
        lsb_queries=(0, 1, 6),
        query_bits=12,
        key_msb_bits=8,
        key_lsb_bits=4,
        value_bits=8,
        token_select=(6, 5),
        head_select=(3, 2),
        key_ids="ids",
        kind={"tokens": "measured", "lsb": "assumed"},
    )
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def random_workload(seed: int) -> Workload:
    rng = np.random.default_rng(seed)
    ids = np.sort(rng.choice(10, 6, replace=False)).astype(np.int32)
    linear = LinearOp(1, "query", 0, "summarise", 0, 6, 32, 32, "2:4", 0.5, 32, {"tokens": "measured"})
    pooler = LinearOp(None, "pooler", 0, "summarise", 0, 1, 32, 32)
    other = OtherOp(1, "layer_norm", 0, "summarise", 0, 6, 192, 1536, 1536, {"tokens": "published"})
    return Workload(
        "small", MODEL, (Sequence(0, 10, "a text"),), (attention(),), (linear, pooler), (other,), {"ids": ids}, "half"
    )


def same(a: Workload, b: Workload) -> bool:
    return (
        a == b
        and a.arrays.keys() == b.arrays.keys()
        and all(np.array_equal(a.arrays[k], b.arrays[k]) for k in a.arrays)
    )


def test_counts() -> None:
    op = attention()
    assert op.recomputed == 7
    assert op.operations == 2 * 8 * (6 * 3 * 6 + 7 * 6 + 6 * 3 * 3)
    bits = 8 * (3 * 6 * 8 + 2 * 6 * 4 + 15 * 8 + 2 * 6 * 3 * 12)
    assert op.bytes == bits // 8
    linear = random_workload(0).linear[0]
    assert linear.operations == 2 * 6 * 32 * 32 // 2
    assert linear.bytes == (32 * 32 // 2 + 6 * 64) * 4


def test_grouped_queries_read_k_and_v_once_per_kv_head() -> None:
    whole = attention(heads=(0, 1), values=(6, 6), lsb_queries=(0, 0), kv_heads=2)
    grouped = dataclasses.replace(whole, kv_heads=1)
    assert whole.bytes - grouped.bytes == 8 * (6 * 8 + 6 * 8) // 8


@pytest.mark.parametrize(
    "changes",
    [
        {"keys": 11, "key_ids": None},
        {"queries": -1},
        {"heads": (2, 0, 3)},
        {"heads": (0, 0, 3)},
        {"values": (4, 5)},
        {"values": (4, 5, 7)},
        {"local_values": 7},
        {"lsb_queries": (0, 0, 7)},
        {"key_msb_bits": 0},
        {"phase": "decode"},
        {"token_select": (5, 6)},
        {"kv_heads": 4},
        {"kind": {"tokens": "guessed"}},
    ],
)
def test_op_out_of_range_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(InvalidValueError):
        attention(**changes)


@pytest.mark.parametrize(
    "ids",
    [
        np.array([0, 1, 2, 3, 4, 10], np.int32),
        np.array([0, 1, 2, 4, 3, 5], np.int32),
        np.array([0, 1, 1, 2, 3, 4], np.int32),
        np.array([0, 1, 2, 3, 4], np.int32),
        np.array([0, 1, 2, 3, 4, 5], np.int64),
    ],
)
def test_key_ids_must_be_an_ascending_table_in_range(ids: np.ndarray) -> None:
    good = random_workload(0)
    with pytest.raises(InvalidValueError, match="key id"):
        dataclasses.replace(good, arrays={"ids": ids})
    with pytest.raises(InvalidValueError, match="missing"):
        dataclasses.replace(good, arrays={})


def test_dense_keeps_everything() -> None:
    dense = random_workload(0).dense()
    op = dense.attention[0]
    assert (op.queries, op.keys, op.heads, op.values) == (10, 10, (0, 1, 2, 3), (10,) * 4)
    assert (op.key_msb_bits, op.key_lsb_bits, op.recomputed, op.token_select) == (12, 0, 0, None)
    assert [linear.tokens for linear in dense.linear] == [10, 1]
    assert (dense.other[0].elements, dense.other[0].operations, dense.other[0].bytes) == (320, 2560, 2560)
    assert dense.dense().attention == dense.attention
    assert dense.operations() > random_workload(0).operations()


def test_kinds_gives_the_least_trustworthy() -> None:
    assert random_workload(0).kinds() == {"tokens": "published", "lsb": "assumed"}


def test_describe_says_what_is_kept() -> None:
    assert describe(random_workload(0)) == {
        "tokens": "60.0 % of the keys kept",
        "heads": "75.0 % of the heads kept",
        "values": "83.3 % of the kept V rows fetched",
        "lsb": "38.9 % of the queries need the low bits",
        "bits": "Q 12, K 8 + 4, V 8 bit",
        "pattern": "2:4: 1, dense: 1 linear ops",
    }
    empty = dataclasses.replace(random_workload(0), attention=(), linear=(), arrays={})
    assert describe(empty) == {}


def test_save_and_load(tmp_path: Path, seed: int) -> None:
    workload = random_workload(seed)
    workload.save(tmp_path / "w.json")
    assert same(Workload.load(tmp_path / "w.json"), workload)
    assert len(list(tmp_path.iterdir())) == 2
    other = random_workload(seed + 1)
    other.save(tmp_path / "w.json")
    assert same(Workload.load(tmp_path / "w.json"), other)
    assert len(list(tmp_path.iterdir())) == 2, "the arrays of the file that was replaced must go"


def test_interrupt_while_writing_keeps_the_old_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "w.json"
    old = random_workload(1)
    old.save(path)
    before = sorted(p.name for p in tmp_path.iterdir())
    new = dataclasses.replace(random_workload(2), arrays={"ids": np.arange(6, dtype=np.int32)})
    for interrupted in (0, 1):  # while the arrays are written, and while the JSON is
        calls = iter(range(10))

        def fsync(_: int, calls: object = calls, stop: int = interrupted) -> None:
            if next(calls) == stop:  # type: ignore[call-overload]
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fsync)
            with pytest.raises(KeyboardInterrupt):
                new.save(path)
        assert same(Workload.load(path), old)
    assert set(before) <= {p.name for p in tmp_path.iterdir()}
    assert not list(tmp_path.glob("*.part"))


def edit(path: Path, **changes: object) -> None:
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, **changes}))


def test_bad_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "w.json"
    with pytest.raises(FileMissingError, match=r"w\.json"):
        Workload.load(path)
    with pytest.raises(FileMissingError, match="nowhere"):
        random_workload(0).save(tmp_path / "nowhere" / "w.json")
    random_workload(0).save(path)
    whole = path.read_text()
    for cut in (1, len(whole) // 2, len(whole) - 3):
        path.write_text(whole[:cut])
        with pytest.raises(CorruptFileError, match=r"w\.json"):
            Workload.load(path)
    path.write_bytes(b"\x80\x02PK\xff")
    with pytest.raises(CorruptFileError):
        Workload.load(path)
    path.write_text(whole)
    edit(path, version="2.0")
    with pytest.raises(FormatVersionError, match=r"2\.0"):
        Workload.load(path)
    for version in (None, 1, "1", "1.x", "-1.0"):
        edit(path, version=version)
        with pytest.raises(CorruptFileError):
            Workload.load(path)


def test_bad_values_in_a_file_are_named(tmp_path: Path) -> None:
    path = tmp_path / "w.json"
    random_workload(0).save(path)
    document = json.loads(path.read_text())
    row = document["attention"][0]
    for changed in ({"keys": 100}, {"keys": "6"}, {"keys": True}, {"heads": [0, 2, 9]}, {"layer": 2}, {"colour": 1}):
        edit(path, attention=[{**row, **changed}])
        with pytest.raises(CorruptFileError, match=r"w\.json"):
            Workload.load(path)
    edit(path, attention=[{key: value for key, value in row.items() if key != "keys"}])
    with pytest.raises(CorruptFileError, match="'keys' is missing"):
        Workload.load(path)
    edit(path, attention=[row], arrays={"file": "../w.safetensors", "sha256": ""})
    with pytest.raises(CorruptFileError, match="arrays"):
        Workload.load(path)


def test_newer_minor_version_reads(tmp_path: Path) -> None:
    path = tmp_path / "w.json"
    random_workload(3).save(path)
    row = json.loads(path.read_text())["attention"][0]
    edit(path, version="1.7", attention=[{**row, "colour": 1}], extra={})
    assert same(Workload.load(path), random_workload(3))


def test_damaged_arrays_are_named(tmp_path: Path) -> None:
    path = tmp_path / "w.json"
    random_workload(0).save(path)
    (arrays,) = tmp_path.glob("*.safetensors")
    raw = bytearray(arrays.read_bytes())
    raw[-1] ^= 1
    arrays.write_bytes(raw)
    with pytest.raises(CorruptFileError, match="do not belong"):
        Workload.load(path)
    arrays.unlink()
    with pytest.raises(FileMissingError):
        Workload.load(path)
