"""What nothing exceeds on this GPU, measured in the same run: the floor that every figure is told beside."""

from __future__ import annotations

import json
import statistics
import subprocess
from pathlib import Path
from typing import Any

import torch
from place import Place

__all__ = ["ceiling", "limits"]

_COPIED = 2**30
"""Bytes: far more than a cache holds."""
_PRODUCT = 8192
_CEILING_S = 30
"""For the program that measures the tensor cores."""


def limits(place: Place) -> dict[str, float]:
    """Bytes/s of a copy, reading and writing counted; operations/s of a dense bf16 product of random numbers."""
    if not place.timed:
        return {}
    source = torch.empty(_COPIED, dtype=torch.uint8, device=place.device)
    target = torch.empty_like(source)
    a, b = (place.random(_PRODUCT, _PRODUCT, dtype=torch.bfloat16) for _ in range(2))
    out = torch.empty_like(a)
    calls = {"copy": lambda: target.copy_(source), "dense": lambda: torch.mm(a, b, out=out)}
    times = place.interleaved(calls, 2.0).seconds
    middles = {name: statistics.median(own) for name, own in times.items()}
    return {"copy": 2 * _COPIED / middles["copy"], "dense": 2 * _PRODUCT**3 / middles["dense"]}


def ceiling(program: Path | None) -> list[dict[str, Any]]:
    """Rates of the tensor cores by the program of csrc/cuda/ceiling: fed from shared memory, tiles arriving or not."""
    if program is None or not program.exists():
        return []
    try:
        done = subprocess.run([program], capture_output=True, text=True, check=False, timeout=_CEILING_S)
    except subprocess.TimeoutExpired:
        return [{"name": f"not run: no end after {_CEILING_S} s", "tflops": []}]
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    if done.returncode != 0:
        return [*rows, {"name": f"not run: {done.stderr.strip()}", "tflops": []}]
    return [{"name": row["name"], "tflops": statistics.median(row["tflops"]), "runs": row["tflops"]} for row in rows]
