"""A3: greedy search for candidate keys and post-scoring, without and with approximation (HPCA 2020)."""

from simulator.designs.a3.design import A3

__all__ = ["A3"]
