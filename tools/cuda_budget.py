"""What CUDA costs a build and a wheel: at most 5 minutes on 2 cores, and 15 MB."""

from __future__ import annotations

import re
import zipfile
import zlib
from pathlib import Path

__all__ = ["MOST_GROWTH", "MOST_SECONDS", "compile_seconds", "growth"]

MOST_SECONDS = 5 * 60 * 2
"""Of compilers on CUDA sources, all together."""
MOST_GROWTH = 15e6
"""Bytes of a wheel."""


def growth(wheel: Path, without: Path) -> int:
    """Bytes of a wheel's compiled kernels beyond those of the same module built without CUDA, both compressed."""
    with zipfile.ZipFile(wheel) as archive:
        (module,) = (info for info in archive.infolist() if re.fullmatch(r"sparsecore/_core\..*\.so", info.filename))
    return module.compress_size - len(zlib.compress(without.read_bytes()))


def compile_seconds(log: Path) -> float:
    """Seconds of compilers on CUDA objects, the last time that each was made, by Ninja's log; 0 without CUDA.

    Objects from a compiler's cache count with the time that fetching them took.
    """
    spent: dict[str, float] = {}
    for line in log.read_text().splitlines() if log.exists() else ():
        fields = line.split("\t")
        if len(fields) == 5 and fields[3].endswith(".cu.o"):
            spent[fields[3]] = (int(fields[1]) - int(fields[0])) / 1e3
    return sum(spent.values())
