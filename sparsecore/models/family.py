"""What a model family is called by its authors: module paths as data, so that no other file holds such names."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from sparsecore.errors import UnsupportedError

__all__ = ["EncoderLayer", "Family", "child"]


@dataclass(frozen=True, slots=True)
class EncoderLayer:
    """Paths inside one encoder layer, relative to the layer module.

    `attention` is the module whose forward computes softmax(QK^T)V from the layer's hidden states; `query`, `key`,
    `value` and `attention_out` are its projections; `heads` is the name of the attribute of `attention` that holds the
    number of heads.
    """

    attention: str
    heads: str
    query: str
    key: str
    value: str
    attention_out: str
    attention_norm: str
    ffn_in: str
    ffn_out: str
    ffn_norm: str


@dataclass(frozen=True, slots=True)
class Family:
    """One family of models.

    `model_types` are the values of ``config.model_type`` that follow this layout; `base` the attributes under which the
    encoder sits inside models with a task head (the encoder itself has none of them); `layers` the path from the
    encoder to its list of layers; `embeddings` and `pooler` are paths from the encoder.
    """

    name: str
    model_types: tuple[str, ...]
    base: tuple[str, ...]
    embeddings: str
    pooler: str | None
    layers: str
    layer: EncoderLayer

    def encoder(self, model: nn.Module) -> nn.Module:
        """Return the encoder inside `model`, which may be the encoder itself or a model with a task head."""
        for name in self.base:
            inner = getattr(model, name, None)
            if isinstance(inner, nn.Module):
                return inner
        return model

    def layer_list(self, model: nn.Module) -> nn.ModuleList:
        """Return the list of layers of `model`; UnsupportedError where the model is built in another way."""
        found = child(self.encoder(model), self.layers)
        if not isinstance(found, nn.ModuleList):
            raise UnsupportedError(
                f"{type(model).__name__} has no list of layers at '{self.layers}'",
                where=type(model).__name__,
                expected=f"a model of the {self.name} family",
            )
        return found


def child(module: nn.Module, path: str) -> nn.Module | None:
    """Return the submodule at the dotted `path`, or None where there is none."""
    found: object = module
    for name in path.split("."):
        found = getattr(found, name, None)
    return found if isinstance(found, nn.Module) else None
