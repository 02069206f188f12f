"""Speeds of both forms of a layer on a GPU that nobody has measured: bytes over bandwidth, products over peak.

The peaks are those of the data sheet of one product of each compute capability, for each multiprocessor, since ratios
depend on their balance more than on their size. What a kernel reaches of them is assumed, and no GPU has confirmed it:
`TRUST` says how much of a predicted gain is believed. `sparsecore doctor --calibrate --device cuda` replaces all this
by a table of measurements.

    sparse      2:4 on sparse tensor cores: kept products at up to the dense rate, twice as many positions; of int8 and
                fp8 at twice the rate of 16 bits, of fp8 for few tokens at that rate
    kept        blocks on tensor cores: kept products at the dense rate
    spread      N:M or unstructured on tensor cores: all products at the dense rate
    ordinary    kept products at a quarter of the fp32 peak
    expanded    one reading of the packed weight, one writing and one reading of the dense one, and all products at the
                dense rate; of fp8 several passes over the dense weight, which gets 16 bits
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sparsecore.backends.cuda.routes import NO_END, Products, kernel_of
from sparsecore.calibration import FormSpeed
from sparsecore.dtypes import is_quantised
from sparsecore.gpu import Gpu
from sparsecore.patterns import Pattern

__all__ = ["TRUST", "GpuModel"]

TRUST = 0.6

_REACHED = 0.8  # share of bandwidth and of the dense peak that torch and a good kernel reach
_ORDINARY = 0.25  # share of the fp32 peak that a kernel reaches which gathers its operands
# Seconds of a call as the host queues it: torch's F.linear, and an operator that Python carries out.
_DENSE_CALL_S, _PACKED_CALL_S = 6e-6, 15e-6
_QUANTISED_CALL_S = 20e-6  # with a launch more, and memory for what it writes
_EXPANDED_FP8_BYTES = 33  # an element: what the steps in backends/cuda/expand.py read and write, and the product reads
_TOKENS = tuple(2**i for i in range(18))


@dataclass(frozen=True, slots=True)
class _Class:
    """Peaks of one multiprocessor.

    half, single: operations/s in fp16 or bf16 on tensor cores, in fp32 on ordinary ones. read: bytes/s. sparse_gain:
        how much faster 2:4 products may be than dense ones. gathered: time of V:N:M products of 2:8 over that of
        dense ones, by the counts in csrc/cuda/nm_linear/gathered: sm90_gemm.h for sm_90, sm80_gemm.h for the others.
    dense_share: rate of the dense products of our kernels over that of torch's.
    """

    half: float
    single: float
    read: float
    sparse_gain: float
    gathered: float
    dense_share: float = 1.0


# Data sheets: A100 40 GB (108 multiprocessors: 312 and 19.5 TFLOP/s, 1.555 TB/s), A40 (84: 149.7, 37.4, 0.696), L40S
# (142: 362, 91.6, 0.864), H100 SXM (132: 989, 67, 3.35), B200 (148: 2250, 75, 8.0), RTX 5090 (170: 209.5, 104.8,
# 1.792). On sm_90 shared memory cannot feed sparse wgmma at twice the rate (docs/cuda.md). On 10.0 torch's products are
# those of tcgen05, 4096 multiplications a clock and SM, and ours still those of sm_80: 1024, and twice that for 2:4.
_CLASSES = {
    (8, 0): _Class(2.89e12, 0.181e12, 14.4e9, 2.0, 0.37),
    (8, 6): _Class(1.78e12, 0.445e12, 8.3e9, 2.0, 0.37),
    (8, 9): _Class(2.55e12, 0.645e12, 6.1e9, 2.0, 0.37),
    (9, 0): _Class(7.49e12, 0.508e12, 25.4e9, 1.4, 0.7),
    (10, 0): _Class(15.2e12, 0.507e12, 54.0e9, 0.5, 1.5, 0.25),
    (12, 0): _Class(1.23e12, 0.616e12, 10.5e9, 2.0, 0.37),
}


@dataclass(frozen=True, slots=True)
class GpuModel:
    """What `Calibration` answers, for a GPU without one."""

    gpu: Gpu
    trust: float = TRUST

    @property
    def source(self) -> str:
        """Where it comes from, in words."""
        major, minor = self._known()
        return f"a model from the data sheet of compute capability {major}.{minor}; nothing was measured"

    def dense(self, dtype: torch.dtype) -> FormSpeed | None:
        """Speed of the dense form; None for types that have none."""
        if dtype not in (torch.float32, torch.float16, torch.bfloat16):
            return None
        cost = self._dense_cost(dtype)
        return FormSpeed(_DENSE_CALL_S, self._read(), tuple((t, cost) for t in _TOKENS), overlaps=True)

    def packed(self, pattern: Pattern, density: float, dtype: torch.dtype, layout: int = 0) -> FormSpeed | None:
        """Speed of the packed form at `density` along the routes that calls take.

        None for quantised values but where kernels multiply them: 2:4, 1:4, 1:8 and 2:8.
        """
        kernel = kernel_of(pattern, dtype, layout, self.gpu.capability)
        if is_quantised(dtype) and kernel is None:
            return None
        most = 0 if kernel is None else kernel.tokens
        turns = set() if most in (0, NO_END) else {most, most + 1}
        # Bytes a position of the packed weight, its index among them at one bit a position.
        packed_bytes = density * dtype.itemsize + 1 / 8
        is_fp8 = dtype is torch.float8_e4m3fn
        expanding = (packed_bytes + (_EXPANDED_FP8_BYTES if is_fp8 else 2 * dtype.itemsize)) / self._read()
        # Products of fp8 are of 16 bits in the kernel for few tokens, as they are once the weight is written out.
        dense = self._dense_cost(torch.float16 if is_fp8 and most != NO_END else dtype)
        packed = dense if kernel is None else self._kernel_cost(kernel.products, density, dense)
        costs = ((t, packed if t <= most else dense + expanding / t) for t in sorted({*_TOKENS, *turns}))
        call = _QUANTISED_CALL_S if is_quantised(dtype) else _PACKED_CALL_S
        return FormSpeed(call, self._read(), tuple(costs), overlaps=True)

    def _kernel_cost(self, products: Products, density: float, dense: float) -> float:
        if products == "ordinary":
            return 2 * density / (_ORDINARY * self._class().single * self.gpu.multiprocessors)
        # As many kept values as a 2:4 weight of the same width has are two of every four.
        sparse, gathered = 2 * density / self._class().sparse_gain, self._class().gathered
        share = self._class().dense_share
        shares = {"sparse": sparse, "gathered": gathered, "kept": density / share, "spread": 1.0 / share}
        return shares[products] * dense

    def _dense_cost(self, dtype: torch.dtype) -> float:
        # Tensor cores take half the time for products of bytes.
        peak = self._class().single if dtype is torch.float32 else self._class().half * (2 // dtype.itemsize)
        return 2 / (_REACHED * peak * self.gpu.multiprocessors)

    def _read(self) -> float:
        return _REACHED * self._class().read * self.gpu.multiprocessors

    def _class(self) -> _Class:
        return _CLASSES[self._known()]

    def _known(self) -> tuple[int, int]:
        """The greatest known capability up to that of the GPU; the least one below all."""
        below = [one for one in _CLASSES if one <= self.gpu.capability]
        return max(below, default=min(_CLASSES))
