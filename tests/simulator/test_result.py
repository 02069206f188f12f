"""The result: its JSON, its schema, bad files."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import jsonschema
import pytest
from sample_result import make_result

from simulator.errors import CorruptFileError, FormatVersionError, InvalidValueError
from simulator.result import SCHEMA_VERSION, Result, published_schema, schema


def test_round_trip(tmp_path: Path) -> None:
    result = make_result()
    assert Result.from_json(result.to_json()) == result
    result.save(tmp_path / "r.json")
    assert Result.load(tmp_path / "r.json") == result
    assert (result.cycles, result.time_s, result.energy_pj) == (2000, 2e-6, 1.5e6)
    assert [field.name for field in result.assumed()] == ["tokens"]


def test_published_schema_is_the_generated_one() -> None:
    """If this fails after a change of simulator/result.py: write json.dumps(schema(), indent=1) to the file again."""
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


def test_a_result_of_the_first_minor_version_still_loads() -> None:
    document = json.loads(make_result().to_json())
    document["schema_version"] = "1.0"
    new = {"starved_cycles", "blocked_cycles", "idle_cycles", "bottleneck", "timeline", "area", "technology"}
    new |= {f"read_latency{part}_ns" for part in ("", "_p50", "_p99", "_max")}
    items = [document, *document["units"].values(), *document["streams"].values(), *document["layers"]]
    removed = {name for item in items for name in new if item.pop(name, document) is not document}
    assert removed == new, "these came with version 1.1"
    old = Result.from_json(json.dumps(document))
    assert old.schema_version == "1.0"
    assert old.units["qk"].starved_cycles is old.timeline is old.layers[0].bottleneck is None
    assert dataclasses.replace(old, schema_version=SCHEMA_VERSION) == make_result()


def test_a_number_that_json_cannot_hold_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="nan"):
        make_result(clock_ghz=float("nan")).to_json()
