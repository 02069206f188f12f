"""DistilBERT: encoder with post-norm layers, without token types and pooler (transformers.models.distilbert)."""

from __future__ import annotations

from sparsecore.models.block import Block
from sparsecore.models.family import Family

__all__ = ["BLOCKS", "DISTILBERT"]

DISTILBERT = Family(
    name="distilbert",
    inputs=("input_ids", "attention_mask", "inputs_embeds", "position_ids"),
    encoder="transformer",
    layers="layer",
    query="attention.q_lin",
    key="attention.k_lin",
    value="attention.v_lin",
    attention_out="attention.out_lin",
    up="ffn.lin1",
    down="ffn.lin2",
    attention_norm="sa_layer_norm",
    output_norm="output_layer_norm",
    embeddings="embeddings",
    summed_embeddings=2,
    word_embeddings="embeddings.word_embeddings",
    pooler="",
    table_rows={
        "vocab_size": "embeddings.word_embeddings",
        "max_position_embeddings": "embeddings.position_embeddings",
    },
    prefixes=("", "distilbert."),
)

BLOCKS = {
    "distilbert": Block(
        layers="transformer.layer",
        attention="attention",
        queries=DISTILBERT.query,
        keys=DISTILBERT.key,
        values=DISTILBERT.value,
        out=DISTILBERT.attention_out,
        up=(DISTILBERT.up,),
        down=DISTILBERT.down,
        activation="ffn.activation",
        head_dim="attention_head_size",
        heads=("n_heads",),
        widths=("dim",),
        pre_norm=False,
        layer_counts=("n_layers",),
        config_neurons="hidden_dim",
    )
}
