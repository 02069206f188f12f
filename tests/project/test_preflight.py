"""A missing tool is named before pip or CMake can fail on it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def preflight(python: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [str(ROOT / "tools" / "preflight.sh"), python]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **env}, check=False)


def test_complete_machine_passes() -> None:
    run = preflight(sys.executable)
    assert (run.returncode, run.stderr) == (0, "")


def test_missing_python_is_named() -> None:
    run = preflight("/nowhere/python3")
    assert run.returncode == 1
    assert "missing: a Python interpreter (/nowhere/python3)" in run.stderr
    assert "try:" in run.stderr


def test_missing_compiler_is_named() -> None:
    run = preflight(sys.executable, CXX="/nowhere/c++")
    assert run.returncode == 1
    assert "missing: a C++ compiler (/nowhere/c++)" in run.stderr


def test_compiler_without_cxx17_is_named(tmp_path: Path) -> None:
    old = tmp_path / "old-c++"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    run = preflight(sys.executable, CXX=str(old))
    assert run.returncode == 1
    assert "C++17" in run.stderr


def test_old_python_is_named(tmp_path: Path) -> None:
    old = tmp_path / "python-old"
    old.write_text('#!/bin/sh\nif [ "$1" = --version ]; then echo Python 3.8.1; else exit 1; fi\n')
    old.chmod(0o755)
    run = preflight(str(old))
    assert run.returncode == 1
    assert "missing: Python 3.10 or newer" in run.stderr
    assert "Python 3.8.1" in run.stderr
