"""Capturing Q, K and V: those of the model itself, and what designs decide from them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_bert import VOCAB, batch_of, tiny_bert
from torch import Tensor, nn
from transformers import (
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

import simulator as sim
import sparsecore as sc
from simulator.designs.decision import exact_attention
from simulator.designs.mnnfast.decide import MnnFastRule
from simulator.errors import UnknownNameError
from simulator.workload import ReadRequest
from simulator.workload.decisions import OF_THE_RUN
from simulator.workload.reader import read_workload
from simulator.workload.tensors import LayerTensors, opened
from sparsecore.capture_tensors import AttentionTap
from sparsecore.errors import InvalidValueError, UnsupportedError

LENGTHS = (11, 4, 1)


def drawn(model: PreTrainedModel, seed: int) -> PreTrainedModel:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3, generator=generator)
    return model.eval()


def gpt2(seed: int, **more: Any) -> PreTrainedModel:
    config = GPT2Config(
        n_layer=2, n_head=4, n_embd=32, vocab_size=50, n_positions=40, bos_token_id=0, eos_token_id=1, **more
    )
    return drawn(GPT2LMHeadModel(config), seed)


def llama(seed: int) -> PreTrainedModel:
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 32}
    config = LlamaConfig(**sizes, intermediate_size=48, vocab_size=50, max_position_embeddings=40, eos_token_id=1)
    return drawn(LlamaForCausalLM(config), seed)


def layers(workload: Any, count: int) -> dict[tuple[int, int], LayerTensors]:
    with opened(workload.tensors) as reader:
        return {
            (sequence, layer): reader.layer(sequence, layer)
            for sequence in range(len(workload.sequences))
            for layer in range(count)
        }


@pytest.mark.parametrize("kind", [None, BertForSequenceClassification])
def test_tensors_are_those_of_the_projections(kind: Any, tmp_path: Path, seed: int) -> None:
    model = tiny_bert(seed) if kind is None else tiny_bert(seed, kind=kind)
    seen: dict[str, list[Tensor]] = {"query": [], "key": [], "value": []}
    hooks = [
        module.register_forward_hook(lambda _, __, out, name=name: seen[name.rpartition(".")[2]].append(out))
        for name, module in model.named_modules()
        if name.rpartition(".")[2] in seen
    ]
    batch = batch_of(seed, LENGTHS)
    with torch.no_grad():
        expected = model(**batch)
    for hook in hooks:
        hook.remove()
    workload = sc.capture(model, batch, keep_tensors=tmp_path / "w.json")
    for (sequence, layer), tensors in layers(workload, 4).items():
        for name, found in (("query", tensors.q), ("key", tensors.k), ("value", tensors.v)):
            whole = seen[name][layer][sequence, : LENGTHS[sequence]].unflatten(-1, (6, 8)).transpose(0, 1)
            np.testing.assert_allclose(found, whole.numpy(), rtol=1e-4, atol=1e-5)
        assert (tensors.causal, tensors.visible, tensors.scale) == (False, None, 8**-0.5)
    with torch.no_grad():
        again = model(**batch)  # the model is as it was
    assert torch.equal(expected[0], again[0])


def _keeping(outputs: list[Tensor]) -> Any:
    return lambda _, args: outputs.append(args[0])


@pytest.mark.parametrize("make", [gpt2, llama], ids=["gpt2", "llama"])
def test_generated_tokens_follow_the_prompt(make: Any, tmp_path: Path, seed: int) -> None:
    """The pass over all tokens has the rows that the steps had: attention on them gives the model's own logits."""
    model, steps = make(seed), 5
    ids = torch.randint(2, 50, (2, 9), generator=torch.Generator().manual_seed(seed))
    mask = torch.ones_like(ids)
    mask[1, :3] = 0  # padded on the left
    workload = sc.capture(
        model,
        {"input_ids": ids, "attention_mask": mask},
        designs=["a3", "mnnfast"],
        keep_tensors=tmp_path / "w.json",
        generate=steps,
    )
    assert [sequence.tokens for sequence in workload.sequences] == [9, 6]
    assert len(workload.attention) == 2 * 2 * (1 + steps)
    assert len(workload.decisions) == 2 * len(workload.attention)
    assert workload.kinds()["tokens"] == "measured"
    for sequence in range(2):
        prompt = ids[sequence][mask[sequence] != 0]
        with torch.no_grad():
            made = model.generate(prompt[None], min_new_tokens=steps, max_new_tokens=steps, do_sample=False)
        outputs: list[Tensor] = []
        out = [module for name, module in model.named_modules() if name.endswith(("attn.c_proj", "self_attn.o_proj"))]
        hooks = [module.register_forward_pre_hook(_keeping(outputs)) for module in out]
        with torch.no_grad():
            model(made)
        for hook in hooks:
            hook.remove()
        for layer in range(2):
            tensors = layers(workload, 2)[sequence, layer]
            assert tensors.causal and tensors.q.shape == (4, len(prompt) + steps, 8)
            seen = np.tri(tensors.q.shape[1], dtype=bool)
            groups = 4 // len(tensors.k)
            for head in range(4):
                k, v = tensors.k[head // groups], tensors.v[head // groups]
                found = exact_attention(tensors.q[head], k, v, tensors.scale, seen)
                expected = outputs[layer][0].unflatten(-1, (4, 8))[:, head]
                np.testing.assert_allclose(found, expected.numpy(), rtol=1e-3, atol=1e-4)
    workload.save(tmp_path / "w.json")
    for arch in ("a3", "mnnfast", "a3-aggressive", "a3-base"):
        assert sim.run(str(tmp_path / "w.json"), arch).error_kind == "measured"


def test_designs_decide_about_the_model_with_nothing_pruned(tmp_path: Path, seed: int) -> None:
    model, batch = tiny_bert(seed), batch_of(seed, LENGTHS)
    dense = sc.capture(model, batch, designs=["a3", "spatten", MnnFastRule(0.2)])
    assert {made.rule for made in dense.decisions} == {
        "a3: M = 0.5 n, T = 5 %, 1+4+4 bit",
        "mnnfast: probability >= 0.2",
    }
    schedule = sc.cascade.Schedule(token_keep=0.5)
    with sc.cascade.apply(model, schedule) as handle:
        with torch.no_grad():
            model(**batch)
        before = handle.last_run
        pruned = sc.capture(model, batch, designs=["a3", MnnFastRule(0.2)])
        assert torch.equal(handle.last_run.survived, before.survived)
        with torch.no_grad():
            model(**batch)  # the handle still works
        assert torch.equal(handle.last_run.survived, before.survived)
    assert sum(op.keys for op in pruned.attention) < sum(op.keys for op in dense.attention)
    by_rule = [made for made in pruned.decisions if made.rule != OF_THE_RUN]
    assert len(by_rule) == len(dense.decisions)
    for ours, theirs in zip(by_rule, dense.decisions, strict=True):
        assert ours.place == theirs.place
        assert np.array_equal(ours.candidates, theirs.candidates)
        assert ours.output_error == pytest.approx(theirs.output_error, abs=1e-5)
    result = sim.run(pruned, "a3")
    assert result.error_kind == "measured"
    assert (
        result.scopes["attention"].operations_dense == sim.run(pruned, "spatten").scopes["attention"].operations_dense
    )


def test_a_window_is_respected(tmp_path: Path, seed: int) -> None:
    """Attention of which a query sees only its last keys: the mask goes with the tensors."""
    from transformers import MistralConfig, MistralForCausalLM

    sizes = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 32}
    config = MistralConfig(**sizes, intermediate_size=48, vocab_size=50, sliding_window=3, eos_token_id=1)
    model = drawn(MistralForCausalLM(config), seed)
    workload = sc.capture(model, torch.arange(2, 11)[None], designs=["a3-base"], keep_tensors=tmp_path / "w.json")
    window = np.tri(9, dtype=bool) & ~np.tri(9, k=-3, dtype=bool)
    for tensors in layers(workload, 2).values():
        assert tensors.visible is not None and np.array_equal(tensors.visible, window)
    assert all(np.array_equal(made.candidates[0], window.sum(axis=1)) for made in workload.decisions)


