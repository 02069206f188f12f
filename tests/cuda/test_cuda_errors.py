"""What a user is told when CUDA refuses: one named error a status, with what to do; and what is refused before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from weights import generator, random_weight

from sparsecore import resident
from sparsecore.backends.cuda import device as cuda_device
from sparsecore.backends.cuda import linear as cuda
from sparsecore.backends.cuda.scored_attention import scored_attention
from sparsecore.backends.cuda.topk import topk_select
from sparsecore.errors import (
    ArchitectureError,
    CudaError,
    DeviceMemoryError,
    DriverError,
    LaunchError,
    SpanError,
    UnsupportedError,
)
from sparsecore.formats import pack
from sparsecore.patterns import NM

PATTERN = NM(2, 4)
EXPECTED = ("nm", 16, 64, 2, 4)
STATUSES = {
    2: (DeviceMemoryError, "fewer tokens"),
    9: (LaunchError, "CUDA_LAUNCH_BLOCKING=1"),
    35: (DriverError, "update the driver"),
    98: (ArchitectureError, "8.0 or later"),
    100: (DriverError, "tensors on the CPU"),
    209: (ArchitectureError, "a build for this GPU"),
    222: (DriverError, "update the driver"),
    700: (LaunchError, "start the process again"),
    701: (LaunchError, "an earlier kernel"),
    716: (LaunchError, "start the process again"),
    719: (LaunchError, "start the process again"),
    803: (DriverError, "update the driver"),
    900: (LaunchError, "before the capture"),
    908: (LaunchError, "before the capture"),
    999: (LaunchError, "an earlier kernel"),
}


def weight(seed: int) -> torch.Tensor:
    return resident.make(pack(random_weight(16, 64, PATTERN, generator(seed), torch.bfloat16), PATTERN), "cuda")


def call(packed: torch.Tensor, x: torch.Tensor | None = None) -> torch.Tensor:
    tokens = torch.ones(3, 64, dtype=torch.bfloat16) if x is None else x
    return cuda.packed_linear(tokens, packed, None, "none", EXPECTED)


@pytest.mark.parametrize("status", STATUSES)
def test_a_status_of_cuda_is_a_named_error(status: int, emulated: Any, seed: int) -> None:
    error, advice = STATUSES[status]
    packed = weight(seed)
    before = emulated.launches()
    emulated.fail_next(status)
    with pytest.raises(error, match=f"(?s)status {status}.*cuda_nm_linear.*{advice}") as raised:
        call(packed)
    assert type(raised.value) is error
    assert isinstance(raised.value, CudaError)
    assert emulated.launches() == before
    call(packed)  # the failure is told once
    assert emulated.launches() == before + 1


def test_a_misaligned_weight_is_refused_before_the_launch(emulated: Any, seed: int) -> None:
    packed = weight(seed)
    shifted = torch.zeros(packed.numel() + 16, dtype=torch.uint8)
    start = (8 - shifted.data_ptr()) % 16
    moved = shifted[start : start + packed.numel()].copy_(packed)
    before = emulated.launches()
    with pytest.raises(SpanError, match=r"(?s)misaligned.*multiple of"):
        call(moved)
    assert emulated.launches() == before


def test_tensors_on_two_devices_are_named(emulated: Any, seed: int) -> None:
    x = torch.ones(3, 64, dtype=torch.bfloat16, device="meta")
    with pytest.raises(UnsupportedError, match=r"(?s)weight is on cpu and the input on meta.*\.to\(device\)"):
        call(weight(seed), x)
    here, bias = torch.ones(3, 64, dtype=torch.bfloat16), torch.ones(16, dtype=torch.bfloat16, device="meta")
    with pytest.raises(UnsupportedError, match=r"(?s)bias is on meta.*\.to\(device\)"):
        cuda.packed_linear(here, weight(seed), bias, "none", EXPECTED)


def test_too_little_memory_is_named(emulated: Any, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    packed, x, q = weight(seed), torch.ones(3, 64, dtype=torch.bfloat16), torch.ones(1, 2, 20, 16)
    calls: dict[str, Callable[[], object]] = {
        "packed_linear": lambda: call(packed, x),
        "packed_to_dense": lambda: cuda.packed_to_dense(packed, EXPECTED),
        "packed_grad_input": lambda: cuda.packed_grad_input(x[:, :16], packed, EXPECTED),
        "scored_attention": lambda: scored_attention(q, q, q, None, None, False, 1.0, 1.0, True, True),
        "topk_select": lambda: topk_select(x, 3),
    }

    def full(*args: Any, **kwargs: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 is full")

    monkeypatch.setattr(torch.Tensor, "new_empty", full)
    for name, run in calls.items():
        with pytest.raises(DeviceMemoryError, match=rf"(?s)CUDA out of memory\n.*{name}.*fewer tokens"):
            run()


def test_a_build_without_kernels_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_device, "_emulated", [])
    monkeypatch.setattr(cuda_device, "core", object())
    with pytest.raises(CudaError, match="SPARSECORE_CUDA=ON"):
        cuda_device.module()
