"""Compaction: smaller models with the outputs of the masked ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from sparse_models import generator
from tiny_bert import VOCAB, batch_of, tiny_bert
from torch import nn
from transformers import (
    DistilBertConfig,
    DistilBertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    ViTConfig,
    ViTModel,
)

import sparsecore as sc
from sparsecore.compact.slices import matrix_of
from sparsecore.errors import UnsupportedError
from sparsecore.models.blocks import block_of, layers_of

IDS = {"vocab_size": VOCAB, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}


def make(kind: str, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    sizes: dict[str, Any] = {"hidden_size": 48, "intermediate_size": 40, "num_hidden_layers": 4}
    if kind == "bert":
        return tiny_bert(seed)
    if kind == "distilbert":
        own = DistilBertConfig(vocab_size=VOCAB, dim=48, hidden_dim=40, n_layers=4, n_heads=6)
        return DistilBertModel(own).eval()
    if kind == "gpt2":
        return GPT2LMHeadModel(GPT2Config(n_embd=48, n_layer=4, n_head=6, n_positions=48, **IDS)).eval()
    if kind == "vit":
        return ViTModel(ViTConfig(num_attention_heads=6, image_size=16, patch_size=8, **sizes)).eval()
    grouped = {"num_attention_heads": 6, "num_key_value_heads": 3, **sizes, **IDS}
    if kind == "qwen2":
        return Qwen2ForCausalLM(Qwen2Config(**grouped)).eval()
    return LlamaForCausalLM(LlamaConfig(attention_bias=True, mlp_bias=True, **grouped)).eval()


def inputs_of(kind: str, seed: int) -> dict[str, torch.Tensor]:
    return {"pixel_values": torch.randn(2, 3, 16, 16)} if kind == "vit" else batch_of(seed, (9, 5))


@torch.no_grad()
def shake(model: nn.Module, seed: int) -> None:
    """Large random weights and biases, so that a wrong removal shows."""
    rng = generator(seed)
    for name, parameter in model.named_parameters():
        if "norm" not in name.lower() and "ln_" not in name:
            parameter.copy_(torch.randn(parameter.shape, generator=rng) * 0.2)


def zero_rows(layer: nn.Module, rows: list[int], bias: bool) -> None:
    matrix_of(layer)[rows] = 0
    if bias and layer.bias is not None:
        layer.bias.data[rows] = 0


KINDS = ("bert", "distilbert", "gpt2", "vit", "llama", "qwen2")


@pytest.mark.parametrize("kind", KINDS)
def test_neurons_and_heads_go_and_outputs_stay(kind: str, seed: int) -> None:
    model = make(kind, seed)
    shake(model, seed)
    block = block_of(model)
    for number, layer in enumerate(layers_of(model, block)):
        matrix_of(layer.get_submodule(block.down))[:, [1, 20 + number]] = 0  # not read
        for up in block.up:
            zero_rows(layer.get_submodule(up), [7, 8], bias=False)  # constant
        if number < 3:  # the first two heads, which share keys where heads are grouped
            matrix_of(layer.get_submodule(block.out))[:, :16] = 0
    inputs = inputs_of(kind, seed)
    expected = model(**inputs)[0]
    summary = sc.compact(model)
    torch.testing.assert_close(model(**inputs)[0], expected, rtol=1e-4, atol=1e-4)
    assert summary.neurons == (4,) * 4
    assert summary.heads == (2, 2, 2, 0)
    assert summary.parameters[1] < summary.parameters[0]
    assert str(summary).startswith("removed 0 layers, 6 heads") and not summary.in_config


@pytest.mark.parametrize("kind", ["gpt2", "vit", "llama", "qwen2"])
def test_layers_that_add_nothing_go(kind: str, seed: int) -> None:
    model = make(kind, seed)
    shake(model, seed)
    block = block_of(model)
    for number in (0, 2):
        for path in (block.out, block.down):
            layer = layers_of(model, block)[number].get_submodule(path)
            zero_rows(layer, list(range(matrix_of(layer).shape[0])), bias=True)
    inputs = inputs_of(kind, seed)
    expected = model(**inputs)[0]
    assert sc.compact(model).layers == (0, 2)
    assert len(layers_of(model, block)) == 2
    torch.testing.assert_close(model(**inputs)[0], expected, rtol=1e-4, atol=1e-4)
    if kind in ("gpt2", "llama"):
        ids = inputs["input_ids"][:1]
        cached = model.generate(ids, max_new_tokens=4, do_sample=False)
        assert torch.equal(cached, model.generate(ids, max_new_tokens=4, do_sample=False, use_cache=False))


def test_values_that_are_zero_take_the_head_with_them(seed: int) -> None:
    model = make("gpt2", seed)
    shake(model, seed)
    block = block_of(model)
    layer = layers_of(model, block)[1].get_submodule(block.values)
    zero_rows(layer, list(range(2 * 48 + 8, 2 * 48 + 16)), bias=True)  # values of head 1 in the fused layer
    inputs = inputs_of("gpt2", seed)
    expected = model(**inputs)[0]
    assert sc.compact(model).heads == (0, 1, 0, 0)
    torch.testing.assert_close(model(**inputs)[0], expected, rtol=1e-4, atol=1e-4)


def test_groups_keep_equal_sizes(seed: int) -> None:
    model = make("llama", seed)
    shake(model, seed)
    block = block_of(model)
    out = matrix_of(layers_of(model, block)[0].get_submodule(block.out))
    out[:, :8] = 0  # one head of the first group only: the others cannot spare one
    inputs = inputs_of("llama", seed)
    expected = model(**inputs)[0]
    assert sc.compact(model).heads == (0, 0, 0, 0)
    out[:, 24:32], out[:, 32:40] = 0, 0  # one of each group
    expected = model(**inputs)[0]
    assert sc.compact(model).heads == (3, 0, 0, 0)
    torch.testing.assert_close(model(**inputs)[0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_everything_zero_keeps_something(kind: str, seed: int) -> None:
    model = make(kind, seed)
    for parameter in model.parameters():
        parameter.data.zero_()
    inputs = inputs_of(kind, seed)
    expected = model(**inputs)[0]
    sc.compact(model)
    torch.testing.assert_close(model(**inputs)[0], expected)


def test_nothing_to_do(seed: int) -> None:
    model = make("bert", seed)
    summary = sc.compact(model)
    assert summary.parameters[0] == summary.parameters[1] and not summary.layers


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_with_equal_layers_is_saved_and_built_again(kind: str, seed: int, tmp_path: Path) -> None:
    model = make(kind, seed)
    shake(model, seed)
    block = block_of(model)
    for layer in layers_of(model, block):
        matrix_of(layer.get_submodule(block.down))[:, [3, 11, 12]] = 0
        if block.config_heads:
            matrix_of(layer.get_submodule(block.out))[:, :16] = 0
    inputs = inputs_of(kind, seed)
    assert sc.compact(model).in_config
    expected = model(**inputs)[0]
    model.save_pretrained(tmp_path)
    assert torch.equal(type(model).from_pretrained(tmp_path)(**inputs)[0], expected)


class Residual(nn.Module):
    """Two convolutions with norms and a residual, a pooling and two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.b1 = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.c2, self.b2 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.c3 = nn.Conv2d(8, 6, 1)
        self.f1, self.f2 = nn.Linear(6 * 16, 10), nn.Linear(10, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.relu(self.b1(self.c1(x)))
        h = torch.relu(h + self.b2(self.c2(h)))
        return self.f2(torch.relu(self.f1(self.c3(h).flatten(1))))


@torch.no_grad()
def residual(seed: int) -> Residual:
    torch.manual_seed(seed)
    model = Residual().eval()
    for norm in (model.b1, model.b2):
        norm.weight.uniform_(0.5, 1.5), norm.bias.normal_(), norm.running_mean.normal_()
    return model


def test_channels_of_a_chain_with_residual(seed: int) -> None:
    model = residual(seed)
    with torch.no_grad():
        for norm in (model.b1, model.b2):  # channels 2 and 5 of the residual stream are zero
            norm.weight[[2, 5]], norm.bias[[2, 5]] = 0, 0
        model.b1.weight[3], model.b1.bias[3] = 0, 0  # zero in one branch only: it must stay
        model.f1.weight.view(10, 6, 16)[:, 4] = 0  # channel 4 of the flattened map is not read
        model.f1.weight[[1, 9]], model.f1.bias[[1, 9]] = 0, 0
    x = torch.randn(5, 3, 4, 4)
    expected = model(x)
    summary = sc.compact(model, (torch.randn(2, 3, 4, 4),))
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-4)
    assert sorted(count for _, count in summary.channels) == [1, 2, 2]
    assert (model.c1.out_channels, model.c3.in_channels, model.c3.out_channels) == (6, 6, 5)
    assert (model.f1.in_features, model.f1.out_features, model.f2.in_features) == (80, 8, 8)


