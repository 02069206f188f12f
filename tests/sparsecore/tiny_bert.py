"""Small random BERT models and padded batches for the tests of cascade, capture and the reader."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import BertConfig, BertModel, PreTrainedModel

VOCAB = 97


def tiny_bert(
    seed: int,
    layers: int = 4,
    heads: int = 6,
    attention: str = "sdpa",
    kind: type[PreTrainedModel] = BertModel,
    **more: Any,
) -> PreTrainedModel:
    """A BERT with weights large enough that attention is not flat, in eval mode."""
    config = BertConfig(
        vocab_size=VOCAB,
        hidden_size=8 * heads,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=64,
        max_position_embeddings=48,
        attn_implementation=attention,
        **more,
    )
    model = kind(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3, generator=generator)
    return model


def batch_of(seed: int, lengths: tuple[int, ...], width: int | None = None) -> dict[str, Tensor]:
    """Random token ids, padded on the right to `width` (the longest)."""
    width = max(lengths) if width is None else width
    generator = torch.Generator().manual_seed(seed + 1)
    ids = torch.randint(1, VOCAB, (len(lengths), width), generator=generator)
    mask = torch.arange(width) < torch.tensor(lengths)[:, None]
    return {"input_ids": ids * mask, "attention_mask": mask.long()}
