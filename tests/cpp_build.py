"""Builds of the C++ sources for tests; build/ keeps them, so that tests share one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CORES = os.cpu_count() or 2
SANITIZED = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def run(*command: str | Path, **env: str) -> str:
    result = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, env={**os.environ, **env}, check=False
    )
    assert result.returncode == 0, f"{' '.join(map(str, command))}\n{result.stdout[-6000:]}\n{result.stderr[-6000:]}"
    return result.stdout


def build(sanitizers: str, target: str) -> Path:
    """Build a program with these sanitizers and return it.

    By -Og: instrumented code takes -O1 two to four times as long to compile, and runs no faster.
    """
    folder = ROOT / "build" / f"cpp-{sanitizers.replace(',', '-')}"
    _cmake(folder, target, "-DCMAKE_BUILD_TYPE=RelWithDebInfo", "-DCMAKE_CXX_FLAGS_RELWITHDEBINFO=-Og",
           "-DSPARSECORE_BUILD_PYTHON=OFF", "-DSPARSECORE_BUILD_TESTS=ON",
           f"-DSPARSECORE_SANITIZE={sanitizers}", "-DSPARSECORE_EMULATE_TILES=ON")  # fmt: skip
    return next(path for path in folder.rglob(target) if path.is_file())


def build_module(target: str) -> Path:
    """Build a Python module that only tests use, for this interpreter, and return its file."""
    folder = ROOT / "build" / "modules"
    _cmake(folder, target, "-DCMAKE_BUILD_TYPE=RelWithDebInfo", "-DCMAKE_CXX_FLAGS_RELWITHDEBINFO=-Og",
           f"-DPython_EXECUTABLE={sys.executable}")  # fmt: skip
    return next((folder / "csrc" / "bindings").glob(f"{target}.*.so"))


def run_tests(program: Path, **env: str) -> str:
    """Run all tests of a program, some on each core; what it says of them."""
    shards = [f"{i}/{CORES}" for i in range(CORES)]
    with ThreadPoolExecutor(CORES) as pool:
        return "".join(pool.map(lambda shard: run(program, SPARSECORE_TEST_SHARD=shard, **env), shards))


def archives(folder: Path) -> list[str | Path]:
    """What links a program with every static library of a build."""
    return ["-Wl,--start-group", *folder.rglob("*.a"), "-Wl,--end-group", "-ldl", "-lpthread"]


def _cmake(folder: Path, target: str, *options: str) -> None:
    generator = ("-G", "Ninja") if shutil.which("ninja") else ()
    run("cmake", "-S", ROOT, "-B", folder, *generator, "-DSPARSECORE_CUDA=OFF", *options)
    run("cmake", "--build", folder, "--target", target, "--parallel", str(CORES))
