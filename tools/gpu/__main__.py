"""`make gpu`: builds, tests on the GPU, records golden vectors, runs the benchmarks and writes the dispatch table.

    make gpu                    all parts that are not done, under 10 minutes on an H200; their order is that of PARTS
    make gpu PART=bench         one part, and those before it that it needs
    make gpu FRESH=1            everything anew
    make gpu PART=bench ONLY=2:4    benchmarks whose name contains this text: their table, and no results are written

Without a GPU the same parts run by the emulator on tiny shapes: that tests the command and says nothing of speed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

import torch
from outcome import outcome
from parts import PARTS, ROOT, Part, Setting
from process import Deadline

TOTAL_S = 570.0
"""Of all parts together; the limits of the parts add up to more, so that time which one does not need is others'."""


def main() -> int:
    names = [part.name for part in PARTS]
    parser = argparse.ArgumentParser(
        prog="make gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=names, help="only this part, after a build where there is none")
    parser.add_argument("--fresh", action="store_true", help="forget what was done")
    parser.add_argument("--short", action="store_true", help="as little as shows that the command works")
    parser.add_argument("--only", default="", help="benchmarks whose name contains this text")
    parser.add_argument("--folder", type=Path, help="for everything that is made; by default below build/")
    options = parser.parse_args()
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    folder = options.folder or ROOT / "build" / ("gpu" if gpu else "gpu-emulated")
    if options.fresh:
        shutil.rmtree(folder, ignore_errors=True)
    setting = Setting(gpu, folder.resolve(), os.cpu_count() or 2, options.short, options.only)
    print(
        f"GPU: {gpu}" if gpu else "no GPU: parts run by the emulator on tiny shapes, which says nothing of speed",
        flush=True,
    )
    chosen = [part for part in PARTS if options.part in (None, part.name) or part.name == "build"]
    deadline = Deadline.within(TOTAL_S * setting.slower)
    return report(setting, [(part, *outcome(part, setting, deadline)) for part in chosen])


def report(setting: Setting, results: list[tuple[Part, str, float]]) -> int:
    """Print a line for each part; 1 if one failed."""
    print(f"\n== make gpu on {setting.gpu or 'the emulator'}")
    for part, how, seconds in results:
        print(f"{seconds:7.1f} s of {part.limit_s * setting.slower:.0f}  {how:18} {part.name}")
    print(f"state: {setting.folder / 'state.json'}; a part that is done is not repeated until its sources change")
    return int(any(how not in ("passed", "done before", "needs a GPU") for _, how, _ in results))


if __name__ == "__main__":
    sys.exit(main())
