"""Structurally pruned checkpoints, whose shapes no longer fit the config of their model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import sparsecore as sc
from sparsecore.errors import ShapeError

transformers = pytest.importorskip("transformers")


def bert() -> nn.Module:
    config = transformers.BertConfig(
        vocab_size=40, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
        max_position_embeddings=16,
    )  # fmt: skip
    return transformers.BertModel(config).eval()


def llama() -> nn.Module:
    config = transformers.LlamaConfig(
        vocab_size=40, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=48, max_position_embeddings=16,
    )  # fmt: skip
    return transformers.LlamaModel(config).eval()


def gpt2() -> nn.Module:
    config = transformers.GPT2Config(vocab_size=40, n_embd=32, n_layer=2, n_head=4, n_inner=48, n_positions=16)
    return transformers.GPT2Model(config).eval()


def zero_out(model: nn.Module, seed: int) -> None:
    """Another number of heads and neurons becomes zero in every layer."""
    up = ("intermediate.dense", "gate_proj", "up_proj", "mlp.c_fc")
    out = ("attention.output.dense", "o_proj", "attn.c_proj")
    for name, module in model.named_modules():
        if not name.endswith((*up, *out)):
            continue
        layer = int("".join(character for character in name if character.isdigit()))
        matrix = module.weight.detach().t() if type(module).__name__ == "Conv1D" else module.weight.detach()
        if name.endswith(out):
            matrix[:, : 8 * (1 + layer)] = 0
            continue
        rows = torch.randperm(48, generator=torch.Generator().manual_seed(seed + layer))[: 16 + 8 * layer]
        matrix[rows] = 0
        if getattr(module, "bias", None) is not None:
            module.bias.detach()[rows] = 0


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("build", [bert, llama, gpt2])
def test_a_compacted_model_loads_into_one_made_from_the_config(
    tmp_path: Path, seed: int, build: Callable[[], nn.Module], packed: bool
) -> None:
    torch.manual_seed(seed)
    model = build()
    zero_out(model, seed)
    sc.compact(model)
    if packed:
        sc.prune.one_shot(model, pattern="2:4", filter_fn=lambda _, name: "embed" not in name and "wte" not in name)
    sc.save(model, tmp_path / "m.safetensors")
    if packed:
        sc.save(sc.load(tmp_path / "m.safetensors", pack=True), tmp_path / "m.safetensors")
    fresh = build()
    with pytest.raises(ShapeError, match="in the checkpoint and"):
        sc.load(tmp_path / "m.safetensors", into=fresh)
    sc.load(tmp_path / "m.safetensors", into=fresh, resize=True)
    assert any(isinstance(module, sc.nn.SparseLinear) for module in fresh.modules()) == packed
    assert sum(p.numel() for p in fresh.parameters()) <= sum(p.numel() for p in model.parameters())
    ids = torch.randint(40, (2, 7))
    torch.testing.assert_close(fresh(ids).last_hidden_state, model(ids).last_hidden_state, rtol=1e-4, atol=1e-5)


def test_plain_layers_take_the_sizes_of_the_file(tmp_path: Path, seed: int) -> None:
    def build(hidden: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv1d(4, hidden, 3), nn.BatchNorm1d(hidden), nn.Conv1d(hidden, 5, 1)).eval()

    torch.manual_seed(seed)
    model, fresh = build(6), build(16)
    model[1].running_mean.normal_()
    sc.save(model, tmp_path / "m.safetensors")
    sc.load(tmp_path / "m.safetensors", into=fresh, resize=True)
    x = torch.randn(2, 4, 9)
    assert torch.equal(fresh(x), model(x))
    assert (fresh[0].out_channels, fresh[1].num_features, fresh[2].in_channels) == (6, 6, 6)


def test_layers_that_cannot_change_are_named(tmp_path: Path) -> None:
    torch.save({"0.weight": torch.ones(8, 2, 3), "0.bias": torch.ones(8)}, tmp_path / "m.pt")
    with pytest.raises(ShapeError, match=r"(?s)Conv1d cannot be given other sizes.*0"):
        sc.load(tmp_path / "m.pt", into=nn.Sequential(nn.Conv1d(4, 4, 3, groups=2)), resize=True)
