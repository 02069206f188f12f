"""What this machine is and the speeds that nothing exceeds on it.

The limits are measured by small C++ loops (csrc/limits) in less than a second and kept for the process: a figure of a
kernel means something only beside the limit that was measured in the same process.
"""

from __future__ import annotations

import os
import platform
import re
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from sparsecore.native import core, runtime_isa

__all__ = ["Limits", "Machine", "describe", "limits", "measured_now"]

_MEMORY_BYTES = 256 * 2**20
_L2_BYTES_PER_THREAD = 384 * 2**10
_UNITS = ("fp32", "bf16", "int8", "amx_bf16", "amx_int8")
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True, slots=True)
class Limits:
    """Measured limits of `threads` threads together, with the instruction set `isa`.

    read, read_l2: bytes/s of reading 256 MiB, and 384 KiB a thread that stay in its L2 cache.
    peak: operations/s by unit ("fp32", "bf16", "int8", "amx_bf16", "amx_int8"), a multiply and an add counting as two;
        only the units that the instruction set has.
    """

    isa: str
    threads: int
    read: float
    read_l2: float
    peak: dict[str, float]

    def compute(self, dtype: torch.dtype) -> float:
        """Operations/s of the fastest unit that multiplies `dtype`; fp32's where it has no unit of its own."""
        name = {torch.bfloat16: "bf16", torch.int8: "int8"}.get(dtype, "fp32")
        return max(self.peak.get(unit, 0.0) for unit in ("fp32", name, f"amx_{name}"))


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine as far as a measured speed depends on it.

    cpu: the processor's name. family, model: its numbers, empty where the system does not tell them.
    isa: instruction set whose kernels run. threads: torch's. caches: bytes by level ("L1d", "L2", "L3"), of one core.
    """

    cpu: str
    family: str
    model: str
    isa: str
    threads: int
    cores: int
    caches: dict[str, int]
    torch: str

    @property
    def kind(self) -> str:
        """Name of the processor's kind and the instruction set, fit for a file name."""
        numbers = f" family {self.family} model {self.model}" if self.family else ""
        return re.sub(r"[^a-z0-9]+", "-", f"{self.cpu}{numbers} {self.isa}".lower()).strip("-")

    @property
    def key(self) -> str:
        """`kind` and the number of threads: results of equal keys may be compared."""
        return f"{self.kind}-{self.threads}t"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


def describe() -> Machine:
    """Return this machine with the instruction set and the number of threads that are in use now."""
    info = _processor()
    return Machine(
        cpu=info.get("model name") or platform.processor() or platform.machine(),
        family=info.get("cpu family", ""),
        model=info.get("model", ""),
        isa=runtime_isa(),
        threads=torch.get_num_threads(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        caches=_cache_bytes(),
        torch=torch.__version__,
    )


def limits(threads: int | None = None) -> Limits:
    """Return the measured limits of `threads` threads, by default torch's number; measured once a process."""
    return _measure(torch.get_num_threads() if threads is None else threads, runtime_isa())


@cache
def _measure(threads: int, isa: str) -> Limits:
    return measured_now(threads)


def measured_now(threads: int) -> Limits:
    """Return the limits of `threads` threads, measured anew."""
    peaks = {unit: core.limits_peak_rate(unit, threads, 0.03) for unit in _UNITS}
    return Limits(
        isa=runtime_isa(),
        threads=threads,
        read=core.limits_read_rate(_MEMORY_BYTES, threads, 0.15),
        read_l2=core.limits_read_rate(_L2_BYTES_PER_THREAD * threads, threads, 0.03),
        peak={unit: rate for unit, rate in peaks.items() if rate > 0},
    )


@cache
def _processor() -> dict[str, str]:
    """Fields of the first processor in /proc/cpuinfo; empty where there is no such file."""
    try:
        first = _CPUINFO.read_text().split("\n\n", 1)[0]
    except OSError:
        return {}
    fields = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in fields}


@cache
def _cache_bytes() -> dict[str, int]:
    """Bytes of the caches that one core sees, by level; empty where the system does not tell."""
    found: dict[str, int] = {}
    for index in sorted(_CACHES.glob("index*")):
        try:
            kind, level, size = ((index / name).read_text().strip() for name in ("type", "level", "size"))
        except OSError:
            continue
        if kind != "Instruction" and (match := re.fullmatch(r"(\d+)K", size)):
            found[f"L{level}d" if level == "1" else f"L{level}"] = int(match[1]) * 1024
    return found
