"""Address maps as bit strings, such as "r14 b2 c5 g2 p1 h3 o5", from the most to the least significant bit."""

from __future__ import annotations

import re
from collections.abc import Mapping

from simulator.errors import ConfigError

__all__ = ["FIELDS", "check_map", "log2", "map_text", "parse_map", "with_channel_bits"]

# Letter -> the field that the bit belongs to.
FIELDS = {
    "r": "row",
    "k": "rank",
    "s": "stack",
    "b": "bank",
    "g": "bank_group",
    "c": "column",
    "p": "pseudo_channel",
    "h": "channel",
    "o": "offset",
}
EXAMPLE = '"r14 b2 c5 g2 p1 h3 o5" or "rrrrrrrrrrrrrr bb ccccc gg p hhh ooooo"'
_MOST_BITS = 48
_TOKEN = re.compile(r"([A-Za-z])([0-9]{0,3})")

Slices = list[tuple[str, int]]


def log2(count: int) -> int | None:
    """Return the number of address bits of `count`, None where it is not a power of two."""
    return count.bit_length() - 1 if count > 0 and count & (count - 1) == 0 else None


def parse_map(text: str, where: str = "") -> Slices:
    """Return the map as (letter, bits), most significant first, neighbours of one field joined.

    Raises
    ------
    ConfigError: a character that is no field, or more bits than an address has.
    """
    slices: Slices = []
    compact = text.replace(" ", "").replace("_", "")
    position = 0
    while position < len(compact):
        match = _TOKEN.match(compact, position)
        if match is None or match[1] not in FIELDS:
            letters = ", ".join(f"{letter} {name.replace('_', ' ')}" for letter, name in FIELDS.items())
            problem = f"the address map has an unknown field {compact[position]!r}"
            raise ConfigError(problem, where=where, expected=f"letters of {letters}", hint=f"as in {EXAMPLE}")
        letter, bits = match[1], int(match[2]) if match[2] else 1
        if slices and slices[-1][0] == letter:
            slices[-1] = (letter, slices[-1][1] + bits)
        elif bits:
            slices.append((letter, bits))
        position = match.end()
    total = sum(bits for _, bits in slices)
    if not 0 < total <= _MOST_BITS:
        raise ConfigError(
            f"the address map has {total} bits",
            where=where,
            expected=f"1 to {_MOST_BITS} bits",
            hint=f"as in {EXAMPLE}",
        )
    return slices


def map_text(slices: Slices) -> str:
    """Return the bit string of `slices`, with counts."""
    return " ".join(f"{letter}{bits}" for letter, bits in slices)


def check_map(slices: Slices, counts: Mapping[str, int], where: str) -> None:
    """Check that every bit of every field is there once, and the offset inside a burst lowest.

    Parameters
    ----------
    counts: size by field name, each a power of two; "offset" is the burst in bytes.

    Raises
    ------
    ConfigError: a field with too few bits (its high part could not be reached) or too many (covered twice).
    """
    for letter, name in FIELDS.items():
        has = sum(bits for other, bits in slices if other == letter)
        needs = log2(counts[name]) or 0
        if has == needs:
            continue
        shown = name.replace("_", " ")
        what = "does not cover" if has < needs else "covers twice"
        size = "a burst of" if name == "offset" else "a count of"
        raise ConfigError(
            f"the address map {what} the {shown}: it has {has} bits '{letter}', {size} {counts[name]} needs {needs}",
            where=where,
            expected=f"{letter}{needs} in all, as one slice or several",
        )
    if counts["offset"] > 1 and slices[-1] != ("o", log2(counts["offset"])):
        raise ConfigError(
            "the offset inside a burst (o) is not the lowest part of the address map",
            where=where,
            expected=f'"... o{log2(counts["offset"])}"',
        )


def with_channel_bits(slices: Slices, channels: int) -> Slices:
    """Return `slices` for another number of channels: the highest channel bits leave, or new ones join above them.

    Where no channel bit exists, the new ones go right above the offset, so that neighbouring bursts differ in channel.
    """
    wanted = log2(channels)
    change = (wanted or 0) - sum(bits for letter, bits in slices if letter == "h")
    if wanted is None or change == 0:
        return list(slices)
    if not any(letter == "h" for letter, _ in slices):
        end = len(slices) - 1 if slices and slices[-1][0] == "o" else len(slices)
        return [*slices[:end], ("h", change), *slices[end:]]
    result: Slices = []
    for letter, bits in slices:
        if letter == "h" and change:
            step = max(change, -bits)
            bits, change = bits + step, change - step
        if bits:
            result.append((letter, bits))
    return result
