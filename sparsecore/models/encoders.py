"""Encoders whose sequences may shrink between their layers.

Each of their layers is called with the hidden states first and passes unknown keyword arguments on to its attention,
which goes through transformers' AttentionInterface.
"""

from __future__ import annotations

__all__ = ["ENCODERS"]

# By config.model_type; sparsecore.models.blocks says where their parts are.
ENCODERS = ("bert", "distilbert", "electra", "roberta", "vit", "xlm-roberta")
