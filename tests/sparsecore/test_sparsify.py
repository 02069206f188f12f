"""sparsify packs what pays, leaves the rest dense, and report says why."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from sparse_models import generator, linear, mlp, pruned
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

import sparsecore as sc
from sparsecore.dispatch import Ratio
from sparsecore.errors import InvalidValueError
from sparsecore.nn import SparseLinear
from sparsecore.patterns import NM, Block, Unstructured
from sparsecore.sparsify import _dense_ranges


def reasons(model: nn.Module) -> dict[str, str]:
    return {row.name: row.reason for row in sc.report(model).rows}


def test_patterns_are_found_and_outputs_stay(seed: int, capsys: pytest.CaptureFixture[str]) -> None:
    rng = generator(seed)
    model = nn.ModuleDict(
        {
            "two": linear(64, 32, NM(2, 4), rng),
            "one": linear(64, 32, NM(1, 4), rng, bias=False),
            "blocks": linear(128, 64, Block(16, 16), rng),
            "any": linear(64, 33, Unstructured(), rng),
        }
    ).eval()
    dense = copy.deepcopy(model)
    x = {name: torch.randn(3, layer.in_features, generator=rng) for name, layer in dense.items()}
    capsys.readouterr()
    assert sc.sparsify(model, min_ratio=0) is model
    assert capsys.readouterr() == ("", "")
    report = sc.report(model)
    patterns = {row.name: row.pattern for row in report.rows}
    assert patterns["two"] == "2:4"
    assert patterns["one"] == "1:4"
    assert patterns["any"] == "unstructured"
    assert patterns["blocks"] is not None
    assert patterns["blocks"].startswith("block")
    for name, layer in model.items():
        assert isinstance(layer, SparseLinear)
        assert not layer.training
        torch.testing.assert_close(layer(x[name]), dense[name](x[name]))
        row = report[name]
        assert row.packed
        assert row.held_bytes == layer.held_bytes < row.dense_bytes == dense[name].weight.numel() * 4
        assert row.density == pytest.approx(layer.density)
    assert report.held_bytes < report.dense_bytes


def test_layers_that_cannot_pay_stay_dense(seed: int) -> None:
    rng = generator(seed)
    model = nn.ModuleDict(
        {
            "full": nn.Linear(32, 32),
            "few": linear(32, 32, Unstructured(), rng),
            "tiny": linear(4, 2, NM(2, 4), rng),
            "excluded": linear(64, 64, NM(2, 4), rng),
            "wide": linear(64, 64, NM(2, 4), rng).double(),
            "kept": linear(64, 64, NM(2, 4), rng),
        }
    )
    with torch.no_grad():
        model["few"].weight.copy_(torch.ones(32, 32)).view(-1)[:8] = 0
    layers = dict(model.items())
    sc.sparsify(model, min_ratio=0, filter_fn=lambda module, name: name != "excluded")
    said = reasons(model)
    assert said["full"] == "no zeros"
    assert said["few"].startswith("no pattern makes it smaller")
    assert said["tiny"].startswith(("too small", "no pattern makes it smaller"))
    assert said["excluded"] == "excluded by filter_fn"
    assert "float64" in said["wide"]
    assert isinstance(model["kept"], SparseLinear)
    assert all(model[name] is layers[name] for name in layers if name != "kept")


class Tied(nn.Module):
    def __init__(self, rng: torch.Generator) -> None:
        super().__init__()
        self.embed = nn.Embedding(40, 64)
        self.embed.weight = nn.Parameter(pruned(40, 64, NM(2, 4), rng))
        self.body = linear(64, 64, NM(2, 4), rng)
        self.head = nn.Linear(64, 40, bias=False)
        self.head.weight = self.embed.weight
        self.again = self.body
        self.view = nn.Linear(64, 16, bias=False)
        self.whole = nn.Parameter(pruned(32, 64, NM(2, 4), rng))
        self.view.weight = nn.Parameter(self.whole.data[16:])

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.again(self.body(self.embed(ids))))


def test_shared_weights_stay_dense_and_zeros_elsewhere_are_listed(seed: int) -> None:
    model = Tied(generator(seed))
    sc.sparsify(model, min_ratio=0)
    said = reasons(model)
    assert said["head"] == "its weight is shared with embed.weight"
    assert said["body"] == "the layer is also used as again"
    assert said["view"] == "its weight is shared with whole"
    assert said["embed.weight"] == "not the weight of a linear layer"
    assert said["whole"] == "not the weight of a linear layer"
    assert model.head.weight is model.embed.weight
    assert not sc.report(model).packed


def test_parameters_of_one_memory_map_do_not_count_as_shared(seed: int) -> None:
    rng = generator(seed)
    model = nn.Sequential(nn.Linear(64, 32, bias=False), nn.Linear(32, 64, bias=False))
    storage = torch.empty(2 * 64 * 32)
    for index, layer in enumerate(model):
        part = storage[index * 2048 : (index + 1) * 2048].view(layer.out_features, layer.in_features)
        part.copy_(pruned(layer.out_features, layer.in_features, NM(2, 4), rng))
        layer.weight = nn.Parameter(part)
    sc.sparsify(model, min_ratio=0)
    assert len(sc.report(model).packed) == 2


class ReadsWeight(nn.Module):
    """As T5's feed-forward: the type of the weight decides how the input is cast."""

    def __init__(self, rng: torch.Generator) -> None:
        super().__init__()
        self.wi = linear(64, 64, NM(2, 4), rng)
        self.wo = linear(64, 64, NM(2, 4), rng)

    def forward(self, x: Tensor) -> Tensor:
        return self.wo(self.wi(x).to(self.wo.weight.dtype))


