"""What a planted fault is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """`right` in `source` becomes `wrong`, in a copy; part of the names of the `tests` that must then fail.

    source: path from csrc. file: the file of tests/cpp with those tests. launches: .cu files (paths from csrc) whose
    kernels the tests reach by their launch functions, to be compiled against the copy as well. by_launch: they reach
    them in no other way, so that the file of tests need not be compiled again.
    """

    name: str
    source: str
    tests: str
    right: str
    wrong: str = ""
    file: str = "test_cuda.cpp"
    launches: tuple[str, ...] = ()
    by_launch: bool = False
