"""Arrays of other libraries, without a copy: by DLPack, and by __cuda_array_interface__ on the emulated device."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from weights import generator, random_weight

import sparsecore as sc
from sparsecore.arrays import (
    as_tensor,
    attention,
    block_sparse_attention,
    decode_attention,
    exchange,
    linear,
    streams,
    topk,
)
from sparsecore.arrays.streams import handle_of
from sparsecore.errors import DriverError, DtypeError, InvalidValueError, ShapeError, SpanError, UnsupportedError
from sparsecore.patterns import NM


class Interface:
    """What Numba's device arrays offer, and no more: the interface over memory that is the host's here."""

    def __init__(self, array: np.ndarray, **changes: Any) -> None:
        self.array = array
        self.fields = {
            "shape": array.shape,
            "strides": None if array.flags.c_contiguous else array.strides,
            "typestr": array.dtype.str,
            "data": (array.ctypes.data, not array.flags.writeable),
            "version": 3,
            "stream": None,
            **changes,
        }

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return self.fields


class OldDLPack:
    """A library of before DLPack 1.0: no max_version."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor

    def __dlpack__(self, stream: Any = None) -> Any:
        return self.tensor.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0


def layer(
    seed: int, isa: str | None = None, dtype: torch.dtype = torch.float32
) -> tuple[torch.Tensor, sc.PackedWeight]:
    dense = random_weight(24, 72, NM(2, 4), generator(seed), dtype)
    return dense, sc.PackedWeight.from_stored(sc.pack(dense, "2:4"), isa)


def close(got: Any, x: np.ndarray, dense: torch.Tensor, bias: np.ndarray | None = None) -> None:
    expected = torch.from_numpy(x.astype(np.float64)) @ dense.double().t()
    expected = expected if bias is None else expected + torch.from_numpy(bias.astype(np.float64))
    torch.testing.assert_close(as_tensor(got).double(), expected, atol=1e-3, rtol=1e-2)


@pytest.mark.parametrize("writeable", [True, False])
@pytest.mark.parametrize("order", [lambda x: x, np.asfortranarray, lambda x: np.repeat(x, 2, 1)[:, ::2]])
def test_numpy_arrays_come_and_go_without_a_copy(
    seed: int, order: Callable[[np.ndarray], np.ndarray], writeable: bool
) -> None:
    dense, packed = layer(seed)
    draw = np.random.default_rng(seed)
    x, bias = order(draw.standard_normal((5, 72), np.float32)), draw.standard_normal(24, np.float32)
    x.flags.writeable = writeable
    assert as_tensor(x).data_ptr() == x.ctypes.data
    out = linear(x, packed, bias)
    assert isinstance(out, np.ndarray)
    close(out, x, dense, bias)
    values, index = topk(x, 3)
    assert isinstance(index, np.ndarray)
    assert np.array_equal(values, np.take_along_axis(x, index, 1))


def test_attention_takes_and_gives_arrays(seed: int) -> None:
    draw = np.random.default_rng(seed)
    q, k, v = (draw.standard_normal((1, 2, n, 8), np.float32) for n in (3, 5, 5))
    mask = draw.random((1, 1, 3, 5)) > 0.3
    found = attention(q, k, v, mask=mask)
    tensors = (torch.from_numpy(part) for part in (q, k, v, mask))
    for got, expected in zip(found, sc.ops.scored_attention(*tensors), strict=True):
        assert isinstance(got, np.ndarray)
        assert np.array_equal(got, expected.numpy())


def test_lists_of_blocks_go_with_arrays(seed: int) -> None:
    draw = np.random.default_rng(seed)
    q, k, v = (draw.standard_normal((1, 2, n, 8), np.float32) for n in (70, 130, 130))
    lists = as_tensor(np.array([[[0, 1, 3]]])), as_tensor(np.array([1, 0, 2], np.int32))
    mask = sc.ops.BlockMask.from_lists(*lists, 70, 130, (64, 64))
    found = block_sparse_attention(q, k, v, mask, head_scores=True)
    expected = sc.ops.block_sparse_attention(*map(torch.from_numpy, (q, k, v)), mask, head_scores=True)
    for got, part in zip(found, expected, strict=True):
        assert isinstance(got, np.ndarray)
        assert np.array_equal(got, part.numpy())


