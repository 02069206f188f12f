"""What is asked of the cascade pruning of a decoder."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from sparsecore.backends.reference.bitplane import LOW_BITS
from sparsecore.cascade.importance import Importance
from sparsecore.cascade.kv_store import KVFormat
from sparsecore.cascade.plan import Plan
from sparsecore.cascade.schedule import Schedule
from sparsecore.cascade.selectors import Selector
from sparsecore.cascade.selectors.heavy import Heavy
from sparsecore.errors import InvalidValueError, UnsupportedError
from sparsecore.models.info import ModelInfo

__all__ = ["MODES", "Mode", "Settings"]

Mode = Literal["select", "evict"]
MODES: tuple[Mode, ...] = ("select", "evict")


@dataclass(frozen=True, slots=True)
class Settings:
    """What was asked for when cascade pruning was applied to a decoder.

    Parameters
    ----------
    schedule, info: what to keep, and the sizes of the model. The first token, the last one of the prompt and the newest
        one are always kept, beside what `schedule.sink` and `schedule.recent` name.
    mode: "select": the cache keeps every token, each step and layer choose the rows that are read. "evict": rows are
        removed for good.
    interval: "evict" removes rows every `interval` tokens; in between the layers grow by one row a token.
    shrink_prefill: whether tokens are dropped between the layers of the prompt's pass too, so that its feed-forward
        parts shrink; what a layer dropped there is in no cache.
    value_mass: a query whose chosen V rows hold less probability than this multiplies all its rows; 0: no such guard.
    group_values: whether the queries of a group of heads multiply the same V rows.
    selector, importance: the rule that ranks tokens, and how the attention that they received becomes a number.
    record: whether the ids of the tokens that are read are kept for `last_run`, beside the counts.

    Raises
    ------
    InvalidValueError: an unknown mode, a count out of range, a schedule that does not fit the model.
    UnsupportedError: a selector that needs more than a cache knows.
    """

    schedule: Schedule
    info: ModelInfo
    mode: Mode = "select"
    interval: int = 16
    shrink_prefill: bool = False
    value_mass: float = 0.0
    group_values: bool = False
    selector: Selector = field(default_factory=Heavy)
    importance: Importance = field(default_factory=Importance)
    record: bool = False
    plan: Plan = field(init=False)

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise InvalidValueError(f"mode is {self.mode!r}", where="apply", expected=" or ".join(MODES))
        if isinstance(self.interval, bool) or not isinstance(self.interval, int) or self.interval < 1:
            raise InvalidValueError(f"interval is {self.interval!r}", where="apply", expected="a whole number from 1")
        if not isinstance(self.value_mass, int | float) or not 0 <= self.value_mass <= 1:
            raise InvalidValueError(f"value_mass is {self.value_mass!r}", where="apply", expected="a number in [0, 1]")
        if not self.selector.generates:
            raise UnsupportedError(
                f"the selector {self.selector.name!r} needs more than a cache knows",
                where="apply",
                hint='selector="heavy"',
            )
        high, low = self.schedule.msb_bits, self.schedule.lsb_bits
        KVFormat(high, self.schedule.value_bits)  # names widths that a cache does not offer
        if high is not None and low != LOW_BITS:
            raise InvalidValueError(f"lsb_bits is {low} for a decoder", where="apply", expected=f"{LOW_BITS}")
        if self.shrink_prefill:  # nothing is known before the first layer of the prompt's pass
            self.schedule.check(self.info.layers, self.info.heads)
        plan = self.schedule.plan(self.info.layers, self.info.heads)
        object.__setattr__(self, "plan", plan)

    @property
    def sink(self) -> int:
        """How many of the first tokens are never pruned."""
        return max(1, self.plan.sink)

    @property
    def recent(self) -> int:
        """How many of the newest tokens are never pruned."""
        return max(1, self.plan.recent)
