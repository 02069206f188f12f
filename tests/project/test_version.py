"""One version, installed or not."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import sparsecore
from simulator.version import version

ROOT = Path(__file__).resolve().parents[2]
ALONE = (
    "import importlib.util, sys; "
    "spec = importlib.util.spec_from_file_location('alone', sys.argv[1]); "
    "module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module); print(module.version())"
)


def _version_of(tree: Path) -> subprocess.CompletedProcess[str]:
    """What simulator/version.py says in `tree` where no package is installed."""
    (tree / "simulator").mkdir(parents=True)
    shutil.copy(ROOT / "simulator" / "version.py", tree / "simulator")
    command = [sys.executable, "-S", "-c", ALONE, str(tree / "simulator" / "version.py")]  # -S: no site-packages
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=tree)


def test_the_source_tree_has_the_version_of_its_project_file(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "sparsecore-kernels"\nversion = "7.8.9rc1"\n')
    assert _version_of(tmp_path).stdout.strip() == "7.8.9rc1"
    assert f'version = "{version()}"\n' in (ROOT / "pyproject.toml").read_text()
    assert sparsecore.__version__ == version()


def test_without_either_the_package_is_named(tmp_path: Path) -> None:
    done = _version_of(tmp_path)
    assert done.returncode != 0 and "sparsecore-kernels" in done.stderr


@pytest.mark.parametrize("text", ["", "[project]\n"])
def test_a_project_file_without_a_version_does_not_count(tmp_path: Path, text: str) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    assert "sparsecore-kernels" in _version_of(tmp_path).stderr
