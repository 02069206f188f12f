from __future__ import annotations

import copy
import dataclasses
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from weights import PATTERNS, generator, names, random_weight

import sparsecore as sc
from sparsecore.backends.cpu import formats as cpu
from sparsecore.backends.reference import formats as reference
from sparsecore.errors import CorruptFileError, DtypeError, IndexTableError, NamedError, PatternError, ShapeError
from sparsecore.formats import StoredWeight, find_pattern, from_tensors, pack
from sparsecore.patterns import NM, Block, Unstructured

SHAPES = ((1, 1), (0, 8), (8, 0), (0, 0), (7, 13), (33, 70), (64, 128))
BITS = {torch.float32: torch.int32, torch.float16: torch.int16, torch.bfloat16: torch.int16}


def same_bits(a, b):
    return torch.equal(a.contiguous().view(BITS[a.dtype]), b.contiguous().view(BITS[b.dtype]))


@pytest.mark.parametrize("pattern", PATTERNS, ids=names)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_round_trip(pattern, shape, dtype, seed):
    dense = random_weight(*shape, pattern, generator(seed), dtype)
    stored = pack(dense, pattern)
    assert same_bits(stored.unpack(), dense)
    assert (stored.pattern, stored.shape, stored.dtype) == (pattern, shape, dtype)
    assert torch.equal(stored.keep_mask(), pattern.mask(dense))
    again = from_tensors(stored.tensors)
    assert again.pattern == pattern
    assert same_bits(again.unpack(), dense)
    if dense.numel():
        assert stored.density == pytest.approx(pattern.density(dense))


@pytest.mark.parametrize("pattern", PATTERNS, ids=names)
def test_compiled_and_reference_forms_are_equal(pattern, dtype, seed):
    for shape in SHAPES:
        dense = random_weight(*shape, pattern, generator(seed), dtype)
        theirs, ours = reference.pack(dense, pattern), cpu.pack(dense, pattern)
        assert theirs.keys() == ours.keys()
        for name in ours:
            assert torch.equal(theirs[name], ours[name]), name
            assert theirs[name].dtype == ours[name].dtype
        assert same_bits(reference.unpack(pattern, shape, ours), cpu.unpack(pattern, shape, ours))
        reference.validate(pattern, shape, ours)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_kept_bits_survive_whatever_they_mean(data):
    """NaN payloads, subnormals and infinities come back bit for bit."""
    pattern = data.draw(st.sampled_from(PATTERNS))
    dtype = data.draw(st.sampled_from(list(BITS)))
    rows, cols = data.draw(st.integers(0, 9)), data.draw(st.integers(0, 40))
    seed = data.draw(st.integers(0, 2**31))
    mask = random_weight(rows, cols, pattern, generator(seed)) != 0
    info = torch.iinfo(BITS[dtype])
    bits = torch.randint(info.min, info.max, (rows, cols), generator=generator(seed + 1)).to(BITS[dtype])
    dense = torch.where(mask, bits, 0).view(dtype)
    dense = torch.where(dense == 0, 0, dense)
    assert same_bits(pack(dense, pattern).unpack(), dense)


def test_two_of_four_is_the_form_of_compressed_tensors():
    dense = torch.tensor([[1.0, 0, 2, 0, 0, 3, 0, 4], [0, 0, 5, 6, 7, 0, 0, 0]])
    tensors = pack(dense, NM(2, 4)).tensors
    assert set(tensors) == {"shape", "compressed", "bitmask"}
    assert tensors["shape"].tolist() == [2, 8]
    assert tensors["compressed"].tolist() == [[1, 2, 3, 4], [5, 6, 7, 0]]
    expected = np.packbits([[1, 0, 1, 0, 0, 1, 0, 1], [0, 0, 1, 1, 1, 1, 0, 0]], axis=-1, bitorder="little")
    assert tensors["bitmask"].tolist() == expected.tolist()


def test_unstructured_is_the_form_of_compressed_tensors():
    dense = torch.tensor([[0.0] * 8 + [1.0], [0.0] * 9, [2.0, 3.0] + [0.0] * 7])
    tensors = pack(dense, "unstructured").tensors
    assert set(tensors) == {"shape", "compressed", "bitmask", "row_offsets"}
    assert tensors["compressed"].tolist() == [1, 2, 3]
    assert tensors["bitmask"].tolist() == [[0, 1], [0, 0], [3, 0]]
    assert tensors["row_offsets"].tolist() == [0, 1, 1]


