"""JSON of files that someone else wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sparsecore.errors import CorruptFileError

__all__ = ["strict_json"]


def strict_json(text: bytes, path: Path) -> dict[str, Any]:
    """Return the JSON object in `text`, found in `path`.

    Raises CorruptFileError for other text, and for a key that comes twice: readers would disagree on what it means.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise _corrupt(path, f"{key!r} is there twice")
            found[key] = value
        return found

    try:
        value = json.loads(text, object_pairs_hook=once)
    except CorruptFileError:
        raise
    except (ValueError, RecursionError) as error:
        raise _corrupt(path, f"no readable JSON ({str(error)[:80]})") from error
    if not isinstance(value, dict):
        raise _corrupt(path, "the JSON is no object")
    return value


def _corrupt(path: Path, problem: str) -> CorruptFileError:
    return CorruptFileError(f"damaged: {problem}", where=str(path), hint="copy or download the file again")