def test_a_store_of_arrays_is_decoded(seed: int) -> None:
    draw = np.random.default_rng(seed)
    q = draw.standard_normal((2, 4, 1, 8), np.float32)
    keys, values = ([draw.standard_normal((2, 2, 6, 8), np.float32)] for _ in range(2))
    starts, lengths = np.array([0, 1]), np.array([6, 3])
    rows = np.array([[0, 2, 5], [1, 2, 3]])
    found = decode_attention(q, keys, values, starts, lengths, 6, rows=rows, scale=0.3)

    def tensors(parts: list[np.ndarray]) -> list[torch.Tensor]:
        return [torch.from_numpy(part) for part in parts]

    expected = sc.ops.decode_attention(
        torch.from_numpy(q), tensors(keys), tensors(values), *tensors([starts, lengths]), 6,
        rows=torch.from_numpy(rows), scale=0.3,
    )  # fmt: skip
    for got, part in zip(found, expected, strict=True):
        assert isinstance(got, np.ndarray)
        assert np.array_equal(got, part.numpy())


def test_old_dlpack_and_tensors(seed: int) -> None:
    dense, packed = layer(seed)
    x = torch.randn(4, 72, generator=generator(seed))
    assert torch.equal(linear(OldDLPack(x), packed), packed.linear(x))
    leaf = x.clone().requires_grad_()
    linear(leaf, packed).sum().backward()
    assert leaf.grad is not None
    torch.testing.assert_close(leaf.grad, dense.sum(0).expand(4, -1))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("order", [lambda x: x, np.asfortranarray, lambda x: np.repeat(x, 2, 1)[:, ::2]])
@pytest.mark.parametrize("tokens", [0, 1, 5])
def test_the_cuda_array_interface_reaches_the_kernel(
    emulated: Any, seed: int, order: Callable[[np.ndarray], np.ndarray], dtype: type, tokens: int
) -> None:
    dense, packed = layer(seed, "cuda", torch.float32 if dtype is np.float32 else torch.float16)
    draw = np.random.default_rng(seed)
    x, bias = order(draw.standard_normal((tokens, 72)).astype(dtype)), draw.standard_normal(24).astype(dtype)
    x.flags.writeable = False
    tensor = as_tensor(Interface(x))
    assert tensor.shape == x.shape
    if tokens:
        assert tensor.data_ptr() == x.ctypes.data
    before = emulated.launches()
    out = linear(Interface(x), packed, Interface(bias), stream=7)
    assert emulated.launches() == before + (tokens > 0)
    assert isinstance(out, torch.Tensor), "of a library that has no from_dlpack"
    close(out, x, dense, bias)


def test_memory_lives_as_long_as_the_tensor(emulated: Any) -> None:
    dropped: list[str] = []

    class Owner(Interface):
        def __del__(self) -> None:
            dropped.append("gone")

    tensor = as_tensor(Owner(np.arange(6, dtype=np.float32)))
    part = tensor[2:]
    del tensor
    assert not dropped
    assert part.tolist() == [2, 3, 4, 5]
    del part
    assert dropped


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"typestr": "<V2"}, DtypeError, "DLPack"),
        ({"typestr": ">f4"}, DtypeError, ">f4"),
        ({"typestr": "<c8"}, DtypeError, "<c8"),
        ({"strides": (-16, 4)}, SpanError, "copy"),
        ({"strides": (18, 4)}, SpanError, "multiples of 4"),
        ({"strides": (4,)}, SpanError, "one stride"),
        ({"shape": (-1, 4)}, SpanError, "shape"),
        ({"data": (0, False)}, SpanError, "no memory"),
        ({"data": (4097, False)}, SpanError, "misaligned"),
        ({"mask": 1}, UnsupportedError, "masked"),
        ({"data": 5}, UnsupportedError, "damaged"),
        ({"shape": None}, UnsupportedError, "damaged"),
    ],
)
def test_a_wrong_interface_is_named(emulated: Any, changes: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=f"(?s){said}"):
        as_tensor(Interface(np.zeros((3, 4), np.float32), **changes), "x")


