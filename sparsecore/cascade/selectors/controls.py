"""Two selectors that know nothing of attention: what every other one has to beat at the same budget."""

from __future__ import annotations

from torch import Tensor

from sparsecore.cascade.selectors.view import Selector, View

__all__ = ["Random", "Recent"]

# Odd, and below 2^31: the product with a 32-bit number stays within the 63 bits of an int64.
_FACTORS = (0x7FEB352D, 0x046CA68B)
_MASK = 0xFFFFFFFF


class Random(Selector):
    """Keeps tokens by a hash of seed, layer and position: reproducible, and the same in a batch as alone."""

    name = "random"
    generates = True

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def rank(self, view: View) -> Tensor:
        """Return the hash of each token."""
        return _mixed(_mixed(view.positions, self.seed), view.layer)


class Recent(Selector):
    """Keeps the last tokens."""

    name = "recent"
    generates = True

    def rank(self, view: View) -> Tensor:
        """Return the positions."""
        return view.positions


def _mixed(x: Tensor, key: int) -> Tensor:
    """Return a hash of each int64 in [0, 2^32) and of `key`, in the same range."""
    x = ((x + 1) * (2 * (key & 0x3FFFFFFF) + 1)) & _MASK
    for factor in _FACTORS:
        x = ((x ^ (x >> 16)) * factor) & _MASK
    return x ^ (x >> 15)
