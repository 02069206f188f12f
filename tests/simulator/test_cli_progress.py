"""The progress bar: on a terminal, after a moment, on stderr; otherwise nothing."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CODE = """
import sys
from simulator.cli import progress
progress._PATIENCE_S = float(sys.argv[1])
with progress.Bar("simulating", quiet=sys.argv[2] == "quiet") as bar:
    for done in range(5):
        bar.step(done + 1, 5)
print("result")
"""


def run(patience: str, mode: str, terminal: bool) -> tuple[str, str]:
    """Return what goes to stdout and to stderr, the latter being a terminal or not."""
    master, slave = pty.openpty() if terminal else os.pipe()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"}
    command = [sys.executable, "-c", CODE, patience, mode]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=slave, env=environment, text=True, check=True)
    os.close(slave)
    os.set_blocking(master, False)
    try:
        shown = os.read(master, 100_000).decode()
    except OSError:  # a terminal without writers has no end of file
        shown = ""
    os.close(master)
    return done.stdout, shown


def test_bar() -> None:
    out, err = run("0", "loud", terminal=True)
    assert out == "result\n"
    assert "simulating" in err


def test_no_bar() -> None:
    for patience, mode, terminal in (("60", "loud", True), ("0", "quiet", True)):
        assert run(patience, mode, terminal) == ("result\n", "")
