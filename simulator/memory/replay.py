"""Replaying a request trace on a memory by itself, in memory that does not grow with the trace."""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from simulator.errors import CorruptFileError
from simulator.files import open_binary
from simulator.memory.compiled import compiled, configuration
from simulator.memory.spec import MemorySpec

__all__ = ["Latency", "RawChannel", "RawReplay", "RawStream", "RawTimeline", "read_pieces", "replay_trace"]

CHUNK_BYTES = 1 << 20
GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class Latency:
    """Of reads, in ticks, from being accepted by the controller to the end of their data.

    p50 and p99 are nearest ranks; above 4096 ticks they are within 1/2048 of it. Mean and max are exact.
    """

    count: int
    mean: float
    p50: int
    p99: int
    max: int


@dataclass(frozen=True, slots=True)
class RawStream:
    """What the requests of one label did.

    requested_bytes: of all requests. useful_bytes: different bytes among them that its bursts moved. bursts: moved.
    absorbed: answered by another burst of the same line that was waiting. A row hit is a burst that is not the first
    one after its row was opened.
    """

    label: str
    requests: int
    requested_bytes: int
    useful_bytes: int
    bursts: int
    absorbed: int
    activates: int
    row_hits: int
    latency: Latency


@dataclass(frozen=True, slots=True)
class RawChannel:
    """Bursts and activations of each bank of a channel."""

    bursts: list[int]
    activates: list[int]


@dataclass(frozen=True, slots=True)
class RawTimeline:
    """Sums over bins of `bin_ticks` ticks each, at most 512 of them."""

    bin_ticks: int
    read_bytes: list[int]
    write_bytes: list[int]
    bursts: list[int]
    row_hits: list[int]


@dataclass(frozen=True, slots=True)
class RawReplay:
    """What happened, in ticks of the memory's clock and in bytes.

    ticks: until the last data crossed the pins. reads, writes: bursts moved. merged: bursts not sent because the one
    just before was the same. active_ticks: with an open row, summed over the ranks of all channels. closed_form_bytes:
    of long requests, not simulated burst by burst.
    """

    ticks: int
    reads: int
    writes: int
    merged: int
    precharges: int
    refreshes: int
    active_ticks: int
    closed_form_bytes: int
    latency: Latency
    streams: list[RawStream]
    timeline: RawTimeline
    channels: list[RawChannel]


def replay_trace(
    spec: MemorySpec,
    source: str | Path | Iterable[bytes],
    *,
    merge: bool = True,
    progress: Callable[[int], None] | None = None,
) -> RawReplay:
    """Replay a trace on `spec`.

    Parameters
    ----------
    source: a file, which may be compressed by gzip; "-" for the standard input; or the text in pieces of any size.
    merge: do not send a burst equal to the one just before it (same line, same direction).
    progress: called with the bytes of the file read so far (compressed ones of a compressed file).

    Raises
    ------
    FileMissingError: no such file.
    CorruptFileError: a malformed line (with its number), or a compressed file that is damaged or cut off.
    InvalidValueError: an address beyond the memory (with its line).
    """
    name = str(source) if isinstance(source, (str, Path)) else "trace"
    name = "standard input" if name == "-" else name
    replay = compiled().Replay(**configuration(spec), merge=merge, source=name)
    _feed(replay, read_pieces(source, progress) if isinstance(source, (str, Path)) else iter(source))
    return _record(replay.record())


def _feed(replay: Any, pieces: Iterator[bytes]) -> None:
    for piece in pieces:
        replay.feed(piece)
    replay.finish()


def read_pieces(source: str | Path, progress: Callable[[int], None] | None = None) -> Iterator[bytes]:
    """Yield the text of a file, or of the standard input for "-", in bounded pieces; decompressed if it is gzip.

    Raises
    ------
    FileMissingError: no such file. CorruptFileError: a compressed file that is damaged or cut off.
    """
    name = "standard input" if str(source) == "-" else str(source)
    with _opened(source) as file:
        yield from _chunks(file, name, progress)


@contextmanager
def _opened(source: str | Path) -> Iterator[BinaryIO]:
    if str(source) == "-":
        yield sys.stdin.buffer
    else:
        with open_binary(source) as file:
            yield file


def _chunks(file: BinaryIO, name: str, progress: Callable[[int], None] | None) -> Iterator[bytes]:
    """Yield the text of `file` in bounded pieces, decompressed if it starts like a gzip file."""
    counted = _Counted(file, progress)
    if counted.peek(len(GZIP_MAGIC)) != GZIP_MAGIC:
        while piece := counted.read(CHUNK_BYTES):
            yield piece
        return
    try:
        with gzip.GzipFile(fileobj=counted, mode="rb") as text:  # type: ignore[call-overload]
            while piece := text.read(CHUNK_BYTES):
                yield piece
    except EOFError as error:
        raise CorruptFileError(
            "the compressed trace ends too early", where=name, expected="a whole gzip file", hint="copy it again"
        ) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise CorruptFileError(f"the compressed trace is damaged: {error}", where=name, expected="gzip") from error


class _Counted:
    """A file that tells how far it was read, and can look at its first bytes without seeking."""

    def __init__(self, file: BinaryIO, progress: Callable[[int], None] | None) -> None:
        self._file, self._progress = file, progress
        self._ahead = b""
        self._bytes = 0

    def peek(self, size: int) -> bytes:
        self._ahead = self._file.read(size)
        return self._ahead

    def read(self, size: int = -1) -> bytes:
        piece = self._ahead + self._file.read(size if size < 0 else max(size - len(self._ahead), 0))
        self._ahead = b""
        self._bytes += len(piece)
        if self._progress is not None:
            self._progress(self._bytes)
        return piece


def _record(record: dict[str, Any]) -> RawReplay:
    """Return the compiled module's record as dataclasses."""
    streams = [RawStream(**{**stream, "latency": Latency(**stream["latency"])}) for stream in record.pop("streams")]
    channels = [RawChannel(**channel) for channel in record.pop("channels")]
    timeline = RawTimeline(**record.pop("timeline"))
    latency = Latency(**record.pop("latency"))
    return RawReplay(**record, latency=latency, streams=streams, timeline=timeline, channels=channels)