def test_codes_by_hand():
    dense = torch.zeros(1, 16)
    dense[0, [2, 5, 8, 15]] = torch.tensor([1.0, 2, 3, 4])
    tensors = pack(dense, NM(1, 4)).tensors
    assert tensors["nm"].tolist() == [1, 4]
    assert tensors["codes"].tolist() == [[2 | 1 << 2 | 0 << 4 | 3 << 6]]


def test_blocks_by_hand():
    dense = torch.zeros(3, 5)
    dense[2, 4], dense[0, 1] = 7, 1
    tensors = pack(dense, Block(2, 2)).tensors
    assert tensors["block"].tolist() == [2, 2]
    assert tensors["block_cols"].tolist() == [0, 2]
    assert tensors["block_row_offsets"].tolist() == [0, 1, 2]
    assert tensors["blocks"].tolist() == [[[0, 1], [0, 0]], [[7, 0], [0, 0]]]


def test_negative_zeros_survive_where_zeros_are_stored():
    """`weight * mask` leaves negative zeros; only N:M has room for them, the other forms give +0 back."""
    dense = torch.tensor([[-0.0, 1.0, 0.0, -0.0, 0.0, 0.0, 0.0, 0.0]])
    assert torch.signbit(pack(dense, "2:4").unpack()).tolist() == [[True] + [False] * 7]
    for pattern in (Unstructured(), Block(1, 1)):
        assert same_bits(pack(dense, pattern).unpack(), dense + 0)
    assert torch.signbit(pack(dense, Block(1, 4)).unpack()).sum() == 2


def test_names_and_shapes_of_others_are_read():
    stored = pack(torch.eye(4).repeat(1, 2), NM(2, 4))
    foreign = {f"weight.{name}": tensor for name, tensor in stored.tensors.items()}
    foreign["weight.shape"] = torch.tensor([[4], [8]])
    assert torch.equal(from_tensors(foreign).unpack(), stored.unpack())


def test_two_of_four_in_bf16_takes_at_most_0_57_of_dense(seed):
    dense = random_weight(384, 1536, NM(2, 4), generator(seed), torch.bfloat16)
    assert pack(dense, NM(2, 4)).nbytes <= 0.57 * dense.numel() * 2


def test_codes_are_used_only_where_smaller():
    for pattern in (NM(n, m) for m in range(2, 33) for n in range(1, m)):
        tensors = pack(torch.zeros(2, 8 * pattern.m), pattern).tensors
        index = tensors.get("codes", tensors.get("bitmask"))
        code_bits = pattern.n * (pattern.m - 1).bit_length()
        assert ("codes" in tensors) == (code_bits < pattern.m)
        assert index.shape[1] == min(code_bits, pattern.m)


def test_a_stored_weight_does_not_change(seed):
    stored = pack(random_weight(4, 8, NM(2, 4), generator(seed)), NM(2, 4))
    with pytest.raises(dataclasses.FrozenInstanceError):
        stored.shape = (1, 1)
    with pytest.raises(TypeError):
        stored.tensors["shape"] = torch.zeros(2)
    for copied in (copy.deepcopy(stored), pickle.loads(pickle.dumps(stored))):
        assert torch.equal(copied.unpack(), stored.unpack())


def test_input_of_pack_is_checked():
    with pytest.raises(ShapeError, match="3 dimensions"):
        pack(torch.zeros(1, 2, 3), "2:4")
    with pytest.raises(DtypeError, match="float64"):
        pack(torch.zeros(2, 4, dtype=torch.float64), "2:4")
    with pytest.raises(PatternError):
        pack(torch.ones(2, 4), "2:4")
    with pytest.raises(PatternError):
        reference.pack(torch.ones(2, 4), NM(2, 4))


def test_strided_and_gradient_carrying_weights_pack(seed):
    dense = random_weight(16, 12, NM(2, 4), generator(seed))
    assert torch.equal(pack(dense.t().contiguous().t(), "2:4").unpack(), dense)
    assert torch.equal(pack(torch.nn.Parameter(dense), "2:4").unpack(), dense)
    assert torch.equal(pack(dense[::2], "2:4").unpack(), dense[::2])


def str_or_none(value):
    return value if isinstance(value, str) else ""


