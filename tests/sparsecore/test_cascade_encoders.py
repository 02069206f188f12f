"""Cascade pruning of every family of encoders, of compiled models, with heads shared by a batch."""

from __future__ import annotations

import copy

import pytest
import torch
from tiny_bert import VOCAB, batch_of, tiny_bert
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    ElectraConfig,
    ElectraModel,
    RobertaConfig,
    RobertaModel,
    ViTConfig,
    ViTModel,
    XLMRobertaConfig,
    XLMRobertaModel,
)

from sparsecore import cascade
from sparsecore.cascade import Schedule
from sparsecore.errors import InvalidValueError, UnsupportedError
from sparsecore.nn import SparseLinear

SIZES = {"hidden_size": 48, "num_hidden_layers": 4, "num_attention_heads": 6, "intermediate_size": 64}
TEXT = {"vocab_size": VOCAB, "max_position_embeddings": 50}
SHORT = {"vocab_size": VOCAB, "dim": 48, "n_layers": 4, "n_heads": 6, "hidden_dim": 64}
FAMILIES = ("bert", "distilbert", "electra", "roberta", "vit", "xlm-roberta")
SCHEDULE = Schedule(token_keep=0.5, head_keep=0.8, value_keep=0.7)
LENGTHS = (23, 9, 1, 14)


def tiny(family: str, seed: int) -> nn.Module:
    made = {
        "bert": lambda: BertModel(BertConfig(**SIZES, **TEXT)),
        "distilbert": lambda: DistilBertModel(DistilBertConfig(**SHORT)),
        "electra": lambda: ElectraModel(ElectraConfig(**SIZES, **TEXT, embedding_size=20)),
        "roberta": lambda: RobertaModel(RobertaConfig(**SIZES, **TEXT)),
        "vit": lambda: ViTModel(ViTConfig(**SIZES, image_size=20, patch_size=4)),
        "xlm-roberta": lambda: XLMRobertaModel(XLMRobertaConfig(**SIZES, **TEXT)),
    }[family]()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(0, 0.3, generator=generator)
    return made.eval()


def inputs(family: str, seed: int) -> dict[str, Tensor]:
    if family == "vit":
        return {"pixel_values": torch.randn(3, 3, 20, 20, generator=torch.Generator().manual_seed(seed))}
    batch = batch_of(seed, LENGTHS, width=25)
    batch["input_ids"] = batch["input_ids"].clamp(min=2) * batch["attention_mask"] + 1 - batch["attention_mask"]
    return batch


def real(batch: dict[str, Tensor], output: Tensor) -> Tensor:
    return batch.get("attention_mask", torch.ones(output.shape[:2])).bool()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_keep_all_is_the_model_and_remove_restores_it(family: str, dtype: torch.dtype, seed: int) -> None:
    model = tiny(family, seed).to(dtype)
    batch = inputs(family, seed)
    batch = {name: x.to(dtype) if x.is_floating_point() else x for name, x in batch.items()}
    configs = [getattr(module, "config", None) for module in model.modules()]
    with torch.no_grad():
        before = model(**batch).last_hidden_state
        with cascade.apply(model, Schedule()):
            found = model(**batch).last_hidden_state
        with cascade.apply(model, SCHEDULE) as handle:
            model(**batch)
        after = model(**batch).last_hidden_state
    where = real(batch, before)
    bound = 1e-4 if dtype == torch.float32 else 0.05
    error = (found - before)[where].double().norm() / before[where].double().norm()
    assert float(error) < bound
    assert torch.equal(before, after)
    assert all(a is b for a, b in zip(configs, (getattr(m, "config", None) for m in model.modules()), strict=True))
    counts = handle.last_run.token_counts
    assert [counts[:, b].tolist() for b in range(len(where))] == [
        list(SCHEDULE.token_counts(int(n), 4)) for n in where.sum(1)
    ]


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "vit"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_sequence_alone_keeps_what_it_keeps_in_a_batch(family: str, side: str, seed: int) -> None:
    model = tiny(family, seed).double()
    batch = inputs(family, seed)
    # A learned table of positions: the same ones wherever the padding stands.
    first = 2 if "roberta" in family else 0
    places = torch.arange(25).expand(4, -1) + first
    batch["position_ids"] = places
    if side == "left":
        roll = [25 - n for n in LENGTHS]
        batch = {k: torch.stack([x.roll(s) for x, s in zip(v, roll, strict=True)]) for k, v in batch.items()}
    with cascade.apply(model, SCHEDULE) as handle, torch.no_grad():
        output = model(**batch)
        run = handle.last_run
        assert torch.equal(output.keep_mask, run.keep_mask)
        for sequence, length in enumerate(LENGTHS):
            own = batch["attention_mask"][sequence].bool()
            alone = model(batch["input_ids"][sequence : sequence + 1, own], position_ids=places[:1, :length])
            single = handle.last_run
            assert torch.equal(single.survived[0], run.survived[sequence, own])
            assert torch.equal(single.heads_survived[0], run.heads_survived[sequence])
            assert torch.equal(single.values[:, 0], run.values[:, sequence])
            torch.testing.assert_close(alone.last_hidden_state[0], output.last_hidden_state[sequence, own])