def test_wrong_arrays_are_named_before_torch_sees_them(seed: int) -> None:
    _, packed = layer(seed)
    good = np.zeros((3, 72), np.float32)
    shifted = np.zeros(4 * 72 + 1, np.uint8)[1:].view(np.float32).reshape(1, 72)
    for array, error, said in (
        (good[::-1], SpanError, "negative strides"),
        (shifted, SpanError, "misaligned"),
        (good.astype(np.complex64), DtypeError, "complex64"),
        (good.astype(np.float64), DtypeError, "float64"),
        (good.astype(">f4"), UnsupportedError, "not share"),
        (good[:, :71], ShapeError, "72"),
        ([[1.0]], UnsupportedError, "list"),
    ):
        with pytest.raises(error, match=f"(?s){said}"):
            linear(array, packed)
    with pytest.raises(UnsupportedError, match="list"):
        topk([1.0], 1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_interface_is_refused_by_name() -> None:
    with pytest.raises(DriverError, match="torch with CUDA"):
        topk(Interface(np.zeros((1, 2), np.float32)), 1)


def test_devices_are_named(seed: int) -> None:
    _, packed = layer(seed)

    class Elsewhere(OldDLPack):
        def __dlpack_device__(self) -> tuple[int, int]:
            return 7, 0

    with pytest.raises(UnsupportedError, match="DLPack type 7"):
        linear(Elsewhere(torch.zeros(1, 72)), packed)

    class Taken(OldDLPack):
        def __dlpack__(self, stream: Any = None) -> Any:
            capsule = self.tensor.__dlpack__()
            torch.from_dlpack(capsule)
            return capsule

    with pytest.raises(UnsupportedError, match="taken"):
        linear(Taken(torch.zeros(1, 72)), packed)


def test_streams_have_many_names(seed: int) -> None:
    class Named:
        def __init__(self, **names: Any) -> None:
            self.__dict__.update(names)

    class Protocol:
        def __init__(self, handle: Any) -> None:
            self.handle = handle

        def __cuda_stream__(self) -> tuple[int, Any]:
            return 0, self.handle

    assert handle_of(5) == handle_of(ctypes.c_void_p(5)) == 5
    assert handle_of(Named(cuda_stream=9)) == 9
    assert handle_of(Named(ptr=0)) == 1
    assert handle_of(Named(handle=ctypes.c_void_p(33))) == 33
    assert handle_of(Protocol(12)) == 12
    assert handle_of(Protocol(None)) == 1

    class Bound:
        """A CUstream of NVIDIA's bindings: no `value`, but a number by itself."""

        def __init__(self, handle: int) -> None:
            self.handle = handle

        def __int__(self) -> int:
            return self.handle

    # Numba's streams by ctypes and by NVIDIA's bindings; the default one is 0, which ctypes gives as None.
    assert handle_of(Named(handle=ctypes.c_void_p(0))) == 1
    assert handle_of(Named(handle=Bound(0))) == 1
    assert handle_of(Named(handle=Bound(44))) == 44
    _, packed = layer(seed)
    x = np.zeros((1, 72), np.float32)
    handles = ("default", 5.5, Bound(-1))
    for wrong in (0, ctypes.c_void_p(0), -1, 5.5, "default", True, Named(), *(Named(handle=h) for h in handles)):
        with pytest.raises(InvalidValueError, match="stream"):
            linear(x, packed, stream=wrong)
    with pytest.raises(InvalidValueError, match="cpu"):
        linear(x, packed, stream=5)


class Queue:
    """A stream in the place of torch's, with what is asked of it and in which order."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.kept: set[int] = set()

    def wait_stream(self, other: Any) -> None:
        self.asked.append(f"wait for {other}")

    def __enter__(self) -> None:
        self.asked.append("enter")

    def __exit__(self, *error: object) -> None:
        self.asked.append("leave")


def test_a_stream_waits_for_the_current_one_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    queue, place = Queue(), torch.device("cuda", 0)
    monkeypatch.setattr(streams, "external", lambda handle, device: queue)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"the current one of {device}")
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: stream)
    with streams.on_stream(33, place) as chosen:
        assert chosen is queue
        queue.asked.append("work")
    assert queue.asked == ["wait for the current one of cuda:0", "enter", "work", "leave"]


def test_memory_of_tensors_is_kept_for_the_stream(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    _, packed = layer(seed)
    queue = Queue()
    monkeypatch.setattr(sc.arrays, "on_stream", lambda stream, device: nullcontext(stream))
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: stream.kept.add(tensor.data_ptr()))
    x, bias = torch.randn(3, 72, generator=generator(seed)), torch.zeros(24)
    linear(x, packed, bias, stream=queue)
    assert queue.kept == {x.data_ptr(), bias.data_ptr(), packed.resident.data_ptr()}
    queue.kept.clear()
    q = torch.randn(1, 1, 64, 8, generator=generator(seed))
    mask = sc.ops.BlockMask.from_dense(torch.ones(1, 1, 1, 1, dtype=torch.bool), 64, 64, (64, 64))
    block_sparse_attention(q, q, q, mask, stream=queue)
    assert queue.kept == {q.data_ptr(), mask.offsets.data_ptr(), mask.indices.data_ptr()}
    queue.kept.clear()
    linear(x, packed)
    assert not queue.kept


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_stream_orders_and_keeps_tensors(device: torch.device, seed: int) -> None:
    """x is written late on the current stream, dropped at once, and its memory asked for again."""
    dense, packed = layer(seed)
    packed = packed.to(device)
    x, queue = torch.randn(64, 72, generator=generator(seed)), torch.cuda.Stream()
    source = x.to(device)
    torch.cuda.synchronize()
    torch.cuda._sleep(10_000_000)
    late = source.clone()
    with torch.cuda.stream(queue):
        torch.cuda._sleep(10_000_000)
    y = linear(late, packed, stream=queue)
    del late
    torch.full((64, 72), torch.nan, device=device)
    queue.synchronize()
    torch.testing.assert_close(y.cpu(), x @ dense.t(), atol=1e-3, rtol=1e-3)


class Library(ModuleType):
    """A library in the place of CuPy and Numba. It takes tensors as torch gives them: on the current device, and
    detached; `refuses` is what torch says otherwise."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.from_dlpack = self.as_cuda_array = self.take
        self.cuda = self
        self.entered, self.refuses = 0, ""
        self.array = type("Array", (OldDLPack,), {"__module__": f"{name}.arrays"})

    @contextmanager
    def current(self, tensor: torch.Tensor) -> Iterator[None]:
        self.entered += 1
        try:
            yield
        finally:
            self.entered -= 1

    def take(self, tensor: torch.Tensor) -> Any:
        if self.refuses or tensor.requires_grad or not self.entered:
            raise BufferError(self.refuses or "use tensor.detach(), on its device")
        return self.array(tensor)


@pytest.mark.parametrize("name", ["numba", "cupy"])
def test_results_go_as_torch_gives_them(monkeypatch: pytest.MonkeyPatch, seed: int, name: str) -> None:
    _, packed = layer(seed)
    library = Library(name)
    monkeypatch.setitem(sys.modules, name, library)
    monkeypatch.setattr(exchange.cuda_device, "current", library.current)
    x, bias = torch.randn(4, 72, generator=generator(seed)), torch.zeros(24, requires_grad=True)
    out = linear(library.array(x), packed, bias)
    assert type(out) is library.array
    assert torch.equal(out.tensor, packed.linear(x))
    library.refuses = "per-thread default stream is not supported."
    with pytest.raises(UnsupportedError, match=r"(?s)Array.*per-thread.*another stream"):
        linear(library.array(x), packed)


def test_arrays_of_cupy_and_numba_stay_theirs(device: torch.device, seed: int) -> None:
    """On a GPU with these libraries; elsewhere NumPy stands for them."""
    dense, packed = layer(seed)
    x = torch.randn(3, 72, generator=generator(seed))
    kinds: list[Callable[[torch.Tensor], Any]] = [lambda t: t.cpu().numpy()]
    if device.type == "cuda":
        packed = packed.to(device)
        kinds = [lambda t: t]
        for library, make in (("cupy", "from_dlpack"), ("numba.cuda", "as_cuda_array")):
            try:
                module = __import__(library, fromlist=[make])
            except ImportError:
                continue
            kinds.append(getattr(module, make))
    for kind in kinds:
        array = kind(x.to(device))
        out = linear(array, packed)
        assert type(out) is type(array)
        torch.testing.assert_close(as_tensor(out).cpu(), x @ dense.t(), atol=1e-3, rtol=1e-3)
