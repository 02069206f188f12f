"""Lets `save_pretrained` of a model with packed layers write them."""

from __future__ import annotations

import sys

from torch import nn

__all__ = ["attach"]


def attach(model: nn.Module) -> None:
    """Give every transformers model in `model` the quantizer that saves packed layers; others are left alone.

    Does nothing where transformers was never imported: then there is no such model.
    """
    modeling = sys.modules.get("transformers.modeling_utils")
    if modeling is None:
        return
    from sparsecore.huggingface.config import SparsecoreConfig
    from sparsecore.huggingface.quantizer import SparsecoreQuantizer

    for module in model.modules():
        if isinstance(module, modeling.PreTrainedModel) and getattr(module, "hf_quantizer", None) is None:
            module.hf_quantizer = SparsecoreQuantizer(SparsecoreConfig(), pre_quantized=True)
