"""Replaying traces: the file and its damages, labels, merging, useful bytes, long requests, bounded memory."""

from __future__ import annotations

import gzip
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from simulator.errors import CorruptFileError, FileMissingError, InvalidValueError
from simulator.memory import MemorySpec, load_memory, standard_names
from simulator.memory.replay import RawReplay, RawStream, replay_trace

SPEC = load_memory("hbm2")
BURST = SPEC.organisation.burst_bytes
TRACE = b"# a trace\nR 0x0 64 K\nR 0x40 64 K\n\nW 0x100000 32 out\n200 R 0x2000 48 V # cycle 200\nR 0x200 1 K\n"


def run(text: bytes, spec: MemorySpec = SPEC, merge: bool = True) -> RawReplay:
    return replay_trace(spec, [text], merge=merge)


def streams(raw: RawReplay) -> dict[str, RawStream]:
    return {stream.label: stream for stream in raw.streams}


def random_trace(
    rng: random.Random, lines: int, labels: tuple[str, ...] = ("a", "b")
) -> list[tuple[str, int, int, str]]:
    """Reads and writes of odd sizes among few lines, so that many of them meet."""
    return [
        (rng.choice("RRW"), rng.randrange(4096), rng.choice([1, 7, 32, 64, 100]), rng.choice(labels))
        for _ in range(lines)
    ]


def text_of(trace: list[tuple[str, int, int, str]]) -> bytes:
    return "".join(f"{kind} {address:#x} {size} {label}\n" for kind, address, size, label in trace).encode()


# Files


def test_a_file_is_read_as_its_text(tmp_path: Path) -> None:
    path = tmp_path / "a.trace"
    path.write_bytes(TRACE)
    assert replay_trace(SPEC, path) == replay_trace(SPEC, str(path)) == run(TRACE)


def test_a_compressed_file_is_read_as_its_text(tmp_path: Path) -> None:
    path = tmp_path / "a.trace"  # known by its first bytes, not by its name
    path.write_bytes(gzip.compress(TRACE))
    assert replay_trace(SPEC, path) == run(TRACE)
    path.write_bytes(gzip.compress(TRACE[:30]) + gzip.compress(TRACE[30:]))  # two members
    assert replay_trace(SPEC, path) == run(TRACE)


