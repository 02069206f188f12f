"""Hugging Face models: BERT, GPT-2 with Conv1D and a tied head, and the fused experts of Mixtral and relatives."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from sparse_models import generator, pruned
from torch import Tensor, nn

import sparsecore as sc
from sparsecore.nn import SparseExperts, SparseLinear, dense_state_dict
from sparsecore.nn.sparse_experts import follows_convention
from sparsecore.patterns import NM, Pattern

transformers = pytest.importorskip("transformers")


def prune_(model: nn.Module, rng: torch.Generator, pattern: Pattern, transposed: tuple[str, ...] = ()) -> nn.Module:
    """Fill every 2-D and 3-D parameter with random values in `pattern`, along the inputs of each layer."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim < 2:
                continue
            turned = any(part in name for part in transposed)
            for matrix in parameter if parameter.ndim == 3 else [parameter]:
                rows, cols = reversed(matrix.shape) if turned else matrix.shape
                fresh = 0.1 * pruned(rows, cols, pattern, rng)
                matrix.copy_(fresh.t() if turned else fresh)
    return model.eval()


def last_hidden(model: nn.Module, ids: Tensor) -> Tensor:
    with torch.no_grad():
        out = model(input_ids=ids)
    return out.logits if "logits" in out else out.last_hidden_state


def check_copies_and_state_dicts(model: nn.Module, dense: nn.Module, ids: Tensor, expected: Tensor) -> None:
    """The packed model, its copies, and both models after loading each other's state dict give the same output."""
    torch.testing.assert_close(last_hidden(model, ids), expected)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        torch.testing.assert_close(last_hidden(twin, ids), expected)
    dense.load_state_dict(dense_state_dict(model.state_dict(), like=dense), strict=True)
    torch.testing.assert_close(last_hidden(dense, ids), expected)
    model.load_state_dict(dense.state_dict(), strict=True)
    torch.testing.assert_close(last_hidden(model, ids), expected)


def test_bert(seed: int) -> None:
    rng = generator(seed)
    config = transformers.BertConfig(
        vocab_size=90, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128
    )
    dense = prune_(transformers.BertModel(config), rng, NM(2, 4))
    ids = torch.randint(90, (3, 11), generator=rng)
    expected = last_hidden(dense, ids)
    model = sc.sparsify(copy.deepcopy(dense), min_ratio=0)
    report = sc.report(model)
    assert len(report.packed) == 2 * 6 + 1
    assert all(isinstance(model.get_submodule(row.name), SparseLinear) for row in report.packed)
    assert not report["embeddings.word_embeddings.weight"].packed
    check_copies_and_state_dicts(model, dense, ids, expected)
    half = last_hidden(model.bfloat16(), ids)
    assert half.dtype == torch.bfloat16
    assert torch.cosine_similarity(half.float().flatten(), expected.flatten(), 0) > 0.999


def test_gpt2_with_conv1d_and_a_tied_head(seed: int) -> None:
    rng = generator(seed)
    config = transformers.GPT2Config(
        vocab_size=90, n_embd=64, n_layer=2, n_head=4, n_positions=32, bos_token_id=0, eos_token_id=0
    )
    dense = prune_(transformers.GPT2LMHeadModel(config), rng, NM(2, 4), ("c_attn", "c_proj", "c_fc"))
    ids = torch.randint(1, 90, (2, 9), generator=rng)
    expected = last_hidden(dense, ids)
    model = sc.sparsify(copy.deepcopy(dense), min_ratio=0)
    report = sc.report(model)
    assert {row.kind for row in report.packed} == {"Conv1D"}
    assert len(report.packed) == 2 * 4
    assert report["lm_head"].reason == "its weight is shared with transformer.wte.weight"
    assert model.lm_head.weight is model.transformer.wte.weight
    torch.testing.assert_close(last_hidden(model, ids), expected)
    dense.load_state_dict(dense_state_dict(model.state_dict(), like=dense), strict=True)
    torch.testing.assert_close(last_hidden(dense, ids), expected)
    model.load_state_dict(dense.state_dict(), strict=True)
    tokens = model.generate(ids, max_new_tokens=4, do_sample=False)
    assert torch.equal(tokens, dense.generate(ids, max_new_tokens=4, do_sample=False))


def mixtral(rng: torch.Generator) -> nn.Module:
    config = transformers.MixtralConfig(
        vocab_size=90,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_local_experts=4,
        num_experts_per_tok=2,
    )
    return prune_(transformers.MixtralForCausalLM(config), rng, NM(2, 4))


