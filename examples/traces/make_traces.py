"""Writes the traces of this folder: K and V rows of the tokens that a pruned attention layer keeps."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

TOKENS, HEADS, ROW_BYTES, TABLE_BYTES = 1024, 4, 96, 98304


def lines(kept: list[int]) -> str:
    """Return one read for each kept row, head by head, the K table before the V table."""
    requests = []
    for head in range(HEADS):
        for half, label in enumerate(("K", "V")):
            base = (2 * head + half) * TABLE_BYTES
            requests += [f"R {base + row * ROW_BYTES:#x} {ROW_BYTES} {label}" for row in kept]
    return "\n".join(requests) + "\n"


def main() -> None:
    """Write both files, the same bytes at each run."""
    kept = sorted(random.Random(7).sample(range(TOKENS), 307))
    for name, rows in (("kept-30-percent", kept), ("all-tokens", list(range(TOKENS)))):
        path = Path(__file__).parent / f"{name}.txt.gz"
        path.write_bytes(gzip.compress(lines(rows).encode(), mtime=0))


if __name__ == "__main__":
    main()
