"""The timeline of a run as a file for Perfetto (ui.perfetto.dev) and Chrome's tracing page, in the trace event format.

One track a unit, and one for the ops. The events of a track never overlap, so that they nest in the trivial way. Times
are ns, rounded; the exact cycles stand in the arguments of each event. A file holds at most MOST_EVENTS events: what
comes later is left out, which the file says.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

from simulator.engine.event import Span
from simulator.files import replacing

__all__ = ["MOST_EVENTS", "PerfettoTrace"]

MOST_EVENTS = 200_000
_PROCESS = 1
_OPS = "ops"


class PerfettoTrace:
    """Collects events; `save` writes them.

    Parameters
    ----------
    title: of the run. clock_ghz: of the design. most: events, 200,000 by default.
    """

    def __init__(self, title: str, clock_ghz: float, most: int = MOST_EVENTS) -> None:
        self.full = False
        self._title, self._clock, self._most = title, clock_ghz, most
        self._tracks: dict[str, int] = {_OPS: 0}
        self._events: list[tuple[int, int, int, str]] = []  # track, cycles from and to, name
        self._cut_at = 0

    def add(self, name: str, start: int, cycles: int, tracks: dict[str, list[Span]]) -> None:
        """Take what the units did in an op that started at cycle `start`; cycles of spans count from there."""
        spans = sorted((span for track in tracks.values() for span in track), key=lambda span: span[1])
        room = self._most - len(self._events) - 1
        if room < len(spans):
            self.full, self._cut_at = True, start + (spans[room][1] if room >= 0 else 0)
            spans = spans[: max(room, 0)]
            if room < 0:
                return
        self._events.append((0, start, start + cycles, name))
        for unit, begin, end, what in spans:
            track = self._tracks.setdefault(unit, len(self._tracks))
            self._events.append((track, start + begin, start + end, what or unit))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file; an interrupt keeps the old one.

        Raises
        ------
        FileMissingError: the folder of `path` does not exist.
        """
        with replacing(path) as part, part.open("w", encoding="utf-8") as stream:
            stream.write(f'{{"displayTimeUnit": "ns", "otherData": {json.dumps(self._said())}, "traceEvents": [\n')
            stream.write(",\n".join(self._lines()))
            stream.write("\n]}\n")

    def _said(self) -> dict[str, str]:
        said = {"title": self._title, "clock_ghz": f"{self._clock:g}", "cycles": "args.cycles of each event"}
        if self.full:
            said["cut"] = f"at cycle {self._cut_at}: a file holds at most {self._most} events"
        return said

    def _lines(self) -> Iterator[str]:
        name = f"{self._title} (cut at {self._most} events)" if self.full else self._title
        yield json.dumps({"ph": "M", "pid": _PROCESS, "tid": 0, "name": "process_name", "args": {"name": name}})
        for unit, track in self._tracks.items():
            where = {"ph": "M", "pid": _PROCESS, "tid": track}
            yield json.dumps({**where, "name": "thread_name", "args": {"name": unit}})
            yield json.dumps({**where, "name": "thread_sort_index", "args": {"sort_index": track}})
        for track, start, end, what in self._events:
            begin, until = round(start / self._clock), round(end / self._clock)
            # Microseconds, from whole ns: as a double of three decimals each is read back exactly.
            yield (
                f'{{"ph":"X","pid":{_PROCESS},"tid":{track},"ts":{begin / 1000:.3f},"dur":{(until - begin) / 1000:.3f},'
                f'"name":{json.dumps(what)},"args":{{"from":{start},"cycles":{end - start}}}}}'
            )
