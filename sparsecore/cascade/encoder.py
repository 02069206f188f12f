"""Cascade pruning of Hugging Face encoders: an attention implementation of transformers, and hooks on the layers."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from simulator.workload.ir import ModelInfo
from sparsecore.cascade.handle import Handle, switch_attention
from sparsecore.cascade.projections import NarrowProjections
from sparsecore.cascade.rules import Rules
from sparsecore.cascade.schedule import Schedule
from sparsecore.cascade.state import CascadeState
from sparsecore.errors import InvalidValueError, UnsupportedError
from sparsecore.models.block import Block
from sparsecore.models.blocks import block_of, layers_of

__all__ = ["EncoderHandle"]

# The state of a pass travels as a keyword argument through the model's own forward, so that nothing is global.
_KEYWORD = "cascade_state"
_IMPLEMENTATION = "sparsecore_cascade"
_REFUSED = ("encoder_hidden_states", "encoder_attention_mask", "past_key_values", "cache", "use_cache")
_OUTPUTS = ("output_attentions", "output_hidden_states")


class EncoderHandle(Handle):
    """Cascade pruning of an encoder."""

    def __init__(self, model: nn.Module, schedule: Schedule, **choices: Any) -> None:
        super().__init__(model, schedule)
        config: Any = self.body.config
        if getattr(config, "is_decoder", False) or getattr(config, "add_cross_attention", False):
            raise UnsupportedError("cascade pruning of a decoder is not supported", where="config.is_decoder")
        if getattr(config, "chunk_size_feed_forward", 0):
            raise UnsupportedError(
                "a feed-forward part in chunks needs sequences of fixed lengths",
                where="config.chunk_size_feed_forward",
                expected="0",
            )
        block = block_of(model)
        layers = layers_of(model, block)
        _check_heads(layers, block, self.info)
        self.rules = Rules.of(schedule, self.info.layers, self.info.heads, **choices)
        self.schedule = self.rules.schedule
        self._inputs = tuple(inspect.signature(type(self.body).forward).parameters)[1:]
        self._positions = _positions(self.body)
        self._narrow = NarrowProjections(layers, block, self.info.head_dim) if self.rules.narrows else None
        _register()
        self._configs = switch_attention(self.body, config, _IMPLEMENTATION)
        self._hooks = [
            self.body.register_forward_pre_hook(self._begin, with_kwargs=True),
            layers[0].register_forward_pre_hook(self._enter, with_kwargs=True),
            *(layer.register_forward_hook(self._leave, with_kwargs=True) for layer in layers),
            self.body.register_forward_hook(self._end, with_kwargs=True),
        ]
        if self._narrow is not None:
            for layer in layers:
                self._hooks += [
                    layer.register_forward_pre_hook(self._narrow_layer, with_kwargs=True),
                    layer.register_forward_hook(self._widen_layer, always_call=True),
                ]

    def remove(self) -> None:
        """Give the model its own forward back; the handle keeps `last_run`. A second call does nothing."""
        super().remove()
        if self._narrow is not None:
            self._narrow.remove()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A pickled model may be the first in its process."""
        _register()
        self.__dict__.update(state)

    def _begin(self, body: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        self._check_call(dict(zip(self._inputs, args, strict=False)) | kwargs)
        return args, kwargs | {_KEYWORD: CascadeState(self.rules)}

    def _enter(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        hidden, mask = args[0], args[1] if len(args) > 1 else kwargs.get("attention_mask")
        return (_state_of(kwargs).begin(hidden, mask), *args[1:]), kwargs

    def _leave(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:
        return _state_of(kwargs).advance(output)

    def _narrow_layer(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        assert self._narrow is not None
        self._narrow.enter(_state_of(kwargs).head_ids)

    def _widen_layer(self, layer: nn.Module, args: tuple[Any, ...], output: object) -> None:
        assert self._narrow is not None
        self._narrow.leave()

    def _end(self, body: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        self._last = state = _state_of(kwargs)
        if not isinstance(output, tuple):
            # An attribute, not an item: the tuple form of the output stays what callers know.
            output.keep_mask = state.keep_mask

    def _check_call(self, given: Mapping[str, Any]) -> None:
        if self.body.training:
            raise UnsupportedError("cascade pruning runs in eval mode only", hint="call model.eval() first")
        for name in _REFUSED:
            if given.get(name) is not None and given[name] is not False:
                raise UnsupportedError(f"{name} is not supported with cascade pruning", where=name)
        for name in _OUTPUTS:
            if given.get(name, getattr(self.body.config, name, False)):
                raise UnsupportedError(
                    f"{name} is not supported with cascade pruning: layers have different tokens",
                    where=name,
                    hint="use handle.last_run, or remove the handle for this call",
                )
        mask = given.get("attention_mask")
        if isinstance(mask, Tensor) and mask.dim() != 2:
            raise UnsupportedError(
                f"an attention mask of shape {tuple(mask.shape)} is not supported here",
                where="attention_mask",
                expected="[B, L]: which positions hold a token",
            )
        tokens = given.get("input_ids") if given.get("input_ids") is not None else given.get("inputs_embeds")
        if self._positions and isinstance(tokens, Tensor) and tokens.shape[1] > self._positions:
            raise InvalidValueError(
                f"a sequence of {tokens.shape[1]} positions", where="forward", expected=f"at most {self._positions}"
            )


def _state_of(kwargs: Mapping[str, Any]) -> CascadeState:
    state = kwargs.get(_KEYWORD)
    if not isinstance(state, CascadeState):
        raise UnsupportedError(
            "a part of the model was called by itself, without the model around it",
            hint="call the model, or remove the handle",
        )
    return state


def _check_heads(layers: nn.ModuleList, block: Block, info: ModelInfo) -> None:
    """Raise UnsupportedError where a layer has other heads than the config says, as after compaction."""
    for number, layer in enumerate(layers):
        width: Any = getattr(layer.get_submodule(block.queries), "out_features", None)
        if width != info.heads * info.head_dim:
            raise UnsupportedError(
                f"layer {number} has {width} query features",
                where=block.queries,
                expected=f"{info.heads} heads of {info.head_dim} in every layer",
            )


def _positions(body: nn.Module) -> int:
    """Return how many positions the table of learned ones has, 0 where there is none."""
    table = getattr(getattr(body, "embeddings", None), "position_embeddings", None)
    if not isinstance(table, nn.Embedding):
        return 0
    return table.num_embeddings - (0 if table.padding_idx is None else table.padding_idx + 1)


def _register() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(_IMPLEMENTATION, _attention)
    AttentionMaskInterface.register(_IMPLEMENTATION, _mask)


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention as transformers calls it: query, key, value [B, H, n, D] -> ([B, n, H, D], no probabilities)."""
    return _state_of(kwargs).attend(query, key, value, scaling).transpose(1, 2), None


def _mask(*, attention_mask: Tensor | None = None, **kwargs: Any) -> Tensor | None:
    """The mask as the caller gave it, bool [B, L]: which pairs of positions see each other follows from the state."""
    return attention_mask
