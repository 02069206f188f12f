"""DistilBERT: encoder with post-norm layers, without token types and pooler (transformers.models.distilbert)."""

from __future__ import annotations

from sparsecore.models.block import Block

__all__ = ["BLOCKS"]

BLOCKS = {
    "distilbert": Block(
        layers="transformer.layer",
        attention="attention",
        queries="attention.q_lin",
        keys="attention.k_lin",
        values="attention.v_lin",
        out="attention.out_lin",
        up=("ffn.lin1",),
        down="ffn.lin2",
        activation="ffn.activation",
        head_dim="attention_head_size",
        heads=("n_heads",),
        widths=("dim",),
        pre_norm=False,
        layer_counts=("n_layers",),
        config_neurons="hidden_dim",
    )
}
