"""Cascade pruning of a Hugging Face decoder while it generates."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from transformers import AttentionInterface, Cache, DynamicCache
from transformers.masking_utils import AttentionMaskInterface

from sparsecore.cascade.generation.cache import CascadeCache
from sparsecore.cascade.generation.settings import Settings
from sparsecore.cascade.generation.shrink import shrink_hooks
from sparsecore.cascade.handle import Handle, switch_attention
from sparsecore.cascade.schedule import Schedule
from sparsecore.errors import InvalidValueError, UnsupportedError

__all__ = ["ATTENTION", "GenerationHandle", "cache_argument"]

ATTENTION = "sparsecore_cascade_cache"
"""The name under which the attention function is registered with transformers."""

# The cache travels as a keyword argument through the model's own forward, so that nothing is global.
_KEYWORD = "cascade_cache"
_CACHES = ("cache", "past_key_values")  # what transformers calls the argument: now, and before release 5.20
_ORIGINAL = ("eager", "sdpa")


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    *,
    cascade_cache: CascadeCache | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Stand in for a decoder layer's attention; the mask is known to the cache."""
    if cascade_cache is None:
        raise UnsupportedError(
            "a layer with cascade attention was called without the model around it",
            hint="call the model that the handle was applied to",
        )
    index: Any = module.layer_idx
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return cascade_cache.attend(index, query, key, value, scale).transpose(1, 2), None


def _mask(*args: Any, **kwargs: Any) -> None:
    """Stand in for transformers' mask: `CascadeCache.begin` reads the model's [B, L] mask itself."""


AttentionInterface.register(ATTENTION, _attention)
AttentionMaskInterface.register(ATTENTION, _mask)


def cache_argument(body: nn.Module) -> str:
    """Return what this release of transformers calls the cache that a decoder's forward takes."""
    names = inspect.signature(body.forward).parameters
    return next(name for name in _CACHES if name in names)


