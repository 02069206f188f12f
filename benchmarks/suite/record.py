"""Compares a short run's ratios with the record of its own kind of machine.

    python benchmarks/suite/record.py            # compare; a machine without a record writes one into build/ and passes
    python benchmarks/suite/record.py --update   # write the record that later runs are compared with

Ratios to torch in the same process travel between runs; times do not. A row that fell by more than 20 % is listed. Only
one that stays below half of its record in three tries fails the check: what is left then is no noise.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RECORDS = ROOT / "benchmarks" / "results" / "records"
UNKNOWN = ROOT / "build" / "benchmark-records"

LISTED, FAILED, TRIES = 0.8, 0.5, 3
_SHAPES = ((768, 768), (768, 3072))
_TOKENS = (1, 16, 128, 512)
_BUDGET_S = 0.25

Ratios = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Fallen:
    """A row that fell, its ratio now and in the record."""

    name: str
    now: float
    then: float

    @property
    def share(self) -> float:
        """What is left of the record."""
        return self.now / self.then

    def __str__(self) -> str:
        return f"{self.name}: {self.now:.2f}, was {self.then:.2f} ({self.share - 1:+.0%})"


def fallen(now: Ratios, record: Ratios, below: float = LISTED) -> list[Fallen]:
    """Rows whose ratio is less than `below` of the record, the worst first; new and vanished rows are no fall."""
    both = (Fallen(name, now[name], then) for name, then in record.items() if name in now)
    return sorted((row for row in both if row.share < below), key=lambda row: row.share)


def check(record: Ratios, measure: Callable[[set[str]], Ratios]) -> tuple[list[Fallen], list[Fallen]]:
    """Return (rows that fell, those among them that stayed below half in every try).

    measure(names) -> ratios of at least the named rows; the first call names all rows of the record. The best of the
    tries counts: a neighbour on the machine can only make a row slower.
    """
    best = dict(measure(set(record)))
    for _ in range(TRIES - 1):
        doubtful = {row.name for row in fallen(best, record, FAILED)}
        if not doubtful:
            break
        for name, ratio in measure(doubtful).items():
            if name in doubtful:
                best[name] = max(best[name], ratio)
    return fallen(best, record), fallen(best, record, FAILED)


def short_run(names: Iterable[str] | None = None) -> dict[str, float]:
    """Ratios of the short run, or of those groups of it that hold one of `names`."""
    import torch
    from cases import ROWS
    from measure import Shape

    wanted = None if names is None else set(names)
    generator, threads, ratios = torch.Generator().manual_seed(0), torch.get_num_threads(), {}
    for dtype in sorted({row.dtype for row in ROWS}, key=str):
        rows = [row for row in ROWS if row.dtype is dtype]
        for shape in _SHAPES:
            label = {(row.name, t): f"{row.name} {shape[0]}x{shape[1]} M={t}" for row in rows for t in _TOKENS}
            counts = [t for t in _TOKENS if wanted is None or any(label[row.name, t] in wanted for row in rows)]
            if not counts:
                continue
            forms = Shape(shape, rows, generator)
            for tokens in counts:
                for point in forms.measure(tokens, threads, _BUDGET_S):
                    ratio = point.prepacked if point.plain is None else point.plain
                    if ratio is not None:
                        ratios[label[point.row, tokens]] = ratio
    return ratios


def write(folder: Path, key: str, ratios: Ratios) -> Path:
    """Write a record; keys of equal machines are equal (sparsecore.machine)."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{key}.json"
    rounded = {name: round(ratio, 3) for name, ratio in sorted(ratios.items())}
    path.write_text(json.dumps({"machine": key, "ratios": rounded}, indent=1) + "\n")
    return path


def read(path: Path) -> dict[str, float]:
    """Return the ratios of a record; ValueError where it is none."""
    data: Any = json.loads(path.read_text())
    ratios = data.get("ratios") if isinstance(data, dict) else None
    if not isinstance(ratios, dict) or not all(isinstance(r, int | float) and r > 0 for r in ratios.values()):
        raise ValueError(f"{path} is no record: expected positive ratios by row; write it anew with --update")
    return {str(name): float(ratio) for name, ratio in ratios.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--update", action="store_true", help="write this machine's record")
    update = parser.parse_args().update
    from sparsecore.machine import describe

    key = describe().key
    path = RECORDS / f"{key}.json"
    if update or not path.exists():
        print(f"written: {write(RECORDS if update else UNKNOWN, key, short_run())}")
        return 0
    listed, failed = check(read(path), short_run)
    for row in listed:
        print(f"fell: {row}")
    for row in failed:
        print(f"FAILED, below half of its record in {TRIES} tries: {row}")
    print(f"{len(listed)} rows fell by more than {1 - LISTED:.0%}, {len(failed)} failed; record: {path.name}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
