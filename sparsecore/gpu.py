"""What a GPU is, as far as the speed of a layer depends on it."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import torch

__all__ = ["Gpu", "describe_gpu"]


@dataclass(frozen=True, slots=True)
class Gpu:
    """One CUDA device; a `Machine` in what calibrations ask of one.

    name: as the driver has it. capability: (major, minor). memory_bytes: of the device. torch: its version.
    """

    name: str
    capability: tuple[int, int]
    multiprocessors: int
    memory_bytes: int
    torch: str

    @property
    def isa(self) -> str:
        """The name that stands for an instruction set."""
        return "cuda"

    @property
    def threads(self) -> int:
        """One: the host threads do not matter."""
        return 1

    @property
    def kind(self) -> str:
        """Name and capability, fit for a file name: "nvidia-h200-sm90"."""
        major, minor = self.capability
        return re.sub(r"[^a-z0-9]+", "-", f"{self.name} sm{major}{minor}".lower()).strip("-")

    @property
    def key(self) -> str:
        """`kind`: results of equal keys may be compared."""
        return self.kind

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


@cache
def describe_gpu(index: int) -> Gpu:
    """Return the CUDA device of this number. torch raises where there is none."""
    found = torch.cuda.get_device_properties(index)
    capability = (found.major, found.minor)
    return Gpu(found.name, capability, found.multi_processor_count, found.total_memory, torch.__version__)
