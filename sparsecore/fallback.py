"""What happens to weights on a CUDA device whose kernels cannot run: an error, unless the user allows torch instead.

With SPARSECORE_TORCH_FALLBACK=1, or inside `allow_torch_fallback()`, a weight on the device keeps the portable layout,
and each call unpacks it there and multiplies with torch: right, slow, and not for a CUDA graph. Nothing is ever
computed on the CPU instead. Operators without weights ask nobody: without a kernel torch computes them on the device.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextvars import ContextVar

from sparsecore.errors import ArchitectureError, CudaError, DriverError
from sparsecore.native import core

__all__ = [
    "OLDEST",
    "VARIABLE",
    "allow_torch_fallback",
    "allowed",
    "cuda_trouble",
    "is_assembled",
    "no_kernels",
    "require_allowed",
]

VARIABLE = "SPARSECORE_TORCH_FALLBACK"
OLDEST = (8, 0)
"""Compute capability that the kernels need."""

_allowed: ContextVar[bool] = ContextVar("sparsecore_torch_fallback", default=False)


@contextlib.contextmanager
def allow_torch_fallback() -> Iterator[None]:
    """Allow it in this thread, or task, while the context is entered."""
    token = _allowed.set(True)
    try:
        yield
    finally:
        _allowed.reset(token)


def allowed() -> bool:
    """Whether torch may compute with weights whose kernels cannot run."""
    return _allowed.get() or os.environ.get(VARIABLE, "") not in ("", "0")


def require_allowed(trouble: CudaError) -> None:
    """Raise `trouble`, with the way around it in its hint, unless the user allows torch instead."""
    if not allowed():
        hint = f"{trouble.hint}; or set {VARIABLE}=1: torch then unpacks and multiplies, which is slow"
        raise type(trouble)(trouble.what, where=trouble.where, expected=trouble.expected, hint=hint.removeprefix("; "))


def no_kernels() -> CudaError:
    """The error of a build without CUDA."""
    return CudaError(
        "this build of sparsecore has no CUDA kernels",
        where="sparsecore._core",
        expected="a build with SPARSECORE_CUDA=ON",
        hint="install nvcc and build again, or keep tensors on the CPU",
    )


def is_assembled(capability: tuple[int, int]) -> bool:
    """Whether this build has machine code for a GPU; for others the driver makes it from PTX at their first use."""
    major, minor = capability
    if (major, minor) == (8, 7):  # Jetson Orin: integrated GPUs take no machine code of other ones
        return False
    return any(major * 10 <= known <= major * 10 + minor for known in core.cuda_info()["architectures"])


def cuda_trouble(index: int | None = None) -> CudaError | None:
    """Why the kernels cannot run on CUDA device `index`, by default any of them; None where they can."""
    info = core.cuda_info()
    if not info["compiled"]:
        return no_kernels()
    if not info["available"]:
        return DriverError(
            f"CUDA cannot be used: {info['reason']}",
            where="CUDA driver",
            expected="an NVIDIA GPU and a driver of CUDA 13.0 or later",
            hint="install or update the driver, or keep the model on the CPU",
        )
    devices = info["devices"] if index is None else info["devices"][index : index + 1]
    if not any(device["capability"] >= OLDEST for device in devices):
        named = ", ".join("{name} ({capability[0]}.{capability[1]})".format_map(device) for device in devices)
        return ArchitectureError(
            f"no kernels for this GPU: {named}",
            where="CUDA device",
            expected=f"compute capability {OLDEST[0]}.{OLDEST[1]} or later",
            hint="use a GPU of the Ampere generation or later, or keep the model on the CPU",
        )
    return None
