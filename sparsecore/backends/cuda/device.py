"""The compiled CUDA functions, and the stream they queue on.

Tests may put the emulator in the GPU's place: `emulate` loads a module with the same functions that run the kernels on
the host, to which CPU tensors are device tensors.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sparsecore.errors import DeviceMemoryError, UnsupportedError
from sparsecore.fallback import cuda_trouble, no_kernels
from sparsecore.native import core

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "available",
    "capability",
    "current",
    "emulate",
    "emulated",
    "has_kernels",
    "memory_named",
    "module",
    "stream",
]

_NOTHING = nullcontext()
_emulated: list[Any] = []  # the last one is in the place of a GPU


def module() -> Any:
    """The module whose `cuda_*` functions launch kernels. Raises CudaError where this build has none."""
    if _emulated:
        return _emulated[-1]
    if not hasattr(core, "cuda_nm_linear"):
        raise no_kernels()
    return core


def available() -> bool:
    """Whether kernels can be launched: by this build on this machine, or by the emulator."""
    return bool(_emulated) or bool(core.cuda_info()["available"])


def emulated() -> bool:
    """Whether the emulator is in the place of a GPU, so that host memory stands for a device's."""
    return bool(_emulated)


def has_kernels(tensor: torch.Tensor) -> bool:
    """Whether kernels run where the tensor lies; where not, torch computes the operators that have no weight."""
    return bool(_emulated) or _runs_on(tensor.device.index)


@cache
def _runs_on(index: int | None) -> bool:
    return cuda_trouble(index) is None


def capability(tensor: torch.Tensor) -> tuple[int, int]:
    """Compute capability of the tensor's device, or the one that the emulator stands for."""
    if _emulated:
        major, minor = _emulated[-1].cuda_info()["devices"][0]["capability"]
        return major, minor
    return _capability(tensor.device.index)


@cache
def _capability(index: int | None) -> tuple[int, int]:
    return torch.cuda.get_device_capability(index)


def stream(tensor: torch.Tensor) -> int:
    """Handle of the current CUDA stream of the tensor's device; 0 for the emulator."""
    # torch.cuda.current_stream makes an object, which takes longer than the rest of a call.
    return torch._C._cuda_getCurrentRawStream(tensor.device.index) if tensor.is_cuda else 0


def current(tensor: torch.Tensor) -> AbstractContextManager[Any]:
    """Make the tensor's device the current one."""
    if not tensor.is_cuda or tensor.device.index == torch.cuda.current_device():
        return _NOTHING
    return torch.cuda.device(tensor.device)


class memory_named:  # noqa: N801 - used as a function; a generator would take longer to enter than a small kernel runs
    """Tell torch's out-of-memory as DeviceMemoryError, with what to do; `where` names the operator."""

    __slots__ = ("where",)

    def __init__(self, where: str) -> None:
        self.where = where

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, torch.OutOfMemoryError):
            raise DeviceMemoryError(
                str(error).partition(". ")[0],
                where=self.where,
                expected="free device memory",
                hint="free tensors, call torch.cuda.empty_cache(), or use fewer tokens",
            ) from error


@contextmanager
def emulate(path: Path) -> Iterator[Any]:
    """Run launches by the emulated module at `path` (the build's target _cuda_emulated) and give that module."""
    loaded = _load(path)
    _emulated.append(loaded)
    try:
        yield loaded
    finally:
        _emulated.remove(loaded)


@cache
def _load(path: Path) -> Any:
    spec = spec_from_file_location("_cuda_emulated", path)
    if spec is None or spec.loader is None:
        raise UnsupportedError(f"not a compiled module: {path}", expected="the build's _cuda_emulated")
    loaded = module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded
