"""What the fixture `simulate` of conftest.py is."""

from __future__ import annotations

from collections.abc import Callable

# Run the command with these arguments; return (exit code, stdout, stderr).
Simulate = Callable[..., tuple[int, str, str]]
