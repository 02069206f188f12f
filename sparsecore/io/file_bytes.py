"""Reading parts of a file that must not change meanwhile.

Tensors are read, not mapped: what was read and dropped leaves no page in the memory of the process, and a file that is
cut off while it is read gives an error instead of a bus fault.
"""

from __future__ import annotations

import os
import weakref
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from sparsecore.errors import CorruptFileError, FileMissingError

__all__ = ["FileBytes"]

_MOST_AT_ONCE = 2**30


class FileBytes:
    """An open file whose size and time of change stay what they were.

    The handle outlives a rename over the file: whoever writes a new checkpoint beside it does not disturb a reader.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise FileMissingError("the file does not exist", where=str(path), hint="check the path") from error
        weakref.finalize(self, os.close, self._handle)
        self.size, self._changed = self._state()

    def read(self, offset: int, length: int) -> Tensor:
        """Return `length` bytes from `offset` on, uint8, in memory of their own; `length` is not above the size.

        Raises CorruptFileError where the file was changed since it was opened.
        """
        self._require(offset >= 0 and length >= 0 and offset + length <= self.size)
        data = torch.empty(length, dtype=torch.uint8)
        view, done = memoryview(cast(Any, data.numpy())), 0
        while done < length:
            count = os.preadv(self._handle, [view[done : done + _MOST_AT_ONCE]], offset + done)
            self._require(count > 0)
            done += count
        self._require(self._state() == (self.size, self._changed))
        return data

    def _state(self) -> tuple[int, int]:
        state = os.fstat(self._handle)
        return state.st_size, state.st_mtime_ns

    def _require(self, same: bool) -> None:
        if not same:
            raise CorruptFileError(
                "the file changed while it was read", where=str(self.path), hint="load it again once it is complete"
            )
