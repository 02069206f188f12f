"""What a process that simulates points gets, and what it does with it: the same here, in a pool and on a cluster.

Design and workload of many points are equal. They travel as bytes, and each process unpacks them once.
"""

from __future__ import annotations

import hashlib
import pickle
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from simulator.designs.registry import Resolved
from simulator.engine.interface import Fidelity
from simulator.errors import ConfigError, InvalidValueError, UnknownNameError, UnsupportedError
from simulator.explore.records import Record, metrics_of
from simulator.version import version
from simulator.workload.ir import Workload

__all__ = ["Task", "code_version", "pack", "simulate"]

# What a design says of itself, on every machine and every time; a file that is missing is not.
REFUSED = (ConfigError, InvalidValueError, UnknownNameError, UnsupportedError)


@dataclass(frozen=True, slots=True)
class Task:
    """One point, ready to be simulated anywhere.

    Parameters
    ----------
    key, arch, model, values: as in `Record`. design, workload: packed. settings: of the design, by dotted key.
    memory, host, fidelity, seed: as in `simulator.run`.
    """

    key: str
    arch: str
    model: str
    values: dict[str, Any]
    design: bytes
    workload: bytes
    settings: dict[str, Any]
    memory: str | None
    host: str
    fidelity: Fidelity
    seed: int


def pack(value: Resolved | Workload) -> bytes:
    """Return `value` as bytes for a `Task`."""
    return zlib.compress(pickle.dumps(value), 1)


@lru_cache(maxsize=16)
def _unpacked(packed: bytes) -> Any:
    return pickle.loads(zlib.decompress(packed))  # written by `pack`, in the process that asked for the points


def simulate(task: Task) -> Record:
    """Return the record of a point; what the design refuses is an error in it, as it would be the next time."""
    from simulator import api

    def record(**found: Any) -> Record:
        return Record(task.key, task.arch, task.model, task.values, **found)

    try:
        result = api.run(
            _unpacked(task.workload),
            _unpacked(task.design),
            set=task.settings,
            memory=task.memory,
            host=task.host,
            fidelity=task.fidelity,
            seed=task.seed,
        )
    except REFUSED as error:
        return record(metrics=None, error=str(error))
    return record(metrics=metrics_of(result))


@lru_cache(maxsize=1)
def code_version() -> str:
    """Return the package's version with a hash of the simulator's own files: other code may give other results."""
    root, found = Path(__file__).parents[1], hashlib.sha256()
    for path in sorted(root.rglob("*")):
        if path.suffix in (".py", ".yaml", ".so"):
            found.update(path.relative_to(root).as_posix().encode())
            found.update(path.read_bytes())
    return f"{version()}+{found.hexdigest()[:16]}"