def broken_forms(seed):
    """(name of the damage, tensors) of every kind of malformed stored weight."""
    rng = generator(seed)
    forms = {p: dict(pack(random_weight(6, 21, p, rng), p).tensors) for p in PATTERNS}

    def changed(pattern, name, value):
        return {**forms[pattern], name: value}

    bitmask, codes = forms[NM(2, 4)]["bitmask"], forms[NM(1, 4)]["codes"]
    yield "no shape", {k: v for k, v in forms[NM(2, 4)].items() if k != "shape"}
    yield "unknown names", changed(NM(2, 4), "extra", bitmask)
    yield "float shape", changed(NM(2, 4), "shape", torch.tensor([6.0, 21.0]))
    yield "three sizes", changed(NM(2, 4), "shape", torch.tensor([6, 21, 1]))
    yield "negative size", changed(NM(2, 4), "shape", torch.tensor([-6, 21]))
    yield "other size", changed(NM(2, 4), "shape", torch.tensor([6, 40]))
    yield "huge size", changed(NM(2, 4), "shape", torch.tensor([2**62, 2**62]))
    yield "short values", changed(NM(2, 4), "compressed", forms[NM(2, 4)]["compressed"][:, :-1])
    yield "short bitmask", changed(NM(2, 4), "bitmask", bitmask[:-1])
    yield "bitmask dtype", changed(NM(2, 4), "bitmask", bitmask.int())
    yield "too many bits", changed(NM(2, 4), "bitmask", bitmask | 255)
    yield "no bits", changed(NM(2, 4), "bitmask", bitmask & 0)
    yield "n above m", changed(NM(4, 8), "nm", torch.tensor([8, 4]))
    yield "other n", changed(NM(4, 8), "nm", torch.tensor([3, 8]))
    yield "code past the end", changed(NM(1, 4), "codes", codes | 255)
    yield "unsorted codes", changed(NM(2, 8), "codes", forms[NM(2, 8)]["codes"] & 0)
    yield "bitmask of another row", changed(Unstructured(), "bitmask", forms[Unstructured()]["bitmask"] ^ 1)
    offsets = forms[Unstructured()]["row_offsets"]
    yield "row offsets out of range", changed(Unstructured(), "row_offsets", offsets + 1000)
    yield "negative row offsets", changed(Unstructured(), "row_offsets", offsets - 1)
    yield "int64 values", changed(Unstructured(), "compressed", forms[Unstructured()]["compressed"].long())
    block = forms[Block(3, 5)]
    dense_blocks = dict(pack(torch.ones(6, 21), Block(3, 5)).tensors)
    yield "block column out of range", {**dense_blocks, "block_cols": dense_blocks["block_cols"] + 1000}
    yield "negative block column", {**dense_blocks, "block_cols": dense_blocks["block_cols"] - 1}
    yield "unsorted block columns", {**dense_blocks, "block_cols": dense_blocks["block_cols"].flip(0)}
    yield "repeated block columns", {**dense_blocks, "block_cols": dense_blocks["block_cols"] * 0}
    yield "short block columns", {**dense_blocks, "block_cols": dense_blocks["block_cols"][:-1]}
    yield "block offsets too large", {**dense_blocks, "block_row_offsets": dense_blocks["block_row_offsets"] * 1000}
    yield "block offsets descend", {**dense_blocks, "block_row_offsets": dense_blocks["block_row_offsets"].flip(0)}
    yield "short block offsets", {**dense_blocks, "block_row_offsets": dense_blocks["block_row_offsets"][:-1]}
    yield "padding not zero", {**dense_blocks, "blocks": torch.ones_like(dense_blocks["blocks"])}
    yield "zero block size", {**block, "block": torch.tensor([0, 5])}
    yield "other block size", {**block, "block": torch.tensor([5, 3])}


@pytest.mark.parametrize(("damage", "tensors"), list(broken_forms(7)), ids=str_or_none)
def test_malformed_tensors_are_named(damage, tensors):
    with pytest.raises(NamedError):
        print(damage, from_tensors(tensors))


