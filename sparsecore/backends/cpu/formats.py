"""Pack, unpack and validate the stored forms with the compiled module; the meaning is in `reference.formats`."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sparsecore.backends.reference.formats import code_bits, uses_codes
from sparsecore.native import Span, core, span
from sparsecore.patterns import NM, Block, Pattern

__all__ = ["pack", "unpack", "validate"]


def pack(dense: Tensor, pattern: Pattern) -> dict[str, Tensor]:
    """See `reference.formats.pack`."""
    dense = dense.contiguous()
    rows, cols = dense.shape
    if isinstance(pattern, Block):
        count = core.block_count(span(dense), *pattern.sizes)
        stored = {
            "blocks": dense.new_empty(count, *pattern.sizes),
            "block_cols": torch.empty(count, dtype=torch.int32),
            "block_row_offsets": torch.empty(-(-rows // pattern.rows) + 1, dtype=torch.int64),
        }
        core.block_pack(span(dense), *pattern.sizes, *(span(tensor) for tensor in stored.values()))
        return stored
    bitmask = torch.empty(rows, -(-cols // 8), dtype=torch.uint8)
    if isinstance(pattern, NM):
        compressed = dense.new_empty(rows, pattern.kept_per_row(cols))
        core.nm_pack(span(dense), *pattern.sizes, span(compressed), span(bitmask))
        if not uses_codes(pattern):
            return {"compressed": compressed, "bitmask": bitmask}
        codes = torch.empty(rows, -(-compressed.shape[1] * code_bits(pattern.m) // 8), dtype=torch.uint8)
        core.nm_bitmask_to_codes(span(bitmask), cols, *pattern.sizes, span(codes))
        return {"compressed": compressed, "codes": codes}
    stored = {
        "compressed": dense.new_empty(core.bitmask_count(span(dense))),
        "bitmask": bitmask,
        "row_offsets": torch.empty(rows, dtype=torch.int64),
    }
    core.bitmask_pack(span(dense), *(span(tensor) for tensor in stored.values()))
    return stored


def unpack(pattern: Pattern, shape: tuple[int, int], tensors: Mapping[str, Tensor]) -> Tensor:
    """See `reference.formats.unpack`."""
    if isinstance(pattern, Block):
        dense = tensors["blocks"].new_empty(shape)
        core.block_unpack(*_block_spans(tensors), span(dense))
        return dense
    dense = tensors["compressed"].new_empty(shape)
    if isinstance(pattern, NM):
        bitmask = _bitmask(pattern, shape, tensors)  # a span does not keep its tensor alive
        core.nm_unpack(span(tensors["compressed"]), span(bitmask), *pattern.sizes, span(dense))
        return dense
    core.bitmask_unpack(*_bitmask_spans(tensors), span(dense))
    return dense


def validate(pattern: Pattern, shape: tuple[int, int], tensors: Mapping[str, Tensor]) -> None:
    """See `reference.formats.validate`."""
    if isinstance(pattern, Block):
        core.block_validate(*_block_spans(tensors), *shape)
    elif not isinstance(pattern, NM):
        core.bitmask_validate(*_bitmask_spans(tensors), shape[1])
    elif "codes" in tensors:
        core.nm_validate_codes(span(tensors["codes"]), shape[1], *pattern.sizes)
    else:
        core.nm_validate(span(tensors["bitmask"]), shape[1], *pattern.sizes)


def _bitmask(pattern: NM, shape: tuple[int, int], tensors: Mapping[str, Tensor]) -> Tensor:
    if "bitmask" in tensors:
        return tensors["bitmask"].contiguous()
    bitmask = torch.empty(shape[0], -(-shape[1] // 8), dtype=torch.uint8)
    core.nm_codes_to_bitmask(span(tensors["codes"]), shape[1], *pattern.sizes, span(bitmask))
    return bitmask


def _bitmask_spans(tensors: Mapping[str, Tensor]) -> tuple[Span, Span, Span]:
    return span(tensors["compressed"]), span(tensors["bitmask"]), span(tensors["row_offsets"])


def _block_spans(tensors: Mapping[str, Tensor]) -> tuple[Span, Span, Span]:
    return span(tensors["blocks"]), span(tensors["block_cols"]), span(tensors["block_row_offsets"])
