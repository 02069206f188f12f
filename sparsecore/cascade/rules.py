"""How a pass decides: a schedule resolved for one model, the selector of tokens, the importance, the way of heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from sparsecore.cascade.importance import Importance, importance_of
from sparsecore.cascade.plan import Plan
from sparsecore.cascade.schedule import Schedule
from sparsecore.cascade.selectors import Selector, selector_of
from sparsecore.errors import InvalidValueError

__all__ = ["Heads", "Rules"]

Heads = str | Sequence[Sequence[int]]


@dataclass(frozen=True, slots=True)
class Rules:
    """What the states of one applied schedule have in common; made by `Rules.of`.

    Parameters
    ----------
    schedule: as given; for a list of heads with its counts as `head_keep`. plan: the same, one entry a layer.
    layers, heads: sizes of the model. selector, scores: which tokens go on, and by which importance.
    shared: the sequences of a batch keep the same heads. fixed: the heads of every layer, or None: the input decides.
    """

    schedule: Schedule
    plan: Plan
    layers: int
    heads: int
    selector: Selector
    scores: Importance
    shared: bool = False
    fixed: tuple[tuple[int, ...], ...] | None = None

    @classmethod
    def of(
        cls,
        schedule: Schedule,
        layers: int,
        heads: int,
        *,
        selector: str | Selector = "accumulated",
        scores: str | Importance = "paper",
        head_choice: Heads = "each",
    ) -> Rules:
        """Return the rules of a schedule for a model of `layers` layers of `heads` heads; arguments as for `apply`.

        Raises
        ------
        InvalidValueError: no schedule, or one that these sizes cannot meet; a wrong `head_choice`.
        UnknownNameError: no such selector or importance.
        """
        given: object = schedule
        if not isinstance(given, Schedule):
            raise InvalidValueError(
                f"the schedule is a {type(given).__name__}", expected="a sparsecore.cascade.Schedule"
            )
        schedule.check(layers, heads)
        fixed = None
        if not isinstance(head_choice, str):
            fixed = _checked(head_choice, layers, heads)
            if schedule.head_keep != 1.0:
                raise InvalidValueError(
                    f"head_keep is {schedule.head_keep} beside a list of heads",
                    where="heads",
                    expected="one of the two",
                )
            schedule = replace(schedule, head_keep=tuple(len(kept) / heads for kept in fixed))
        elif head_choice not in ("each", "shared"):
            raise InvalidValueError(
                f"heads is {head_choice!r}", where="heads", expected="'each', 'shared', or the heads of every layer"
            )
        return cls(
            schedule,
            schedule.plan(layers, heads),
            layers,
            heads,
            selector_of(selector),
            importance_of(scores),
            shared=head_choice == "shared",
            fixed=fixed,
        )

    @property
    def narrows(self) -> bool:
        """Whether the projections shrink with the heads: all sequences of a batch keep the same ones."""
        return self.shared or self.fixed is not None


def _checked(given: Any, layers: int, heads: int) -> tuple[tuple[int, ...], ...]:
    lists = isinstance(given, Sequence) and all(isinstance(kept, Sequence) for kept in given)
    if not lists or not all(isinstance(head, int) for kept in given for head in kept):
        raise InvalidValueError(
            f"heads is {given!r}", where="heads", expected="'each', 'shared', or a list of heads for every layer"
        )
    if len(given) != layers:
        raise InvalidValueError(f"heads lists {len(given)} layers", where="heads", expected=f"{layers} layers")
    fixed = tuple(tuple(sorted(set(kept))) for kept in given)
    for layer, kept in enumerate(fixed):
        if not kept or len(kept) != len(given[layer]) or kept[0] < 0 or kept[-1] >= heads:
            raise InvalidValueError(
                f"heads[{layer}] is {list(given[layer])}", where="heads", expected=f"different heads in [0, {heads})"
            )
    for layer, (before, after) in enumerate(pairwise(fixed)):
        if not set(after) <= set(before):
            raise InvalidValueError(
                f"heads[{layer + 1}] has {sorted(set(after) - set(before))}, which the layer before has pruned",
                where="heads",
                expected="lists that only lose heads",
            )
    return fixed
