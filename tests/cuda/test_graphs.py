"""Calls that a CUDA graph may hold: captured on a GPU; on the emulator no operator is called that waits or looks.

Waiting for the device, or making a tensor whose size depends on values, is what breaks a capture.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from weights import generator, random_weight

import sparsecore as sc
from sparsecore import resident
from sparsecore.backends.cuda import block_sparse_attention as cuda_blocks
from sparsecore.backends.cuda import decode_attention as cuda_decode
from sparsecore.backends.cuda import device as cuda_device
from sparsecore.backends.cuda import linear as cuda_linear
from sparsecore.backends.cuda import scored_attention as cuda_attention
from sparsecore.backends.cuda import topk as cuda_topk
from sparsecore.cascade import KVFormat, KVStore
from sparsecore.errors import UnsupportedError
from sparsecore.nn import SparseLinear
from sparsecore.patterns import NM, Block, Pattern, Unstructured

# Parts of names of operators that read values on the host, or whose results have sizes that depend on values.
WAITING = ("item", "_local_scalar_dense", "nonzero", "masked_select", "unique", "equal", "is_nonzero", "_to_copy")


class Recorded(TorchDispatchMode):
    """Notes the name of every operator that is called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.name())
        return func(*args, **(kwargs or {}))


def holds_in_a_graph(device: torch.device, call: Callable[[Tensor], Tensor], first: Tensor, second: Tensor) -> None:
    """Check that a captured `call`, replayed on `second`, gives what it gives outside; or that nothing in it waits."""
    if device.type != "cuda":
        with Recorded() as seen:
            call(first)
        waiting = [name for name in seen.names if any(part in name for part in WAITING)]
        assert not waiting
        return
    x = first.clone()
    call(x)  # kernels load, and torch allocates, at the first call
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = call(x)
    x.copy_(second)
    graph.replay()
    assert torch.equal(out, call(second))


@pytest.mark.parametrize("tokens", [1, 3, 40])
@pytest.mark.parametrize("pattern", [NM(2, 4), NM(1, 4), Unstructured(), Block(32, 16), Block(3, 5)], ids=str)
def test_linear_layers_hold_in_a_graph(device: torch.device, seed: int, pattern: Pattern, tokens: int) -> None:
    rng = generator(seed)
    stored = sc.pack(random_weight(48, 64, pattern, rng, torch.bfloat16), pattern)
    weight = sc.PackedWeight.from_stored(stored, "cuda" if device.type == "cpu" else None, device)
    assert weight.isa == "cuda"
    bias = torch.randn(48, generator=rng).bfloat16().to(device)
    first, second = (torch.randn(tokens, 64, generator=rng).bfloat16().to(device) for _ in range(2))
    expected = (pattern.kind, 48, 64, *pattern.sizes)
    # A new weight may be captured at its first call: it is not looked into again.
    holds_in_a_graph(
        device, lambda x: cuda_linear.packed_linear(x, weight.resident, bias, "gelu", expected), first, second
    )
    grads = tuple(torch.randn(tokens, 48, generator=rng).bfloat16().to(device) for _ in range(2))
    holds_in_a_graph(device, lambda g: cuda_linear.packed_grad_input(g, weight.resident, expected), *grads)


@pytest.mark.parametrize("value_keep", [1.0, 0.5])
def test_attention_holds_in_a_graph(device: torch.device, seed: int, value_keep: float) -> None:
    rng = generator(seed)
    first, second = (torch.randn(1, 2, 20, 16, generator=rng).bfloat16().to(device) for _ in range(2))
    mask = torch.ones(1, 1, 1, 20, dtype=torch.bool, device=device)

    def attend(q: Tensor) -> Tensor:
        return cuda_attention.scored_attention(q, q, q, mask, None, True, 0.3, value_keep, True, True)[0]

    holds_in_a_graph(device, attend, first, second)


def test_attention_along_lists_holds_in_a_graph(device: torch.device, seed: int) -> None:
    rng = generator(seed)
    first, second = (torch.randn(1, 1, 70, 16, generator=rng).half().to(device) for _ in range(2))
    offsets = torch.tensor([[[0, 1, 3]]], device=device)
    indices = torch.tensor([1, 0, 1], dtype=torch.int32, device=device)

    def attend(q: Tensor) -> Tensor:
        return cuda_blocks.block_sparse_attention(q, q, q, offsets, indices, 64, 64, False, 0.3, False, True)[0]

    holds_in_a_graph(device, attend, first, second)


