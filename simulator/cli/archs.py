"""`simulate archs`: the designs that --arch knows."""

from __future__ import annotations

import typer

__all__ = ["archs"]


def archs() -> None:
    """List the designs."""
    from simulator.designs.registry import design_names, resolve

    names = design_names()
    width = max(map(len, names))
    for name in names:
        typer.echo(f"{name:{width}}  {resolve(name).document.data['description']}")
