"""Decoders that cascade pruning is applied to, by `config.model_type`; where their parts are is in `models.blocks`."""

from __future__ import annotations

__all__ = ["DECODERS"]

DECODERS = ("gpt2", "llama", "mistral", "qwen2", "qwen3")
