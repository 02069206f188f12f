"""How much of a model's work a cascade run did, part by part, and what each part owes its saving to."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from simulator.workload.ir import ModelInfo

__all__ = ["Work", "work_of"]


@dataclass(frozen=True, slots=True)
class Work:
    """Multiply-adds of a run as shares of the same run with everything kept; padding is not counted.

    Parameters
    ----------
    projections: queries, keys, values and output. attention: scores, and probabilities times values (local value
        pruning not counted). feed_forward: the rest of a layer. total: all layers.
    by_tokens: (projections, attention, feed_forward) as they would be with all heads.
    narrowed: whether the projections shrank with the heads, or computed all of them.
    """

    projections: float
    attention: float
    feed_forward: float
    total: float
    by_tokens: tuple[float, float, float]
    narrowed: bool

    def __str__(self) -> str:
        heads = "narrowed to the kept heads" if self.narrowed else "computed for all heads"
        saved = 1 - self.attention / self.by_tokens[1] if self.by_tokens[1] else 0.0
        return (
            f"total           {self.total:6.1%} of the dense multiply-adds\n"
            f"  projections   {self.projections:6.1%}  tokens alone {self.by_tokens[0]:.1%}; {heads}\n"
            f"  attention     {self.attention:6.1%}  tokens alone {self.by_tokens[1]:.1%}; "
            f"pruned heads, whose attention is skipped, save {saved:.1%} of that\n"
            f"  feed-forward  {self.feed_forward:6.1%}  tokens alone"
        )


def work_of(lengths: tuple[int, ...], tokens: Tensor, heads: Tensor, info: ModelInfo, narrowed: bool) -> Work:
    """Return the work of a run. lengths: of B sequences. tokens, heads: int64 [layers, B], kept ones."""
    n, share = tokens.double(), heads.double() / info.heads
    whole = n.new_tensor(lengths).expand_as(n)
    inner = info.heads * info.head_dim
    a_token, a_pair, behind = 4 * info.hidden * inner, 2 * inner, 2 * info.hidden * info.intermediate

    def ratio(kept: Tensor, dense: Tensor) -> float:
        return float(kept.sum() / dense.sum()) if float(dense.sum()) else 1.0

    projected = n * share if narrowed else n
    done = projected * a_token + n.square() * share * a_pair + n * behind
    dense = whole * (a_token + behind) + whole.square() * a_pair
    return Work(
        projections=ratio(projected, whole),
        attention=ratio(n.square() * share, whole.square()),
        feed_forward=ratio(n, whole),
        total=ratio(done, dense),
        by_tokens=(ratio(n, whole), ratio(n.square(), whole.square()), ratio(n, whole)),
        narrowed=narrowed,
    )
