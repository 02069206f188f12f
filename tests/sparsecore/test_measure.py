"""One table for the real and the simulated run, and the clock behind it."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertModel

import sparsecore as sc
from sparsecore.errors import InvalidValueError, UnknownNameError, UnsupportedError
from sparsecore.layer_clock import LayerClock
from sparsecore.timing import interleaved, median_ratio


@pytest.fixture
def model(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=99, hidden_size=64, num_hidden_layers=3, num_attention_heads=2, intermediate_size=96,
        max_position_embeddings=64,
    )  # fmt: skip
    return BertModel(config).eval()


@pytest.fixture
def inputs(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, 99, (3, 17), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, 9:] = 0
    return {"input_ids": ids, "attention_mask": mask}


def test_both_halves_replay_the_same_decisions(model: nn.Module, inputs: dict[str, torch.Tensor]) -> None:
    handle = sc.cascade.apply(model, sc.cascade.Schedule(token_keep=0.6, head_keep=0.8))
    table = sc.measure(model, inputs, on=["cpu", "spatten"], runs=2)
    run = handle.last_run
    assert table.workload is not None
    assert len(table.workload.attention) == 3 * 3
    for op in table.workload.attention:
        assert op.keys == len(run.tokens(op.layer, op.sequence))
        assert list(op.heads) == run.heads(op.layer, op.sequence).tolist()
        assert op.values == tuple(run.values[op.layer, op.sequence, list(op.heads)].tolist())
        assert op.kind["tokens"] == op.kind["heads"] == "measured"


def test_cells_and_what_is_not_measured(model: nn.Module, inputs: dict[str, torch.Tensor]) -> None:
    table = sc.measure(model, inputs, on=["cpu", "spatten"], reference=model, runs=2)
    whole = table.value("cpu", "time")
    assert whole is not None and whole > 0
    for layer in range(3):
        for scope in ("attention", "linear", "other"):
            value = table.value("cpu", "time", scope, layer)
            assert value is not None and 0 < value < 1
    assert table.value("cpu", "energy") is None
    assert table.value("cpu", "dram traffic") is None
    assert table.value("cpu", "agreement") == pytest.approx(1.0)
    assert table.value("spatten", "time", "attention", 0)
    # SpAtten runs attention only: there is no total, and its linear layers have neither time nor bytes.
    for quantity in ("time", "energy", "dram useful", "dram fetched"):
        assert table.value("spatten", quantity) is None
        assert table.value("spatten", quantity, "linear", 0) is None
    useful, fetched = (table.value("spatten", f"dram {which}", "attention", "all") for which in ("useful", "fetched"))
    assert useful and fetched and fetched >= useful
    held = table.value("cpu", "memory held")
    assert held == sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers()))
    text = str(table)
    assert "not measured" in text
    kinds = {column["kind"] for column in table.to_dict()["columns"]}
    assert kinds == {"measured", "simulated", "not measured"}


def test_agreement_sees_a_difference(model: nn.Module, inputs: dict[str, torch.Tensor], seed: int) -> None:
    torch.manual_seed(seed + 1)
    other = BertModel(model.config).eval()
    table = sc.measure(model, inputs, on=["cpu"], reference=other, runs=1)
    value = table.value("cpu", "agreement")
    assert value is not None and value < 0.9
    assert table.workload is None


@pytest.mark.parametrize(
    ("arguments", "error"),
    [({"on": []}, InvalidValueError), ({"runs": 0}, InvalidValueError), ({"on": ["spaten"]}, UnknownNameError)],
)
def test_bad_arguments(model: nn.Module, inputs: Any, arguments: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        sc.measure(model, inputs, **arguments)


def test_a_target_by_itself_and_a_wrong_one_before_anything_runs(
    model: nn.Module, inputs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list(sc.measure(model, inputs, on="spatten").results) == ["spatten"]

    def run(**_: Any) -> None:
        pytest.fail("the model ran")

    monkeypatch.setattr(model, "forward", run)
    with pytest.raises(UnknownNameError, match="did you mean 'spatten'"):
        sc.measure(model, inputs, on=["cpu", "spaten"])


def test_other_kinds_of_model_and_input_are_refused(model: nn.Module) -> None:
    with pytest.raises(UnsupportedError, match="mapping"):
        sc.measure(model, torch.zeros(1, 2, dtype=torch.long))
    with pytest.raises(UnsupportedError):
        sc.measure(nn.Linear(2, 2), {"input": torch.zeros(1, 2)}, on=["cpu"])


def test_clock_accounts_for_the_whole_pass(model: nn.Module, inputs: dict[str, torch.Tensor]) -> None:
    class Slow(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            time.sleep(1.0)
            return x

    # A second in the activation of layer 1 must be found there, in "other", and nowhere else.
    model.encoder.layer[1].intermediate.intermediate_act_fn = Slow()
    model(**inputs)
    with torch.inference_mode(), LayerClock(model) as clock:
        start = time.perf_counter()
        model(**inputs)
        whole = time.perf_counter() - start
    assert sum(clock.seconds.values()) <= whole
    slowest = max(clock.seconds, key=lambda share: clock.seconds[share])
    assert (slowest.layer, slowest.scope) == (1, "other")
    assert 1.0 <= clock.seconds[slowest] < whole
    hooks = [m for m in model.modules() if m._forward_hooks or m._forward_pre_hooks]
    assert not hooks


def test_interleaved_takes_turns() -> None:
    order: list[str] = []
    seconds = interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=3, warmup=1)
    assert order == list("ababbaab")
    assert [len(times) for times in seconds.values()] == [3, 3]
    assert median_ratio([2.0, 9.0, 4.0], [1.0, 3.0, 2.0]) == 2.0


def test_interleaved_stops_at_its_budget() -> None:
    seconds = interleaved({"a": lambda: time.sleep(0.01)}, rounds=1000, warmup=0, budget_s=0.05)
    assert 1 <= len(seconds["a"]) < 20
