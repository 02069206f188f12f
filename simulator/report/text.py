"""Numbers as people read them: three digits and a prefix."""

from __future__ import annotations

import math

__all__ = ["area", "bytes_text", "count", "energy", "number", "percent", "rate", "ratio", "seconds", "si"]

_PREFIXES = {-15: "f", -12: "p", -9: "n", -6: "µ", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T", 15: "P", 18: "E"}
NOT_MEASURED = "–"


def si(value: float | None, unit: str) -> str:
    """Return for example "1.23 ms"; None, which stands for "not modelled", as a dash."""
    if value is None:
        return NOT_MEASURED
    if value == 0 or not math.isfinite(value):
        return f"{value:g} {unit}"
    # Rounded to three digits first, so that 999.9 becomes "1.00 k" and not "1000".
    rounded = float(f"{value:.3g}")
    power = min(18, max(-15, math.floor(math.log10(abs(rounded)) / 3) * 3))
    return f"{_digits(rounded / 10.0**power)} {_PREFIXES[power]}{unit}"


def _digits(value: float) -> str:
    whole = len(str(int(abs(value) + 1e-9)))
    return f"{value:.{max(0, 3 - whole)}f}"


def number(value: float | None) -> str:
    """Return a plain number with at most one decimal."""
    if value is None:
        return NOT_MEASURED
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"


def count(value: float | None) -> str:
    """Return a count: in full below 100,000, else with a prefix."""
    if value is None:
        return NOT_MEASURED
    return f"{value:,.0f}" if abs(value) < 100_000 else si(value, "").rstrip()


def seconds(value: float | None) -> str:
    """Return a time."""
    return si(value, "s")


def energy(pj: float | None) -> str:
    """Return an energy given in picojoules."""
    return si(None if pj is None else pj * 1e-12, "J")


def area(mm2: float) -> str:
    """Return an area in square millimetres."""
    return f"{mm2:.3g} mm2"


def bytes_text(value: float | None) -> str:
    """Return a size in powers of 1000."""
    if value is not None and abs(value) < 1000:
        return f"{value:.0f} B"
    return si(value, "B")


def rate(value: float | None, unit: str) -> str:
    """Return a rate given in 1e9 per second, such as GB/s."""
    return si(None if value is None else value * 1e9, unit)


def percent(value: float | None) -> str:
    """Return a share."""
    if value is None:
        return NOT_MEASURED
    if 0 < value < 0.0005:
        return "<0.1 %"
    return f"{100 * value:.1f} %" if 0 < abs(value) < 0.9995 else f"{100 * value:.0f} %"


def ratio(value: float | None) -> str:
    """Return a factor such as "2.35x", a small one with two digits: "0.0028x"."""
    if value is None:
        return NOT_MEASURED
    return f"{value:.2g}x" if 0 < value < 0.1 else f"{value:.2f}x"
