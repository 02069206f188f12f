"""Which tokens a layer computed or read, as SVG: layer by layer as in the paper's figure, by steps, or in a text."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

__all__ = ["passage_svg", "reading_svg", "sentence_svg"]

_CHARACTER, _GAP, _LINE, _LABEL = 7.25, 9.0, 24.0, 92.0  # a character of 12 px in a font of one width
_WIDTH = 1012.0


def sentence_svg(tokens: Sequence[str], survived: Sequence[int], layers: int) -> str:
    """Draw one line of tokens a layer: those that the layer computed, and faint dots where a pruned one stood.

    tokens: of one sequence, in order. survived: how many layers, from the first, computed each.
    """
    lefts, x = [], _LABEL
    for token in tokens:
        lefts.append(x)
        x += _width(token) + _GAP
    parts = []
    for layer in range(layers):
        y = _LINE * (layer + 1)
        kept = sum(count > layer for count in survived)
        parts.append(f'<text class="axis" x="0" y="{y:.0f}">layer {layer}: {kept}</text>')
        for token, left, count in zip(tokens, lefts, survived, strict=True):
            middle = left + _width(token) / 2
            if count > layer:
                parts.append(_text(token, middle, y, 'text-anchor="middle"', bold=count == layers))
            else:
                parts.append(f'<circle cx="{middle:.1f}" cy="{y - 4:.1f}" r="1.5" fill="var(--faint)"/>')
    return _svg(max(x, _WIDTH), _LINE * (layers + 0.6), parts)


def passage_svg(tokens: Sequence[str], shares: Sequence[float], notes: Sequence[str]) -> str:
    """Draw a long text once: the larger the share of a token, from 0 to 1, the stronger its background.

    notes: what is shown where one points at a token.
    """
    parts, x, y = [], 0.0, _LINE
    for token, share, note in zip(tokens, shares, notes, strict=True):
        width = _width(token)
        if x + width + 4 > _WIDTH:
            x, y = 0.0, y + _LINE
        parts.append(
            f'<rect x="{x:.1f}" y="{y - 15:.1f}" width="{width + 4:.1f}" height="19" rx="3" fill="var(--c0)" '
            f'fill-opacity="{0.55 * share**2:.2f}"><title>{escape(token)}: {escape(note)}</title></rect>'
        )
        parts.append(_text(token, x + 2, y, f'fill-opacity="{0.4 + 0.6 * share:.2f}"'))
        x += width + 6
    return _svg(_WIDTH, y + 10, parts)


def reading_svg(reads: Sequence[Sequence[Sequence[int]]], seen: Sequence[int], prompt: int) -> str:
    """Draw for each layer a line a step and a column a token, filled where the step read that row of the cache.

    reads: [layer][step], ascending ids of the tokens read. seen: tokens there were in each step; behind them there is
    nothing to draw. prompt: tokens of the prompt, whose end is marked.
    """
    cell, row = (_WIDTH - _LABEL) / seen[-1], 4.0
    height = row * len(seen)
    parts = []
    for layer, steps in enumerate(reads):
        top = layer * (height + 14) + 4
        share = sum(map(len, steps)) / sum(seen)
        parts.append(f'<text class="axis" x="0" y="{top + 12:.0f}">layer {layer}: {share:.0%}</text>')
        for step, (ids, count) in enumerate(zip(steps, seen, strict=True)):
            y = top + row * step
            parts.append(_bar(0, count, y, cell, row, "var(--faint)", 0.35))
            parts += [_bar(begin, end, y, cell, row, "var(--c0)", 0.9) for begin, end in _runs(ids)]
        x = _LABEL + prompt * cell
        parts.append(f'<path class="grid" d="M{x:.1f} {top - 3:.1f}V{top + height + 3:.1f}"/>')
    y = len(reads) * (height + 14) + 12
    parts.append(f'<text class="axis" x="{_LABEL:.0f}" y="{y:.0f}">the prompt</text>')
    parts.append(f'<text class="axis" x="{_WIDTH:.0f}" y="{y:.0f}" text-anchor="end">generated</text>')
    return _svg(_WIDTH, y + 8, parts)


def _bar(begin: int, end: int, y: float, cell: float, row: float, color: str, opacity: float) -> str:
    x, width = _LABEL + begin * cell, (end - begin) * cell
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{row - 0.6:.1f}" fill="{color}" '
        f'fill-opacity="{opacity}"/>'
    )


def _runs(ids: Sequence[int]) -> list[tuple[int, int]]:
    """Return the stretches of consecutive numbers, (first, behind the last)."""
    runs: list[tuple[int, int]] = []
    for number in ids:
        if runs and runs[-1][1] == number:
            runs[-1] = (runs[-1][0], number + 1)
        else:
            runs.append((number, number + 1))
    return runs


def _width(token: str) -> float:
    return max(len(token), 1) * _CHARACTER


def _text(token: str, x: float, y: float, more: str, bold: bool = False) -> str:
    style = "font-family: 'DejaVu Sans Mono', monospace" + ("; font-weight: 700" if bold else "")
    return f'<text x="{x:.1f}" y="{y:.1f}" style="{style}" {more}>{escape(token)}</text>'


def _svg(width: float, height: float, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" xmlns="http://www.w3.org/2000/svg" role="img">\n'
        + "\n".join(parts)
        + "\n</svg>"
    )
