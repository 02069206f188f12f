"""Zip archives of torch: where each entry lies in the file. The entries must be what torch writes, plain and apart."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass

from sparsecore.errors import CorruptFileError
from sparsecore.io.file_bytes import FileBytes

__all__ = ["Entry", "is_script", "read_archive"]

_START = b"PK\x03\x04"
_LOCAL_HEADER = 30  # bytes of an entry's own header before its name
_LENGTHS = struct.Struct("<HH")  # of name and extra field, at byte 26 of it


@dataclass(frozen=True, slots=True)
class Entry:
    """The `size` bytes of an entry, from byte `offset` of the file on."""

    offset: int
    size: int


def read_archive(file: FileBytes) -> dict[str, Entry] | None:
    """Return the entries of a zip archive by name, or None for a file that is none.

    Raises CorruptFileError for a damaged archive, and for one with compressed or encrypted entries, a name that comes
    twice, or entries that overlap, leave the file or are named otherwise in their own header: torch writes none of
    these, its mapped reader would hand out compressed bytes as values, and the other one expand them without limit.
    """
    if file.size < len(_START) or _bytes(file, 0, len(_START)) != _START:
        return None
    try:
        with zipfile.ZipFile(file.path) as archive:
            listed = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, OSError, struct.error) as error:
        raise _corrupt(file, f"a damaged archive ({error})") from error
    entries: dict[str, Entry] = {}
    end, script = 0, is_script(info.filename for info in listed)
    for info in sorted(listed, key=lambda info: info.header_offset):
        plain = info.compress_type == zipfile.ZIP_STORED and info.file_size == info.compress_size
        if not (plain or script) or info.flag_bits & 1:
            raise _corrupt(file, "an archive with compressed or encrypted entries, which torch.save never writes")
        if info.filename in entries:
            raise _corrupt(file, f"an archive with {info.filename!r} twice")
        entry = _place(file, info)
        if info.header_offset < end or entry.offset + entry.size > file.size:
            raise _corrupt(file, f"an archive whose entry {info.filename!r} overlaps another or leaves the file")
        entries[info.filename], end = entry, entry.offset + entry.size
    return entries


def is_script(names: Iterable[str]) -> bool:
    """Tell whether an archive with entries of these names is a TorchScript program, whose code is compressed."""
    return any(name.partition("/")[2] == "constants.pkl" for name in names)


def _place(file: FileBytes, info: zipfile.ZipInfo) -> Entry:
    start = info.header_offset
    if not 0 <= start <= file.size - _LOCAL_HEADER:
        raise _corrupt(file, f"an archive whose entry {info.filename!r} is not in the file")
    header = _bytes(file, start, _LOCAL_HEADER)
    name_length, extra_length = _LENGTHS.unpack_from(header, 26)
    name_start = start + _LOCAL_HEADER
    if header[:4] != _START or name_start + name_length + extra_length > file.size:
        raise _corrupt(file, f"an archive whose entry {info.filename!r} has no header")
    if _bytes(file, name_start, name_length) != info.orig_filename.encode(
        "utf-8" if info.flag_bits & 0x800 else "cp437", "replace"
    ):
        raise _corrupt(file, f"an archive whose entry {info.filename!r} has another name in its own header")
    return Entry(name_start + name_length + extra_length, info.compress_size)


def _bytes(file: FileBytes, offset: int, length: int) -> bytes:
    return bytes(file.read(offset, length).numpy())


def _corrupt(file: FileBytes, problem: str) -> CorruptFileError:
    return CorruptFileError(
        f"not a readable torch file: {problem}", where=str(file.path), hint="copy or download the file again"
    )