@pytest.mark.parametrize("family", ["bert", "vit"])
def test_compiled_without_a_break_or_a_second_time(family: str, seed: int) -> None:
    model = tiny(family, seed)
    graphs = []

    def backend(graph: torch.fx.GraphModule, example: list[Tensor]) -> object:
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    with cascade.apply(model, SCHEDULE) as handle, torch.no_grad():
        for turn in range(3):
            batch = inputs(family, seed + turn)
            if "attention_mask" in batch and turn:
                batch["attention_mask"] = batch["attention_mask"].roll(turn, 0)
            expected = model(**batch)
            eager = handle.last_run
            found = compiled(**batch)
            run = handle.last_run
            for name in ("survived", "heads_survived", "values"):
                assert torch.equal(getattr(run, name), getattr(eager, name)), name
            assert torch.equal(found.keep_mask, expected.keep_mask)
            torch.testing.assert_close(found.last_hidden_state, expected.last_hidden_state, atol=1e-4, rtol=1e-4)
    assert len(graphs) == 1


def test_heads_shared_by_a_batch_shrink_the_projections(seed: int) -> None:
    model = tiny_bert(seed).double()
    batch = batch_of(seed, LENGTHS)
    schedule = Schedule(token_keep=0.6, head_keep=0.7)
    with cascade.apply(model, schedule, heads="shared") as handle, torch.no_grad():
        first = model(**batch).last_hidden_state
        run = handle.last_run
        again = model(**batch).last_hidden_state  # from the kept weights
    assert torch.equal(first, again)
    kept = [run.heads(layer, 0).tolist() for layer in range(4)]
    assert [len(heads) for heads in kept] == list(schedule.head_counts(6, 4))
    assert torch.equal(run.heads_survived, run.heads_survived[:1].expand(4, -1))
    # The same heads as a list for every layer, and each sequence by itself, agree.
    with cascade.apply(model, Schedule(token_keep=0.6), heads=kept) as handle, torch.no_grad():
        fixed = model(**batch).last_hidden_state
        assert torch.equal(handle.last_run.survived, run.survived)
        assert torch.equal(handle.last_run.heads_survived, run.heads_survived)
        alone = model(batch["input_ids"][1:2, : LENGTHS[1]]).last_hidden_state
    torch.testing.assert_close(fixed, first)
    torch.testing.assert_close(alone[0], fixed[1, : LENGTHS[1]])
    assert all("forward" not in vars(module) for module in model.modules())


