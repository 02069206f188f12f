"""CUDA streams as other libraries name them."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from sparsecore.backends.cuda import device as cuda_device
from sparsecore.errors import InvalidValueError

__all__ = ["external", "handle_of", "on_stream"]

_LEGACY = 1


def on_stream(stream: Any, device: torch.device) -> AbstractContextManager[Any]:
    """Make `stream` torch's current one on `device`; None leaves it.

    Raises InvalidValueError for what names no stream, and for arrays that are not on a CUDA device.
    """
    if stream is None:
        return nullcontext()
    handle = handle_of(stream)
    if cuda_device.emulated():
        return nullcontext()
    if device.type != "cuda":
        raise InvalidValueError(f"a stream for arrays on {device}", where="stream", expected="None")
    return torch.cuda.stream(external(handle, device))


def external(handle: int, device: torch.device, name: str = "stream") -> torch.cuda.Stream:
    """torch's object for the stream `handle`; 0, which may mean two streams, is refused as the protocols demand."""
    if handle == 0:
        raise _ambiguous(name)
    if handle == _LEGACY:
        return torch.cuda.default_stream(device)
    return torch.cuda.ExternalStream(handle, device=device)  # type: ignore[no-untyped-call]


def handle_of(stream: Any) -> int:
    """Handle of a stream of torch, CuPy, Numba or cuda.core, or of one that is given as a number."""
    if hasattr(stream, "__cuda_stream__"):
        found = stream.__cuda_stream__()[1]
    else:
        named = (getattr(stream, name, None) for name in ("cuda_stream", "handle", "ptr"))
        found = next((value for value in named if value is not None), stream)
    found = getattr(found, "value", found)  # Numba has it as a ctypes number
    if isinstance(found, bool) or not isinstance(found, int) or found < 0:
        raise InvalidValueError(
            f"no CUDA stream: {stream!r}", where="stream", expected="a stream object, or a handle from 1 on"
        )
    # Objects know which stream they are, also where its handle is 0: the legacy default one.
    if found == 0 and stream is found:
        raise _ambiguous("stream")
    return found or _LEGACY


def _ambiguous(name: str) -> InvalidValueError:
    return InvalidValueError(
        "the stream 0 may be two", where=name, expected="1 for the legacy default stream, 2 for that of each thread"
    )
