"""Writing a file so that an interrupt never damages the one that was there before."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sparsecore.errors import FileMissingError, InvalidValueError

__all__ = ["replacing"]


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; what is written there replaces `path` when the block ends.

    The data is flushed to the disk before the rename, so a reader sees the old file or the whole new one. An error or
    Ctrl-C inside the block removes the temporary file; a killed process leaves it behind (".NAME.*.part") and the old
    file untouched.

    Raises FileMissingError where the folder of `path` does not exist, InvalidValueError where `path` is a folder.
    """
    target = Path(path).resolve()  # a symbolic link keeps pointing where it did
    if not target.parent.is_dir():
        raise FileMissingError(
            "the folder to write into does not exist", where=str(target.parent), hint="make the folder first"
        )
    if target.is_dir():
        raise InvalidValueError("there is a folder of this name", where=str(target), expected="a file name")
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _sync(temporary)
        temporary.chmod(_mode_for(target))
        temporary.replace(target)
    except BaseException:  # also KeyboardInterrupt: the temporary file must not stay behind
        temporary.unlink(missing_ok=True)
        raise
    _sync(target.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _mode_for(target: Path) -> int:
    """Return the mode that open() would give; mkstemp alone makes files that only the owner can read."""
    if target.exists():
        return target.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
