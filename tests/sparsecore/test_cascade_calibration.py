from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from tiny_bert import batch_of, tiny_bert
from tiny_decoders import decoder, prompts
from torch.nn import functional as F

import sparsecore as sc
from sparsecore.cascade import Schedule
from sparsecore.cascade.calibration import KNOBS, agreement_of
from sparsecore.cascade.generation.reading import read_by_token
from sparsecore.errors import InvalidValueError, UnknownNameError, UnsupportedError


def test_the_schedule_found_holds_the_bar_and_is_the_cheapest_tried_of_its_knob(seed: int) -> None:
    model, inputs = tiny_bert(seed), [batch_of(seed, (30, 17, 9)), batch_of(seed + 5, (24, 24))]
    found = sc.cascade.calibrate(model, inputs, bar=0.9, turn=("tokens", "values", "bits"))
    with sc.cascade.apply(model, found.schedule), torch.inference_mode():
        pruned = [model(**one) for one in inputs]
    with torch.inference_mode():
        dense = [model(**one) for one in inputs]
    again = sum(agreement_of(*each) for each in zip(dense, pruned, inputs, strict=True)) / 2
    assert found.agreement >= 0.9
    assert again == pytest.approx(found.agreement, abs=1e-6)
    assert len(found.trials) <= 1 + 5 + 5 + 3
    tokens = [trial for trial in found.trials if trial.schedule.value_keep == 1 and trial.schedule.msb_bits is None]
    passed = [trial.schedule.token_keep for trial in tokens if trial.agreement >= 1 - 0.1 / 3]
    assert found.schedule.token_keep == min(passed, default=1.0)
    told = str(found)
    assert f"{len(found.trials)} schedules were tried" in told
    assert told.count("\n") == len(found.trials) + 1


def test_where_nothing_can_be_pruned_everything_is_kept(seed: int) -> None:
    model, inputs = tiny_bert(seed), [batch_of(seed, (12, 8))]
    found = sc.cascade.calibrate(model, inputs, bar=1.0, turn=("tokens",), agreement=lambda *_: 0.5)
    assert found.schedule == Schedule()
    assert len(found.trials) <= 6


def test_agreement_of_states_and_of_logits() -> None:
    class Output:
        def __init__(self, **fields: torch.Tensor) -> None:
            self.__dict__ |= fields

    mask = torch.tensor([[1, 1, 0]])
    logits = torch.tensor([[[1.0, 0], [0, 1], [1, 0]]])
    other = torch.tensor([[[1.0, 0], [1, 0], [0, 1]]])
    assert agreement_of(Output(logits=logits), Output(logits=other), {"attention_mask": mask}) == 0.5
    assert agreement_of(Output(logits=logits[:, 0]), Output(logits=logits[:, 0]), {"attention_mask": mask}) == 1
    states, keep = torch.randn(1, 3, 4), torch.tensor([[True, False, False]])
    found = agreement_of(
        Output(last_hidden_state=states), Output(last_hidden_state=states, keep_mask=keep), {"attention_mask": mask}
    )
    expected = F.cosine_similarity(states[0, :2].double().mean(0), states[0, 0].double(), dim=0)
    assert found == pytest.approx(expected.item(), abs=1e-6)


def test_stages_prune_where_states_change_most(seed: int) -> None:
    model, inputs = tiny_bert(seed, layers=6), [batch_of(seed, (20, 9)), batch_of(seed + 1, (13,))]
    schedule = sc.cascade.stages(model, inputs, keep=0.6, count=2)
    assert isinstance(schedule.token_keep, tuple)
    assert sum(schedule.token_keep) / 6 == pytest.approx(0.6, abs=1e-6)
    likeness = torch.zeros(6).double()
    for one in inputs:
        with torch.inference_mode():
            states = model(**one, output_hidden_states=True).hidden_states
        for layer in range(6):
            tokens = one["attention_mask"].bool()
            before, after = states[layer][tokens].double(), states[layer + 1][tokens].double()
            likeness[layer] += F.cosine_similarity(before, after, dim=-1).mean()
    places = sorted(range(5), key=lambda layer: float(likeness[layer]))[:2]
    drops = [i for i in range(5) if schedule.token_keep[i + 1] < schedule.token_keep[i]]
    assert drops == sorted(places)
    with sc.cascade.apply(model, schedule) as handle, torch.inference_mode():
        model(**inputs[0])
    assert handle.last_run.token_keep == pytest.approx(0.6, abs=0.06)


def test_static_heads_are_those_that_survive_most_often(seed: int) -> None:
    model, inputs = tiny_bert(seed), [batch_of(seed + i, (20, 11)) for i in range(3)]
    schedule = Schedule(head_keep=0.7)
    found = sc.cascade.static_heads(model, inputs, schedule)
    assert [len(heads) for heads in found] == list(schedule.head_counts(6, 4))
    assert all(set(later) <= set(earlier) for earlier, later in pairwise(found))
    votes = torch.zeros(6)
    for one in inputs:
        with sc.cascade.apply(model, schedule) as handle, torch.inference_mode():
            model(**one)
        votes += handle.last_run.heads_survived.sum(0)
    left = set(found[-1])
    assert min(votes[list(left)]) >= max((votes[i] for i in range(6) if i not in left), default=0)


def test_bad_requests_are_refused(seed: int) -> None:
    model, inputs = tiny_bert(seed), [batch_of(seed, (6,))]
    with pytest.raises(InvalidValueError, match="no calibration inputs"):
        sc.cascade.calibrate(model, [])
    with pytest.raises(InvalidValueError, match="a list of batches"):
        sc.cascade.calibrate(model, inputs[0])  # type: ignore[arg-type]
    with pytest.raises(InvalidValueError, match="bar"):
        sc.cascade.calibrate(model, inputs, bar=1.5)
    with pytest.raises(UnknownNameError, match=", ".join(KNOBS)):
        sc.cascade.calibrate(model, inputs, turn=("token",))
    with pytest.raises(InvalidValueError, match="4 stages for 4 layers"):
        sc.cascade.stages(model, inputs, keep=0.5, count=4)
    with pytest.raises(InvalidValueError, match="cannot be reached"):
        sc.cascade.stages(model, inputs, keep=0.2, count=1)
    with pytest.raises(InvalidValueError, match="no calibration inputs"):
        sc.cascade.static_heads(model, [], Schedule(head_keep=0.7))


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_decoder_is_calibrated_on_steps_that_prune(seed: int, family: str) -> None:
    torch.manual_seed(seed)
    model, (ids, mask) = decoder(family), prompts()
    inputs = {"input_ids": ids, "attention_mask": mask}
    found = sc.cascade.calibrate(model, [inputs], bar=1.0, turn=("tokens",), selector="random")
    assert any(trial.agreement < 1 for trial in found.trials)
    with torch.inference_mode():
        dense = model(ids, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0)).logits
        with sc.cascade.apply(model, Schedule()) as handle:
            read = read_by_token(model, inputs).logits
    assert read.shape[1] == handle.last_run.steps == 6  # half of the shortest text
    torch.testing.assert_close(read, dense[:, -6:], rtol=1e-3, atol=1e-3)
    with pytest.raises(InvalidValueError, match="fewer than two tokens"):
        sc.cascade.calibrate(model, [{"input_ids": ids[:, :1]}])
    with pytest.raises(UnsupportedError, match="fixed list"):
        sc.cascade.static_heads(model, [inputs], Schedule(head_keep=0.8))
