"""The workload of a model of known sizes, under the schedule and the lengths that were asked for."""

from __future__ import annotations

from typing import TypeAlias

from simulator.errors import InvalidValueError
from simulator.workload.build import Pattern, build, element_bits
from simulator.workload.families import family_named
from simulator.workload.ir import ModelInfo, Workload
from simulator.workload.request import ReadRequest
from simulator.workload.schedule import default_schedule, load_schedule

__all__ = ["Patterns", "from_sizes"]

Patterns: TypeAlias = dict[tuple[int | None, str], Pattern] | None

# SpAtten's evaluation: BERT on sequences of mostly fewer than 100 tokens, GPT-2 generating 32 tokens after 992.
_ENCODER_LENGTH = 128
_DECODER_LENGTHS = (992, 32)


def from_sizes(
    info: ModelInfo,
    request: ReadRequest,
    name: str,
    source: str,
    patterns: Patterns,
    lengths: tuple[int, int] | None = None,
) -> Workload:
    """Return the workload of a model of these sizes under the schedule and the lengths of `request`.

    Parameters
    ----------
    patterns: sparsity of the linear layers by (layer, name), None where there are no weights.
    lengths: default prompt length and number of generated tokens; None: those of the family.
    """
    try:
        element_bits(info.dtype)
    except InvalidValueError as error:
        raise InvalidValueError(error.what, where=source, expected=error.expected) from error
    schedule = default_schedule(info.family) if request.schedule is None else load_schedule(request.schedule)
    if lengths is None:
        family = family_named(info.family)
        lengths = (family.length or _ENCODER_LENGTH, 0) if family.encoder else _DECODER_LENGTHS
    seq_len = lengths[0] if request.seq_len is None else request.seq_len
    generate = lengths[1] if request.generate is None else request.generate
    return build(info, schedule, seq_len, request.batch, generate, name=name, source=source, patterns=patterns)
