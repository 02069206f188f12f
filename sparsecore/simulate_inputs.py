"""Inputs of `simulate --input`: texts, token ids and tensors, as one batch per sequence."""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from simulator.files import read_bytes
from sparsecore.errors import (
    CorruptFileError,
    FileMissingError,
    InvalidValueError,
    MissingDependencyError,
    PickleRefusedError,
)

__all__ = ["RealInputs", "read_inputs"]

_READERS = (".json", ".npy", ".safetensors", ".pt", ".pth", ".bin")


@dataclass(frozen=True, slots=True)
class RealInputs:
    """Sequences to run one by one, with their texts where they came as texts."""

    batches: list[Tensor]
    texts: list[str] | None = None
    notes: tuple[str, ...] = ()


def read_inputs(source: str, tokenizer: Path | None, positions: int, vocab: int) -> RealInputs:
    """Read the sequences in `source`.

    Parameters
    ----------
    source: .json, .npy, .safetensors or .pt with token ids (one row a sequence; JSON rows may differ in length; an
        `attention_mask` beside `input_ids` says what is padding), or a UTF-8 text file with one text a line.
    tokenizer: the Hugging Face folder whose tokenizer texts need.
    positions, vocab: the model's limits; longer texts are cut, and `notes` say how many.

    Raises
    ------
    FileMissingError: no such file, or texts without a tokenizer.
    CorruptFileError: not readable as what its name says. PickleRefusedError: a .pt file with more than tensors.
    InvalidValueError: no sequences, one without tokens or longer than the model allows, or ids out of range.
    """
    path = Path(source)
    if not path.is_file():
        raise FileMissingError("the input file does not exist", where=source, hint="check --input")
    if path.suffix not in _READERS:
        return _tokenized(path, tokenizer, positions)
    rows = [_checked(row, index, source, positions, vocab) for index, row in enumerate(_rows(path))]
    if not rows:
        raise InvalidValueError("the input has no sequences", where=source, expected="at least one")
    return RealInputs([row[None] for row in rows])


def _tokenized(path: Path, folder: Path | None, positions: int) -> RealInputs:
    try:
        lines = read_bytes(path).decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise CorruptFileError(
            f"the text file is not UTF-8: {error}", where=str(path), expected="text, or one of " + ", ".join(_READERS)
        ) from error
    texts = [line.strip() for line in lines if line.strip()]
    if not texts:
        raise InvalidValueError("the input has no texts", where=str(path), expected="one text a line")
    if folder is None:
        raise FileMissingError(
            "texts need a tokenizer, and the model comes without one",
            where=str(path),
            expected="a Hugging Face folder with tokenizer.json or vocab.txt as MODEL or --config",
            hint="give token ids instead: --input ids.json with one list of ids per sequence",
        )
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise MissingDependencyError("texts need transformers", hint='pip install "sparsecore-kernels[hf]"') from error
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    limit = min(positions, tokenizer.model_max_length)
    encoded = [tokenizer(text, truncation=True, max_length=limit)["input_ids"] for text in texts]
    cut = sum(len(ids) == limit for ids in encoded)
    notes = (f"{cut} of {len(texts)} texts reach the model's {limit} tokens and may be cut",) if cut else ()
    return RealInputs([torch.tensor([ids]) for ids in encoded], texts, notes)


def _rows(path: Path) -> list[Any]:
    """Return the sequences as lists or tensors, without their padding."""
    content = _content(path)
    mask = None
    if isinstance(content, dict):
        if "input_ids" not in content:
            raise InvalidValueError("the input has no 'input_ids'", where=str(path), expected="input_ids")
        content, mask = content["input_ids"], content.get("attention_mask")
    if isinstance(content, Tensor):
        content = content.reshape(1, -1) if content.dim() < 2 else content
    elif isinstance(content, list) and content and not isinstance(content[0], list | Tensor):
        content = [content]
    rows = list(content) if isinstance(content, list | Tensor) else []
    if mask is None:
        return rows
    try:
        pairs = [(torch.as_tensor(row), torch.as_tensor(m)) for row, m in zip(rows, mask, strict=True)]
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidValueError(f"attention_mask does not fit input_ids: {error}", where=str(path)) from error
    if any(m.shape != row.shape for row, m in pairs):
        raise InvalidValueError("attention_mask and input_ids differ in shape", where=str(path))
    return [row[m != 0] for row, m in pairs]


def _content(path: Path) -> Any:
    if path.suffix == ".json":
        try:
            return json.loads(read_bytes(path).decode("utf-8"))
        except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
            raise CorruptFileError(f"the input is not valid JSON: {error}", where=str(path)) from error
    try:
        if path.suffix == ".npy":
            return torch.from_numpy(np.load(path, allow_pickle=False))
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if read_bytes(path)[:2] not in (b"PK", *(bytes((0x80, version)) for version in range(2, 6))):
            raise CorruptFileError("the input is no file of torch.save", where=str(path)) from error
        raise PickleRefusedError(
            "the input holds more than tensors", where=str(path), expected="a tensor of token ids, or a dict of them"
        ) from error
    except (SafetensorError, RuntimeError, EOFError, ValueError, TypeError, LookupError, OSError) as error:
        raise CorruptFileError(
            f"the input is not readable: {str(error).partition(chr(10))[0] or 'it ends too early'}", where=str(path)
        ) from error


def _checked(row: Any, index: int, source: str, positions: int, vocab: int) -> Tensor:
    where = f"{source}: sequence {index}"
    try:
        ids = torch.as_tensor(row)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise InvalidValueError(f"a sequence is not a list of token ids: {error}", where=where) from error
    if ids.numel() and (ids.dim() != 1 or ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool):
        raise InvalidValueError(
            f"a sequence is of type {ids.dtype} and shape {list(ids.shape)}", where=where, expected="integers, [tokens]"
        )
    if not 0 < ids.numel() <= positions:
        raise InvalidValueError(f"a sequence has {ids.numel()} tokens", where=where, expected=f"1 to {positions}")
    ids = ids.long()  # torch has no minimum of the unsigned types
    if not 0 <= int(ids.min()) <= int(ids.max()) < vocab:
        raise InvalidValueError(
            f"token ids from {int(ids.min())} to {int(ids.max())}", where=where, expected=f"0 to {vocab - 1}"
        )
    return ids
