"""The kernels run on torch's own threads, from several Python threads at once, and in a forked child."""

from __future__ import annotations

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

import sparsecore as sc
from sparsecore.native import core
from sparsecore.packed import PackedWeight


def two_to_four(rows: int, cols: int, generator: torch.Generator) -> torch.Tensor:
    weight = torch.randn(rows, cols, generator=generator)
    order = weight.view(rows, cols // 4, 4).abs().argsort(-1)
    return weight.view(rows, cols // 4, 4).scatter(-1, order[..., :2], 0.0).view(rows, cols)


def test_the_runtime_is_that_of_torch() -> None:
    if not torch.backends.openmp.is_available():
        pytest.skip("this torch was built without OpenMP")
    assert core.num_threads_runtime() in ("gomp", "kmpc")


@pytest.mark.skipif(shutil.which("readelf") is None, reason="needs readelf")
def test_the_extension_links_no_openmp() -> None:
    path = core.__file__
    assert path is not None
    needed = subprocess.run(["readelf", "-d", path], capture_output=True, text=True, check=True).stdout
    assert "NEEDED" in needed
    assert not any(name in needed for name in ("libgomp", "libomp", "libiomp"))


def test_several_python_threads_get_the_same_bits(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    packed = PackedWeight.from_dense(two_to_four(256, 512, generator), sc.NM(2, 4))
    tokens = torch.randint(1, 200, (8,), generator=generator).tolist()
    inputs = [torch.randn(count, 512, generator=generator) for count in tokens]
    expected = [packed.linear(x) for x in inputs]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            for got, want in zip(pool.map(packed.linear, inputs), expected, strict=True):
                assert torch.equal(got, want)


FORK = """
import os, sys, torch
import sparsecore as sc
from sparsecore.packed import PackedWeight

torch.set_num_threads(2)
weight = torch.randn(512, 512)
weight.view(512, 128, 4)[:, :, :2] = 0
packed = PackedWeight.from_dense(weight, sc.NM(2, 4))
x = torch.randn(64, 512)
before = packed.linear(x)  # starts the threads of the parent, which a child does not have
child = os.fork()
if child == 0:
    os._exit(0 if torch.equal(packed.linear(x), before) else 3)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
assert torch.equal(packed.linear(x), before)
sys.exit(status)
"""


def test_a_forked_child_computes_the_same() -> None:
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", FORK]
    run = subprocess.run(command, cwd=root, timeout=120, check=False, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
