"""Selectors against their definitions, one sequence at a time and by the slow way."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sparsecore.cascade.selectors import SELECTORS, Selector, View, choose, selector_of
from sparsecore.errors import InvalidValueError, UnknownNameError

COUNTS = (17, 9, 1, 0, 24)
KEEP = (6, 9, 1, 0, 11)


def view_of(seed: int, counts: tuple[int, ...] = COUNTS, keep: tuple[int, ...] = KEEP, layer: int = 2) -> View:
    """Random tensors of a layer with 3 heads of 8 on 24 slots; padding slots hold garbage."""
    g = torch.Generator().manual_seed(seed)
    batch, n = len(counts), 24
    valid = torch.arange(n) < torch.tensor(counts)[:, None]
    gaps = torch.randint(1, 4, (batch, n), generator=g).cumsum(1)
    scores = torch.randn(batch, 3, n, n, generator=g).masked_fill(~valid[:, None, None, :], -1e30)
    return View(
        importance=torch.randint(0, 9, (batch, n), generator=g),  # many ties
        positions=(gaps - gaps[:, :1]).masked_fill(~valid, 7),
        counts=torch.tensor(counts),
        keep=torch.tensor(keep),
        protected=(torch.arange(n) == 0).expand(batch, n) & valid,
        layer=layer,
        layers=6,
        width=max(keep),
        probabilities=scores.softmax(-1),
        hidden=torch.randn(batch, n, 10, generator=g),
        keys=torch.randn(batch, 3, n, 8, generator=g),
        values=torch.randn(batch, 3, n, 8, generator=g),
    )


def alone(view: View, sequence: int) -> View:
    """The same sequence without the others and without padding."""
    count = int(view.counts[sequence])
    rows = slice(sequence, sequence + 1)
    cut = {name: getattr(view, name)[rows, :count] for name in ("importance", "positions", "protected", "hidden")}
    cut |= {name: getattr(view, name)[rows, :, :count] for name in ("keys", "values")}
    assert view.probabilities is not None
    return View(
        counts=view.counts[rows], keep=view.keep[rows], width=int(view.keep[sequence]), layer=view.layer,
        layers=view.layers, probabilities=view.probabilities[rows, :, :count, :count], **cut,
    )  # fmt: skip


def best(rank: list[float], keep: int) -> list[int]:
    return sorted(sorted(range(len(rank)), key=lambda i: (-rank[i], i))[:keep])


@pytest.mark.parametrize("name", SELECTORS)
def test_a_sequence_keeps_in_a_batch_what_it_keeps_alone(name: str, seed: int) -> None:
    view, selector = view_of(seed), selector_of(name)
    together = choose(selector, view)
    assert together.shape == (5, 11) and together.dtype == torch.int64
    for sequence, (count, keep) in enumerate(zip(COUNTS, KEEP, strict=True)):
        own = together[sequence, :keep].tolist()
        assert own == sorted(set(own)) and all(slot < count for slot in own)
        assert keep == 0 or own[0] == 0  # protected
        assert not together[sequence, keep:].any()
        assert choose(selector, alone(view, sequence))[0].tolist() == own
    assert torch.equal(choose(selector_of(name), view), together)


def test_accumulated_keeps_the_highest_and_protected_ones_first(seed: int) -> None:
    view = view_of(seed)
    index = choose(selector_of("accumulated"), view)
    for sequence, (count, keep) in enumerate(zip(COUNTS, KEEP, strict=True)):
        rank = [99.0, *view.importance[sequence, 1:count].tolist()]
        assert index[sequence, :keep].tolist() == best(rank[:count], keep)


def test_recent_keeps_the_last(seed: int) -> None:
    index = choose(selector_of("recent"), view_of(seed))
    assert index[0, :6].tolist() == [0, 12, 13, 14, 15, 16]


def test_random_is_even_and_depends_on_its_seed() -> None:
    n = 4096
    view = View(
        importance=torch.zeros(1, n, dtype=torch.int64), positions=torch.arange(n)[None], counts=torch.tensor([n]),
        keep=torch.tensor([n // 4]), protected=torch.zeros(1, n, dtype=torch.bool), layer=0, layers=2, width=n // 4,
    )  # fmt: skip
    chosen = [set(choose(selector_of("random", seed=s), view)[0].tolist()) for s in range(3)]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert abs(len(chosen[one] & chosen[other]) - n / 16) < 100  # independent: n/16 in common
    for own in chosen:
        assert abs(sum(own) / len(own) - n / 2) < 150  # no part of the sequence is preferred


def test_names_and_objects_that_are_no_selector_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="accumulated"):
        selector_of("acumulated")
    with pytest.raises(InvalidValueError, match="seeds"):
        selector_of("random", seeds=3)
    with pytest.raises(InvalidValueError, match="a name or a Selector"):
        selector_of(3)  # type: ignore[arg-type]


def test_a_selector_of_ones_own_is_taken(seed: int) -> None:
    class Shortest:
        name = "shortest"
        needs = frozenset({"hidden"})
        generates = False

        def observe(self, view: View) -> Tensor | None:
            return None

        def rank(self, view: View) -> Tensor:
            assert view.hidden is not None
            return -view.hidden.norm(dim=-1)

    own: Selector = selector_of(Shortest())
    view = view_of(seed)
    assert view.hidden is not None
    rank = [9.0, *(-view.hidden[0, 1:17].norm(dim=-1)).tolist()]
    assert choose(own, view)[0, :6].tolist() == best(rank, 6)
