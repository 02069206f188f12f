"""Rules that decide which tokens go on, by name. Each stands in a file of its own with its source."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sparsecore.cascade.selectors.accumulated import Accumulated
from sparsecore.cascade.selectors.controls import Random, Recent
from sparsecore.cascade.selectors.diversity import Diversity
from sparsecore.cascade.selectors.flow import Flow
from sparsecore.cascade.selectors.heavy import Heavy
from sparsecore.cascade.selectors.pagerank import PageRank
from sparsecore.cascade.selectors.staged import Staged
from sparsecore.cascade.selectors.view import Selector, View, choose
from sparsecore.errors import InvalidValueError, UnknownNameError, nearest

__all__ = ["SELECTORS", "Selector", "View", "choose", "selector_of"]

SELECTORS: dict[str, Callable[..., Selector]] = {
    "accumulated": Accumulated,
    "diversity": Diversity,
    "flow": Flow,
    "heavy": Heavy,
    "pagerank": PageRank,
    "random": Random,
    "recent": Recent,
    "staged": Staged,
}


def selector_of(given: str | Selector, **settings: Any) -> Selector:
    """Return the selector of a name, made with `settings`, or `given` itself where it is one already.

    Raises
    ------
    UnknownNameError: no selector has this name.
    InvalidValueError: neither a name nor a selector, or settings that this selector does not have.
    """
    if not isinstance(given, str):
        if not isinstance(given, Selector):
            raise InvalidValueError(f"the selector is a {type(given).__name__}", expected="a name or a Selector")
        return given
    if given not in SELECTORS:
        raise UnknownNameError(
            f"there is no selector {given!r}", expected=", ".join(sorted(SELECTORS)), hint=nearest(given, SELECTORS)
        )
    try:
        return SELECTORS[given](**settings)
    except TypeError as error:
        raise InvalidValueError(f"selector {given!r}: {error}", where="selector") from error
