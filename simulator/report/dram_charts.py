"""The pictures of a replayed trace."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from simulator.memory.result import ReplayResult
from simulator.report.charts import BOTTOM, LEFT, RIGHT, TOP, WIDTH, axes, label_room, short, useful_bars
from simulator.report.svg import Drawing, Linear, colour
from simulator.report.text import count, energy, percent, rate, seconds

__all__ = [
    "PICTURES",
    "bandwidth_chart",
    "banks_chart",
    "channels_chart",
    "energy_parts_chart",
    "hits_chart",
    "streams_chart",
]

_LARGEST_CELL, _SMALLEST_CELL = 26.0, 3.0
_PALEST = 0.06  # so that a cell with any work differs from one with none


def bandwidth_chart(result: ReplayResult) -> str:
    """Bytes a second over time, reads below writes, with the peak."""
    line = result.timeline
    widths = _bin_widths(result)
    reads = [part / width for part, width in zip(line.read_bytes, widths, strict=True)]
    both = [below + part / width for below, part, width in zip(reads, line.write_bytes, widths, strict=True)]
    drawing = Drawing(WIDTH, 300, "bandwidth over time")
    x = _time_axis(drawing, result)
    y = axes(drawing, max([result.peak_gb_per_s, *both]), lambda value: f"{value:g}", "time", "GB/s")
    drawing.area(_steps(both, reads, x, y, widths), colour(1))
    drawing.area(_steps(reads, [0.0] * len(reads), x, y, widths), colour(0))
    peak = y(result.peak_gb_per_s)
    drawing.line(LEFT, peak, WIDTH - RIGHT, peak, "drop", "var(--fore)")
    said = f"peak {rate(result.peak_gb_per_s, 'B/s')}"
    drawing.legend([("reads", colour(0)), ("writes", colour(1)), (said, "var(--fore)")], LEFT, 16, WIDTH - RIGHT)
    return drawing.render()


def hits_chart(result: ReplayResult) -> str:
    """Share of row hits over time; no line where no burst moved."""
    line = result.timeline
    drawing = Drawing(WIDTH, 240, "row hits over time")
    x = _time_axis(drawing, result)
    y = axes(drawing, 1.0, percent, "time", "row-hit rate")
    start, run = 0.0, list[tuple[float, float]]()
    for hits, bursts, width in zip(line.row_hits, line.bursts, _bin_widths(result), strict=True):
        if bursts:
            run += [(x(start), y(hits / bursts)), (x(start + width), y(hits / bursts))]
        elif run:
            drawing.path(run, colour(2))
            run = []
        start += width
    if run:
        drawing.path(run, colour(2))
    return drawing.render()


def _bin_widths(result: ReplayResult) -> list[float]:
    """Return the length of each interval in ns: the last one ends with the run."""
    line = result.timeline
    starts = [line.bin_ns * index for index in range(len(line.bursts))]
    return [max(min(line.bin_ns, result.time_ns - start), 1e-9) for start in starts]


def _time_axis(drawing: Drawing, result: ReplayResult) -> Linear:
    end = result.time_ns or 1.0
    scale = Linear(end, LEFT, WIDTH - RIGHT)
    for tick in scale.ticks():
        drawing.line(scale(tick), TOP, scale(tick), drawing.height - BOTTOM)
        drawing.text(scale(tick), drawing.height - BOTTOM + 16, short(seconds(tick * 1e-9)), "middle", "tick")
    return scale


def _steps(
    upper: Sequence[float], lower: Sequence[float], x: Linear, y: Linear, widths: Sequence[float]
) -> list[tuple[float, float]]:
    """Return the outline of the steps between two series."""
    above, below, start = list[tuple[float, float]](), list[tuple[float, float]](), 0.0
    for high, low, width in zip(upper, lower, widths, strict=True):
        above += [(x(start), y(high)), (x(start + width), y(high))]
        below += [(x(start), y(low)), (x(start + width), y(low))]
        start += width
    return [*above, *reversed(below)] or [(x(0.0), y(0.0))]


def channels_chart(result: ReplayResult) -> str:
    """Bursts of each channel. Empty where there is only one."""
    rows = result.channels
    if len(rows) < 2:
        return ""
    drawing = Drawing(WIDTH, 230, "bursts by channel")
    y = axes(drawing, max((row.bursts for row in rows), default=0), count, "channel", "bursts")
    slot = (WIDTH - RIGHT - LEFT) / max(len(rows), 1)
    bar = min(slot * 0.8, 60.0)
    every = max(-(-len(rows) * 26 // int(WIDTH - LEFT - RIGHT)), 1)
    for index, row in enumerate(rows):
        middle = LEFT + slot * (index + 0.5)
        title = f"channel {index}: {count(row.bursts)} bursts, {count(row.activates)} activations"
        drawing.rectangle(middle - bar / 2, y(row.bursts), bar, y(0) - y(row.bursts), colour(0), title)
        if index % every == 0:
            drawing.text(middle, y(0) + 16, str(index), "middle", "tick")
    return drawing.render()


def banks_chart(result: ReplayResult) -> str:
    """Two maps of channels by banks: bursts, and activations; the darker the more."""
    maps: tuple[tuple[str, str, list[tuple[int, ...]]], ...] = (
        ("bursts", colour(0), [channel.bank_bursts for channel in result.channels]),
        ("activations", colour(1), [channel.bank_activates for channel in result.channels]),
    )
    banks = max((len(channel.bank_bursts) for channel in result.channels), default=0)
    cell = min(max((WIDTH - LEFT - RIGHT) / max(banks, 1), _SMALLEST_CELL), _LARGEST_CELL)
    tall = min(cell, 18.0)
    drawing = Drawing(WIDTH, 0, "use of the banks")
    top = 18.0
    for what, fill, rows in maps:
        most = max((value for row in rows for value in row), default=0)
        drawing.text(LEFT, top, f"{what} by bank, from none to {count(most)}", "start", "axis")
        _heat_map(drawing, rows, what, fill, most, LEFT, top + 8, cell, tall)
        top += 8 + tall * len(rows) + 48
    drawing.height = top - 8
    return drawing.render()


def _heat_map(
    drawing: Drawing,
    rows: Sequence[Sequence[int]],
    what: str,
    fill: str,
    most: int,
    left: float,
    top: float,
    cell: float,
    tall: float,
) -> None:
    every = max(round(14 / tall), 1)
    for channel, row in enumerate(rows):
        y = top + tall * channel
        if channel % every == 0:
            name = str(channel) if channel else "channel 0"
            drawing.text(left - 8, y + tall / 2 + 4, name, "end", "tick")
        for bank, value in enumerate(row):
            strength = _PALEST + (1 - _PALEST) * value / most if value else 0.0
            title = f"channel {channel}, bank {bank}: {count(value)} {what}"
            drawing.rectangle(left + cell * bank, y, cell, tall, fill, title, strength)
    columns = max((len(row) for row in rows), default=0)
    drawing.frame(left, top, cell * columns, tall * len(rows))
    step = max(-(-columns // 16), 1)
    for bank in range(0, columns, step):
        drawing.text(left + cell * (bank + 0.5), top + tall * len(rows) + 14, str(bank), "middle", "tick")
    drawing.text(left + cell * columns / 2, top + tall * len(rows) + 28, "bank", "middle", "tick")


def energy_parts_chart(result: ReplayResult) -> str:
    """Energy of each kind of event, with the interval of the published constants. Empty without energies."""
    parts = [(name.replace("_", " "), part) for name, part in result.energy.items()]
    if not parts:
        return ""
    left = label_room([name for name, _ in parts])
    scale = Linear(max(part.high_pj for _, part in parts) or 1.0, left, WIDTH - 100)
    drawing = Drawing(WIDTH, 30.0 + 30 * len(parts), "energy by part")
    entries = [("used constant", colour(0)), ("range of the published ones", "var(--fore)")]
    drawing.legend(entries, left, 14, WIDTH - RIGHT)
    for index, (name, part) in enumerate(parts):
        y = 28.0 + 30 * index
        title = f"{name}: {energy(part.energy_pj)}, {energy(part.low_pj)} to {energy(part.high_pj)}"
        drawing.text(left - 10, y + 14, name, "end")
        drawing.rectangle(left, y, scale(part.energy_pj) - left, 20, colour(0), title)
        _whisker(drawing, scale(part.low_pj), scale(part.high_pj), y + 10)
        drawing.text(scale(max(part.high_pj, part.energy_pj)) + 8, y + 14, energy(part.energy_pj))
    return drawing.render()


def _whisker(drawing: Drawing, low: float, high: float, y: float) -> None:
    if high - low < 0.5:
        return
    for x1, y1, x2, y2 in ((low, y, high, y), (low, y - 5, low, y + 5), (high, y - 5, high, y + 5)):
        drawing.line(x1, y1, x2, y2, "curve", "var(--fore)")


def streams_chart(result: ReplayResult) -> str:
    """Bytes useful and bytes fetched of each stream."""
    rows = [
        (name, stream.useful_bytes, stream.fetched_bytes, index)
        for index, (name, stream) in enumerate(result.streams.items())
    ]
    return useful_bars("bytes by stream", "useful, in the colour of the stream", rows)


PICTURES: tuple[tuple[str, Callable[[ReplayResult], str], str], ...] = (
    (
        "Bandwidth over time",
        bandwidth_chart,
        "Bytes over the pins, in whole bursts. Gaps: refreshes, turnarounds, conflicts, a source that sends nothing.",
    ),
    (
        "Bytes by stream, useful and fetched",
        streams_chart,
        "DRAM moves whole bursts: what is fetched beyond the useful bytes is the cost of scattered or ragged rows.",
    ),
    (
        "Row hits over time",
        hits_chart,
        "Bursts that are not the first one after an activation of their row, of all bursts.",
    ),
    (
        "Use of the channels",
        channels_chart,
        "The trace ends when the busiest channel does: bars of unequal height are lost bandwidth.",
    ),
    (
        "Use of the banks",
        banks_chart,
        "Rows are channels. Banks are in the order pseudo-channel, rank, stack id, bank group, bank.",
    ),
    (
        "Energy by part",
        energy_parts_chart,
        "Over the whole run; the constants with their sources are in the table below.",
    ),
)
