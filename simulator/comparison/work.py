"""What may be held against each other: the same scope of the same work, run by the same kind of machine."""

from __future__ import annotations

from simulator.result import Result

__all__ = ["MODELLED", "same_work"]

MODELLED = ("design", "host")


def same_work(result: Result, baseline: Result, scope: str) -> bool:
    """Whether both started from the same dense work in a scope, and both ran it by themselves, or both on a host."""
    ours, theirs = result.scopes.get(scope), baseline.scopes.get(scope)
    if ours is None or theirs is None or ours.modelled_by != theirs.modelled_by or ours.modelled_by not in MODELLED:
        return False
    return (ours.operations_dense, result.model) == (theirs.operations_dense, baseline.model)
