"""Looking at a run while it lasts: the timeline of its units, the requests to its memory, the longest op."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

from simulator.engine.accounting import Observer
from simulator.engine.event import Span
from simulator.engine.interface import Cost, Design, Op, Rows
from simulator.errors import UnsupportedError
from simulator.memory import Memory
from simulator.memory.recorder import DIRECTIVE, Recorder, recording
from simulator.timeline import Timeline, TimelineSpan
from simulator.workload.ir import AttentionOp

__all__ = ["LongestOp", "SpanSink", "SpanWatch", "merged", "op_name", "recorded", "timeline_of"]

BINS = 240
MOST_SPANS = 400  # of a timeline
PARTLY = "their first blocks alone"


def op_name(op: Op) -> str:
    """Return what an op is called in traces."""
    if isinstance(op, AttentionOp):
        return f"layer {op.layer}, sequence {op.sequence}, {op.phase} step {op.step}"
    return op.name


def merged(spans: list[Span], units: dict[str, object] | None = None) -> dict[str, list[Span]]:
    """Return the spans by unit, in order, with neighbours of one name put together; only those of `units` if given."""
    tracks: dict[str, list[Span]] = defaultdict(list)
    for span in sorted(spans, key=lambda span: span[1]):
        name, start, end, what = span
        if start == end or (units is not None and name not in units):
            continue
        track = tracks[name]
        if track and track[-1][2:] == (start, what):
            track[-1] = (name, track[-1][1], end, what)
        else:
            track.append(span)
    return tracks


class SpanSink(Protocol):
    """Takes the spans of one op after the other; `full` once it takes no more."""

    full: bool

    def add(self, name: str, start: int, cycles: int, tracks: dict[str, list[Span]]) -> None:
        """Take what the units did in an op that started at cycle `start`; cycles of spans count from there."""


class SpanWatch:
    """Has the design's units say what they do when, and hands it on."""

    def __init__(self, design: Design, sink: SpanSink) -> None:
        self._design, self._sink = design, sink

    def before(self, op: Op) -> None:
        """Start to listen."""
        self._design.spans = None if self._sink.full else []

    def after(self, op: Op, rows: Rows | None, start: int, cost: Cost) -> None:
        """Hand on what was said; an op that a formula prices has one span for each unit, from its start."""
        spans, self._design.spans = self._design.spans, None
        if spans is None:
            return
        units = cost.unit_cycles()
        if not spans:
            spans = [(name, 0, unit.busy, "by a closed form") for name, unit in units.items()]
        tracks = merged(spans, dict(units))
        whole = all(_busy(tracks.get(name, [])) == unit.busy for name, unit in units.items())
        self._sink.add(op_name(op) + ("" if whole else f" ({PARTLY})"), start, cost.cycles, tracks)


class LongestOp:
    """Remembers the op with the most cycles."""

    def __init__(self) -> None:
        self.cycles = 0
        self.op: tuple[AttentionOp, Rows | None, int] | None = None

    def before(self, op: Op) -> None:
        """Nothing to do."""

    def after(self, op: Op, rows: Rows | None, start: int, cost: Cost) -> None:
        """Compare it with those before."""
        if isinstance(op, AttentionOp) and cost.cycles > self.cycles:
            self.cycles, self.op = cost.cycles, (op, rows, start)


def _busy(track: list[Span]) -> int:
    return sum(end - start for _, start, end, _ in track)


def timeline_of(design: Design, longest: LongestOp) -> Timeline | None:
    """Simulate an op once more and return what its units did; None without one, or where no event is simulated."""
    if longest.op is None or design.fidelity != "event":
        return None
    op, rows, start = longest.op
    design.spans = []
    cost = design.cost(op, rows, start)
    spans, design.spans = design.spans, None
    tracks = merged(spans, dict(cost.unit_cycles()))
    each = max(cost.cycles, 1) / BINS
    starts = sorted(span[1] for track in tracks.values() for span in track)
    end = starts[MOST_SPANS] if len(starts) > MOST_SPANS else cost.cycles
    shown = tuple(TimelineSpan(*span) for track in tracks.values() for span in track if span[1] < end)
    busy = {name: _shares(tracks.get(name, []), each) for name in cost.unit_cycles()}
    return Timeline(op.layer, op.sequence, op.phase, op.step, cost.cycles, each, busy, end, shown)


def _shares(track: list[Span], each: float) -> tuple[float, ...]:
    """Return the busy share of every interval of `each` cycles."""
    busy = [0.0] * BINS
    for _, start, end, _ in track:
        for index in range(int(start / each), min(int((end - 1e-9) / each), BINS - 1) + 1):
            busy[index] += min(end, (index + 1) * each) - max(start, index * each)
    return tuple(round(min(cycles / each, 1.0), 4) for cycles in busy)


class _RequestWatch:
    """Gives the recorder a title for every op, and counts those that sent no request."""

    def __init__(self, recorder: Recorder, memory: Memory) -> None:
        self.recorder, self._memory = recorder, memory
        self.missing = self.partly = 0
        self._before = 0

    def before(self, op: Op) -> None:
        self._before = self.recorder.requests
        self.recorder.title(op_name(op))

    def after(self, op: Op, rows: Rows | None, start: int, cost: Cost) -> None:
        if self.recorder.requests == self._before:
            self.missing += any(traffic.bursts for traffic in cost.traffic.values())
        else:
            self.partly += self._memory.traffic() != dict(cost.traffic)


@contextmanager
def recorded(design: Design, path: str | Path, title: str) -> Iterator[Observer]:
    """Write all requests of `design` to a trace while the block lasts.

    Raises
    ------
    UnsupportedError: the design's memory is not simulated burst by burst.
    FileMissingError: the folder of `path` does not exist.
    """
    memory = design.memory
    if design.fidelity != "event" or not isinstance(memory, Memory):
        what = "the ideal memory" if design.fidelity == "event" else f"the fidelity {design.fidelity}"
        raise UnsupportedError(f"{what} sends no bursts to a DRAM", where="--dram-trace", expected="--fidelity event")
    with ExitStack() as stack:
        stream = stack.enter_context(recording(path, _head(design, memory, title)))
        recorder = Recorder(stream, memory.streams, memory.spec.organisation.burst_bytes)
        watch = _RequestWatch(recorder, memory)
        memory.recorder = recorder
        try:
            yield watch
        finally:
            memory.recorder = None
        if watch.missing:
            recorder.note(f"{watch.missing} ops are not here: the times of their transfers follow from a formula")
        if watch.partly:
            recorder.note(f"{watch.partly} ops are here with {PARTLY}: the others follow from these")


def _head(design: Design, memory: Memory, title: str) -> list[str]:
    name = design.memory_name
    place = str(Path(name).absolute()) if Path(name).suffix in (".yaml", ".yml") else name
    settings = {"organisation.channels": str(memory.spec.organisation.channels), **memory.admission_settings}
    clock = f"{memory.spec.clock_ghz:g} GHz"
    return [
        f"# {' '.join(title.split())}: the requests to its memory; `simulate dram` repeats them as they were served",
        f"# cycles of the memory's clock, {clock}, from the start of the op; each op is a run by itself",
        f"{DIRECTIVE}memory {place}",
        *(f"{DIRECTIVE}set {key}={value}" for key, value in settings.items()),
    ]
