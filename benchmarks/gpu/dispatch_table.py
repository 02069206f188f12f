"""Measures the dispatch table of this GPU and writes it into the package, where `sparsify` finds it.

The same as `sparsecore doctor --calibrate --device cuda`, which writes it for one user. What was measured of a type is
kept as it finishes, and not repeated.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

import sparsecore
from sparsecore.calibrate import GPU_DTYPES, calibrate
from sparsecore.calibration import Calibration, read, write
from sparsecore.gpu import describe_gpu


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks/gpu/dispatch_table.py", description=__doc__)
    parser.add_argument("--kept", type=Path, required=True, help="folder of what was measured before")
    options = parser.parse_args()
    path = Path(sparsecore.__file__).parent / "data" / "gpu" / f"{describe_gpu(0).kind}.json"
    write(table(options.kept, GPU_DTYPES, _measured), path)
    print(f"written: {path}")
    return 0


def table(folder: Path, dtypes: Sequence[torch.dtype], measure: Callable[[torch.dtype], Calibration]) -> Calibration:
    """One calibration of all types: each is measured unless `folder` has it."""
    found = []
    for dtype in dtypes:
        own = folder / f"{str(dtype).removeprefix('torch.')}.json"
        if not own.exists():
            write(measure(dtype), own)
        found.append(read(own))
    return replace(found[0], entries=tuple(entry for one in found for entry in one.entries))


def _measured(dtype: torch.dtype) -> Calibration:
    return calibrate(lambda text: print(f"measuring {text}", flush=True), dtypes=[dtype], device="cuda")


if __name__ == "__main__":
    sys.exit(main())
