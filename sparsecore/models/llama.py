"""Llama and the families with its layers: pre-norm, gated feed-forward part, grouped heads, rotary positions."""

from __future__ import annotations

from sparsecore.models.block import Block

__all__ = ["BLOCKS"]

_LLAMA = Block(
    layers="layers",
    attention="self_attn",
    queries="self_attn.q_proj",
    keys="self_attn.k_proj",
    values="self_attn.v_proj",
    out="self_attn.o_proj",
    up=("mlp.gate_proj", "mlp.up_proj"),
    down="mlp.down_proj",
    activation="mlp.act_fn",
    head_dim="head_dim",
    groups=("num_key_value_groups",),
    per_layer=("layer_types",),
    layer_index=("self_attn",),
    config_heads="num_attention_heads",
    config_kv_heads="num_key_value_heads",
)

BLOCKS = dict.fromkeys(("llama", "mistral", "qwen2", "qwen3"), _LLAMA)
