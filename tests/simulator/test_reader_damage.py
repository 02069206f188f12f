"""Random damage to any file that the simulator reads ends in a named error, or in a file that still makes sense."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file
from sample_result import make_result

from simulator.errors import NamedError
from simulator.result import Result
from simulator.workload import ReadRequest, Workload
from simulator.workload.reader import read_workload
from simulator.workload.schedule import load_schedule


def damaged(raw: bytes, draw: random.Random) -> bytes:
    """Change, cut out or repeat a few bytes."""
    data = bytearray(raw)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(data))
        how = draw.randrange(4)
        if how == 0:
            data[at] = draw.randrange(256)
        elif how == 1:
            data[at : at + draw.randint(1, 20)] = b""
        elif how == 2:
            data[at:at] = data[at : at + draw.randint(1, 20)]
        else:
            data[at : at + 1] = draw.choice((b"-1", b"1e400", b"NaN", b"null", b"[]", b"{}", b"99999999999999999999"))
    return bytes(data) or b"\x00"


def refusal(read: Callable[[], object]) -> str:
    """Return what the named error says, "" if there is none; any other error fails the test."""
    try:
        read()
    except NamedError as error:
        return str(error)
    return ""


def small_workload(tmp_path: Path) -> bytes:
    path = tmp_path / "w.json"
    read_workload("bert-base", ReadRequest(seq_len=3)).save(path)
    return path.read_bytes()


def test_workload(tmp_path: Path, seed: int) -> None:
    raw, draw, path = small_workload(tmp_path), random.Random(seed), tmp_path / "bad.json"
    refused = 0
    for _ in range(60):
        path.write_bytes(damaged(raw, draw))
        said = refusal(lambda: Workload.load(path))
        assert not said or "bad.json" in said
        refused += bool(said)
    assert refused > 20


def test_result(tmp_path: Path, seed: int) -> None:
    raw, draw, path = make_result().to_json().encode(), random.Random(seed), tmp_path / "bad.json"
    refused = 0
    for _ in range(200):
        path.write_bytes(damaged(raw, draw))
        said = refusal(lambda: Result.load(path))
        assert not said or "bad.json" in said
        refused += bool(said)
    assert refused > 60


def test_safetensors(tmp_path: Path, seed: int) -> None:
    tensors = {
        f"encoder.layer.0.{name}.weight": np.zeros(shape, np.float16)
        for name, shape in {
            "attention.self.query": (8, 8),
            "attention.self.key": (8, 8),
            "attention.self.value": (8, 8),
            "attention.output.dense": (8, 8),
            "intermediate.dense": (16, 8),
            "output.dense": (8, 16),
        }.items()
    }
    path = tmp_path / "bad.safetensors"
    save_file(tensors, path)
    raw, draw = path.read_bytes(), random.Random(seed)
    header = raw[: 8 + int.from_bytes(raw[:8], "little")]
    for _ in range(200):
        path.write_bytes(damaged(header, draw) + raw[len(header) :])
        said = refusal(lambda: read_workload(str(path), ReadRequest(heads=2, seq_len=3)))
        assert not said or "bad.safetensors" in said


@pytest.mark.parametrize("name", ["spatten-bert", "spatten-gpt2"])
def test_schedule(tmp_path: Path, seed: int, name: str) -> None:
    import simulator.workload

    shipped = Path(simulator.workload.__file__).parent / "builtin" / "schedules" / f"{name}.yaml"
    raw, draw, path = shipped.read_bytes(), random.Random(seed), tmp_path / "bad.yaml"
    for _ in range(60):
        path.write_bytes(damaged(raw, draw))
        said = refusal(lambda: load_schedule(path))
        assert not said or "bad.yaml" in said
        if not said:
            assert all(0 < layer.token_keep <= 1 for layer in load_schedule(path).plan(5))


def test_the_schedule_of_the_documentation_loads(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "workload.md").read_text().split("```yaml\n")[1].split("```")[0]
    assert "token_keep" in yaml.safe_load(text)
    (tmp_path / "half.yaml").write_text(text)
    assert load_schedule(tmp_path / "half.yaml").plan(2)[1].token_keep == 0.5
