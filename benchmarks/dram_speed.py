"""Speed and memory of a replay against the length of its trace: `python benchmarks/dram_speed.py`.

Each length runs in a process of its own, so that its peak of resident memory is its own. The trace is a gather of 96 B
rows whose text is made once and sent again and again in pieces, as a stream would arrive.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator

from bench_dram import MEMORIES, ROW_BYTES, bursts_of, gather_lines

from simulator.memory import load_memory
from simulator.memory.replay import replay_trace

LENGTHS = (10**4, 10**5, 10**6, 10**7)  # bursts, about
LONG_TEXT = 1_100_000_000  # bytes
PIECE_TABLES = 384
ROUNDS = 3


def stream(piece: bytes, size: int) -> Iterator[bytes]:
    """Yield `piece` again and again, `size` bytes in all, up to the end of a line."""
    while size > len(piece):
        yield piece
        size -= len(piece)
    yield piece[: piece.find(b"\n", size - 1) + 1]


def one(memory: str, size: int) -> dict[str, float]:
    """Replay `size` bytes of text in this process."""
    spec, piece = load_memory(memory), b"".join(gather_lines(PIECE_TABLES))
    start = time.perf_counter()
    replay = replay_trace(spec, stream(piece, size))
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"bursts": bursts_of(replay), "seconds": seconds, "peak_mib": peak, "text": size}


def measure(memory: str, size: int, rounds: int = ROUNDS) -> dict[str, float]:
    """Return the fastest of some runs, each in a new process."""
    command = [sys.executable, __file__, memory, str(size)]
    runs = [json.loads(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(rounds)]
    return min(runs, key=lambda run: run["seconds"])


def main() -> None:
    burst = {memory: load_memory(memory).organisation.burst_bytes for memory in MEMORIES}
    line = len(next(gather_lines(1))) + 4  # most addresses have more digits than the first
    print("| memory | text, MB | bursts | seconds | M bursts/s | peak RSS, MiB |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for memory in MEMORIES:
        sizes = [length * burst[memory] // ROW_BYTES * line for length in LENGTHS]
        for size in [*sizes, LONG_TEXT] if memory == "hbm2" else sizes:
            run = measure(memory, size, rounds=1 if size == LONG_TEXT else ROUNDS)
            rate, peak = run["bursts"] / run["seconds"] / 1e6, run["peak_mib"]
            counts = f"{size / 1e6:.2f} | {run['bursts']:,} | {run['seconds']:.3f}"
            print(f"| {memory} | {counts} | {rate:.2f} | {peak:.0f} |", flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(one(sys.argv[1], int(sys.argv[2]))))
    else:
        main()
