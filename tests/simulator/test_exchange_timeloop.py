"""Timeloop problems against the grammar of its version 0.4."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import jsonschema
import yaml
from command import Simulate
from exported_models import operations_in, operations_of, small_workload

from simulator.exchange.model import export_model

NAME = {"type": "string", "pattern": "^[A-Za-z_]+$"}
SIZE = {"type": "integer", "minimum": 1}
SPACE = {
    "type": "object",
    "required": ["name", "projection"],
    "additionalProperties": False,
    "properties": {
        "name": NAME,
        "read_write": {"type": "boolean"},
        # An axis of the tensor is a sum of terms, each a dimension alone or times a coefficient.
        "projection": {"type": "array", "items": {"type": "array", "items": {"type": "array", "items": NAME}}},
    },
}
DENSITY = {
    "type": "object",
    "required": ["distribution", "density"],
    "additionalProperties": False,
    "properties": {
        "distribution": {"enum": ["fixed_structured", "hypergeometric"]},
        "density": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
    },
}
SCHEMA = {
    "type": "object",
    "required": ["problem"],
    "additionalProperties": False,
    "properties": {
        "problem": {
            "type": "object",
            "required": ["version", "shape", "instance"],
            "additionalProperties": False,
            "properties": {
                "version": {"const": 0.4},
                "shape": {
                    "type": "object",
                    "required": ["name", "dimensions", "data_spaces"],
                    "additionalProperties": False,
                    "properties": {
                        "name": NAME,
                        "dimensions": {"type": "array", "items": NAME, "uniqueItems": True},
                        "data_spaces": {"type": "array", "items": SPACE, "minItems": 1},
                    },
                },
                "instance": {
                    "type": "object",
                    "properties": {"densities": {"type": "object", "additionalProperties": DENSITY}},
                    "additionalProperties": SIZE,
                },
            },
        }
    },
}


def problem_of(path: Path) -> dict[str, Any]:
    document = yaml.safe_load(path.read_text())
    jsonschema.validate(document, SCHEMA)
    problem: dict[str, Any] = document["problem"]
    shape, instance = problem["shape"], problem["instance"]
    assert set(instance) - {"densities"} == set(shape["dimensions"])
    assert set(instance.get("densities", {})) <= {space["name"] for space in shape["data_spaces"]}
    terms = {name for space in shape["data_spaces"] for axis in space["projection"] for term in axis for name in term}
    assert terms == set(shape["dimensions"])
    assert [space["name"] for space in shape["data_spaces"] if space.get("read_write")] == ["Outputs"]
    return problem


def test_a_problem_for_every_layer(seed: int, tmp_path: Path) -> None:
    workload = small_workload(seed)
    done = export_model(workload, "timeloop", tmp_path / "out")
    assert done.count == len(list((tmp_path / "out" / "problems").iterdir()))
    with (tmp_path / "out" / "layers.csv").open(newline="") as file:
        layers = {row["layer"]: row for row in csv.DictReader(file)}
    for op in workload.linear:
        if not op.tokens:
            continue
        name = f"layer{op.layer}.{op.name}" if op.layer is not None else f"{op.name}.step{op.step}"
        problem = problem_of(tmp_path / "out" / layers[name]["place"])
        sizes = {"M": op.tokens, "N": op.out_features, "K": op.in_features}
        assert {key: problem["instance"][key] for key in "MNK"} == sizes
        kind = "fixed_structured" if op.pattern == "2:4" else "hypergeometric"
        weights = {"distribution": kind, "density": op.density}
        expected = {"Weights": weights} if op.density < 1 else None
        assert problem["instance"].get("densities") == expected
    assert operations_of(tmp_path / "out") == operations_in(workload)


def test_the_tensors_are_those_of_a_product(seed: int, tmp_path: Path) -> None:
    """Inputs [M, K], weights [K, N], outputs [M, N]: sizes by the projections."""
    export_model(small_workload(seed), "timeloop", tmp_path / "out")
    for path in (tmp_path / "out" / "problems").iterdir():
        problem = problem_of(path)
        sizes = problem["instance"]
        shapes = {
            space["name"]: [sum(sizes[name] for term in axis for name in term) for axis in space["projection"]]
            for space in problem["shape"]["data_spaces"]
        }
        m, n, k = sizes["M"], sizes["N"], sizes["K"]
        assert shapes == {"Inputs": [m, k], "Weights": [k, n], "Outputs": [m, n]}


def test_command(seed: int, tmp_path: Path, simulate: Simulate) -> None:
    path = tmp_path / "small.json"
    small_workload(seed).save(path)
    code, out, err = simulate("export", path, "--to", "timeloop", "-o", tmp_path / "out")
    assert (code, err) == (0, "")
    assert "no distribution of blocks" in out
    assert "timeloop-mapper" in (tmp_path / "out" / "README.md").read_text()