def test_a_truncated_compressed_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.trace.gz"
    whole = gzip.compress(TRACE * 100)
    for size in (3, 12, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(CorruptFileError, match=r"(?s)too early.*a\.trace\.gz"):
            replay_trace(SPEC, path)


def test_a_damaged_compressed_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.trace.gz"
    whole = bytearray(gzip.compress(TRACE))
    whole[-6] ^= 0xFF  # of the checksum
    path.write_bytes(bytes(whole))
    with pytest.raises(CorruptFileError, match=r"(?s)damaged.*a\.trace\.gz"):
        replay_trace(SPEC, path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileMissingError, match=r"nothing\.trace"):
        replay_trace(SPEC, tmp_path / "nothing.trace")


def test_progress_ends_with_the_bytes_of_the_file(tmp_path: Path) -> None:
    for data in (b"R 0x40 64 K\n" * 100_000, gzip.compress(TRACE)):
        path = tmp_path / "a.trace"
        path.write_bytes(data)
        seen: list[int] = []
        replay_trace(SPEC, path, progress=seen.append)
        assert seen == sorted(seen)
        assert seen[-1] == path.stat().st_size


def test_pieces_of_any_size_give_the_same(seed: int) -> None:
    rng = random.Random(seed)
    text = text_of(random_trace(rng, 300))
    whole = run(text)
    for most in (1, 7, 1000):
        pieces, left = [], text
        while left:
            size = rng.randint(0, most)
            pieces.append(left[:size])
            left = left[size:]
        assert replay_trace(SPEC, iter(pieces)) == whole


# Lines


def test_labels_are_streams_in_the_order_of_their_appearance() -> None:
    found = run(b"R 0 32\nR 0x40 32 K\nW 0x80 64\nR 0x40 32 V\nR 0x140 32 K\n")
    assert [stream.label for stream in found.streams] == ["read", "K", "write", "V"]
    assert {name: (s.requests, s.requested_bytes, s.bursts) for name, s in streams(found).items()} == {
        "read": (1, 32, 1),
        "K": (2, 64, 2),
        "write": (1, 64, 2),
        "V": (1, 32, 1),
    }


def test_a_burst_equal_to_the_one_just_before_is_merged() -> None:
    text = b"R 0 32\nR 8 8\nR 0 64\nW 32 8\nR 32 8\n"
    found = run(text)
    assert (found.merged, found.reads, found.writes) == (2, 2, 1)  # the last one is answered by the write
    assert sum(s.absorbed for s in found.streams) == 1
    apart = run(text, merge=False)
    assert (apart.merged, apart.reads, apart.writes) == (0, 4, 1)


def test_comments_and_empty_lines_count_for_nothing() -> None:
    assert run(b"\n# R 0 32\n  \nR 0 32 # R 64 32\n\r\nR 64 32\r\n") == run(b"R 0 32\nR 64 32")


def test_an_issue_cycle_holds_a_request_back() -> None:
    other_bank = 1 << 16
    at_once, late = (run(f"R 0 32\n{cycle} R {other_bank} 32\n".encode()) for cycle in (0, 500))
    alone = run(f"R {other_bank} 32\n".encode())
    assert late.ticks == 500 + alone.ticks > at_once.ticks
    assert late.latency.max == alone.latency.max  # from its acceptance on


def test_an_empty_trace_takes_no_time() -> None:
    found = run(b"# nothing\n")
    assert (found.ticks, found.reads, found.writes, found.streams) == (0, 0, 0, [])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"R 0x40", "number of bytes"),
        (b"X 0x40 64", "no R or W"),
        (b"R x40 64", "address"),
        (b"R 0x40 64 a b", "after the label"),
        (b"3 R 0x40 64", "comes after cycle 7"),
    ],
)
def test_a_malformed_line_is_named_with_its_number(line: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.trace"
    path.write_bytes(b"7 R 0 32\n# fine\n" + line + b"\n")
    with pytest.raises(CorruptFileError, match=rf"(?s){message}.*bad\.trace, line 3"):
        replay_trace(SPEC, path)


def test_an_address_beyond_the_device_is_named_with_its_line() -> None:
    last = SPEC.capacity_bytes - BURST
    assert run(f"R {last:#x} {BURST}\n".encode()).reads == 1
    with pytest.raises(InvalidValueError, match=r"(?s)beyond the device.*line 2"):
        run(f"R 0 32\nR {last:#x} {BURST + 1}\n".encode())


# Bytes


def useful_bytes(trace: list[tuple[str, int, int, str]], burst: int, merge: bool = False) -> dict[str, int]:
    """Return the different bytes that the bursts of each label move, if none is answered by another one.

    A burst moves what was asked for when it was sent, and what the bursts that were merged into it asked for.
    """
    found: dict[str, set[int]] = {label: set() for *_, label in trace}
    sent: tuple[str, int, str] | None = None
    for kind, address, size, label in trace:
        for byte in range(address, address + size):
            line = (kind, byte // burst)
            if sent is None or sent[:2] != line or (not merge and byte == address):
                sent = (*line, label)
            found[sent[2]].add(byte)
    return {label: len(parts) for label, parts in found.items()}


@pytest.mark.parametrize("merge", [True, False])
def test_useful_bytes_of_reads_are_the_different_bytes(merge: bool, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(20):
        trace = [("R", *rest) for _, *rest in random_trace(rng, 200)]
        found = streams(run(text_of(trace), merge=merge))
        assert {label: stream.useful_bytes for label, stream in found.items()} == useful_bytes(trace, BURST, merge)


def test_a_read_answered_by_a_waiting_write_moves_nothing() -> None:
    found = streams(run(b"W 0 32 out\nR 0 32 in\n"))
    assert (found["in"].absorbed, found["in"].bursts, found["in"].useful_bytes) == (1, 0, 0)
    assert (found["out"].absorbed, found["out"].bursts, found["out"].useful_bytes) == (0, 1, 32)
    later = streams(run(b"W 0 32 out\n1000 R 0 32 in\n"))
    assert (later["in"].absorbed, later["in"].bursts, later["in"].useful_bytes) == (0, 1, 32)


@pytest.mark.parametrize("name", ["hbm2", "hbm2-dramsim3", "hbm3", "ddr5-4800"])
def test_bytes_are_conserved(name: str, seed: int) -> None:
    """Every burst asked for was moved, absorbed or merged, and useful <= fetched <= peak x time."""
    rng, spec = random.Random(seed), load_memory(name)
    burst = spec.organisation.burst_bytes
    for _ in range(20):
        trace, merge = random_trace(rng, rng.randint(1, 300)), rng.random() < 0.5
        found = run(text_of(trace), spec, merge)
        asked = sum((address + size - 1) // burst - address // burst + 1 for _, address, size, _ in trace)
        moved, absorbed = (sum(getattr(s, part) for s in found.streams) for part in ("bursts", "absorbed"))
        assert asked == moved + absorbed + found.merged
        assert moved == found.reads + found.writes == sum(found.timeline.bursts)
        assert moved == sum(sum(channel.bursts) for channel in found.channels)
        assert moved * burst <= found.ticks * spec.peak_bytes_per_tick
        bounds = useful_bytes(trace, burst, merge)
        for stream in found.streams:
            assert stream.requested_bytes == sum(size for _, _, size, label in trace if label == stream.label)
            assert stream.useful_bytes <= min(bounds[stream.label], stream.bursts * burst)
            assert stream.row_hits <= stream.bursts


# Long requests


@pytest.mark.parametrize("kind", ["R", "W"])
def test_a_long_request_equals_many_short_ones(kind: str) -> None:
    spec = load_memory("hbm2")
    size, part = 144 << 20, 4096
    long = run(f"{kind} 0 {size} x\n".encode(), spec)
    short = run("".join(f"{kind} {start} {part} x\n" for start in range(0, size, part)).encode(), spec)
    assert long.closed_form_bytes > size // 3
    assert short.closed_form_bytes == 0
    assert (long.reads, long.writes) == (short.reads, short.writes)
    assert long.ticks == pytest.approx(short.ticks, rel=0.005)
    one, other = long.streams[0], short.streams[0]
    assert (one.useful_bytes, one.bursts) == (other.useful_bytes, other.bursts) == (size, size // BURST)
    assert one.activates == pytest.approx(other.activates, rel=0.02)
    assert long.refreshes == pytest.approx(short.refreshes, rel=0.04)  # one more or less in a sample of 24 tREFI
    assert long.active_ticks == pytest.approx(short.active_ticks, rel=0.01)
    assert sum(sum(channel.activates) for channel in long.channels) == one.activates


def test_what_follows_a_long_request_is_served_after_it() -> None:
    size = 144 << 20
    text = f"R 0 {size} x\n"
    long, more = run(text.encode()), run(f"{text}R {size} 4096 y\n".encode())
    assert 0 < more.ticks - long.ticks < 1000
    assert streams(more)["x"] == replace(long.streams[0], latency=streams(more)["x"].latency)


# Memory

_PEAK = """
import resource, sys
from simulator.memory import load_memory
from simulator.memory.replay import replay_trace
def piece(i):
    return b"".join(b"R 0x%x 96\\n" % (j * 7919 % (1 << 22) * 96) for j in range(4096 * i, 4096 * (i + 1)))
pieces = (piece(i) for i in range(int(sys.argv[1])))
raw = replay_trace(load_memory("hbm2"), pieces)
print(raw.reads, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_trace() -> None:
    def peak(pieces: int) -> tuple[int, int]:
        done = subprocess.run(
            [sys.executable, "-c", _PEAK, str(pieces)], capture_output=True, text=True, check=True, timeout=120
        )
        reads, kilobytes = map(int, done.stdout.split())
        return reads, kilobytes

    (few, small), (many, large) = peak(20), peak(80)
    assert many > 3.9 * few > 0
    assert large < small + 16 * 1024  # KiB; of the bytes that were touched a bounded record is kept


@pytest.mark.parametrize("name", standard_names())
def test_every_shipped_memory_replays(name: str, seed: int) -> None:
    found = run(text_of(random_trace(random.Random(seed), 100)), load_memory(name))
    assert found.ticks > 0
    assert found.reads + found.writes > 0


def test_an_iterator_is_read_piece_by_piece() -> None:
    seen: list[int] = []

    def pieces() -> Iterator[bytes]:
        for i in range(3):
            seen.append(i)
            yield b"R 0 32\n"

    assert replay_trace(SPEC, pieces()).merged == 2
    assert seen == [0, 1, 2]


@pytest.mark.parametrize("policy", ["all_bank", "per_bank"])
@pytest.mark.parametrize("order", ["program", "channel"])
def test_a_long_pause_costs_no_time_but_its_refreshes(policy: str, order: str) -> None:
    """13 days between two reads: the refreshes in between are counted, not stepped through."""
    spec = load_memory("hbm2", settings={"controller.refresh": policy, "admission.order": order})
    later = 1 << 50
    result = replay_trace(spec, [f"R 0 64\n{later} R 0 64\n{later + 10_000} W 64 64\n".encode()])
    assert later + 10_000 < result.ticks < later + 10_100
    interval = spec.timing_ticks["refi"] if policy == "all_bank" else -(-spec.timing_ticks["refi"] // spec.banks)
    assert result.refreshes == result.ticks // interval * spec.units
    assert [stream.bursts for stream in result.streams] == [4, 2]
