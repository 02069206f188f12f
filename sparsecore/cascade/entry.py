"""Switching cascade pruning on for a model, whatever its kind."""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING, Any

from torch import nn

from sparsecore.cascade.encoder import EncoderHandle
from sparsecore.cascade.handle import Handle
from sparsecore.cascade.importance import Importance, importance_of
from sparsecore.cascade.rules import Heads
from sparsecore.cascade.schedule import Schedule
from sparsecore.cascade.selectors import Selector, selector_of
from sparsecore.errors import InvalidValueError, UnsupportedError
from sparsecore.models.decoders import DECODERS
from sparsecore.models.encoders import ENCODERS

if TYPE_CHECKING:
    from sparsecore.cascade.generation import Mode

__all__ = ["apply"]


def apply(
    model: nn.Module,
    schedule: Schedule,
    *,
    selector: str | Selector | None = None,
    scores: str | Importance = "paper",
    heads: Heads = "each",
    mode: Mode = "select",
    interval: int = 16,
    shrink_prefill: bool = False,
    value_mass: float = 0.0,
    group_values: bool = False,
    record: bool = False,
) -> Handle:
    """Make every forward pass of `model` prune tokens and heads by `schedule`, until `handle.remove()`.

    Works in place on Hugging Face models in eval mode: encoders (`sparsecore.models.encoders`) and decoders
    (`sparsecore.models.decoders`), with or without heads.

    A decoder prunes while it generates, `model.generate` unchanged: the prompt is read whole, then each token reads
    the most important rows of the cache that every layer may read; counts refer to the tokens seen so far. Beams,
    sampling and batches padded on the left work; each sequence keeps what it keeps alone. Gradients do not pass through
    a decoding step. In an encoder, between
    layers the sequence is really gathered to the kept tokens, so that projections and feed-forward parts shrink with
    it. Outputs keep their shape: a pruned position holds its state at the time of pruning, a padding position zeros.
    The body's output carries `keep_mask` (bool [B, L], positions that went through all layers) as an attribute; models
    with heads have it in `handle.last_run.keep_mask`. Each sequence of a padded batch keeps what it keeps alone, up to
    the rounding of the arithmetic.

    Parameters
    ----------
    selector: which tokens go on: a name in `sparsecore.cascade.selectors.SELECTORS`, or a Selector. None: "accumulated"
        for an encoder and "heavy" for a decoder, where sums of attention alone lose the newest tokens (docs/cascade.md
        has the figures of both).
    scores: how attention becomes importance: a name in `sparsecore.cascade.importance.OPTIONS`, or an Importance.
    heads: "each": every sequence keeps its own heads, and the attention of the others is skipped. "shared": a batch
        keeps the heads that matter most to all of it, so that the projections shrink too; a sequence may then keep
        other heads than alone. Or the kept heads of every layer, as calibrated: the projections shrink too, and the
        schedule's `head_keep` stays 1.

    For decoders only:

    mode: "select": the cache keeps every token, each step and layer choose the rows that are read. "evict": rows are
        removed for good, and memory falls.
    interval: "evict" removes rows every `interval` tokens; in between the layers grow by one row a token.
    shrink_prefill: drop tokens between the layers of the prompt's pass too.
    value_mass: with local value pruning, a query whose chosen V rows hold less probability than this multiplies all.
    group_values: whether the queries of a group of heads multiply the same V rows.
    record: whether `last_run` has the ids of the tokens that were read, beside the counts.

    Raises
    ------
    UnsupportedError: another kind of model, a model that has a handle, layers that see a window of tokens only.
    InvalidValueError: no schedule, one that does not fit the number of layers or heads, an option out of range or for
        the other kind of model.
    UnknownNameError: no such selector or importance.

    A forward pass raises UnsupportedError in training mode, for a mask that is not [B, L], and where attention
    probabilities, hidden states of all layers or a cache are asked for; InvalidValueError for more tokens than the
    model has positions.
    """
    options: dict[str, Any] = {
        "mode": mode,
        "interval": interval,
        "shrink_prefill": shrink_prefill,
        "value_mass": value_mass,
        "group_values": group_values,
        "record": record,
    }
    kind = getattr(getattr(model, "config", None), "model_type", None)
    if kind in ENCODERS:
        if changed := [name for name, value in options.items() if value != signature(apply).parameters[name].default]:
            raise InvalidValueError(f"{', '.join(changed)} for an encoder", where="apply", expected="a decoder")
        chosen = "accumulated" if selector is None else selector
        return EncoderHandle(model, schedule, selector=chosen, scores=scores, head_choice=heads)
    if kind in DECODERS:
        from sparsecore.cascade.generation import GenerationHandle  # its cache derives from transformers' own

        if heads != "each":
            raise InvalidValueError(f"heads is {heads!r} for a decoder", where="apply", expected="'each'")
        chosen = "heavy" if selector is None else selector
        rules = {"selector": selector_of(chosen), "importance": importance_of(scores)}
        return GenerationHandle(model, schedule, **rules, **options)
    found = f"model type {kind!r}" if kind else "no Hugging Face config"
    raise UnsupportedError(
        f"this kind of model is not supported: {type(model).__name__} has {found}",
        expected="a Hugging Face model of one of these types: " + ", ".join(sorted([*ENCODERS, *DECODERS])),
        hint="for other models build on sparsecore.nn.CascadeAttention",
    )
