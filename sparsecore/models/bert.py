"""BERT: encoder with post-norm layers (transformers.models.bert)."""

from __future__ import annotations

from sparsecore.models.block import Block
from sparsecore.models.family import Family

__all__ = ["BERT", "BLOCKS"]

BERT = Family(
    name="bert",
    inputs=("input_ids", "attention_mask", "token_type_ids", "position_ids", "inputs_embeds"),
    encoder="encoder",
    layers="layer",
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    attention_out="attention.output.dense",
    up="intermediate.dense",
    down="output.dense",
    attention_norm="attention.output.LayerNorm",
    output_norm="output.LayerNorm",
    embeddings="embeddings",
    summed_embeddings=3,
    word_embeddings="embeddings.word_embeddings",
    pooler="pooler.dense",
    table_rows={
        "vocab_size": "embeddings.word_embeddings",
        "max_position_embeddings": "embeddings.position_embeddings",
        "type_vocab_size": "embeddings.token_type_embeddings",
    },
    prefixes=("", "bert."),
)

_BLOCK = Block(
    layers="encoder.layer",
    attention="attention.self",
    queries=BERT.query,
    keys=BERT.key,
    values=BERT.value,
    out=BERT.attention_out,
    up=(BERT.up,),
    down=BERT.down,
    activation="intermediate.intermediate_act_fn",
    head_dim="attention_head_size",
    heads=("num_attention_heads",),
    widths=("all_head_size",),
    pre_norm=False,
)

BLOCKS = dict.fromkeys(("bert", "electra", "roberta", "xlm-roberta"), _BLOCK)
