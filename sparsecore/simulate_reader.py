"""Entry point "simulator.readers": torch files, and any model that is to run on a real input.

The simulator calls `read`; it must import without torch, so everything that needs torch is imported inside.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from simulator.files import is_torch_file

if TYPE_CHECKING:
    from simulator.workload import ModelInfo, ReadRequest, Workload

__all__ = ["read"]


def read(path: str, request: ReadRequest) -> Workload | ModelInfo | None:
    """Return the workload of the model at `path`; None where it is no torch file and nothing is to be run.

    With `request.input` the model runs on it under the schedule, and tokens, heads, V rows and low-bit decisions are
    measured (`sparsecore.capture`); a decoder generates `request.generate` tokens. Without, its sizes and weight
    patterns are read and the schedule is assumed.

    Raises
    ------
    MissingDependencyError: torch or transformers is not installed.
    PickleRefusedError: reading would run code from the file and `request.trust_pickle` is not set.
    InvalidValueError: the number of heads is needed, or the input does not fit the model.
    FileMissingError, CorruptFileError, FormatVersionError, UnsupportedError, KeyMismatchError: about the files.
    """
    file = Path(path)
    if request.input is None:
        if not is_torch_file(file):
            return None
        _require_torch()
        from sparsecore.simulate_model import described

        return described(file, request)
    _require_torch()
    from sparsecore.simulate_model import measured

    return measured(file, request)


def _require_torch() -> None:
    import sparsecore

    sparsecore._require_torch()
