"""PackedWeight: the owner of one sparse weight in the layout of the running machine."""

from __future__ import annotations

import torch
from torch import Tensor

from sparsecore import formats, ops, resident
from sparsecore.backends.cpu import linear as cpu
from sparsecore.backends.cuda import device as cuda_device
from sparsecore.backends.cuda import linear as cuda
from sparsecore.devices import indexed
from sparsecore.dtypes import dense_dtype, is_quantised
from sparsecore.formats import StoredWeight, require_memory
from sparsecore.ops.direct import runs_directly
from sparsecore.ops.linear import Backend, direct_linear
from sparsecore.patterns import NM, Block, Pattern

__all__ = ["PackedWeight"]


class PackedWeight:
    """One sparse weight [out_features, in_features], held in its resident form only; it does not change.

    Pickle, deepcopy and files carry the stored form, so that a weight may move to a machine with another layout.
    """

    __slots__ = (
        *("__weakref__", "_backend", "_dtype", "_expected", "_isa", "_on_cpu", "_pattern", "_quantised", "_resident"),
        "_shape",
    )

    def __init__(self, stored: StoredWeight, isa: str | None = None, device: torch.device | str | None = None) -> None:
        self._hold(stored.pattern, stored.shape, stored.dtype, *resident.place(stored, isa, device))

    def _hold(self, pattern: Pattern, shape: tuple[int, int], dtype: torch.dtype, isa: str, tensor: Tensor) -> None:
        self._pattern, self._shape, self._dtype, self._isa, self._resident = pattern, shape, dtype, isa, tensor
        # Kept because a call needs them and every one of them takes time to ask for.
        self._on_cpu, self._backend, self._quantised = tensor.is_cpu, _backend(tensor, isa), is_quantised(dtype)
        self._expected = (pattern.kind, *shape, *pattern.sizes)

    @classmethod
    def from_dense(cls, dense: Tensor, pattern: Pattern | str, dtype: torch.dtype | None = None) -> PackedWeight:
        """Pack `dense`, which must satisfy `pattern`, with values of `dtype`; raises as `formats.pack` does."""
        return cls(formats.pack(dense, pattern, dtype))

    @classmethod
    def from_stored(
        cls, stored: StoredWeight, isa: str | None = None, device: torch.device | str | None = None
    ) -> PackedWeight:
        """Lay out a stored weight on `device`, by default its own, for `isa`, by default that of this process.

        Raises CudaError for a CUDA device that this build or its driver cannot use.
        """
        return cls(stored, isa, device)

    def stored(self) -> StoredWeight:
        """Return the stored form, on the CPU. Raises ResidentError if the resident tensor was modified in place."""
        return resident.to_stored(self._resident)

    def to_dense(self) -> Tensor:
        """Return the dense weight [out_features, in_features] on the device of the weight; quantised values as float32.

        Raises ShapeError where this machine has not the memory for it.
        """
        dtype = dense_dtype(self._dtype)
        require_memory(self._shape, dtype, self.device)
        dense: Tensor = ops.packed_to_dense(self._resident, *self._shape, dtype)
        return dense

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> PackedWeight:
        """Return the weight on another device or in another dtype; on "meta" only the sizes stay.

        The stored positions stay, also where the new dtype rounds a value to zero.
        """
        target = indexed(torch.device(device)) if device is not None else self.device
        if dtype in (None, self._dtype) and target == self.device:
            return self
        if target.type == "meta":
            return self._on_meta(dtype or self._dtype)
        return PackedWeight(self.stored().to(dtype=dtype), device=target)

    def linear(
        self, x: Tensor, bias: Tensor | None = None, activation: str = "none", weight: Tensor | None = None
    ) -> Tensor:
        """activation(x W^T + bias) for x [..., in_features] in the weight's dtype.

        activation: "none", "relu", "gelu", "gelu_tanh" or "silu". weight: a dense leaf that only receives the dense
        gradient. Under autocast the input (and the bias) is converted to the weight's dtype, in which the result is;
        int8 and fp8 values take the input as it is, in any float type, and the bias in its type.
        """
        dtype = x.dtype if self._quantised else self._dtype
        foreign = x.dtype is not dtype or (bias is not None and bias.dtype is not dtype)
        if foreign and torch.is_autocast_enabled(x.device.type):
            x = x.to(dtype)
            bias = bias if bias is None else bias.to(dtype)
        if weight is None and self._backend is not None and runs_directly(x, bias, self._on_cpu):
            return direct_linear(x, self._resident, bias, activation, self._expected, self._backend)
        (rows, cols), pattern, packed = self._shape, self._pattern, self._resident
        out: Tensor
        if isinstance(pattern, NM):
            out = ops.nm_linear(x, packed, bias, rows, cols, pattern.n, pattern.m, activation, weight)
        elif isinstance(pattern, Block):
            out = ops.block_linear(x, packed, bias, rows, cols, pattern.rows, pattern.cols, activation, weight)
        else:
            out = ops.bitmask_linear(x, packed, bias, rows, cols, activation, weight)
        return out

    @property
    def pattern(self) -> Pattern:
        """Sparsity pattern."""
        return self._pattern

    @property
    def shape(self) -> tuple[int, int]:
        """(out_features, in_features)."""
        return self._shape

    @property
    def dtype(self) -> torch.dtype:
        """Element type of the values."""
        return self._dtype

    @property
    def device(self) -> torch.device:
        """Device of the resident tensor."""
        return self._resident.device

    @property
    def isa(self) -> str:
        """Instruction set that the layout is for; "portable" runs everywhere."""
        return self._isa

    @property
    def layout(self) -> int:
        """Number of the layout among those of all kernels; it may change with every release."""
        return resident.check(self._resident).layout

    @property
    def nbytes(self) -> int:
        """Bytes held in memory."""
        return self._resident.numel()

    @property
    def resident(self) -> Tensor:
        """The one tensor that holds the weight, uint8, 1-D; an operator refuses it once it was modified in place."""
        return self._resident

    def __repr__(self) -> str:
        rows, cols = self._shape
        return f"PackedWeight({rows}x{cols}, {self._pattern.name}, {self._dtype}, {self.device}, isa={self._isa!r})"

    def __reduce__(self) -> tuple[object, ...]:
        if self.device.type == "meta":
            return _rebuild_meta, (self._pattern, self._shape, self._dtype, self._isa, self.nbytes)
        # The device as a tensor on it: `torch.load(..., map_location=)` moves tensors.
        return _rebuild, (self.stored(), torch.empty(0, device=self.device))

    def _on_meta(self, dtype: torch.dtype) -> PackedWeight:
        # The size of another dtype is known only by packing: the values' share of it scales with the element size.
        size = self.nbytes * dtype.itemsize // self._dtype.itemsize
        return _rebuild_meta(self._pattern, self._shape, dtype, self._isa, size)


def _rebuild(stored: StoredWeight, beside: Tensor) -> PackedWeight:
    return PackedWeight(stored.to(beside.device))


def _rebuild_meta(pattern: Pattern, shape: tuple[int, int], dtype: torch.dtype, isa: str, nbytes: int) -> PackedWeight:
    packed = PackedWeight.__new__(PackedWeight)
    packed._hold(pattern, shape, dtype, isa, torch.empty(nbytes, dtype=torch.uint8, device="meta"))
    return packed


def _backend(tensor: Tensor, isa: str) -> Backend | None:
    """The back end whose kernels read a resident tensor with the layout `isa`; None: the dispatcher finds one."""
    if isa != "cuda":
        return cpu if tensor.is_cpu else None
    return cuda if tensor.is_cuda or cuda_device.emulated() else None