def test_a_plain_chain_of_linear_layers(seed: int) -> None:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(9, 12), nn.ReLU(), nn.Linear(12, 7), nn.Tanh(), nn.Linear(7, 3))
    with torch.no_grad():
        model[0].weight[:5], model[0].bias[:5] = 0, 0
        model[4].weight[:, 2] = 0
        model[4].weight[1] = 0  # an output of the model stays
    x = torch.randn(4, 9)
    expected = model(x)
    assert dict(sc.compact(model, x).channels) == {"0": 5, "2": 1}
    torch.testing.assert_close(model(x), expected, rtol=1e-5, atol=1e-5)
    assert model[4].out_features == 3


def test_a_constant_that_is_not_zero_stays(seed: int) -> None:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 6), nn.Sigmoid(), nn.Linear(6, 2))
    with torch.no_grad():
        model[0].weight[1], model[0].bias[1] = 0, 0  # sigmoid(0) is 0.5
    x = torch.randn(4, 4)
    expected = model(x)
    assert not sc.compact(model, (x,)).channels
    assert torch.equal(model(x), expected)


def test_refusals(seed: int) -> None:
    with pytest.raises(UnsupportedError, match="example_inputs"):
        sc.compact(nn.Sequential(nn.Linear(4, 4)))
    model = make("bert", seed)
    sc.prune.one_shot(model, "magnitude", pattern="2:4")
    sc.sparsify(model, min_ratio=0)
    with pytest.raises(UnsupportedError, match="packed"):
        sc.compact(model)
