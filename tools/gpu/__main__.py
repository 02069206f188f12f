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
import time
from pathlib import Path

import torch
from parts import PARTS, ROOT, Part, Setting
from state import State, digest

SLOWER = 6
"""How much longer parts may take by the emulator, on any machine."""


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
    return report(setting, [(part, *outcome(part, setting)) for part in chosen])


def outcome(part: Part, setting: Setting) -> tuple[str, float]:
    """Run a part unless it was done: (how it went, seconds)."""
    state = State(setting.folder / "state.json")
    key = digest(ROOT, part.sources, f"{setting.gpu} {torch.__version__} {setting.short}")
    some = part.name == "bench" and bool(setting.only)  # neither done by a run of all cases nor in its place
    if state.done(part.name, key) and not some:
        return "done before", float(state.parts[part.name]["seconds"])
    if part.gpu_only and setting.gpu is None:
        return "needs a GPU", 0.0
    if part.name != "build" and state.parts.get("build", {}).get("passed") is False:
        return "not run: no build", 0.0
    print(f"\n== {part.name}", flush=True)
    start = time.monotonic()
    passed = part.run(setting, key, part.limit_s * (1 if setting.gpu else SLOWER))
    seconds = time.monotonic() - start
    if not some:
        state.note(part.name, key, passed, seconds)
    return "passed" if passed else "FAILED", seconds


def report(setting: Setting, results: list[tuple[Part, str, float]]) -> int:
    """Print a line for each part; 1 if one failed."""
    print(f"\n== make gpu on {setting.gpu or 'the emulator'}")
    for part, how, seconds in results:
        print(f"{seconds:7.1f} s of {part.limit_s:.0f}  {how:18} {part.name}")
    print(f"state: {setting.folder / 'state.json'}; a part that is done is not repeated until its sources change")
    return int(any(how not in ("passed", "done before", "needs a GPU") for _, how, _ in results))


if __name__ == "__main__":
    sys.exit(main())