def test_mixtral_experts(seed: int) -> None:
    rng = generator(seed)
    dense = mixtral(rng)
    ids = torch.randint(90, (2, 9), generator=rng)
    expected = last_hidden(dense, ids)
    model = sc.sparsify(copy.deepcopy(dense), min_ratio=0)
    report = sc.report(model)
    rows = [row for row in report.packed if row.kind == "experts"]
    assert len(rows) == 2 * 2
    assert {row.name.rpartition(".")[2] for row in rows} == {"gate_up_proj", "down_proj"}
    assert all(row.held_bytes < row.dense_bytes for row in rows)
    check_copies_and_state_dicts(model, dense, ids, expected)
    assert sc.report(model.bfloat16()).held_bytes < 0.7 * report.held_bytes


def test_experts_are_measured_at_the_tokens_each_of_them_gets(seed: int) -> None:
    rng = generator(seed)
    model = mixtral(rng)
    ids = torch.randint(90, (2, 9), generator=rng)
    expected = last_hidden(model, ids)
    batch = {"input_ids": ids}
    sc.sparsify(model, batch, tokens=(1, 2), min_ratio=1e-9, filter_fn=lambda module, name: name.endswith("experts"))
    rows = [row for row in sc.report(model).packed if row.kind == "experts"]
    assert len(rows) == 4
    for row in rows:
        assert {r.kind for r in row.ratios} == {"measured"}
        assert max(r.tokens for r in row.ratios) <= 18
    torch.testing.assert_close(last_hidden(model, ids), expected)


def test_gpt_oss_experts_are_transposed_with_bias_and_their_own_gate(seed: int) -> None:
    rng = generator(seed)
    config = transformers.GptOssConfig(hidden_size=32, intermediate_size=48, num_local_experts=3, num_experts_per_tok=2)
    config._experts_implementation = "eager"
    experts = transformers.models.gpt_oss.modeling_gpt_oss.GptOssExperts(config)
    prune_(experts, rng, NM(1, 4), ("proj",))
    with torch.no_grad():
        for name in ("gate_up_proj_bias", "down_proj_bias"):
            experts.get_parameter(name).copy_(torch.randn(experts.get_parameter(name).shape, generator=rng))
    model = nn.ModuleDict({"experts": experts})
    x = torch.randn(11, 32, generator=rng)
    chosen = torch.rand(11, 3, generator=rng).topk(2).indices
    share = torch.rand(11, 2, generator=rng)
    with torch.no_grad():
        expected = experts(x, chosen, share)
        twin = sc.sparsify(copy.deepcopy(model), min_ratio=0)
        assert isinstance(twin["experts"], SparseExperts)
        assert {row.pattern for row in sc.report(twin).packed} == {"1:4"}
        torch.testing.assert_close(twin["experts"](x, chosen, share), expected)
        model.load_state_dict(dense_state_dict(twin.state_dict(), like=model), strict=True)
        torch.testing.assert_close(model["experts"](x, chosen, share), expected)
        # One projection alone may be packed.
        model["experts"].down_proj.data.normal_(generator=rng)
        expected = model["experts"](x, chosen, share)
        sc.sparsify(model, tokens=(1, 2), min_ratio=1e-9)
        assert [row.name for row in sc.report(model).packed] == ["experts.gate_up_proj"]
        assert sc.report(model)["experts.down_proj"].reason == "no zeros"
        torch.testing.assert_close(model["experts"](x, chosen, share), expected)


class OtherExperts(nn.Module):
    """Has the flags of fused experts and computes something else."""

    def __init__(self, rng: torch.Generator) -> None:
        super().__init__()
        self.num_experts, self.has_gate, self.has_bias, self.is_transposed = 2, False, False, False
        self.up_proj = nn.Parameter(torch.stack([pruned(32, 16, NM(2, 4), rng) for _ in range(2)]))
        self.down_proj = nn.Parameter(torch.stack([pruned(16, 32, NM(2, 4), rng) for _ in range(2)]))
        self.act_fn = nn.GELU()

    def forward(self, x: Tensor, chosen: Tensor, share: Tensor) -> Tensor:
        return x


def test_experts_whose_forward_cannot_be_served_are_listed(seed: int) -> None:
    rng = generator(seed)
    other = OtherExperts(rng)
    assert not follows_convention(other)
    plain = nn.Module()
    plain.stack = nn.Parameter(torch.stack([pruned(32, 16, NM(2, 4), rng) for _ in range(2)]))
    model = nn.ModuleDict({"other": other, "plain": plain})
    sc.sparsify(model, min_ratio=0)
    report = sc.report(model)
    assert not report.packed
    assert report["other.up_proj"].reason == "OtherExperts computes something else than fused experts do"
    assert report["plain.stack"].reason == "a 3-D parameter of a module whose forward is not known"
