"""What CUDA costs a wheel and a build."""

from __future__ import annotations

import importlib.util
import secrets
import zipfile
import zlib
from pathlib import Path
from types import ModuleType

import pytest

TOOL = Path(__file__).resolve().parents[2] / "tools" / "cuda_budget.py"


@pytest.fixture
def budget() -> ModuleType:
    spec = importlib.util.spec_from_file_location("cuda_budget", TOOL)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_growth_is_what_the_kernels_add(budget: ModuleType, tmp_path: Path) -> None:
    plain, kernels = secrets.token_bytes(50_000), secrets.token_bytes(30_000)
    without = tmp_path / "_core.so"
    without.write_bytes(plain)
    with zipfile.ZipFile(tmp_path / "one.whl", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("sparsecore/_core.cpython.so", plain + kernels)
        archive.writestr("sparsecore/_core.pyi", secrets.token_bytes(9_000))
    assert abs(budget.growth(tmp_path / "one.whl", without) - len(zlib.compress(kernels))) < 200


def test_compilers_are_counted_once_an_object(budget: ModuleType, tmp_path: Path) -> None:
    log = tmp_path / ".ninja_log"
    lines = [
        "# ninja log v7",
        "0\t9000\t1\ta.cu.o\tx",
        "0\t2500\t1\tb.cpp.o\tx",
        "10\t1510\t2\ta.cu.o\tx",
        "0\t500\t2\tc.cu.o\tx",
    ]
    log.write_text("\n".join(lines) + "\n")
    assert budget.compile_seconds(log) == pytest.approx(2.0)
    assert budget.compile_seconds(tmp_path / "none") == 0.0
