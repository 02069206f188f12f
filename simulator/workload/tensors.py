"""Q, K and V of a real run, beside a workload: a safetensors file that is written and read layer by layer.

`NAME.<digest>.tensors.safetensors` has for each sequence and layer the arrays "<sequence>.<layer>.q" [heads, tokens,
D], ".k" and ".v" [K/V heads, tokens, D] without padding, and where a query sees neither everything nor exactly what
came before it, ".visible" as a bitmap (uint8, [tokens, tokens / 8], the lowest bit first). Where tokens were generated
they follow the prompt. The metadata hold the scale of the scores and whether attention is causal.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from simulator.errors import CorruptFileError, FileMissingError, InvalidValueError
from simulator.files import check_version, open_binary, replacing

__all__ = ["LayerTensors", "TensorReader", "TensorWriter", "TensorsFile", "opened", "require_beside"]

VERSION = "1.0"
_DTYPES = {np.dtype(np.float32): "F32", np.dtype(np.float16): "F16", np.dtype(np.uint8): "U8"}
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class TensorsFile:
    """Where the tensors of a workload are, and the SHA-256 of the file."""

    path: Path
    sha256: str


@dataclass(frozen=True, slots=True)
class LayerTensors:
    """Q, K and V of one layer on one sequence: of its prompt, and of the tokens generated after it.

    Parameters
    ----------
    q: [heads, tokens, D]. k, v: [K/V heads, tokens, D]. scale: multiplies the scores.
    causal: a query sees what came before it and itself. visible: bool [tokens, tokens], instead of `causal`.
    """

    q: npt.NDArray[np.floating[Any]]
    k: npt.NDArray[np.floating[Any]]
    v: npt.NDArray[np.floating[Any]]
    scale: float
    causal: bool = False
    visible: npt.NDArray[np.bool_] | None = None

    def seen(self, queries: slice, keys: int) -> npt.NDArray[np.bool_] | None:
        """Return which of the first `keys` keys some queries see; None: all of them."""
        if self.visible is not None:
            part = self.visible[queries, :keys]
            return None if part.all() else part
        rows = np.arange(self.q.shape[1])[queries, None]
        return np.arange(keys) <= rows if self.causal and keys > int(rows.min(initial=keys)) + 1 else None


class TensorWriter:
    """Writes a tensors file layer by layer; until `finish` only an unnamed temporary file holds them."""

    def __init__(self, workload: Path) -> None:
        """`workload`: path of the workload file that the tensors will stand beside."""
        folder = workload.absolute().parent
        if not folder.is_dir():
            raise FileMissingError("the folder to write into does not exist", where=str(folder), hint="make it first")
        self._target = workload
        self._data: BinaryIO = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - `finish` or `close`
        self._header: dict[str, Any] = {}
        self._metadata: dict[str, str] = {"format": "sparsecore-tensors", "version": VERSION}

    def add(self, sequence: int, layer: int, tensors: LayerTensors) -> None:
        """Write one layer of one sequence."""
        start = f"{sequence}.{layer}."
        arrays: dict[str, npt.NDArray[Any]] = {"q": tensors.q, "k": tensors.k, "v": tensors.v}
        if tensors.visible is not None:
            arrays["visible"] = np.packbits(tensors.visible, axis=1, bitorder="little")
        for name, array in arrays.items():
            self._append(start + name, array)
        self._metadata[start + "scale"] = repr(float(tensors.scale))
        self._metadata[start + "causal"] = str(int(tensors.causal))

    def _append(self, name: str, array: npt.NDArray[Any]) -> None:
        plain = array if array.dtype in _DTYPES else array.astype(np.float32)
        begin = self._data.tell()
        self._data.write(np.ascontiguousarray(plain).tobytes())
        offsets = [begin, self._data.tell()]
        self._header[name] = {"dtype": _DTYPES[plain.dtype], "shape": list(plain.shape), "data_offsets": offsets}

    def finish(self) -> TensorsFile:
        """Give the file its name and return it; the writer is closed."""
        head = json.dumps({"__metadata__": self._metadata, **self._header}).encode()
        head += b" " * (-len(head) % 8)
        start = len(head).to_bytes(8, "little") + head
        digest = hashlib.sha256(start)
        for part in _chunks(self._data):
            digest.update(part)
        path = self._target.with_name(f"{self._target.stem}.{digest.hexdigest()[:12]}.tensors.safetensors")
        with replacing(path) as temporary, temporary.open("wb") as out:
            out.write(start)
            self._data.seek(0)
            shutil.copyfileobj(self._data, out, _CHUNK)
        self.close()
        return TensorsFile(path, digest.hexdigest())

    def close(self) -> None:
        """Drop what was written without a name."""
        self._data.close()


def _chunks(stream: BinaryIO) -> Iterator[bytes]:
    stream.seek(0)
    while part := stream.read(_CHUNK):
        yield part


class TensorReader:
    """Reads layers of a tensors file; see `opened`."""

    def __init__(self, file: Any, where: str) -> None:
        self._file, self._where = file, where
        self._metadata: dict[str, str] = file.metadata() or {}
        if self._metadata.get("format") != "sparsecore-tensors":
            raise CorruptFileError("the file holds no Q, K and V of a workload", where=where)
        check_version(self._metadata.get("version"), VERSION, where)
        self._names = set(file.keys())

    def layer(self, sequence: int, layer: int) -> LayerTensors:
        """Return one layer of one sequence.

        Raises
        ------
        CorruptFileError: it is not there, or its arrays do not fit each other.
        """
        start, where = f"{sequence}.{layer}.", f"{self._where}: sequence {sequence}, layer {layer}"
        if missing := {start + name for name in "qkv"} - self._names:
            raise CorruptFileError(f"the array {min(missing)!r} is missing", where=where)
        try:
            q, k, v = (self._file.get_tensor(start + name) for name in "qkv")
            visible = None
            if start + "visible" in self._names:
                bits = self._file.get_tensor(start + "visible")
                visible = np.unpackbits(bits, axis=1, count=q.shape[1], bitorder="little").astype(bool)
            scale, causal = float(self._metadata[start + "scale"]), self._metadata[start + "causal"] == "1"
        except (SafetensorError, KeyError, ValueError, IndexError) as error:
            raise CorruptFileError(f"the tensors cannot be read: {error}", where=where) from error
        return LayerTensors(q, k, v, scale, causal, visible)


@contextmanager
def opened(file: TensorsFile) -> Iterator[TensorReader]:
    """Open the tensors of a workload, checked by their hash; layers are read when they are asked for.

    Raises
    ------
    FileMissingError: they are not beside the workload. CorruptFileError: other ones, or damaged.
    """
    digest = hashlib.sha256()
    with open_binary(file.path) as stream:
        for part in _chunks(stream):
            digest.update(part)
    if digest.hexdigest() != file.sha256:
        raise CorruptFileError(
            "the tensors do not belong to this workload",
            where=str(file.path),
            expected=f"sha256 {file.sha256}",
            hint="copy the workload and its tensors together, or capture it again",
        )
    try:
        stored = safe_open(file.path, framework="np")
    except SafetensorError as error:
        raise CorruptFileError(f"the tensors cannot be read: {error}", where=str(file.path)) from error
    with stored as inside:
        yield TensorReader(inside, str(file.path))


def require_beside(file: TensorsFile, workload: Path) -> None:
    """Raise InvalidValueError unless the tensors lie in the folder of the workload file that is to name them."""
    if file.path.absolute().parent != workload.absolute().parent:
        raise InvalidValueError(
            "the tensors of the workload lie in another folder",
            where=str(file.path),
            expected=str(workload.absolute().parent),
            hint="save the workload beside them, or without: dataclasses.replace(workload, tensors=None)",
        )
