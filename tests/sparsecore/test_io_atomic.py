"""Whatever stops a write, the file that was there before survives."""

from __future__ import annotations

import resource
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

import sparsecore as sc
from simulator.files import replacing, write_atomic
from sparsecore.errors import InvalidValueError

WRITER = """
import sys, torch, sparsecore as sc
from torch import nn
models = [nn.Linear(1024, 4096, bias=False) for _ in range(2)]
for value, model in enumerate(models):
    model.weight.data.fill_(value + 1)
print("ready", flush=True)
while True:
    for model in models:
        sc.save(model, sys.argv[1])
"""


def test_a_writer_killed_in_the_middle_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    sc.save(nn.Linear(3, 3), path)
    killed_inside = 0
    for attempt in range(8):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, env={"PYTHONPATH": ":".join(sys.path)}
        )
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        time.sleep(0.05 + 0.013 * attempt)
        parts = _wait_for_part(tmp_path)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        killed_inside += any(part.exists() for part in parts)
        checkpoint = sc.load(path)  # raises for anything but a whole file
        assert checkpoint["weight"].unique().tolist() in ([1.0], [2.0]) or len(checkpoint) == 2
        for part in tmp_path.glob(".*.part"):
            part.unlink()
        if killed_inside == 2:
            return
    pytest.fail("the writer was never killed inside a write")


def _wait_for_part(folder: Path) -> list[Path]:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if parts := [part for part in folder.glob(".*.part") if part.exists()]:
            return parts
    return []


def test_a_full_disk_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    sc.save(nn.Linear(3, 3), path)
    before = path.read_bytes()
    code = (
        "import resource, signal, sys, sparsecore as sc; from torch import nn\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try: sc.save(nn.Linear(512, 512), sys.argv[1])\n"
        "except OSError as error: print(type(error).__name__, error)\n"
    )
    environment = {"PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], check=True, capture_output=True, text=True, env=environment
    )
    assert "OSError" in done.stdout, done.stderr
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["m.safetensors"]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 100_000  # the limit was the other process's


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, MemoryError])
def test_an_interrupt_inside_the_write_leaves_the_old_file(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "m.safetensors"
    sc.save(nn.Linear(3, 3), path)
    before = path.read_bytes()

    def interrupted() -> None:
        with replacing(path) as temporary:
            temporary.write_bytes(before[:40])
            raise error

    with pytest.raises(error):
        interrupted()
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["m.safetensors"]


def test_a_model_can_be_saved_over_the_file_that_it_is_mapped_from(tmp_path: Path, seed: int) -> None:
    torch.manual_seed(seed)
    path = tmp_path / "m.safetensors"
    model = nn.Linear(64, 64)
    sc.save(model, path)
    checkpoint = sc.load(path)
    sc.save(checkpoint, path)
    assert torch.equal(checkpoint["weight"], model.weight)
    assert torch.equal(sc.load(path)["weight"], model.weight)


def test_mode_and_links_are_those_of_an_ordinary_write(tmp_path: Path) -> None:
    path, link = tmp_path / "m.safetensors", tmp_path / "link.safetensors"
    ordinary = tmp_path / "ordinary"
    ordinary.write_bytes(b"")
    sc.save(nn.Linear(2, 2), path)
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(ordinary.stat().st_mode)
    path.chmod(0o640)
    link.symlink_to(path)
    sc.save(nn.Linear(3, 3), link)
    assert link.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert sc.load(path)["weight"].shape == (3, 3)


def test_a_folder_in_the_way_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match="folder of this name"):
        sc.save(nn.Linear(3, 3), tmp_path)
    with pytest.raises(InvalidValueError, match="folder of this name"):
        write_atomic(tmp_path, "text")
    assert not list(tmp_path.parent.glob("*.part"))
