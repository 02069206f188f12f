"""ViT: image encoder with pre-norm layers (transformers.models.vit)."""

from __future__ import annotations

from sparsecore.models.block import Block

__all__ = ["BLOCKS"]

BLOCKS = {
    "vit": Block(
        layers="layers",
        attention="attention",
        queries="attention.q_proj",
        keys="attention.k_proj",
        values="attention.v_proj",
        out="attention.o_proj",
        up=("mlp.fc1",),
        down="mlp.fc2",
        activation="mlp.activation_fn",
        head_dim="head_dim",
        heads=("num_attention_heads",),
        widths=("all_head_size",),
    )
}
