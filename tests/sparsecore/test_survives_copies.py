"""A sparsified model survives deepcopy, and pickle and state_dict into a process with another instruction set."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from sparse_models import generator, mlp
from torch import Tensor, nn

import sparsecore as sc
from sparsecore.nn import SparseLinear
from sparsecore.patterns import NM, Block, Pattern, Unstructured

CHILD = """
import sys
import torch
import sparsecore as sc
from torch import nn

folder, kind, *patterns = sys.argv[1:]
assert sc.runtime_isa() == "portable"
for index, pattern in enumerate(patterns):
    x = torch.load(f"{folder}/x{index}.pt", weights_only=True)
    if kind == "pickle":
        model = torch.load(f"{folder}/model{index}.pt", weights_only=False)
    else:
        up, down = (sc.nn.SparseLinear(*sizes, pattern=pattern) for sizes in ((64, 128), (128, 64)))
        model = nn.Sequential(up, nn.GELU(), nn.LayerNorm(128), down)
        model.load_state_dict(torch.load(f"{folder}/model{index}.pt", weights_only=True), strict=True)
    out = {
        "y": model(x).detach(),
        "isa": [model[0].packed.isa, model[3].packed.isa],
        "weights": [model[0].weight, model[3].weight],
        "state": dict(model.state_dict()),
    }
    torch.save(out, f"{folder}/out{index}.pt")
"""


def sparsified(seed: int, pattern: Pattern) -> tuple[nn.Module, Tensor]:
    rng = generator(seed)
    model = sc.sparsify(mlp(rng, pattern), min_ratio=0)
    assert isinstance(model[0], SparseLinear)
    assert isinstance(model[3], SparseLinear)
    return model, torch.randn(7, 64, generator=rng)


def test_deepcopy_is_equal_and_apart(seed: int) -> None:
    model, x = sparsified(seed, NM(2, 4))
    twin = copy.deepcopy(model)
    expected = model(x)
    assert torch.equal(twin(x), expected)
    with torch.no_grad():
        twin[0].bias.add_(1)
    twin[0].load_state_dict({"weight": torch.zeros(128, 64), "bias": torch.zeros(128)})
    assert torch.equal(model(x), expected)
    assert not torch.equal(twin(x), expected)
    assert sc.report(twin).to_dict()["total"]["packed"] == 2


def test_deepcopy_and_pickle_keep_a_dense_copy_and_a_leaf(seed: int) -> None:
    model, x = sparsified(seed, NM(2, 4))
    model[0].keep_dense_copy(((2, 100),))
    model[3] = SparseLinear.from_dense(mlp(generator(seed))[3], "2:4", weight_grad=True)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert twin[0].dense_tokens == ((2, 100),)
        assert [twin[i].held_bytes for i in (0, 3)] == [model[i].held_bytes for i in (0, 3)]
        assert torch.equal(twin(x), model(x))
        twin(x).sum().backward()
        assert twin[3].weight.grad is not None


@pytest.mark.parametrize("kind", ["pickle", "state_dict"])
def test_reaches_a_process_with_another_instruction_set(kind: str, seed: int, tmp_path: Path) -> None:
    patterns = (NM(2, 4), NM(1, 8), Block(8, 16), Unstructured())
    models = [sparsified(seed, pattern) for pattern in patterns]
    for index, (model, x) in enumerate(models):
        torch.save(x, tmp_path / f"x{index}.pt")
        torch.save(model if kind == "pickle" else model.state_dict(), tmp_path / f"model{index}.pt")
    environment = {
        **os.environ,
        "SPARSECORE_FORCE_ISA": "portable",
        "PYTHONPATH": os.pathsep.join([str(Path(sc.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]),
    }
    command = [sys.executable, "-c", CHILD, str(tmp_path), kind, *(pattern.name for pattern in patterns)]
    subprocess.run(command, env=environment, check=True, timeout=120)
    for index, (model, x) in enumerate(models):
        out = torch.load(tmp_path / f"out{index}.pt", weights_only=True)
        assert out["isa"] == ["portable", "portable"]
        assert torch.equal(out["weights"][0], model[0].weight)
        assert torch.equal(out["weights"][1], model[3].weight)
        torch.testing.assert_close(out["y"], model(x).detach())
        # And back: the state that the other process wrote is the one that went in.
        state = model.state_dict()
        assert state.keys() == out["state"].keys()
        assert all(torch.equal(state[name], out["state"][name]) for name in state)
