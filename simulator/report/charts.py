"""The pictures of the HTML report."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from simulator.report.svg import COLOURS, Drawing, Linear, Log, colour, text_width
from simulator.report.text import bytes_text, energy, percent, rate, seconds, si
from simulator.result import LayerResult, Result

__all__ = [
    "BOTTOM",
    "LEFT",
    "RIGHT",
    "TOP",
    "WIDTH",
    "axes",
    "bytes_chart",
    "energy_chart",
    "heads_chart",
    "label_room",
    "roofline",
    "short",
    "shared_scopes",
    "time_chart",
    "tokens_chart",
    "useful_bars",
]

WIDTH = 860.0
LEFT, RIGHT, TOP, BOTTOM = 70.0, 20.0, 40.0, 44.0


def tokens_chart(results: Sequence[Result]) -> str:
    """Tokens of the input and tokens kept, per layer."""
    return _kept_chart(results, "tokens", lambda layer: layer.tokens_mean, lambda layer: layer.context_mean)


def heads_chart(results: Sequence[Result]) -> str:
    """Heads kept per layer."""
    heads = results[0].model.heads
    return _kept_chart(results, "heads", lambda layer: layer.heads_mean, lambda layer: heads)


def _kept_chart(
    results: Sequence[Result],
    what: str,
    kept: Callable[[LayerResult], float | None],
    of: Callable[[LayerResult], float | None],
) -> str:
    series = [(result.design, _attention_layers(result)) for result in results]
    all_of = [of(layer) or 0.0 for layer in series[0][1]]
    groups = [("before pruning", "var(--faint)", all_of)]
    seen: dict[tuple[float, ...], int] = {}
    for index, (design, layers) in enumerate(series):
        values = tuple(kept(layer) or 0.0 for layer in layers)
        if values in seen:  # designs that keep the same share one bar
            old = groups[seen[values]]
            groups[seen[values]] = (f"{old[0]}, {design}", old[1], old[2])
        else:
            seen[values] = len(groups)
            groups.append((f"kept on {design}", colour(index), list(values)))
    names = [str(layer.layer) for layer in series[0][1]]
    return _grouped_bars(f"{what} per layer", names, groups, lambda value: f"{value:g}", "layer", f"mean {what}")


def time_chart(results: Sequence[Result]) -> str:
    """Time of the attention of each layer, by design."""
    layers = [_attention_layers(result) for result in results]
    groups = [
        (result.design, colour(index), [layer.time_s or 0.0 for layer in layers[index]])
        for index, result in enumerate(results)
    ]
    names = [str(layer.layer) for layer in layers[0]]
    return _grouped_bars("attention time per layer", names, groups, seconds, "layer", "time of the attention")


def _attention_layers(result: Result) -> list[LayerResult]:
    return [layer for layer in result.layers if layer.scope == "attention" and layer.layer is not None]


def _grouped_bars(
    label: str,
    names: Sequence[str],
    groups: Sequence[tuple[str, str, Sequence[float]]],
    shown: Callable[[float], str],
    x_title: str,
    y_title: str,
) -> str:
    """Vertical bars, one group per name and one bar per (series, colour, values)."""
    drawing = Drawing(WIDTH, 300, label)
    y = axes(drawing, max((max(values, default=0.0) for _, _, values in groups), default=0.0), shown, x_title, y_title)
    drawing.legend([(name, fill) for name, fill, _ in groups], LEFT, 16, WIDTH - RIGHT)
    slot = (WIDTH - RIGHT - LEFT) / max(len(names), 1)
    bar = slot * 0.8 / max(len(groups), 1)
    every = -(-len(names) * 26 // int(WIDTH - LEFT - RIGHT))  # labels must not touch
    for position, name in enumerate(names):
        x = LEFT + slot * (position + 0.1)
        for index, (series, fill, values) in enumerate(groups):
            if position < len(values):
                top = y(values[position])
                title = f"{x_title} {name}, {series}: {shown(values[position])}"
                drawing.rectangle(x + index * bar, top, bar * 0.94, y(0) - top, fill, title)
        if position % max(every, 1) == 0:
            drawing.text(LEFT + slot * (position + 0.5), y(0) + 16, name, "middle", "tick")
    return drawing.render()


def axes(drawing: Drawing, top: float, shown: Callable[[float], str], x_title: str, y_title: str) -> Linear:
    """Add titles and a grid from 0 to `top`; return the scale of the values. X is left to the caller."""
    bottom = drawing.height - BOTTOM
    scale = Linear(top or 1.0, bottom, TOP)
    for tick in scale.ticks():
        drawing.line(LEFT, scale(tick), drawing.width - RIGHT, scale(tick))
        drawing.text(LEFT - 8, scale(tick) + 4, short(shown(tick)), "end", "tick")
    drawing.text((LEFT + drawing.width - RIGHT) / 2, drawing.height - 8, x_title, "middle", "axis")
    drawing.vertical_text(12, (bottom + TOP) / 2, y_title)
    return scale


def short(number: str) -> str:
    """A tick needs no trailing zeros: "2.00 µs" is "2 µs"."""
    return re.sub(r"\.0+(?=\D|$)", "", number)


def shared_scopes(results: Sequence[Result]) -> tuple[str, ...]:
    """Return the scopes that every design ran itself: pictures that add up energy or bytes compare only these."""
    names = ("attention", "linear", "other")
    return tuple(name for name in names if all(result.scopes[name].modelled_by == "design" for result in results))


def energy_chart(results: Sequence[Result]) -> str:
    """Energy by component: one stacked bar per design; parts that are small on every design are put together."""
    scopes = shared_scopes(results)
    parts = [_components(result, scopes) for result in results]
    names = _main_components(results, parts)
    left, height = label_room([result.design for result in results]), 34.0
    scale = Linear(max((sum(part.values()) for part in parts), default=0.0) or 1.0, left, WIDTH - 90)
    drawing = Drawing(WIDTH, 0, "energy by component")
    y = drawing.legend([(name, colour(i)) for i, name in enumerate(names)], left, 16, WIDTH - RIGHT) + 6
    for result, part in zip(results, parts, strict=True):
        total, x = sum(part.values()), 0.0
        drawing.text(left - 10, y + height / 2 + 4, result.design, "end")
        for index, name in enumerate(names):
            rest = sum(pj for other, pj in part.items() if other not in names) if name == _REST else 0.0
            pj = part.get(name, rest)
            share = percent(pj / total if total else 0.0)
            start, end = scale(x), scale(x + pj)
            title = f"{result.design}, {name}: {energy(pj)} ({share})"
            drawing.rectangle(start, y, end - start, height, colour(index), title)
            if end - start > text_width(share) + 8:
                drawing.text((start + end) / 2, y + height / 2 + 4, share, "middle", "inside")
            x += pj
        drawing.text(scale(x) + 8, y + height / 2 + 4, energy(total))
        y += height + 12
    drawing.height = y + 4
    return drawing.render()


_REST = "all others"


def _components(result: Result, scopes: Sequence[str]) -> dict[str, float]:
    """Return the energy of each component in `scopes`, in pJ; all of it where the result does not split it."""
    return {
        name: sum(item.by_scope.get(scope, 0.0) for scope in scopes) if item.by_scope else item.energy_pj
        for name, item in result.energy.items()
    }


def _main_components(results: Sequence[Result], parts: Sequence[dict[str, float]]) -> list[str]:
    """Return the largest components, by group and then by size, and a last entry for the others if there are any."""
    share: dict[str, float] = {}
    group: dict[str, str] = {}
    for result, part in zip(results, parts, strict=True):
        for name, pj in part.items():
            share[name] = max(share.get(name, 0.0), pj / (sum(part.values()) or 1.0))
            group[name] = result.energy[name].group
    largest = sorted((name for name in share if share[name] > 0), key=lambda name: -share[name])
    chosen = largest if len(largest) <= COLOURS else largest[: COLOURS - 1]
    ordered = sorted(chosen, key=lambda name: (("dram", "sram", "logic").index(group[name]), -share[name]))
    return ordered if chosen is largest else [*ordered, _REST]


def label_room(labels: Sequence[str]) -> float:
    """Return the pixels that labels to the left of a picture take."""
    return max([60.0, *(text_width(label) + 16 for label in labels)])


def bytes_chart(results: Sequence[Result]) -> str:
    """DRAM bytes by source: fetched, and the useful part of it."""
    several = len(results) > 1
    rows = [
        (f"{result.design}: {name}" if several else name, stream.useful_bytes, stream.fetched_bytes, index)
        for index, result in enumerate(results)
        for name, stream in result.streams.items()
        if stream.fetched_bytes and (not stream.scopes or set(stream.scopes) & set(shared_scopes(results)))
    ]
    return useful_bars("DRAM bytes by source", "useful, in the colour of the design", rows)


def useful_bars(label: str, useful_text: str, rows: Sequence[tuple[str, int, int, int]]) -> str:
    """One bar per (name, useful bytes, fetched bytes, colour index): the useful part in front of the fetched."""
    left = label_room([row[0] for row in rows])
    top = max((max(row[1:3]) for row in rows), default=0)
    scale = Linear(top or 1.0, left, WIDTH - 180)
    drawing = Drawing(WIDTH, 40.0 + 26 * len(rows), label)
    drawing.legend([(useful_text, colour(0)), ("fetched, not useful", "var(--faint)")], left, 16, WIDTH - RIGHT)
    for row, (name, useful, fetched, index) in enumerate(rows):
        y = 32.0 + 26 * row
        drawing.text(left - 10, y + 13, name, "end")
        title = f"{name}: {bytes_text(useful)} useful of {bytes_text(fetched)} fetched"
        drawing.rectangle(left, y, scale(fetched) - left, 18, "var(--faint)", title)
        drawing.rectangle(left, y, scale(useful) - left, 18, colour(index), title)
        drawing.text(scale(max(useful, fetched)) + 8, y + 13, f"{bytes_text(useful)} of {bytes_text(fetched)}")
    return drawing.render()


def roofline(results: Sequence[Result]) -> str:
    """Attention on each design: achieved against attainable operations per second, by operations per byte fetched.

    Empty where no design gives its roofs.
    """
    points = [point for index, result in enumerate(results) if (point := _point(index, result)) is not None]
    if not points:
        return ""
    bottom = 360.0
    ridges = [peak / bandwidth for _, _, _, _, peak, bandwidth in points]
    x = Log.around([intensity for _, _, intensity, _, _, _ in points] + ridges, LEFT, WIDTH - RIGHT)
    lowest = [min(point[4], x.low * point[5]) for point in points]
    y = Log.around([point[3] for point in points] + [point[4] for point in points] + [max(lowest)], bottom, TOP + 10)
    drawing = Drawing(WIDTH, 410, "roofline of the attention")
    _roofline_axes(drawing, x, y, bottom)
    drawing.legend([(f"{name}, roof and run", colour(i)) for i, name, *_ in points], LEFT, 16, WIDTH - RIGHT)
    above = 0.0
    for index, name, intensity, achieved, peak, bandwidth in sorted(points, key=lambda point: -point[3]):
        ridge = peak / bandwidth
        start = max(x.low, y.low / bandwidth)
        roof = [(x(start), y(start * bandwidth)), (x(ridge), y(peak)), (x(x.high), y(peak))]
        drawing.path(roof, colour(index))
        said = f"{rate(peak, 'op/s')} at {rate(bandwidth, 'B/s')}"
        drawing.text(x(ridge) + 6, y(peak) - 7, said, "start", "tick halo")
        attainable = min(peak, intensity * bandwidth)
        drawing.line(x(intensity), y(achieved), x(intensity), y(attainable), "drop", colour(index))
        said = f"{name}: {rate(achieved, 'op/s')}, {percent(achieved / attainable)} of attainable"
        drawing.dot(x(intensity), y(achieved), colour(index), said, 5)
        # Below the dot, clear of the roof; from the highest point down, so that two labels never share a line.
        above = max(y(achieved) + 20, above + 16)
        _beside(drawing, x(intensity), above, said)
    return drawing.render()


def _point(index: int, result: Result) -> tuple[int, str, float, float, float, float] | None:
    """Return (colour, name, operations per byte, achieved, peak, bandwidth), rates in 1e9 per second."""
    scope = result.scopes["attention"]
    if not (result.peak_gops and result.peak_gbps and scope.time_s and scope.dram_fetched_bytes and scope.operations):
        return None
    achieved = scope.operations / scope.time_s / 1e9
    return (
        index,
        result.design,
        scope.operations / scope.dram_fetched_bytes,
        achieved,
        result.peak_gops,
        result.peak_gbps,
    )


def _beside(drawing: Drawing, x: float, y: float, content: str) -> None:
    """Write to the right of a point, or to its left where the right has no room."""
    room = drawing.width - RIGHT - x - 10 > text_width(content)
    drawing.text(x + 10 if room else x - 10, y, content, "start" if room else "end", "label halo")


def _roofline_axes(drawing: Drawing, x: Log, y: Log, bottom: float) -> None:
    for tick in x.ticks():
        drawing.line(x(tick), TOP, x(tick), bottom)
        drawing.text(x(tick), bottom + 16, f"{tick:g}", "middle", "tick")
    for tick in y.ticks():
        drawing.line(LEFT, y(tick), WIDTH - RIGHT, y(tick))
        drawing.text(LEFT - 8, y(tick) + 4, short(si(tick * 1e9, "")).rstrip(), "end", "tick")
    drawing.text((LEFT + WIDTH - RIGHT) / 2, bottom + 36, "operations per byte fetched", "middle", "axis")
    drawing.vertical_text(12, (bottom + TOP) / 2, "operations per second")
