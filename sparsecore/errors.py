"""Errors of the kernels and of the Python API; those shared with the simulator are re-exported."""

from __future__ import annotations

from simulator.errors import (
    AssumedInputError,
    ConfigError,
    CorruptFileError,
    FileMissingError,
    FormatVersionError,
    InvalidValueError,
    MissingDependencyError,
    NamedError,
    PickleRefusedError,
    UnknownNameError,
    UnsupportedError,
    nearest,
)

__all__ = [
    "NamedError",
    "AliasingError",
    "ArchitectureError",
    "AssumedInputError",
    "ConfigError",
    "CorruptFileError",
    "CudaError",
    "DeviceMemoryError",
    "DriverError",
    "DtypeError",
    "FileMissingError",
    "FormatVersionError",
    "IndexTableError",
    "InvalidValueError",
    "IsaError",
    "KeyMismatchError",
    "LaunchError",
    "MissingDependencyError",
    "PatternError",
    "PickleRefusedError",
    "ResidentError",
    "ShapeError",
    "SpanError",
    "UnknownNameError",
    "UnsupportedError",
    "nearest",
]


class ShapeError(NamedError, ValueError):
    """Sizes of tensors do not fit together."""


class DtypeError(NamedError, TypeError):
    """An element type is not supported here, or two do not match."""


class PatternError(NamedError, ValueError):
    """A weight does not satisfy the sparsity pattern that it should have."""


class IndexTableError(NamedError, ValueError):
    """Positions of a stored weight are out of range, unsorted or of the wrong count."""


class SpanError(NamedError, ValueError):
    """A block of memory is shorter than its shape needs, or misaligned."""


class AliasingError(NamedError, ValueError):
    """Output and input share memory."""


class ResidentError(NamedError, ValueError):
    """A resident weight is damaged, was modified in place or belongs to another machine."""


class KeyMismatchError(NamedError, ValueError):
    """A checkpoint lacks tensors of the model, or has some that the model does not."""


class IsaError(NamedError, RuntimeError):
    """An instruction set was asked for that this machine or this build does not have."""


class CudaError(NamedError, RuntimeError):
    """CUDA kernels cannot run here, or a call of CUDA failed."""


class DriverError(CudaError):
    """There is no CUDA driver or device, or the driver is older than the kernels."""


class ArchitectureError(CudaError):
    """The GPU is older than the kernels, or the build has none for it."""


class DeviceMemoryError(CudaError):
    """The memory of a GPU does not suffice."""


class LaunchError(CudaError):
    """A kernel could not be started, or one that was queued before has failed."""
