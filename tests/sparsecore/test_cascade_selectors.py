"""Selectors against their definitions, one sequence at a time and by the slow way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import pytest
import torch
from torch import Tensor

from sparsecore.cascade.selectors import SELECTORS, Selector, View, choose, selector_of
from sparsecore.cascade.selectors.diversity import spread_out
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


def keys_of(view: View, sequence: int, count: int) -> Tensor:
    assert view.keys is not None
    flat = view.keys[sequence, :, :count].double().transpose(0, 1).flatten(1)
    return flat / flat.norm(dim=1, keepdim=True)


@pytest.mark.parametrize("layer", [0, 2, 5])
def test_pagerank_equals_its_definition(layer: int, seed: int) -> None:
    """Power iteration head by head, filter, root mean square; then the duplicates of the lesser half."""
    view, spread = view_of(seed, layer=layer), (0.05, 0.5)
    assert view.probabilities is not None
    index = choose(selector_of("pagerank", similar=0.5, spread=spread), view)
    times = {0: 30, 2: 5, 5: 1}[layer]
    for sequence, (count, keep) in enumerate(zip(COUNTS, KEEP, strict=True)):
        if count == 0:
            continue
        squares, used = torch.zeros(count).double(), 0
        scores = []
        for head in range(3):
            p = view.probabilities[sequence, head, :count, :count].double()
            score = torch.full((count,), 1 / count).double()
            for _ in range(times):
                score = torch.stack([sum(p[i, j] * score[i] for i in range(count)) for j in range(count)])  # type: ignore[misc]
            scores.append(score * count)
        fit = [s for s in scores if spread[0] <= (s - 1).square().mean() <= spread[1]] or scores
        for score in fit:
            squares, used = squares + score.square(), used + 1
        importance = (squares / used).sqrt()
        order = sorted(range(count), key=lambda i: (-float(importance[i]), i))
        better = order[: count - count // 2]
        lesser = [i for i in range(1, count) if i not in better]
        keys = keys_of(view, sequence, count)
        alike = sorted(lesser, key=lambda i: (-max(float(keys[i] @ keys[j]) for j in better), i))
        gone = alike[: min(len(lesser), (count - keep) // 2)]
        rank = [9.0 if i == 0 else -1.0 if i in gone else float(importance[i]) for i in range(count)]
        assert index[sequence, :keep].tolist() == best(rank, keep)


def farthest(features: Tensor, chosen: list[int], number: int) -> list[int]:
    """The greedy max-min search by lists, until `number` are chosen."""
    unit = features.double() / features.double().norm(dim=1, keepdim=True)
    distance = 1 - unit @ unit.T
    chosen = list(chosen)
    while len(chosen) < number:
        free = [i for i in range(len(features)) if i not in chosen]
        among = chosen or None
        near = {
            i: min((float(distance[i, j]) for j in (among or range(len(features))) if j != i), default=0.0)
            for i in free
        }
        chosen.append(max(free, key=lambda i: (near[i], -i)))
    return chosen


@pytest.mark.parametrize("protect", [True, False])
def test_diversity_equals_the_greedy_search(protect: bool, seed: int) -> None:
    view = view_of(seed)
    assert view.hidden is not None
    if not protect:
        view = replace(view, protected=torch.zeros_like(view.protected))
    index = choose(selector_of("diversity"), view)
    for sequence, (count, keep) in enumerate(zip(COUNTS, KEEP, strict=True)):
        begin = [0] if protect and count else []
        own = farthest(view.hidden[sequence, :count], begin, keep)
        assert index[sequence, :keep].tolist() == sorted(own)


def test_diversity_is_within_twice_of_the_best_set(seed: int) -> None:
    """What the greedy search is known to reach: half of the largest possible minimum distance, on a metric."""
    g = torch.Generator().manual_seed(seed)
    points = torch.randn(9, 3, generator=g)
    unit = points / points.norm(dim=1, keepdim=True)
    chord = (2 * (1 - unit @ unit.T).clamp_min(0)).sqrt()  # the cosine distance grows with the chord, which is a metric

    def closest(members: Sequence[int]) -> float:
        return min(float(chord[i, j]) for i, j in combinations(members, 2))

    rank = spread_out(points[None], torch.ones(1, 9).bool(), torch.zeros(1, 9).bool(), 4)[0]
    found = closest(rank.argsort(descending=True)[:4].tolist())
    assert found >= max(closest(members) for members in combinations(range(9), 4)) / 2 - 1e-5


def test_flow_equals_its_definition_over_three_layers(seed: int) -> None:
    selector, memory = selector_of("flow", momentum=0.4), None
    expected: list[Tensor] = [torch.zeros(count).double() for count in COUNTS]
    for layer in range(3):
        view = replace(view_of(seed + layer, layer=layer), memory=memory)
        assert view.probabilities is not None
        assert view.values is not None
        index = choose(selector, view)
        memory = selector.observe(view)
        for sequence, (count, keep) in enumerate(zip(COUNTS, KEEP, strict=True)):
            if count == 0:
                continue
            p, v = (x[sequence].double() for x in (view.probabilities, view.values))
            relation = torch.stack([p[:, 0, j].mean() for j in range(count)])
            semantics = torch.zeros(count).double()
            for head in range(3):
                semantics += torch.softmax(v[head, :count] @ v[head, 0] / 8**0.5, 0) / 3
            flow = (relation / relation.sum() + semantics) * v[:, :count].mean(0).abs().sum(1)
            flow = flow / flow.sum()
            expected[sequence] = flow if layer == 0 else 0.4 * expected[sequence] + 0.6 * flow
            assert memory is not None
            torch.testing.assert_close(memory[sequence, :count].double(), expected[sequence], rtol=1e-4, atol=1e-6)
            rank = [9.0, *expected[sequence][1:].tolist()]
            assert index[sequence, :keep].tolist() == best(rank, keep)


@pytest.mark.parametrize("layer", [0, 2, 4])
def test_staged_fills_with_attention_and_then_with_diversity(layer: int, seed: int) -> None:
    view = view_of(seed, layer=layer)
    assert view.probabilities is not None
    assert view.hidden is not None
    index = choose(selector_of("staged", early=0.2, late=0.8), view)
    share = {0: 0.2, 2: 0.5, 4: 0.8}[layer]
    for sequence, (count, keep) in enumerate(zip(COUNTS, KEEP, strict=True)):
        received = view.probabilities[sequence, :, :count, :count].double().sum(dim=(0, 1)).tolist()
        first = max(math.floor(keep * share + 1e-6), min(1, count))
        chosen = best([1e9, *received[1:]][:count], first)
        own = farthest(view.hidden[sequence, :count], chosen, keep)
        assert index[sequence, :keep].tolist() == sorted(own)


def test_heavy_keeps_sinks_recent_and_heavy(seed: int) -> None:
    view = view_of(seed, counts=(24, 20, 3, 0), keep=(10, 9, 2, 0))
    index = choose(selector_of("heavy", sink=2, recent=0.5), view)
    for sequence, (count, keep) in enumerate(((24, 10), (20, 9), (3, 2))):
        places = view.positions[sequence, :count].tolist()
        own = [i for i in range(count) if places[i] < 2][:keep]
        own += [i for i in range(count - 1, count - 1 - keep // 2, -1) if i not in own][: keep - len(own)]
        rest = sorted((i for i in range(count) if i not in own), key=lambda i: (-int(view.importance[sequence, i]), i))
        own += rest[: keep - len(own)]
        assert index[sequence, :keep].tolist() == sorted(own)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("pagerank", {"similar": 2}),
        ("pagerank", {"iterations": (1, 0, 1)}),
        ("flow", {"momentum": 1}),
        ("staged", {"early": -1}),
        ("heavy", {"sink": -1}),
        ("heavy", {"recent": 1.5}),
    ],
)
def test_settings_out_of_range_are_refused(name: str, settings: dict[str, object]) -> None:
    with pytest.raises(InvalidValueError, match=next(iter(settings)) if name != "staged" else "shares"):
        selector_of(name, **settings)
