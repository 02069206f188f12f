"""The quantizer that transformers' `from_pretrained` and `save_pretrained` call for `quant_method: sparsecore`.

Loading: before the files are read, the layers that config.json lists are replaced by slots for their stored tensors,
on the meta device; transformers fills those shard by shard; afterwards each becomes a SparseLinear and its slots are
freed. No dense weight is ever made. Saving: the state dict of a model with packed layers holds the stored tensors
already, and config.json is brought up to date.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers.quantizers.auto import register_quantizer
from transformers.quantizers.base import HfQuantizer

from sparsecore.errors import CorruptFileError, UnsupportedError
from sparsecore.huggingface.config import SparsecoreConfig
from sparsecore.huggingface.layers import METHOD, LayerEntry, StoredSlots
from sparsecore.models import is_conv1d
from sparsecore.nn import SparseLinear
from sparsecore.nn.dense import dense_layer

__all__ = ["SparsecoreQuantizer"]


@register_quantizer(METHOD)
class SparsecoreQuantizer(HfQuantizer):
    """Builds and writes packed layers; it does not prune: use `sparsecore.prune` and `sparsecore.sparsify`."""

    requires_calibration = True  # nothing can be packed on the fly from a dense folder

    quantization_config: SparsecoreConfig

    def __init__(self, quantization_config: SparsecoreConfig, **kwargs: Any) -> None:
        super().__init__(quantization_config, **kwargs)

    def _process_model_before_weight_loading(self, model: nn.Module, **_: Any) -> None:
        prefix = f"{getattr(model, 'base_model_prefix', '')}."
        modules = dict(model.named_modules())
        entries = self.quantization_config.entries()
        if not entries:  # transformers would fill the weights with random values and warn
            raise CorruptFileError(
                "config.json lists no packed layer",
                where="quantization_config: modules",
                expected="an entry for each",
                hint="sparsecore.load reads the files without it",
            )
        for name, entry in entries.items():
            # The folder of a bare model may be read into one with a head, and the other way round.
            for found in (name, prefix + name, name.removeprefix(prefix)):
                if found in modules:
                    model.set_submodule(found, _slots(modules[found], entry, found))
                    break

    def _process_model_after_weight_loading(self, model: nn.Module, **_: Any) -> nn.Module:
        for name, module in list(model.named_modules()):
            if isinstance(module, StoredSlots):
                model.set_submodule(name, module.packed(name).train(module.training))
        # transformers refuses .half() and .float() of what it calls quantized; packed layers follow both.
        model.__dict__["is_quantized"] = False
        return model

    def get_state_dict_and_metadata(self, model: nn.Module) -> tuple[None, dict[str, str]]:
        """Bring config.json up to date with the layers of `model`; its own state dict is what is saved."""
        refresh(model)
        return None, {}

    def _dequantize(self, model: nn.Module, dtype: torch.dtype | str | None = None) -> nn.Module:
        kind = getattr(torch, dtype) if isinstance(dtype, str) else dtype  # config.dtype may be a name
        for name, module in list(model.named_modules()):
            if isinstance(module, SparseLinear):
                model.set_submodule(name, dense_layer(module, kind))
        return model

    def is_serializable(self) -> bool:
        """Packed layers are saved as they are."""
        return True

    @property
    def is_trainable(self) -> bool:
        """Biases and dense layers are; packed weights only through a gradient leaf."""
        return True

    @property
    def is_compileable(self) -> bool:
        """torch.compile traces packed layers without a graph break."""
        return True


def refresh(model: nn.Module) -> None:
    """Set the quantization_config of a transformers model to what its layers are now; none where nothing is packed."""
    config: Any = model.config
    described = SparsecoreConfig.of(model)
    if described.modules:
        config.quantization_config = described
    elif hasattr(config, "quantization_config"):
        del config.quantization_config


def _slots(module: nn.Module, entry: LayerEntry, name: str) -> StoredSlots:
    transposed = is_conv1d(module)
    if not (transposed or isinstance(module, nn.Linear)) or transposed != entry.module.transposed:
        raise UnsupportedError(
            f"config.json lists a packed layer where the model has a {type(module).__name__}",
            where=name,
            expected="transformers' Conv1D" if entry.module.transposed else "an nn.Linear",
        )
    weight: torch.Tensor = module.weight  # type: ignore[assignment]
    shape = tuple(weight.t().shape if transposed else weight.shape)
    if shape != entry.module.shape:
        raise UnsupportedError(
            f"config.json lists a packed weight of {list(entry.module.shape)}", where=name, expected=str(list(shape))
        )
    bias: nn.Parameter | None = module.bias  # type: ignore[assignment]
    return StoredSlots(entry, bias, weight.dtype)
