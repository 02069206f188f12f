"""Instantiating the model of a Hugging Face folder through transformers."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from torch import nn

from sparsecore.errors import CorruptFileError, FileMissingError, MissingDependencyError, UnsupportedError
from sparsecore.io.folder import files_of, read_config

__all__ = ["load_model"]


def load_model(folder: Path) -> nn.Module:
    """Return the model of `folder` on the CPU, in evaluation mode, in the element type of its file; no network is used.

    Raises MissingDependencyError without transformers, FileMissingError without config.json or weights,
    UnsupportedError for a model that transformers does not know, CorruptFileError for one that it cannot load.
    """
    try:
        import transformers
    except ImportError as error:
        raise MissingDependencyError(
            "transformers is not installed",
            where=str(folder),
            expected="transformers >= 5.15, to know the layers of a Hugging Face folder",
            hint='pip install "sparsecore-kernels[hf]", or give the weights file itself',
        ) from error
    files_of(folder)
    config = read_config(folder)
    if not config:
        raise FileMissingError("the folder has no config.json", where=str(folder), hint="give the weights file itself")
    names = config.get("architectures") or ["AutoModel"]
    kind = getattr(transformers, names[0], None) if isinstance(names, list) and isinstance(names[0], str) else None
    if not (isinstance(kind, type) and hasattr(kind, "from_pretrained")):
        raise UnsupportedError(
            f"transformers has no model {names!r}",
            where=str(folder / "config.json"),
            hint="give the file itself",
        )
    try:
        model = kind.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False, dtype="auto")
    except Exception as error:  # the code of some model, on files that may hold anything
        raise CorruptFileError(f"transformers cannot load the folder: {error}", where=str(folder)) from error
    return cast(nn.Module, model).eval()