class GenerationHandle(Handle):
    """Cascade pruning that is applied to a decoder; `Handle` has the attributes.

    Parameters
    ----------
    model, schedule: as given to `apply`. options: the other fields of `Settings`.
    """

    def __init__(self, model: nn.Module, schedule: Schedule, **options: Any) -> None:
        given: object = schedule
        if not isinstance(given, Schedule):
            what = f"the schedule is a {type(given).__name__}"
            raise InvalidValueError(what, expected="a sparsecore.cascade.Schedule")
        super().__init__(model, schedule)
        self.settings = Settings(schedule, self.info, **options)
        self._check_model()
        self._names = tuple(inspect.signature(self.body.forward).parameters)
        self._argument = cache_argument(self.body)
        config: Any = self.body.config
        learned = config.model_type == "gpt2"  # a table; rotary positions have no last one
        self._positions: int | None = config.max_position_embeddings if learned else None
        self._use_cache: bool = config.use_cache
        self._hooks = [self.body.register_forward_pre_hook(self._begin, with_kwargs=True)]
        if self.settings.shrink_prefill:
            self._hooks += shrink_hooks(model, _KEYWORD)
        self._configs = switch_attention(model, config, ATTENTION)

    def cache(self) -> CascadeCache:
        """Return an empty cache to pass to the model's forward or to `generate`; without one they make their own."""
        return CascadeCache(self.settings, self._positions)

    def report(self) -> str:
        """Say what the decoding steps of the last generation read, and how large its cache is."""
        run = self.last_run
        return (
            f"{run.steps} steps of {len(run.prompts)} sequences; means over steps, layers and sequences:\n"
            f"  tokens read   {run.token_keep:6.1%} of those seen\n"
            f"  heads         {run.head_keep:6.1%}, of keys and values {run.kv_head_keep:.1%}\n"
            f"  values        {run.value_keep:6.1%} of the tokens read\n"
            f"  low bits      {float(run.low_share.mean()):6.1%} of the queries\n"
            f"  cache         {run.cache_bytes / 1e6:.1f} MB"
        )

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record the ids of the tokens that are read, as `record=True` does, while the context is entered."""
        before = self.settings
        self.settings = replace(before, record=True)
        try:
            yield
        finally:
            self.settings = before

    def _check_model(self) -> None:
        config: Any = self.body.config
        if (found := config._attn_implementation) not in _ORIGINAL:
            raise UnsupportedError(
                f"attention implementation {found!r} is not supported",
                expected=" or ".join(_ORIGINAL),
                hint='model.set_attn_implementation("sdpa")',
            )
        if getattr(config, "add_cross_attention", False):
            raise UnsupportedError("cross attention is not supported", where="config.add_cross_attention")
        kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
        window = getattr(config, "sliding_window", None)
        if kinds != {"full_attention"} or (config.model_type == "mistral" and window is not None):
            raise UnsupportedError(
                f"layers that see a window of {window} tokens are not supported",
                where="config.sliding_window",
                expected="full attention in every layer",
                hint="set sliding_window=None in the config before the model is made, if sequences stay shorter",
            )

    def _begin(
        self, body: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Find or make the cache of a call of the body, and prepare it for the pass."""
        given = dict(zip(self._names, args, strict=False)) | kwargs
        self._check_call(given)
        tokens = given.get("input_ids")
        if tokens is None:
            tokens = given.get("inputs_embeds")
        if not isinstance(tokens, Tensor) or tokens.dim() < 2:
            raise UnsupportedError("the model was called without input_ids [B, L] and inputs_embeds", where="forward")
        cache = self._cache_for(next((given[name] for name in _CACHES if given.get(name) is not None), None))
        cache.begin(tokens.shape[0], tokens.shape[1], given.get("attention_mask"), tokens.device)
        self._last = cache
        for name in _CACHES:
            given.pop(name, None)
        use = given.get("use_cache")
        if self._use_cache if use is None else use:
            given[self._argument] = cache
        given[_KEYWORD] = cache
        return (), given

    def _check_call(self, given: Mapping[str, Any]) -> None:
        """Raise UnsupportedError for a call that cannot be served."""
        if self.body.training:
            raise UnsupportedError("cascade pruning runs in eval mode only", hint="call model.eval() first")
        if given.get("output_attentions", getattr(self.body.config, "output_attentions", False)):
            raise UnsupportedError("the attention probabilities are never formed", where="output_attentions")
        hidden = given.get("output_hidden_states", getattr(self.body.config, "output_hidden_states", False))
        if hidden and self.settings.shrink_prefill:
            raise UnsupportedError(
                "layers have different tokens", where="output_hidden_states", hint="shrink_prefill=False"
            )
        mask = given.get("attention_mask")
        if mask is not None and (not isinstance(mask, Tensor) or mask.dim() != 2):
            raise UnsupportedError(
                "this attention mask is not supported here",
                where="attention_mask",
                expected="[B, L]: which positions hold a token",
            )

    def _cache_for(self, given: object) -> CascadeCache:
        """Return the cache of a call: the one that was given, or a new one for an empty one of transformers' own.

        Raises
        ------
        UnsupportedError: it belongs to another model, or holds tokens that no cascade knows.
        """
        if isinstance(given, CascadeCache):
            if given.settings is not self.settings:
                raise UnsupportedError(
                    "the cache belongs to another model or to another handle", where="cache", hint="handle.cache()"
                )
            return given
        if given is None:
            return self.cache()
        if type(given) is not DynamicCache or given.offloading:
            raise UnsupportedError(
                f"a {type(given).__name__} is not supported here",
                where="cache",
                expected="none, a CascadeCache or an empty DynamicCache",
                hint="handle.cache(), and generate without cache_implementation",
            )
        return self._adopted(given)

    def _adopted(self, given: Cache) -> CascadeCache:
        """Return the cascade cache that stands for an empty DynamicCache, the same each time."""
        known = given.__dict__.get(_KEYWORD)
        if known is not None:
            return self._cache_for(known)
        if given.get_seq_length():
            raise UnsupportedError(
                "the cache holds tokens of a pass without cascade pruning", where="cache", hint="handle.cache()"
            )
        mine = self.cache()
        given.__dict__[_KEYWORD] = mine
        return mine
