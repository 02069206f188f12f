"""The result: its JSON, its schema, bad files."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import jsonschema
import pytest

from simulator.errors import CorruptFileError, FormatVersionError, InvalidValueError
from simulator.result import (
    EnergyItem,
    InputField,
    LayerResult,
    Result,
    ScopeResult,
    StreamResult,
    UnitResult,
    UnmodelledItem,
    published_schema,
    schema,
)
from simulator.workload import ModelInfo

MODEL = ModelInfo("bert", 2, 4, 4, 8, 32, 64, 100, 12345, "f32")


def make_result(**changes: object) -> Result:
    """A result of the right form; its numbers are arbitrary."""
    scopes = {
        "attention": ScopeResult("design", 2000, 2e-6, 40_000, 90_000, 5_000, 6_400, 1.5e6, 0.4, 0.3),
        "linear": ScopeResult("not modelled", None, None, 55_000, 90_000, 0, 0, None, 0.55, 0.6),
        "other": ScopeResult("not modelled", None, None, 5_000, 9_000, 0, 0, None, 0.05, 0.1),
    }
    layers = tuple(
        LayerResult(i, "attention", 1000, 1e-6, 10.0 - 4 * i, 4.0 - i, 10.0, 20_000, 2_500, 3_200, 7.5e5)
        for i in range(2)
    )
    base = Result(
        design="spatten",
        design_description="a design for tests",
        parameters={"dram": {"channels": 16}, "topk": {"parallelism": 16}},
        workload="small",
        model=MODEL,
        schedule="half",
        seed=0,
        clock_ghz=1.0,
        fidelity="event",
        scopes=scopes,
        layers=layers,
        units={"qk": UnitResult(800, 0.4, 30_000, 3e5), "pv": UnitResult(500, 0.25, 10_000, 1e5)},
        streams={"K high bits": StreamResult(3_000, 4_000, 125, 9, 0.8, 2.0, 0.004, False)},
        energy={
            "dram activate": EnergyItem(5e5, "dram", "a paper", "published"),
            "multipliers": EnergyItem(1e6, "logic", "a table", "assumed"),
        },
        not_modelled=(UnmodelledItem("query", "runs attention only", 2, 55_000, 9_000, 0.55, 0.6),),
        inputs=(
            InputField("tokens", "by schedule half", "assumed", "half"),
            InputField("sizes", 2, "measured", "file"),
        ),
    )
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def test_round_trip(tmp_path: Path) -> None:
    result = make_result()
    assert Result.from_json(result.to_json()) == result
    result.save(tmp_path / "r.json")
    assert Result.load(tmp_path / "r.json") == result
    assert (result.cycles, result.time_s, result.energy_pj) == (2000, 2e-6, 1.5e6)
    assert [field.name for field in result.assumed()] == ["tokens"]


def test_published_schema_is_the_generated_one() -> None:
    assert published_schema() == schema()


def test_json_satisfies_the_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(published_schema())
    validator = jsonschema.Draft202012Validator(published_schema())
    document = json.loads(make_result().to_json())
    assert not list(validator.iter_errors(document))
    for broken in (
        {**document, "seed": "0"},
        {**document, "scopes": {"attention": {}}},
        {**document, "inputs": [{**document["inputs"][0], "kind": "guessed"}]},
        {key: value for key, value in document.items() if key != "design"},
    ):
        assert list(validator.iter_errors(broken))


def test_bad_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    document = json.loads(make_result().to_json())
    bad: list[tuple[dict[str, object], type[Exception]]] = [
        ({**document, "schema_version": "2.0"}, FormatVersionError),
        ({**document, "format": "other"}, CorruptFileError),
        ({**document, "clock_ghz": "1"}, CorruptFileError),
        ({**document, "surprise": 1}, CorruptFileError),
        ({**document, "scopes": {}}, CorruptFileError),
        ({**document, "layers": [[]]}, CorruptFileError),
    ]
    for body, error in bad:
        path.write_text(json.dumps(body))
        with pytest.raises(error, match=r"r\.json"):
            Result.load(path)
    path.write_text(json.dumps({**document, "schema_version": "1.9", "surprise": 1}))
    assert Result.load(path).design == "spatten"
    for text in ("", "[]", make_result().to_json()[:200]):
        with pytest.raises(CorruptFileError):
            Result.from_json(text)


def test_a_number_that_json_cannot_hold_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="nan"):
        make_result(clock_ghz=float("nan")).to_json()
