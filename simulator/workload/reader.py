"""MODEL of the command line to a workload: a saved or built-in one, requests, safetensors, Hugging Face folder, others.

Other kinds of files are read by functions `read(path, request) -> Workload | ModelInfo | None` that packages register
in the entry-point group "simulator.readers"; None means "not mine". Nothing here executes code from a model file.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

from simulator.errors import (
    CorruptFileError,
    FileMissingError,
    InvalidValueError,
    MissingDependencyError,
    NamedError,
    UnknownNameError,
    UnsupportedError,
    nearest,
)
from simulator.files import is_torch_file, read_json
from simulator.workload import store
from simulator.workload.headers import Weights, is_safetensors, read_folder, read_safetensors
from simulator.workload.ir import ModelInfo, Workload
from simulator.workload.named import builtin_models, builtin_workloads, model_sizes, read_builtin
from simulator.workload.recognise import from_config, identify, locate
from simulator.workload.request import ReadRequest
from simulator.workload.scheduled import from_sizes
from simulator.workload.spatten_csv import is_request_file
from simulator.workload.spatten_requests import read_requests

__all__ = ["builtin_models", "builtin_workloads", "from_sizes", "read_workload"]

Reader: TypeAlias = Callable[[str, ReadRequest], Workload | ModelInfo | None]


def read_workload(model: str, request: ReadRequest | None = None) -> Workload:
    """Return the workload that `model` names, made under `request` where it is not a saved one.

    Raises
    ------
    FileMissingError, UnknownNameError: no such file or built-in model.
    CorruptFileError: truncated, damaged or of an unknown kind. FormatVersionError: a newer workload.
    InvalidValueError: the number of heads is needed, or an option does not fit the kind of model.
    PickleRefusedError, MissingDependencyError: from the reader of torch files.
    """
    request = request or ReadRequest()
    if request.input is None and request.keep_tensors is not None:
        raise InvalidValueError(
            "nothing is run, so there are no Q, K and V to keep", where="--keep-tensors", hint="--input FILE runs MODEL"
        )
    if model in builtin_workloads():
        return _builtin(model, request)
    path = Path(model)
    if not path.exists():
        raise _absent(model)
    if is_request_file(path):
        return _requests(path, request)
    _refuse(request, ("unquantised",), "only a file of requests has widths of -1")
    document = read_json(path) if path.suffix == ".json" and path.is_file() else None
    if document is not None and "model_type" not in document:
        if request.input is not None:
            raise InvalidValueError(
                "a saved workload cannot be run on an input", where="--input", hint="give the model"
            )
        _refuse(
            request, ("schedule", "seq_len", "batch", "generate", "config", "heads"), "a saved workload is complete"
        )
        return store.load(path)
    if request.input is not None:
        _refuse(request, ("seq_len", "batch"), "--input holds the sequences")
    else:
        found = _own(path, request, document)
        if found is not None:
            return found
    return _from_readers(path, request)


def _refuse(request: ReadRequest, options: tuple[str, ...], why: str) -> None:
    """Raise InvalidValueError for an option that would have no effect: the user believes that it has one."""
    for option in options:
        if getattr(request, option) != getattr(ReadRequest(), option):
            flag = "--" + option.replace("_", "-")
            raise InvalidValueError(f"{why}: {flag} changes nothing", where=flag, hint=f"leave {flag} out")


def _absent(model: str) -> Exception:
    if "/" in model or "." in model:
        return FileMissingError("the model file does not exist", where=model, hint="check the path")
    return UnknownNameError(
        f"no file and no built-in model is named {model!r}",
        where="MODEL",
        expected="a file, a folder, or one of " + ", ".join(builtin_workloads()),
        hint=nearest(model, builtin_workloads()),
    )


def _builtin(name: str, request: ReadRequest) -> Workload:
    if request.input is not None:
        raise InvalidValueError(
            f"the built-in model {name} has no weights to run on an input",
            where="--input",
            hint="give a model file or a Hugging Face folder",
        )
    if "@" in name:
        _refuse(request, ("schedule",), f"{name} has a schedule of its own")
    _refuse(request, ("config", "heads", "unquantised"), f"the sizes of {name} are known")
    return read_builtin(name, request)


def _requests(path: Path, request: ReadRequest) -> Workload:
    if request.input is not None:
        raise InvalidValueError("a file of requests is no model", where="--input", hint="give the model")
    options = ("schedule", "seq_len", "batch", "generate", "config", "heads")
    _refuse(request, options, "a file of requests is complete")
    return read_requests(path, request.unquantised, model_sizes())


def _own(path: Path, request: ReadRequest, document: dict[str, Any] | None) -> Workload | None:
    """Read what needs no torch: a config.json, a safetensors file, a Hugging Face folder; None for anything else."""
    if document is not None:
        return from_sizes(from_config(document, str(path)), request, path.parent.name or path.stem, str(path), None)
    if path.is_dir():
        return _from_folder(path, request)
    if not is_safetensors(path):
        return None
    config = None if request.config is None else _config(request.config)
    return _from_weights(read_safetensors(path), path, request, config)


def _config(given: str) -> dict[str, Any]:
    path = Path(given)
    return read_json(path / "config.json" if path.is_dir() else path)


def _from_folder(folder: Path, request: ReadRequest) -> Workload:
    if request.config is None and not (folder / "config.json").is_file():
        raise FileMissingError(
            "the folder has no config.json", where=str(folder), expected="a Hugging Face model folder", hint="--config"
        )
    config = _config(request.config or str(folder))
    weights = read_folder(folder)
    if weights is None:
        return from_sizes(from_config(config, str(folder)), request, folder.name, str(folder), None)
    return _from_weights(weights, folder, request, config)


def _from_weights(weights: Weights, path: Path, request: ReadRequest, config: dict[str, Any] | None) -> Workload:
    info = identify(weights.tensors, str(path), request.heads, config)
    places = ((locate(name, info), pattern) for name, pattern in weights.patterns.items())
    patterns = {place: pattern for place, pattern in places if place is not None}
    return from_sizes(info, request, path.stem, str(path), patterns)


def _from_readers(path: Path, request: ReadRequest) -> Workload:
    for reader in _readers():
        answer = reader(str(path), request)
        if isinstance(answer, ModelInfo):
            return from_sizes(answer, request, path.stem, str(path), None)
        if answer is not None:
            return answer
    if request.input is not None or is_torch_file(path):
        raise MissingDependencyError(
            "running a model or reading a PyTorch file needs sparsecore and torch",
            where=str(path),
            hint="pip install 'sparsecore-kernels[torch]'",
        )
    raise CorruptFileError(
        "the file is of no known kind",
        where=str(path),
        expected="a saved workload, a safetensors file, a PyTorch file or a Hugging Face folder",
        hint="it may be truncated",
    )


def _readers() -> Iterator[Reader]:
    """Yield the registered readers; that of sparsecore also where the package is on the path but not installed."""
    names = set()
    for entry in importlib.metadata.entry_points(group="simulator.readers"):
        names.add(entry.name)
        try:
            yield entry.load()
        except NamedError:  # says by itself what is missing
            raise
        except (ImportError, AttributeError) as error:
            raise UnsupportedError(
                f"the reader {entry.name!r} cannot be loaded: {error}", where=entry.value, hint="reinstall its package"
            ) from error
    if "torch" not in names:
        try:
            reader: Reader = importlib.import_module("sparsecore.simulate_reader").read
        except ModuleNotFoundError:
            return
        yield reader
