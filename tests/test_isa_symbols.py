"""Code compiled for one instruction set must not be able to replace code that runs everywhere.

An inline function or template instance with external linkage is a weak symbol; the linker keeps one copy of each, and
if it keeps the copy compiled for AVX-512, a machine without it crashes in code that was never dispatched.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.skipif(
    shutil.which("cmake") is None or shutil.which("nm") is None, reason="needs cmake and nm on PATH"
)


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The object files of every ISA library, compiled as a release build compiles them."""
    folder = tmp_path_factory.mktemp("isa")
    generator = ("-G", "Ninja") if shutil.which("ninja") else ()
    configure = ["cmake", "-S", str(ROOT), "-B", str(folder), *generator, "-DSPARSECORE_CUDA=OFF",
                 "-DSPARSECORE_BUILD_PYTHON=OFF", "-DCMAKE_BUILD_TYPE=Release"]  # fmt: skip
    log = subprocess.run(configure, capture_output=True, text=True, check=True).stdout
    assert "CUDA kernels off (SPARSECORE_CUDA=OFF)" in log
    targets = [line.split()[-1] for line in log.splitlines() if "sparsecore: ISA library" in line]
    if not targets:
        pytest.skip("this compiler or processor has no ISA library")
    subprocess.run(["cmake", "--build", str(folder), "--parallel", "2", "--target", *targets], check=True)
    found = [path for target in targets for path in folder.rglob(f"{target}.dir/**/*.o")]
    assert len(found) >= len(targets)
    return found


def weak_symbols(path: Path) -> list[str]:
    listing = subprocess.run(["nm", "-C", str(path)], capture_output=True, text=True, check=True).stdout
    rows = (line.split(maxsplit=2 if line[0] != " " else 1) for line in listing.splitlines())
    return [row[-1] for row in rows if row[-2] in ("W", "V", "u")]


def test_isa_objects_define_no_weak_symbols(objects: list[Path]) -> None:
    offenders = {path.name: symbols for path in objects if (symbols := weak_symbols(path))}
    assert not offenders


def test_the_search_finds_a_weak_symbol(tmp_path: Path) -> None:
    source = tmp_path / "weak.cpp"
    source.write_text("inline int leak(int x) { return x + 1; }\nint (*pointer())(int) { return &leak; }\n")
    compiler = shutil.which("c++") or shutil.which("g++")
    assert compiler is not None
    subprocess.run([compiler, "-c", str(source), "-o", str(tmp_path / "weak.o")], check=True)
    assert weak_symbols(tmp_path / "weak.o") == ["leak(int)"]
