"""Writing what a design asks its memory for as a trace, which `simulate dram` then repeats burst by burst.

Every op is a run of its own (`#!sim reset`), as the designs simulate it. The head of the file says which memory it was
and how bursts were admitted; `read_head` gives that back. Neighbouring rows of a request stand in one line.
"""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from simulator.errors import ConfigError, FileMissingError
from simulator.files import replacing

if TYPE_CHECKING:
    from simulator.memory.model import Addresses

__all__ = ["Recorder", "TraceHead", "read_head", "recording"]

DIRECTIVE = "#!sim "
_HEAD_BYTES = 8192


class Recorder:
    """Writes requests as the lines of a trace.

    Parameters
    ----------
    stream: text. streams: names of the traffic's sources. burst_bytes: of the memory.
    """

    def __init__(self, stream: IO[str], streams: Sequence[str], burst_bytes: int) -> None:
        self.requests = 0
        self._stream, self._streams, self._burst = stream, streams, burst_bytes
        self._phase: int | None = None  # of a run that has no request yet
        self._title = ""
        self._last = (-1, False)  # the line and direction of the last burst

    def title(self, text: str) -> None:
        """Say what the next run is."""
        self._title = " ".join(text.split())

    def note(self, text: str) -> None:
        """Add a comment."""
        self._stream.write(f"# {text}\n")

    def reset(self, phase: int) -> None:
        """Start a new run, `phase` ticks after a refresh; one without requests leaves no line."""
        self._phase = phase

    def request(self, tick: int, addresses: Addresses, row_bytes: int, stream: int, write: bool) -> None:
        """Write a request for rows, to be sent from `tick` on."""
        if not len(addresses) or not row_bytes:
            return
        if self._phase is not None:
            self._stream.write(f"# {self._title}\n{DIRECTIVE}reset {self._phase}\n")
            self._phase, self._last = None, (-1, False)
        if (int(addresses[0]) // self._burst, write) == self._last:
            self._stream.write(f"{DIRECTIVE}apart\n")  # two requests: each fetches the burst
        new = np.flatnonzero(np.diff(addresses) != row_bytes) + 1
        first, count = np.concatenate([[0], new]), np.diff(np.concatenate([[0], new, [len(addresses)]]))
        kind, name = "W" if write else "R", self._streams[stream]
        lines = zip(addresses[first].tolist(), (count * row_bytes).tolist(), strict=True)
        self._stream.write("".join(f"{tick} {kind} 0x{address:x} {size} {name}\n" for address, size in lines))
        self._last = ((int(addresses[-1]) + row_bytes - 1) // self._burst, write)
        self.requests += 1


@contextmanager
def recording(path: str | Path, head: Sequence[str]) -> Iterator[IO[str]]:
    """Yield the text stream of a new trace that starts with `head`; a name that ends in .gz is compressed.

    The file appears under its name when the block ends without an error.

    Raises
    ------
    FileMissingError: the folder of `path` does not exist.
    """
    with replacing(path) as part:
        if str(path).endswith(".gz"):
            # Neither the time nor the temporary name: equal runs give equal files.
            with (
                part.open("wb") as raw,
                gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed,
                io.TextIOWrapper(packed, encoding="utf-8", newline="\n") as stream,
            ):
                stream.writelines(f"{line}\n" for line in head)
                yield stream
        else:
            with part.open("w", encoding="utf-8", newline="\n") as stream:
                stream.writelines(f"{line}\n" for line in head)
                yield stream


@dataclass(frozen=True, slots=True)
class TraceHead:
    """What the head of a trace says about the memory: its name, None if nothing, and settings."""

    memory: str | None = None
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def admission(self) -> dict[str, str]:
        """The settings that hold for any memory."""
        return {key: value for key, value in self.settings.items() if key.startswith("admission.")}


def read_head(source: str | Path) -> TraceHead:
    """Return what the comments at the start of a trace say; of the standard input ("-") nothing is consumed.

    Raises
    ------
    FileMissingError: no such file. ConfigError: a setting without a value.
    """
    memory: str | None = None
    settings: dict[str, str] = {}
    for number, line in enumerate(_first_bytes(source).decode("utf-8", "replace").splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            break
        if not line.startswith(DIRECTIVE):
            continue
        word, _, value = line.removeprefix(DIRECTIVE).strip().partition(" ")
        if word == "memory":
            memory = value.strip()
        elif word == "set":
            key, equals, setting = (part.strip() for part in value.partition("="))
            if not (key and equals and setting):
                raise ConfigError(f"{line!r} is not a setting", where=f"{source}, line {number}", expected="key=value")
            settings[key] = setting
    return TraceHead(memory, settings)


def _first_bytes(source: str | Path) -> bytes:
    if str(source) == "-":
        peek = getattr(sys.stdin.buffer, "peek", None)
        raw: bytes = peek(_HEAD_BYTES) if peek is not None else b""
    else:
        try:
            with Path(source).open("rb") as file:
                raw = file.read(_HEAD_BYTES)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise FileMissingError("the file does not exist", where=str(source), hint="check the path") from error
    if not raw.startswith(b"\x1f\x8b"):
        return raw
    try:
        return zlib.decompressobj(31).decompress(raw, _HEAD_BYTES)
    except zlib.error:
        return b""  # whoever reads all of it says what is wrong
