from __future__ import annotations

import contextlib
import copy
import gc
import os
import pickle
import subprocess
import sys
import weakref

import pytest
import torch
from weights import ISAS, PATTERNS, generator, names, random_mask, random_weight

from sparsecore import PackedWeight, ops, resident
from sparsecore.errors import DtypeError, NamedError, ResidentError, ShapeError, UnsupportedError
from sparsecore.formats import pack
from sparsecore.native import core
from sparsecore.nn import SparseLinear
from sparsecore.patterns import NM, Block, Unstructured


def packed(pattern=NM(2, 4), rows=12, cols=20, seed=0, dtype=torch.float32):  # noqa: B008 - patterns do not change
    dense = random_weight(rows, cols, pattern, generator(seed), dtype)
    return dense, PackedWeight.from_dense(dense, pattern)


@pytest.mark.parametrize("pattern", PATTERNS, ids=names)
@pytest.mark.parametrize("shape", [(1, 1), (0, 8), (8, 0), (7, 13), (64, 128), (65, 257)], ids=str)
def test_resident_form_gives_the_weight_back(pattern, shape, dtype, isa, seed):
    dense, weight = packed(pattern, *shape, seed, dtype)
    assert torch.equal(weight.to_dense(), dense)
    stored, again = weight.stored(), PackedWeight.from_stored(weight.stored())
    assert stored.pattern == weight.pattern == pattern
    assert torch.equal(stored.unpack(), dense)
    assert torch.equal(again.resident, weight.resident)
    assert (weight.shape, weight.dtype, weight.device.type) == (shape, dtype, "cpu")
    assert weight.nbytes == weight.resident.numel()
    assert ISAS.index(weight.isa) <= ISAS.index(isa)


def test_nothing_but_the_resident_tensor_is_held():
    dense, weight = packed(rows=64, cols=128)
    gone = weakref.ref(dense)
    del dense
    gc.collect()
    assert gone() is None
    tensors = [getattr(weight, name) for name in PackedWeight.__slots__ if name != "__weakref__"]
    assert sum(isinstance(value, torch.Tensor) for value in tensors) == 1
    assert weight.nbytes < 0.7 * 64 * 128 * 4


@pytest.mark.parametrize(
    "change",
    [lambda t: t.zero_(), lambda t: t[300:].fill_(7), lambda t: t.view(2, -1)[1].random_(), lambda t: t.add_(0)],
    ids=["zero", "slice", "view", "same values"],
)
def test_a_modified_resident_tensor_is_refused(change):
    _, weight = packed(cols=64)
    x = torch.ones(1, 64)
    weight.linear(x)
    change(weight.resident)
    for use in (lambda: weight.linear(x), weight.to_dense, weight.stored, lambda: pickle.dumps(weight)):
        with pytest.raises(ResidentError, match="modified in place"):
            use()


def test_swapped_and_shrunk_storage_is_refused():
    x = torch.ones(1, 20)
    _, weight = packed()
    weight.resident.data = torch.zeros_like(weight.resident)
    with pytest.raises(ResidentError):
        weight.linear(x)
    _, weight = packed()
    weight.resident.untyped_storage().resize_(0)
    with pytest.raises(NamedError):
        weight.linear(x)


