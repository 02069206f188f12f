from __future__ import annotations

import copy
import math
import pickle
import threading

import pytest
import torch
from tiny_bert import VOCAB, batch_of, tiny_bert
from torch import Tensor, nn
from transformers import (
    BertForMaskedLM,
    BertForSequenceClassification,
    OPTConfig,
    OPTModel,
    RobertaConfig,
    RobertaModel,
)

from sparsecore import cascade
from sparsecore.cascade import Schedule
from sparsecore.errors import InvalidValueError, ShapeError, UnsupportedError

LENGTHS = (30, 17, 5, 1)
SCHEDULES = {
    "tokens": Schedule(token_keep=0.5),
    "heads": Schedule(head_keep=0.7),
    "values": Schedule(value_keep=0.4),
    "everything": Schedule(token_keep=0.6, head_keep=0.8, value_keep=[1, 0.9, 0.5, 0.3]),
    "per layer": Schedule(token_keep=[1, 0.9, 0.5, 0.2], head_keep=[1, 0.5, 0.5, 0.5], protect_first=False),
}


def keep_best(scores: Tensor, kept: list[int], count: int) -> list[int]:
    """The `count` best of `kept`, ties to the lower index: by sorting, one sequence at a time."""
    return sorted(sorted(kept, key=lambda i: (-float(scores[i]), i))[:count])


@torch.no_grad()
def one_sequence(model: nn.Module, ids: Tensor, schedule: Schedule) -> tuple[Tensor, list[list[int]], list[list[int]]]:
    """Cascade pruning of one sequence [n] written down naively; returns the states and kept tokens, heads per layer."""
    config = model.config
    layers, heads = config.num_hidden_layers, config.num_attention_heads
    size = config.hidden_size // heads
    tokens, kept_heads = list(range(len(ids))), list(range(heads))
    states = model.embeddings(input_ids=ids[None])[0]
    token_scores, head_scores = torch.zeros(len(ids)).double(), torch.zeros(heads).double()
    token_log, head_log = [], []
    for index, layer in enumerate(model.encoder.layer):
        wanted = schedule.token_counts(len(ids), layers)[index]
        if schedule.protect_first:
            token_scores[0] = math.inf
        tokens = keep_best(token_scores, tokens, wanted)
        kept_heads = keep_best(head_scores, kept_heads, schedule.head_counts(heads, layers)[index])
        token_log.append(tokens)
        head_log.append(kept_heads)
        x = states[tokens]
        own = layer.attention.self
        q, k, v = (part(x).view(len(x), heads, size) for part in (own.query, own.key, own.value))
        context = torch.zeros(len(x), heads, size).to(x)
        for head in kept_heads:
            p = torch.softmax(q[:, head] @ k[:, head].T / math.sqrt(size), -1)
            token_scores[tokens] += p.sum(0).double()
            local = torch.zeros_like(p)
            for row in range(len(x)):
                best = keep_best(p[row], list(range(len(x))), schedule.value_count(len(x), index))
                local[row, best] = p[row, best]
            context[:, head] = local @ v[:, head]
            head_scores[head] += context[:, head].abs().sum().double()
        mixed = layer.attention.output(context.flatten(1), x)
        states[tokens] = layer.output(layer.intermediate(mixed), mixed)
    return states, token_log, head_log


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_mixed_batch_equals_the_naive_single_sequence(name: str, attention: str, seed: int) -> None:
    model = tiny_bert(seed, attention=attention).double()
    batch = batch_of(seed, LENGTHS, width=33)
    with cascade.apply(model, SCHEDULES[name]) as handle, torch.no_grad():
        output = model(**batch)
    run = handle.last_run
    assert output.last_hidden_state.shape == (4, 33, 48)
    for sequence, length in enumerate(LENGTHS):
        expected, tokens, heads = one_sequence(model, batch["input_ids"][sequence, :length], SCHEDULES[name])
        for layer in range(4):
            assert run.tokens(layer, sequence).tolist() == tokens[layer]
            assert run.heads(layer, sequence).tolist() == heads[layer]
        torch.testing.assert_close(output.last_hidden_state[sequence, :length], expected, atol=1e-9, rtol=1e-9)
    assert torch.equal(output.keep_mask, run.keep_mask)


