"""Faults planted in the CUDA kernels: the C++ tests, run by the emulator, must find every one of them.

A fault is a copy of a kernel's source with one place changed. The tests, compiled against the copy, have to fail: as
they are, or else under sanitizers, which see what is read or written outside and take three times as long to compile.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import pytest
from background import started
from cpp_build import ROOT, SANITIZED, archives, build, run
from faults import FAULTS, Fault

TRIES = 12  # shapes are random: not every one has a last tile that is not full
PLAIN_TRIES = 3
# Set it to plant no more than so many, drawn afresh.
MOST = int(os.environ.get("SPARSECORE_FAULTS", len(FAULTS)))
CHOSEN = random.sample(FAULTS, min(MOST, len(FAULTS)))
CSRC, TESTS = ROOT / "csrc", ROOT / "tests" / "cpp"


@dataclass(frozen=True)
class Rest:
    """What a program of tests has beside the fault, compiled once: shared headers, harness, and other sources."""

    place: Path
    flags: tuple[str, ...]
    archives: list[str | Path]

    def compile(self, *arguments: str | Path) -> None:
        run(os.environ.get("CXX", "c++"), "-std=c++17", "-O0", *self.flags, *arguments)

    def prepare(self, files: set[str]) -> Rest:
        """Compile the harness, and the files of tests that a fault does not change."""
        self.place.mkdir()
        header = Path(shutil.copy(TESTS / "precompiled.h", self.place))
        self.compile(*self._paths(CSRC), "-x", "c++-header", header, "-o", f"{header}.gch")
        for file in sorted({"main.cpp", *files}):
            self.compile(*self._paths(CSRC), "-c", TESTS / file, "-o", self.place / f"{file}.o")
        return self

    def link(self, fault: Fault, sources: list[Path], place: Path) -> Path:
        """Link tests whose headers are those in `place`, or else the right ones."""
        tests = [] if fault.by_launch else [TESTS / fault.file]
        objects = [self.place / f"{file}.o" for file in ("main.cpp", *([fault.file] if fault.by_launch else []))]
        program = place / "tests"
        self.compile(
            *self._paths(place, CSRC), "-x", "c++", *tests, *sources, "-x", "none", *objects, *self.archives,
            "-o", program,
        )  # fmt: skip
        return program

    def _paths(self, *folders: Path) -> list[str | Path]:
        return [*(f"-I{folder}" for folder in (*folders, TESTS)), "-include", self.place / "precompiled.h"]


def _plant(fault: Fault, place: Path) -> list[Path]:
    """Write the copy with the fault in it; the sources that have to be compiled against it."""
    text = (CSRC / fault.source).read_text()
    assert fault.right in text, f"{fault.source} has no {fault.right!r}: the fault must follow the kernel"
    copy = place / fault.source
    copy.parent.mkdir(parents=True)
    copy.write_text(text.replace(fault.right, fault.wrong))
    return [*([copy] if copy.suffix == ".cpp" else []), *(CSRC / launch for launch in fault.launches)]


def _fails(program: Path, tests: str, tries: int) -> bool:
    environment = {**os.environ, "SPARSECORE_TEST_FIRST": "1"}
    runs = (subprocess.run([program, tests], capture_output=True, env=environment, check=False) for _ in range(tries))
    return any(run.returncode != 0 for run in runs)


def _is_found(fault: Fault, plain: Rest, sanitized: Rest, place: Path) -> bool:
    sources = _plant(fault, place)
    if _fails(plain.link(fault, sources, place), fault.tests, PLAIN_TRIES):
        return True
    return _fails(sanitized.link(fault, sources, place), fault.tests, TRIES)


@pytest.fixture(scope="session")
def found(
    request: pytest.FixtureRequest, emulator: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[str, Future[bool]]]:
    """Whether the tests find a fault, by its name: all that were chosen are compiled and run on every core."""
    place = tmp_path_factory.mktemp("rest")
    files = {fault.file for fault in CHOSEN if fault.by_launch}
    sanitized = build("address,undefined", "sparsecore_cuda_tests").parents[2]
    rests = (
        Rest(place / "plain", (), archives(emulator.parents[2])).prepare(files),
        Rest(place / "sanitized", SANITIZED, archives(sanitized)).prepare(files),
    )
    with started(request, Fault, lambda fault: fault.name, lambda fault, at: _is_found(fault, *rests, at)) as futures:
        yield futures


@pytest.mark.skipif(shutil.which("cmake") is None, reason="needs cmake on PATH")
@pytest.mark.parametrize("fault", CHOSEN, ids=lambda fault: fault.name)
def test_planted_faults_are_found(fault: Fault, found: Mapping[str, Future[bool]]) -> None:
    assert found[fault.name].result(), f"no test of {fault.tests} found this fault in {TRIES} runs: {fault.name}"
