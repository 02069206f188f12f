"""GPT-2: decoder with pre-norm layers of Conv1D (transformers.models.gpt2)."""

from __future__ import annotations

from sparsecore.models.block import Block

__all__ = ["BLOCKS"]

BLOCKS = {
    "gpt2": Block(
        layers="h",
        attention="attn",
        queries="attn.c_attn",
        keys="attn.c_attn",
        values="attn.c_attn",
        out="attn.c_proj",
        up=("mlp.c_fc",),
        down="mlp.c_proj",
        activation="mlp.act",
        head_dim="head_dim",
        heads=("num_heads",),
        widths=("split_size",),
        layer_counts=("n_layer",),
        layer_index=("attn",),
        config_neurons="n_inner",
    )
}
