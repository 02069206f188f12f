"""The matrix products of a workload: what tools that know no transformer can be asked about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, replace

from simulator.workload import AttentionOp, LinearOp, Workload

__all__ = ["Grouped", "Product", "grouped", "products"]


@dataclass(frozen=True, slots=True)
class Product:
    """[m x k] times [k x n], done `count` times; the second factor is the weight of a linear layer, or K^T or V.

    Parameters
    ----------
    pattern, density: of the second factor, as of `simulator.workload.LinearOp`.
    """

    name: str
    m: int
    n: int
    k: int
    count: int = 1
    linear: bool = True
    pattern: str = "dense"
    density: float = 1.0


@dataclass(frozen=True, slots=True)
class Grouped:
    """Products that are one to the other tool: the first one, which counts for all, and all of them."""

    first: Product
    all: tuple[Product, ...]


def products(workload: Workload) -> Iterator[Product]:
    """Yield the products of linear layers and of attention, without those of a size of 0.

    Of attention, for each head [queries x head_dim] [head_dim x keys] and [queries x values] [values x head_dim], where
    values are the V rows that any query of the head needs; heads of equal sizes are one product.
    """
    several = len(workload.sequences) > 1
    for op in workload.linear:
        name = _name(op, several, op.name)
        yield from _filled([Product(name, op.tokens, op.out_features, op.in_features, 1, True, op.pattern, op.density)])
    for attention in workload.attention:
        yield from _filled(_attention(attention, several))


def _filled(found: Iterable[Product]) -> Iterator[Product]:
    return (product for product in found if min(product.m, product.n, product.k, product.count) > 0)


def _attention(op: AttentionOp, several: bool) -> Iterator[Product]:
    first = f".head{op.heads[0]}" if op.heads else ""
    yield Product(_name(op, several, f"qk{first}"), op.queries, op.keys, op.head_dim, len(op.heads), False)
    for values, count in Counter(op.values).items():
        head = op.heads[op.values.index(values)]
        yield Product(_name(op, several, f"pv.head{head}"), op.queries, op.head_dim, values, count, False)


def _name(op: AttentionOp | LinearOp, several: bool, what: str) -> str:
    parts = (
        "" if op.layer is None else f"layer{op.layer}",
        what,
        f"sequence{op.sequence}" if several and op.sequence is not None else "",
        f"step{op.step}" if op.phase == "generate" else "",
    )
    return ".".join(filter(None, parts))


def grouped(found: Iterable[Product], key: Callable[[Product], Hashable]) -> list[Grouped]:
    """Return products of equal `key` together, in the order of the first of each; `first.count` is of all of them."""
    groups: dict[Hashable, list[Product]] = {}
    for product in found:
        groups.setdefault(key(product), []).append(product)
    return [Grouped(replace(all_[0], count=sum(p.count for p in all_)), tuple(all_)) for all_ in groups.values()]
