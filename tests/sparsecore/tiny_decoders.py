"""Small decoders with sharp logits, and a dense run in which a mask hides what a cascade run did not read."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AttentionInterface,
    DynamicCache,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from sparsecore.cascade.generation import GenerationRun

LAYERS, HEADS, VOCAB = 4, 4, 97
_IDS: dict[str, Any] = {"vocab_size": VOCAB, "bos_token_id": 0, "eos_token_id": None, "pad_token_id": 0}
_ROTARY: dict[str, Any] = {
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": 2,
    "hidden_size": 64,
    "intermediate_size": 96,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
    **_IDS,
}
_MODELS = {
    "llama": (LlamaConfig, LlamaForCausalLM, {}),
    "mistral": (MistralConfig, MistralForCausalLM, {"sliding_window": None}),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {}),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, {"head_dim": 16}),
}
FAMILIES = ("gpt2", *_MODELS)


def decoder(family: str) -> PreTrainedModel:
    """Return a model of 4 layers with 4 heads, in eval mode, whose weights come from torch's generator."""
    if family == "gpt2":
        config = GPT2Config(n_layer=LAYERS, n_head=HEADS, n_embd=64, n_positions=128, initializer_range=0.3, **_IDS)
        return GPT2LMHeadModel(config).eval()
    kind, model, more = _MODELS[family]
    return model(kind(**_ROTARY, **more)).eval()


def prompts(padded: bool = True) -> tuple[Tensor, Tensor]:
    """Return ids and mask [3, 20], padded on the left to different lengths."""
    ids = torch.randint(1, VOCAB, (3, 20))
    mask = torch.ones_like(ids)
    if padded:
        mask[0, :7] = 0
        mask[2, :3] = 0
    return ids, mask


def cache_argument(model: PreTrainedModel) -> str:
    """Return what this release of transformers calls the cache."""
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"


class Oracle:
    """A dense generation in which step t and layer l see only the tokens that `run` names; it also adds up importance.

    Attributes
    ----------
    importance: float64 [B, columns] at the end, probabilities summed over queries, heads, layers and steps.
    before: importance[t][l], as it was when layer l of step t chose.
    """

    def __init__(self, model: PreTrainedModel, run: GenerationRun, mask: Tensor) -> None:
        self.model, self.run, self.mask = model, run, mask.bool()
        self.starts = (mask.cumsum(1) == 0).sum(1)
        self.importance = torch.zeros(mask.shape[0], 256, dtype=torch.float64)
        self.before: list[list[Tensor]] = []
        self.step = -1

    def generate(self, ids: Tensor, tokens: int) -> Tensor:
        """Return the prompt and what follows it."""
        AttentionInterface.register("oracle", self._attend)
        before = self.model.config._attn_implementation
        self.model.set_attn_implementation("oracle")
        cache, mask, whole, fresh = {cache_argument(self.model): DynamicCache()}, self.mask.long(), ids, ids
        with torch.no_grad():
            for _ in range(tokens):
                positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -fresh.shape[1] :]
                logits = self.model(fresh, attention_mask=mask, position_ids=positions, **cache).logits
                fresh = logits[:, -1:].argmax(-1)
                whole = torch.cat([whole, fresh], dim=1)
                mask = torch.cat([mask, torch.ones_like(fresh)], dim=1)
                self.step += 1
        self.model.set_attn_implementation(before)
        return whole

    def _attend(self, module: Any, q: Tensor, k: Tensor, v: Tensor, mask: Any, scaling: float, **_: Any) -> Any:
        queries, keys = q.shape[2], k.shape[2]
        groups = q.shape[1] // k.shape[1]
        k, v = (x.repeat_interleave(groups, dim=1) for x in (k, v))
        seen = torch.zeros((len(q), 1, queries, keys), dtype=torch.bool)
        heads = torch.ones((len(q), q.shape[1]), dtype=torch.bool)
        if self.step < 0:
            for row in range(len(q)):
                seen[row, :, :, self.run.prompt_ids[module.layer_idx][row] + self.starts[row]] = True
            seen &= torch.ones((queries, keys), dtype=torch.bool).tril()
        else:
            if module.layer_idx == 0:
                self.before.append([])
            self.before[-1].append(self.importance.clone())
            for row in range(len(q)):
                seen[row, :, :, self.run.tokens(self.step, module.layer_idx, row) + self.starts[row]] = True
            heads = self.run.heads[self.step, module.layer_idx]
        scores = (q @ k.transpose(2, 3) * scaling).masked_fill(~seen, torch.finfo(q.dtype).min)
        p = torch.where(seen, scores.softmax(-1), 0) * heads[..., None, None]
        self.importance[:, :keys] += p.double().sum((1, 2))
        return (p @ v).transpose(1, 2), None
