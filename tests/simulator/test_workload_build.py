"""Workloads from sizes and a schedule: counts against independent sums, the released GPT-2 schedule, all options."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.errors import InvalidValueError, UnsupportedError
from simulator.workload import ModelInfo, Workload
from simulator.workload.build import Pattern, build, expected_union
from simulator.workload.schedule import Schedule, load_schedule

BERT = ModelInfo("bert", 12, 12, 12, 64, 768, 3072, 30522, 109482240, "f32")
MEDIUM = ModelInfo("gpt2", 24, 16, 16, 64, 1024, 4096, 50257, 354823168, "f32")
LLAMA = ModelInfo("llama", 3, 8, 2, 16, 128, 344, 1000, 0, "bf16")


def schedule(tmp_path: Path, text: str) -> Schedule:
    (tmp_path / "s.yaml").write_text(text)
    return load_schedule(tmp_path / "s.yaml")


def test_every_operation_of_an_unpruned_bert_is_accounted() -> None:
    tokens, hidden, mlp, layers = 50, 768, 3072, 12
    workload = build(BERT, load_schedule("none"), tokens)
    attention = layers * 2 * 2 * tokens * tokens * hidden
    linear = layers * 2 * tokens * (4 * hidden * hidden + 2 * hidden * mlp) + 2 * hidden * hidden
    assert workload.operations("attention") == attention
    assert workload.operations("linear") == linear
    per_token = 2 * hidden + 7 * hidden + layers * (2 * hidden + 14 * hidden + 5 * mlp)
    assert workload.operations("other") == tokens * per_token + hidden
    assert workload.operations() == workload.dense().operations()


def test_parameters_of_the_linears_are_those_of_the_model() -> None:
    workload = build(MEDIUM, load_schedule("none"), 8)
    weights = sum(op.in_features * op.out_features for op in workload.linear)
    biases = 24 * (3 * 1024 + 1024 + 4096 + 1024)
    norms = (24 * 2 + 1) * 2 * 1024
    assert weights + biases + norms + 1024 * 1024 == MEDIUM.parameters  # lm_head is the token embedding


def test_released_spatten_schedule() -> None:
    """The counts that facts of the released file give, see builtin/schedules/spatten-gpt2.yaml."""
    workload = build(MEDIUM, load_schedule("spatten-gpt2"), 992, 1, 32).only("generate")
    ops = {(op.step, op.layer): op for op in workload.attention}
    assert len(ops) == 32 * 24
    assert sum(len(op.heads) for op in workload.attention) == 11_328  # requests in the file
    assert workload.kinds()["tokens"] == "published"
    assert {(op.keys, op.values[0]) for (step, _), op in ops.items() if step == 0} == {(993, 307)}
    expected = {0: 1024, 1: 1024, 2: 921, 3: 819, 4: 819, 5: 614, 10: 614, 11: 307, 23: 307}
    assert {layer: ops[31, layer].keys for layer in expected} == expected
    assert [ops[31, layer].values[0] for layer in (0, 2, 3, 5, 11)] == [307, 276, 245, 184, 92]
    assert [len(ops[7, layer].heads) for layer in (15, 16, 21, 22)] == [16, 13, 13, 10]
    selects = {layer: ops[5, layer].token_select for layer in range(24) if ops[5, layer].token_select}
    assert selects == {1: (998, 921), 2: (921, 819), 4: (819, 614), 10: (614, 307)}
    rows = sum(op.keys * len(op.heads) for op in workload.attention)
    assert rows / sum(op.context * 16 for op in workload.attention) == pytest.approx(0.496, abs=0.0005)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 300),
    st.integers(0, 4),
    st.integers(1, 3),
    st.floats(0.05, 1),
    st.floats(0.05, 1),
    st.floats(0.05, 1),
    st.floats(0, 1),
)
def test_cascade_never_brings_anything_back(
    tmp_path_factory: pytest.TempPathFactory,
    seq_len: int,
    generate: int,
    batch: int,
    token_keep: float,
    head_keep: float,
    value_keep: float,
    lsb_share: float,
) -> None:
    text = f"""
