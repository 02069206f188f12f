"""The command `simulate`."""

from simulator.cli.app import main

__all__ = ["main"]
