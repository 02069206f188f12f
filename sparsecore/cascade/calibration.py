"""Finding a schedule on calibration inputs: the cheapest above a bar, stages, and a fixed list of heads.

Nothing is trained. Every trial is a real run of the model under `sparsecore.cascade.apply`, and all are reported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparsecore.cascade.entry import apply
from sparsecore.cascade.schedule import Schedule
from sparsecore.errors import InvalidValueError, UnknownNameError, UnsupportedError, nearest
from sparsecore.models.decoders import DECODERS

__all__ = ["KNOBS", "Calibration", "Trial", "calibrate", "stages", "static_heads"]

Inputs = Mapping[str, Any]
Run = Callable[[nn.Module, Inputs], Any]

_SHARES = tuple(round(1 - 0.05 * i, 2) for i in range(20))  # 1.0, 0.95, ... 0.05
# What may be turned, each from dear to cheap. Bits: high bits of K; threshold: from low bits for all queries to none.
KNOBS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "tokens": ("token_keep", _SHARES),
    "heads": ("head_keep", _SHARES),
    "values": ("value_keep", _SHARES),
    "bits": ("msb_bits", (None, 12, 10, 8, 6, 4)),
    "threshold": ("lsb_threshold", (1.0, 0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.0)),
}

_PLAIN = Schedule()


@dataclass(frozen=True, slots=True)
class Trial:
    """One schedule that was run, and how well its outputs agreed with those of the unmodified model."""

    schedule: Schedule
    agreement: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a calibration found.

    Parameters
    ----------
    schedule, agreement: the cheapest above the bar. bar: as asked. trials: everything that was run, in order.
    """

    schedule: Schedule
    agreement: float
    bar: float
    trials: tuple[Trial, ...]

    def __str__(self) -> str:
        lines = [f"{len(self.trials)} schedules were tried; bar {self.bar}"]
        for trial in self.trials:
            mark = "ok " if trial.agreement >= self.bar else "low"
            lines.append(f"  {mark} {trial.agreement:.4f}  {_told(trial.schedule)}")
        return "\n".join([*lines, f"chosen: {_told(self.schedule)} at {self.agreement:.4f}"])


def calibrate(
    model: nn.Module,
    inputs: Sequence[Inputs],
    *,
    bar: float = 0.99,
    turn: Sequence[str] = ("tokens", "heads"),
    start: Schedule | None = None,
    agreement: Callable[[Any, Any, Inputs], float] | None = None,
    run: Run | None = None,
    **settings: Any,
) -> Calibration:
    """Return the cheapest schedule whose mean agreement over `inputs` is at least `bar`.

    The knobs are turned one after the other, the most important first. Each is bisected over its values from dear to
    cheap and may use an equal part of the loss that the bar allows, beside what the knobs before it left; so at most
    1 + 5 + 5 + 5 + 3 + 3 schedules are run. Agreement is taken to fall with the cost; where it does not, the result
    still is above the bar, but something cheaper may be.

    Parameters
    ----------
    model: as `apply` takes it. inputs: keyword arguments of a call, one mapping a batch.
    turn: names in KNOBS. start: what the other fields are.
    agreement: of (unmodified output, output, inputs), 1 where they are the same; by default the mean cosine of the
        states averaged over the tokens that went through all layers, or for logits the share of equal largest ones.
    run: how the model is called; by default model(**inputs). A decoder, which prunes while it generates, reads its last
        tokens one by one: at most 32, and half of the shortest text.
    settings: selector, scores and others, as for `apply`.

    Raises
    ------
    InvalidValueError: no inputs, or a bar outside (0, 1]. UnknownNameError: a knob that there is not.
    """
    _check(inputs, bar, turn)
    measure, call = agreement or agreement_of, run or _call
    with torch.inference_mode():
        dense = [call(model, one) for one in inputs]
    trials: list[Trial] = []

    def reached(schedule: Schedule) -> float:
        with apply(model, schedule, **settings), torch.inference_mode():
            found = [measure(whole, call(model, one), one) for whole, one in zip(dense, inputs, strict=True)]
        trials.append(Trial(schedule, sum(found) / len(found)))
        return trials[-1].agreement

    best = start or Schedule()
    for number, name in enumerate(turn, 1):
        values = _possible(model, best, name, settings)
        best = _bisect(values, 1 - (1 - bar) * number / len(turn), reached)
    known = [trial.agreement for trial in trials if trial.schedule == best]
    return Calibration(best, known[-1] if known else reached(best), bar, tuple(trials))


def _possible(model: nn.Module, best: Schedule, name: str, settings: Mapping[str, Any]) -> list[Schedule]:
    """Return `best` and what it becomes with one knob turned further, as far as the model allows."""
    field, values = KNOBS[name]
    turned = [replace(best, **{field: value}) for value in values]
    return [best, *(schedule for schedule in turned if schedule != best and _fits(model, schedule, settings))]


def _bisect(values: Sequence[Schedule], least: float, reached: Callable[[Schedule], float]) -> Schedule:
    """Return the cheapest of `values` that agrees at least so well; the first is not run again."""
    low, high = 0, len(values)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if reached(values[middle]) >= least else (low, middle)
    return values[low]


def _fits(model: nn.Module, schedule: Schedule, settings: Mapping[str, Any]) -> bool:
    """Return whether the model has enough layers and heads for the schedule."""
    try:
        apply(model, schedule, **settings).remove()
    except InvalidValueError:
        return False
    return True


