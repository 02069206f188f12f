"""The border to the compiled module: a span that lies about its memory is refused before anything is read."""

from __future__ import annotations

import pytest
import torch
from weights import generator, random_weight

from sparsecore import PackedWeight, native
from sparsecore.errors import AliasingError, DtypeError, NamedError, ShapeError, SpanError
from sparsecore.native import core, span
from sparsecore.patterns import NM


class Call:
    """A valid call of a compiled function, whose spans can be replaced one at a time."""

    def __init__(self, function, *arguments):
        self.function = function
        self.tensors = arguments  # kept alive: a span does not
        self.arguments = [span(a) if isinstance(a, torch.Tensor) else a for a in arguments]

    def places(self):
        return [i for i, a in enumerate(self.tensors) if isinstance(a, torch.Tensor)]

    def __call__(self, replaced=None):
        self.function(*((replaced or {}).get(i, a) for i, a in enumerate(self.arguments)))


def bits():
    return torch.tensor([[0b00110011], [0b01010101]], dtype=torch.uint8)


def calls():
    dense = random_weight(2, 8, NM(2, 4), generator(0))
    packed = PackedWeight.from_dense(dense, "2:4").resident
    q = torch.randn(1, 2, 3, 4)
    u8, f32 = torch.uint8, torch.float32
    return {
        "nm_pack": Call(core.nm_pack, dense, 2, 4, torch.empty(2, 4), torch.empty(2, 1, dtype=u8)),
        "nm_unpack": Call(core.nm_unpack, torch.ones(2, 4), bits(), 2, 4, torch.empty(2, 8)),
        "nm_validate": Call(core.nm_validate, bits(), 8, 2, 4),
        "nm_bitmask_to_codes": Call(core.nm_bitmask_to_codes, bits(), 8, 2, 4, torch.empty(2, 1, dtype=u8)),
        "bitmask_count": Call(core.bitmask_count, dense),
        "bitmask_unpack": Call(core.bitmask_unpack, torch.ones(8), bits(), torch.tensor([0, 4]), torch.empty(2, 8)),
        "block_count": Call(core.block_count, dense, 2, 2),
        "block_unpack": Call(
            core.block_unpack,
            torch.ones(1, 2, 4),
            torch.tensor([1], dtype=torch.int32),
            torch.tensor([0, 1]),
            torch.empty(2, 8),
        ),
        "packed_linear": Call(
            core.packed_linear, torch.ones(3, 8), packed, torch.ones(2), torch.empty(3, 2), "none", 1
        ),
        "resident_info": Call(core.resident_info, packed),
        "resident_validate": Call(core.resident_validate, packed),
        "topk_select": Call(
            core.topk_select, torch.randn(3, 9), 2, torch.empty(3, 2), torch.empty(3, 2, dtype=torch.int64), 1
        ),
        "topk_threshold": Call(core.topk_threshold, torch.randn(3, 9), 2, torch.empty(3), 1),
        "bitplane_attention": Call(
            core.bitplane_attention, q, q.clone(), q.clone(), torch.ones(1, 1, 1, 3, dtype=torch.bool), 1.0, 8, 4, 0.1,
            torch.empty(1, 2, 3, 4), torch.empty(1, 2, 3, dtype=f32), torch.empty(1, 2, 3, dtype=torch.bool), 1,
        ),
    }  # fmt: skip


@pytest.mark.parametrize("name", calls())
def test_spans_that_lie_are_refused(name):
    call = calls()[name]
    call()
    for place in call.places():
        pointer, size, shape, strides, dtype = call.arguments[place]
        needed = call.tensors[place].numel() * call.tensors[place].element_size()
        wrong = {
            "one byte short": (pointer, needed - 1, shape, strides, dtype),
            "no bytes": (pointer, 0, shape, strides, dtype),
            "negative bytes": (pointer, -1, shape, strides, dtype),
            "null pointer": (0, size, shape, strides, dtype),
            "huge shape": (pointer, size, (2**62, *shape[1:]), strides, dtype),
            "overflowing shape": (pointer, size, tuple(2**62 for _ in shape), strides, dtype),
            "negative shape": (pointer, size, (-1, *shape[1:]), strides, dtype),
            "huge stride": (pointer, size, shape, tuple(2**62 for _ in strides), dtype),
            "negative stride": (pointer, size, shape, tuple(-1 for _ in strides), dtype),
            "another rank": (pointer, size, (*shape, 1), (*strides, 1), dtype),
            "fewer strides": (pointer, size, shape, strides[:-1], dtype),
            "unknown dtype": (pointer, size, shape, strides, "f64"),
            "another dtype": (pointer, size, shape, strides, "i64" if dtype == "i32" else "i32"),
        }
        for damage, span_value in wrong.items():
            if damage.endswith("stride") and call.tensors[place].numel() == 1:
                continue  # the stride of one element is never used
            if damage == "another dtype" and name.endswith("_count"):
                continue  # counting looks at bits, of any type
            with pytest.raises(NamedError):
                print(name, place, damage, call({place: span_value}))


def test_misaligned_spans_are_refused():
    call = calls()["topk_threshold"]
    pointer, size, _, strides, dtype = call.arguments[0]
    with pytest.raises(SpanError, match="misaligned"):
        call({0: (pointer + 1, size - 1, (2, 9), strides, dtype)})


def test_outputs_may_not_share_memory_with_inputs():
    x = torch.ones(3, 8)
    call = calls()["packed_linear"]
    call.arguments[0] = span(x)
    call.arguments[3] = span(x.flatten()[:6].view(3, 2))
    with pytest.raises(AliasingError):
        call()


def test_what_is_no_span_is_a_type_error():
    for wrong in (None, 3, (1, 2, 3), [0, 0, (), (), "f32"]):
        with pytest.raises(TypeError):
            core.bitmask_count(wrong)


def test_shrunk_storage_is_noticed():
    weight = PackedWeight.from_dense(random_weight(2, 8, NM(2, 4), generator(0)), "2:4")
    x = torch.ones(4, 8)
    x.untyped_storage().resize_(64)
    with pytest.raises(SpanError):
        weight.linear(x)


def test_threads_and_names_are_checked():
    call = calls()["packed_linear"]
    for place, wrong in ((4, "gulu"), (5, 0), (5, -3)):
        with pytest.raises(NamedError):
            call({place: wrong})
    with pytest.raises(NamedError):
        core.set_isa("avx9")


def test_errors_of_the_compiled_module_are_the_classes_of_the_package():
    call = calls()["packed_linear"]
    with pytest.raises(ShapeError) as caught:
        call({3: span(torch.empty(3, 5))})
    assert caught.value.expected
    with pytest.raises(DtypeError):
        call({2: span(torch.ones(2).half())})


def test_facts_about_the_machine():
    assert "portable" in core.compiled_isas()
    assert core.available_isas()[0] == "portable"
    assert set(core.available_isas()) <= set(core.compiled_isas())
    assert native.runtime_isa() in core.available_isas()
    assert core.num_threads_runtime() in ("gomp", "kmpc", "std")
    assert all(isinstance(value, bool) for value in core.cpu_features().values())
    info = core.cuda_info()
    assert info["available"] or info["reason"]
    assert bool(info["architectures"]) == info["compiled"] and min(info["architectures"], default=80) >= 80