@pytest.mark.parametrize("pattern", [NM(2, 4), NM(1, 4), Unstructured(), Block(4, 8)], ids=names)
def test_damaged_bytes_are_refused_or_harmless(pattern, isa, seed):
    """A copy with one random byte changed is validated at first sight: an error, or a product without a crash."""
    rng = generator(seed)
    _, weight = packed(pattern, 12, 36, seed)
    refused = 0
    for _ in range(200):
        copied = weight.resident.clone()
        at = int(torch.randint(copied.numel(), (), generator=rng))
        copied[at] = copied[at] ^ (1 << int(torch.randint(8, (), generator=rng)))
        try:
            assert ops.packed_linear(torch.ones(2, 36), copied, None, 12, 36).shape == (2, 12)
        except NamedError:
            refused += 1
    assert refused > 0


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(0, dtype=torch.uint8),
        torch.zeros(64, dtype=torch.uint8),
        torch.zeros(4096, dtype=torch.uint8),
        torch.zeros(4096, dtype=torch.int8),
        torch.zeros(64, 64, dtype=torch.uint8),
        torch.zeros(8192, dtype=torch.uint8)[::2],
    ],
    ids=["empty", "short", "zeros", "int8", "2-D", "strided"],
)
def test_other_tensors_are_no_resident_weight(tensor):
    with pytest.raises(NamedError):
        ops.packed_linear(torch.ones(1, 4), tensor, None, 4, 4)


def test_cut_and_moved_copies_are_refused():
    _, weight = packed()
    buffer = torch.zeros(weight.nbytes + 64, dtype=torch.uint8)
    for wrong in (weight.resident[:-64], torch.cat([weight.resident, torch.zeros(64, dtype=torch.uint8)])):
        with pytest.raises(ResidentError):
            resident.check(wrong.clone())
    moved = buffer[8 : 8 + weight.nbytes]
    moved.copy_(weight.resident)
    with pytest.raises(NamedError, match="misaligned"):
        resident.check(moved)


def test_the_call_must_name_the_weight():
    _, weight = packed()
    x, flat = torch.ones(1, 20), weight.resident
    for call in (
        lambda: ops.nm_linear(x, flat, None, 12, 20, 1, 4),
        lambda: ops.bitmask_linear(x, flat, None, 12, 20),
        lambda: ops.block_linear(x, flat, None, 12, 20, 2, 4),
        lambda: ops.nm_linear(x, flat, None, 13, 20, 2, 4),
        lambda: ops.packed_to_dense(flat, 20, 12, torch.float32),
    ):
        with pytest.raises(ResidentError, match="2:4"):
            call()
    with pytest.raises(DtypeError):
        ops.packed_to_dense(flat, 12, 20, torch.float16)


def test_a_seen_tensor_is_forgotten_with_it():
    _, weight = packed()
    weight.linear(torch.ones(1, 20))
    gc.collect()
    before = len(resident._seen)
    del weight
    assert len(resident._seen) == before - 1


def test_validation_happens_once(monkeypatch):
    _, weight = packed()
    monkeypatch.setattr(resident, "_check_fully", lambda tensor: pytest.fail("validated again"))
    weight.linear(torch.ones(1, 20))


def test_made_and_used_in_inference_mode():
    with torch.inference_mode():
        dense, weight = packed()
        x = torch.ones(2, 20)
        assert torch.allclose(weight.linear(x), x @ dense.t(), atol=1e-5)
        copied = weight.resident.clone()
        assert torch.allclose(ops.packed_linear(x, copied, None, 12, 20), x @ dense.t(), atol=1e-5)
        copied.fill_(3)
        with pytest.raises(ResidentError):
            ops.packed_linear(x, copied, None, 12, 20)
    x = torch.ones(2, 20, requires_grad=True)
    weight.linear(x).sum().backward()
    assert torch.allclose(x.grad[0], dense.sum(0), atol=1e-5)


@pytest.mark.parametrize("pattern", [NM(2, 4), NM(1, 4), Unstructured(), Block(4, 8)], ids=names)
def test_copies(pattern, seed):
    dense, weight = packed(pattern, 33, 70, seed)
    for other in (copy.deepcopy(weight), copy.copy(weight), pickle.loads(pickle.dumps(weight))):
        assert torch.equal(other.to_dense(), dense)
        assert other.pattern == pattern
        assert repr(other) == repr(weight)


