"""What of `make gpu` was done already: a part counts as long as its sources, the machine and torch stay the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

__all__ = ["State", "digest"]

_SUFFIXES = {".h", ".cpp", ".cu", ".cmake", ".txt", ".py"}


def digest(root: Path, sources: Iterable[str], machine: str) -> str:
    """Hash of source files, given as files or folders below `root`, and of the machine."""
    total = hashlib.sha256(machine.encode())
    for name in sorted(sources):
        place = root / name
        files = [place] if place.is_file() else sorted(p for p in place.rglob("*") if p.suffix in _SUFFIXES)
        for path in files:
            total.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes() + b"\0")
    return total.hexdigest()[:16]


class State:
    """The file of parts that were done, written after each of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.parts: dict[str, dict[str, Any]] = {}
        if path.exists():
            try:
                self.parts = dict(json.loads(path.read_text())["parts"])
            except (ValueError, KeyError, TypeError):
                print(f"{path} is damaged and is made anew")

    def done(self, part: str, key: str) -> bool:
        """Whether the part passed with exactly these sources."""
        entry = self.parts.get(part)
        return isinstance(entry, dict) and entry.get("passed") is True and entry.get("sources") == key

    def note(self, part: str, key: str, passed: bool, seconds: float) -> None:
        """Remember how a part went."""
        self.parts[part] = {"sources": key, "passed": passed, "seconds": round(seconds, 1)}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps({"parts": self.parts}, indent=1) + "\n")
