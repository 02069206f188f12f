"""Commands that may hang: a kernel that waits forever keeps its process until somebody ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Ended", "run"]


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

    It is killed with all that it started after `limit_s` seconds, or after `silent_s` without a line of output.
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
    while process.poll() is None and not why:
        now = time.monotonic()
        if now - start > limit_s:
            why = f"killed after its {limit_s:.0f} s"
        elif silent_s is not None and now - heard[0] > silent_s:
            why, silent = f"killed after {silent_s:.0f} s without a word", True
        else:
            time.sleep(0.05)
    if why:
        os.killpg(process.pid, signal.SIGKILL)
    code = process.wait()
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
