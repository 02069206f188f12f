"""MNNFast: attention that skips V rows of small probability (ISCA 2019), as SpAtten models it."""

from simulator.designs.mnnfast.design import MnnFast

__all__ = ["MnnFast"]
