"""sparsecore.prune against brute-force oracles written with plain loops."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import prune as torch_prune

import sparsecore as sc
from sparsecore.errors import InvalidValueError, UnknownNameError
from sparsecore.patterns import NM, Block, Unstructured

DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def linear(
    out_features: int, in_features: int, seed: int, dtype: torch.dtype = torch.float32, levels: int = 0
) -> nn.Linear:
    """A random layer; `levels` > 0 draws from that many magnitudes, so that ties are common."""
    generator = torch.Generator().manual_seed(seed)
    layer = nn.Linear(in_features, out_features, dtype=dtype)
    values = torch.randn(out_features, in_features, generator=generator)
    if levels:
        steps = torch.randint(1, levels + 1, values.shape, generator=generator)
        values = steps * torch.sign(values) / 8
    layer.weight.data.copy_(values)
    return layer


def oracle_nm(weight: Tensor, n: int, m: int) -> Tensor:
    keep = torch.zeros(weight.shape, dtype=torch.bool)
    for row in range(weight.shape[0]):
        for start in range(0, weight.shape[1], m):
            group = range(start, min(start + m, weight.shape[1]))
            for col in sorted(group, key=lambda c: (-abs(float(weight[row, c])), c))[:n]:
                keep[row, col] = True
    return keep


def oracle_units(weight: Tensor, pattern: Block | Unstructured) -> list[tuple[float, list[tuple[int, int]]]]:
    """[(score, positions)] in row-major order of the blocks."""
    rows, cols = weight.shape
    high, wide = (pattern.rows, pattern.cols) if isinstance(pattern, Block) else (1, 1)
    units = []
    for top in range(0, rows, high):
        for left in range(0, cols, wide):
            positions = [(r, c) for r in range(top, min(top + high, rows)) for c in range(left, min(left + wide, cols))]
            units.append((sum(abs(float(weight[p])) for p in positions) / len(positions), positions))
    return units


def drops(units: int, sparsity: float) -> int:
    return math.floor(units * sparsity + 0.5)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_nm_keeps_the_largest_of_every_group(data: st.DataObject) -> None:
    m = data.draw(st.integers(2, 32))
    n = data.draw(st.integers(1, m - 1))
    rows, cols = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 70))
    dtype = data.draw(st.sampled_from(DTYPES))
    layer = linear(rows, cols, data.draw(st.integers(0, 2**31)), dtype, levels=data.draw(st.sampled_from((0, 2))))
    before = layer.weight.detach().clone()
    keep = oracle_nm(before, n, m)
    summary = sc.prune.one_shot(layer, "magnitude", pattern=NM(n, m))
    assert torch.equal(layer.weight.detach(), torch.where(keep, before, torch.zeros((), dtype=dtype)))
    assert summary.layers[0].zeros == int((layer.weight == 0).sum())


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_blocks_and_single_weights_are_dropped_in_exact_numbers_lowest_first(data: st.DataObject) -> None:
    rows, cols = data.draw(st.integers(1, 13)), data.draw(st.integers(1, 17))
    pattern = data.draw(
        st.sampled_from((Unstructured(), Block(4, 4), Block(3, 5), Block(1, 8), Block(16, 16), Block(40, 2)))
    )
    sparsity = data.draw(st.sampled_from((0.0, 0.1, 0.5, 0.9, 0.99)))
    layer = linear(rows, cols, data.draw(st.integers(0, 2**31)), levels=3)
    before = layer.weight.detach().clone()
    sc.prune.one_shot(layer, pattern=pattern, sparsity=sparsity)
    units = oracle_units(before, pattern)
    dropped = [all(float(layer.weight.detach()[p]) == 0 for p in positions) for _, positions in units]
    assert sum(dropped) == drops(len(units), sparsity)
    kept_scores = [score for (score, _), gone in zip(units, dropped, strict=True) if not gone]
    dropped_scores = [score for (score, _), gone in zip(units, dropped, strict=True) if gone]
    assert max(dropped_scores, default=0) <= min(kept_scores, default=math.inf) + 1e-6
    for (_, positions), gone in zip(units, dropped, strict=True):
        if not gone:
            assert all(layer.weight[p] == before[p] for p in positions)


def test_equal_weights_are_kept_from_the_lowest_index_on() -> None:
    layer = nn.Linear(10, 2, bias=False)
    layer.weight.data.fill_(0.5)
    sc.prune.one_shot(layer, pattern="unstructured", sparsity=0.5)
    assert layer.weight.detach().flatten().ne(0).tolist() == [True] * 10 + [False] * 10


def test_global_scope_ranks_over_layers_after_normalising(seed: int) -> None:
    small, large = linear(9, 11, seed), linear(7, 13, seed + 1)
    small.weight.data.mul_(1e-3)
    before = [layer.weight.detach().clone() for layer in (small, large)]
    model = nn.Sequential(small, large)
    summary = sc.prune.one_shot(model, pattern=Unstructured(), sparsity=0.7, scope="global")
    scores = torch.cat([(w.abs() / w.double().square().mean().sqrt()).float().flatten() for w in before])
    count = drops(scores.numel(), 0.7)
    lowest = set(scores.argsort(stable=True)[:count].tolist())
    gone = torch.cat([small.weight.detach().flatten(), large.weight.detach().flatten()]).eq(0)
    assert int(gone.sum()) == count
    assert set(gone.nonzero().flatten().tolist()) == lowest
    assert 0.4 < summary.layers[0].sparsity < 0.95, "a small scale must not wipe the layer out"


def test_global_blocks_have_the_exact_number_over_the_model(seed: int) -> None:
    model = nn.Sequential(linear(33, 50, seed), linear(20, 33, seed + 1))
    sc.prune.one_shot(model, pattern=Block(8, 8), sparsity=0.6, scope="global")
    units = [unit for layer in model for unit in oracle_units(layer.weight.detach(), Block(8, 8))]
    assert sum(score == 0 for score, _ in units) == drops(len(units), 0.6)


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_same_weights_give_the_same_zeros_for_any_number_of_threads(seed: int, scope: str, dtype: torch.dtype) -> None:
    results = []
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            model = nn.Sequential(linear(40, 64, seed, dtype, levels=4), linear(64, 40, seed, dtype, levels=4))
            sc.prune.one_shot(model, pattern="unstructured", sparsity=0.8, scope=scope)  # type: ignore[arg-type]
            results.append([layer.weight.detach().clone() for layer in model])
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_pruned_weights_pack_in_their_pattern(seed: int) -> None:
    for pattern in (NM(2, 4), NM(1, 8), Block(8, 8), Unstructured()):
        layer = linear(24, 40, seed)
        sc.prune.one_shot(layer, pattern=pattern, sparsity=0.8)
        assert torch.equal(sc.pack(layer.weight.detach(), pattern).unpack(), layer.weight.detach())


def test_conv1d_is_pruned_along_its_input_dimension(seed: int) -> None:
    conv1d = pytest.importorskip("transformers.pytorch_utils").Conv1D
    torch.manual_seed(seed)
    layer = conv1d(12, 32)  # 12 out, 32 in: weight [32, 12]
    sc.prune.one_shot(layer, pattern="2:4")
    groups = layer.weight.detach().t().reshape(12, 8, 4).ne(0).sum(-1)
    assert groups.eq(2).all()


def test_fused_experts_are_pruned_one_by_one(seed: int) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(seed)
    config = transformers.MixtralConfig(
        vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, num_local_experts=3,
    )  # fmt: skip
    model = transformers.MixtralModel(config)
    summary = sc.prune.one_shot(model, pattern="2:4", filter_fn=lambda _, name: "experts" in name)
    assert len(summary.layers) == 6
    stacks = [p for name, p in model.named_parameters() if "experts" in name and p.ndim == 3]
    assert stacks
    for stack in stacks:
        assert stack.detach().reshape(*stack.shape[:2], -1, 4).ne(0).sum(-1).eq(2).all()


def test_what_belongs_to_something_else_is_left_alone_with_the_reason(seed: int) -> None:
    torch.manual_seed(seed)
    model = nn.ModuleDict(
        {
            "embed": nn.Embedding(16, 8),
            "head": nn.Linear(8, 16, bias=False),
            "masked": nn.Linear(8, 8),
            "fc": nn.Linear(8, 8),
        }
    )
    model["head"].weight = model["embed"].weight
    torch_prune.random_unstructured(model["masked"], "weight", amount=0.5)
    before = model["embed"].weight.detach().clone()
    summary = sc.prune.one_shot(model, pattern="2:4")
    assert [layer.name for layer in summary.layers] == ["fc"]
    reasons = {layer.name: layer.reason for layer in summary.skipped}
    assert "embed.weight" in reasons["head"]
    assert "computed" in reasons["masked"]
    assert torch.equal(model["embed"].weight, before)
    assert all(name in str(summary) for name in ("fc", "head", "masked"))


def test_packed_layers_are_left_alone_with_the_reason(seed: int) -> None:
    packed = linear(8, 8, seed)
    sc.prune.one_shot(packed, pattern="2:4")
    model = nn.Sequential(sc.nn.SparseLinear.from_dense(packed, "2:4"), linear(8, 8, seed + 1))
    summary = sc.prune.one_shot(model, pattern="1:4")
    assert [layer.name for layer in summary.layers] == ["1"]
    assert [(layer.name, "packed already" in layer.reason) for layer in summary.skipped] == [("0", True)]
    assert torch.equal(model[0].weight, packed.weight)


def test_a_weight_shared_by_two_linears_is_pruned_once(seed: int) -> None:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    model[1].weight = model[0].weight
    summary = sc.prune.one_shot(model, pattern="unstructured", sparsity=0.5)
    assert [layer.name for layer in summary.layers] == ["0"]
    assert int((model[0].weight == 0).sum()) == 32
    assert model[1].weight is model[0].weight


def test_filter_and_summary_numbers(seed: int) -> None:
    model = nn.Sequential(linear(16, 32, seed), linear(8, 16, seed + 1))
    before = model[1].weight.detach().double().abs().sum()
    untouched = model[0].weight.detach().clone()
    summary = sc.prune.one_shot(model, pattern=Block(4, 4), sparsity=0.5, filter_fn=lambda _, name: name == "1")
    layer = summary.layers[0]
    assert torch.equal(model[0].weight, untouched)
    assert (layer.name, layer.pattern, layer.shape, layer.zeros) == ("1", "block 4x4", (8, 16), 64)
    assert layer.sparsity == summary.sparsity == 0.5
    assert layer.kept_magnitude == pytest.approx(float(model[1].weight.detach().double().abs().sum() / before))


def test_nan_and_infinity_are_kept() -> None:
    layer = nn.Linear(4, 1, bias=False)
    layer.weight.data.copy_(torch.tensor([[1.0, math.nan, 3.0, -math.inf]]))
    sc.prune.one_shot(layer, pattern="2:4")
    kept = layer.weight.detach()[0]
    assert kept[0] == 0
    assert kept[1].isnan()
    assert kept[2] == 0
    assert kept[3] == -math.inf


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"method": "magnitud"}, UnknownNameError),
        ({"pattern": "2 of 4"}, UnknownNameError),
        ({"pattern": "4:2"}, InvalidValueError),
        ({"pattern": "unstructured", "sparsity": 1.0}, InvalidValueError),
        ({"pattern": "unstructured", "sparsity": -0.1}, InvalidValueError),
        ({"pattern": "unstructured", "sparsity": math.nan}, InvalidValueError),
        ({"pattern": "unstructured", "scope": "model"}, InvalidValueError),
        ({"pattern": "2:4", "scope": "global"}, InvalidValueError),
        ({"filter_fn": lambda *_: False}, InvalidValueError),
    ],
)
def test_bad_arguments_are_named_and_change_nothing(arguments: dict[str, object], error: type[Exception]) -> None:
    layer = linear(8, 8, 1)
    before = layer.weight.detach().clone()
    with pytest.raises(error):
        sc.prune.one_shot(layer, **arguments)  # type: ignore[arg-type]
    assert torch.equal(layer.weight, before)


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_layers_without_elements_are_no_problem() -> None:
    model = nn.Sequential(nn.Linear(0, 4, bias=False), nn.Linear(4, 0, bias=False))
    for pattern in ("2:4", "unstructured", "block 4x4"):
        assert sc.prune.one_shot(model, pattern=pattern).sparsity == 0
