"""The BERT family of transformers: encoders with the post-norm layer of BERT."""

from __future__ import annotations

from sparsecore.models.family import EncoderLayer, Family

__all__ = ["BERT"]

BERT = Family(
    name="bert",
    model_types=("bert", "roberta", "xlm-roberta", "camembert"),
    base=("bert", "roberta"),
    embeddings="embeddings",
    pooler="pooler",
    layers="encoder.layer",
    layer=EncoderLayer(
        attention="attention.self",
        heads="num_attention_heads",
        query="attention.self.query",
        key="attention.self.key",
        value="attention.self.value",
        attention_out="attention.output.dense",
        attention_norm="attention.output.LayerNorm",
        ffn_in="intermediate.dense",
        ffn_out="output.dense",
        ffn_norm="output.LayerNorm",
    ),
)
