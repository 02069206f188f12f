"""Cascade pruning of Hugging Face decoders while they generate: `sparsecore.cascade.apply` uses it for them."""

from __future__ import annotations

from sparsecore.cascade.generation.cache import CascadeCache
from sparsecore.cascade.generation.handle import GenerationHandle
from sparsecore.cascade.generation.record import GenerationRun
from sparsecore.cascade.generation.settings import Mode, Settings

__all__ = ["CascadeCache", "GenerationHandle", "GenerationRun", "Mode", "Settings"]
