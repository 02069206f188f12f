"""Faults planted in the CUDA kernels: the C++ tests, run by the emulator, must find every one of them.

A fault is a copy of a kernel's source with one place changed. The tests, compiled against the copy, have to fail.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path

import pytest
from background import started
from cpp_build import ROOT, build, run
from faults import FAULTS, Fault

TRIES = 12  # shapes are random: not every one has a last tile that is not full
# Every run plants some of them, drawn afresh; `make test-full` plants all.
MOST = len(FAULTS) if os.environ.get("SPARSECORE_ALL_FAULTS") else 40
CHOSEN = random.sample(FAULTS, min(MOST, len(FAULTS)))


def _compile(*command: str | Path) -> None:
    compiler = os.environ.get("CXX", "c++")
    run(compiler, "-std=c++17", "-O0", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", *command)


def _tests_with(fault: Fault, built: Path, place: Path) -> Path:
    """Compile the tests against a copy of the sources with the fault in it, and link the sanitized build's rest."""
    text = (ROOT / "csrc" / fault.source).read_text()
    assert fault.right in text, f"{fault.source} has no {fault.right!r}: the fault must follow the kernel"
    copy = place / fault.source
    copy.parent.mkdir(parents=True)
    copy.write_text(text.replace(fault.right, fault.wrong))
    changed = [copy] if copy.suffix == ".cpp" else []
    launches = [ROOT / "csrc" / launch for launch in fault.launches]
    program = place / "tests"
    kept = built / "tests" / "cpp" / "CMakeFiles" / "sparsecore_cuda_tests.dir"
    objects = [kept / f"{file}.o" for file in ("main.cpp", *([fault.file] if fault.by_launch else []))]
    tests = [] if fault.by_launch else [ROOT / "tests" / "cpp" / fault.file]
    _compile(
        f"-I{place}", f"-I{ROOT / 'csrc'}", f"-I{ROOT / 'tests' / 'cpp'}",
        "-x", "c++", *tests, *changed, *launches, "-x", "none",
        *objects, "-Wl,--start-group", *built.rglob("*.a"), "-Wl,--end-group", "-ldl", "-lpthread",
        "-o", program,
    )  # fmt: skip
    return program


def _is_found(fault: Fault, built: Path, place: Path) -> bool:
    program = _tests_with(fault, built, place)
    runs = (subprocess.run([program, fault.tests], capture_output=True, check=False) for _ in range(TRIES))
    return any(run.returncode != 0 for run in runs)


@pytest.fixture(scope="session")
def found(request: pytest.FixtureRequest) -> Iterator[Mapping[str, Future[bool]]]:
    """Whether the tests find a fault, by its name: all that were chosen are compiled and run on every core."""
    built = build("address,undefined", "sparsecore_cuda_tests").parents[2]
    with started(
        request, Fault, lambda fault: fault.name, lambda fault, place: _is_found(fault, built, place)
    ) as futures:
        yield futures


@pytest.mark.skipif(shutil.which("cmake") is None, reason="needs cmake on PATH")
@pytest.mark.parametrize("fault", CHOSEN, ids=lambda fault: fault.name)
def test_planted_faults_are_found(fault: Fault, found: Mapping[str, Future[bool]]) -> None:
    assert found[fault.name].result(), f"no test of {fault.tests} found this fault in {TRIES} runs: {fault.name}"
