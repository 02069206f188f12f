"""A progress bar on stderr, only on a terminal and only where a run takes long."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

__all__ = ["Bar"]

_PATIENCE_S = 0.7


class Bar:
    """A context manager whose `step(done, total)` shows a bar once the work has taken a moment."""

    def __init__(self, title: str, quiet: bool) -> None:
        self._title = title
        self._shown: Progress | None = None
        self._task = TaskID(0)
        self._start = time.monotonic()
        self._wanted = not quiet and sys.stderr.isatty()

    def __enter__(self) -> Bar:
        return self

    def step(self, done: int, total: int) -> None:
        """Say how far the work is."""
        if not self._wanted:
            return
        if self._shown is None:
            if time.monotonic() - self._start < _PATIENCE_S:
                return
            columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
            self._shown = Progress(*columns, console=Console(stderr=True), transient=True)
            self._shown.start()
            self._task = self._shown.add_task(self._title, total=total)
        self._shown.update(self._task, completed=done)

    def stop(self) -> None:
        """Take the bar away, before something else is printed."""
        if self._shown is not None:
            self._shown.stop()
        self._wanted = False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
