"""The text that the decoder of the quality tables is trained and tested on: the standard library's own source.

Every Python has it, it is long-range (a name comes back hundreds of lines later), and nothing has to be downloaded.
Files are split, not contexts: every twentieth by the hash of its path is held out.
"""

from __future__ import annotations

import hashlib
import os
import sysconfig
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

VOCABULARY = 2048
END = "<|endoftext|>"
HELD_OUT = 20  # one file of so many


def cache_folder() -> Path:
    """Return the folder of tokenizer, tokens and weights, none of them committed; SPARSECORE_QUALITY overrides it."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(os.environ.get("SPARSECORE_QUALITY") or Path(base) / "sparsecore" / "quality")


def sources(held_out: bool) -> list[str]:
    """Return the texts of one side of the split, in an order that does not depend on the machine."""
    root = Path(sysconfig.get_path("stdlib"))
    texts = []
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root)
        if {"site-packages", "dist-packages"} & set(name.parts):
            continue
        digest = hashlib.sha256(name.as_posix().encode()).digest()
        if (digest[0] % HELD_OUT == 0) == held_out:
            texts.append((digest, path.read_text(encoding="utf-8", errors="ignore")))
    return [text for _, text in sorted(texts)]


def tokenizer(folder: Path) -> Tokenizer:
    """Return the byte-level BPE of the training files, trained once and cached."""
    path = folder / "tokenizer.json"
    if not path.exists():
        result = Tokenizer(models.BPE())
        result.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        result.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=[END],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        result.train_from_iterator(sources(held_out=False), trainer)
        folder.mkdir(parents=True, exist_ok=True)
        result.save(str(path))
    return Tokenizer.from_file(str(path))


def training_tokens(folder: Path) -> Tensor:
    """Return all training files as one int64 row, files separated by END."""
    path = folder / "train.npy"
    if not path.exists():
        coder = tokenizer(folder)
        end = coder.token_to_id(END)
        rows = [[end, *coding.ids] for coding in coder.encode_batch(sources(held_out=False))]
        np.save(path, np.concatenate([np.asarray(row, dtype=np.uint16) for row in rows]))
    return torch.from_numpy(np.load(path).astype(np.int64))


def held_out_contexts(folder: Path, length: int, number: int, per_file: int = 4) -> Tensor:
    """Return int64 [number, length]: consecutive source of held-out files, each context inside one file."""
    coder = tokenizer(folder)
    end = coder.token_to_id(END)
    rows: list[list[int]] = []
    for text in sources(held_out=True):
        ids = [end, *coder.encode(text).ids]
        starts = range(0, min(len(ids) - length, (per_file - 1) * length) + 1, length)
        rows += [ids[start : start + length] for start in starts]
        if len(rows) >= number:
            break
    return torch.tensor(rows[:number])
