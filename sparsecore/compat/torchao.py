"""torchao.sparsity's entry points under their own names: change the import, keep the call.

    from sparsecore.compat.torchao import sparsify_, semi_sparse_weight
    sparsify_(model, semi_sparse_weight(), filter_fn)

As there, every layer that the filter lets through is converted, whether that is faster or not; `sparsecore.sparsify`
converts only what pays. Unlike there, a weight that does not have the pattern is refused instead of computed wrongly,
and the layer itself is replaced (by a SparseLinear), not its weight.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from sparsecore.errors import InvalidValueError, NamedError
from sparsecore.huggingface import attach
from sparsecore.nn import SparseLinear
from sparsecore.nn.weights import named_for
from sparsecore.patterns import NM, Block, Pattern
from sparsecore.prune.one_shot import one_shot

__all__ = [
    "BlockSparseWeightConfig",
    "SemiSparseWeightConfig",
    "apply_fake_sparsity",
    "block_sparse_weight",
    "semi_sparse_weight",
    "sparsify_",
]

FilterFn = Callable[[nn.Module, str], bool]


@dataclass(frozen=True)
class SemiSparseWeightConfig:
    """2:4 weights. `alg_id` chose a kernel of cuSPARSELt; it is accepted and means nothing here."""

    alg_id: int = 0

    @property
    def pattern(self) -> Pattern:
        """The pattern that weights must have."""
        return NM(2, 4)


@dataclass(frozen=True)
class BlockSparseWeightConfig:
    """Weights with blocks of zeros, `blocksize` x `blocksize`."""

    blocksize: int = 64

    @property
    def pattern(self) -> Pattern:
        """The pattern that weights must have."""
        return Block(self.blocksize, self.blocksize)


semi_sparse_weight = SemiSparseWeightConfig
block_sparse_weight = BlockSparseWeightConfig


def sparsify_(
    model: nn.Module,
    config: SemiSparseWeightConfig | BlockSparseWeightConfig,
    filter_fn: FilterFn | None = None,
) -> nn.Module:
    """Replace in place every layer that `filter_fn(module, name)` chooses, by default each nn.Linear; return the model.

    A `model` that is itself such a layer is returned converted. All layers are packed before the first is replaced.

    Raises
    ------
    InvalidValueError: `config` is none of this module's.
    PatternError: a chosen weight does not have the pattern; the message names the layer.
    UnsupportedError: a chosen module is no linear layer.
    """
    if not isinstance(config, SemiSparseWeightConfig | BlockSparseWeightConfig):
        raise InvalidValueError(
            f"no configuration: {config!r}",
            where="sparsify_(config=)",
            expected="semi_sparse_weight() or block_sparse_weight(blocksize) of sparsecore.compat.torchao",
        )
    chosen = filter_fn or _is_linear
    made = {
        name: _packed(module, name, config.pattern) for name, module in model.named_modules() if chosen(module, name)
    }
    if "" in made:
        return made[""]
    for name, layer in made.items():
        model.set_submodule(name, layer)
    attach(model)
    return model


def apply_fake_sparsity(model: nn.Module, *, filter_fn: FilterFn | None = None) -> None:
    """Set two of every four weights of the chosen layers to zero, those of least magnitude; nothing is packed."""
    one_shot(model, "magnitude", pattern="2:4", filter_fn=filter_fn or _is_linear)


def _is_linear(module: nn.Module, name: str) -> bool:
    return isinstance(module, nn.Linear)


def _packed(module: nn.Module, name: str, pattern: Pattern) -> SparseLinear:
    try:
        return SparseLinear.from_dense(module, pattern)
    except NamedError as error:
        raise named_for(error, name or type(module).__name__) from error
