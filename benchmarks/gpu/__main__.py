"""The benchmarks of the CUDA kernels: part of `make gpu`. Every case is kept as it finishes, and not repeated.

python benchmarks/gpu --kept build/gpu/cases --results benchmarks/results
python benchmarks/gpu --kept build/gpu/cases --emulate     # tiny shapes by the emulator: no times, no results
"""

from __future__ import annotations

import argparse
import datetime
import sys
import time
from dataclasses import asdict
from pathlib import Path

import attention
import linear
import prefill
import topk
from case import Case
from limits import ceiling, limits
from place import emulator, gpu, write_json
from runner import kept, run
from table import markdown

from sparsecore.gpu import describe_gpu


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="benchmarks/gpu", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--kept", type=Path, required=True, help="folder of finished cases")
    parser.add_argument("--results", type=Path, help="folder for the JSON and Markdown of this GPU")
    parser.add_argument("--ceiling", type=Path, help="the program sparsecore_ceiling")
    parser.add_argument("--driver", default="unknown", help="version of the driver, for the report")
    parser.add_argument("--budget", type=float, default=200, help="seconds after which no further case starts")
    parser.add_argument("--only", default="", help="cases whose name contains this text; no results are written")
    parser.add_argument("--first", action="store_true", help="one case of each group")
    parser.add_argument("--emulate", action="store_true", help="tiny shapes by the emulator")
    options = parser.parse_args()
    every = [*linear.cases(), *topk.cases(), *attention.cases(), *prefill.cases()]
    chosen = [case for case in every if case.called(options.only)]
    if not chosen:
        names = "\n  ".join(case.title for case in every)
        print(f"no benchmark's name contains {options.only!r}; expected a part of one of these:\n  {names}")
        return 2
    if options.first:
        chosen = list({case.group: case for case in reversed(chosen)}.values())[::-1]
    if options.emulate:
        return emulated(chosen, options)
    start, place = time.monotonic(), gpu()
    known = kept(options.kept / "limits.json", lambda: limits(place))
    rates = kept(options.kept / "ceiling.json", lambda: ceiling(options.ceiling))
    done, left = run(chosen, place, known, options.kept, options.budget)
    result = {
        "machine": {**asdict(describe_gpu(0)), "driver": options.driver},
        "date": datetime.date.today().isoformat(),
        "limits": known,
        "ceiling": rates,
        "cases": done,
        "left": left,
        "seconds": time.monotonic() - start,
    }
    whole = options.results is not None and not options.only
    if whole:  # before the text: what was measured is kept, come what may
        write_json(options.results / f"{describe_gpu(0).key}.json", result)
    text = markdown(result)
    print(text)
    if whole:
        (options.results / f"{describe_gpu(0).key}.md").write_text(text)
    elif options.only:
        print(f"no results are written: {len(chosen)} of {len(every)} cases were asked for")
    return int(bool(left) or any("failed" in case for case in done))


def emulated(cases: list[Case], options: argparse.Namespace) -> int:
    """Run the cases by the emulator; 1 if one is wrong or there was no time for it."""
    with emulator() as (place, module):
        done, left = run(cases, place, {}, options.kept, options.budget)
        launches = module.launches()
    for case in done:
        if "failed" in case:
            print(f"FAILED: {case['group']}: {case['name']}: {case['failed']}")
    failed = sum("failed" in case for case in done)
    counts = f"{launches} kernels launched, {failed} failed, {len(left)} left out"
    print(f"{len(done)} cases by the emulator on tiny shapes, which say nothing of speed: {counts}")
    return int(bool(failed or left))


if __name__ == "__main__":
    sys.exit(main())
