"""What a file holds once it is open: the common form of safetensors, torch files, exported programs and shards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sparsecore.io.checkpoint import PackedEntry
from sparsecore.io.tensors import LazyTensors

__all__ = ["Opened"]


@dataclass(frozen=True)
class Opened:
    """Tensors by name, weights that are packed in the file itself, by module, and the text beside them.

    kind: "safetensors", "state dict" or "exported program". metadata: of a safetensors header.
    """

    kind: str
    tensors: LazyTensors
    packed: Mapping[str, PackedEntry] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
