"""Measures this machine with one instruction set and number of threads and ships the result with the package.

    python tools/ship_calibration.py avx512 2

Where a machine has no calibration of its own, these decide (sparsecore/calibration.py); an entry of the same
instruction set and number of threads is replaced. With a machine that also has wider sets, torch's dense layers use
those, so that what is shipped for a narrower one makes sparse layers look slower than they are, never faster.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import torch

from sparsecore import machine
from sparsecore.calibrate import calibrate
from sparsecore.calibration import _SHIPPED, DENSE, Calibration, shipped, to_dict
from sparsecore.native import core

# A machine with matrix tiles ran torch's dense bf16 layers at 1.0 to 1.6 Tflop/s a thread where vdpbf16ps reached 0.11.
_TILES_FASTER = 14


def _for_tiles(measured: Calibration) -> Calibration:
    """For AMX: packed layers as without tiles, dense bf16 ones as fast as they were seen; errs to the side of dense."""
    entries = []
    for entry in measured.entries:
        speed = entry.speed
        if entry.form == DENSE and entry.dtype == "bfloat16":
            speed = replace(speed, costs=tuple((t, c / _TILES_FASTER) for t, c in speed.costs))
        entries.append(replace(entry, speed=speed))
    source = f"{measured.source} without AMX; dense bf16 assumed {_TILES_FASTER} times as fast"
    return replace(measured, isa="amx", kind="assumed-amx", entries=tuple(entries), source=source)


def main() -> None:
    isa, threads = sys.argv[1], int(sys.argv[2])
    core.set_isa(isa)
    torch.set_num_threads(threads)
    here = machine.describe()
    source = f"measured on {here.cpu} family {here.family} model {here.model}, {here.cores} cores"
    made = replace(calibrate(lambda text: print(text, flush=True)), source=source)
    made_here = [made, *([_for_tiles(made)] if isa == "avx512" else [])]
    isas = {c.isa for c in made_here}
    others = [c for c in shipped() if c.isa not in isas or c.threads != threads] if _SHIPPED.exists() else []
    kept = sorted([*others, *made_here], key=lambda c: (c.isa, c.threads))
    body = ",\n".join(json.dumps(to_dict(c), separators=(",", ":")) for c in kept)
    _SHIPPED.write_text(f'{{"format":"1.0","calibrations":[\n{body}\n]}}\n')


if __name__ == "__main__":
    main()