layers: 3
token_keep: [1, {(1 + token_keep) / 2}, {token_keep}]
head_keep: [1, {(1 + head_keep) / 2}, {head_keep}]
value_keep: {value_keep}
lsb_share: {lsb_share}
bits: {{query: 8, key_msb: 6, key_lsb: 4, value: 6}}
"""
    plan = schedule(tmp_path_factory.mktemp("s"), text)
    workload = build(LLAMA, plan, seq_len, batch, generate)
    passes: dict[tuple[int, str, int], list[object]] = {}
    for op in workload.attention:
        passes.setdefault((op.sequence, op.phase, op.step), []).append((op.keys, len(op.heads)))
        assert op.local_values <= op.values[0] <= op.keys <= op.context
        assert op.queries == (op.keys if op.phase == "summarise" else 1)
        assert 1 <= op.kv_heads <= 2
    assert len(passes) == batch * (1 + generate)
    for counts in passes.values():
        assert len(counts) == 3
        assert all(a[0] >= b[0] and a[1] >= b[1] for a, b in pairwise(counts))
    share = sum(op.recomputed for op in workload.attention)
    total = sum(op.queries * len(op.heads) for op in workload.attention)
    assert abs(share - lsb_share * total) < len(workload.attention) * 8 * 0.01 + 1.001
    dense = workload.dense()
    assert dense.operations() >= workload.operations("linear") + workload.operations("other")
    assert all(op.keys == op.context for op in dense.attention)
    assert dense.operations() == build(LLAMA, load_schedule("none"), seq_len, batch, generate).operations()


def test_batch_is_that_many_sequences() -> None:
    one, three = (build(BERT, load_schedule("spatten-bert"), 40, batch) for batch in (1, 3))
    assert three.operations("attention") == 3 * one.operations("attention")
    assert three.operations("linear") == 3 * one.operations("linear")
    assert three.operations("other") == 3 * one.operations("other")
    assert three.bytes("linear") < 3 * one.bytes("linear"), "a batch reads the weights once"


def test_schedule_of_one_phase_leaves_the_other_whole(tmp_path: Path) -> None:
    low = "token_keep: 0.5\nlsb_share: 0.5\nbits: {key_msb: 8, key_lsb: 4}\nphases: [generate]\n"
    workload = build(LLAMA, schedule(tmp_path, low), 20, 1, 2)
    prompt = workload.only("summarise").attention[0]
    assert (prompt.keys, prompt.key_msb_bits, prompt.key_lsb_bits, prompt.recomputed) == (20, 12, 0, 0)
    steps = workload.only("generate").attention
    assert [op.keys for op in steps] == [21] * 3 + [11] * 3
    assert {op.key_msb_bits for op in steps} == {8}


def test_patterns_of_the_weights() -> None:
    found = {(1, "mlp.up_proj"): Pattern("2:4", 0.5)}
    workload = build(LLAMA, load_schedule("none"), 4, patterns=found)
    sparse = [op for op in workload.linear if op.pattern == "2:4"]
    assert [(op.layer, op.name, op.operations) for op in sparse] == [(1, "mlp.up_proj", 4 * 128 * 344)]
    assert sparse[0].kind["pattern"] == "measured"
    assert workload.linear[0].kind["pattern"] == "assumed"
    assert build(LLAMA, load_schedule("none"), 4).linear[0].kind["pattern"] == "published"


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 60), st.floats(0, 1), st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_expected_union_against_drawing(rows: int, part: float, queries: int, seed: int) -> None:
    each = max(1, round(part * rows))
    rng = np.random.default_rng(seed)
    drawn = [
        np.unique(np.concatenate([rng.choice(rows, each, replace=False) for _ in range(queries)])).size
        for _ in range(200)
    ]
    spread = np.std(drawn) / np.sqrt(200)
    assert abs(np.mean(drawn) - expected_union(rows, each, queries)) <= 0.5 + 6 * spread + 1e-9


def test_bad_requests_are_named() -> None:
    none = load_schedule("none")
    with pytest.raises(InvalidValueError, match="generates no tokens"):
        build(BERT, none, 4, 1, 2)
    for arguments in ((0, 1, 0), (4, 0, 0), (4, 1, -1)):
        with pytest.raises(InvalidValueError, match="seq_len"):
            build(LLAMA, none, *arguments)
    with pytest.raises(UnsupportedError, match="mamba"):
        build(ModelInfo("mamba", 1, 1, 1, 1, 1, 1, 1, 1, "f32"), none, 4)
    with pytest.raises(InvalidValueError, match="c64"):
        build(ModelInfo("bert", 1, 1, 1, 1, 1, 1, 1, 1, "c64"), none, 4)


def test_saved_and_loaded_is_the_same(tmp_path: Path) -> None:
    workload = build(LLAMA, load_schedule("none"), 7, 2, 3)
    workload.save(tmp_path / "w.json")
    assert Workload.load(tmp_path / "w.json") == workload
    assert len(workload.attention) == 3 * 2 * 4
