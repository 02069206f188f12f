"""Hugging Face folders with packed weights: `save_pretrained` writes them, `from_pretrained` builds packed layers.

A folder's config.json carries `quantization_config: {"quant_method": "sparsecore", ...}` with one entry a packed layer;
its safetensors files hold the stored tensors of docs/formats.md. transformers is not imported here: the quantizer is
registered when transformers is, or at once if it already was.
"""

from __future__ import annotations

from sparsecore.huggingface.attach import attach
from sparsecore.huggingface.registry import register_when_imported

__all__ = ["attach", "register_when_imported"]
