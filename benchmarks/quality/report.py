"""Tables and the picture of what encoder.py, decoder.py, flat_heads.py and selector_cost.py measured.

python benchmarks/quality/report.py          # prints Markdown; writes docs/pictures/cascade-quality.svg
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from results import RESULTS, load

from simulator.report.svg import Drawing, colour

PICTURE = Path(__file__).resolve().parents[2] / "docs" / "pictures" / "cascade-quality.svg"
STYLE = """<style>
svg { --c0: #2f6fb7; --c1: #d9792b; --c2: #2f9e77; --c3: #b9489a; --c4: #7a63c7; --c5: #b98b12; --c6: #c8504f;
  --c7: #4a97a8; --c8: #7d7f86; background: #ffffff }
text { font: 12px sans-serif; fill: #1d2330 } text.axis, text.tick { fill: #5d6675 }
.grid { stroke: #dfe3ea; stroke-width: 1 } .curve { fill: none; stroke-width: 2 } .drop { stroke-dasharray: 4 4 }
</style>"""
_MIXED = ("importance", "shape", "bits", "heads")  # parts whose names are not that of the part
Points = Sequence[dict[str, Any]]


def spread(values: Sequence[float], digits: int = 4) -> str:
    """Return one value, or the mean and the range of several seeds."""
    if not values:
        return "not measured"
    mean = sum(values) / len(values)
    if len(values) == 1:
        return f"{mean:.{digits}f}"
    return f"{mean:.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def grid(points: Points, key: str, digits: int = 4) -> str:
    """Return a Markdown table: a row a name, a column a value of x, in each cell `key`."""
    across = sorted({point["x"] for point in points}, reverse=True)
    names = list(dict.fromkeys(point["name"] for point in points))
    lines = ["| |" + "|".join(f" {x:g} " for x in across) + "|", "| --- |" + " ---: |" * len(across)]
    for name in names:
        cells = [[p[key] for p in points if p["name"] == name and p["x"] == x] for x in across]
        lines.append(f"| {name} | " + " | ".join(spread(cell, digits) for cell in cells) + " |")
    return "\n".join(lines)


def of_parts(found: dict[str, Any], start: str) -> list[dict[str, Any]]:
    """Return the points of all parts whose name begins so."""
    return [point for part, points in found["points"].items() if part.startswith(start) for point in points]


def head_groups(found: dict[str, Any]) -> str:
    """Return the table of flat and peaked heads."""
    lines = [
        "| heads | probability in the top values | error | with the guard | values read then |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for model, heads in found["points"].items():
        quarter = len(heads) // 4
        for name, group in (("flattest quarter", heads[:quarter]), ("most peaked quarter", heads[-quarter:])):
            mean = [sum(head[key] for head in group) / len(group) for key in ("mass", "error", "guarded", "read")]
            lines.append(f"| {model}, {name} | " + " | ".join(f"{value:.3f}" for value in mean) + " |")
    return "\n".join(lines)


def panel(
    drawing: Drawing, left: float, title: str, points: Points, key: str, bottom: float, top: float, mark: float
) -> None:
    """Draw `key` over the kept share, a line a name, a band over seeds, and a dashed line at `mark`."""
    width, high, low = 330.0, 46.0, 330.0
    shares = sorted({point["x"] for point in points}, reverse=True)
    places = {x: left + 50 + (width - 70) * i / max(1, len(shares) - 1) for i, x in enumerate(shares)}

    def up(value: float) -> float:
        return low - (low - high) * (min(max(value, bottom), top) - bottom) / (top - bottom)

    drawing.text(left + 50, 22, title)
    for i in range(6):
        value = bottom + (top - bottom) * i / 5
        drawing.line(left + 50, up(value), left + width - 20, up(value))
        drawing.text(left + 44, up(value) + 4, f"{value:.2f}", "end", "tick")
    drawing.line(left + 50, up(mark), left + width - 20, up(mark), "drop", "#1d2330")
    for x, place in places.items():
        drawing.text(place, low + 18, f"{x:.0%}", "middle", "tick")
    drawing.text(left + width / 2, low + 36, "tokens kept, mean over layers", "middle", "axis")
    for number, name in enumerate(dict.fromkeys(point["name"] for point in points)):
        values = {x: [p[key] for p in points if p["name"] == name and p["x"] == x] for x in shares}
        means = [(places[x], up(sum(v) / len(v))) for x, v in values.items() if v]
        if any(len(v) > 1 for v in values.values()):
            edge = [(places[x], up(max(v))) for x, v in values.items() if v]
            drawing.area([*edge, *((places[x], up(min(v))) for x, v in reversed(values.items()) if v)], "#7d7f8655")
        drawing.path(means, colour(number))
        for place, value in means:
            drawing.dot(place, value, colour(number), name, 3)
    entries = [(name, colour(i)) for i, name in enumerate(dict.fromkeys(point["name"] for point in points))]
    drawing.legend(entries, left + 50, low + 60, left + width)


def picture(encoder: Points, decoder: Points) -> str:
    """Return the picture as SVG: agreement of the encoder, perplexity of the decoder."""
    drawing = Drawing(720, 470, "Quality over kept tokens, a line for each selector")
    panel(drawing, 0, "all-MiniLM-L6-v2: agreement of embeddings", encoder, "agreement", 0.4, 1.0, 0.99)
    if decoder:
        top = max(point["ratio"] for point in decoder)
        panel(drawing, 360, "GPT-2: perplexity over dense", decoder, "ratio", 0.95, top + 0.05, 1.01)
    text = drawing.render().replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    return text.replace(">\n", f">\n{STYLE}\n", 1)


def show(title: str, lines: Iterable[str]) -> None:
    print(f"\n### {title}\n")
    for line in lines:
        print(line)


def main() -> None:
    encoder, decoder = load(RESULTS / "quality-encoder.json"), load(RESULTS / "quality-decoder.json")
    chosen = of_parts(encoder, "selectors")
    show("Encoder, agreement over kept tokens", [grid(chosen, "agreement", 3)])
    show("Encoder, neighbours that stay", [grid(chosen, "neighbours", 3)])
    for part in ("importance", "shape", "heads", "values", "value bits", "bits"):
        points = [
            p for p in of_parts(encoder, part.replace("value bits", "values")) if p["name"] == part or part in _MIXED
        ]
        show(f"Encoder, {part}", [grid(points, "agreement"), "", grid(points, "neighbours", 3)])
    for point in of_parts(encoder, "bar"):
        print(f"at the bar: {point}")
    show("Encoder, share of queries that took the low bits", [grid(of_parts(encoder, "bits"), "low", 3)])
    print(decoder["about"])
    for mode in ("select", "evict", "heads", "values", "bits"):
        points = of_parts(decoder, mode)
        show(f"Decoder, {mode}", [grid(points, "ratio"), "", grid(points, "same_token", 3)])
    show("Flat and peaked heads", [head_groups(load(RESULTS / "quality-heads.json"))])
    PICTURE.write_text(picture(chosen, of_parts(decoder, "select")) + "\n")


if __name__ == "__main__":
    main()
