"""What the build says about CUDA: on, off, or missing by name."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.skipif(shutil.which("cmake") is None, reason="needs cmake on PATH")


def configure(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    generator = ("-G", "Ninja") if shutil.which("ninja") else ()
    command = ["cmake", "-S", str(ROOT), "-B", str(folder), *generator, "-DSPARSECORE_BUILD_PYTHON=OFF", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_off_configures(tmp_path: Path) -> None:
    run = configure(tmp_path, "-DSPARSECORE_CUDA=OFF")
    assert run.returncode == 0, run.stderr
    assert "CUDA kernels off (SPARSECORE_CUDA=OFF)" in run.stdout


def test_auto_without_a_toolkit_says_what_is_missing(tmp_path: Path) -> None:
    run = configure(tmp_path, "-DSPARSECORE_CUDA=AUTO", "-DCMAKE_DISABLE_FIND_PACKAGE_CUDAToolkit=ON")
    assert run.returncode == 0, run.stderr
    assert "CUDA kernels off, missing: the CUDA toolkit" in run.stdout


def test_on_without_a_toolkit_fails_and_names_it(tmp_path: Path) -> None:
    run = configure(tmp_path, "-DSPARSECORE_CUDA=ON", "-DCMAKE_DISABLE_FIND_PACKAGE_CUDAToolkit=ON")
    assert run.returncode != 0
    assert "SPARSECORE_CUDA=ON, but this is missing: the CUDA toolkit" in " ".join(run.stderr.split())


def test_another_value_is_refused(tmp_path: Path) -> None:
    run = configure(tmp_path, "-DSPARSECORE_CUDA=perhaps")
    assert run.returncode != 0
    assert "expected AUTO, ON or OFF" in " ".join(run.stderr.split())
