"""Reading and writing small files so that an interrupt or a damaged file never goes unnoticed."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from simulator.errors import CorruptFileError, FileMissingError, FormatVersionError, InvalidValueError

__all__ = [
    "check_version",
    "is_torch_file",
    "open_binary",
    "parse_json",
    "read_bytes",
    "read_json",
    "replacing",
    "write_atomic",
]

_TORCH_SUFFIXES = (".pt", ".pth", ".pt2", ".bin", ".pkl", ".ckpt")
_TORCH_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def write_atomic(path: str | os.PathLike[str], data: bytes | str) -> None:
    """Write `data` to `path` so that a reader sees either the old file or the whole new one; raises as `replacing`."""
    with replacing(path) as part:
        part.write_bytes(data.encode() if isinstance(data, str) else data)


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; what is written there replaces `path` when the block ends.

    The data is flushed to the disk before the rename, so a reader sees the old file or the whole new one. An error or
    Ctrl-C inside the block removes the temporary file; a killed process leaves it behind (".NAME.*.part") and the old
    file untouched.

    Raises
    ------
    FileMissingError: the folder of `path` does not exist. InvalidValueError: `path` is a folder.
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
    """Return the mode that an ordinary open() would give: mkstemp alone makes files that only the owner can read."""
    if target.exists():
        return target.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def is_torch_file(path: Path) -> bool:
    """Tell whether a file looks like one of torch.save: by its name, or as a zip archive or a pickle."""
    if not path.is_file() or path.suffix == ".safetensors":
        return False
    with path.open("rb") as stream:
        return stream.read(4).startswith(_TORCH_STARTS) or path.suffix in _TORCH_SUFFIXES


@contextlib.contextmanager
def open_binary(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file to be read piece by piece; a missing file or a folder raises FileMissingError with the name."""
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(Path(path).open("rb"))
        except IsADirectoryError as error:
            raise FileMissingError("this is a folder", where=str(path), expected="a file") from error
        except (FileNotFoundError, NotADirectoryError) as error:
            raise FileMissingError("the file does not exist", where=str(path), hint="check the path") from error
        yield file


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Return the content of `path`; a missing file or a folder raises FileMissingError with the name."""
    try:
        return Path(path).read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise FileMissingError("the file does not exist", where=str(path), hint="check the path") from error


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the JSON object in `path`.

    Raises
    ------
    FileMissingError: no such file.
    CorruptFileError: not UTF-8, not JSON (a truncated file is reported with its line) or not an object.
    """
    data = parse_json(read_bytes(path), str(path))
    if not isinstance(data, dict):
        raise CorruptFileError("the file is not a JSON object", where=str(path), expected="an object at the top level")
    return data


def parse_json(raw: bytes, where: str) -> Any:
    """Return the JSON value in `raw`; raises CorruptFileError, with `where`, as `read_json`."""
    try:
        return json.loads(raw.decode("utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise CorruptFileError(
            f"not valid JSON: {error}", where=where, hint="it may be truncated; write it again"
        ) from error


def check_version(found: object, supported: str, where: str) -> bool:
    """Check a "major.minor" version string against the one this package writes; return True where `found` is newer.

    A newer minor version only adds fields, so that its reader may ignore what it does not know.

    Raises
    ------
    CorruptFileError: no version, or not of the form "major.minor".
    FormatVersionError: another major version.
    """
    ours = tuple(int(part) for part in supported.split("."))
    parts = found.split(".") if isinstance(found, str) else []
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() for part in parts):
        raise CorruptFileError(f"the format version {found!r} is not readable", where=where, expected='"major.minor"')
    theirs = (int(parts[0]), int(parts[1]))
    if theirs[0] != ours[0]:
        raise FormatVersionError(
            f"the file has format version {found}",
            where=where,
            expected=f"{ours[0]}.x (this package writes {supported})",
            hint="install a newer package" if theirs[0] > ours[0] else "write the file again with this version",
        )
    return theirs > ours
