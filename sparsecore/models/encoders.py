"""Encoders whose sequences may shrink between their layers.

Each of their layers is called with the hidden states first and passes unknown keyword arguments on to its attention,
which goes through transformers' AttentionInterface.
"""

from __future__ import annotations

from sparsecore.models.block import Block
from sparsecore.models.blocks import BLOCKS

__all__ = ["ENCODERS"]

ENCODERS: dict[str, Block] = {name: BLOCKS[name] for name in ("bert", "roberta", "vit")}
