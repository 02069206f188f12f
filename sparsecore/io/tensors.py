"""Tensors of files by name: sizes and element types are known, values are read at each access and held by nobody."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["LazyTensor", "LazyTensors", "held"]


@dataclass(frozen=True, slots=True)
class LazyTensor:
    """One tensor of a file.

    shape, dtype: of what `read` returns. read: gives the values, contiguous, on the CPU, raising the named errors of
    the file. place: where the values are; equal for two names of one tensor.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], Tensor]
    place: Hashable
    derived: bool = False

    @property
    def nbytes(self) -> int:
        """Bytes of the values."""
        return math.prod(self.shape) * self.dtype.itemsize


class LazyTensors(Mapping[str, Tensor]):
    """A read-only mapping from names to tensors that reads the tensor at each access; `entry` tells its sizes."""

    def __init__(self, entries: Mapping[str, LazyTensor]) -> None:
        self._entries = dict(entries)

    def __getitem__(self, name: str) -> Tensor:
        return self._entries[name].read()

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries  # Mapping's own would read the tensor

    def entry(self, name: str) -> LazyTensor:
        """What is known of `name` without reading it; KeyError where there is no such tensor."""
        return self._entries[name]

    def entries(self) -> dict[str, LazyTensor]:
        """All of them by name; a new dictionary."""
        return dict(self._entries)

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> LazyTensors:
        """The same mapping where it is one already, else one over tensors that are held in memory."""
        return tensors if isinstance(tensors, cls) else cls({name: held(tensor) for name, tensor in tensors.items()})


def held(tensor: Tensor) -> LazyTensor:
    """An entry whose tensor is in memory, or mapped."""
    sizes = (tuple(tensor.shape), tensor.stride(), tensor.dtype)
    # Without elements there is no memory to share.
    place = (tensor.data_ptr(), *sizes) if tensor.numel() and not tensor.is_meta else object()
    return LazyTensor(tuple(tensor.shape), tensor.dtype, lambda: tensor, place)
