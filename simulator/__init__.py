"""Cycle-approximate simulator of sparse-attention accelerators.

`run` simulates a workload on a design, `compare` sets two results side by side; both load the engine when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simulator.api import Comparison, compare, run

__all__ = ["Comparison", "compare", "run"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from simulator import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
