"""The command `sparsecore`: prune, pack and look into checkpoints. Loads without torch; one file a command."""

from __future__ import annotations

from sparsecore.cli.app import app, main

__all__ = ["app", "main"]