@pytest.mark.parametrize("family", ["distilbert", "vit"])
def test_fixed_heads_from_the_first_layer(family: str, seed: int) -> None:
    """A model whose output projection ignores the other heads computes the same."""
    model = tiny(family, seed).double()
    batch = inputs(family, seed)
    batch = {name: x.double() if x.is_floating_point() else x for name, x in batch.items()}
    heads = [[0, 2, 3, 5], [0, 2, 5], [2, 5], [5]]
    masked = copy.deepcopy(model)
    layers = masked.transformer.layer if family == "distilbert" else masked.layers
    for layer, kept in zip(layers, heads, strict=True):
        out = layer.attention.out_lin if family == "distilbert" else layer.attention.o_proj
        keep = torch.zeros(6, 8, dtype=torch.bool)
        keep[kept] = True
        out.weight.data *= keep.flatten()
    widths: list[int] = []
    query = model.get_submodule(
        "transformer.layer.1.attention.q_lin" if family == "distilbert" else "layers.1.attention.q_proj"
    )
    query.register_forward_hook(lambda module, args, out: widths.append(out.shape[-1]))
    with torch.no_grad():
        expected = masked(**batch).last_hidden_state
        with cascade.apply(model, Schedule(), heads=heads) as handle:
            found = model(**batch).last_hidden_state
    where = real(batch, found)
    torch.testing.assert_close(found[where], expected[where])
    assert widths == [24]
    assert handle.last_run.head_counts[:, 0].tolist() == [4, 3, 2, 1]


def test_wrong_heads_are_named(seed: int) -> None:
    model = tiny_bert(seed)
    whole = list(range(6))
    for heads, message in (
        ("both", "'each', 'shared'"),
        (None, "heads is None"),
        ([["a"]] * 4, "a list of heads for every layer"),
        ([whole] * 3, "4 layers"),
        ([whole, whole, [0, 6], [0]], r"heads\[2\]"),
        ([whole, [0, 1], [1, 2], [1]], r"heads\[2\] has \[2\]"),
        ([whole, whole, whole, []], r"heads\[3\]"),
    ):
        with pytest.raises(InvalidValueError, match=message):
            cascade.apply(model, Schedule(), heads=heads)  # type: ignore[arg-type]
    with pytest.raises(InvalidValueError, match="one of the two"):
        cascade.apply(model, Schedule(head_keep=0.8), heads=[whole] * 4)
    linear = model.encoder.layer[2].attention.self.key
    model.encoder.layer[2].attention.self.key = SparseLinear.from_dense(linear, "unstructured")
    with pytest.raises(UnsupportedError, match=r"layer 2: attention\.self\.key"):
        cascade.apply(model, Schedule(head_keep=0.8), heads="shared")
    assert cascade.handle_of(model) is None
    assert all("forward" not in vars(module) for module in model.modules())


@pytest.mark.parametrize("selector", ["random", "recent"])
def test_selectors_decide(selector: str, seed: int) -> None:
    model = tiny_bert(seed)
    batch = batch_of(seed, LENGTHS)
    schedule = Schedule(token_keep=0.5, protect_first=False)
    with cascade.apply(model, schedule, selector=selector, scores="mean") as handle, torch.no_grad():
        model(**batch)
    run = handle.last_run
    if selector == "recent":
        for sequence, length in enumerate(LENGTHS):
            for layer, count in enumerate(schedule.token_counts(length, 4)):
                assert run.tokens(layer, sequence).tolist() == list(range(length - count, length))


def test_ends_of_a_sequence_are_protected(seed: int) -> None:
    model = tiny_bert(seed)
    with cascade.apply(model, Schedule(token_keep=[1, 0.3, 0.3, 0.01], sink=2, recent=3)) as handle, torch.no_grad():
        model(**batch_of(seed, LENGTHS))
    for sequence, length in enumerate(LENGTHS):
        ends = {*range(min(2, length)), *range(max(length - 3, 0), length)}
        assert set(handle.last_run.tokens(3, sequence).tolist()) == ends


def test_a_config_shared_by_two_models_stays_theirs(seed: int) -> None:
    config = BertConfig(**SIZES, **TEXT)
    one, two = BertModel(config).eval(), BertModel(config).eval()
    batch = batch_of(seed, LENGTHS)
    with torch.no_grad():
        before = two(**batch).last_hidden_state
        with cascade.apply(one, SCHEDULE), cascade.apply(two, Schedule(token_keep=0.3)) as inner:
            inner.remove()
            assert torch.equal(two(**batch).last_hidden_state, before)
            assert hasattr(one(**batch), "keep_mask")
    assert one.config is two.config is config
