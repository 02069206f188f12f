"""Malformed and hostile files of torch.save: refused with a named error, and no code of theirs runs."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import sparsecore as sc
from sparsecore.errors import CorruptFileError, NamedError, PickleRefusedError

# The reader of torch warns about every pickle protocol that it meets in damaged bytes.
pytestmark = pytest.mark.filterwarnings("ignore:Detected pickle protocol")

SENTINEL = "THE-ATTACK-RAN"


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.folder / SENTINEL),)


def good(zipped: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save({"weight": torch.arange(64.0).reshape(8, 8)}, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def rezipped(compression: int = zipfile.ZIP_STORED, **replace: bytes) -> bytes:
    """The good file with entries replaced or compressed; entry names use `_` for the dot."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(good())) as source, zipfile.ZipFile(buffer, "w", compression) as target:
        for name in source.namelist():
            short = name.partition("/")[2].replace(".", "_").replace("/", "_")
            target.writestr(name, replace.get(short, source.read(name)))
    return buffer.getvalue()


def saved(value: object, **arguments: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **arguments)
    return buffer.getvalue()


HOSTILE: dict[str, Callable[[Path], bytes]] = {
    "evil in a state dict": lambda folder: saved({"weight": torch.ones(2), "evil": Evil(folder)}),
    "evil in an old file": lambda folder: saved({"evil": Evil(folder)}, _use_new_zipfile_serialization=False),
    "evil alone": lambda folder: saved(Evil(folder)),
    "evil pickle": lambda folder: pickle.dumps({"weight": Evil(folder)}),
    "evil pickle, protocol 5": lambda folder: pickle.dumps(Evil(folder), protocol=5),
    "evil inside an archive": lambda folder: rezipped(data_pkl=pickle.dumps(Evil(folder), protocol=2)),
    "a whole module": lambda _: saved(nn.Linear(2, 2)),
}


@pytest.mark.parametrize("suffix", [".pt", ".bin", ".ckpt", ".weights"])
@pytest.mark.parametrize("attack", HOSTILE)
def test_files_that_would_run_code_are_refused_and_do_not_run_it(tmp_path: Path, attack: str, suffix: str) -> None:
    path = tmp_path / f"attack{suffix}"
    path.write_bytes(HOSTILE[attack](tmp_path))
    with pytest.raises(PickleRefusedError, match="trust_pickle"):
        sc.load(path)
    with pytest.raises(PickleRefusedError):
        sc.load(path, into=nn.Linear(2, 2))
    assert not (tmp_path / SENTINEL).exists()


def test_the_attack_would_have_worked(tmp_path: Path) -> None:
    (tmp_path / "attack.pt").write_bytes(HOSTILE["evil in a state dict"](tmp_path))
    sc.load(tmp_path / "attack.pt", trust_pickle=True)
    assert (tmp_path / SENTINEL).exists(), "the sentinel must prove something"


def test_a_hostile_shard_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "pytorch_model.bin").write_bytes(HOSTILE["evil alone"](tmp_path))
    with pytest.raises(PickleRefusedError):
        sc.load(tmp_path / "hf")
    assert not (tmp_path / SENTINEL).exists()


DAMAGED: dict[str, bytes] = {
    "empty": b"",
    "half an archive": good()[: len(good()) // 2],
    "an archive without its last bytes": good()[:-30],
    "half an old file": good(zipped=False)[:200],
    "an old file without its last bytes": good(zipped=False)[:-4],
    "text": b"these are no weights, and this is no pickle",
    "the start of a pickle": b"\x80\x02}q\x00(X\x05",
    "an archive of something else": rezipped(data_pkl=b"no pickle"),
    "compressed entries": rezipped(zipfile.ZIP_DEFLATED),
    "a storage that is too short": rezipped(data_0=bytes(8)),
    "a tensor without memory behind it": saved({"weight": torch.ones(1).expand(2**40)}),
    "a key that is no name": saved({3: torch.ones(2)}),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_files_are_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "attack.pt"
    path.write_bytes(DAMAGED[damage])
    with pytest.raises(CorruptFileError, match=r"attack\.pt"):
        sc.load(path)


def test_trusting_a_pickle_does_not_hide_damage(tmp_path: Path) -> None:
    for number, content in enumerate(DAMAGED.values()):
        path = tmp_path / f"{number}.pt"
        path.write_bytes(content)
        with pytest.raises(CorruptFileError):
            sc.load(path, trust_pickle=True)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_damage_to_a_state_dict_reads_or_is_named(tmp_path: Path, data: st.DataObject) -> None:
    raw = bytearray(good(zipped=data.draw(st.booleans())))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "fuzz.pt"
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))] if data.draw(st.booleans()) else raw)
    try:
        checkpoint = sc.load(path)
    except NamedError:
        return
    assert all(tuple(checkpoint[name].shape) == checkpoint.shape(name) for name in checkpoint)


def test_no_damaged_file_asks_for_memory(tmp_path: Path) -> None:
    class Bytes:
        def __reduce__(self) -> tuple[object, ...]:
            return bytearray, (2**36,)

    for number, content in enumerate([*DAMAGED.values(), saved({"weight": Bytes()})]):
        (tmp_path / f"{number}.pt").write_bytes(content)
    code = (
        "import pathlib, resource, sparsecore as sc; from sparsecore.errors import CorruptFileError\n"
        "held = int(pathlib.Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (held + 2**30, held + 2**30))\n"
        "for path in sorted(pathlib.Path('.').glob('*.pt')):\n"
        "    try: sc.load(path)\n"
        "    except CorruptFileError: pass\n"
        "    else: raise SystemExit(f'{path} was not refused')\n"
        "print('all refused')\n"
    )
    environment = {"PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False, env=environment
    )
    assert done.stdout.strip() == "all refused", done.stderr
