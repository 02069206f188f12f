"""`simulate archs`: the designs that --arch knows, and the workloads that MODEL knows by name."""

from __future__ import annotations

import typer

__all__ = ["archs"]


def archs() -> None:
    """List the designs and the built-in workloads."""
    from simulator.designs.registry import broken_designs, design_names, made_names, resolve
    from simulator.workload.named import builtin_workloads, describe_builtin

    said = {name: str(resolve(name).document.data["description"]) for name in design_names()}
    made = {name: f"made when it is asked for, by {who}" for name, who in made_names().items()}
    _list("designs (--arch)", said | made)
    for error in broken_designs().values():
        typer.echo(f"warning: {error}", err=True)
    _list("workloads (MODEL)", {name: describe_builtin(name) for name in builtin_workloads()})


def _list(title: str, said: dict[str, str]) -> None:
    width = max(map(len, said))
    typer.echo(f"{title}:")
    for name, words in said.items():
        typer.echo(f"  {name:{width}}  {words}")
