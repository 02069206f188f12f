"""Fixtures of the simulator's tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from command import Simulate

from simulator.cli import main


@pytest.fixture
def simulate(capsys: pytest.CaptureFixture[str]) -> Iterator[Simulate]:
    """Run the command in this process; return (exit code, stdout, stderr)."""
    hook = sys.excepthook

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        code = caught.value.code
        return (code if isinstance(code, int) else 0), out, err

    yield run
    sys.excepthook = hook
