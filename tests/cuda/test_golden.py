"""Golden vectors, recorded on a GPU, replayed by the emulator; and that a replay does find what is wrong."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest
from cpp_build import ROOT, SANITIZED, archives, run
from golden_vectors import CASES, FOLDER, REPLAYED, program, record, recorded_on, replay

pytestmark = pytest.mark.skipif(shutil.which("cmake") is None, reason="needs cmake on PATH")

FAULTS = (
    ("matrix.cpp", "lane % 4 * 2 + i", "lane % 4 * 2 + 1 - i", "ldmatrix"),
    ("matrix.cpp", "selector * 2 + i / 8", "selector * 2 + 1 - i / 8", "mma_sp_bf16_0"),
    ("matrix.cpp", "row / 8 + column / 8 * 2", "row / 8 * 2 + column / 8", "mma_bf16"),
    ("matrix_int8.cpp", "row / 8 + column / 16 * 2", "row / 8 * 2 + column / 16", "mma_u8_s8"),
    ("wgmma_bytes.cpp", "first + i / 16 * 2 + lower", "first + i / 16 * 2 + 1 - lower", "wgmma_sp_s8_64"),
    ("wgmma.cpp", "row / 16 * 32 + row % 8 * 4", "row / 16 * 32 + row % 8 / 2 * 8", "wgmma_bf16_64"),
)
"""(source, right, wrong, a case that must differ): faults in the emulator's own reading of the layouts."""

WITHOUT_RESULT = {"give_registers", "take_registers", "shared_address", "trap", "prefetch"}
"""They move registers between warpgroups, turn addresses for others, end a kernel, and ask for memory."""


@pytest.fixture(scope="module")
def golden() -> Path:
    return program()


@pytest.fixture(scope="module")
def recorded(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of vectors that the emulator recorded."""
    folder = tmp_path_factory.mktemp("recorded")
    record(folder, golden)
    return folder


def test_recorded_vectors_are_replayed(golden: Path) -> None:
    for path in FOLDER.glob("*.golden"):
        assert not recorded_on(path).startswith("emulator"), f"{path.name} shows nothing: the emulator recorded it"
    same, said = replay(FOLDER, golden)
    REPLAYED.append(said.splitlines()[-1])
    assert same, said


def test_the_emulator_agrees_with_itself_in_all_schedules(golden: Path, recorded: Path) -> None:
    same, said = replay(recorded, golden)
    assert same and said.endswith(": 0 differ"), said


def test_a_changed_byte_of_an_output_is_found(golden: Path, recorded: Path, tmp_path: Path, seed: int) -> None:
    paths = sorted(recorded.glob("*.golden"))
    path = Path(shutil.copy(paths[seed % len(paths)], tmp_path))
    before, mark, output = path.read_text().rpartition("output: ")
    size, digits = output.split("\n", 1)
    place = 2 * (seed % int(size.split()[0]))
    place += place // 128  # line ends
    changed = "4" if digits[place + 1] != "4" else "b"  # bits that no NaN forgives
    path.write_text(before + mark + size + "\n" + digits[: place + 1] + changed + digits[place + 2 :])
    same, said = replay(tmp_path, golden)
    assert not same and f"DIFFERS: {path.stem} " in said, said


def test_a_damaged_file_is_named(golden: Path, recorded: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(recorded / "mma_bf16.golden", tmp_path))
    whole = path.read_text()
    damaged = (
        whole[:-5],
        whole.replace("vector 1", "vector 2"),
        whole.replace("mma_bf16\n", "mma_x\n"),
        whole + "00\n",
    )
    for text in (*damaged, whole.replace("output: 512", "output: 516"), ""):
        path.write_text(text)
        same, said = replay(tmp_path, golden)
        assert not same and "CorruptFileError" in said and "make gpu PART=golden" in said, said


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault[3])
def test_a_fault_of_the_emulator_is_found(
    golden: Path, recorded: Path, fault: tuple[str, str, str, str], tmp_path: Path
) -> None:
    source, right, wrong, case = fault
    text = (ROOT / "csrc" / "cuda" / "emulator" / source).read_text()
    assert right in text, f"{source} has no {right!r}: the fault must follow the emulator"
    shutil.copy(recorded / f"{case}.golden", tmp_path)
    copy, faulty = tmp_path / source, tmp_path / "replay"
    copy.write_text(text.replace(right, wrong))
    objects = (golden.parent / "CMakeFiles" / "sparsecore_golden_emulated.dir").rglob("*.o")
    compiler = (os.environ.get("CXX", "c++"), "-std=c++17", "-O0", *SANITIZED)
    run(*compiler, f"-I{ROOT / 'csrc'}", copy, *objects, *archives(golden.parents[3]), "-o", faulty)
    same, said = replay(tmp_path, faulty)
    assert not same and f"DIFFERS: {case} " in said, said


def test_every_instruction_has_a_case() -> None:
    """Functions of csrc/cuda/ptx that no case calls would be confirmed by nobody."""
    cases = "".join(path.read_text() for path in CASES.glob("*.cu"))
    for path in sorted((ROOT / "csrc" / "cuda" / "ptx").glob("*.h")):
        for name in re.findall(r"SC_DEVICE [\w:<>&* ]+?[&* ](\w+)\(", path.read_text()):
            assert re.search(rf"\b{name}\b", cases) or name in WITHOUT_RESULT, f"{path.name}: {name} has no golden case"
