"""The full benchmark: `make bench`. Writes JSON and Markdown under benchmarks/results/, keyed by the machine.

Every shape's dense and packed forms take turns in one process, at one thread and at all; see cases.py for what is run.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from cases import CLIFF_ROWS, CLIFF_SHAPE, CLIFF_TOKENS, ROWS, SHAPES, Row, tokens_of
from decode import measure_decode
from measure import Clock, Shape, call_cost, switching_cost
from peers import ELSEWHERE, measure_peers
from prefill import measure_compaction, measure_prefill
from table import markdown, must_line, summary
from topk import measure_topk

from sparsecore.machine import describe, limits

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
import end_to_end  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"
BUDGET_S, CLIFF_BUDGET_S, MOST_S = 0.4, 0.12, 15.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--peers", action="store_true", help="run the sparse layers of torch and numpy as well")
    parser.add_argument("--only", default="", help="rows whose name contains this text, and nothing else")
    parser.add_argument("--shapes", default="", help="comma-separated INxOUT; with --only")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args()
    machine, clock = describe(), Clock()
    threads = sorted({1, machine.threads})
    rows = [row for row in ROWS if options.only in row.name]
    chosen = [s for s in SHAPES if not options.shapes or f"{s[0]}x{s[1]}" in options.shapes.split(",")]
    result: dict[str, Any] = {
        "machine": machine.to_dict(),
        "key": machine.key,
        "date": datetime.date.today().isoformat(),
        "limits": {str(count): asdict(limits(count)) for count in threads},
        "points": list(linear_points(rows, chosen, threads, clock)),
        "cliffs": list(cliff_points(threads[-1], clock)),
    }
    torch.set_num_threads(threads[-1])
    result["call"], result["switching"] = call_cost(torch.float32), switching_cost()
    result["topk"] = [row for count in threads for row in at(count, measure_topk, options.peers, clock)]
    for name, measured in (("prefill", measure_prefill), ("compaction", measure_compaction)):
        result[name] = [] if options.only else [row for count in threads for row in at(count, measured, None, clock)]
    result["peers"] = list(at(threads[-1], measure_peers, None, clock)) if options.peers else []
    result["elsewhere"] = ELSEWHERE
    clock.say("decode attention")
    result["decode"] = [] if options.only else list(measure_decode(threads))
    clock.say("whole models")
    torch.set_num_threads(threads[-1])
    result["end_to_end"] = [] if options.only else end_to_end.measure()
    result["minutes"] = (time.monotonic() - clock.start) / 60
    text = markdown(result, end_to_end.markdown(result["end_to_end"]))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / f"{machine.key}.json").write_text(json.dumps(result, indent=1) + "\n")
    (options.out / f"{machine.key}.md").write_text(text)
    print(text)
    print("cells: " + ", ".join(f"{count} {state}" for state, count in summary(result).items()))
    return 0


def linear_points(rows: list[Row], shapes: list[tuple[int, int]], threads: list[int], clock: Clock) -> Any:
    """Yield the points of the table: rows of one type share the dense form, so they take turns together."""
    generator = torch.Generator().manual_seed(0)
    for dtype in (torch.bfloat16, torch.float32, torch.int8):
        same = [row for row in rows if row.dtype is dtype]
        for shape in shapes if same else ():
            clock.say(f"{str(dtype).removeprefix('torch.')} {shape[0]}x{shape[1]}")
            forms = Shape(shape, same, generator)
            for count in threads:
                torch.set_num_threads(count)
                for tokens in tokens_of(shape):
                    start = time.monotonic()
                    yield from (point.to_dict() for point in forms.measure(tokens, count, BUDGET_S))
                    if time.monotonic() - start > MOST_S:  # a slow path: larger counts would take longer still
                        break


def cliff_points(threads: int, clock: Clock) -> Any:
    """Yield the ratio to F.linear and the must beside it at token counts around every power of two."""
    torch.set_num_threads(threads)
    for dtype in (torch.bfloat16, torch.float32):
        same = [row for row in ROWS if row.dtype is dtype and row.name in CLIFF_ROWS]
        clock.say(f"cliffs, {str(dtype).removeprefix('torch.')}")
        forms = Shape(CLIFF_SHAPE, same, torch.Generator().manual_seed(3))
        for tokens in CLIFF_TOKENS:
            for row, point in zip(same, forms.measure(tokens, threads, CLIFF_BUDGET_S), strict=True):
                line = must_line(row, tokens)
                yield {"row": row.name, "tokens": tokens, "threads": threads, "ratio": point.plain, "line": line}


def at(threads: int, measure: Any, peers: bool | None, clock: Clock) -> list[dict[str, Any]]:
    """Run one of the other measurements with this number of threads."""
    torch.set_num_threads(threads)
    clock.say(f"{measure.__name__.removeprefix('measure_')}, {threads} threads")
    return list(measure(threads) if peers is None else measure(threads, peers))


if __name__ == "__main__":
    sys.exit(main())
