"""Builds what the tests run by the emulator, and writes where the program that replays golden vectors is.

python tools/gpu/emulated.py SANITIZERS FILE
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from cpp_build import build, build_module


def main(sanitizers: str, file: str) -> None:
    module, replayer = build_module("_cuda_emulated"), build(sanitizers, "sparsecore_golden_emulated")
    Path(file).write_text(str(replayer))
    print(f"built for the emulator: {module}, {replayer}")


if __name__ == "__main__":
    main(*sys.argv[1:])