def test_weights_that_the_parent_reads_stay_dense(seed: int) -> None:
    rng = generator(seed)
    layer = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True).eval()
    with torch.no_grad():
        for parameter in layer.parameters():
            if parameter.ndim == 2:
                parameter.copy_(pruned(*parameter.shape, NM(2, 4), rng))
    model = nn.ModuleDict({"encoder": nn.TransformerEncoder(layer, 2), "reads": ReadsWeight(rng)}).eval()
    x = torch.randn(2, 5, 64, generator=rng)
    with torch.no_grad():
        expected = model["encoder"](x)
        sc.sparsify(model, min_ratio=0)
        assert torch.equal(model["encoder"](x), expected), "the fast path still finds its weights"
    said = reasons(model)
    assert said["encoder.layers.0.linear1"] == "TransformerEncoderLayer reads its weight itself"
    assert said["encoder.layers.1.linear2"] == "TransformerEncoderLayer reads its weight itself"
    assert said["encoder.layers.0.self_attn.out_proj"].endswith("reads its weight itself")
    assert said["encoder.layers.0.self_attn.in_proj_weight"] == "nn.MultiheadAttention reads this weight itself"
    assert said["reads.wo"] == "ReadsWeight reads its weight itself"
    assert [row.name for row in sc.report(model).packed] == ["reads.wi"]
    attention = nn.ModuleDict({"mha": nn.MultiheadAttention(64, 4)})
    with torch.no_grad():
        attention["mha"].out_proj.weight.copy_(pruned(64, 64, NM(2, 4), rng))
    sc.sparsify(attention, min_ratio=0)
    assert reasons(attention)["mha.out_proj"] == "MultiheadAttention reads its weight itself"