@pytest.mark.parametrize("target", ISAS)
def test_pickle_into_a_process_of_another_instruction_set(target, tmp_path):
    x = torch.randn(3, 72, generator=generator(1))
    pickles, weights = [], []
    for source in ISAS:
        core.set_isa(source)
        for pattern in (NM(2, 4), NM(2, 8), Unstructured(), Block(16, 1)):
            dense, weight = packed(pattern, 48, 72)
            pickles.append(pickle.dumps(weight))
            weights.append(dense)
    core.set_isa("auto")
    torch.save({"dense": torch.stack(weights), "x": x}, tmp_path / "tensors.pt")
    (tmp_path / "weights.pickle").write_bytes(pickle.dumps(pickles))
    code = f"""
import pickle, pathlib, torch, sparsecore
assert sparsecore.runtime_isa() == {target!r}
folder = pathlib.Path({str(tmp_path)!r})
data = torch.load(folder / "tensors.pt", weights_only=True)
for dense, blob in zip(data["dense"], pickle.loads((folder / "weights.pickle").read_bytes()), strict=True):
    weight = pickle.loads(blob)
    assert torch.equal(weight.to_dense(), dense)
    assert torch.allclose(weight.linear(data["x"]), data["x"] @ dense.t(), atol=1e-4)
"""
    run_python(code, SPARSECORE_FORCE_ISA=target)


def test_a_layout_of_a_better_machine_is_refused():
    best = ISAS[-1]
    core.set_isa(best)
    try:
        _, weight = packed(rows=64, cols=128)
        core.set_isa("portable")
        if weight.isa == "portable":
            weight.linear(torch.ones(1, 128))
        else:
            with pytest.raises(ResidentError, match=weight.isa):
                weight.linear(torch.ones(1, 128))
        assert weight.to_dense().shape == (64, 128)
    finally:
        core.set_isa("auto")


@pytest.mark.parametrize("pattern", [p for p in PATTERNS if isinstance(p, NM)], ids=names)
def test_layout_of_the_cuda_kernel(pattern, dtype, seed):
    """What can be said of it without a device: it gives the weight back, is checked, and no CPU kernel takes it."""
    dense = random_weight(9, 45, pattern, generator(seed), dtype)
    made = resident.make(pack(dense, pattern), "cuda")
    assert resident.check(made).isa == "cuda"
    assert torch.equal(resident.to_stored(made).unpack(), dense)
    with pytest.raises(ResidentError):
        ops.packed_linear(torch.ones(1, 45, dtype=dtype), made, None, 9, 45)
    for at in range(0, made.numel(), 7):
        damaged = made.clone()
        damaged[at] ^= 255
        if at < 128:
            with pytest.raises(NamedError):
                resident.check(damaged)
        else:
            with contextlib.suppress(NamedError):
                assert resident.to_stored(damaged).shape == (9, 45)


