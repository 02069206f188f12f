"""The `quantization_config` of a Hugging Face folder with packed weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from transformers.quantizers.auto import register_quantization_config
from transformers.utils.quantization_config import QuantizationConfigMixin

from simulator.files import check_version
from sparsecore.errors import CorruptFileError
from sparsecore.huggingface.layers import FORMAT_VERSION, METHOD, LayerEntry
from sparsecore.nn import SparseLinear

__all__ = ["SparsecoreConfig"]


@register_quantization_config(METHOD)
class SparsecoreConfig(QuantizationConfigMixin):
    """Which layers of a model are packed, and how.

    Parameters
    ----------
    modules: for each packed layer, by its name in the model that was saved: pattern ("2:4"), shape [out_features,
        in_features], dtype, transposed (the layer is a Conv1D) and the shapes and types of its stored tensors.
    version: of this entry; a newer major version is refused.

    Raises FormatVersionError and CorruptFileError for entries that cannot be understood.
    """

    def __init__(self, modules: Mapping[str, Any] | None = None, version: str = FORMAT_VERSION, **_: Any) -> None:
        where = "config.json: quantization_config"
        check_version(version, FORMAT_VERSION, where)
        self.quant_method = METHOD  # type: ignore[assignment]
        self.version = version
        if not isinstance(modules, Mapping | None):
            raise CorruptFileError("the packed layers are not listed by name", where=where, expected="modules: {...}")
        # Plain values only: transformers writes and copies what is here.
        self.modules = {
            name: LayerEntry.from_json(entry, f"{where}: {name}").to_json() for name, entry in (modules or {}).items()
        }

    @classmethod
    def of(cls, model: nn.Module) -> SparsecoreConfig:
        """Describe the packed layers of `model` as they are now."""
        config = cls()
        for name, layer in model.named_modules():
            if isinstance(layer, SparseLinear):
                config.modules[name] = LayerEntry.of(layer).to_json()
        return config

    def entries(self) -> dict[str, LayerEntry]:
        """The packed layers by name."""
        return {
            name: LayerEntry.from_json(entry, f"quantization_config: {name}") for name, entry in self.modules.items()
        }
