"""`sparsecore info`: what this installation runs on."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from typing import Annotated, Any

import typer

from simulator.version import version

__all__ = ["collect", "info"]

_PACKAGES = ("numpy", "safetensors", "transformers")


def info(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show instruction sets, threads, CUDA and versions."""
    found = collect()
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    for topic, values in found.items():
        typer.echo(topic)
        for name, value in values.items():
            shown = ", ".join(map(str, value)) if isinstance(value, list) else value
            typer.echo(f"  {name + ':':<22} {shown}")


def collect() -> dict[str, dict[str, Any]]:
    """The facts that `info` prints, by topic."""
    versions = {"python": platform.python_version(), "sparsecore-kernels": version(), "torch": _torch()}
    versions |= {name: _version(name) for name in _PACKAGES}
    return {"versions": versions, "processor": _processor(), "threads": _threads(), "cuda": _cuda()}


def _torch() -> str:
    """With what it was built for, which the package's metadata lacks."""
    if _version("torch") == "not installed":
        return "not installed"
    import torch

    return torch.__version__


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _processor() -> dict[str, Any]:
    from sparsecore.native import core

    features = [name for name, present in core.cpu_features().items() if present]
    return {
        "machine": platform.machine(),
        "runs": core.runtime_isa(),
        "available": core.available_isas(),
        "compiled": core.compiled_isas(),
        "features": features,
    }


def _threads() -> dict[str, Any]:
    from sparsecore.native import core

    if _version("torch") == "not installed":
        return {"runtime": core.num_threads_runtime(), "count": "torch decides; it is not installed"}
    import torch

    return {"runtime": core.num_threads_runtime(), "count": torch.get_num_threads()}


def _cuda() -> dict[str, Any]:
    from sparsecore.native import core

    return dict(core.cuda_info())