class Doubled(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def test_parametrised_hooked_and_replaced_weights_stay_dense(seed: int) -> None:
    rng = generator(seed)
    names = ("norm", "custom", "masked", "old_norm", "pre", "post", "grad", "instance", "plain")
    model = nn.ModuleDict({name: linear(32, 32, NM(2, 4), rng) for name in names})
    model["sub"] = Doubled(32, 32)
    with torch.no_grad():
        model["sub"].weight.copy_(pruned(32, 32, NM(2, 4), rng))
    parametrizations.weight_norm(model["norm"])
    parametrize.register_parametrization(model["custom"], "weight", nn.Identity())
    prune.l1_unstructured(model["masked"], "weight", amount=0.3)
    with pytest.warns(FutureWarning):
        nn.utils.weight_norm(model["old_norm"])
    model["pre"].register_forward_pre_hook(lambda module, args: None)
    model["post"].register_forward_hook(lambda module, args, out: None)
    model["grad"].weight.register_hook(lambda grad: grad)
    model["instance"].forward = lambda x: x
    x = torch.randn(2, 32, generator=rng)
    expected = {name: layer(x) for name, layer in model.items()}
    sc.sparsify(model, min_ratio=0)
    said = reasons(model)
    assert "parametrised" in said["norm"]
    assert "parametrised" in said["custom"]
    assert "recomputed by a hook" in said["masked"]
    assert "recomputed by a hook" in said["old_norm"]
    assert "hooks" in said["pre"]
    assert "hooks" in said["post"]
    assert "hooks" in said["grad"]
    assert "replaced on the instance" in said["instance"]
    assert "Doubled is a subclass" in said["sub"]
    assert [row.name for row in sc.report(model).packed] == ["plain"]
    for name, layer in model.items():
        torch.testing.assert_close(layer(x), expected[name])


def test_speed_decides_and_is_reported_as_predicted(seed: int) -> None:
    model = mlp(generator(seed))
    sc.sparsify(model, tokens=(2, 16), min_ratio=1e9)
    for row in sc.report(model).rows:
        assert not row.packed
        assert row.reason.startswith("slower: ")
        assert row.pattern == "2:4"
        assert [(r.tokens, r.kind) for r in row.ratios] == [(t, "predicted") for t in (2, 4, 8, 16)]
    sc.sparsify(model, tokens=(2, 16), min_ratio=1e-9)
    report = sc.report(model)
    assert len(report.packed) == 2
    assert all("predicted" in row.reason and len(row.ratios) == 4 for row in report.packed)


def test_inputs_are_measured_at_the_counts_that_the_model_sees(seed: int) -> None:
    rng = generator(seed)
    model = mlp(rng).train()
    inputs = [torch.randn(3, 7, 64, generator=rng), {"input": torch.randn(2, 64, generator=rng)}]
    sc.sparsify(model, inputs=inputs, tokens=(1, 16), min_ratio=1e-9)
    report = sc.report(model)
    assert len(report.packed) == 2
    for row in report.rows:
        assert [(r.tokens, r.kind) for r in row.ratios] == [(t, "measured") for t in (1, 2, 8, 16, 21)]
        assert "measured" in row.reason
    assert model.training
    with pytest.raises(InvalidValueError, match="inputs"):
        sc.sparsify(mlp(rng), inputs=3.5)
    with pytest.raises(InvalidValueError, match="empty"):
        sc.sparsify(mlp(rng), inputs=[])


def test_keep_dense_holds_and_counts_both_forms(seed: int) -> None:
    rng = generator(seed)
    model = mlp(rng)
    x = torch.randn(9, 64, generator=rng)
    expected = model(x)
    sc.sparsify(model, tokens=(1, 4), min_ratio=1e-9, keep_dense=True)
    for row in sc.report(model).packed:
        layer = model.get_submodule(row.name)
        assert row.held_bytes == layer.packed.nbytes + row.dense_bytes
    torch.testing.assert_close(model(x), expected)
    assert "keep_dense=True" in repr(model)
    # The copies are there because a product so small is slower packed at some number of tokens.
    assert all(min(r.ratio for r in row.ratios) < 1 for row in sc.report(model).packed)


def test_ranges_for_the_dense_copy() -> None:
    def ranges(*pairs: tuple[int, float]) -> tuple[tuple[int, int], ...]:
        return _dense_ranges(tuple(Ratio(t, r, "measured") for t, r in pairs))

    assert ranges((1, 1.2), (8, 1.1)) == ()
    assert ranges((1, 1.2), (8, 0.9), (64, 0.8)) == ((8, 2**62),)
    assert ranges((2, 0.5), (8, 1.1), (64, 0.8), (512, 1.3)) == ((0, 8), (64, 512))


def test_pattern_on_request(seed: int) -> None:
    rng = generator(seed)
    model = nn.ModuleDict({"fits": linear(64, 64, NM(1, 4), rng), "not": linear(64, 64, Unstructured(), rng)})
    sc.sparsify(model, pattern="2:4", min_ratio=0)
    assert model["fits"].pattern == NM(2, 4)
    assert reasons(model)["not"].startswith("it is not 2:4: ")


def test_a_second_call_keeps_what_is_packed(seed: int) -> None:
    rng = generator(seed)
    model = mlp(rng)
    sc.sparsify(model, min_ratio=0, filter_fn=lambda module, name: name == "0")
    first = model[0]
    assert reasons(model)["3"] == "excluded by filter_fn"
    sc.sparsify(model, min_ratio=0)
    assert model[0] is first
    assert len(sc.report(model).packed) == 2


def test_report_follows_the_model_and_gives_plain_values(seed: int) -> None:
    model = mlp(generator(seed))
    before = sc.report(model)
    assert {row.reason for row in before.rows} == {"not sparsified"}
    assert not before.packed
    sc.sparsify(model, tokens=(1, 4), min_ratio=1e-9)
    full = sc.report(model)
    half = sc.report(copy.deepcopy(model).bfloat16())
    assert half.dense_bytes == full.dense_bytes // 2
    values = json.loads(json.dumps(full.to_dict()))
    assert values["total"] == {"dense_bytes": full.dense_bytes, "held_bytes": full.held_bytes, "packed": 2}
    assert values["rows"][0]["ratios"][0]["kind"] == "predicted"
    text = str(full)
    assert "2 of 2 weights packed" in text
    assert all(len(line) == len(line.rstrip()) for line in text.splitlines())
    with pytest.raises(KeyError):
        full["nowhere"]


def test_wrong_arguments_are_named(seed: int) -> None:
    rng = generator(seed)
    for tokens in ((0, 4), (5, 4)):
        with pytest.raises(InvalidValueError, match="range of tokens"):
            sc.sparsify(mlp(rng), tokens=tokens)
    with pytest.raises(InvalidValueError, match="min_ratio"):
        sc.sparsify(mlp(rng), min_ratio=-1)
    with pytest.raises(InvalidValueError, match="itself the layer"):
        sc.sparsify(linear(64, 64, NM(2, 4), rng))


def test_meta_models_are_left_alone() -> None:
    model = mlp(generator(0)).to("meta")
    sc.sparsify(model, min_ratio=0)
    assert set(reasons(model).values()) == {"it is on the meta device and holds no values"}
