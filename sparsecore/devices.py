"""The devices that the tensors of a call are on."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sparsecore.errors import UnsupportedError

__all__ = ["require_one_device"]


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
