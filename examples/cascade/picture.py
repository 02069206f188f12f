"""Which tokens survived each layer, as SVG: a sentence layer by layer, as in the paper's figure, or a passage once."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

__all__ = ["passage_svg", "sentence_svg"]

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


def passage_svg(tokens: Sequence[str], survived: Sequence[int], layers: int) -> str:
    """Draw a long text once: the more layers computed a token, the stronger its background."""
    parts, x, y = [], 0.0, _LINE
    for token, count in zip(tokens, survived, strict=True):
        width = _width(token)
        if x + width + 4 > _WIDTH:
            x, y = 0.0, y + _LINE
        share = count / layers
        parts.append(
            f'<rect x="{x:.1f}" y="{y - 15:.1f}" width="{width + 4:.1f}" height="19" rx="3" fill="var(--c0)" '
            f'fill-opacity="{0.55 * share**2:.2f}"><title>{escape(token)}: {count} of {layers} layers</title></rect>'
        )
        parts.append(_text(token, x + 2, y, f'fill-opacity="{0.4 + 0.6 * share:.2f}"'))
        x += width + 6
    return _svg(_WIDTH, y + 10, parts)


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
