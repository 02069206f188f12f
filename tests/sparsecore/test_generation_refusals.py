"""What cascade pruning of a decoder refuses, by name; and what its cache can do."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from tiny_decoders import cache_argument, decoder, prompts
from transformers import (
    DynamicCache,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaForCausalLM,
    MistralConfig,
    MistralModel,
    StaticCache,
)

from sparsecore import cascade
from sparsecore.errors import InvalidValueError, ShapeError, UnsupportedError

PRUNED = cascade.Schedule(token_keep=(1.0, 0.6, 0.6, 0.4))


@pytest.fixture(autouse=True)
def seeded(seed: int) -> None:
    torch.manual_seed(seed)


@torch.inference_mode()
def test_caches_of_others_are_refused() -> None:
    model, other = decoder("gpt2"), decoder("gpt2")
    name, (ids, _) = cache_argument(model), prompts(padded=False)
    filled = {name: DynamicCache()}
    model(ids, **filled)
    with cascade.apply(model, PRUNED) as handle, cascade.apply(other, PRUNED) as another:
        with pytest.raises(UnsupportedError, match="another model"):
            model(ids, **{name: another.cache()})
        with pytest.raises(UnsupportedError, match="without cascade pruning"):
            model(ids[:, :1], **filled)
        with pytest.raises(UnsupportedError, match="StaticCache"):
            model(ids, **{name: StaticCache(config=model.config, max_cache_len=64)})
        with pytest.raises(UnsupportedError, match="already has a cascade handle"):
            cascade.apply(model, PRUNED)
        cache = handle.cache()
        model(ids, **{name: cache})
        with pytest.raises(InvalidValueError, match="2 sequences for a cache of 3"):
            model(ids[:2, :1], **{name: cache})


@torch.inference_mode()
def test_a_cache_is_of_no_use_to_a_model_without_the_cascade() -> None:
    model, other = decoder("gpt2"), decoder("gpt2")
    name, (ids, _) = cache_argument(model), prompts(padded=False)
    for mode in ("select", "evict"):
        with cascade.apply(model, PRUNED, mode=mode) as handle:
            cache = handle.cache()
            model(ids, **{name: cache})
            with pytest.raises(UnsupportedError, match="no cascade handle"):
                other(ids[:, :1], **{name: cache})
            model(ids[:, :1], **{name: cache})  # nothing happened to it
        with pytest.raises(UnsupportedError, match="no cascade handle"):
            model(ids[:, :1], **{name: cache})


@torch.inference_mode()
def test_models_that_share_a_config_do_not_meet() -> None:
    ids, mask = prompts()
    for kind, config in ((GPT2LMHeadModel, decoder("gpt2").config), (LlamaForCausalLM, decoder("llama").config)):
        model, other = kind(config).eval(), kind(config).eval()
        want = other.generate(ids, attention_mask=mask, max_new_tokens=4)
        with cascade.apply(model, PRUNED):
            assert torch.equal(other.generate(ids, attention_mask=mask, max_new_tokens=4), want)
            with cascade.apply(other, cascade.Schedule()):
                assert torch.equal(other.generate(ids, attention_mask=mask, max_new_tokens=4), want)
        assert model.config is other.config is config
        assert config._attn_implementation == "sdpa"


@torch.inference_mode()
@pytest.mark.parametrize("shrink", [False, True])
def test_copies_and_pickles_generate_the_same(shrink: bool) -> None:
    model, (ids, mask) = decoder("llama"), prompts()
    with cascade.apply(model, PRUNED, shrink_prefill=shrink):
        want = model.generate(ids, attention_mask=mask, max_new_tokens=4)
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert torch.equal(twin.generate(ids, attention_mask=mask, max_new_tokens=4), want)
            handle = cascade.handle_of(twin)
            assert handle is not None
            assert handle.model is twin
            handle.remove()
            assert twin.config._attn_implementation == "sdpa"


@torch.inference_mode()
def test_calls_that_cannot_be_served_are_refused() -> None:
    model = decoder("gpt2")
    ids, mask = prompts()
    name = cache_argument(model)
    with cascade.apply(model, PRUNED) as handle:
        with pytest.raises(UnsupportedError, match="never formed"):
            model(ids, output_attentions=True)
        with pytest.raises(UnsupportedError, match="attention mask"):
            model(ids, attention_mask=torch.ones(3, 1, 20, 20))
        with pytest.raises(ShapeError, match=r"\[3, 19\]"):
            model(ids, attention_mask=mask[:, 1:])
        with pytest.raises(InvalidValueError, match="129 tokens, more than the model has positions"):
            model(torch.ones((1, 129), dtype=torch.int64))
        with pytest.raises(UnsupportedError, match="eval mode"):
            model.train()(ids)
        model.eval()
        cache = handle.cache()
        model(ids, attention_mask=mask, **{name: cache})
        padding = torch.cat([mask, torch.zeros(3, 1, dtype=torch.int64)], dim=1)
        with pytest.raises(UnsupportedError, match="padding behind"):
            model(ids[:, :1], attention_mask=padding, **{name: cache})
        hiding = torch.cat([mask, torch.ones(3, 1, dtype=torch.int64)], dim=1)
        hiding[1, 4] = 0
        with pytest.raises(UnsupportedError, match="does not show the tokens"):
            model(ids[:, :1], attention_mask=hiding, **{name: cache})
    assert model(ids).logits.isfinite().all()  # removed without a trace


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"mode": "drop"}, "mode is 'drop'"),
        ({"interval": 0}, "interval is 0"),
        ({"value_mass": 2.0}, "value_mass is 2.0"),
        ({"value_mass": "half"}, "value_mass is 'half'"),
        ({"scores": 3}, "scores is a int"),
        ({"heads": "shared"}, "heads is 'shared' for a decoder"),
        ({"schedule": cascade.Schedule(msb_bits=5)}, "key_bits is 5"),
        ({"schedule": cascade.Schedule(msb_bits=8, lsb_bits=2)}, "lsb_bits is 2 for a decoder"),
        ({"schedule": cascade.Schedule(value_bits=12)}, "value_bits is 12"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], match: str) -> None:
    with pytest.raises(InvalidValueError, match=match):
        cascade.apply(decoder("llama"), **{"schedule": PRUNED, **options})


def test_models_and_schedules_that_do_not_fit() -> None:
    with pytest.raises(InvalidValueError, match="3 ratios for a model of 4 layers"):
        cascade.apply(decoder("llama"), cascade.Schedule(token_keep=(1.0, 0.5, 0.5)))
    with pytest.raises(InvalidValueError, match="head_keep"):
        cascade.apply(decoder("llama"), cascade.Schedule(head_keep=(5, 4, 4, 4)))
    sizes = {"hidden_size": 16, "intermediate_size": 8, "num_attention_heads": 2, "num_key_value_heads": 2}
    config = MistralConfig(num_hidden_layers=1, **sizes, sliding_window=8)
    with pytest.raises(UnsupportedError, match="window of 8"):
        cascade.apply(MistralModel(config), cascade.Schedule())
    crossed = GPT2Config(n_layer=1, n_head=1, n_embd=8, add_cross_attention=True)
    with pytest.raises(UnsupportedError, match="cross attention"):
        cascade.apply(GPT2LMHeadModel(crossed), cascade.Schedule())
    model = decoder("llama")
    with pytest.raises(InvalidValueError, match="no importance is known"):
        cascade.apply(model, cascade.Schedule(token_keep=(0.9, 0.5, 0.5, 0.5)), shrink_prefill=True)
    assert model.config._attn_implementation == "sdpa"


@torch.inference_mode()
def test_a_row_without_keys_gives_no_nan() -> None:
    ids, mask = prompts()
    mask[1] = 0
    for family in ("gpt2", "llama"):
        model = decoder(family)
        with cascade.apply(model, PRUNED):
            out = model(ids, attention_mask=mask).logits
            assert out.isfinite().all()
            assert model.generate(ids, attention_mask=mask, max_new_tokens=4).shape == (3, 24)


@torch.inference_mode()
def test_cropping_and_assisted_decoding() -> None:
    model = decoder("gpt2")
    draft = copy.deepcopy(model)
    ids, _ = prompts(padded=False)
    name = cache_argument(model)
    want = model.generate(ids[:1], max_new_tokens=8)
    with cascade.apply(model, cascade.Schedule()):
        assert torch.equal(model.generate(ids[:1], max_new_tokens=8, assistant_model=draft), want)
    with cascade.apply(model, cascade.Schedule()) as handle:
        cache = handle.cache()
        first = model(ids, **{name: cache}).logits[:, -1]
        model(ids[:, :3], **{name: cache})
        cache.crop(-4)
        assert cache.get_seq_length() == 19
        again = model(ids[:, -1:], **{name: cache}).logits[:, -1]
        torch.testing.assert_close(again, first, rtol=1e-4, atol=1e-4)
        with pytest.raises(InvalidValueError, match="crop of 5"):
            cache.crop(5)
    with cascade.apply(model, PRUNED, mode="evict") as handle:
        cache = handle.cache()
        model(ids, **{name: cache})
        model(ids[:, :1], **{name: cache})
        with pytest.raises(UnsupportedError, match="cannot be cropped: rows were removed"):
            cache.crop(-1)


@pytest.mark.parametrize("mode", ["select", "evict"])
@torch.inference_mode()
def test_sequences_are_selected_and_repeated(mode: Any) -> None:
    model = decoder("llama")
    ids, mask = prompts()
    name = cache_argument(model)
    with cascade.apply(model, PRUNED, mode=mode, interval=2) as handle:

        def run(change: Any, rows: list[int]) -> torch.Tensor:
            cache, seen, out = handle.cache(), mask, []
            tokens = model(ids, attention_mask=seen, **{name: cache}).logits[:, -1:].argmax(-1)
            for step in range(6):
                if step == 3:
                    change(cache)
                    tokens, seen = tokens[rows], seen[rows]
                seen = torch.cat([seen, torch.ones_like(tokens)], dim=1)
                logits = model(tokens, attention_mask=seen, position_ids=seen.sum(1, keepdim=True) - 1, **{name: cache})
                tokens = logits.logits[:, -1:].argmax(-1)
                out.append(logits.logits[:, -1])
            return out[-1]

        whole = run(lambda cache: None, [0, 1, 2])
        picked = run(lambda cache: cache.batch_select_indices(torch.tensor([2, 0])), [2, 0])
        torch.testing.assert_close(picked, whole[[2, 0]], rtol=1e-4, atol=1e-4)
        twice = run(lambda cache: cache.batch_repeat_interleave(2), [0, 0, 1, 1, 2, 2])
        torch.testing.assert_close(twice, whole[[0, 0, 1, 1, 2, 2]], rtol=1e-4, atol=1e-4)
        assert handle.last_run.steps == 3  # since the number of sequences changed


def test_memory_falls_where_rows_are_evicted() -> None:
    model = decoder("gpt2")
    ids = torch.randint(1, 97, (2, 100))
    sizes = {}
    for mode in ("select", "evict"):
        with cascade.apply(model, cascade.Schedule(token_keep=(0.3,) * 4), mode=mode) as handle:
            model.generate(ids, max_new_tokens=20)
            sizes[mode] = handle.last_run.cache_bytes
    assert sizes["evict"] < sizes["select"] / 2
