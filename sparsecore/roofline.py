"""The measured ceilings of this machine as a design of the simulator: what `simulate --arch cpu` and `--arch gpu` read.

A file holds what loops reached that do nothing but multiply, or read (`sparsecore.machine.limits`; on a GPU torch's
matrix products and a sum). It is kept, one for each kind of machine and number of threads, so that results of different
runs compare; measured again, each ceiling keeps its best value. The simulator calls the functions here by entry point.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

import sparsecore
from simulator.config import load_yaml
from simulator.files import write_atomic
from sparsecore.errors import UnsupportedError
from sparsecore.machine import describe, measured_now

__all__ = ["cpu_ceilings", "cpu_file", "gpu_ceilings", "gpu_file", "roofline_text", "write_cpu_file"]

_SIDE = 8192  # of the matrices that a GPU multiplies
_READ_BYTES = 4 * 2**30
_PASSES = 8
_ENOUGH = 0.9  # share of its threads' time that a measurement should have had
_BUSY = "while the machine was busy"


def roofline_text(
    name: str, machine: str, source: str, gops: Mapping[int, float], read: float, line_bytes: int = 64
) -> str:
    """Return a design file with measured ceilings.

    Parameters
    ----------
    machine, source: what was measured, and how, in words. gops: operations in 1e9 a second by width in bits.
    read: bytes in 1e9 a second.
    """
    rates = ", ".join(f"{bits}: {float(f'{rate:.4g}')}" for bits, rate in gops.items())
    lines = (
        "base: roofline",
        f"name: {name}",
        f"description: {json.dumps(f'{machine}: roofline measured here', ensure_ascii=False)}",
        f"source: {json.dumps(source, ensure_ascii=False)}  # measured: as it says",
        "sheet: null                     # measured instead",
        f"measured:                       # measured: {source}",
        f"  gops_by_bits: {{{rates}}}",
        f"  read_gb_per_s: {float(f'{read:.4g}')}",
        f"line_bytes: {line_bytes}                  # measured: see measured",
    )
    return "\n".join(lines) + "\n"


def cpu_file() -> Path:
    """Return the file of this machine with torch's number of threads.

    It is measured, in a few seconds, if it is new, or was measured while other programs kept the machine busy.
    """
    path = _path(f"cpu-{describe().key}")
    return path if path.exists() and _BUSY not in path.read_text(encoding="utf-8") else write_cpu_file(path)


def write_cpu_file(path: Path | None = None) -> Path:
    """Measure this machine and write its file: the one that `cpu_file` finds, or `path`."""
    machine = describe()
    gops, read, had = cpu_ceilings(machine.threads)
    said = f"{machine.cpu}, {machine.isa}, {machine.threads} threads"
    source = f"loops of sparsecore {sparsecore.__version__} on {said}; reading 256 MiB"
    if had < _ENOUGH:
        source += f"; {_BUSY}: {had:.0%} of the threads' time was had, so these may be too low"
    return _written(path or _path(f"cpu-{machine.key}"), "cpu", said, source, gops, read, 64)


def cpu_ceilings(threads: int, rounds: int = 4) -> tuple[dict[int, float], float, float]:
    """Return operations in 1e9 a second by width, GB/s of reading, and the share of the threads' time that was had.

    Each width has the fastest unit that multiplies it; each ceiling is the best of `rounds`, of which one in which no
    other program ran is enough.
    """
    types = {32: torch.float32, 16: torch.bfloat16, 8: torch.int8}
    gops, read, had = dict.fromkeys(types, 0.0), 0.0, 0.0
    for _ in range(rounds):
        wall, used = time.perf_counter(), time.process_time()
        reached = measured_now(threads)
        share = (time.process_time() - used) / (time.perf_counter() - wall) / threads
        gops = {bits: max(gops[bits], reached.compute(dtype) / 1e9) for bits, dtype in types.items()}
        read, had = max(read, reached.read / 1e9), max(had, share)
        if had >= _ENOUGH:
            break
    return gops, read, had


def gpu_file() -> Path:
    """Return the file of the first CUDA device, measured first if it is new.

    Raises
    ------
    UnsupportedError: torch sees none.
    """
    if not torch.cuda.is_available():
        raise UnsupportedError(
            "no ceilings were measured: torch sees no CUDA device",
            where="--arch gpu",
            expected="a GPU, for its measured roofline",
            hint="a sheet's roofline: a100, h100, h200, v100, titan-xp",
        )
    name = torch.cuda.get_device_name(0)
    path = _path("gpu-" + "".join(c if c.isalnum() else "-" for c in name.lower()))
    if path.exists():
        return path
    source = f"torch {torch.__version__} on {name}: products of {_SIDE} x {_SIDE}, sum of {_READ_BYTES >> 30} GiB"
    return _written(path, "gpu", name, source, *gpu_ceilings(torch.device("cuda", 0)), 32)


def gpu_ceilings(
    device: torch.device, side: int = _SIDE, read_bytes: int = _READ_BYTES
) -> tuple[dict[int, float], float]:
    """Return operations in 1e9 a second by width, of torch's matrix products, and GB/s of reading."""
    allowed = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        gops = {}
        for bits, dtype in ((32, torch.float32), (16, torch.bfloat16)):
            a = torch.randn(side, side, device=device).to(dtype)
            gops[bits] = 2e-9 * side**3 / _least_seconds(lambda a=a: torch.mm(a, a), device)  # type: ignore[misc]
        eights = torch.randint(-9, 9, (side, side), dtype=torch.int8, device=device)
        gops[8] = 2e-9 * side**3 / _least_seconds(lambda: torch._int_mm(eights, eights.t()), device)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = allowed
    values = torch.ones(read_bytes // 4, device=device)
    return gops, 1e-9 * read_bytes / _least_seconds(values.sum, device)


def _least_seconds(run: Callable[[], object], device: torch.device) -> float:
    times = []
    run()
    for _ in range(_PASSES):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        begin.record(torch.cuda.current_stream(device))
        run()
        end.record(torch.cuda.current_stream(device))
        end.synchronize()
        times.append(float(begin.elapsed_time(end)) * 1e-3)
    return min(times)


def _path(name: str) -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "sparsecore" / "roofline" / f"{name}.yaml"


def _written(
    path: Path, name: str, machine: str, source: str, gops: Mapping[int, float], read: float, line_bytes: int
) -> Path:
    """Write the file; of ceilings that it had from the same source the higher ones stay."""
    if path.exists():
        before = load_yaml(path).data
        if str(before.get("source", "")).partition(";")[0] == source.partition(";")[0]:
            known = before["measured"]
            gops = {bits: max(rate, known["gops_by_bits"].get(bits, 0.0)) for bits, rate in gops.items()}
            read = max(read, known["read_gb_per_s"])
            source = min(source, str(before["source"]), key=lambda said: _BUSY in said)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, roofline_text(name, machine, source, gops, read, line_bytes))
    return path
