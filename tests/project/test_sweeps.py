"""The sweeps of examples/sweeps.py: what each step of the ladder takes away, and that the script runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "sweeps.py"


@pytest.fixture(scope="module")
def sweeps() -> ModuleType:
    sys.path.insert(0, str(SCRIPT.parent))
    try:
        import sweeps
    finally:
        sys.path.pop(0)
    return sweeps


@pytest.mark.parametrize("name", ["gpt2-medium@wikitext2", "gpt2-small@wikitext2"])
def test_each_step_of_the_ladder_adds_one_technique(sweeps: ModuleType, name: str) -> None:
    steps = {label: (workload, settings) for label, workload, settings in sweeps.ladder(name)}
    released, dense = sweeps.attention(name), sweeps.attention(f"{name.partition('@')[0]}@dense")
    assert steps["dedicated datapath"][0].attention == dense.attention
    assert steps["quantisation"][0].attention == released.attention
    keys = [op.keys for op in released.attention]
    assert [op.keys for op in steps["token pruning"][0].attention] == keys
    assert [op.local_values for op in steps["token pruning"][0].attention] == keys
    local = [op.local_values for op in released.attention]
    assert [op.local_values for op in steps["local V pruning"][0].attention] == local
    assert {len(op.heads) for op in steps["local V pruning"][0].attention} == {released.model.heads}
    heads = [op.heads for op in released.attention]
    assert [op.heads for op in steps["head pruning"][0].attention] == heads
    assert steps["parallel top-k"][0].attention == steps["head pruning"][0].attention
    assert [settings for _, settings in steps.values()] == [{"topk.parallelism": 1}] * 4 + [{}] * 2
    assert all(op.value_bits == 32 for op in steps["parallel top-k"][0].attention)


def test_the_script_prints_a_sweep() -> None:
    command = [sys.executable, str(SCRIPT), "sram", "gpt2-small@wikitext2"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    at_design_point = next(line for line in done.stdout.splitlines() if line.startswith("196608 "))
    assert at_design_point.split()[2] == "1.000"
