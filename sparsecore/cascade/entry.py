"""Switching cascade pruning on for a model, whatever its kind."""

from __future__ import annotations

from torch import nn

from sparsecore.cascade.encoder import EncoderHandle
from sparsecore.cascade.handle import Handle
from sparsecore.cascade.importance import Importance
from sparsecore.cascade.rules import Heads
from sparsecore.cascade.schedule import Schedule
from sparsecore.cascade.selectors import Selector
from sparsecore.errors import UnsupportedError
from sparsecore.models.encoders import ENCODERS

__all__ = ["apply"]


def apply(
    model: nn.Module,
    schedule: Schedule,
    *,
    selector: str | Selector = "accumulated",
    scores: str | Importance = "paper",
    heads: Heads = "each",
) -> Handle:
    """Make every forward pass of `model` prune tokens and heads by `schedule`, until `handle.remove()`.

    Works in place on Hugging Face encoders (`sparsecore.models.encoders`), with or without heads, in eval mode. Between
    layers the sequence is really gathered to the kept tokens, so that projections and feed-forward parts shrink with
    it. Outputs keep their shape: a pruned position holds its state at the time of pruning, a padding position zeros.
    The body's output carries `keep_mask` (bool [B, L], positions that went through all layers) as an attribute; models
    with heads have it in `handle.last_run.keep_mask`. Each sequence of a padded batch keeps what it keeps alone, up to
    the rounding of the arithmetic.

    Parameters
    ----------
    selector: which tokens go on: a name in `sparsecore.cascade.selectors.SELECTORS`, or a Selector.
    scores: how attention becomes importance: a name in `sparsecore.cascade.importance.OPTIONS`, or an Importance.
    heads: "each": every sequence keeps its own heads, and the attention of the others is skipped. "shared": a batch
        keeps the heads that matter most to all of it, so that the projections shrink too; a sequence may then keep
        other heads than alone. Or the kept heads of every layer, as calibrated: the projections shrink too, and the
        schedule's `head_keep` stays 1.

    Raises
    ------
    UnsupportedError: another kind of model, a decoder, a model that has a handle.
    InvalidValueError: no schedule, or one that does not fit the number of layers or heads; a wrong `heads`.
    UnknownNameError: no such selector or importance.

    A forward pass raises UnsupportedError in training mode, for a mask that is not [B, L], and where attention
    probabilities, hidden states of all layers or a cache are asked for; InvalidValueError for more tokens than the
    model has positions.
    """
    kind = getattr(getattr(model, "config", None), "model_type", None)
    if kind in ENCODERS:
        return EncoderHandle(model, schedule, selector=selector, scores=scores, head_choice=heads)
    found = f"model type {kind!r}" if kind else "no Hugging Face config"
    raise UnsupportedError(
        f"this kind of model is not supported: {type(model).__name__} has {found}",
        expected="a Hugging Face model of one of these types: " + ", ".join(ENCODERS),
        hint="for other models build on sparsecore.nn.CascadeAttention",
    )