def test_to_dtype_and_meta(seed):
    dense, weight = packed(Block(4, 8), 33, 70, seed)
    half = weight.to(dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16
    assert torch.equal(half.to_dense(), dense.bfloat16())
    assert weight.to("cpu") is weight
    ghost = weight.to("meta")
    assert (ghost.shape, ghost.dtype, ghost.device.type) == (weight.shape, weight.dtype, "meta")
    assert ghost.nbytes == weight.nbytes
    assert ghost.linear(torch.empty(5, 70, device="meta")).shape == (5, 33)
    assert ghost.to_dense().shape == (33, 70)
    assert copy.deepcopy(ghost).nbytes == ghost.nbytes
    assert weight.to("meta", torch.float16).linear(torch.empty(1, 70, device="meta").half()).dtype == torch.float16


def test_a_value_that_the_new_dtype_rounds_to_zero_does_not_break_the_pattern():
    dense = torch.tensor([[1e-30, 2.0, 0, 0, 3.0, 1e-30, 0, 0]])
    for pattern in (NM(2, 4), Unstructured(), Block(1, 2)):
        weight = PackedWeight.from_dense(dense, pattern)
        half = weight.to(dtype=torch.float16)
        assert torch.equal(half.to_dense(), dense.half())
        assert torch.equal(half.stored().keep_mask(), weight.stored().keep_mask())


def test_inputs_are_checked():
    _, weight = packed()
    with pytest.raises(ShapeError, match="the input is"):
        weight.linear(torch.ones(2, 21))
    with pytest.raises(ShapeError, match="the input is"):
        weight.linear(torch.tensor(1.0))
    with pytest.raises(ShapeError, match="the bias is"):
        weight.linear(torch.ones(2, 20), torch.ones(13))
    with pytest.raises(ShapeError, match="the weight is"):
        weight.linear(torch.ones(2, 20), weight=torch.ones(20, 12))
    with pytest.raises(DtypeError, match="float64"):
        weight.linear(torch.ones(2, 20).double())
    with pytest.raises(DtypeError, match="bfloat16"):
        weight.linear(torch.ones(2, 20), torch.ones(12).bfloat16())
    for activation in ("gulu", None):
        with pytest.raises(NamedError, match=f"no activation {activation!r}"):
            weight.linear(torch.ones(2, 20), activation=activation)
    with pytest.raises(UnsupportedError, match="weight is on meta and the input on cpu"):
        weight.to("meta").linear(torch.ones(2, 20))
    with pytest.raises(NamedError):
        weight.linear(torch.ones(2, 20, device="meta"))


def run_python(code, **environment):
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_traced_modules_do_not_freeze_the_result(seed):
    """A direct call of the kernel would be invisible to tracing, and its result a constant."""
    torch.manual_seed(seed)
    dense = torch.randn(8, 16) * (torch.arange(16) % 4 < 2)
    layer = SparseLinear.from_packed(PackedWeight.from_dense(dense, "2:4"))
    with torch.no_grad():
        traced = torch.jit.trace(layer, torch.randn(3, 16), check_trace=False)
        x = torch.randn(3, 16)
        torch.testing.assert_close(traced(x), layer(x))


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_transforms_and_lazy_views_are_left_to_the_dispatcher(seed):
    rng = generator(seed)
    dense = random_weight(16, 24, NM(2, 4), rng)
    packed, x = PackedWeight.from_dense(dense, "2:4"), torch.randn(5, 3, 24, generator=rng)
    with torch.no_grad():
        expected = packed.linear(x)
        for transform in (torch.vmap, torch.func.functionalize):
            torch.testing.assert_close(transform(packed.linear)(x), expected)
        torch.testing.assert_close(packed.linear(torch._neg_view(x)), -expected)


@pytest.mark.parametrize("pattern", [Block(32, 32), Block(64, 64), Block(16, 1), Block(1, 16), Block(3, 7)], ids=names)
def test_blocks_stay_close_to_their_stored_size(pattern, dtype, isa, seed):
    rng = generator(seed)
    for density in (0.0, 0.02, 0.5, 1.0):
        rows, cols = torch.randint(1, 400, (2,), generator=rng).tolist()
        kept = random_mask(rows, cols, pattern, rng, density)
        weight = PackedWeight.from_dense((torch.randn(rows, cols, generator=rng) * kept).to(dtype), pattern)
        assert weight.nbytes <= 1.15 * weight.stored().nbytes + 4096


@pytest.mark.parametrize("values", [torch.float32, torch.bfloat16, torch.int8])
@pytest.mark.parametrize("pattern", PATTERNS, ids=names)
def test_the_portable_layout_is_the_stored_form_in_place(pattern, values, seed):
    """On a device without kernels a weight is unpacked where it is: its sections are the stored tensors."""
    stored = pack(random_weight(37, 70, pattern, generator(seed)), pattern, values)
    made = resident.make(stored, "portable")
    record = resident.check(made)
    assert record.plain
    views = resident._views(made, record)
    assert set(views) == set(stored.tensors) - {"shape", "nm", "block"}
    for name, view in views.items():
        assert torch.equal(view, stored.tensors[name])
        assert view.untyped_storage().data_ptr() == made.untyped_storage().data_ptr()
