"""The output error of a pruned run: where its Q, K and V are those of the dense model, that of its own outputs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_bert import batch_of, tiny_bert
from tiny_decoders import HEADS, LAYERS, decoder, prompts
from torch import Tensor, nn

import simulator as sim
import sparsecore as sc
from simulator.designs.decision import exact_attention
from simulator.designs.pruned_run import decide_run
from simulator.workload.decisions import OF_THE_RUN
from simulator.workload.tensors import LayerTensors, opened
from sparsecore import cascade

LENGTHS = (23, 14, 1)
STEPS = 5


class Inputs:
    """What a module is given, call by call, while it is entered."""

    def __init__(self, module: nn.Module) -> None:
        self.module, self.seen = module, list[Tensor]()

    def __enter__(self) -> list[Tensor]:
        self._hook = self.module.register_forward_pre_hook(lambda _, args: self.seen.append(args[0]))
        return self.seen

    def __exit__(self, *error: object) -> None:
        self._hook.remove()


def error(output: Any, tensors: LayerTensors, queries: slice, keys: int) -> float:
    """Relative error of output [queries, heads * D] in attention on the first `keys` keys of a layer."""
    heads = len(tensors.q)
    shared = [head * len(tensors.k) // heads for head in range(heads)]
    seen = tensors.seen(queries, keys)
    dense = np.stack(
        [
            exact_attention(tensors.q[head, queries], tensors.k[k, :keys], tensors.v[k, :keys], tensors.scale, seen)
            for head, k in enumerate(shared)
        ]
    )
    found = output.double().unflatten(-1, (heads, -1)).transpose(0, 1).numpy()
    return float(np.linalg.norm(found - dense) / np.linalg.norm(dense))


@pytest.mark.parametrize("bits", [{}, {"msb_bits": 4, "value_bits": 6, "lsb_threshold": 0.5}], ids=["plain", "planes"])
def test_the_first_layer_of_an_encoder_has_the_error_of_its_outputs(
    bits: dict[str, Any], tmp_path: Path, seed: int
) -> None:
    """It sees the embeddings with nothing pruned, so that only V rows and widths part it from dense."""
    model, batch = tiny_bert(seed), batch_of(seed, LENGTHS)
    schedule = cascade.Schedule(token_keep=(1.0, 0.7, 0.5, 0.5), head_keep=0.8, value_keep=0.4, **bits)
    with cascade.apply(model, schedule):
        with torch.no_grad(), Inputs(model.encoder.layer[0].attention.output.dense) as outputs:
            model(**batch)
        workload = sc.capture(model, batch, keep_tensors=tmp_path / "w.json")
    made = workload.decided(OF_THE_RUN)
    assert set(made) == {op.place for op in workload.attention}
    assert workload.tensors is not None
    with opened(workload.tensors) as reader:
        for sequence, length in enumerate(LENGTHS):
            op = next(op for op in workload.attention if op.place == (0, sequence, "summarise", 0))
            tensors = reader.layer(sequence, 0)
            expected = error(outputs[0][sequence, :length], tensors, slice(0, length), length)
            if not bits:  # the run was not quantised: its widths are assumed, and make the error a little larger
                op = dataclasses.replace(op, query_bits=24, key_msb_bits=24, key_lsb_bits=0, value_bits=24)
            assert decide_run(op, None, tensors).output_error == pytest.approx(expected, rel=1e-3, abs=1e-5)
            assert made[op.place].output_error == pytest.approx(expected, rel=0.05 if not bits else 1e-3, abs=1e-2)
    for op in workload.attention:
        one = made[op.place]
        assert one.candidates.sum() == len(op.heads) * op.queries * op.keys
        assert one.values.sum() == len(op.heads) * op.queries * op.local_values
        assert [one.key_rows[head] for head in op.heads] == [op.keys] * len(op.heads)
    workload.save(tmp_path / "w.json")
    result = sim.run(str(tmp_path / "w.json"), "spatten")
    mean = np.mean([one.output_error**2 for one in made.values() if one.output_error is not None]) ** 0.5
    assert (result.output_error, result.error_kind) == (pytest.approx(mean), "measured")
    assert sim.run(str(tmp_path / "w.json"), "a3").error_kind == "measured"


def test_a_query_that_was_pruned_counts_as_missing(seed: int) -> None:
    """What an op keeps of tokens and heads bounds the error from below, and keeping less never helps by itself."""
    model, batch = tiny_bert(seed), batch_of(seed, LENGTHS)
    errors = []
    for keep in (1.0, 0.5, 0.2):
        with cascade.apply(model, cascade.Schedule(token_keep=(1.0, keep, keep, keep))):
            workload = sc.capture(model, batch, designs=["a3"])
        errors.append([one.output_error or 0.0 for one in workload.decided(OF_THE_RUN).values() if one.layer])
        assert {made.rule for made in workload.decisions} == {OF_THE_RUN, "a3: M = 0.5 n, T = 5 %, 1+4+4 bit"}
    assert max(errors[0]) < 0.02  # 12 bits
    assert np.mean(errors[0]) < np.mean(errors[1]) < np.mean(errors[2])
    plain = sc.capture(model, batch, designs=["a3"])
    assert not plain.decided(OF_THE_RUN)  # no run that pruned
    assert sim.run(plain, "spatten").error_kind == "not captured"


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("options", [{}, {"mode": "evict", "interval": 2}, {"shrink_prefill": True}], ids=str)
def test_the_first_layer_of_a_decoder_has_the_error_of_its_steps(
    family: str, options: dict[str, Any], tmp_path: Path, seed: int
) -> None:
    torch.manual_seed(seed)
    model, (ids, mask) = decoder(family), prompts()
    schedule = cascade.Schedule(
        token_keep=(1.0, 0.7, 0.5, 0.5), head_keep=0.8, value_keep=0.5, msb_bits=6, value_bits=8, lsb_threshold=0.95
    )
    first = model.transformer.h[0].attn.c_proj if family == "gpt2" else model.model.layers[0].self_attn.o_proj
    batch = {"input_ids": ids, "attention_mask": mask}
    with cascade.apply(model, schedule, record=True, **options):
        workload = sc.capture(model, batch, keep_tensors=tmp_path / "w.json", generate=STEPS)
        calls = []
        for row, held in zip(ids, mask.bool(), strict=True):
            with Inputs(first) as outputs:
                model.generate(row[held][None], max_new_tokens=STEPS + 1)
            calls.append(outputs)
    assert workload.tensors is not None
    made = workload.decided(OF_THE_RUN)
    assert len(made) == len(workload.attention) == len(ids) * LAYERS * (1 + STEPS)
    with opened(workload.tensors) as reader:
        for op in workload.attention:
            if op.layer or op.phase == "summarise":
                continue
            tensors = reader.layer(op.sequence, 0)
            assert len(tensors.q) == HEADS
            row = calls[op.sequence][1 + op.step][0]
            expected = error(row, tensors, slice(op.context - 1, op.context), op.context)
            op = dataclasses.replace(op, query_bits=15)  # what the kernel takes
            ids_of = workload.arrays[op.key_ids] if op.key_ids is not None else None
            assert decide_run(op, ids_of, tensors).output_error == pytest.approx(expected, rel=1e-3, abs=1e-4)
            assert made[op.place].output_error == pytest.approx(expected, rel=0.1, abs=0.02)
    assert sim.run(workload, "spatten").error_kind == "measured"
