"""The parts of a transformer layer that can be made smaller, for each model family, as data."""

from __future__ import annotations

from torch import nn

from sparsecore.errors import UnsupportedError
from sparsecore.models import bert, distilbert, gpt2, llama, vit
from sparsecore.models.block import Block

__all__ = ["BLOCKS", "Block", "block_of", "layers_of"]

_MODULES = (bert, distilbert, gpt2, llama, vit)
BLOCKS: dict[str, Block] = {name: block for module in _MODULES for name, block in module.BLOCKS.items()}


def block_of(model: nn.Module) -> Block:
    """Return the layer description of a Hugging Face model, by its `config.model_type`.

    Raises UnsupportedError for other models and for releases of transformers that name the parts differently.
    """
    kind = getattr(getattr(model, "config", None), "model_type", None)
    block = BLOCKS.get(kind) if isinstance(kind, str) else None
    if block is None:
        raise UnsupportedError(
            f"this kind of model is not supported: {type(model).__name__}"
            + (f" has model type {kind!r}" if kind else " has no Hugging Face config"),
            expected="a Hugging Face model of one of these types: " + ", ".join(sorted(BLOCKS)),
            hint="for plain chains of layers give example_inputs",
        )
    for layer in layers_of(model, block)[:1]:
        for path in block.paths:
            try:
                layer.get_submodule(path)
            except AttributeError as error:
                raise UnsupportedError(
                    f"this release of transformers has no {path!r} in a {type(layer).__name__}",
                    where=str(kind),
                    expected="transformers as named in the documentation",
                ) from error
    return block


def layers_of(model: nn.Module, block: Block) -> nn.ModuleList:
    """Return the list of layers of a Hugging Face model, with or without a head."""
    body: nn.Module = getattr(model, "base_model", model)
    found = body.get_submodule(block.layers)
    if not isinstance(found, nn.ModuleList):
        raise UnsupportedError(f"{block.layers!r} is a {type(found).__name__}", expected="a list of layers")
    return found
