"""Sizes of a Hugging Face model, as the simulator wants them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from simulator.workload.ir import ModelInfo

if TYPE_CHECKING:
    from torch import nn

__all__ = ["ModelInfo", "dtype_name", "model_info"]

_NAMES = {torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16", torch.float64: "f64"}


def dtype_name(dtype: torch.dtype) -> str:
    """Return the short name of an element type: "f32", "bf16", ..."""
    return _NAMES.get(dtype, str(dtype).removeprefix("torch."))


def model_info(model: nn.Module, family: str) -> ModelInfo:
    """Return the sizes of `model` from its Hugging Face config; packed weights count with their dense size."""
    config: Any = model.config
    heads = config.num_attention_heads
    floating = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.get_default_dtype())
    return ModelInfo(
        family=family,
        layers=config.num_hidden_layers,
        heads=heads,
        kv_heads=getattr(config, "num_key_value_heads", None) or heads,
        head_dim=getattr(config, "head_dim", None) or config.hidden_size // heads,
        hidden=config.hidden_size,
        intermediate=_intermediate(config),
        vocab=getattr(config, "vocab_size", 0),
        parameters=_parameters(model),
        dtype=dtype_name(floating),
    )


def _intermediate(config: Any) -> int:
    """Return the width of the feed-forward part; GPT-2 leaves it open where it is four times the hidden size."""
    if config.model_type == "gpt2":
        return int(config.n_inner or 4 * config.n_embd)
    return int(config.hidden_dim if config.model_type == "distilbert" else config.intermediate_size)


def _parameters(model: nn.Module) -> int:
    total, seen = 0, set()
    for module in model.modules():
        packed = getattr(module, "weight_shape", None)  # a SparseLinear, whose weight is no parameter
        total += math.prod(packed) if packed else 0
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) not in seen and not (packed and name == "weight"):
                seen.add(id(parameter))
                total += parameter.numel()
    return total
