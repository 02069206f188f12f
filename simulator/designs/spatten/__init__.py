"""SpAtten (Wang, Zhang and Han, HPCA 2021): cascade token and head pruning, progressive quantisation."""

from simulator.designs.spatten.design import SpAtten

__all__ = ["SpAtten"]
