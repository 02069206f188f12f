"""Malformed safetensors files: every one is refused with a named error, none crashes or asks for memory."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forge
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sparsecore as sc
from sparsecore.errors import CorruptFileError, FormatVersionError, NamedError, UnsupportedError

GOLDEN = Path(__file__).parents[1] / "data" / "golden-1.0.safetensors"

F32 = forge.entry("F32", [2], 0, 8)
CONTAINERS: dict[str, Callable[[Path], Path]] = {
    "empty": lambda path: (path.write_bytes(b""), path)[1],
    "shorter than its length field": lambda path: (path.write_bytes(b"abc"), path)[1],
    "truncated data": lambda path: forge.container(path, {"a": F32}, bytes(4)),
    "data after the end": lambda path: forge.container(path, {"a": F32}, bytes(12)),
    "overlapping tensors": lambda path: forge.container(
        path, {"a": F32, "b": forge.entry("F32", [2], 4, 12)}, bytes(12)
    ),
    "a hole between tensors": lambda path: forge.container(
        path, {"a": F32, "b": forge.entry("F32", [2], 12, 20)}, bytes(20)
    ),
    "offsets backwards": lambda path: forge.container(path, {"a": forge.entry("F32", [2], 8, 0)}, bytes(8)),
    "dtype lie": lambda path: forge.container(path, {"a": forge.entry("F64", [2], 0, 8)}, bytes(8)),
    "shape lie": lambda path: forge.container(path, {"a": forge.entry("F32", [3], 0, 8)}, bytes(8)),
    "unknown dtype": lambda path: forge.container(path, {"a": forge.entry("Q9", [2], 0, 8)}, bytes(8)),
    "shape that overflows": lambda path: forge.container(
        path, {"a": forge.entry("F32", [2**40, 2**40], 0, 8)}, bytes(8)
    ),
    "negative size": lambda path: forge.container(path, {"a": forge.entry("F32", [-2], 0, 8)}, bytes(8)),
    "one name twice": lambda path: forge.container(
        path,
        b'{"a":' + json.dumps(F32).encode() + b',"a":' + json.dumps(forge.entry("F32", [2], 8, 16)).encode() + b"}",
        bytes(16),
    ),
    "header of 2^60 bytes": lambda path: forge.container(path, {"a": F32}, bytes(8), length=2**60),
    "header longer than the file": lambda path: forge.container(path, {"a": F32}, bytes(8), length=10_000),
    "header that is no JSON": lambda path: forge.container(path, b'{"a": '),
    "header that is no UTF-8": lambda path: forge.container(path, b'{"\xff": 1}'),
    "header nested 100000 deep": lambda path: forge.container(path, b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "metadata that is no text": lambda path: forge.container(
        path, {"__metadata__": {"sparsecore": 3}, "a": F32}, bytes(8)
    ),
    "a zip archive": lambda path: (path.write_bytes(b"PK\x03\x04" + bytes(60)), path)[1],
    "a pickle": lambda path: (path.write_bytes(b"\x80\x02}q\x00." + bytes(20)), path)[1],
}


@pytest.mark.parametrize("damage", CONTAINERS)
def test_damaged_containers_are_refused(tmp_path: Path, damage: str) -> None:
    path = CONTAINERS[damage](tmp_path / "attack.safetensors")
    with pytest.raises(CorruptFileError, match=r"attack\.safetensors"):
        sc.load(path)


def change(tensors: dict[str, np.ndarray], **changes: Any) -> dict[str, np.ndarray]:
    """`tensors` with the tensors of module p replaced, or left out where the new one is None."""
    changed = {**tensors, **{f"p.{name}": value for name, value in changes.items()}}
    return {name: value for name, value in changed.items() if value is not None}


def i64(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


STORED = {
    "2:4, three kept in a group": change(forge.two_four(), bitmask=np.full((4, 1), 0b0011_0111, np.uint8)),
    "2:4, one kept in a group": change(forge.two_four(), bitmask=np.full((4, 1), 0b0011_0001, np.uint8)),
    "2:4, bitmask of another size": change(forge.two_four(), bitmask=np.full((4, 2), 0b0011_0011, np.uint8)),
    "2:4, values of another shape": change(forge.two_four(), compressed=np.ones((4, 5), np.float32)),
    "2:4, values in one row": change(forge.two_four(), compressed=np.ones(16, np.float32)),
    "2:4, shape of three sizes": change(forge.two_four(), shape=i64(4, 8, 1)),
    "2:4, shape of floats": change(forge.two_four(), shape=np.array([4, 8], np.float32)),
    "2:4, negative shape": change(forge.two_four(), shape=i64(-4, 8)),
    "2:4, shape that overflows": change(forge.two_four(), shape=i64(2**62, 2**62)),
    "2:4, shape that promises 16 TiB": change(forge.two_four(), shape=i64(2**21, 2**21)),
    "2:4, bitmask of int64": change(forge.two_four(), bitmask=np.full((4, 1), 0x33, np.int64)),
    "1:8, code past the last column": change(forge.codes(cols=16), shape=i64(4, 12)),
    "1:8, pattern that is none": change(forge.codes(), nm=i64(8, 1)),
    "1:8, pattern of zeros": change(forge.codes(), nm=i64(0, 0)),
    "1:8, pattern of 2^62": change(forge.codes(), nm=i64(1, 2**62)),
    "1:8, bits behind the last code": change(forge.codes(), codes=np.full((4, 1), 0xFF, np.uint8)),
    "1:8, negative pattern": change(forge.codes(), nm=i64(-1, 8)),
    "unstructured, too few values": change(forge.unstructured(), compressed=np.ones(3, np.float32)),
    "unstructured, offsets past the end": change(forge.unstructured(), row_offsets=i64(0, 1, 2, 100)),
    "unstructured, offsets that fall": change(forge.unstructured(), row_offsets=i64(0, 2, 1, 3)),
    "unstructured, negative offset": change(forge.unstructured(), row_offsets=i64(-1, 1, 2, 3)),
    "unstructured, bits behind the last column": change(forge.unstructured(), shape=i64(4, 3)),
    "blocks, column out of range": change(forge.blocks(), block_cols=np.array([0, 2], np.int32)),
    "blocks, negative column": change(forge.blocks(), block_cols=np.array([-1, 1], np.int32)),
    "blocks, column twice in a row": change(
        forge.blocks(), block_cols=np.array([1, 1], np.int32), block_row_offsets=i64(0, 2, 2)
    ),
    "blocks, columns that fall": change(
        forge.blocks(), block_cols=np.array([1, 0], np.int32), block_row_offsets=i64(0, 2, 2)
    ),
    "blocks, offsets past the end": change(forge.blocks(), block_row_offsets=i64(0, 1, 7)),
    "blocks, offsets that fall": change(forge.blocks(), block_row_offsets=i64(0, 2, 1)),
    "blocks, offset of 2^62": change(forge.blocks(), block_row_offsets=i64(0, 2**62, 2)),
    "blocks, too few offsets": change(forge.blocks(), block_row_offsets=i64(0, 2)),
    "blocks, size zero": change(forge.blocks(), block=i64(0, 4)),
    "blocks, size 2^40": change(forge.blocks(), block=i64(2**40, 4)),
    "blocks, more columns than blocks": change(forge.blocks(), block_cols=np.array([0, 1, 1], np.int32)),
    "blocks, none, for a weight of 2^40 columns": change(
        forge.blocks(), blocks=np.ones((0, 4, 4), np.float32), block_cols=np.zeros(0, np.int32),
        block_row_offsets=i64(0, 0, 0), shape=i64(8, 2**40),
    ),
    "blocks, none, of 2^31 rows": change(
        forge.blocks(), blocks=np.ones((0, 2**31 - 1, 1), np.float32), block_cols=np.zeros(0, np.int32),
        block_row_offsets=i64(0, 0), block=i64(2**31 - 1, 1),
    ),
    "blocks, values outside the weight": change(forge.blocks(), shape=i64(7, 7)),
}  # fmt: skip
PATTERN_OF = {"2:4": "2:4", "1:8": "1:8", "unstructured": "unstructured", "blocks": "block 4x4"}


def header_for(damage: str, tensors: dict[str, np.ndarray]) -> dict[str, Any]:
    shape = [max(0, int(size)) for size in tensors["p.shape"].flatten()[:2]]
    module = {"pattern": PATTERN_OF[damage.partition(",")[0]], "shape": shape, "dtype": "float32"}
    return {"version": "1.0", "modules": {"p": module}, "aliases": {}}


@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize("damage", STORED)
def test_damaged_packed_weights_are_refused_with_their_layer(tmp_path: Path, damage: str, ours: bool) -> None:
    tensors = STORED[damage]
    path = forge.arrays(tmp_path / "attack.safetensors", tensors, header_for(damage, tensors) if ours else None)
    with pytest.raises(CorruptFileError, match=r"attack\.safetensors: p"):
        sc.load(path)


@pytest.mark.parametrize("form", [forge.two_four, forge.codes, forge.unstructured, forge.blocks])
def test_the_forms_that_the_attacks_start_from_are_correct(tmp_path: Path, form: Callable[[], Any]) -> None:
    kind = {"two_four": "2:4", "codes": "1:8", "unstructured": "unstructured", "blocks": "blocks"}[form.__name__]
    for name, header in (("ours", header_for(kind, form())), ("theirs", None)):
        checkpoint = sc.load(forge.arrays(tmp_path / f"{name}.safetensors", form(), header))
        assert (
            int(checkpoint["p.weight"].count_nonzero())
            == form()[f"p.{'blocks' if kind == 'blocks' else 'compressed'}"].size
        )


def ours(**changes: Any) -> dict[str, Any]:
    module = {"pattern": "2:4", "shape": [4, 8], "dtype": "float32", "transposed": False}
    return {"version": "1.0", "modules": {"p": {**module, **changes}}, "aliases": {}}


HEADERS: dict[str, Any] = {
    "no JSON": "{",
    "a list": [],
    "nested deep": "[" * 100_000,
    "no version": {"modules": {}},
    "modules that are a list": {"version": "1.0", "modules": []},
    "an entry that is no object": {"version": "1.0", "modules": {"p": 3}},
    "a pattern that is none": ours(pattern="2 of 4"),
    "a pattern out of range": ours(pattern="4:2"),
    "a pattern that is a number": ours(pattern=24),
    "another pattern": ours(pattern="unstructured"),
    "another shape": ours(shape=[8, 4]),
    "a shape of text": ours(shape=["4", "8"]),
    "a shape of booleans": ours(shape=[True, True]),
    "a negative shape": ours(shape=[-4, 8]),
    "another dtype": ours(dtype="bfloat16"),
    "a dtype that is none": ours(dtype="os.system"),
    "transposed that is no boolean": ours(transposed="yes"),
    "a module without tensors": {"version": "1.0", "modules": {"q": ours()["modules"]["p"]}},
    "an alias of nothing": {**ours(), "aliases": {"a": "nothing"}},
    "an alias of an alias": {**ours(), "aliases": {"a": "b", "b": "p.bitmask"}},
    "an alias of itself": {**ours(), "aliases": {"a": "a"}},
    "an alias over a tensor": {**ours(), "aliases": {"p.bitmask": "p.compressed"}},
    "an alias that is no text": {**ours(), "aliases": {"a": ["p.bitmask"]}},
}


@pytest.mark.parametrize("damage", HEADERS)
def test_damaged_headers_are_refused(tmp_path: Path, damage: str) -> None:
    path = forge.arrays(tmp_path / "attack.safetensors", forge.two_four(), HEADERS[damage])
    with pytest.raises(CorruptFileError, match=r"attack\.safetensors"):
        sc.load(path)


@pytest.mark.parametrize("version", ["2.0", "10.3"])
def test_a_newer_major_version_is_refused_by_name(tmp_path: Path, version: str) -> None:
    path = forge.arrays(tmp_path / "attack.safetensors", forge.two_four(), {**ours(), "version": version})
    with pytest.raises(FormatVersionError, match=version):
        sc.load(path)


def test_a_weight_that_is_there_packed_and_dense_is_refused(tmp_path: Path) -> None:
    tensors = {**forge.two_four(), "p.weight": np.zeros((4, 8), np.float32)}
    for header in (ours(), None):
        with pytest.raises(CorruptFileError, match="packed and dense"):
            sc.load(forge.arrays(tmp_path / "attack.safetensors", tensors, header))


def test_elements_that_cannot_be_served_are_named(tmp_path: Path) -> None:
    tensors = change(forge.two_four(), compressed=np.ones((4, 4), np.float64))
    with pytest.raises(UnsupportedError, match="float64"):
        sc.load(forge.arrays(tmp_path / "attack.safetensors", tensors))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_damage_to_a_real_file_reads_or_is_named(tmp_path: Path, data: st.DataObject) -> None:
    """Truncations, flipped bytes and swapped header numbers of the golden file; whatever loads can also be unpacked."""
    raw = bytearray(GOLDEN.read_bytes())
    (length,) = struct.unpack("<Q", raw[:8])
    for _ in range(data.draw(st.integers(1, 4))):
        region = data.draw(st.sampled_from(((0, 8), (8, 8 + length), (8 + length, len(raw)))))
        raw[data.draw(st.integers(region[0], region[1] - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "fuzz.safetensors"
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))] if data.draw(st.booleans()) else raw)
    try:
        checkpoint = sc.load(path)
    except NamedError:
        return
    for name in checkpoint:
        assert tuple(checkpoint[name].shape) == checkpoint.shape(name)


def test_no_attack_asks_for_memory(tmp_path: Path) -> None:
    """All attacks again in a process that may hold 1 GiB more than after its imports."""
    for number, (damage, tensors) in enumerate(STORED.items()):
        forge.arrays(tmp_path / f"{number}a.safetensors", tensors, header_for(damage, tensors))
        forge.arrays(tmp_path / f"{number}b.safetensors", tensors)
    for number, make in enumerate(CONTAINERS.values()):
        make(tmp_path / f"{number}c.safetensors")
    code = (
        "import pathlib, resource, sparsecore as sc; from sparsecore.errors import CorruptFileError\n"
        "held = int(pathlib.Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (held + 2**30, held + 2**30))\n"
        "refused = 0\n"
        "for path in sorted(pathlib.Path('.').glob('*.safetensors')):\n"
        "    try: sc.load(path)\n"
        "    except CorruptFileError: refused += 1\n"
        "    else: raise SystemExit(f'{path} was not refused')\n"
        "print(refused)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert done.stdout.strip() == str(2 * len(STORED) + len(CONTAINERS)), done.stderr
