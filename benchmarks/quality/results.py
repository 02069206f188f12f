"""The files that hold what was measured: JSON, part by part, so that one part can be measured again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parents[1] / "results"


def load(path: Path) -> dict[str, Any]:
    """Return what a file holds: `about` and `points`, a list for each part."""
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"about": {}, "points": {}}
    return found


def add(path: Path, about: dict[str, Any], part: str, points: list[dict[str, Any]]) -> None:
    """Write the points of one part into a file, in the place of those that it held."""
    found = load(path)
    found["about"] |= about
    found["points"][part] = [{k: round(v, 6) if isinstance(v, float) else v for k, v in p.items()} for p in points]
    lines = [f"  {json.dumps(part)}: [\n{_rows(rows)}\n  ]" for part, rows in found["points"].items()]
    text = f'{{\n "about": {json.dumps(found["about"])},\n "points": {{\n' + ",\n".join(lines) + "\n }\n}\n"
    path.write_text(text)


def _rows(points: list[dict[str, Any]]) -> str:
    return ",\n".join("   " + json.dumps(point) for point in points)
