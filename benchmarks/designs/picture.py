"""Error against energy, one panel a model, one line a design, as one SVG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from simulator.report.svg import Drawing, Log

COLOURS = ("#1b6ca8", "#e07b39", "#3a9d5d", "#b33951", "#7d5ba6")
PANEL, HEIGHT, LEFT, TOP, BOTTOM = 460.0, 420.0, 64.0, 72.0, 52.0
STYLE = """<style>
.grid{stroke:#ddd;stroke-width:1}.curve{fill:none;stroke-width:2}.whisker{stroke-width:1}
text{font:12px sans-serif;fill:#222}.title{font-size:14px;font-weight:600}.tick{font-size:11px;fill:#555}
</style>"""


def draw(results: list[dict[str, Any]], folder: Path) -> None:
    """Write error_energy.svg into `folder`."""
    designs = list(dict.fromkeys(point["design"] for result in results for point in result["points"]))
    colours = dict(zip(designs, COLOURS))
    drawing = Drawing(PANEL * len(results), HEIGHT, "output error against energy of attention, by design")
    drawing.legend([(name, colours[name]) for name in designs], LEFT, 22, drawing.width - 20)
    for index, result in enumerate(results):
        _panel(drawing, result, PANEL * index, colours)
    body = drawing.render().replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    start = body.index(">") + 1
    paper = f'<rect width="{drawing.width:.0f}" height="{HEIGHT:.0f}" fill="#fff"/>'
    (folder / "error_energy.svg").write_text(body[:start] + STYLE + paper + body[start:] + "\n", encoding="utf-8")


def _panel(drawing: Drawing, result: dict[str, Any], left: float, colours: dict[str, str]) -> None:
    points = result["points"]
    bottom, right = HEIGHT - BOTTOM, left + PANEL - 18
    x = Log.around([1e3 * joules for point in points for joules in point["joules"]], left + LEFT, right)
    y = Log.around([point["error"] for point in points], bottom, TOP)
    for tick in x.ticks():
        drawing.line(x(tick), TOP, x(tick), bottom)
        drawing.text(x(tick), bottom + 16, f"{tick:g}", "middle", "tick")
    for tick in y.ticks():
        drawing.line(left + LEFT, y(tick), right, y(tick))
        drawing.text(left + LEFT - 6, y(tick) + 4, f"{100 * tick:g} %", "end", "tick")
    drawing.text(left + LEFT, TOP - 12, result["model"], "start", "title")
    drawing.text((left + LEFT + right) / 2, bottom + 38, "energy of attention, mJ", "middle")
    drawing.vertical_text(left + 14, (TOP + bottom) / 2, "error of the model's output")
    for name, colour in colours.items():
        own = sorted((p for p in points if p["design"] == name), key=lambda p: p["joules"][0])
        if not own:
            continue
        drawing.path([(x(1e3 * p["joules"][0]), y(p["error"])) for p in own], colour)
        for point in own:
            energy, low, high = (1e3 * joules for joules in point["joules"])
            drawing.line(x(low), y(point["error"]), x(high), y(point["error"]), "whisker", colour)
            said = f"{name}, {point['knob']} {point['value']:g}: {energy:.3g} mJ, {100 * point['error']:.2g} %"
            drawing.dot(x(energy), y(point["error"]), colour, said)