def test_reference_refuses_the_same_indices():
    for damage, tensors in broken_forms(7):
        if damage in ("too many bits", "no bits", "code past the end", "unsorted codes", "row offsets out of range"):
            pattern = {"too many bits": NM(2, 4), "no bits": NM(2, 4), "code past the end": NM(1, 4)}.get(
                damage, NM(2, 8) if "codes" in tensors else Unstructured()
            )
            with pytest.raises(IndexTableError):
                reference.validate(pattern, (6, 21), tensors)
        elif damage.startswith(("block col", "negative block", "unsorted block", "repeated", "block offsets")):
            with pytest.raises(IndexTableError):
                reference.validate(Block(3, 5), (6, 21), tensors)
        elif damage == "padding not zero":
            with pytest.raises(PatternError):
                reference.validate(Block(3, 5), (6, 21), tensors)


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_random_damage_raises_or_stays_a_weight(data):
    """A stored form with random bytes in any tensor is refused by name, or it is a valid weight; it never crashes."""
    pattern = data.draw(st.sampled_from(PATTERNS))
    rng = generator(data.draw(st.integers(0, 2**31)))
    tensors = {k: v.clone() for k, v in pack(random_weight(5, 37, pattern, rng), pattern).tensors.items()}
    victim = tensors[data.draw(st.sampled_from(sorted(tensors)))].reshape(-1).view(torch.uint8)
    for _ in range(data.draw(st.integers(1, 4))):
        if victim.numel():
            victim[data.draw(st.integers(0, victim.numel() - 1))] = data.draw(st.integers(0, 255))
    try:
        stored = from_tensors(tensors)
    except NamedError:
        return
    if stored.shape[0] * stored.shape[1] > 1 << 24:
        return  # without blocks, any number of columns is a weight; too many to unpack
    assert stored.unpack().shape == stored.shape
    packed = sc.PackedWeight.from_stored(stored)
    assert same_bits(packed.to_dense(), stored.unpack())
    assert packed.linear(torch.randn(2, stored.shape[1])).shape == (2, stored.shape[0])


@pytest.mark.parametrize("pattern", [NM(2, 4), NM(1, 4), NM(4, 8), NM(2, 8), NM(1, 2), NM(1, 8)], ids=names)
def test_find_pattern_of_n_m(pattern, seed):
    mask = random_weight(64, 96, pattern, generator(seed)) != 0
    dense = torch.where(mask, torch.randn(64, 96, generator=generator(seed)), 0)
    assert find_pattern(dense) == pattern


@pytest.mark.parametrize("pattern", [Block(32, 32), Block(16, 16), Block(4, 4), Block(32, 1), Block(1, 16)], ids=names)
def test_find_pattern_of_blocks(pattern, seed):
    dense = random_weight(128, 192, pattern, generator(seed))
    assert find_pattern(dense) == pattern


def test_find_pattern_prefers_what_saves_bytes(seed):
    rng = generator(seed)
    assert find_pattern(random_weight(64, 96, Unstructured(), rng)) == Unstructured()
    assert find_pattern(torch.randn(64, 96, generator=rng)) is None
    few = torch.randn(64, 96, generator=rng)
    few[0, :5] = 0
    assert find_pattern(few) is None
    assert isinstance(find_pattern(torch.zeros(256, 256)), Block)
    assert find_pattern(torch.zeros(0, 4)) is None


def test_found_patterns_pack_smaller(seed):
    rng = generator(seed)
    for pattern in PATTERNS:
        dense = random_weight(32, 64, pattern, rng)
        found = find_pattern(dense)
        if found is not None:
            assert pack(dense, found).nbytes < dense.numel() * 4
        else:
            assert pack(dense, "unstructured").nbytes >= dense.numel() * 4


def test_validate_sees_a_later_change(seed):
    stored = pack(random_weight(8, 16, NM(2, 4), generator(seed)), "2:4")
    stored.tensors["bitmask"].fill_(255)
    with pytest.raises(IndexTableError):
        stored.validate()


def test_errors_of_from_tensors_name_the_tensors():
    with pytest.raises(CorruptFileError, match="no stored weight"):
        from_tensors({"shape": torch.tensor([1, 1]), "values": torch.zeros(1)})
    with pytest.raises(ShapeError, match="compressed"):
        StoredWeight(
            NM(2, 4), (4, 4), torch.float32,
            {"shape": torch.tensor([4, 4]), "compressed": torch.zeros(4, 4), "bitmask": torch.zeros(4, 1).byte()},
        )  # fmt: skip


@pytest.mark.parametrize("shape", [(8, 2**40), (2**30, 2**30), (2**20, 2**62)], ids=str)
def test_a_weight_larger_than_the_memory_is_named(shape):
    """Without blocks, a few bytes stand for any size."""
    block = Block(min(shape[0], 2**20), 2**20)
    stored = from_tensors(
        {
            "shape": torch.tensor(shape),
            "block": torch.tensor(block.sizes),
            "blocks": torch.zeros(0, *block.sizes),
            "block_cols": torch.zeros(0, dtype=torch.int32),
            "block_row_offsets": torch.zeros(shape[0] // block.rows + 1, dtype=torch.int64),
        }
    )
    assert stored.density == 0
    for dense in (stored.unpack, stored.keep_mask):
        with pytest.raises(ShapeError, match="memory of this machine"):
            dense()
    with pytest.raises(ShapeError, match=r"memory of this machine|weight is too large"):
        sc.PackedWeight.from_stored(stored).to_dense()
