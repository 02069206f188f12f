"""Cascade pruning of decoders: equal to the unmodified model where nothing is pruned, to a masked one where it is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tiny_decoders import FAMILIES, LAYERS, Oracle, cache_argument, decoder, prompts

from sparsecore import cascade


@pytest.fixture(autouse=True)
def one_thread(seed: int) -> Iterator[None]:
    """Models as small as these only make threads wait for each other."""
    torch.manual_seed(seed)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


MODES = ("select", "evict")
PRUNED: dict[str, Any] = {"token_keep": (0.9, 0.6, 0.6, 0.4)}


def generate(model: Any, ids: torch.Tensor, mask: torch.Tensor, tokens: int = 12, **more: Any) -> torch.Tensor:
    out: torch.Tensor = model.generate(ids, attention_mask=mask, max_new_tokens=tokens, **more)
    return out


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("family", FAMILIES)
def test_keeping_everything_generates_the_same_tokens(family: str, mode: str) -> None:
    model = decoder(family)
    ids, mask = prompts()
    ways: list[dict[str, Any]] = [{}]
    if family in ("gpt2", "llama"):
        ways += [{"num_beams": 3, "num_return_sequences": 2}, {"do_sample": True, "num_return_sequences": 2}]
    for how in ways:
        torch.manual_seed(1)
        want = generate(model, ids, mask, 8, **how)
        torch.manual_seed(1)
        with cascade.apply(model, cascade.Schedule(), mode=mode):
            got = generate(model, ids, mask, 8, **how)
        assert torch.equal(got, want)
    torch.manual_seed(1)
    assert torch.equal(generate(model, ids, mask, 8, **how), want)  # removed without a trace


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("selector", [None, "accumulated"])
def test_pruning_equals_a_dense_run_with_a_mask(family: str, mode: str, selector: str | None) -> None:
    model, head_keep = decoder(family), 0.8 if family in ("gpt2", "qwen3") else 1.0
    ids, mask = prompts()
    schedule = cascade.Schedule(**PRUNED, head_keep=head_keep)
    with cascade.apply(model, schedule, selector=selector, mode=mode, interval=1, record=True) as handle:
        got = generate(model, ids, mask, 16)
    run = handle.last_run
    evictions = int((run.counts[1:, 1:] <= run.counts[:-1, 1:]).any(-1).any(-1).sum())
    assert mode == "select" or evictions >= 10
    oracle = Oracle(model, run, mask)
    assert torch.equal(oracle.generate(ids, 16), got)
    _check_choices(oracle, heavy=selector is None)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_prompt_that_shrinks_equals_a_dense_run_with_a_mask(family: str, mode: str) -> None:
    model = decoder(family)
    ids, mask = prompts()
    schedule = cascade.Schedule(token_keep=(1.0, 0.7, 0.5, 0.4), head_keep=0.8, sink=2, recent=1)
    how: dict[str, Any] = {"interval": 3, "scores": "mean", "shrink_prefill": True, "record": True}
    with cascade.apply(model, schedule, mode=mode, **how) as handle:
        got = generate(model, ids, mask)
    run = handle.last_run
    assert [len(layer[1]) for layer in run.prompt_ids] == [20, 14, 10, 8]
    assert torch.equal(Oracle(model, run, mask).generate(ids, 12), got)


def _check_choices(oracle: Oracle, heavy: bool) -> None:
    """Whatever a layer read ranked at least as high as what it could have read instead, and the counts are right."""
    run = oracle.run
    for step in range(run.steps):
        for row, prompt in enumerate(run.prompts):
            seen = int(run.seen[step, row])
            protected = {0, prompt - 1, seen - 1}
            there = (
                [None] * LAYERS if run.mode == "select" else [_after(run, step, layer, row) for layer in range(LAYERS)]
            )
            left = set(range(seen))
            for layer in range(LAYERS):
                candidates = left if there[layer] is None else left & there[layer]
                read = set(run.tokens(step, layer, row).tolist())
                assert read <= candidates
                target = max(len(protected), int(PRUNED["token_keep"][layer] * seen + 1e-9))
                assert len(read) == min(target, len(candidates))
                assert protected <= read
                importance = oracle.before[step][layer][row, oracle.starts[row] :].tolist()
                ranks = {i: (0, importance[i]) for i in candidates}
                if heavy:  # the first four, and the newest up to half of what is read, come before the others
                    ranks |= {i: (1, i) for i in sorted(candidates)[len(candidates) - len(read) // 2 :]}
                    ranks |= {i: (2, -i) for i in candidates & set(range(4))}
                worst = min((ranks[i] for i in read - protected), default=(3, 0.0))
                tier, best = max((ranks[i] for i in candidates - read), default=(-1, 0.0))
                assert worst >= (tier, best - 1e-4)
                left = read


def _after(run: Any, step: int, layer: int, row: int) -> set[int]:
    """Tokens that a layer had before it evicted in `step`: what it read in the step before, and the new one."""
    new = int(run.seen[step, row]) - 1
    return set(range(new + 1)) if step == 0 else {*run.tokens(step - 1, layer, row).tolist(), new}


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_compiled_step_is_one_graph_and_reads_the_same(family: str) -> None:
    model = decoder(family)
    ids, mask = prompts()
    schedule = cascade.Schedule(**PRUNED, head_keep=0.8, value_keep=0.7, msb_bits=8, value_bits=8)
    with torch.no_grad(), cascade.apply(model, schedule) as handle:

        def run(step: Any, frozen: bool) -> torch.Tensor:
            cache = {cache_argument(model): handle.cache()}
            places = (mask.cumsum(1) - 1).clamp(min=0)
            token = model(ids, attention_mask=mask, position_ids=places, **cache).logits[:, -1:].argmax(-1)
            tokens, places = [token], places[:, -1:]
            if frozen:
                cache[cache_argument(model)].freeze(48)
            for _ in range(6):
                places = places + 1
                token = step(input_ids=token, position_ids=places, **cache).logits[:, -1:].argmax(-1)
                tokens.append(token)
            return torch.cat(tokens, dim=1)

        want = run(model, frozen=False)
        assert torch.equal(run(model, frozen=True), want)
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        assert torch.equal(run(torch.compile(model, fullgraph=True, backend="aot_eager"), frozen=True), want)
        graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        assert graphs <= 2  # the first step has tensors of other strides


def test_the_report_says_what_the_steps_read() -> None:
    model = decoder("llama")
    ids, mask = prompts()
    schedule = cascade.Schedule(head_keep=(4, 2, 2, 1), value_keep=0.5, msb_bits=8, lsb_threshold=1.0, value_bits=8)
    with cascade.apply(model, schedule) as handle:
        with torch.no_grad():
            model(ids, attention_mask=mask)
        assert handle.report().startswith("0 steps of 3 sequences")
        generate(model, ids, mask, 5)
    run = handle.last_run
    assert run.head_keep == 9 / 16
    assert 9 / 16 <= run.kv_head_keep <= 7 / 8  # one head of a group is enough to read its keys
    rows = run.counts[..., None] * run.heads
    assert run.value_keep == pytest.approx(float((rows // 2).sum() / rows.sum()))
    told = handle.report()
    assert told.startswith("4 steps of 3 sequences")
    assert "56.2%" in told
    low = re.search(r"low bits +([\d.]+)% of the queries", told)
    assert low is not None and float(low[1]) > 90  # all whose largest probability does not round to 1