@pytest.mark.parametrize("bits", [None, 6])
def test_a_sequence_in_a_batch_is_the_sequence_alone(bits: int | None, seed: int) -> None:
    model = tiny_bert(seed)
    batch = batch_of(seed, LENGTHS)
    schedule = Schedule(token_keep=0.6, head_keep=0.8, value_keep=0.7, msb_bits=bits, lsb_threshold=0.3)
    with cascade.apply(model, schedule) as handle, torch.inference_mode():
        whole = model(**batch).last_hidden_state
        together = handle.last_run
        for sequence, length in enumerate(LENGTHS):
            alone = model(batch["input_ids"][sequence : sequence + 1, :length]).last_hidden_state
            single = handle.last_run
            for name in ("heads_survived",):
                assert torch.equal(getattr(single, name)[0], getattr(together, name)[sequence])
            assert torch.equal(single.survived[0], together.survived[sequence, :length])
            assert torch.equal(single.values[:, 0], together.values[:, sequence])
            assert torch.equal(single.low_queries[:, 0], together.low_queries[:, sequence])
            torch.testing.assert_close(alone[0], whole[sequence, :length], atol=2e-5, rtol=2e-5)


def test_where_the_padding_stands_does_not_matter(seed: int) -> None:
    model = tiny_bert(seed).double()
    right = batch_of(seed, (12, 7))
    positions = torch.arange(12).repeat(2, 1)
    holes = torch.tensor([[1] * 12, [0, 1, 1, 0, 0, 1, 1, 1, 0, 1, 1, 0]])
    moved = {"input_ids": right["input_ids"].clone(), "attention_mask": holes, "position_ids": positions.clone()}
    real = holes[1].nonzero().flatten()
    moved["input_ids"][1] = 0
    moved["input_ids"][1, real] = right["input_ids"][1, :7]
    moved["position_ids"][1, real] = torch.arange(7)
    with cascade.apply(model, Schedule(token_keep=0.5, head_keep=0.8)) as handle, torch.no_grad():
        expected = model(**right, position_ids=positions).last_hidden_state
        first = handle.last_run
        found = model(**moved).last_hidden_state
        second = handle.last_run
    torch.testing.assert_close(found[1, real], expected[1, :7])
    for layer in range(4):
        assert second.tokens(layer, 1).tolist() == real[first.tokens(layer, 1)].tolist()
    assert second.survived[1][holes[1] == 0].tolist() == [0] * 5


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_keep_all_equals_the_unmodified_model(attention: str, seed: int) -> None:
    model = tiny_bert(seed, attention=attention)
    batch = batch_of(seed, LENGTHS)
    with torch.no_grad():
        before = model(**batch)
        with cascade.apply(model, Schedule()) as handle:
            during = model(**batch)
    real = batch["attention_mask"].bool()
    torch.testing.assert_close(during.last_hidden_state[real], before.last_hidden_state[real], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(during.pooler_output, before.pooler_output, atol=1e-5, rtol=1e-5)
    assert int(during.last_hidden_state[~real].count_nonzero()) == 0
    assert torch.equal(handle.last_run.keep_mask, real)
    assert handle.last_run.token_keep == handle.last_run.head_keep == 1.0


def test_own_layers_without_pruning_equal_the_unmodified_model(seed: int) -> None:
    """A schedule that prunes only the last layer's heads leaves the states before it untouched."""
    model = tiny_bert(seed, layers=3)
    batch = batch_of(seed, LENGTHS)
    seen: list[Tensor] = []
    hook = model.encoder.layer[1].output.register_forward_hook(lambda module, args, out: seen.append(out))
    with torch.no_grad():
        model(**batch)
        with cascade.apply(model, Schedule(head_keep=[1, 1, 0.5])):
            model(**batch)
    hook.remove()
    real = batch["attention_mask"].bool()
    torch.testing.assert_close(seen[1][real], seen[0][real], atol=1e-5, rtol=1e-5)


def test_layers_really_shrink(seed: int) -> None:
    model = tiny_bert(seed)
    widths: list[int] = []
    for layer in model.encoder.layer:
        layer.intermediate.dense.register_forward_hook(lambda module, args, out: widths.append(out.shape[1]))
    schedule = Schedule(token_keep=0.5)
    with cascade.apply(model, schedule), torch.no_grad():
        model(**batch_of(seed, (40, 11)))
    assert widths == list(schedule.token_counts(40, 4))
    assert widths[-1] < widths[0]


def test_a_pruned_position_holds_its_state_at_pruning_time(seed: int) -> None:
    model = tiny_bert(seed)
    outputs: list[Tensor] = []
    for layer in model.encoder.layer:
        layer.output.register_forward_hook(lambda module, args, out: outputs.append(out[0]))
    with cascade.apply(model, Schedule(token_keep=0.5)) as handle, torch.no_grad():
        result = model(**batch_of(seed, (25,))).last_hidden_state[0]
    run = handle.last_run
    for position, survived in enumerate(run.survived[0].tolist()):
        slot = run.tokens(survived - 1, 0).tolist().index(position)
        assert torch.equal(result[position], outputs[survived - 1][slot])


def test_the_first_token_is_protected_unless_told_otherwise(seed: int) -> None:
    model = tiny_bert(seed)
    batch = batch_of(seed, (20,) * 8)
    pruned = 0
    for protect in (True, False):
        with (
            cascade.apply(model, Schedule(token_keep=[1, 0.2, 0.2, 0.2], protect_first=protect)) as handle,
            torch.no_grad(),
        ):
            model(**batch)
        pruned = int((handle.last_run.survived[:, 0] < 4).sum())
        assert pruned == 0 if protect else True
    assert pruned > 0


def test_remove_restores_the_model(seed: int) -> None:
    model = tiny_bert(seed)
    batch = batch_of(seed, LENGTHS)
    keys = set(vars(model.encoder)), len(model._forward_hooks), len(model._forward_pre_hooks)
    with torch.no_grad():
        before = model(**batch).last_hidden_state
        handle = cascade.apply(model, Schedule(token_keep=0.5))
        assert cascade.handle_of(model) is handle
        assert not torch.equal(model(**batch).last_hidden_state, before)
        handle.remove()
        handle.remove()
        after = model(**batch).last_hidden_state
    assert torch.equal(before, after)
    assert keys == (set(vars(model.encoder)), len(model._forward_hooks), len(model._forward_pre_hooks))
    assert cascade.handle_of(model) is None
    assert handle.last_run.lengths == LENGTHS


def test_heads_on_the_body(seed: int) -> None:
    batch = batch_of(seed, LENGTHS)
    for kind in (BertForSequenceClassification, BertForMaskedLM):
        model = tiny_bert(seed, kind=kind)
        with torch.no_grad():
            before = model(**batch).logits
            with cascade.apply(model, Schedule()):
                found = model(**batch).logits
            with cascade.apply(model, Schedule(token_keep=0.5)) as handle:
                assert model(**batch).logits.shape == before.shape
                as_tuple = model(**batch, return_dict=False)
            real = batch["attention_mask"].bool() if kind is BertForMaskedLM else slice(None)
            torch.testing.assert_close(found[real], before[real], atol=1e-5, rtol=1e-5)
            assert isinstance(as_tuple, tuple)
            assert handle.last_run.keep_mask.shape == (4, 30)


def test_threads_and_two_models(seed: int) -> None:
    models = [tiny_bert(seed + i) for i in range(2)]
    batches = [batch_of(seed + i, (24, 9 + i)) for i in range(4)]
    for model in models:
        cascade.apply(model, Schedule(token_keep=0.5, head_keep=0.8))

    def results(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        with torch.no_grad():
            return model(**batch).last_hidden_state

    expected = {(m, b): results(models[m], batches[b]) for m in range(2) for b in range(4)}
    found: dict[tuple[int, int], Tensor] = {}

    def work(m: int, b: int) -> None:
        for _ in range(5):
            found[m, b] = results(models[m], batches[b])

    threads = [threading.Thread(target=work, args=key) for key in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, atol=1e-5, rtol=1e-5)


def test_copies_are_independent(seed: int) -> None:
    model = tiny_bert(seed)
    batch = batch_of(seed, LENGTHS)
    handle = cascade.apply(model, Schedule(token_keep=0.5))
    with torch.no_grad():
        pruned = model(**batch).last_hidden_state
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            other = cascade.handle_of(twin)
            assert other is not None
            assert other.model is twin
            assert torch.equal(twin(**batch).last_hidden_state, pruned)
            other.remove()
            assert cascade.handle_of(twin) is None
            assert not torch.equal(twin(**batch).last_hidden_state, pruned)
        assert torch.equal(model(**batch).last_hidden_state, pruned)
    assert cascade.handle_of(model) is handle


def test_half_precision_and_autocast(seed: int) -> None:
    model = tiny_bert(seed).bfloat16()
    batch = batch_of(seed, LENGTHS)
    schedule = Schedule(token_keep=0.6, head_keep=0.8)
    with cascade.apply(model, schedule) as handle, torch.no_grad():
        output = model(**batch).last_hidden_state
    assert output.dtype == torch.bfloat16
    assert bool(output[batch["attention_mask"].bool()].isfinite().all())
    counts = handle.last_run.token_counts
    model = tiny_bert(seed)
    with cascade.apply(model, schedule) as handle, torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        model(**batch)
    assert torch.equal(handle.last_run.token_counts, counts)


def test_gradients_reach_the_embeddings(seed: int) -> None:
    model = tiny_bert(seed)
    with cascade.apply(model, Schedule(token_keep=0.6, head_keep=0.8, value_keep=0.5)):
        model(**batch_of(seed, LENGTHS)).last_hidden_state.sum().backward()
    weight = model.embeddings.word_embeddings.weight.grad
    assert bool((weight != 0).any())
    assert bool(weight.isfinite().all())


@pytest.mark.parametrize("bits", [None, 6])
def test_an_empty_sequence_in_a_batch(bits: int | None, seed: int) -> None:
    model = tiny_bert(seed)
    schedule = Schedule(token_keep=0.5, value_keep=0.6, msb_bits=bits)
    with cascade.apply(model, schedule) as handle, torch.no_grad():
        ids = torch.randint(VOCAB, (2, 6))
        mask = torch.tensor([[1] * 6, [0] * 6])
        output = model(ids, attention_mask=mask).last_hidden_state
        assert bool(output.isfinite().all())
        assert handle.last_run.lengths == (6, 0)


def test_bit_planes_are_recorded(seed: int) -> None:
    model = tiny_bert(seed).float()
    batch = batch_of(seed, (30, 12))
    counts = {}
    for threshold in (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0):
        schedule = Schedule(token_keep=0.6, head_keep=0.8, msb_bits=6, lsb_threshold=threshold)
        with cascade.apply(model, schedule) as handle, torch.no_grad():
            output = model(**batch).last_hidden_state
        counts[threshold] = handle.last_run.low_queries
        if threshold == 1.0:
            run = handle.last_run
    assert int(counts[0.0].sum()) == 0
    everything = int(counts[1.0].sum())
    assert any(0 < int(count.sum()) < everything for count in counts.values()), "where depends on the random weights"
    for layer in range(4):
        for sequence in range(2):
            low = counts[1.0][layer, sequence]
            heads = run.heads(layer, sequence)
            assert int(low.max()) <= run.token_counts[layer, sequence]
            assert int(low.sum()) == int(low[heads].sum())
    with cascade.apply(model, Schedule(token_keep=0.6, head_keep=0.8)), torch.no_grad():
        exact = model(**batch).last_hidden_state
    close = torch.nn.functional.cosine_similarity(exact[:, 0], output[:, 0])
    assert float(close.min()) > 0.99


def test_what_is_refused(seed: int) -> None:
    with pytest.raises(UnsupportedError, match=r"Linear has no Hugging Face config") as caught:
        cascade.apply(nn.Linear(2, 2), Schedule())
    assert "bert" in str(caught.value)
    config = OPTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, ffn_dim=8)
    with pytest.raises(UnsupportedError, match="opt"):
        cascade.apply(OPTModel(config), Schedule())
    with pytest.raises(UnsupportedError, match="chunks"):
        cascade.apply(tiny_bert(seed, chunk_size_feed_forward=4), Schedule())
    with pytest.raises(UnsupportedError, match="decoder"):
        cascade.apply(tiny_bert(seed, is_decoder=True), Schedule())
    model = tiny_bert(seed)
    with pytest.raises(InvalidValueError, match="the schedule is a str"):
        cascade.apply(model, "spatten-bert")  # type: ignore[arg-type]
    with pytest.raises(InvalidValueError, match=r"starts with 1: \[1, 0.5, ...\]"):
        cascade.apply(model, Schedule(token_keep=[0.5] * 4))
    with pytest.raises(InvalidValueError, match="3 ratios"):
        cascade.apply(model, Schedule(token_keep=[1, 1, 1]))
    handle = cascade.apply(model, Schedule(token_keep=0.5))
    with pytest.raises(UnsupportedError, match="already"):
        cascade.apply(model, Schedule())
    with pytest.raises(InvalidValueError, match="not run yet"):
        _ = handle.last_run
    batch = batch_of(seed, (6, 3))
    calls = {
        "output_attentions": {"output_attentions": True},
        "output_hidden_states": {"output_hidden_states": True},
        "attention mask of shape": {"attention_mask": torch.ones(2, 1, 6, 6)},
        "past_key_values": {"past_key_values": object()},
    }
    for message, more in calls.items():
        with pytest.raises(UnsupportedError, match=message):
            model(**{**batch, **more})
    for part in (model.encoder, model.encoder.layer[1], model.encoder.layer[1].attention.self):
        with pytest.raises(UnsupportedError, match="by itself"):
            part(torch.zeros(1, 3, 48))
    with pytest.raises(ShapeError, match=r"mask is \[2, 5\]"):
        model(batch["input_ids"], attention_mask=batch["attention_mask"][:, :5])
    with pytest.raises(InvalidValueError, match="49 positions"):
        model(torch.ones((1, 49), dtype=torch.int64))
    model.train()
    with pytest.raises(UnsupportedError, match="eval mode"):
        model(**batch)


def test_roberta(seed: int) -> None:
    torch.manual_seed(seed)
    sizes = {"hidden_size": 48, "num_hidden_layers": 4, "num_attention_heads": 6, "intermediate_size": 64}
    model = RobertaModel(RobertaConfig(vocab_size=VOCAB, max_position_embeddings=50, **sizes)).eval()
    batch = batch_of(seed, LENGTHS)
    batch["input_ids"] = batch["input_ids"].masked_fill(batch["input_ids"] == 1, 2)  # 1 is its padding id
    batch["input_ids"] = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, 1)
    schedule = Schedule(token_keep=0.6, head_keep=0.8)
    with torch.no_grad():
        before = model(**batch).last_hidden_state
        with cascade.apply(model, Schedule()):
            found = model(**batch).last_hidden_state
        with cascade.apply(model, schedule) as handle:
            whole = model(**batch).last_hidden_state
            run = handle.last_run
            alone = model(batch["input_ids"][1:2, :17]).last_hidden_state
    real = batch["attention_mask"].bool()
    torch.testing.assert_close(found[real], before[real], atol=1e-5, rtol=1e-5)
    assert run.token_counts[:, 0].tolist() == list(schedule.token_counts(30, 4))
    assert torch.equal(handle.last_run.survived[0], run.survived[1, :17])
    torch.testing.assert_close(alone[0], whole[1, :17], atol=2e-5, rtol=2e-5)
