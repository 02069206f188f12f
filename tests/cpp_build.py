"""Builds of the C++ tests under sanitizers; build/ keeps them, so that tests share one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def run(*command: str | Path, **env: str) -> str:
    result = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, env={**os.environ, **env}, check=False
    )
    assert result.returncode == 0, f"{' '.join(map(str, command))}\n{result.stdout[-6000:]}\n{result.stderr[-6000:]}"
    return result.stdout


def build(sanitizers: str, target: str) -> Path:
    """Build a program with these sanitizers and return it."""
    folder = ROOT / "build" / f"cpp-{sanitizers.replace(',', '-')}"
    generator = ("-G", "Ninja") if shutil.which("ninja") else ()
    run("cmake", "-S", ROOT, "-B", folder, *generator, "-DCMAKE_BUILD_TYPE=RelWithDebInfo", "-DSPARSECORE_CUDA=OFF",
        "-DCMAKE_CXX_FLAGS_RELWITHDEBINFO=-O1 -g", "-DSPARSECORE_BUILD_PYTHON=OFF", "-DSPARSECORE_BUILD_TESTS=ON",
        f"-DSPARSECORE_SANITIZE={sanitizers}", "-DSPARSECORE_EMULATE_TILES=ON")  # fmt: skip
    run("cmake", "--build", folder, "--target", target, "--parallel", str(os.cpu_count() or 2))
    return next(path for path in folder.rglob(target) if path.is_file())


def build_module(target: str) -> Path:
    """Build a Python module that only tests use, for this interpreter, and return its file."""
    folder = ROOT / "build" / "modules"
    generator = ("-G", "Ninja") if shutil.which("ninja") else ()
    run("cmake", "-S", ROOT, "-B", folder, *generator, "-DCMAKE_BUILD_TYPE=Release", "-DSPARSECORE_CUDA=OFF",
        "-DCMAKE_CXX_FLAGS_RELEASE=-O1", f"-DPython_EXECUTABLE={sys.executable}")  # fmt: skip
    run("cmake", "--build", folder, "--target", target, "--parallel", str(os.cpu_count() or 2))
    return next((folder / "csrc" / "bindings").glob(f"{target}.*.so"))
