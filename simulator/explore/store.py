"""The records of a sweep on disk: a file to which one line a point is added, so that whatever stops it loses little.

A line is written with one call and ends in a newline; a line that was cut by a crash is not valid JSON, and is left out
when the file is read. Lines of several sweeps that write at the same time do not mix: a lock is held for each.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from pathlib import Path
from types import TracebackType

from simulator.codec import decode, encode
from simulator.errors import CorruptFileError, FileMissingError
from simulator.explore.records import Record
from simulator.files import check_version

__all__ = ["Store"]

FORMAT, VERSION = "sparsecore-sweep", "1.0"
SYNC_EVERY_S = 1.0


class Store:
    """A folder with the records of sweeps; a context manager, for what is written to reach the disk.

    Parameters
    ----------
    folder: it is made if only its last part is missing.

    Attributes
    ----------
    records: by key, those of the file and those added. damaged: lines that were not readable.

    Raises
    ------
    FileMissingError: the folder above does not exist. CorruptFileError: the file is of another kind.
    FormatVersionError: it has another major version.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        if not self.folder.absolute().parent.is_dir():
            raise FileMissingError("the folder above does not exist", where=str(folder), hint="make it first")
        if self.folder.exists() and not self.folder.is_dir():
            raise CorruptFileError("there is a file of this name", where=str(folder), expected="a folder")
        self.folder.mkdir(exist_ok=True)
        self.path = self.folder / "points.jsonl"
        self.records: dict[str, Record] = {}
        self.damaged = 0
        self._synced = time.monotonic()
        raw = self.path.read_bytes() if self.path.exists() else b""
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        if not raw.strip():
            self._append(json.dumps({"format": FORMAT, "version": VERSION}).encode() + b"\n", only_first=True)
        else:
            self._read(raw)
            if not raw.endswith(b"\n"):  # a line was cut: the next one must not be glued to it
                self._append(b"\n")

    def _read(self, raw: bytes) -> None:
        head, *lines = raw.splitlines()
        newer = self._check_head(head)
        for line in lines:
            try:
                record = decode(Record, json.loads(line), str(self.path), ignore_unknown=newer)
            except (ValueError, RecursionError):  # not JSON, not UTF-8, or not a record
                self.damaged += bool(line.strip())
            else:
                self.records[record.key] = record

    def _check_head(self, head: bytes) -> bool:
        try:
            found = json.loads(head)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise CorruptFileError(
                "the file does not hold the points of a sweep",
                where=str(self.path),
                expected=f'a first line with "format": "{FORMAT}"',
                hint="another folder for --out",
            )
        return check_version(found.get("version"), VERSION, str(self.path))

    def add(self, record: Record) -> None:
        """Write a record; it survives the end of this process at once, and that of the machine about a second later."""
        self.records[record.key] = record
        self._append(json.dumps(encode(record), separators=(",", ":")).encode() + b"\n")
        if time.monotonic() - self._synced > SYNC_EVERY_S:
            self._sync()

    def _append(self, data: bytes, only_first: bool = False) -> None:
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            if only_first and os.fstat(self._file).st_size:
                return
            while data:  # a full disk may take a part before it fails
                data = data[os.write(self._file, data) :]
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def _sync(self) -> None:
        os.fsync(self._file)
        self._synced = time.monotonic()

    def close(self) -> None:
        """Make sure that everything is on the disk."""
        if self._file >= 0:
            self._sync()
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
