"""The version of the package, also where it runs from its source tree."""

from __future__ import annotations

import importlib.metadata
import re
from functools import cache
from pathlib import Path

__all__ = ["version"]


@cache
def version() -> str:
    """Version of the installed package; of pyproject.toml where none is installed, as with a build beside its sources.

    Raises importlib.metadata.PackageNotFoundError where there is neither.
    """
    try:
        return importlib.metadata.version("sparsecore-kernels")
    except importlib.metadata.PackageNotFoundError:
        project = Path(__file__).parents[1] / "pyproject.toml"
        found = re.search(r'^version = "(.+)"$', project.read_text(), re.MULTILINE) if project.is_file() else None
        if found is None:
            raise
        return found[1]
