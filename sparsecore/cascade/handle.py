"""Applying cascade pruning to a model in place, and taking it off again."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from sparsecore.cascade.encoder import run_layers
from sparsecore.cascade.run import CascadeRun
from sparsecore.cascade.schedule import Schedule
from sparsecore.cascade.state import CascadeState
from sparsecore.errors import InvalidValueError, UnsupportedError
from sparsecore.models import body_of, family_of
from sparsecore.models.call import token_mask
from sparsecore.models.info import model_info

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Handle", "apply", "handle_of"]

# The state of a pass travels as a keyword argument through the model's own forward, so that nothing is global.
_KEYWORD = "cascade_state"
_ATTENTION = ("eager", "sdpa")
_REFUSED = ("encoder_hidden_states", "encoder_attention_mask", "past_key_values", "use_cache")
_OUTPUTS = ("output_attentions", "output_hidden_states")


def apply(model: nn.Module, schedule: Schedule) -> Handle:
    """Make every forward pass of `model` prune tokens and heads by `schedule`, until `handle.remove()`.

    Works in place on Hugging Face BERT models, with or without heads, with eager or sdpa attention, in eval mode.
    Between layers the sequence is really gathered to the kept tokens, so that projections and feed-forward parts
    shrink with it. Outputs keep their shape: a pruned position holds its state at the time of pruning, and a padding
    position that of its last layer. The body's output carries `keep_mask` (bool [B, L], positions that went through all
    layers) as an attribute; models with heads have it in `handle.last_run.keep_mask`. A pass in which nothing is pruned
    runs the unmodified model. Each sequence of a padded batch keeps what it keeps alone, up to the rounding of the
    arithmetic.

    Raises
    ------
    UnsupportedError: another kind of model, a decoder, another attention implementation, a model that has a handle.
    InvalidValueError: no schedule, or one that does not fit the number of layers.

    A forward pass raises UnsupportedError in training mode, for a mask that is not [B, L], and where attention
    probabilities, hidden states of all layers or a cache are asked for.
    """
    given: object = schedule
    if not isinstance(given, Schedule):
        raise InvalidValueError(f"the schedule is a {type(given).__name__}", expected="a sparsecore.cascade.Schedule")
    return Handle(model, given)


def handle_of(model: nn.Module) -> Handle | None:
    """Return the handle that is applied to `model`, or None."""
    for module in model.modules():
        forward = module.__dict__.get("forward")
        if isinstance(forward, partial) and isinstance(forward.keywords.get("handle"), Handle):
            handle: Handle = forward.keywords["handle"]
            return handle
    return None


class Handle:
    """Cascade pruning that is applied to a model; also a context manager that removes it at the end.

    Attributes
    ----------
    model, schedule: as given to `apply`.
    """

    def __init__(self, model: nn.Module, schedule: Schedule) -> None:
        self.model = model
        self.schedule = schedule
        self.family = family_of(model)
        self.body = body_of(model)
        self.encoder = self.body.get_submodule(self.family.encoder)
        self.info = model_info(model, self.family.name)
        self._check_model()
        schedule.check(self.info.layers, self.info.heads)
        self._last: CascadeState | None = None
        self._hooks = [
            self.body.register_forward_pre_hook(self._begin, with_kwargs=True),
            self.body.register_forward_hook(self._end, with_kwargs=True),
        ]
        self.encoder.forward = partial(_encode, handle=self)

    @property
    def last_run(self) -> CascadeRun:
        """What the last finished forward pass kept.

        Raises
        ------
        InvalidValueError: there was none yet.
        """
        state = self._last
        if state is None:
            raise InvalidValueError("the model has not run yet", where="last_run", hint="call the model first")
        return CascadeRun(
            schedule=self.schedule,
            model=self.info,
            lengths=tuple(state.lengths),
            survived=state.survived[:, : state.width].contiguous().cpu(),
            heads_survived=state.heads_survived.cpu(),
            values=state.values,
            low_queries=state.low_queries,
        )

    def remove(self) -> None:
        """Give the model its own forward back; the handle keeps `last_run`. A second call does nothing."""
        for hook in self._hooks:
            hook.remove()
        if self._hooks:
            del self.encoder.forward
        self._hooks = []

    def __enter__(self) -> Handle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def _check_model(self) -> None:
        config: Any = self.body.config
        if handle_of(self.model) is not None:
            raise UnsupportedError("the model already has a cascade handle", hint="call its remove() first")
        if config.is_decoder or config.add_cross_attention:
            raise UnsupportedError("cascade pruning of a decoder is not supported", where="config.is_decoder")
        if (found := config._attn_implementation) not in _ATTENTION:
            raise UnsupportedError(
                f"attention implementation {found!r} is not supported",
                expected=" or ".join(_ATTENTION),
                hint='model.set_attn_implementation("sdpa")',
            )

    def _begin(self, body: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        given = dict(zip(self.family.inputs, args, strict=False)) | kwargs
        self._check_call(given)
        mask = token_mask(given)
        return args, kwargs | {_KEYWORD: CascadeState(self.schedule, self.info, mask)}

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

    def _end(self, body: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        self._last = kwargs[_KEYWORD]
        if not isinstance(output, tuple):
            # An attribute, not an item: the tuple form of the output stays what callers know.
            output.keep_mask = self._last.survived[:, : self._last.width] == self.info.layers


def _encode(hidden_states: Tensor, attention_mask: Tensor | None = None, *, handle: Handle, **kwargs: Any) -> Any:
    """Stand in for the encoder's forward while `handle` is applied."""
    state: CascadeState | None = kwargs.pop(_KEYWORD, None)
    encoder = handle.encoder
    if state is None:
        raise UnsupportedError(
            "the encoder was called by itself, without the model around it", hint="call the model, or remove the handle"
        )
    if state.changes_nothing:
        state.skip()
        return type(encoder).forward(encoder, hidden_states, attention_mask=attention_mask, **kwargs)
    from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

    return BaseModelOutputWithPastAndCrossAttentions(
        last_hidden_state=run_layers(encoder, handle.family, hidden_states, state)
    )
