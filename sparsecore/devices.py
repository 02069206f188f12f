"""The devices that tensors are on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sparsecore.errors import UnsupportedError

__all__ = ["indexed", "require_one_device"]


def indexed(device: torch.device) -> torch.device:
    """The device with its number, as tensors have it: "cuda" alone is torch's current one. Other types are as given."""
    if device.type != "cuda" or device.index is not None or not torch.cuda.is_available():
        return device
    return torch.device("cuda", torch.cuda.current_device())


def require_one_device(name: str, first: Tensor, /, **others: Tensor | Sequence[Tensor] | None) -> None:
    """Raise UnsupportedError where another tensor is not on the device of `first`: a kernel would follow its pointer.

    name: that of `first`, for the message. others: tensors, or several of one name, by theirs.
    """
    device = first.device
    for other, given in others.items():
        for tensor in (given,) if isinstance(given, Tensor) else given or ():
            if tensor.device != device:
                raise UnsupportedError(
                    f"{other} is on {tensor.device} and {name} on {device}",
                    where=other,
                    expected="all tensors of a call on one device",
                    hint="move them with .to(device)",
                )
