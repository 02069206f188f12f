"""The C++ tests, without Python in the process, under sanitizers."""

from __future__ import annotations

import shutil

import pytest
from cpp_build import build, run_tests


@pytest.mark.skipif(shutil.which("cmake") is None, reason="needs cmake on PATH")
@pytest.mark.parametrize(
    ("sanitizers", "target"),
    [
        ("address,undefined", "sparsecore_tests"),
        ("address,undefined", "sparsecore_cuda_tests"),
        ("thread", "sparsecore_pool_tests"),
    ],
)
def test_cpp_tests_pass_under_sanitizers(sanitizers: str, target: str, seed: int) -> None:
    executable = build(sanitizers, target)
    out = run_tests(executable, SPARSECORE_TEST_SEED=str(seed), UBSAN_OPTIONS="print_stacktrace=1")
    assert "tests passed" in out
