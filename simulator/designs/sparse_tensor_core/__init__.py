"""A processor whose matrix units skip the zeros of 2:4 weights: A100-like."""

from simulator.designs.sparse_tensor_core.design import SparseTensorCore

__all__ = ["SparseTensorCore"]
