"""Runs cases one after the other: what finished is kept, and what failed is noted and does not stop the others."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from case import Case, measure
from place import Place, write_json

__all__ = ["LOST", "kept", "run"]

LOST = 3
"""Exit status after a failure that leaves the GPU useless to this process: the rest takes a new one."""


def run(
    cases: Sequence[Case], place: Place, known: dict[str, float], folder: Path, budget_s: float
) -> tuple[list[dict[str, Any]], list[str]]:
    """Measure the cases that are not kept yet; return all results, and the names of those that no time was left for."""
    done, left, start = [], [], time.monotonic()
    for case in cases:
        path = folder / f"{case.key}.json"
        known_already = path.exists()
        if not known_already and time.monotonic() - start >= budget_s:
            left.append(case.name)
            continue
        if not known_already:
            print(f"[{time.monotonic() - start:5.0f} s] {case.title}", flush=True)
            write_json(folder / "under-way", {"key": case.key, "group": case.group, "name": case.name})
        done.append(kept(path, lambda case=case: guarded(case, place, known)))
        if not known_already and done[-1].get("lost"):
            sys.exit(LOST)
    (folder / "under-way").unlink(missing_ok=True)
    return done, left


def guarded(case: Case, place: Place, known: dict[str, float]) -> dict[str, Any]:
    """`measure`, or the reason why the case failed: the others have to go on."""
    try:
        return measure(case, place, known)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is this case's result
        why = f"{type(error).__name__}: {error}"
        return {"group": case.group, "name": case.name, "failed": why.splitlines()[0], "lost": place.lost()}


def kept(path: Path, make: Callable[[], Any]) -> Any:
    """What a file holds, made and written where there is none."""
    if not path.exists():
        write_json(path, make())
    return json.loads(path.read_text())
