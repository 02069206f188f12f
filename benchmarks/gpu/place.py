"""Where cases run: on a GPU, or by the emulator on host tensors, which are too small to time."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from turns import Queued, Times, take_turns

from sparsecore.backends.cuda import device as cuda_device
from sparsecore.errors import NamedError
from sparsecore.formats import pack
from sparsecore.nn import SparseLinear
from sparsecore.packed import PackedWeight
from sparsecore.patterns import Pattern

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Call", "Place", "emulator", "gpu"]

Call = Callable[[], Any]

ROOT = Path(__file__).resolve().parents[2]
_FLUSH_BYTES = 256 * 2**20
"""Read before every call: several times the L2 of any GPU. Not written: dirty lines would cost the call."""
_WARM_S, _REWARM_S = 1.0, 0.1
"""Of products before the first case, and before every one."""


@dataclass(slots=True)
class Place:
    """A device for cases.

    timed: whether times mean something there; without, shapes are tiny and every call runs once.
    """

    device: torch.device
    timed: bool
    _flush: Tensor = field(default_factory=lambda: torch.empty(0))
    _sink: Tensor = field(default_factory=lambda: torch.empty(0))
    _factor: Tensor = field(default_factory=lambda: torch.empty(0))

    def size(self, full: int, tiny: int) -> int:
        """`full` on a GPU, `tiny` for the emulator."""
        return full if self.timed else tiny

    def random(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Standard normal numbers."""
        return torch.randn(shape, device=self.device).to(dtype)

    def layer(self, weight: Tensor, pattern: Pattern, dtype: torch.dtype | None = None) -> SparseLinear:
        """A packed layer without bias, laid out for the CUDA kernel where the pattern has one."""
        stored = pack(weight.cpu(), pattern, dtype)
        if self.timed:
            return SparseLinear.from_packed(PackedWeight.from_stored(stored, device=self.device))
        try:
            return SparseLinear.from_packed(PackedWeight.from_stored(stored, "cuda"))
        except NamedError:
            return SparseLinear.from_packed(PackedWeight.from_stored(stored, "portable"))

    def running(self) -> AbstractContextManager[Any]:
        """Around calls of operators."""
        return nullcontext() if self.timed else _OnEmulator()

    def lost(self) -> bool:
        """Whether nothing more can be run in this process, since a kernel failed."""
        try:
            return self.timed and torch.cuda.synchronize() is not None
        except RuntimeError:
            return True

    def interleaved(self, calls: Mapping[str, Call], budget_s: float) -> Times:
        """Seconds on the device of each call, one a round, in turns; caches are cold. None where times mean nothing."""
        if not self.timed:
            return Times()
        self.warm(_REWARM_S)
        return take_turns(calls, self, budget_s)

    def warm(self, seconds: float) -> None:
        """Multiply for so long: clocks fall while the host prepares a case."""
        stop = time.perf_counter() + seconds
        while time.perf_counter() < stop:
            torch.mm(self._factor, self._factor)
            self.finish()

    def queue(self, call: Call, cycles: int) -> Queued:
        """Queue a call behind a wait of so many cycles and what empties the caches."""
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda._sleep(cycles)
        torch.sum(self._flush, 0, out=self._sink)
        start.record()
        call()
        end.record()
        return Queued(not start.query(), lambda: start.elapsed_time(end) / 1e3)

    def finish(self) -> None:
        """Return when the device has done all that was queued."""
        torch.cuda.synchronize()


def gpu() -> Place:
    """The current CUDA device, with its clocks warmed up by a second of products."""
    place = Place(torch.device("cuda"), True)
    place._flush = torch.zeros(_FLUSH_BYTES // 4, device="cuda")
    place._sink = torch.empty((), device="cuda")
    place._factor = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    place.warm(_WARM_S)
    return place


@contextmanager
def emulator() -> Iterator[tuple[Place, Any]]:
    """Host tensors whose operators run the CUDA back end by the emulator, and the module that does."""
    sys.path.insert(0, str(ROOT / "tests"))
    from cpp_build import build_module

    with ExitStack() as stack:
        module = stack.enter_context(cuda_device.emulate(build_module("_cuda_emulated")))
        module.set_device(90, 4)
        yield Place(torch.device("cpu"), False), module


class _OnEmulator(TorchDispatchMode):
    """Operators of this package take the kernel that is registered for CUDA, or what a GPU would fall back to."""

    _KEYS = torch._C.DispatchKeySet(torch._C.DispatchKey.CUDA)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "sparsecore":
            return func.redispatch(self._KEYS, *args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def middle(times: list[float]) -> tuple[float, float, float]:
    """Median, and the 10th and 90th percentile."""
    ordered = sorted(times)
    edges = (ordered[round(share * (len(ordered) - 1))] for share in (0.1, 0.9))
    return (statistics.median(ordered), *edges)


def write_json(path: Path, content: Any) -> None:
    """Write a file at once: an interrupted run leaves the old one or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(content, indent=1) + "\n")
    part.replace(path)