def agreement_of(dense: Any, pruned: Any, inputs: Inputs) -> float:
    """Return how far two outputs agree: 1 where they are the same.

    States (`last_hidden_state`): mean cosine of a sequence's mean over the tokens that went through all layers. Logits:
    share of positions (padding left out) whose largest one is the same.
    """
    mask = inputs.get("attention_mask")
    states = getattr(dense, "last_hidden_state", None)
    if states is not None:
        mask = torch.ones(states.shape[:2], device=states.device) if mask is None else mask[:, -states.shape[1] :]
        ours, theirs = (_pooled(out.last_hidden_state, getattr(out, "keep_mask", mask)) for out in (dense, pruned))
        return float(F.cosine_similarity(ours, theirs).mean())
    same = (dense.logits.argmax(-1) == pruned.logits.argmax(-1)).double()
    if mask is None or same.dim() != 2:
        return float(same.mean())
    mask = mask[:, -same.shape[1] :]
    return float((same * mask).sum() / mask.sum())


def _pooled(states: Tensor, mask: Tensor) -> Tensor:
    weights = mask[..., None].to(states.dtype)
    return ((states * weights).sum(1) / weights.sum(1).clamp_min(1)).double()


def stages(model: nn.Module, inputs: Sequence[Inputs], *, keep: float, count: int = 3) -> Schedule:
    """Return a schedule that prunes in `count` steps where the states change most, as Balanced Token Pruning does.

    After each layer the cosine of every token's state with the one before is averaged over the inputs; pruning follows
    the layers of the lowest averages, since what tokens say has just been rewritten there. The ratios fall
    geometrically to the value at which their mean over all layers is `keep`. Source: arXiv 2505.22038, section 4.

    Raises
    ------
    InvalidValueError: more stages than the model has places for, or a mean that they cannot reach.
    """
    total: Tensor | None = None
    for one in inputs:
        with torch.inference_mode():
            states = model(**one, output_hidden_states=True).hidden_states
        mask = one.get("attention_mask", torch.ones(states[0].shape[:2])).to(torch.float64)
        likeness = [F.cosine_similarity(a, b, dim=-1) for a, b in pairwise(states)]
        found = torch.stack([(each.double() * mask).sum() / mask.sum() for each in likeness])
        total = found if total is None else total + found
    if total is None or not 1 <= count <= len(total) - 1:
        raise InvalidValueError(f"{count} stages for {0 if total is None else len(total)} layers", where="stages")
    after = sorted(total[:-1].argsort(stable=True)[:count].tolist())  # nothing is pruned after the last layer
    steps = [sum(layer > place for place in after) for layer in range(len(total))]
    whole = steps.count(0) / len(steps)
    if not whole < keep <= 1:
        raise InvalidValueError(
            f"a mean of {keep} cannot be reached: the first {steps.count(0)} of {len(steps)} layers keep everything",
            where="stages",
            expected=f"more than {whole:.3f}, at most 1",
        )
    low, high = 0.0, 1.0
    for _ in range(50):
        ratio = (low + high) / 2
        low, high = (ratio, high) if sum(ratio**step for step in steps) < keep * len(steps) else (low, ratio)
    return Schedule(token_keep=tuple(high**step for step in steps), name=f"{count} stages")


def static_heads(
    model: nn.Module, inputs: Sequence[Inputs], schedule: Schedule, **settings: Any
) -> tuple[tuple[int, ...], ...]:
    """Return the heads of each layer that survive most often on `inputs` under `schedule`, ascending.

    A fixed list lets projections shrink, which a choice that differs between sequences does not.

    Raises
    ------
    UnsupportedError: a decoder. InvalidValueError: no inputs.
    """
    if _decodes(model):
        raise UnsupportedError("a decoder takes no fixed list of heads", where="static_heads", expected="an encoder")
    survived, counts = None, None
    for one in inputs:
        with apply(model, schedule, **settings) as handle, torch.inference_mode():
            model(**one)
        run = handle.last_run
        found = run.heads_survived.double().sum(0)
        survived = found if survived is None else survived + found
        counts = run.head_counts[:, 0].tolist()
    if survived is None or counts is None:
        raise InvalidValueError("there are no calibration inputs", where="static_heads")
    order = survived.argsort(descending=True, stable=True).tolist()
    return tuple(tuple(sorted(order[:count])) for count in counts)


def _call(model: nn.Module, inputs: Inputs) -> Any:
    if not _decodes(model):
        return model(**inputs)
    from sparsecore.cascade.generation.reading import read_by_token  # its cache derives from transformers' own

    return read_by_token(model, inputs)


def _decodes(model: nn.Module) -> bool:
    return getattr(getattr(model, "config", None), "model_type", None) in DECODERS


def _told(schedule: Schedule) -> str:
    fields = [name for name, _ in KNOBS.values()]
    told = [f"{name} {getattr(schedule, name)}" for name in fields if getattr(schedule, name) != getattr(_PLAIN, name)]
    return ", ".join(told) or "everything kept"


def _check(inputs: Sequence[Inputs], bar: float, turn: Sequence[str]) -> None:
    given: Any = inputs
    if isinstance(given, Mapping) or not all(isinstance(one, Mapping) for one in given):
        raise InvalidValueError(
            f"the calibration inputs are a {type(given).__name__}",
            where="calibrate",
            expected="a list of batches, each a mapping of keyword arguments",
        )
    if not inputs:
        raise InvalidValueError("there are no calibration inputs", where="calibrate")
    if isinstance(bar, bool) or not isinstance(bar, int | float) or not 0 < bar <= 1:
        raise InvalidValueError(f"bar is {bar!r}", where="calibrate", expected="a number in (0, 1]")
    for name in turn:
        if name not in KNOBS:
            raise UnknownNameError(f"there is no knob {name!r}", expected=", ".join(KNOBS), hint=nearest(name, KNOBS))
