from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from weights import PATTERNS, generator, names, random_mask, random_weight

from sparsecore.errors import InvalidValueError, NamedError, PatternError, ShapeError, UnknownNameError
from sparsecore.patterns import NM, Block, Unstructured, parse


@pytest.mark.parametrize("pattern", PATTERNS, ids=names)
def test_parse_reads_every_name(pattern):
    assert parse(pattern.name) == pattern
    assert parse(pattern) is pattern


@pytest.mark.parametrize(
    ("text", "pattern"),
    [(" 2:4 ", NM(2, 4)), ("Block 8", Block(8, 8)), ("block16x1", Block(16, 1)), ("UNSTRUCTURED", Unstructured())],
)
def test_parse_accepts_variants(text, pattern):
    assert parse(text) == pattern


@pytest.mark.parametrize("text", ["", "2/4", "2:4:8", "blocks 3", "-1:4", "block 4x", "²:4"])
def test_parse_refuses_other_text(text):
    with pytest.raises(UnknownNameError, match="no such sparsity pattern"):
        parse(text)


@pytest.mark.parametrize("text", ["4:4", "0:4", "5:4", "1:33", "block 0x4"])
def test_sizes_out_of_range_are_named(text):
    with pytest.raises(InvalidValueError, match="no such pattern"):
        parse(text)


def test_every_n_m_of_the_range_exists():
    assert sum(NM(n, m).kept_per_row(m) == n for m in range(2, 33) for n in range(1, m)) == 31 * 32 // 2


@pytest.mark.parametrize("pattern", PATTERNS, ids=names)
def test_mask_covers_the_non_zeros(pattern, seed):
    rng = generator(seed)
    for rows, cols in ((1, 1), (5, 37), (33, 64), (0, 8), (8, 0)):
        dense = random_weight(rows, cols, pattern, rng)
        mask = pattern.mask(dense)
        assert mask.shape == dense.shape
        assert not bool((dense[~mask] != 0).any())
        if rows * cols:
            assert pattern.density(dense) == pytest.approx(int(mask.sum()) / mask.numel())
        else:
            assert pattern.density(dense) == 1


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_n_m_keeps_exactly_n_of_each_group(data):
    m = data.draw(st.integers(2, 32))
    n = data.draw(st.integers(1, m - 1))
    cols = data.draw(st.integers(0, 70))
    pattern = NM(n, m)
    dense = random_weight(3, cols, pattern, generator(data.draw(st.integers(0, 2**31))))
    mask = pattern.mask(dense)
    for start in range(0, cols, m):
        group = mask[:, start : start + m]
        assert bool((group.sum(1) == min(n, group.shape[1])).all())
    assert int(mask[0].sum()) == pattern.kept_per_row(cols)


def test_n_m_keeps_negative_zeros_before_zeros_and_low_indices_first():
    dense = torch.tensor([[0.0, 0.0, -0.0, 5.0], [0.0, 0.0, 0.0, 0.0], [0.0, -0.0, -0.0, -0.0]])
    assert NM(2, 4).mask(dense).int().tolist() == [[0, 0, 1, 1], [1, 1, 0, 0], [0, 1, 1, 0]]


def test_violation_is_located():
    dense = torch.zeros(3, 12)
    dense[1, 4:7] = 1
    with pytest.raises(PatternError) as caught:
        NM(2, 4).mask(dense)
    assert "row 1, columns 4..7" in str(caught.value)
    assert "3 non-zeros" in str(caught.value)


def test_block_and_unstructured_masks_by_hand():
    dense = torch.zeros(3, 5)
    dense[2, 4] = 1
    dense[0, 0] = -0.0
    assert Block(2, 2).mask(dense).int().tolist() == [[0] * 5, [0] * 5, [0, 0, 0, 0, 1]]
    assert Block(100, 100).mask(dense).all()
    assert Unstructured().mask(dense).sum() == 1


def test_nan_is_a_non_zero():
    dense = torch.tensor([[float("nan"), 0.0, 0.0, 1.0]])
    assert Unstructured().mask(dense).tolist() == [[True, False, False, True]]
    with pytest.raises(PatternError):
        NM(1, 4).mask(dense)


@pytest.mark.parametrize("pattern", [NM(2, 4), Block(2, 2), Unstructured()], ids=names)
def test_only_matrices_have_masks(pattern):
    with pytest.raises(ShapeError, match="dimensions"):
        pattern.mask(torch.zeros(4))


def test_random_masks_satisfy_their_pattern(seed):
    rng = generator(seed)
    for pattern in PATTERNS:
        mask = random_mask(9, 45, pattern, rng)
        assert torch.equal(pattern.mask(mask.float()) | mask, pattern.mask(mask.float()))


def test_pattern_errors_are_named_errors():
    with pytest.raises(NamedError):
        NM(1, 1)
