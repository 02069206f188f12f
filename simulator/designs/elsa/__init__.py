"""ELSA: keys chosen by the Hamming distance of sign hashes (ISCA 2021)."""

from simulator.designs.elsa.design import Elsa

__all__ = ["Elsa"]
