"""The errors of the package: each says what was wrong, where, what was expected and what to try.

`sparsecore.errors` builds on this module, so that one `except NamedError` covers both packages.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "NamedError",
    "AssumedInputError",
    "ConfigError",
    "CorruptFileError",
    "FileMissingError",
    "FormatVersionError",
    "InvalidValueError",
    "MissingDependencyError",
    "MissingTensorsError",
    "PickleRefusedError",
    "UnknownNameError",
    "UnsupportedError",
    "nearest",
]


class NamedError(Exception):
    """Base of every error that the package raises on purpose.

    Parameters
    ----------
    what: one sentence: what is wrong.
    where: file, key, layer or argument at fault.
    expected: what would have been right.
    hint: what the user can try next.
    """

    def __init__(self, what: str, *, where: str = "", expected: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.expected = expected
        self.hint = hint

    def __str__(self) -> str:
        labelled = (("where", self.where), ("expected", self.expected), ("try", self.hint))
        return "\n".join([self.what, *(f"  {label}: {text}" for label, text in labelled if text)])

    def __reduce__(self) -> tuple[object, ...]:
        # The default would lose the keyword-only fields when the error crosses a process boundary.
        return _rebuild, (type(self), self.what, self.where, self.expected, self.hint)


def _rebuild(kind: type[NamedError], what: str, where: str, expected: str, hint: str) -> NamedError:
    return kind(what, where=where, expected=expected, hint=hint)


class ConfigError(NamedError, ValueError):
    """A configuration file or `--set` has an unknown, missing or mistyped key."""


class FileMissingError(NamedError, FileNotFoundError):
    """A named file does not exist."""


class CorruptFileError(NamedError, ValueError):
    """A file is truncated, damaged or not of the kind that its name says."""


class FormatVersionError(NamedError, ValueError):
    """A file was written by a newer major version of its format."""


class InvalidValueError(NamedError, ValueError):
    """An argument is outside its documented range."""


class UnknownNameError(NamedError, ValueError):
    """A name is not registered; the hint gives the nearest ones."""


class PickleRefusedError(NamedError, ValueError):
    """A file can only be read by running code from it, and `--trust-pickle` was not given."""


class UnsupportedError(NamedError, ValueError):
    """A valid request that this version cannot serve."""


class AssumedInputError(NamedError, ValueError):
    """An input is assumed although only measured inputs were allowed."""


class MissingDependencyError(NamedError, ImportError):
    """An optional dependency is needed and not installed."""


class MissingTensorsError(NamedError, ValueError):
    """A design has to decide from Q, K and V, and the workload holds neither these nor its decisions."""


def nearest(name: str, choices: Iterable[str], count: int = 3) -> str:
    """Return a phrase such as ``did you mean 'spatten'?`` for the `count` nearest of `choices`, or list them all."""
    known = sorted(choices)
    close = difflib.get_close_matches(name, known, n=count, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(repr(c) for c in close) + "?"
    return "one of " + ", ".join(known) if known else ""
