"""Where golden vectors are kept, and the program that records and replays them by the emulator."""

from __future__ import annotations

import subprocess
from pathlib import Path

from cpp_build import ROOT, build

FOLDER = ROOT / "tests" / "cuda" / "golden"
CASES = ROOT / "csrc" / "cuda" / "golden"
REPLAYED: list[str] = []
"""What the replay of `FOLDER` said; a line of the test summary."""


def program() -> Path:
    """The program of csrc/cuda/golden on the emulator, under sanitizers."""
    return build("address,undefined", "sparsecore_golden_emulated")


def replay(folder: Path, by: Path) -> tuple[bool, str]:
    """Replay a folder: whether nothing differs, and what the program says."""
    done = subprocess.run([by, "replay", folder], capture_output=True, text=True, check=False)
    said = done.stdout if done.returncode < 2 else done.stderr  # sanitizers write to the latter
    return done.returncode == 0, said.strip()


def record(folder: Path, by: Path) -> None:
    """Record a set of random inputs; by the emulator only for tests of the replay."""
    subprocess.run([by, "record", folder, "none", "2000-01-01"], check=True, capture_output=True)


def recorded_on(path: Path) -> str:
    """The GPU that a vector was recorded on."""
    return next(line for line in path.read_text().splitlines() if line.startswith("gpu: ")).removeprefix("gpu: ")
