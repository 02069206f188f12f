"""BERT: encoder with post-norm layers (transformers.models.bert)."""

from __future__ import annotations

from sparsecore.models.family import Family

__all__ = ["BERT"]

BERT = Family(
    name="bert",
    inputs=("input_ids", "attention_mask", "token_type_ids", "position_ids", "inputs_embeds"),
    encoder="encoder",
    layers="layer",
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    attention_out="attention.output.dense",
    attention_block="attention.output",
    up="intermediate.dense",
    down="output.dense",
    up_block="intermediate",
    down_block="output",
    norms=("attention.output.LayerNorm", "output.LayerNorm"),
    residual_norms=("attention.output.LayerNorm", "output.LayerNorm"),
    embeddings="embeddings",
    summed_embeddings=3,
    prefixes=("", "bert."),
)
