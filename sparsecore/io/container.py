"""safetensors files: tensors and metadata in and out, with every failure named."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from simulator.files import replacing
from sparsecore.errors import CorruptFileError, UnsupportedError

__all__ = ["aligned", "read_safetensors", "write_safetensors"]


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return (tensors on the CPU, metadata) of a safetensors file.

    The tensors are private views of the mapped file: pages are read when they are used, and writes do not reach the
    file. The parser checks header size, offsets (no overlap, no gap, nothing past the end) and that dtype, shape and
    length of each tensor agree, before anything is allocated.

    Raises CorruptFileError for anything that is not such a file.
    """
    try:
        with safetensors.safe_open(str(path), framework="pt", device="cpu") as file:
            return {name: aligned(file.get_tensor(name)) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (safetensors.SafetensorError, RuntimeError, OverflowError, ValueError) as error:
        raise CorruptFileError(
            f"not a readable safetensors file: {error}",
            where=str(path),
            hint="it is truncated or damaged; copy or download it again",
        ) from error


def aligned(tensor: Tensor) -> Tensor:
    """Return `tensor`, or a copy where its elements do not lie at multiples of their size.

    Old writers did not pad the header, and the format does not ask for it; kernels do.
    """
    return tensor.clone() if tensor.data_ptr() % max(tensor.element_size(), 1) else tensor


def write_safetensors(path: str | os.PathLike[str], tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write `tensors` and `metadata` to `path` atomically; each tensor is dense, contiguous and owns its memory.

    Raises UnsupportedError for an element type that safetensors cannot hold, OSError where the disk refuses.
    """
    with replacing(path) as temporary:
        try:
            safetensors.torch.save_file(dict(tensors), str(temporary), metadata={"format": "pt", **metadata})
        except safetensors.SafetensorError as error:
            raise OSError(f"writing {path} failed: {error}") from error
        except (KeyError, ValueError) as error:
            raise UnsupportedError(f"safetensors cannot hold one of the tensors: {error}", where=str(path)) from error
