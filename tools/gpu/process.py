"""Commands that may hang: a kernel that waits forever keeps its process until somebody ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Deadline", "Ended", "run"]

_DYING_S = 10.0
"""A killed process that waits for its GPU may stay: nothing else waits for it longer."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment of time.monotonic() after which nothing is to run any more."""

    at: float

    @classmethod
    def within(cls, seconds: float) -> Deadline:
        """So many seconds from now."""
        return cls(time.monotonic() + seconds)

    @property
    def left(self) -> float:
        """Seconds until then; 0 afterwards."""
        return max(0.0, self.at - time.monotonic())

    def sooner(self, seconds: float) -> Deadline:
        """The same, or `seconds` from now where that is earlier."""
        return Deadline(min(self.at, time.monotonic() + seconds))

    def before(self, seconds: float) -> Deadline:
        """So many seconds earlier."""
        return Deadline(self.at - seconds)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended. code: its exit status, None where it was killed; why: in words, empty where it passed.
    silent: it was killed since it said nothing."""

    code: int | None
    why: str
    seconds: float
    silent: bool = False

    @property
    def passed(self) -> bool:
        """Whether it ended by itself and well."""
        return self.code == 0


def run(
    command: Sequence[str | Path], *, cwd: Path, limit_s: float, silent_s: float | None = None, **env: str
) -> Ended:
    """Run a command with its output passed on.

    It is killed with all that it started after `limit_s` seconds, or after `silent_s` without a line of output, and
    where this process is interrupted.
    """
    start = time.monotonic()
    words = [str(word) for word in command]
    process = subprocess.Popen(
        words, cwd=cwd, env={**os.environ, **env}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip
    heard = [start]
    reader = threading.Thread(target=_pass_on, args=(process, heard), daemon=True)
    reader.start()
    why, silent = "", False
    try:
        while process.poll() is None and not why:
            now = time.monotonic()
            if now - start > limit_s:
                why = f"killed after its {limit_s:.0f} s"
            elif silent_s is not None and now - heard[0] > silent_s:
                why, silent = f"killed after {silent_s:.0f} s without a word", True
            else:
                time.sleep(0.05)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_DYING_S)
    code = process.returncode
    reader.join(timeout=5)
    if not why and code != 0:
        why = f"exit status {code}"
    return Ended(None if why.startswith("killed") else code, why, time.monotonic() - start, silent)


def _pass_on(process: subprocess.Popen[str], heard: list[float]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        heard[0] = time.monotonic()
        sys.stdout.write(line)
        sys.stdout.flush()
