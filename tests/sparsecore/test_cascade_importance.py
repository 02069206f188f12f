from __future__ import annotations

import pytest
import torch

from sparsecore.cascade.importance import SCORE_BITS, Importance, importance_of, queries_that_see
from sparsecore.errors import InvalidValueError, UnknownNameError

UNIT = 1 << SCORE_BITS


@pytest.mark.parametrize("option", ["paper", "mean", "decay"])
def test_options_equal_their_definition(option: str, seed: int) -> None:
    """Six updates of two heads under a causal mask, against sums in float64, query by query."""
    g = torch.Generator().manual_seed(seed)
    n, heads, rule = 13, 2, Importance(option, decay=0.7)
    total = seen = torch.zeros(1, n, dtype=torch.int64)
    weight_sum, weights = torch.zeros(n).double(), torch.zeros(n).double()
    causal = torch.ones(n, n, dtype=torch.bool).tril()
    for _ in range(6):
        p = torch.randn(heads, n, n, generator=g).masked_fill(~causal, -torch.inf).softmax(-1).double()
        counted = torch.rand(1, n, generator=g) < 0.8
        sums = (p * UNIT).round().to(torch.int64)[:, counted[0]].sum(dim=(0, 1))[None]
        total, seen = rule.add(total, seen, sums, heads * queries_that_see(counted, causal=True))
        left = 0.7 if option == "decay" else 1.0
        weight_sum, weights = weight_sum * left, weights * left
        for head in range(heads):
            for query in counted[0].nonzero().flatten().tolist():
                for key in range(query + 1):
                    weight_sum[key] += p[head, query, key]
                    weights[key] += 1
    expected = weight_sum if option == "paper" else weight_sum / weights.clamp_min(1)
    scale = UNIT if option == "paper" else UNIT << 12
    torch.testing.assert_close(rule.ranking(total, seen)[0].double() / scale, expected, rtol=2e-4, atol=2e-5)


def test_mean_gives_a_late_token_what_the_raw_sum_denies_it() -> None:
    counted = torch.ones(1, 8, dtype=torch.bool)
    flat = torch.ones(8, 8).tril().double()
    p = flat / flat.sum(1, keepdim=True)
    sums = (p * UNIT).round().to(torch.int64).sum(0)[None]
    empty = torch.zeros(1, 8, dtype=torch.int64)
    paper, mean = Importance("paper"), Importance("mean")
    last = p.sum(0)[7] / p.sum(0)[0]
    total, seen = paper.add(empty, empty, sums, queries_that_see(counted, True))
    assert paper.ranking(total, seen)[0, 7] / paper.ranking(total, seen)[0, 0] == pytest.approx(last.item(), rel=1e-4)
    total, seen = mean.add(empty, empty, sums, queries_that_see(counted, True))
    assert mean.ranking(total, seen)[0, 7] / mean.ranking(total, seen)[0, 0] == pytest.approx(8 * last.item(), rel=1e-4)


def test_every_query_sees_every_key_without_a_causal_mask() -> None:
    counted = torch.tensor([[True, True, False], [True, False, False]])
    assert queries_that_see(counted, causal=False).tolist() == [[2, 2, 2], [1, 1, 1]]
    assert queries_that_see(counted, causal=True).tolist() == [[2, 1, 0], [1, 0, 0]]


def test_what_nothing_could_see_ranks_zero() -> None:
    empty = torch.zeros(2, 3, dtype=torch.int64)
    for option in ("paper", "mean", "decay"):
        assert not Importance(option).ranking(empty, empty).any()


def test_large_counts_do_not_overflow() -> None:
    for option in ("mean", "decay"):
        rule = Importance(option)
        total = seen = torch.zeros(1, 1, dtype=torch.int64)
        for _ in range(32):  # layers of 32 heads over 16384 queries, every probability 1
            queries = torch.tensor([[32 * 16384]])
            total, seen = rule.add(total, seen, queries * UNIT, queries)
        assert rule.ranking(total, seen).item() / (UNIT << 12) == pytest.approx(1, rel=1e-3)


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="paper, mean, decay"):
        importance_of("means")
    for value in (0, 1.5, True, "much"):
        with pytest.raises(InvalidValueError, match="decay"):
            Importance("decay", decay=value)  # type: ignore[arg-type]
