"""CUDA streams as other libraries name them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from sparsecore.backends.cuda import device as cuda_device
from sparsecore.errors import InvalidValueError

__all__ = ["external", "handle_of", "keep_for", "on_stream"]

_LEGACY = 1


@contextmanager
def on_stream(stream: Any, device: torch.device) -> Iterator[torch.cuda.Stream | None]:
    """Make `stream` torch's current one on `device`, and give torch's object for it; None leaves it, and gives None.

    It waits for the one that was current: that is where torch wrote its tensors.
    Raises InvalidValueError for what names no stream, and for arrays that are not on a CUDA device.
    """
    handle = None if stream is None else handle_of(stream)
    if handle is None or cuda_device.emulated():
        yield None
        return
    if device.type != "cuda":
        raise InvalidValueError(f"a stream for arrays on {device}", where="stream", expected="None")
    chosen = external(handle, device)
    chosen.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(chosen):
        yield chosen


def keep_for(stream: torch.cuda.Stream | None, tensors: Iterable[Tensor]) -> None:
    """Keep memory that torch's allocator takes back from being used again before `stream` is done with it.

    The allocator knows by itself only of the stream that a tensor was made on. None: that is the one.
    """
    if stream is None:
        return
    for tensor in tensors:
        if tensor.device == stream.device:
            tensor.record_stream(stream)


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
    named_by_itself = found is not stream
    found = getattr(found, "value", found)  # a ctypes number
    if found is None:  # its 0
        found = 0
    elif named_by_itself and not isinstance(found, int | float) and hasattr(found, "__int__"):
        found = int(found)  # a CUstream of NVIDIA's bindings
    if isinstance(found, bool) or not isinstance(found, int) or found < 0:
        raise InvalidValueError(
            f"no CUDA stream: {stream!r}", where="stream", expected="a stream object, or a handle from 1 on"
        )
    # Objects know which stream they are, also where its handle is 0: the legacy default one.
    if found == 0 and not named_by_itself:
        raise _ambiguous("stream")
    return found or _LEGACY


def _ambiguous(name: str) -> InvalidValueError:
    return InvalidValueError(
        "the stream 0 may be two", where=name, expected="1 for the legacy default stream, 2 for that of each thread"
    )
