"""The workload of a captured generation has the very decisions of the run, and the simulator runs it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_decoders import LAYERS, decoder, prompts

import simulator
from simulator.workload import Workload
from sparsecore import cascade
from sparsecore.capture import capture

SCHEDULE = cascade.Schedule(
    token_keep=(1.0, 0.7, 0.5, 0.5), head_keep=0.8, value_keep=0.5, msb_bits=6, value_bits=8, lsb_threshold=0.95
)
STEPS = 6


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("options", [{}, {"mode": "evict", "interval": 2}, {"shrink_prefill": True}], ids=str)
def test_the_workload_has_the_decisions_of_the_run(seed: int, family: str, options: dict[str, Any]) -> None:
    torch.manual_seed(seed)
    model = decoder(family)
    ids, mask = prompts()
    with cascade.apply(model, SCHEDULE, record=True, **options) as handle:
        workload = capture(model, {"input_ids": ids, "attention_mask": mask}, generate=STEPS)
        for sequence in range(len(ids)):
            prompt = ids[sequence][mask[sequence].bool()][None]
            model.generate(prompt, max_new_tokens=STEPS + 1)
            _check(workload, handle.last_run, sequence)
    assert simulator.run(workload, "spatten").time_s > 0


def _check(workload: Workload, run: Any, sequence: int) -> None:
    ops = [op for op in workload.attention if op.sequence == sequence]
    assert [(op.phase, op.step, op.layer) for op in ops] == [
        (phase, step, layer)
        for phase, steps in (("summarise", 1), ("generate", STEPS))
        for step in range(steps)
        for layer in range(LAYERS)
    ]
    for op in ops:
        ids = range(op.context) if op.key_ids is None else workload.arrays[op.key_ids].tolist()
        if op.phase == "summarise":
            assert list(ids) == run.prompt_ids[op.layer][0].tolist()
            assert op.queries == op.keys == len(ids)
            continue
        place = (op.step, op.layer, 0)
        heads = run.heads[place].nonzero().flatten()
        assert list(ids) == run.tokens(*place).tolist()
        assert op.heads == tuple(heads.tolist())
        assert op.kv_heads == run.kv_head_counts[place]
        assert op.values == tuple(run.values[place][heads].tolist())
        assert op.lsb_queries == tuple(run.low[place][heads].int().tolist())
        assert (op.key_msb_bits, op.key_lsb_bits, op.value_bits) == (6, 4, 8)
        assert set(op.kind.values()) == {"measured"}
    assert any(op.recomputed for op in ops)
    assert any(op.key_ids for op in ops)
