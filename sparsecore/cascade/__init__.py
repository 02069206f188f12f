"""Cascade pruning of tokens and heads by accumulated attention, applied to a model in place.

Source: SpAtten (HPCA 2021, arXiv 2012.09852). `apply(model, Schedule(token_keep=0.5))` is all that is needed.
"""

from __future__ import annotations

from sparsecore.cascade.calibration import Calibration, calibrate, stages, static_heads
from sparsecore.cascade.entry import apply
from sparsecore.cascade.handle import Handle, handle_of
from sparsecore.cascade.kv_store import KVFormat, KVStore, decode_attention
from sparsecore.cascade.paged_store import PagedKVStore
from sparsecore.cascade.plan import Counts
from sparsecore.cascade.run import CascadeRun
from sparsecore.cascade.schedule import Schedule
from sparsecore.cascade.state import CascadeState

__all__ = [
    "Calibration",
    "CascadeRun",
    "CascadeState",
    "Counts",
    "Handle",
    "KVFormat",
    "KVStore",
    "PagedKVStore",
    "Schedule",
    "apply",
    "calibrate",
    "decode_attention",
    "handle_of",
    "stages",
    "static_heads",
]
