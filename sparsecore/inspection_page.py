"""An inspected checkpoint as one HTML file: bytes, expected speed and a map of each weight, and the table beneath."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence
from html import escape

from simulator.files import write_atomic
from simulator.report.data_table import DataTable
from simulator.report.page import Section, html_document, section_html
from simulator.report.svg import Drawing, Linear, Log, colour, text_width
from simulator.report.text import bytes_text
from sparsecore.inspection import TOKENS, Inspection, Line

__all__ = ["inspection_page", "write_inspection"]

_WIDTH = 1010
_MOST_BARS, _MOST_MAPS = 48, 25
_BAR, _GAP = 13, 9
_MAP, _MAPS_A_ROW = 178, 5
_LEVELS = 6  # shades of a map


def write_inspection(inspection: Inspection, path: str | os.PathLike[str]) -> None:
    """Write the page to `path`, atomically; it needs no network. Raises as `simulator.files.write_atomic` does."""
    write_atomic(path, inspection_page(inspection))


def inspection_page(inspection: Inspection) -> str:
    """Return the page as text."""
    weights = [line for line in inspection.lines if line.picture]
    sections = [
        _section("Bytes", _bytes_chart(_largest(weights, _MOST_BARS)), _shown(weights, _MOST_BARS, "weights")),
        _section(
            "Expected speed on this machine",
            _speed_chart([line for line in _largest(weights, _MOST_BARS) if _known(line)]),
            "Time of the dense layer over time of the packed one, predicted from the calibration of this machine. "
            "Right of the line at 1, packed is faster.",
        ),
        _section(
            "Where the values are",
            _maps(_largest([line for line in weights if line.density < 1], _MOST_MAPS)),
            "Each weight from above, outputs down, inputs across: the darker a cell, the more of its values are not "
            f"zero. {_shown([line for line in weights if line.density < 1], _MOST_MAPS, 'weights with zeros')}",
        ),
        section_html(Section("Every tensor", tables=(_table(inspection.lines),))),
    ]
    return html_document(f"What is in {inspection.source}", [_head(inspection), *sections, _foot()])


def _head(inspection: Inspection) -> str:
    version = f", format {inspection.version}" if inspection.version else ""
    sparse = [line for line in inspection.lines if line.picture and line.density < 1]
    cards = {
        "In the file": (inspection.file_bytes, f"{len(inspection.lines)} tensors"),
        "All dense": (inspection.dense_bytes, f"{len(sparse)} weights with zeros"),
        "All packed": (inspection.packed_bytes, _share(inspection.packed_bytes, inspection.dense_bytes) + " of dense"),
    }
    boxes = "".join(_card(name, said, bytes_text(size)) for name, (size, said) in cards.items())
    notes = "".join(f'<p class="banner assumed">{escape(note)}</p>' for note in inspection.notes)
    source = f'<h1>{escape(inspection.source)}</h1>\n<p class="muted">{escape(inspection.kind + version)}</p>'
    return f'{source}\n{notes}<div class="cards">{boxes}</div>'


def _card(name: str, said: str, size: str) -> str:
    body = f"<dl><dt>{escape(said)}</dt><dd>{escape(size)}</dd></dl>"
    return f'<div class="card"><b>{escape(name)}</b>{body}</div>'


def _foot() -> str:
    said = "Speeds are predictions, not measurements: sparsecore bench measures. This file needs no network."
    return f"<footer>{said}</footer>"


def _section(title: str, picture: str, caption: str) -> str:
    if not picture:
        return ""
    return f"<h2>{escape(title)}</h2>\n<figure>{picture}<figcaption>{escape(caption)}</figcaption></figure>"


def _largest(lines: Sequence[Line], count: int) -> list[Line]:
    """The largest ones, in the order of the file."""
    chosen = {line.name for line in sorted(lines, key=lambda line: -line.dense_bytes)[:count]}
    return [line for line in lines if line.name in chosen]


def _shown(lines: Sequence[Line], most: int, what: str) -> str:
    return f"The {most} largest of {len(lines)} {what}." if len(lines) > most else f"All {len(lines)} {what}."


def _known(line: Line) -> bool:
    return any(ratio.kind != "unknown" for ratio in line.ratios)


def _label_room(lines: Sequence[Line]) -> float:
    return min(max(text_width(line.name) for line in lines) + 12, _WIDTH * 0.45)


def _bytes_chart(lines: Sequence[Line]) -> str:
    """Two bars a weight: dense, and packed or as it stays."""
    if not lines:
        return ""
    left, top = _label_room(lines), 30.0
    step = 2 * _BAR + _GAP
    drawing = Drawing(_WIDTH, top + step * len(lines) + 26, "Bytes of each weight, dense and packed")
    scale = Linear(max(line.dense_bytes for line in lines), left, _WIDTH - 90)
    drawing.legend([("dense", "var(--faint)"), ("packed", colour(0))], left, 14, _WIDTH)
    bottom = top + step * len(lines)
    for tick in scale.ticks():
        drawing.line(scale(tick), top - 6, scale(tick), bottom)
        drawing.text(scale(tick), bottom + 16, bytes_text(tick), "middle", "tick")
    for index, line in enumerate(lines):
        y = top + step * index
        drawing.text(left - 8, y + _BAR + 4, _shortened(line.name, left), "end")
        drawing.rectangle(left, y, scale(line.dense_bytes) - left, _BAR, "var(--faint)", bytes_text(line.dense_bytes))
        end = scale(line.packed_bytes)
        drawing.rectangle(left, y + _BAR, end - left, _BAR, colour(0), f"{line.found}: {bytes_text(line.packed_bytes)}")
        drawing.text(end + 6, y + 2 * _BAR - 2, _share(line.packed_bytes, line.dense_bytes), style="tick")
    return drawing.render()


def _speed_chart(lines: Sequence[Line]) -> str:
    """A dot for each number of tokens of each weight, on a logarithmic scale."""
    if not lines:
        return ""
    left, top, step = _label_room(lines), 36.0, 22.0
    ratios = [ratio.ratio for line in lines for ratio in line.ratios if ratio.kind != "unknown"]
    scale = Log.around([*ratios, 1.0], left + 10, _WIDTH - 30)
    bottom = top + step * len(lines)
    drawing = Drawing(_WIDTH, bottom + 26, "Predicted speed of each packed weight against dense")
    colours = {count: colour(index) for index, count in enumerate(TOKENS)}
    names = [(f"{count} token{'s' * (count > 1)}", fill) for count, fill in colours.items()]
    drawing.legend(names, left, 14, _WIDTH)
    for tick in scale.ticks():
        drawing.line(scale(tick), top - 10, scale(tick), bottom - 4)
        drawing.text(scale(tick), bottom + 14, f"{tick:g}x", "middle", "tick")
    drawing.line(scale(1.0), top - 10, scale(1.0), bottom - 4, "drop", "var(--fore)")
    for index, line in enumerate(lines):
        y = top + step * index + 4
        drawing.text(left - 8, y + 4, _shortened(line.name, left), "end")
        for ratio in line.ratios:
            if ratio.kind != "unknown":
                said = f"{line.name}: {ratio.ratio:.2f}x at {ratio.tokens} tokens"
                drawing.dot(scale(ratio.ratio), y, colours.get(ratio.tokens, colour(0)), said)
    return drawing.render()


def _maps(lines: Sequence[Line]) -> str:
    if not lines:
        return ""
    across, down = _WIDTH / _MAPS_A_ROW, _MAP + 52
    rows = -(-len(lines) // _MAPS_A_ROW)
    drawing = Drawing(_WIDTH, rows * down, "Maps of the weights")
    for index, line in enumerate(lines):
        x, y = index % _MAPS_A_ROW * across, index // _MAPS_A_ROW * down
        _map(drawing, line, x, y)
        drawing.text(x, y + _MAP + 16, _shortened(line.name.removesuffix(".weight"), across - 6))
        drawing.text(
            x, y + _MAP + 32, textwrap.shorten(line.found, _fitting(across - 6), placeholder=" …"), style="tick"
        )
    return drawing.render()


def _map(drawing: Drawing, line: Line, x: float, y: float) -> None:
    """Cells of equal shade that lie side by side are one run; runs of one shade are one path."""
    high, wide = _MAP / len(line.picture), _MAP / len(line.picture[0])
    runs: dict[int, list[str]] = {}
    for row, shares in enumerate(line.picture):
        levels = [-(-share * (_LEVELS - 1) // 1) for share in shares]  # only a cell without any value stays white
        start = 0
        for end in range(1, len(levels) + 1):
            if end == len(levels) or levels[end] != levels[start]:
                if levels[start]:
                    place = f"M{x + start * wide:.2f},{y + row * high:.2f}"
                    box = f"h{(end - start) * wide:.2f}v{high:.2f}h-{(end - start) * wide:.2f}z"
                    runs.setdefault(int(levels[start]), []).append(place + box)
                start = end
    drawing.rectangle(x, y, _MAP, _MAP, "var(--panel)", f"{line.name}: {line.found}, density {line.density:.1%}")
    for level, parts in sorted(runs.items()):
        shade = f"fill:{colour(0)};fill-opacity:{level / (_LEVELS - 1):.2f};pointer-events:none"
        drawing.parts.append(f'<path d="{"".join(parts)}" style="{shade}" shape-rendering="crispEdges"/>')
    drawing.frame(x, y, _MAP, _MAP)


def _shortened(name: str, room: float) -> str:
    """The end of a name tells more than its start."""
    most = _fitting(room)
    return name if len(name) <= most else "…" + name[len(name) - most + 1 :]


def _fitting(room: float) -> int:
    """Characters of a label that fit."""
    return int((room - 10) / text_width("x"))


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "-"


def _table(lines: Sequence[Line]) -> DataTable:
    columns = ("tensor", "shape", "type", "found", "density", "dense", "packed", "speed", "verdict")
    counts = ", ".join(map(str, TOKENS))
    note = f"Speed: predicted, against dense, at {counts} tokens."
    return DataTable("", columns, tuple(_row(line) for line in lines), note, align="llllrrrrl")


def _row(line: Line) -> tuple[str, ...]:
    shape = "\N{NO-BREAK SPACE}x\N{NO-BREAK SPACE}".join(map(str, line.shape)) or "scalar"
    speeds = [f"{ratio.ratio:.2f}" for ratio in line.ratios if ratio.kind != "unknown"]
    found = f"{line.found}, packed in the file" if line.state == "packed" else line.found
    sizes = (f"{line.density:.1%}", bytes_text(line.dense_bytes), bytes_text(line.packed_bytes))
    return (line.name, shape, line.dtype, found, *sizes, " / ".join(speeds) or "-", line.verdict)
