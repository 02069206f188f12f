from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_bert import VOCAB, batch_of, tiny_bert
from torch import nn
from transformers import BertForMaskedLM, BertForSequenceClassification, DistilBertConfig, DistilBertModel

import sparsecore as sc
from simulator.workload import LinearOp, OtherOp, Workload
from simulator.workload.build import Pattern, build
from simulator.workload.schedule import load_schedule
from sparsecore.cascade import Schedule
from sparsecore.errors import InvalidValueError, UnsupportedError
from sparsecore.models.info import model_info

LENGTHS = (30, 17, 5, 1)
PROJECTIONS = 6


def plain(ops: tuple[LinearOp | OtherOp, ...]) -> list[LinearOp | OtherOp]:
    """Ops without where their numbers come from, in an order that does not depend on who made them."""
    bare = [dataclasses.replace(op, kind={}) for op in ops]
    return sorted(bare, key=lambda op: (op.layer is not None, op.layer or 0, op.name))


def tiny_distilbert(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    sizes = {"vocab_size": VOCAB, "dim": 48, "n_layers": 3, "n_heads": 6, "hidden_dim": 64}
    return DistilBertModel(DistilBertConfig(max_position_embeddings=48, **sizes)).eval()


@pytest.mark.parametrize("lengths", [(21,), (13, 13, 13)])
@pytest.mark.parametrize("make", [tiny_bert, tiny_distilbert])
def test_a_dense_run_is_what_the_sizes_say(
    make: Callable[[int], nn.Module], lengths: tuple[int, ...], seed: int
) -> None:
    """The recorded modules and the description of the family must agree op by op."""
    model = make(seed)
    workload = sc.capture(model, batch_of(seed, lengths))
    info = model_info(model, model.config.model_type)
    expected = build(info, load_schedule("none"), lengths[0], batch=len(lengths))
    assert workload.model == info
    assert info.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert plain(workload.linear) == plain(expected.linear)
    assert plain(workload.other) == plain(expected.other)
    assert workload.operations("attention") == expected.operations("attention")
    assert [op.keys for op in workload.attention] == [op.keys for op in expected.attention]
    assert {kind for op in workload.ops() for name, kind in op.kind.items() if name != "bits"} == {"measured"}
    assert workload.kinds()["bits"] == "assumed"


def test_the_decisions_are_those_of_the_run(seed: int) -> None:
    model = tiny_bert(seed)
    schedule = Schedule(token_keep=0.6, head_keep=0.8, value_keep=0.5, msb_bits=6, lsb_threshold=0.3, value_bits=8)
    batch = batch_of(seed, LENGTHS)
    with sc.cascade.apply(model, schedule) as handle:
        with torch.no_grad():
            model(**batch)
        before = handle.last_run
        workload = sc.capture(model, batch)
    run = handle.last_run
    assert torch.equal(run.survived, before.survived)
    assert torch.equal(run.low_queries, before.low_queries)
    assert len(workload.attention) == 4 * len(LENGTHS)
    for op in workload.attention:
        kept = run.tokens(op.layer, op.sequence)
        heads = run.heads(op.layer, op.sequence).tolist()
        assert op.context == LENGTHS[op.sequence]
        assert op.queries == op.keys == len(kept)
        assert list(op.heads) == heads
        assert list(op.values) == run.values[op.layer, op.sequence, heads].tolist()
        assert list(op.lsb_queries) == run.low_queries[op.layer, op.sequence, heads].tolist()
        assert op.local_values == schedule.value_count(op.keys, op.layer)
        ids = range(op.context) if op.key_ids is None else workload.arrays[op.key_ids].tolist()
        assert list(ids) == kept.tolist()
        assert (op.query_bits, op.key_msb_bits, op.key_lsb_bits, op.value_bits) == (10, 6, 4, 8)
        if op.layer + 1 < 4:
            after = len(run.tokens(op.layer + 1, op.sequence))
            assert op.token_select == ((op.keys, after) if after < op.keys else None)
            fewer = len(run.heads(op.layer + 1, op.sequence))
            assert op.head_select == ((len(heads), fewer) if fewer < len(heads) else None)
        else:
            assert op.token_select is op.head_select is None
    assert sum(op.recomputed for op in workload.attention) > 0
    assert set(workload.kinds().values()) == {"measured"}


def test_shared_heads_narrow_the_recorded_projections(seed: int) -> None:
    model = tiny_bert(seed)
    schedule = Schedule(token_keep=0.6, head_keep=0.7)
    with sc.cascade.apply(model, schedule, heads="shared") as handle:
        workload = sc.capture(model, batch_of(seed, LENGTHS))
        assert "narrowed" in handle.report()
    kept = schedule.head_counts(6, 4)
    assert kept[-1] < 6
    for op in workload.linear:
        if op.name.startswith("attention.self."):
            assert (op.in_features, op.out_features) == (48, 8 * kept[op.layer])
        if op.name == "attention.output.dense":
            assert (op.in_features, op.out_features) == (8 * kept[op.layer], 48)
    # The report agrees with the ops of the workload.
    dense = sc.capture(tiny_bert(seed), batch_of(seed, LENGTHS))
    work = handle.last_run.work
    scopes = {
        name: sum(op.operations for op in w.linear if op.layer is not None)
        for name, w in (("own", workload), ("dense", dense))
    }
    attention = [sum(op.operations for op in w.attention) for w in (workload, dense)]
    assert work.attention == pytest.approx(attention[0] / attention[1])
    assert work.total == pytest.approx((scopes["own"] + attention[0]) / (scopes["dense"] + attention[1]))


def test_linears_see_the_kept_tokens_without_padding(seed: int) -> None:
    model = tiny_bert(seed)
    with sc.cascade.apply(model, Schedule(token_keep=0.5)) as handle:
        workload = sc.capture(model, batch_of(seed, LENGTHS, width=36))
    kept = handle.last_run.token_counts.sum(1).tolist()
    for op in workload.linear:
        assert op.tokens == (len(LENGTHS) if op.layer is None else kept[op.layer])
        assert op.sequence is None
    assert len(workload.linear) == 4 * PROJECTIONS + 1
    dense = sc.capture(model, batch_of(seed, LENGTHS, width=36))
    assert {op.tokens for op in dense.linear if op.layer is not None} == {sum(LENGTHS)}
    off = workload.dense()
    assert off.operations("linear") == dense.operations("linear")
    assert off.operations("other") == dense.operations("other")
    assert off.operations("attention") == dense.operations("attention")
    assert workload.operations() < dense.operations()


def test_every_module_that_computes_is_an_op(seed: int) -> None:
    batch = batch_of(seed, (9, 4))
    for kind in (BertForSequenceClassification, BertForMaskedLM):
        model = tiny_bert(seed, kind=kind)
        workload = sc.capture(model, batch)
        names = {op.name for op in (*workload.linear, *workload.other) if op.layer is None}
        linears = sum(isinstance(module, nn.Linear) for module in model.modules())
        assert len(workload.linear) == linears
        norms = sum(isinstance(module, nn.LayerNorm) for module in model.modules())
        assert sum("layer_norm" in op.name for op in workload.other) == norms
        assert "embeddings" in names
        heads = {op.name: op.tokens for op in workload.linear if op.layer is None}
        if kind is BertForMaskedLM:
            # The head reads all positions: outputs keep their shape.
            assert heads == {"cls.predictions.transform.dense": 13, "cls.predictions.decoder": 13}
            assert "cls.predictions.transform.transform_act_fn" in names
        else:
            assert heads == {"pooler.dense": 2, "classifier": 2}
            assert "pooler.activation" in names


def test_packed_layers_show_their_pattern(seed: int) -> None:
    model = tiny_bert(seed, heads=8)
    dense = sum(parameter.numel() for parameter in model.parameters())
    sc.prune.one_shot(model, "magnitude", pattern="2:4", filter_fn=lambda _, name: "intermediate" in name)
    for layer in model.encoder.layer:
        layer.intermediate.dense = sc.nn.SparseLinear.from_dense(layer.intermediate.dense, "2:4")
    workload = sc.capture(model, batch_of(seed, (9, 4)))
    assert workload.model.parameters == dense
    for op in workload.linear:
        expected = ("2:4", 0.5) if op.name == "intermediate.dense" else ("dense", 1.0)
        assert (op.pattern, op.density) == expected
        assert op.weight_bits == 32
    patterns = {(layer, "intermediate.dense"): Pattern("2:4", 0.5) for layer in range(4)}
    expected_ops = build(workload.model, load_schedule("none"), 9, patterns=patterns).linear
    single = sc.capture(model, batch_of(seed, (9,)))
    assert plain(single.linear) == plain(expected_ops)


def test_several_batches(seed: int) -> None:
    model = tiny_bert(seed)
    singles = [batch_of(seed + i, (length,)) for i, length in enumerate((7, 12, 3))]
    with sc.cascade.apply(model, Schedule(token_keep=0.6)):
        workload = sc.capture(model, singles, name="three", texts=["a", "b", "c"])
        pairs = sc.capture(model, [batch_of(seed, (7, 5)), batch_of(seed, (4, 9))])
    assert [(s.index, s.tokens, s.text) for s in workload.sequences] == [(0, 7, "a"), (1, 12, "b"), (2, 3, "c")]
    assert {op.sequence for op in workload.linear} == {0, 1, 2}
    assert workload.name == "three"
    assert {op.sequence for op in pairs.linear} == {0, 1, 2, 3}
    for sequence, tokens in enumerate((7, 5, 4, 9)):
        counts = Schedule(token_keep=0.6).token_counts(tokens, 4)
        found = [op.tokens for op in pairs.linear if op.sequence == sequence and op.name == "output.dense"]
        assert found == list(counts)
    dense = sc.capture(model, [batch_of(seed, (7, 5)), batch_of(seed, (4, 9))])
    assert pairs.dense().operations("linear") == dense.operations("linear")


def test_kept_positions_count_from_the_first_token(seed: int) -> None:
    model = tiny_bert(seed)
    batch = batch_of(seed, (12, 12))
    batch["attention_mask"][1, :5] = 0
    with sc.cascade.apply(model, Schedule(token_keep=0.5)) as handle:
        workload = sc.capture(model, batch)
    for op in workload.attention:
        if op.sequence == 1 and op.key_ids is not None:
            assert (workload.arrays[op.key_ids] + 5).tolist() == handle.last_run.tokens(op.layer, 1).tolist()
            assert op.context == 7


def test_saved_and_loaded(seed: int, tmp_path: Path) -> None:
    model = tiny_bert(seed)
    with sc.cascade.apply(model, Schedule(token_keep=0.5, head_keep=0.8, name="half")):
        workload = sc.capture(model, batch_of(seed, LENGTHS))
    assert workload.schedule == "measured run of half"
    workload.save(tmp_path / "w.json")
    again = Workload.load(tmp_path / "w.json")
    assert again == workload
    assert {name: ids.tolist() for name, ids in again.arrays.items()} == {
        name: ids.tolist() for name, ids in workload.arrays.items()
    }


def test_the_model_is_left_as_it_was(seed: int) -> None:
    model = tiny_bert(seed).train()
    hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()]
    ids = torch.randint(VOCAB, (2, 6))
    sc.capture(model, ids)
    assert all(module.training for module in model.modules())
    assert hooks == [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()]
    with pytest.raises(IndexError):
        sc.capture(model, ids + VOCAB)
    assert hooks == [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()]


def test_what_is_refused(seed: int) -> None:
    with pytest.raises(UnsupportedError, match="no Hugging Face config"):
        sc.capture(nn.Linear(2, 2), torch.zeros(1, 2))
    model = tiny_bert(seed)
    with pytest.raises(InvalidValueError, match="2 texts for 1 sequences"):
        sc.capture(model, torch.zeros((1, 4), dtype=torch.int64), texts=["a", "b"])
    with pytest.raises(UnsupportedError, match="attention mask"):
        sc.capture(model, {"input_ids": torch.zeros((1, 4), dtype=torch.int64), "attention_mask": torch.ones(1, 4, 4)})
    with pytest.raises(InvalidValueError, match="empty"):
        sc.capture(model, [])

    shorten = model.encoder.layer[2].register_forward_pre_hook(lambda module, args: (args[0][:, :2], *args[1:]))
    with pytest.raises(UnsupportedError, match="fewer than the 6 tokens"):
        sc.capture(model, torch.zeros((1, 6), dtype=torch.int64))
    shorten.remove()
