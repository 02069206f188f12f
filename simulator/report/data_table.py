"""A table of a report: text cells, that a terminal and a page show in their own way."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DataTable"]


@dataclass(frozen=True, slots=True)
class DataTable:
    """A table of text cells.

    align: one letter per column, "l" or "r"; "": the first is left, the others are right.
    brief: how many columns a short report shows (0: all).
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    align: str = ""
    brief: int = 0

    def alignment(self) -> str:
        """Return one letter per column."""
        return (self.align or "l" + "r" * len(self.columns))[: len(self.columns)]
