"""Constants that a user gives instead of the published ones: "1.5 pJ from FILE: NAME" by the name of the constant."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache

from simulator.tech.tables import Constant

__all__ = ["GIVEN", "asked_constants", "given_constant", "given_text", "note_asked"]

GIVEN = "energy table "  # what the source of a given constant starts with
_TEXT = re.compile(r"(\S+) (pJ|pJ/bit|pJ/mm|um2) from (.+)", re.DOTALL)
_ASKED: ContextVar[dict[str, str] | None] = ContextVar("asked", default=None)


def given_text(value: float, unit: str, source: str) -> str:
    """Return the text of a constant, as it stands in settings."""
    return f"{value!r} {unit} from {source}"


@lru_cache(maxsize=256)
def given_constant(text: str) -> Constant:
    """Return the constant of a text; without an interval, and of the kind "assumed".

    Raises
    ------
    ValueError: not such a text, or a value below 0 or not finite.
    """
    match = _TEXT.fullmatch(text)
    if match is None:
        raise ValueError(f'a constant should be as "1.5 pJ from FILE: NAME", not {text!r}')
    value = float(match[1])
    if not 0 <= value < math.inf:
        raise ValueError(f"the constant {text!r} should be 0 or more, and finite")
    return Constant(value, value, value, match[2], f"{GIVEN}{match[3]}", "assumed")


@contextmanager
def asked_constants() -> Iterator[dict[str, str]]:
    """Yield the names of the constants that are asked for inside the block, with their units."""
    asked: dict[str, str] = {}
    token = _ASKED.set(asked)
    try:
        yield asked
    finally:
        _ASKED.reset(token)


def note_asked(name: str, unit: str) -> None:
    """Note that a design asks for a constant, if anybody wants to know."""
    if name and (asked := _ASKED.get()) is not None:
        asked.setdefault(name, unit)