@pytest.mark.parametrize("format", [KVFormat(dtype=torch.bfloat16), KVFormat(8, 8)], ids=str)
def test_decoding_holds_in_a_graph(device: torch.device, seed: int, format: KVFormat) -> None:  # noqa: A002
    """A step that appends a key and a value and attends to what is stored, low bits and dropped values included."""
    rng = generator(seed)
    store = KVStore(1, 2, 32, 32, format=format, capacity=70)
    store.append(*(torch.randn(1, 2, 60, 32, generator=rng) for _ in range(2)))
    keys, values = ([part.to(device) for part in parts] for parts in (store.keys, store.values))
    starts, lengths, position = (torch.tensor([n], device=device) for n in (0, 61, 60))
    first, second = (torch.randn(1, 6, 1, 32, generator=rng).bfloat16().to(device) for _ in range(2))

    def step(q: Tensor) -> Tensor:
        new = (q[:, :2].contiguous(), q[:, 2:4].contiguous())
        cuda_decode.kv_append_(keys, values, *new, position, store.msb_bits, format.value_bits or 0)
        rule = (store.msb_bits, 0.2, 0.1, 0.5, 0.0, True, True, True)
        return cuda_decode.decode_attention(q, keys, values, starts, lengths, 61, None, None, None, *rule)[0]

    holds_in_a_graph(device, step, first, second)


@pytest.mark.parametrize("n", [40, 5000])
def test_selection_holds_in_a_graph(device: torch.device, seed: int, n: int) -> None:
    rng = generator(seed)
    first, second = (torch.randn(3, n, generator=rng).to(device) for _ in range(2))
    counts, keep = torch.tensor([n, 7, 0], device=device), torch.tensor([5, 5, 5], device=device)
    holds_in_a_graph(device, lambda x: cuda_topk.topk_select(x, 6)[1], first, second)
    holds_in_a_graph(device, lambda x: cuda_topk.topk_threshold(x, 6), first, second)
    holds_in_a_graph(device, lambda x: cuda_topk.ragged_topk(x, counts, keep, 5), first, second)


def test_a_weight_is_looked_into_once(device: torch.device, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Placing a weight remembers it: neither the first call nor a later one copies it to the host."""
    stored = sc.pack(random_weight(16, 32, NM(2, 4), generator(seed), torch.float16), "2:4")
    weight = sc.PackedWeight.from_stored(stored, "cuda" if device.type == "cpu" else None, device)

    def refused(packed: Tensor) -> resident.Resident:
        raise AssertionError("looked into")

    monkeypatch.setattr(resident, "_check_fully", refused)
    layer = SparseLinear.from_packed(weight)
    for tokens in (1, 5):
        assert layer(torch.ones(tokens, 32, dtype=torch.float16, device=device)).shape == (tokens, 16)


def test_an_unseen_weight_in_a_capture_is_named(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copying to the host would end the capture; the tensor stands for one on a GPU, the flag for torch's."""

    class OnGpu(Tensor):
        is_cuda = True

    packed = resident.make(sc.pack(random_weight(8, 8, NM(2, 4), generator(seed)), "2:4")).as_subclass(OnGpu)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with pytest.raises(UnsupportedError, match=r"(?s)CUDA graph.*once before the capture"):
        resident.check(packed)


def test_work_is_queued_on_the_current_stream(device: torch.device, seed: int) -> None:
    if device.type == "cpu":
        assert cuda_device.stream(torch.zeros(1)) == 0
        return
    x, stream = torch.zeros(1, device=device), torch.cuda.Stream(device)
    with torch.cuda.stream(stream):
        assert cuda_device.stream(x) == stream.cuda_stream
    assert cuda_device.stream(x) == torch.cuda.current_stream(device).cuda_stream
    # Ordered by the stream alone: the layer reads what a slow kernel before it has written.
    stored = sc.pack(random_weight(16, 32, NM(2, 4), generator(seed), torch.float16), "2:4")
    layer = SparseLinear.from_packed(sc.PackedWeight.from_stored(stored, device=device))
    with torch.cuda.stream(stream):
        torch.cuda._sleep(10**7)
        late = torch.ones(3, 32, dtype=torch.float16, device=device)
        out = layer(late)
    stream.synchronize()
    assert torch.equal(out, layer(torch.ones_like(late)))
