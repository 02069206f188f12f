"""`sparsecore doctor`: what this machine has, what it reaches, and what would make it faster."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import torch

    from sparsecore.machine import Limits, Machine

__all__ = ["doctor"]


def doctor(
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Measure both forms of layers, about a minute, and keep the result.")
    ] = False,
    roofline: Annotated[
        str,
        typer.Option(
            metavar="FILE", help="Write the measured ceilings for `simulate --arch FILE`; cpu: for --arch cpu."
        ),
    ] = "",
    threads: Annotated[int, typer.Option(help="Number of threads; 0: as torch chooses.", min=0)] = 0,
    device: Annotated[str, typer.Option(help="What --calibrate measures: cpu, cuda, or cuda:1 and so on.")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show instruction sets, measured limits and calibration of this machine and its GPUs, and give advice.

    Without inputs, sparsify predicts the speed of a layer from a calibration: one that --calibrate has measured here,
    kept in the user's cache folder ($XDG_CACHE_HOME), or else a cautious one that comes with the package.
    """
    import torch

    from sparsecore.machine import describe, limits

    if threads:
        torch.set_num_threads(threads)
    if calibrate:
        _calibrate(device, quiet=as_json)
    if roofline:
        _write_roofline(roofline, quiet=as_json)
    machine, reached = describe(), limits()
    found = {"machine": machine.to_dict(), "key": machine.key, "instruction sets": _sets(), "limits": _shown(reached),
             "calibration": _calibration(machine), "gpu": _gpus(), "advice": _advice(machine)}  # fmt: skip
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    for topic in ("machine", "instruction sets", "limits", "calibration", "gpu"):
        typer.echo(topic)
        for name, value in found[topic].items():  # type: ignore[attr-defined]
            typer.echo(f"  {name + ':':<14} {_text(value)}")
    typer.echo("advice")
    for line in found["advice"] or ["nothing: this machine runs as fast as it can"]:
        typer.echo(f"  {line}")


def _calibrate(device: str, quiet: bool) -> None:
    import torch

    from sparsecore.calibrate import calibrate
    from sparsecore.calibration import path_of, write
    from sparsecore.gpu import describe_gpu
    from sparsecore.machine import describe

    place = _device(device)
    if place.type == "cuda":
        torch.cuda.set_device(place)
    path = path_of(describe() if place.type == "cpu" else describe_gpu(torch.cuda.current_device()))
    write(calibrate(lambda text: None if quiet else typer.echo(f"measuring {text}", err=True), device=place), path)
    if not quiet:
        typer.echo(f"written: {path}\n")


def _device(name: str) -> torch.device:
    """The device to measure. Raises InvalidValueError for another name, CudaError for a GPU that is of no use."""
    import torch

    from sparsecore.errors import InvalidValueError
    from sparsecore.fallback import cuda_trouble

    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise InvalidValueError(f"{name!r} cannot be measured", where="--device", expected="cpu, cuda or cuda:N")
    trouble = cuda_trouble(device.index) if device.type == "cuda" else None
    if trouble is not None:
        raise trouble
    return device


def _gpus() -> dict[str, Any]:
    """What each GPU is, what its layers are judged by, and who computes what has no kernel there."""
    import torch

    from sparsecore.dispatch import speeds
    from sparsecore.fallback import VARIABLE, allowed, cuda_trouble, is_assembled

    trouble = cuda_trouble()
    if trouble is not None:
        weights = f"unpacked and multiplied by torch ({VARIABLE})" if allowed() else "refused"
        return {"kernels": f"none: {trouble.what}", "weights there": weights}
    found: dict[str, Any] = {}
    for index in range(torch.cuda.device_count()):
        trouble = cuda_trouble(index)
        known = speeds(torch.device("cuda", index))
        source = "nothing" if known is None else f"{known.source}, trusted to {known.trust:g}"
        code = "" if is_assembled(torch.cuda.get_device_capability(index)) else "kernels compiled by the driver; "
        state = trouble.what if trouble else f"{code}layers judged by {source}"
        found[f"cuda:{index}"] = f"{torch.cuda.get_device_name(index)}: {state}"
    return found | {"without kernel": "torch on the same device"}


def _write_roofline(name: str, quiet: bool) -> None:
    from pathlib import Path

    from sparsecore.errors import InvalidValueError
    from sparsecore.roofline import write_cpu_file

    if name != "cpu" and Path(name).suffix not in (".yaml", ".yml"):
        raise InvalidValueError(f"{name!r} is no design file", where="--roofline", expected="cpu, or a name in .yaml")
    path = write_cpu_file(None if name == "cpu" else Path(name))
    if not quiet:
        typer.echo(f"written: {path}\n")


def _sets() -> dict[str, Any]:
    from sparsecore.native import core

    return {
        "runs": core.runtime_isa(),
        "available": core.available_isas(),
        "compiled": core.compiled_isas(),
        "features": [name for name, present in core.cpu_features().items() if present],
    }


def _shown(limits: Limits) -> dict[str, Any]:
    values = {"read": f"{limits.read / 1e9:.1f} GB/s", "read from L2": f"{limits.read_l2 / 1e9:.1f} GB/s"}
    return values | {unit: f"{rate / 1e9:.0f} Gop/s" for unit, rate in limits.peak.items()}


def _calibration(machine: Machine) -> dict[str, Any]:
    from sparsecore.calibration import applicable, path_of, read, stale

    path = path_of(machine)
    state = "none"
    if path.exists():
        reason = stale(read(path), machine)
        state = f"passed over: {reason}" if reason else "in use"
    used = applicable(machine)
    source = "nothing for this instruction set" if used is None else f"{used.source}, {used.threads} threads"
    return {"file": str(path), "own": state, "predictions": source, "trust": used.trust if used is not None else 0.0}


def _advice(machine: Machine) -> list[str]:
    import torch

    from sparsecore.calibration import path_of, read, stale
    from sparsecore.dispatch import speeds
    from sparsecore.fallback import cuda_trouble
    from sparsecore.gpu_model import GpuModel
    from sparsecore.native import core

    lines = []
    available, compiled, features = core.available_isas(), core.compiled_isas(), core.cpu_features()
    if available[-1] != core.runtime_isa():
        lines.append(f"SPARSECORE_FORCE_ISA holds the kernels to {core.runtime_isa()}; {available[-1]} is available")
    for name, feature in (("avx2", "avx2"), ("avx512", "avx512vnni"), ("amx", "amx_tile")):
        if features.get(feature) and name not in compiled:
            lines.append(f"this processor has {name}, this build has not: build it with a newer compiler")
        elif features.get(feature) and name not in available:
            lines.append(f"this processor has {name} but not all that its kernels use, or the system does not allow it")
    if machine.threads > machine.cores:
        lines.append(f"{machine.threads} threads on {machine.cores} cores: torch.set_num_threads({machine.cores})")
    elif machine.threads < machine.cores:
        lines.append(f"{machine.threads} of {machine.cores} cores are used: torch.set_num_threads, or OMP_NUM_THREADS")
    path = path_of(machine)
    if not path.exists() or stale(read(path), machine):
        lines.append("`sparsecore doctor --calibrate` makes the choice for each layer exact for this machine")
    if cuda_trouble() is None and isinstance(speeds(torch.device("cuda")), GpuModel):
        lines.append("`sparsecore doctor --calibrate --device cuda` measures the GPU, whose layers a model judges now")
    return lines


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {size // 1024} KiB" for name, size in value.items()) or "not told"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
