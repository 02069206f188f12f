"""Writing a Hugging Face folder shard by shard, all of it or nothing."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from sparsecore.errors import FileMissingError, InvalidValueError
from sparsecore.io.container import write_safetensors

__all__ = ["require_free", "write_folder"]

_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".pt2", ".index.json", ".h5", ".msgpack", ".onnx", ".gguf")


def require_free(target: Path, source: Path) -> None:
    """Raise InvalidValueError unless `target` is a new place, or an empty folder, outside of `source`."""
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise InvalidValueError("the target exists already", where=str(target), expected="a new name", hint="remove it")
    if source.is_dir() and source.resolve() in (target.resolve(), *target.resolve().parents):
        raise InvalidValueError("the target lies inside the source", where=str(target), expected="another folder")
    if not target.resolve().parent.is_dir():
        raise FileMissingError("the folder to write into does not exist", where=str(target.resolve().parent))


def write_folder(
    target: Path,
    pieces: Iterable[Mapping[str, Tensor]],
    config: Callable[[], Mapping[str, Any]],
    others: Path,
    shard_bytes: int,
) -> None:
    """Write `target`: the tensors of `pieces`, config.json, and the files of the folder `others` that are no weights.

    A shard is closed when the next piece would take it beyond `shard_bytes`; that much is held in memory. `config` is
    asked after the last piece. Everything is written into a folder beside `target` that is renamed at the end.
    """
    part = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.resolve().parent))
    try:
        shutil.copytree(others, part, ignore=_weights_at(others), dirs_exist_ok=True)
        _write_shards(part, pieces, shard_bytes)
        (part / "config.json").write_text(json.dumps(config(), indent=2, sort_keys=True) + "\n")
        part.chmod(0o755)
        if target.is_dir():
            target.rmdir()  # empty: `require_free` has seen to that
        part.rename(target)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def _weights_at(top: Path) -> Callable[[str, list[str]], set[str]]:
    def ignored(folder: str, names: list[str]) -> set[str]:
        weights = {name for name in names if name.endswith(_WEIGHTS)} if Path(folder) == top else set()
        return weights | {name for name in names if name == ".git"}

    return ignored


def _write_shards(folder: Path, pieces: Iterable[Mapping[str, Tensor]], shard_bytes: int) -> None:
    shard: dict[str, Tensor] = {}
    held = total = 0
    written: list[list[str]] = []

    def close() -> None:
        write_safetensors(folder / f"shard-{len(written)}", shard, {})
        written.append(list(shard))
        shard.clear()

    for piece in pieces:
        size = sum(tensor.numel() * tensor.element_size() for tensor in piece.values())
        if shard and held + size > shard_bytes:
            close()
            held = 0
        shard.update(piece)
        held, total = held + size, total + size
    close()
    if len(written) == 1:
        (folder / "shard-0").rename(folder / "model.safetensors")
        return
    weight_map = {}
    for number, names in enumerate(written):
        file = f"model-{number + 1:05}-of-{len(written):05}.safetensors"
        (folder / f"shard-{number}").rename(folder / file)
        weight_map.update(dict.fromkeys(names, file))
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")
