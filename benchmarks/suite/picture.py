"""Draws a result as SVG: the ratio to F.linear (int8: to oneDNN) over the number of tokens, one line a row.

python benchmarks/suite/picture.py benchmarks/results/KEY.json docs/pictures/performance.svg
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

from table import geometric_mean, large

_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM, _LEGEND = 760, 400, 50, 40, 40, 190
_COLOURS = ("#1b6ca8", "#e07b39", "#3a9d5d", "#b33951", "#7d5ba6", "#8a6d3b", "#3b8ea5", "#c2549a", "#555555")
_TICKS = (0.5, 1, 2, 4, 8, 16)


def lines_of(result: dict[str, Any], threads: int) -> dict[str, list[tuple[int, float]]]:
    """Row -> (tokens, geometric mean of the ratio over the large shapes)."""
    found: dict[str, dict[int, list[float]]] = {}
    for point in result["points"]:
        ratio = point["prepacked"] if point["plain"] is None else point["plain"]
        if point["threads"] == threads and large(point) and ratio is not None:
            found.setdefault(point["row"], {}).setdefault(point["tokens"], []).append(ratio)
    return {row: [(t, geometric_mean(r)) for t, r in sorted(ratios.items())] for row, ratios in found.items()}


def svg(result: dict[str, Any]) -> str:
    threads = result["machine"]["threads"]
    lines = lines_of(result, threads)
    tokens = sorted({t for line in lines.values() for t, _ in line})
    low, high = math.log2(_TICKS[0]), math.log2(_TICKS[-1])
    plot_width, plot_height = _WIDTH - _LEFT - _LEGEND, _HEIGHT - _TOP - _BOTTOM

    def across(count: int) -> float:
        return _LEFT + plot_width * math.log2(count) / math.log2(tokens[-1])

    def up(ratio: float) -> float:
        share = (min(max(math.log2(ratio), low), high) - low) / (high - low)
        return _TOP + plot_height * (1 - share)

    right = _WIDTH - _LEGEND
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="sans-serif" font-size="11">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
        f'<text x="{_LEFT}" y="20" font-size="13">Speed against dense torch over tokens: {result["machine"]["cpu"]}, '
        f"{result['machine']['isa']}, {threads} threads</text>",
    ]
    for tick in _TICKS:
        width = 1.5 if tick == 1 else 0.5
        parts.append(f'<path d="M{_LEFT} {up(tick):.1f}H{right}" stroke="#999" stroke-width="{width}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{up(tick) + 4:.1f}" text-anchor="end">{tick:g}x</text>')
    for count in tokens:
        parts.append(f'<text x="{across(count):.1f}" y="{_HEIGHT - 20}" text-anchor="middle">{count}</text>')
    for index, (row, line) in enumerate(lines.items()):
        colour = _COLOURS[index % len(_COLOURS)]
        path = "L".join(f"{across(t):.1f} {up(ratio):.1f}" for t, ratio in line)
        parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        y = _TOP + 18 * index
        parts.append(f'<path d="M{right + 12} {y}h18" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{right + 36}" y="{y + 4}">{row}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(svg(json.loads(Path(sys.argv[1]).read_text())))
