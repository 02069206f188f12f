"""`simulate validate`: every row runs, its verdict follows from its class, and the document says the same."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from command import Simulate

import simulator as sim
from simulator.errors import ConfigError, FileMissingError, UnknownNameError
from simulator.result import Result
from simulator.units import quick_select_mean
from simulator.validation import Row, Tolerance, Validation, load_topic, shipped_topics, validate_targets
from simulator.validation.bench import Bench
from simulator.validation.cases import make, pruned_bert, with_all_heads
from simulator.validation.report import markdown, to_json
from simulator.validation.targets import TOPICS
from simulator.workload.reader import read_workload
from simulator.workload.request import ReadRequest

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def validation() -> Validation:
    return validate_targets(shipped_topics(), perturb=True)


@pytest.fixture(scope="module")
def rows(validation: Validation) -> dict[str, Row]:
    return {row.name: row for row in validation.rows}


def write(folder: Path, text: str) -> Path:
    path = folder / "targets.yaml"
    path.write_text("title: T\ntargets:\n" + text)
    return path


def target(**changes: str) -> str:
    """A target that holds, with changed keys; "" leaves one out."""
    keys = {
        "name": "scores",
        "what": "scores a cycle",
        "class": "definition",
        "value": "8",
        "unit": "scores",
        "source": "here",
        "tolerance": "{absolute: 0}",
        "measure": "scores_per_cycle",
        "parameters": "{design: spatten, head_dim: 64}",
    }
    lines = [f"{key}: {value}" for key, value in (keys | changes).items() if value]
    return "  - " + "\n    ".join(lines) + "\n"


# The shipped targets.


def test_every_target_has_a_row_and_no_counted_one_fails(validation: Validation) -> None:
    assert [row.name for row in validation.rows] == [t.name for topic in shipped_topics() for t in topic.targets]
    assert not validation.failed
    assert all(math.isfinite(row.low) and row.low <= row.high for row in validation.rows)


def test_a_known_miss_is_one(validation: Validation) -> None:
    listed = {row.name for row in validation.rows if row.known_miss}
    assert listed == {row.name for row in validation.rows if row.verdict == "known miss"}


def test_the_classes_are_counted_as_they_say(validation: Validation) -> None:
    for row in validation.rows:
        assert row.counted == (row.class_ in ("definition", "prediction"))
        assert row.counted == (row.verdict in ("pass", "known miss"))
        assert bool(row.tolerance) == row.counted
        assert bool(row.assumptions) == (row.class_ == "input unpublished")
        if row.class_ == "input unpublished":
            assert row.low < row.high
        else:
            assert row.error == row.low / row.published - 1


def test_a_calibrated_constant_serves_a_prediction(validation: Validation) -> None:
    served = {name for row in validation.rows if row.class_ == "prediction" for name in row.constants}
    assert served == {row.name for row in validation.rows if row.class_ == "calibration"}


def test_no_row_is_computed_with_a_constant_that_was_set_from_it(validation: Validation) -> None:
    for row in validation.rows:
        assert row.name not in row.constants


def test_a_moved_constant_moves_the_rows_that_use_it_and_no_other(validation: Validation) -> None:
    moved = {(item.constant, item.row) for item in validation.moved}
    assert moved == {(name, row.name) for row in validation.rows for name in row.constants}
    assert ("logic-power", "eighth-power") in moved
    for item in validation.moved:
        assert item.before != item.after


def test_the_moved_constant_moves_by_its_share(validation: Validation, rows: dict[str, Row]) -> None:
    by_name = {(item.constant, item.row): item for item in validation.moved}
    parts = {part.name: part.low for part in rows["eighth-power"].parts}
    item = by_name["logic-power", "eighth-power"]
    assert item.after - item.before == pytest.approx(0.1 * parts["logic"])


def test_the_targets_files_are_all_read() -> None:
    folder = ROOT / "simulator" / "validation" / "targets"
    assert {path.stem for path in folder.glob("*.yaml")} == set(TOPICS)


def test_the_document_holds_the_tables(validation: Validation) -> None:
    page = (ROOT / "docs" / "validation.md").read_text(encoding="utf-8")
    assert markdown(validation) in page, "run tools/validation_docs.py"


def test_the_share_of_the_peak_is_that_of_the_published_time(rows: dict[str, Row]) -> None:
    """24 x 12 x 1024^2 weights of a byte for each of 32 tokens, in 25.75 ms, against 512 GB/s."""
    parts = {part.name: part.low for part in rows["fc-time"].parts}
    weights = 32 * 24 * 12 * 1024**2
    assert parts["of the peak, published"] == pytest.approx(100 * weights / (rows["fc-time"].published * 1e-3) / 512e9)
    assert parts["of the peak, hbm2"] == pytest.approx(100 * weights / (parts["hbm2"] * 1e-3) / 512e9)


def test_reductions_print_three_means(rows: dict[str, Row]) -> None:
    row = rows["dram-reduction"]
    assert "arithmetic" in row.note
    assert [part.name for part in row.parts] == ["geometric mean", "pooled"]
    assert row.low >= row.parts[0].low  # an arithmetic mean is no smaller than a geometric one
    assert row.high >= row.parts[0].high


def test_rates_state_their_operations(validation: Validation) -> None:
    for row in validation.rows:
        assert (row.operations in ("executed", "dense")) == ("GOP" in row.unit or "FLOP" in row.unit)


# Values that targets give as published and that follow from a stated rule.


@pytest.mark.parametrize(("n", "k"), [(1024, 512), (614, 184), (256, 32), (64, 32)])
def test_the_published_quick_select_is_the_mean_of_its_rule(rows: dict[str, Row], seed: int, n: int, k: int) -> None:
    random, draws = np.random.default_rng(seed), 40_000
    left, rank, cycles = np.full(draws, n), np.full(draws, k), np.zeros(draws)
    live = np.arange(draws)
    while live.size:
        cycles[live] += -(-left[live] // 16) + 3
        pivot = random.integers(1, left[live] + 1)  # its rank from the largest
        larger, target_rank = pivot < rank[live], rank[live]
        rank[live] = np.where(larger, target_rank - pivot, target_rank)
        left[live] = np.where(larger, left[live] - pivot, pivot - 1)
        live = live[pivot != target_rank]
    error = cycles.std() / math.sqrt(draws)
    assert abs(cycles.mean() - rows[f"quick-select-{n}-{k}"].published) < 5 * error


def test_the_published_serial_quick_select_is_knuths(rows: dict[str, Row]) -> None:
    """D. Knuth, Mathematical Analysis of Algorithms: comparisons of a round over m values are m - 1."""

    def harmonic(count: int) -> float:
        return sum(1 / i for i in range(1, count + 1))

    n, k = 1024, 512
    low, high = harmonic(n + 1 - k), harmonic(k)
    comparisons = 2 * ((n + 1) * harmonic(n) - (n + 3 - k) * low - (k + 2) * high + n + 3)
    expected = comparisons + 4 * (low + high - 1)  # m + 3 cycles a round
    assert rows["quick-select-serial"].published == pytest.approx(expected, abs=0.005)
    assert quick_select_mean(n, k, 1) == pytest.approx(expected)


def test_the_scale_to_four_tasks(rows: dict[str, Row]) -> None:
    assert rows["attention-time"].note.endswith("x 0.753")


# Cases.


def test_heads_come_back_with_the_counts_of_their_layer() -> None:
    released = make("gpt2-medium@wikitext2")
    whole = with_all_heads(released)
    assert sum(len(op.heads) for op in whole.attention) == 12_288
    assert [(op.keys, op.local_values) for op in whole.attention] == [
        (op.keys, op.local_values) for op in released.attention
    ]


def test_a_pruned_bert_keeps_the_stated_averages() -> None:
    from simulator.validation.cases import BertPlan

    workload = pruned_bert("bert-base", 1000, BertPlan(0.6, 0.75, 8))
    kept = [op.keys for op in workload.attention]
    assert kept[:2] == [1000, 1000]
    assert sum(kept[2:]) / 10 == pytest.approx(600, abs=1)
    assert kept == sorted(kept, reverse=True)
    heads = [len(op.heads) for op in workload.attention]
    assert heads[:4] == [12] * 4
    assert sum(heads[4:]) / 8 == pytest.approx(9, abs=1)


def test_an_unknown_case_is_named() -> None:
    with pytest.raises(UnknownNameError, match="no case named"):
        make("gpt3")
    with pytest.raises(UnknownNameError, match="no calibrated constant"):
        Bench({}).constant("x")


# Tolerances and targets of one's own.


@pytest.mark.parametrize(
    ("tolerance", "inside", "outside"),
    [
        (Tolerance(relative=0.1), (9.1, 10.9), (8.9, 11.1)),
        (Tolerance(absolute=0.5), (9.5, 10.5), (9.4, 10.6)),
        (Tolerance(absolute=0), (10.0,), (9.999, 10.001)),
        (Tolerance(factor=2), (5.0, 20.0), (4.99, 20.01, 0.0, -10.0)),
    ],
)
def test_tolerances(tolerance: Tolerance, inside: tuple[float, ...], outside: tuple[float, ...]) -> None:
    assert all(tolerance.holds(value, 10.0) for value in inside)
    assert not any(tolerance.holds(value, 10.0) for value in outside)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"sauce": "x"}, "unknown key 'sauce'"),
        ({"tolerance": ""}, "needs a tolerance"),
        ({"tolerance": "{absolute: 0, relative: 0.1}"}, "exactly one"),
        ({"tolerance": "{relative: -0.1}"}, "greater than 0"),
        ({"class": "guess"}, "line 5"),
        ({"class": "calibration"}, "has no tolerance"),
        ({"assumptions": "x"}, "assumptions belong"),
        ({"class": "input unpublished", "tolerance": ""}, "assumptions belong"),
        ({"class": "input unpublished", "tolerance": "", "assumptions": "x", "known_miss": "y"}, "no known_miss"),
        ({"unit": "GOP/s"}, "needs operations"),
        ({"value": "eight"}, "valid number"),
        ({"value": ".nan"}, "finite"),
        ({"source": ""}, "'source' is missing"),
        ({"name": "Two words"}, "pattern"),
    ],
)
def test_bad_targets_are_named(tmp_path: Path, changes: dict[str, str], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_topic(write(tmp_path, target(**changes)))
    assert problem in str(caught.value)
    assert "targets.yaml" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"measure": "scores_per_cycles"}, "did you mean 'scores_per_cycle'"),
        ({"parameters": "{design: spatten, head_size: 64}"}, "unknown key 'head_size'"),
        ({"parameters": "{design: spatten}"}, "'head_dim' is missing"),
        ({"parameters": "{design: spatten, head_dim: '64'}"}, "valid integer"),
    ],
)
def test_bad_measures_are_named(tmp_path: Path, changes: dict[str, str], problem: str) -> None:
    topic = load_topic(write(tmp_path, target(**changes)))
    with pytest.raises(ConfigError) as caught:
        validate_targets([topic])
    assert problem in str(caught.value)
    assert "line" in str(caught.value)


def test_a_name_given_twice_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="twice"):
        load_topic(write(tmp_path, target() + target()))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileMissingError):
        load_topic(tmp_path / "none.yaml")


# The command.


def test_the_command_succeeds_on_rows_that_hold(simulate: Simulate) -> None:
    code, out, _ = simulate("validate", "--only", "machine")
    assert code == 0
    assert "196,608 B" in out
    assert "0 other" in out


def test_a_wrong_target_fails(simulate: Simulate, tmp_path: Path) -> None:
    code, out, _ = simulate("validate", "--targets", write(tmp_path, target(value="9")))
    assert code == 1
    assert "MISS" in out


def test_a_wrong_target_listed_with_its_cause_does_not_fail(simulate: Simulate, tmp_path: Path) -> None:
    code, out, _ = simulate("validate", "--targets", write(tmp_path, target(value="9", known_miss="a typing error")))
    assert code == 0
    assert "a typing error" in out
    assert "1 known miss" in out


@pytest.mark.parametrize("value", ["8", "800"])
def test_uncounted_rows_never_fail(simulate: Simulate, tmp_path: Path, value: str) -> None:
    rows = {"value": value, "tolerance": ""}
    text = target(**rows, **{"class": "calibration"})
    text += target(**rows, **{"class": "input unpublished", "assumptions": "none", "name": "other"})
    code, out, _ = simulate("validate", "--targets", write(tmp_path, text))
    assert code == 0
    assert "0 counted" in out


def test_json_is_written_and_printed(simulate: Simulate, tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    assert simulate("validate", "--only", "scores-per-cycle", "--json", path, "--quiet") == (0, "", "")
    code, out, _ = simulate("validate", "--only", "scores-per-cycle", "--json", "-")
    assert code == 0
    assert json.loads(out) == json.loads(path.read_text())
    document = json.loads(out)
    assert document["passed"] is True
    assert [(row["name"], row["class"], row["published"]) for row in document["rows"]] == [
        ("scores-per-cycle", "definition", 8)
    ]


def test_json_says_that_it_failed(tmp_path: Path) -> None:
    document = json.loads(to_json(validate_targets([load_topic(write(tmp_path, target(value="9")))])))
    assert document["passed"] is False
    assert document["rows"][0]["verdict"] == "MISS"


def test_only_one_row_runs_what_it_needs(simulate: Simulate) -> None:
    code, out, _ = simulate("validate", "--only", "eighth-power", "--perturb")
    assert code == 0
    assert "no other row moves" in out
    assert "logic-power x 1.1" in out
    assert "attention-rate" not in out


def test_an_unknown_row_is_bad_input(simulate: Simulate) -> None:
    code, _, err = simulate("validate", "--only", "eigth-power")
    assert code == 2
    assert "did you mean 'eighth-power'" in err


# What the rows do not say: bounds and orders that the paper describes.


@pytest.fixture(scope="module")
def dense() -> Result:
    return sim.run(make("gpt2-small@wikitext2").dense(), "spatten")


def rate(result: Result) -> float:
    assert result.time_s is not None
    return result.scopes["attention"].operations / result.time_s


def test_dense_summarisation_reaches_the_compute_roof() -> None:
    result = sim.run(make("bert-base, 384 tokens, dense"), "spatten")
    assert 0.97 * 2.048e12 < rate(result) <= 2.048e12


def test_generation_is_bound_by_bandwidth(dense: Result) -> None:
    assert dense.time_s is not None
    moved = dense.scopes["attention"].dram_fetched_bytes / dense.time_s
    assert dense.units["fetcher"].busy > 0.95
    assert rate(dense) < 0.3 * 2.048e12
    assert 0.5 * 512e9 < moved < (1 - 350 / 3900) * 512e9


def test_pruning_and_the_baseline_are_ordered_as_published(dense: Result) -> None:
    pruned = sim.run(make("gpt2-small@wikitext2"), "spatten")
    array = sim.run(make("gpt2-small@wikitext2"), "systolic")
    assert sim.compare(pruned, dense).speedup > 1.5
    assert sim.compare(pruned, dense).dram_fetched > 2
    assert sim.compare(pruned, array).speedup > sim.compare(pruned, dense).speedup


def test_the_default_schedule_is_the_released_one() -> None:
    default = read_workload("gpt2-medium", ReadRequest()).only("generate")
    assert default.attention == make("gpt2-medium@wikitext2").attention
