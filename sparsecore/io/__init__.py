"""Files: saving a model with packed weights, and reading our own and other people's checkpoints.

    sc.save(model, "out.safetensors")
    sc.load("out.safetensors", into=model)

Nothing here runs code from a file: safetensors are parsed, torch files go through the weights-only reader, and what
needs real unpickling is refused unless the caller says `trust_pickle=True`. docs/formats.md describes the file format.
"""

from __future__ import annotations

from sparsecore.io.checkpoint import LoadedCheckpoint, PackedEntry
from sparsecore.io.header import FORMAT_VERSION
from sparsecore.io.loading import load
from sparsecore.io.saving import save

__all__ = ["FORMAT_VERSION", "LoadedCheckpoint", "PackedEntry", "load", "save"]
