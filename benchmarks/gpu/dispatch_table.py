"""Measures the dispatch table of this GPU and writes it into the package, where `sparsify` finds it.

The same as `sparsecore doctor --calibrate --device cuda`, which writes it for one user.
"""

from __future__ import annotations

import sys
from pathlib import Path

import sparsecore
from sparsecore.calibrate import calibrate
from sparsecore.calibration import write
from sparsecore.gpu import describe_gpu


def main() -> int:
    path = Path(sparsecore.__file__).parent / "data" / "gpu" / f"{describe_gpu(0).kind}.json"
    write(calibrate(lambda text: print(f"measuring {text}", flush=True), device="cuda"), path)
    print(f"written: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
