"""Small SVG pieces: scales with round ticks, text, legends. Colours are CSS variables of the page around them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

__all__ = ["COLOURS", "Drawing", "Linear", "Log", "colour", "text_width"]

COLOURS = 9  # --c0 .. --c8 of the page
_CHARACTER = 7.2  # mean width of a 12 px character: only for the room that labels need


def colour(index: int) -> str:
    """Return the CSS colour of a series; beyond the palette it starts again."""
    return f"var(--c{index % COLOURS})"


@dataclass(frozen=True, slots=True)
class Linear:
    """A linear scale from [0, top] to pixels [start, end]."""

    top: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the pixel of `value`."""
        return self.start + (self.end - self.start) * (value / self.top if self.top else 0.0)

    def ticks(self, count: int = 5) -> list[float]:
        """Return round values from 0 to the top."""
        if self.top <= 0:
            return [0.0]
        raw = self.top / count
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)
        return [step * i for i in range(int(self.top / step * 1.0001) + 1)]


@dataclass(frozen=True, slots=True)
class Log:
    """A logarithmic scale from [low, high], powers of ten, to pixels."""

    low: float
    high: float
    start: float
    end: float

    @staticmethod
    def around(values: Iterable[float], start: float, end: float) -> Log:
        """Return the scale whose decades hold all positive `values`, with some room to the next decade."""
        positive = [value for value in values if value > 0] or [1.0]
        low = 10.0 ** math.floor(math.log10(min(positive)) - 0.15)
        high = 10.0 ** math.ceil(math.log10(max(positive)) + 0.15)
        return Log(low, high, start, end)

    def __call__(self, value: float) -> float:
        """Return the pixel of `value`."""
        share = math.log10(value / self.low) / math.log10(self.high / self.low)
        return self.start + (self.end - self.start) * share

    def ticks(self) -> list[float]:
        """Return the powers of ten, at most about eight of them; for a short scale 2 and 5 times them as well."""
        first, last = round(math.log10(self.low)), round(math.log10(self.high))
        steps = (1, 2, 5) if last - first <= 2 else (1,)
        powers = range(first, last + 1, max(1, (last - first) // 8))
        return [step * 10.0**power for power in powers for step in steps if step * 10.0**power <= self.high * 1.001]


@dataclass(slots=True)
class Drawing:
    """An SVG picture under construction; every text is escaped."""

    width: float
    height: float
    label: str
    parts: list[str] = field(default_factory=list)

    def line(self, x1: float, y1: float, x2: float, y2: float, style: str = "grid", stroke: str = "") -> None:
        """Add a line; `style` is a class of the page's style sheet."""
        paint = f' style="stroke:{stroke}"' if stroke else ""
        self.parts.append(f'<line class="{style}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"{paint}/>')

    def path(self, points: Sequence[tuple[float, float]], stroke: str, style: str = "curve") -> None:
        """Add an open line through `points`."""
        moves = " ".join(f"{'L' if i else 'M'}{x:.1f},{y:.1f}" for i, (x, y) in enumerate(points))
        self.parts.append(f'<path class="{style}" d="{moves}" style="stroke:{stroke}"/>')

    def area(self, points: Sequence[tuple[float, float]], fill: str) -> None:
        """Add a filled polygon."""
        moves = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(f'<polygon points="{moves}" style="fill:{fill}"/>')

    def rectangle(
        self, x: float, y: float, width: float, height: float, fill: str, title: str = "", opacity: float = 1.0
    ) -> None:
        """Add a filled rectangle with a tooltip."""
        box = f'x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{max(height, 0):.1f}"'
        paint = f"fill:{fill}" + (f";fill-opacity:{opacity:.3f}" if opacity < 1 else "")
        self.parts.append(f'<rect {box} style="{paint}">{_title(title)}</rect>')

    def frame(self, x: float, y: float, width: float, height: float) -> None:
        """Add the outline of a rectangle."""
        box = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
        self.parts.append(f'<rect class="grid" {box} style="fill:none"/>')

    def dot(self, x: float, y: float, fill: str, title: str = "", radius: float = 4) -> None:
        """Add a filled circle with a tooltip."""
        self.parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" style="fill:{fill}">{_title(title)}</circle>'
        )

    def text(self, x: float, y: float, content: str, anchor: str = "start", style: str = "label") -> None:
        """Add a text; `anchor` is start, middle or end."""
        self.parts.append(
            f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(content)}</text>'
        )

    def vertical_text(self, x: float, y: float, content: str) -> None:
        """Add a text that reads upwards, centred on (x, y)."""
        turn = f'transform="rotate(-90 {x:.1f} {y:.1f})"'
        self.parts.append(
            f'<text class="axis" x="{x:.1f}" y="{y:.1f}" text-anchor="middle" {turn}>{escape(content)}</text>'
        )

    def legend(self, entries: Sequence[tuple[str, str]], x: float, y: float, right: float) -> float:
        """Add (text, colour) entries from (x, y), wrapping before `right`; return the y below them."""
        left = x
        for content, fill in entries:
            room = 18 + _CHARACTER * len(content)
            if x > left and x + room > right:
                x, y = left, y + 18
            self.rectangle(x, y - 9, 11, 11, fill)
            self.text(x + 16, y, content)
            x += room + 14
        return y + 18

    def render(self) -> str:
        """Return the picture as an <svg> element."""
        size = f'viewBox="0 0 {self.width:.0f} {self.height:.0f}"'
        body = "\n".join(self.parts)
        return f'<svg {size} role="img" aria-label="{escape(self.label, {chr(34): "&quot;"})}">\n{body}\n</svg>'


def _title(content: str) -> str:
    return f"<title>{escape(content)}</title>" if content else ""


def text_width(content: str) -> float:
    """Return about how wide a label is, in pixels."""
    return _CHARACTER * len(content)