def test_what_cannot_be_captured_is_named(tmp_path: Path, seed: int) -> None:
    model, batch = tiny_bert(seed), batch_of(seed, LENGTHS)
    with pytest.raises(UnknownNameError, match="a4"):
        sc.capture(model, batch, designs=["a4"])
    with pytest.raises(InvalidValueError, match="generates nothing"):
        sc.capture(model, batch, generate=3)
    for wrong in (-1, 2.5, True):
        with pytest.raises(InvalidValueError, match="generate is"):
            sc.capture(gpt2(seed), torch.ones((1, 3), dtype=torch.long), generate=wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidValueError, match="at most 40 positions"):
        sc.capture(gpt2(seed), torch.ones((1, 38), dtype=torch.long), generate=3)
    with pytest.raises(InvalidValueError, match="no tokens"):
        sc.capture(gpt2(seed), {"input_ids": torch.ones((1, 3), dtype=torch.long), "attention_mask": torch.zeros(1, 3)})
    with pytest.raises(UnsupportedError, match="generates no tokens"):
        sc.capture(gpt2(seed).base_model, torch.ones((1, 3), dtype=torch.long), generate=2)
    with pytest.raises(UnsupportedError, match="cannot be looked into"), AttentionTap(nn.Linear(2, 2), _ignore):
        pass
    assert list(tmp_path.iterdir()) == []


def _ignore(*seen: object) -> None:
    """Nobody looks."""


def test_memory_does_not_hold_the_tensors_of_other_layers(seed: int) -> None:
    """While a layer is shown, those before it are gone."""
    import weakref

    model, alive = tiny_bert(seed, layers=6), []
    seen: list[weakref.ref[Tensor]] = []

    def look(layer: int, q: Tensor, *rest: object) -> None:
        seen.append(weakref.ref(q))
        alive.append(sum(one() is not None for one in seen))

    ids = torch.randint(1, VOCAB, (1, 12))
    with torch.no_grad(), AttentionTap(model, look):
        model(ids)
    assert len(alive) == 6 and max(alive) <= 2


def test_bfloat16_is_decided_in_full(seed: int) -> None:
    model, batch = tiny_bert(seed).bfloat16(), batch_of(seed, LENGTHS)
    made = sc.capture(model, batch, designs=["mnnfast"])
    assert all(dataclasses.is_dataclass(one) and one.output_error is not None for one in made.decisions)


@pytest.mark.parametrize("make", [gpt2, llama], ids=["gpt2", "llama"])
def test_a_decoder_runs_from_the_command(make: Any, tmp_path: Path, seed: int) -> None:
    model = make(seed)
    model.save_pretrained(tmp_path / "folder")
    (tmp_path / "ids.json").write_text("[[5, 6, 7, 8, 9, 10], [4, 2, 3]]")
    rules = (MnnFastRule(0.2),)
    request = ReadRequest(input=str(tmp_path / "ids.json"), generate=4, schedule="none", rules=rules)
    found = read_workload(str(tmp_path / "folder"), request)
    assert [sequence.tokens for sequence in found.sequences] == [6, 3]
    batches = [{"input_ids": torch.tensor([row])} for row in ([5, 6, 7, 8, 9, 10], [4, 2, 3])]
    expected = sc.capture(model, batches, designs=rules, generate=4)
    assert [op.place for op in found.attention] == [op.place for op in expected.attention]
    for ours, theirs in zip(found.decisions, expected.decisions, strict=True):
        assert ours.place == theirs.place and np.array_equal(ours.values, theirs.values)
    assert sim.run(found, "mnnfast", set={"threshold": 0.2}).error_kind == "measured"
    with pytest.raises(InvalidValueError, match="tokens"):  # 40 positions, of which 38 are to be generated
        read_workload(str(tmp_path / "folder"), dataclasses.replace(request, generate=38))


def test_a_decoder_needs_its_config(tmp_path: Path, seed: int) -> None:
    model = gpt2(seed)
    torch.save(model.state_dict(), tmp_path / "model.pt")
    torch.save(model.base_model.state_dict(), tmp_path / "body.pt")
    model.config.save_pretrained(tmp_path)
    (tmp_path / "ids.json").write_text("[[5, 6, 7]]")
    request = ReadRequest(input=str(tmp_path / "ids.json"), generate=2, schedule="none", heads=4)
    with pytest.raises(InvalidValueError, match=r"(?s)from tensor shapes alone.*--config"):
        read_workload(str(tmp_path / "model.pt"), request)
    with_config = dataclasses.replace(request, heads=None, config=str(tmp_path))
    whole, body = (read_workload(str(tmp_path / name), with_config) for name in ("model.pt", "body.pt"))
    assert whole.attention == body.attention and len(whole.attention) == 2 * 3
